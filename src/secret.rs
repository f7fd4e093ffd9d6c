//! A text that is nobody's business: keys, passphrases, tokens.
//!
//! Promises that it does not show itself in logs, messages or debug output; only [`Secret::reveal`] gives it away.

use std::fmt;

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// What stands in its place.
    pub const HIDDEN: &'static str = "(hidden)";

    /// Takes a text that must not be seen.
    pub fn new(text: &str) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Secret::HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_show_itself() {
        let secret = Secret::new("abracadabra");
        assert_eq!((format!("{secret:?}"), secret.reveal()), (Secret::HIDDEN.to_owned(), "abracadabra"));
    }
}
