//! Members of a JSON object, read as `JSON.parse` of the references reads them, without building anything.
//!
//! Unknown members are skipped, the last of several members of one name counts, nesting may be as deep as a message is
//! long, and an escaped lone surrogate is a character like any other. Promises that no input panics, recurses or
//! costs more than linear time, and that raw values are the peer's own bytes.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The raw text of each of `names` among the members of a JSON object, the last one where several have the
/// name; `None` for anything but one well-formed object.
pub(super) fn members<'a, const N: usize>(json: &'a str, names: [&str; N]) -> Option<[Option<&'a str>; N]> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = reader.deserialize_map(Members { names }).ok()?;
    reader.end().ok()?;
    Some(found)
}

struct Members<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de str>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        // Names and values are taken raw: that checks their syntax without recursing, and without judging the
        // surrogates of members that nobody asked for.
        while let Some(name) = map.next_key::<&RawValue>()? {
            let value = map.next_value::<&RawValue>()?;
            let name = string(name.get());
            if let Some(wanted) =
                self.names.iter().position(|wanted| Some(wanted.as_bytes()) == name.as_deref())
            {
                found[wanted] = Some(value.get());
            }
        }
        Ok(found)
    }
}

/// Whether every member of a JSON object has a value whose raw text `is_fine`; `false` for anything but one
/// well-formed object.
pub(super) fn all_members(json: &str, is_fine: impl Fn(&str) -> bool) -> bool {
    serde_json::Deserializer::from_str(json).deserialize_map(All(is_fine)).unwrap_or(false)
}

struct All<F>(F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for All<F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut all = true;
        while map.next_key::<&RawValue>()?.is_some() {
            all &= (self.0)(map.next_value::<&RawValue>()?.get());
        }
        Ok(all)
    }
}

/// The bytes of a JSON string; `None` for any other value.
pub(super) fn string(raw: &str) -> Option<Cow<'_, [u8]>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner.as_bytes()));
    }
    serde_json::Deserializer::from_str(raw).deserialize_bytes(Unescaped).ok().map(Cow::Owned)
}

struct Unescaped;

impl Visitor<'_> for Unescaped {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}
