//! The control messages of the link dialect: text in, values out, and back.
//!
//! Reads what `JSON.parse` of the reference reads: unknown members are skipped, the last of several members of one
//! name counts, nesting may be as deep as a message is long, and an escaped lone surrogate is a character like any other.
//! Promises that no input panics. Judges shape only: whether a message is allowed, and in which order a
//! fault counts, is for the registry and the roles.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::id::LinkId;
use crate::admission::register::{self, Proof};

/// The longest `address` or `linkId`, in UTF-16 units (link.md section 1).
const NAME_UNITS_MAX: usize = 128;
/// The longest `nonce`, in UTF-16 units (link.md section 4).
const NONCE_UNITS_MAX: usize = 88;

/// The bytes of an `address` or a `linkId` as the peer sent it: 1 to 128 characters. UTF-8 but for lone surrogates,
/// which are written like other code points.
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

/// The raw text of each of `names` among the members of a JSON object, the last one where several have the name;
/// `None` for anything but one well-formed object.
fn members<'a, const N: usize>(json: &'a str, names: [&str; N]) -> Option<[Option<&'a str>; N]> {
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

/// The bytes of a JSON string; `None` for any other value.
fn string(raw: &str) -> Option<Cow<'_, [u8]>> {
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

fn name(raw: &str) -> Option<Name<'_>> {
    string(raw).filter(|name| (1..=NAME_UNITS_MAX).contains(&utf16_units(name)))
}

/// What `length` of the string is in the reference: one unit a character, two for those beyond the basic plane.
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
