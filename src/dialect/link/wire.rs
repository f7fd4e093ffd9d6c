//! The control messages of the link dialect: text in, values out, and back.
//!
//! Reads what `JSON.parse` of the reference reads (see [`crate::dialect::json`]). Judges shape only: whether a
//! message is allowed, and in which order a fault counts, is for the registry and the roles.

use std::{borrow::Cow, fmt};

use super::id::LinkId;
use crate::{
    admission::register::{self, Proof},
    dialect::json::{members, string},
};

/// The longest `address` or `linkId`, in UTF-16 units (link.md section 1).
const NAME_UNITS_MAX: usize = 128;
/// The longest `nonce`, in UTF-16 units (link.md section 4).
const NONCE_UNITS_MAX: usize = 88;

/// The bytes of an `address` or a `linkId` as the peer sent it: 1 to 128 characters. UTF-8 but for lone
/// surrogates, which are written like other code points.
pub(super) type Name<'a> = Cow<'a, [u8]>;

/// A control message. A name that is missing or misshapen is `None`: roles and budgets are judged first.
#[derive(Debug, PartialEq)]
pub(super) enum Request<'a> {
    Register { address: Option<Name<'a>>, auth: Option<&'a str> },
    Resolve { address: Option<Name<'a>> },
    Relay { link: Option<Name<'a>> },
    Accept { link: Option<Name<'a>> },
    GetUsage,
}

/// Reads a control message; `None` for what is not JSON, not an object, or of an unknown type.
pub(super) fn parse(text: &str) -> Option<Request<'_>> {
    let [kind, address, link, auth] = members(text, ["type", "address", "linkId", "auth"])?;
    match &*string(kind?)? {
        b"register" => Some(Request::Register { address: address.and_then(name), auth }),
        b"resolve" => Some(Request::Resolve { address: address.and_then(name) }),
        b"relay" => Some(Request::Relay { link: link.and_then(name) }),
        b"accept" => Some(Request::Accept { link: link.and_then(name) }),
        b"getUsage" => Some(Request::GetUsage),
        _ => None,
    }
}

/// Reads a register's `auth` member; `None` where its shape alone refuses it (link.md section 4).
pub(super) fn parse_auth(json: &str) -> Option<Proof> {
    let [algorithm, public_key, timestamp, nonce, signature] =
        members(json, ["alg", "pub", "ts", "nonce", "sig"])?;
    if *string(algorithm?)? != *b"ed25519" {
        return None;
    }
    let nonce = string(nonce?)?;
    if !(1..=NONCE_UNITS_MAX).contains(&utf16_units(&nonce)) {
        return None;
    }
    Some(Proof {
        public_key: register::decode(&string(public_key?)?)?,
        timestamp: integer(timestamp?)?,
        // A lone surrogate has no UTF-8 bytes that could be signed.
        nonce: String::from_utf8(nonce.into_owned()).ok()?,
        signature: register::decode(&string(signature?)?)?,
    })
}

fn name(raw: &str) -> Option<Name<'_>> {
    string(raw).filter(|name| (1..=NAME_UNITS_MAX).contains(&utf16_units(name)))
}

/// What `length` of the string is in the reference: one unit a character, two for those beyond the basic
/// plane.
fn utf16_units(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0)).sum()
}

/// A number that `Number.isInteger` accepts, however it is spelled; large ones as near as `i64` goes.
fn integer(raw: &str) -> Option<i64> {
    if !raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let number: f64 = raw.parse().ok()?;
    (number.is_finite() && number.fract() == 0.0).then_some(number as i64)
}

/// One entry of a `usage` message.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct UsageEntry {
    pub(super) link: LinkId,
    /// The used share of the quota and whether it is throttled; `None` without a quota.
    pub(super) quota: Option<(f64, bool)>,
}

