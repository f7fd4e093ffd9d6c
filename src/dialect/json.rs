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

/// Shows every member of a JSON object to `look`, name and value as raw text, in the order in which they stand;
/// `None` for anything but one well-formed object.
pub(super) fn each_member<'a>(json: &'a str, look: impl FnMut(&'a str, &'a str)) -> Option<()> {
    serde_json::Deserializer::from_str(json).deserialize_map(Each(look)).ok()
}

struct Each<F>(F);

impl<'de, F: FnMut(&'de str, &'de str)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<&RawValue>()? {
            (self.0)(name.get(), map.next_value::<&RawValue>()?.get());
        }
        Ok(())
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

/// What ECMAScript reads a JSON number as, infinite where it is too large; `None` for any other value.
pub(super) fn number(raw: &str) -> Option<f64> {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| raw.parse().ok())?
}

/// A JSON number without a fractional part: `3`, `3.0`, `3e0` and `1e20` all are; `None` for anything else.
pub(super) fn integer(raw: &str) -> Option<f64> {
    number(raw).filter(|number| number.is_finite() && number.fract() == 0.0)
}

/// The text of an integer of at least zero, as ECMAScript writes it.
pub(super) fn integer_text(integer: f64) -> String {
    if integer < 1e21 { format!("{}", integer.abs()) } else { format!("{integer:e}").replace('e', "e+") }
}

/// The bytes of a JSON string, in WTF-8 where there are lone surrogates (see [`crate::dialect::text`]); `None` for any
/// other value.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_ecmascript() {
        for (raw, value) in [
            ("3", Some(3.0)),
            ("3.0", Some(3.0)),
            ("3e0", Some(3.0)),
            ("30E-1", Some(3.0)),
            ("1e20", Some(1e20)),
            ("-0", Some(0.0)),
            ("-7", Some(-7.0)),
            // Too small for a fraction to be left of it.
            ("9007199254740993.5", Some(9_007_199_254_740_994.0)),
            ("3.5", None),
            ("1e400", None),
            ("-1e400", None),
            (r#""3""#, None),
            ("true", None),
            ("null", None),
            ("[3]", None),
        ] {
            assert_eq!(integer(raw), value, "{raw}");
        }
        assert_eq!(number("1e400"), Some(f64::INFINITY));
        assert_eq!(number("-2.5"), Some(-2.5));
        assert_eq!(number("null"), None);
    }

    #[test]
    fn integers_are_written_as_ecmascript_writes_them() {
        for (raw, text) in [
            ("0", "0"),
            ("-0", "0"),
            ("3.0", "3"),
            ("9007199254740993", "9007199254740992"),
            ("1e20", "100000000000000000000"),
            ("123456789012345678901", "123456789012345680000"),
            ("1e21", "1e+21"),
            ("1.5e300", "1.5e+300"),
        ] {
            assert_eq!(integer_text(integer(raw).expect("an integer")), text);
        }
    }

    #[test]
    fn members_are_shown_in_order_with_their_raw_text() {
        let mut seen = Vec::new();
        let json = r#" { "a" : 1 , "\u0062":"x\n", "a":{"c":[]} } "#;
        assert_eq!(each_member(json, |name, value| seen.push((name, value))), Some(()));
        assert_eq!(seen, [(r#""a""#, "1"), (r#""\u0062""#, r#""x\n""#), (r#""a""#, r#"{"c":[]}"#)]);
        assert_eq!(each_member("[1]", |_, _| {}), None);
    }
}
