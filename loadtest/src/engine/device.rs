//! The pair protocol as its devices speak it: how they introduce themselves, and the payloads they exchange.
//!
//! A payload is a message's stamp and body in base64. What arrives is decoded, so that a relay may spell the JSON
//! around and within it as it likes, but not change what it says.

use std::borrow::Cow;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    STAMP_BYTES,
    payload::{self, Payload, Stamp, TEXT},
    reader::Fault,
    wire::{self, Refusal},
};

/// What a device says of itself.
pub struct Card {
    id: String,
    name: String,
    key: String,
}

impl Card {
    /// Of the device at one end of a link, whose number holds over all threads.
    pub fn new(link: u32, is_target: bool) -> Card {
        let role = if is_target { "target" } else { "source" };
        let id = format!("loadtest-{link}-{role}");
        let key = URL_SAFE_NO_PAD.encode(Sha256::digest(&id));
        Card { name: format!("Load test, {role} {link}"), id, key }
    }

    /// The frame that opens a session.
    pub fn pair_source(&self) -> Vec<u8> {
        wire::text(&json!({
            "type": "pair-source",
            "deviceId": self.id,
            "deviceName": self.name,
            "capability": CAPABILITY,
            "ephemeralPubKey": self.key,
        }))
    }

    /// The frame that joins a session.
    pub fn pair_target(&self, session_id: &str) -> Vec<u8> {
        wire::text(&json!({
            "type": "pair-target",
            "sessionId": session_id,
            "deviceId": self.id,
            "deviceName": self.name,
            "capability": CAPABILITY,
            "ephemeralPubKey": self.key,
        }))
    }

    /// Whether a `peer-connected` introduces this device.
    pub fn is_introduced_by(&self, said: &Said<'_>) -> bool {
        said.peer_device_id.as_deref() == Some(&*self.id)
            && said.peer_device_name.as_deref() == Some(&*self.name)
            && said.peer_key.as_deref() == Some(&*self.key)
    }
}

/// A message of the relay.
#[derive(Debug, Deserialize)]
pub struct Said<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    #[serde(rename = "sessionId", borrow)]
    pub session_id: Option<Cow<'a, str>>,
    #[serde(rename = "peerDeviceId", borrow)]
    peer_device_id: Option<Cow<'a, str>>,
    #[serde(rename = "peerDeviceName", borrow)]
    peer_device_name: Option<Cow<'a, str>>,
    #[serde(rename = "peerEphemeralPubKey", borrow)]
    peer_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    from: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
}

