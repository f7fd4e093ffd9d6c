//! The messages of the pair dialect: JSON in, values out, and back.
//!
//! Reads what `JSON.parse` of the reference reads (see [`crate::dialect::json`]). Strings that are only
//! passed on stay as the peer wrote them, escapes included; nothing builds a document. Binary messages are
//! the same JSON; where the reference would replace bytes that are not UTF-8, they are not JSON here.
//! Judges shape only.

use std::{fmt, ops::Range};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::value::RawValue;

use super::{
    id::SessionId,
    sessions::{Card, Role},
};
use crate::{
    dialect::json::{all_members, members, string},
    reason::Reason,
};

/// What introduces a device, in bytes of JSON over all its fields. A real one has a few hundred; they are kept for as
/// long as their session is.
const CARD_BYTES_MAX: usize = 8 * 1024;

/// A message of a client. A session id is `None` where it is no id of ours.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    /// `pair-source`; with `resume` for a session that is to be taken back.
    Source { resume: Option<Option<SessionId>>, card: Card },
    /// `pair-target`.
    Target { session: Option<SessionId>, card: Card },
    /// `relay`; `payload` is where its raw JSON lies in the message.
    Relay { session: Option<SessionId>, payload: Range<usize> },
    /// `ping`.
    Ping,
}

/// Reads a message.
pub(super) fn parse(bytes: &[u8]) -> Result<Request, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::MalformedJson)?;
    let names = ["type", "sessionId", "payload", "deviceId", "deviceName", "capability", "ephemeralPubKey"];
    let Some([kind, session, payload, card @ ..]) = members(text, names) else {
        return Err(if is_json(text) { Error::MalformedMessage } else { Error::MalformedJson });
    };
    let kind = kind.and_then(string).ok_or(Error::MalformedMessage)?;
    let session_id = |raw| string(raw).map(|text| SessionId::parse(&text)).ok_or(Error::MalformedMessage);
    match &*kind {
        b"relay" => {
            let payload = payload.filter(|raw| raw.starts_with('"')).ok_or(Error::MalformedMessage)?;
            // What is not even a string is no id of any session: the reference only compares.
            let session = session.and_then(string).and_then(|text| SessionId::parse(&text));
            Ok(Request::Relay { session, payload: position(text, payload) })
        }
        b"pair-source" => {
            Ok(Request::Source { resume: session.map(session_id).transpose()?, card: read_card(card)? })
        }
        b"pair-target" => Ok(Request::Target {
            session: session_id(session.ok_or(Error::MalformedMessage)?)?,
            card: read_card(card)?,
        }),
        b"ping" => Ok(Request::Ping),
        _ => Err(Error::UnknownMessageType),
    }
}

