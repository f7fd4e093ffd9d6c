//! Which keys may register.
//!
//! Holds public keys as base64url text. An empty list is open mode: everyone may. Never reads a file: whoever
//! configures gives it the text.

use std::collections::HashSet;

/// A list of keys, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    keys: HashSet<Box<str>>,
}

impl AllowList {
    /// The union of all keys in `texts`: separated by commas or white space; entries that start with `#` are
    /// dropped.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> AllowList {
        let entries = texts.into_iter().flat_map(|text| text.split(|c: char| c == ',' || c.is_whitespace()));
        let keys = entries.filter(|entry| !entry.is_empty() && !entry.starts_with('#')).map(Box::from);
        AllowList { keys: keys.collect() }
    }

    /// Whether a verified key (base64url, unpadded) may register.
    pub fn allows(&self, public_key: &str) -> bool {
        self.keys.is_empty() || self.keys.contains(public_key)
    }

    /// How many keys are listed; none means that everyone may register.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether this is open mode.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_separated_by_commas_or_white_space_and_hashed_ones_dropped() {
        let list = AllowList::parse(["a,b  c\n#d\t,,\r\ne#f", "g\n# h", ""]);
        let keys = ["a", "b", "c", "e#f", "g", "h"];
        assert!(keys.iter().all(|key| list.allows(key)));
        assert_eq!((list.len(), list.is_empty()), (keys.len(), false));
        assert!(!list.allows("d") && !list.allows("#d") && !list.allows("#") && !list.allows(""));
    }

    #[test]
    fn an_empty_list_is_open_mode_and_no_other_is() {
        for texts in [vec![], vec![""], vec![" ,\n", "#only #comments"]] {
            let list = AllowList::parse(texts);
            assert!(list.is_empty() && list.allows("anyone"));
        }
        assert!(!AllowList::parse(["someone"]).allows("anyone"));
    }
}