impl<'a> Said<'a> {
    /// Reads a text message; `None` if it is none of the protocol.
    pub fn parse(text: &'a [u8]) -> Option<Said<'a>> {
        serde_json::from_slice(text).ok()
    }

    /// What an `error` is counted as.
    pub fn error(&self) -> Refusal {
        Refusal::Error(self.code.as_deref().unwrap_or("without a code").to_owned())
    }
}

/// Adds the frame of a `relay` with this message to `out`.
pub fn relay(out: &mut Vec<u8>, session_id: &str, stamp: Stamp, payload: &Payload) {
    let body = payload.body(stamp);
    let head = [r#"{"type":"relay","sessionId":""#, session_id, r#"","payload":""#];
    let head_bytes: usize = head.iter().map(|part| part.len()).sum();
    let encoded_bytes = (STAMP_BYTES + body.len()).div_ceil(3) * 4;
    // Base64 takes three bytes at a time, so with one byte of the body the stamp can be encoded for itself.
    let mut first = [0; STAMP_BYTES + 1];
    let (joined, rest) = body.split_at(body.len().min(1));
    first[..STAMP_BYTES].copy_from_slice(&stamp.encode());
    first[STAMP_BYTES..][..joined.len()].copy_from_slice(joined);
    let first = &first[..STAMP_BYTES + joined.len()];
    let size = head_bytes + encoded_bytes + TAIL.len();
    payload::append_frame(out, TEXT, size, payload.mask(), |out| {
        head.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        for raw in [first, rest] {
            let start = out.len();
            out.resize(start + raw.len().div_ceil(3) * 4, 0);
            STANDARD.encode_slice(raw, &mut out[start..]).expect("four characters for three bytes");
        }
        out.extend_from_slice(TAIL);
    });
}

/// Compares what a `relay` of the relay's carries with the message whose turn it is; returns the bytes of that message,
/// and how many of them were compared.
pub fn check(said: &Said<'_>, expected: Stamp, payload: &Payload) -> Result<(u32, u32), Fault> {
    let from = if expected.from_host { "target" } else { "source" };
    if said.from.as_deref() != Some(from) {
        return Err(Fault::Text("it says that it is from the other end"));
    }
    let Some(encoded) = &said.payload else { return Err(Fault::Text("a relay without a payload")) };
    let raw = STANDARD.decode(&**encoded).map_err(|_| Fault::Text("the payload is no base64"))?;
    let size = payload.size(expected);
    let length = Fault::Length { stamp: expected, sent: size, arrived: raw.len() as u32 };
    let Some((stamp, body)) = raw.split_first_chunk() else { return Err(length) };
    if *stamp != expected.encode() {
        return Err(Fault::Order { expected, arrived: Stamp::decode(*stamp) });
    }
    if raw.len() != size as usize {
        return Err(length);
    }
    if body.is_empty() {
        return Ok((size, 0));
    }
    match payload.check(expected, STAMP_BYTES as u32, body) {
        Ok(compared) => Ok((size, compared as u32)),
        Err(wrong) => Err(Fault::Byte(expected, wrong)),
    }
}

const TAIL: &[u8] = br#""}"#;
/// Of every device.
const CAPABILITY: Capability = Capability { memory_gb: 8, tokens_per_second: 25 };

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Capability {
    memory_gb: u32,
    tokens_per_second: u32,
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::protocol::{Role, WebSocket};

    use super::*;
    use crate::{
        mix::Parts,
        scenario::{Mask, Pattern, Verify},
        sizes::Sizes,
    };

    fn stamp(sequence: u32) -> Stamp {
        Stamp { link: 7, from_host: false, sequence }
    }

    fn makings(size: u32, mask: Mask) -> Payload {
        Payload::new(3, Parts::alone("pair", Pattern::Pingpong, Sizes::Fixed(size), 1.0), Verify::All, mask)
    }

    /// The JSON of a `relay`, as a server reads it.
    fn sent(size: u32, mask: Mask, sequence: u32) -> serde_json::Value {
        let mut wire = Vec::new();
        relay(&mut wire, "a-session", stamp(sequence), &makings(size, mask));
        let mut socket = WebSocket::from_raw_socket(Cursor::new(wire), Role::Server, None);
        let message = socket.read().expect("a frame");
        serde_json::from_str(message.to_text().expect("text")).expect("JSON")
    }

    /// The text of what a relay makes of a payload.
    fn relayed(payload: &str) -> String {
        json!({ "type": "relay", "from": "source", "payload": payload }).to_string()
    }

    fn check_text(text: &str, size: u32, mask: Mask) -> Result<(u32, u32), Fault> {
        let said = Said::parse(text.as_bytes()).expect("it is of the protocol");
        check(&said, stamp(5), &makings(size, mask))
    }

    #[test]
    fn what_is_sent_passes_the_check_at_every_length() {
        for size in (8..140).chain([32_700, 65_536, 300_000]) {
            for mask in [Mask::Random, Mask::Zero] {
                let message = sent(size, mask, 5);
                assert_eq!((&message["type"], &message["sessionId"]), (&json!("relay"), &json!("a-session")));
                let text = relayed(message["payload"].as_str().expect("a string"));
                assert_eq!(check_text(&text, size, mask), Ok((size, size - 8)));
                assert_eq!(
                    check_text(&text.replace('/', r"\/"), size, mask),
                    Ok((size, size - 8)),
                    "escaped"
                );
            }
        }
    }

    #[test]
    fn what_was_not_sent_is_a_fault() {
        let right = sent(300, Mask::Random, 5)["payload"].as_str().expect("a string").to_owned();
        for at in 0..right.len() {
            let other = if &right[at..=at] == "A" { "B" } else { "A" };
            let wrong = [&right[..at], other, &right[at + 1..]].concat();
            assert!(check_text(&relayed(&wrong), 300, Mask::Random).is_err(), "character {at}");
        }
        let other = sent(300, Mask::Random, 4)["payload"].as_str().expect("a string").to_owned();
        for (what, payload) in [
            ("another message", &other[..]),
            ("a lost end", &right[..396]),
            ("nothing", ""),
            ("less than a stamp", "AAAA"),
            ("more", &[&right[..], "AAAA"].concat()),
            ("no base64", "!"),
        ] {
            assert!(check_text(&relayed(payload), 300, Mask::Random).is_err(), "{what} goes unseen");
        }
        assert!(check_text(&relayed(&right).replace("source", "target"), 300, Mask::Random).is_err());
        assert!(check_text(r#"{"type":"relay","from":"source"}"#, 300, Mask::Random).is_err());
    }

    #[test]
    fn a_device_is_told_from_another() {
        let card = Card::new(3, true);
        let said = |card: &Card| {
            json!({ "type": "peer-connected", "peerDeviceId": card.id, "peerDeviceName": card.name,
                    "peerEphemeralPubKey": card.key })
            .to_string()
        };
        for (other, is_same) in
            [(Card::new(3, true), true), (Card::new(4, true), false), (Card::new(3, false), false)]
        {
            let text = said(&other);
            let said = Said::parse(text.as_bytes()).expect("it is of the protocol");
            assert_eq!(card.is_introduced_by(&said), is_same, "{text}");
        }
    }
}
