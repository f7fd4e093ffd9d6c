//! Strings as ECMAScript sees them.
//!
//! A string that came as JSON may hold lone surrogates, which UTF-8 cannot write; here it is WTF-8, as
//! [`crate::dialect::json::string`] yields it: UTF-8 in which a lone surrogate is three bytes like any other
//! character of its size. Two such strings are equal exactly when their bytes are.

use std::borrow::Cow;

/// The text without the white space of ECMAScript at both ends: Unicode's spaces and U+FEFF, but not U+0085.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    loop {
        let space = match text {
            [.., b'\t'..=b'\r' | b' '] => 1,
            [.., 0xc2, 0xa0] => 2,
            [.., a, b, c] if is_wide_space([*a, *b, *c]) => 3,
            _ => return text,
        };
        text = &text[..text.len() - space];
    }
}

/// The text without the white space at its start.
pub(super) fn trim_start(mut text: &[u8]) -> &[u8] {
    loop {
        let space = match text {
            [b'\t'..=b'\r' | b' ', ..] => 1,
            [0xc2, 0xa0, ..] => 2,
            [a, b, c, ..] if is_wide_space([*a, *b, *c]) => 3,
            _ => return text,
        };
        text = &text[space..];
    }
}

/// [`trim`] of what is UTF-8.
pub(super) fn trim_str(text: &str) -> &str {
    std::str::from_utf8(trim(text.as_bytes())).expect("whole characters were taken off")
}

/// White space of three bytes: U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F, U+3000, U+FEFF.
fn is_wide_space(bytes: [u8; 3]) -> bool {
    matches!(
        bytes,
        [0xe1, 0x9a, 0x80]
            | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf]
            | [0xe2, 0x81, 0x9f]
            | [0xe3, 0x80, 0x80]
            | [0xef, 0xbb, 0xbf]
    )
}

/// The length in UTF-16 code units.
pub(super) fn utf16_len(text: &[u8]) -> usize {
    let units = |byte: &u8| match byte {
        0x80..=0xbf => 0,
        0xf0.. => 2,
        _ => 1,
    };
    text.iter().map(units).sum()
}

/// The text as a JSON string, as `JSON.stringify` writes it: a lone surrogate is escaped.
pub(super) fn quote(text: &[u8]) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => {
                let escaped = serde_json::to_string(text).expect("a string is JSON");
                quoted.push_str(&escaped[1..escaped.len() - 1]);
            }
            Piece::Surrogate(unit) => quoted.push_str(&format!("\\u{unit:04x}")),
        }
    }
    quoted.push('"');
    quoted
}

/// The text with U+FFFD for each lone surrogate.
pub(super) fn well_formed(text: Cow<'_, [u8]>) -> String {
    let text = match String::from_utf8(text.into_owned()) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let replaced = |piece| match piece {
        Piece::Text(text) => text,
        Piece::Surrogate(_) => "\u{fffd}",
    };
    pieces(&text).map(replaced).collect()
}

enum Piece<'a> {
    Text(&'a str),
    Surrogate(u16),
}

/// The text, split at its lone surrogates.
fn pieces(mut text: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        if let [0xed, b @ 0xa0..=0xbf, c, rest @ ..] = text {
            text = rest;
            return Some(Piece::Surrogate(0xd000 | u16::from(*b & 0x3f) << 6 | u16::from(*c & 0x3f)));
        }
        let valid = match std::str::from_utf8(text) {
            Ok(valid) => valid,
            Err(error) => {
                let (valid, _) = text.split_at(error.valid_up_to());
                std::str::from_utf8(valid).expect("it is valid up to there")
            }
        };
        text = &text[valid.len()..];
        // What is no WTF-8 never gets here; were it to, the rest of it would be left out.
        (!valid.is_empty()).then_some(Piece::Text(valid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json::string;

    fn read(raw: &str) -> Vec<u8> {
        string(raw).expect("a JSON string").into_owned()
    }

    #[test]
    fn trimming_takes_off_what_ecmascript_calls_white_space() {
        let spaces =
            "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}"
                .to_owned()
                + "\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
        for inner in ["", "x", "a b", "\u{85}", "\u{200b}x\u{180e}", "é\u{2010}"] {
            assert_eq!(trim_str(&format!("{spaces}{inner}{spaces}")), inner);
        }
        for space in spaces.chars() {
            assert_eq!(trim_str(&format!("{space}x{space}")), "x", "{space:?}");
        }
        let surrogates = read(r#"" \ud800 \udfff\t""#);
        assert_eq!(trim(&surrogates), read(r#""\ud800 \udfff""#));
    }

    #[test]
    fn lengths_count_utf16_units() {
        assert_eq!(utf16_len("aé€😀".as_bytes()), 5);
        assert_eq!(utf16_len(&read(r#""\ud800x\ud83d\ude00""#)), 4);
    }

    #[test]
    fn strings_are_quoted_as_json_stringify_quotes_them() {
        for (raw, want) in [
            (r#""""#, r#""""#),
            (r#""plain\u0041\/""#, r#""plainA/""#),
            (r#""\u0008\u000c\n\r\t\u001f\u007f\"\\""#, "\"\\b\\f\\n\\r\\t\\u001f\u{7f}\\\"\\\\\""),
            (r#""\ud83d\ude00\u2028""#, "\"😀\u{2028}\""),
            (r#""a\ud800b\uDFFF\ud800\ud83d\ude00""#, "\"a\\ud800b\\udfff\\ud800😀\""),
        ] {
            assert_eq!(quote(&read(raw)), want);
        }
    }

    #[test]
    fn lone_surrogates_are_replaced_one_by_one() {
        assert_eq!(well_formed(read(r#""a\ud800\ud801é\ud83d\ude00""#).into()), "a\u{fffd}\u{fffd}é😀");
    }
}