/// What the relay says. Rendered without escaping: every value is an id, a base64url address or a constant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Answer<'a> {
    Registered { address: &'a str },
    Found { link: LinkId },
    Arrived { link: LinkId, address: &'a str },
    Relay { link: LinkId },
    Relaying { link: LinkId },
    Usage { connections: &'a [UsageEntry] },
    Error { error: &'static str },
}

pub(super) const UNKNOWN_ADDRESS: Answer<'static> = Answer::Error { error: "unknown_address" };
pub(super) const UNKNOWN_LINK: Answer<'static> = Answer::Error { error: "unknown_link" };
pub(super) const ADDRESS_PINNED: Answer<'static> = Answer::Error { error: "address_pinned" };
pub(super) const REGISTER_STALE: Answer<'static> = Answer::Error { error: "register_stale" };

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Registered { address } => write!(f, r#"{{"type":"registered","address":"{address}"}}"#),
            Answer::Found { link } => write!(f, r#"{{"type":"found","linkId":"{link}"}}"#),
            Answer::Arrived { link, address } => {
                write!(f, r#"{{"type":"arrived","linkId":"{link}","address":"{address}"}}"#)
            }
            Answer::Relay { link } => write!(f, r#"{{"type":"relay","linkId":"{link}"}}"#),
            Answer::Relaying { link } => write!(f, r#"{{"type":"relaying","linkId":"{link}"}}"#),
            Answer::Usage { connections } => {
                f.write_str(r#"{"type":"usage","connections":["#)?;
                for (position, entry) in connections.iter().enumerate() {
                    let comma = if position > 0 { "," } else { "" };
                    write!(f, "{comma}{entry}")?;
                }
                f.write_str("]}")
            }
            Answer::Error { error } => write!(f, r#"{{"type":"error","error":"{error}"}}"#),
        }
    }
}

impl fmt::Display for UsageEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = self.link;
        match self.quota {
            Some((used, throttled)) => {
                write!(f, r#"{{"linkId":"{link}","used":{used},"throttled":{throttled}}}"#)
            }
            None => write!(f, r#"{{"linkId":"{link}","unlimited":true}}"#),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

    use super::*;

    fn resolve(address: &[u8]) -> Option<Request<'_>> {
        Some(Request::Resolve { address: Some(Cow::Borrowed(address)) })
    }

    #[test]
    fn messages_are_read_as_json_parse_reads_them() {
        for text in [
            r#"{"type":"resolve","address":"a"}"#,
            " \t\r\n{ \"address\" : \"a\" , \"type\" : \"resolve\" } ",
            // The last of several members of one name counts.
            r#"{"type":"accept","address":7,"type":"resolve","address":"a"}"#,
            // Names and values may be escaped.
            r#"{"ty\u0070e":"\u0072esolve","address":"\u0061"}"#,
            // Members that nobody asked for may hold anything that is JSON, lone surrogates and huge numbers
            // too.
            r#"{"\ud800":"\udfff","x":1e999,"y":[{"type":"accept"}],"type":"resolve","address":"a"}"#,
        ] {
            assert_eq!(parse(text), resolve(b"a"), "{text}");
        }
    }

    #[test]
    fn what_json_parse_refuses_is_refused() {
        for text in [
            "\u{feff}{\"type\":\"getUsage\"}",
            r#"{"type":"getUsage"} x"#,
            r#"{"type":"getUsage",}"#,
            r#"{"type":"getUsage","x":01}"#,
            r#"{"type":"getUsage","x":.5}"#,
            r#"{"type":"getUsage","x":NaN}"#,
            r#"{"type":"getUsage","x":"\x"}"#,
            r#"{"type":"getUsage","x":"\u12"}"#,
            "{\"type\":\"getUsage\",\"x\":\"\n\"}",
            "{\"type\":\"getUsage\"}\u{a0}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_truncation_of_a_message_is_refused() {
        let text = r#"{"type":"resolve","address":"a\u0062","x":[1,{"y":null}]}"#;
        assert_eq!(parse(text), Some(Request::Resolve { address: Some(Cow::Owned(b"ab".to_vec())) }));
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), None, "{}", &text[..end]);
        }
    }

    #[test]
    fn deep_nesting_is_read_like_anything_else() {
        let deep = |open: &str, close: &str| {
            let (open, close) = (open.repeat(1000), close.repeat(1000));
            format!(r#"{{"x":{open}1{close},"type":"getUsage","auth":{open}1{close}}}"#)
        };
        for text in [deep("[", "]"), deep(r#"{"a":"#, "}")] {
            assert_eq!(parse(&text), Some(Request::GetUsage));
        }
        assert_eq!(parse(&"[".repeat(4096)), None);
        assert_eq!(parse(&r#"{"type":"#.repeat(500)), None);
        assert_eq!(parse_auth(&"[".repeat(4096)), None);
    }

    #[test]
    fn a_lone_surrogate_is_one_character_of_a_name_nobody_has() {
        let name = r"\ud800".repeat(128);
        let text = format!(r#"{{"type":"resolve","address":"{name}"}}"#);
        let Some(Request::Resolve { address: Some(address) }) = parse(&text) else { panic!("{text}") };
        assert!(std::str::from_utf8(&address).is_err());
        let text = format!(r#"{{"type":"resolve","address":"{name}x"}}"#);
        assert_eq!(parse(&text), Some(Request::Resolve { address: None }));
    }

    #[test]
    fn lengths_are_counted_in_utf_16_units() {
        for text in ["", "abc", "\u{e9}", "\u{20ac}\u{20ac}", "\u{1f600}a\u{10ffff}"] {
            assert_eq!(utf16_units(text.as_bytes()), text.encode_utf16().count(), "{text}");
        }
    }

    #[test]
    fn integers_are_those_of_javascript() {
        for (raw, value) in [
            ("0", Some(0)),
            ("-5", Some(-5)),
            ("5.0", Some(5)),
            ("1e3", Some(1000)),
            ("17E-1", None),
            ("1700000000000", Some(1_700_000_000_000)),
            ("0.5", None),
            ("1e400", None),
            ("\"5\"", None),
            ("null", None),
            ("true", None),
            ("[5]", None),
        ] {
            assert_eq!(integer(raw), value, "{raw}");
        }
    }

    #[test]
    fn answers_are_the_contracts_to_the_byte() {
        let link = LinkId::make(&mut ChaCha12Rng::seed_from_u64(1), 0, 0);
        let id = link.to_string();
        let entry = |quota| UsageEntry { link, quota };
        for (answer, text) in [
            (Answer::Registered { address: "A" }, r#"{"type":"registered","address":"A"}"#.to_owned()),
            (Answer::Found { link }, format!(r#"{{"type":"found","linkId":"{id}"}}"#)),
            (
                Answer::Arrived { link, address: "A" },
                format!(r#"{{"type":"arrived","linkId":"{id}","address":"A"}}"#),
            ),
            (Answer::Relay { link }, format!(r#"{{"type":"relay","linkId":"{id}"}}"#)),
            (Answer::Relaying { link }, format!(r#"{{"type":"relaying","linkId":"{id}"}}"#)),
            (Answer::Usage { connections: &[] }, r#"{"type":"usage","connections":[]}"#.to_owned()),
            (
                Answer::Usage { connections: &[entry(None), entry(Some((0.1234, true)))] },
                format!(
                    r#"{{"type":"usage","connections":[{{"linkId":"{id}","unlimited":true}},{}]}}"#,
                    format_args!(r#"{{"linkId":"{id}","used":0.1234,"throttled":true}}"#)
                ),
            ),
            (UNKNOWN_ADDRESS, r#"{"type":"error","error":"unknown_address"}"#.to_owned()),
            (UNKNOWN_LINK, r#"{"type":"error","error":"unknown_link"}"#.to_owned()),
            (ADDRESS_PINNED, r#"{"type":"error","error":"address_pinned"}"#.to_owned()),
            (REGISTER_STALE, r#"{"type":"error","error":"register_stale"}"#.to_owned()),
        ] {
            assert_eq!(answer.to_string(), text);
        }
    }
}