/// Whether a text is JSON, of any kind.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Where `part`, which was cut out of `whole`, lies in it.
fn position(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// The fields that introduce a device, each of its type and together not too long.
fn read_card(fields: [Option<&str>; 4]) -> Result<Card, Error> {
    let [Some(device_id), Some(device_name), Some(capability), Some(key)] = fields else {
        return Err(Error::MalformedMessage);
    };
    let strings = [device_id, device_name, key].iter().all(|raw| raw.starts_with('"'));
    let is_number = |raw: &str| raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let numbers = capability.starts_with('{') && all_members(capability, is_number);
    let bytes = device_id.len() + device_name.len() + capability.len() + key.len();
    if !strings || !numbers || bytes > CARD_BYTES_MAX {
        return Err(Error::MalformedMessage);
    }
    Ok(Card {
        device_id: device_id.into(),
        device_name: device_name.into(),
        capability: capability.into(),
        key: key.into(),
    })
}

/// What is wrong with a message, or with its moment (pair.md section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // Each is named by its code.
pub enum Error {
    MalformedJson,
    MalformedMessage,
    UnknownMessageType,
    ServerAtCapacity,
    SessionJoinFailed,
    RateLimited,
    SessionMismatch,
    PeerNotConnected,
}

impl Error {
    /// Every error, in the order of their numbers.
    pub const ALL: [Error; 8] = [
        Error::MalformedJson,
        Error::MalformedMessage,
        Error::UnknownMessageType,
        Error::ServerAtCapacity,
        Error::SessionJoinFailed,
        Error::RateLimited,
        Error::SessionMismatch,
        Error::PeerNotConnected,
    ];

    /// The `code` of its message; also the label of the metric that counts it.
    pub fn code(self) -> &'static str {
        match self {
            Error::MalformedJson => "malformed_json",
            Error::MalformedMessage => "malformed_message",
            Error::UnknownMessageType => "unknown_message_type",
            Error::ServerAtCapacity => "server_at_capacity",
            Error::SessionJoinFailed => "session_join_failed",
            Error::RateLimited => "rate_limited",
            Error::SessionMismatch => "session_mismatch",
            Error::PeerNotConnected => "peer_not_connected",
        }
    }

    /// The `message` of its message, for people.
    fn message(self) -> &'static str {
        match self {
            Error::MalformedJson => "the message is not JSON",
            Error::MalformedMessage => "a field of the message is missing or of another type",
            Error::UnknownMessageType => "there is no message of this type",
            Error::ServerAtCapacity => "the server has as many sessions as it may",
            Error::SessionJoinFailed => "the session is unknown, expired or taken",
            Error::RateLimited => "too many new sessions from this address",
            Error::SessionMismatch => "this socket is not in that session",
            Error::PeerNotConnected => "the other device is not connected",
        }
    }

    /// Why it closes its socket; `None` leaves it open.
    pub(super) fn closes(self) -> Option<Reason> {
        match self {
            Error::MalformedJson => Some(Reason::MalformedJson),
            Error::MalformedMessage => Some(Reason::MalformedMessage),
            Error::UnknownMessageType => Some(Reason::UnknownMessageType),
            Error::ServerAtCapacity => Some(Reason::ServerAtCapacity),
            Error::SessionJoinFailed => Some(Reason::SessionJoinFailed),
            Error::RateLimited => Some(Reason::SessionsRateLimited),
            Error::SessionMismatch | Error::PeerNotConnected => None,
        }
    }
}

/// What the relay says. The fields of a device are its own JSON, so that nothing needs escaping.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer<'a> {
    SessionCreated { session: SessionId, source: &'a Card, rendezvous_url: &'a str, expires_at: u64 },
    PeerConnected { peer: &'a Card },
    PeerDisconnected,
    Pong,
    Error(Error),
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::SessionCreated { session, source, rendezvous_url, expires_at } => {
                let payload = format!(
                    r#"{{"v":1,"rendezvousUrl":{rendezvous_url},"sessionId":"{session}","sourceEphemeralPubKey":{},"#,
                    source.key
                ) + &format!(
                    r#""sourceDeviceId":{},"sourceDeviceName":{},"expiresAt":{expires_at}}}"#,
                    source.device_id, source.device_name
                );
                let payload = URL_SAFE_NO_PAD.encode(payload);
                write!(f, r#"{{"type":"session-created","sessionId":"{session}","qrPayload":"{payload}","#)?;
                write!(f, r#""expiresAt":{expires_at}}}"#)
            }
            Answer::PeerConnected { peer } => {
                write!(f, r#"{{"type":"peer-connected","peerEphemeralPubKey":{},"#, peer.key)?;
                write!(f, r#""peerDeviceId":{},"peerDeviceName":{},"#, peer.device_id, peer.device_name)?;
                write!(f, r#""peerCapability":{}}}"#, peer.capability)
            }
            Answer::PeerDisconnected => {
                f.write_str(r#"{"type":"peer-disconnected","reason":"peer closed connection"}"#)
            }
            Answer::Pong => f.write_str(r#"{"type":"pong"}"#),
            Answer::Error(error) => {
                write!(f, r#"{{"type":"error","code":"{}","message":"{}"}}"#, error.code(), error.message())
            }
        }
    }
}

/// What stands in front of a relayed payload.
pub(super) fn relay_head(from: Role) -> &'static str {
    match from {
        Role::Source => r#"{"type":"relay","from":"source","payload":"#,
        Role::Target => r#"{"type":"relay","from":"target","payload":"#,
    }
}

/// What stands behind it.
pub(super) const RELAY_TAIL: &str = "}";
