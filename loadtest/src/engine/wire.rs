//! The Link protocol as its hosts and clients speak it: the upgrade, the control messages, the signature.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    payload::{self, CLOSE, TEXT},
    reader::{close_of, parse_header},
};
use crate::target::Target;

/// What all connections of a thread upgrade with: one request, and the answer that proves it was read.
pub struct Upgrade {
    request: Vec<u8>,
    accept: String,
}

impl Upgrade {
    pub fn new(target: &Target) -> Upgrade {
        let key = tungstenite::handshake::client::generate_key();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n",
            target.path, target.host
        );
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        Upgrade { request: request.into_bytes(), accept }
    }

    /// The request, as it is sent.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Looks at the answer so far: the length of its head once the connection is a WebSocket, `None` while bytes are
    /// missing.
    pub fn answer(&self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let size = match response.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
            _ => return Err(Refusal::Protocol("the answer to the upgrade is no HTTP")),
        };
        let code = response.code.unwrap_or(0);
        if code != 101 {
            return Err(Refusal::Status(code));
        }
        let accept =
            response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
        match accept.is_some_and(|header| header.value == self.accept.as_bytes()) {
            true => Ok(Some(size)),
            false => Err(Refusal::Protocol("the answer to the upgrade has a wrong Sec-WebSocket-Accept")),
        }
    }
}

/// Why a connection did not become what it was to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Instead of a WebSocket, this HTTP status.
    Status(u16),
    /// A close frame.
    Closed(Option<u16>, String),
    /// An `error` message of the protocol.
    Error(String),
    /// The connection ended without a word.
    Ended,
    /// The kernel said so.
    Broken(String),
    /// What came is not the protocol.
    Protocol(&'static str),
    /// The relay says that the other end of the session is gone.
    PeerGone,
    /// Nothing came for as long as is waited.
    TimedOut,
}

impl Refusal {
    /// The kind under which it is counted.
    pub fn kind(&self) -> String {
        match self {
            Refusal::Status(code) => format!("refused {code}"),
            Refusal::Closed(Some(code), _) => format!("closed {code}"),
            Refusal::Closed(None, _) => "closed without a code".to_owned(),
            Refusal::Error(error) => format!("error {error}"),
            Refusal::Ended => "connection ended".to_owned(),
            Refusal::Broken(error) => error.clone(),
            Refusal::Protocol(what) => (*what).to_owned(),
            Refusal::PeerGone => "peer disconnected".to_owned(),
            Refusal::TimedOut => "timed out".to_owned(),
        }
    }

    /// What to change, where it is no matter of one connection but will meet them all.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Refusal::Closed(Some(4002), _) => {
                "the relay limits registers and resolves of one IP address: raise that limit for the test (longsplice: \
                 --link-ip-rate-per-min 0; LINK_IP_RATE_PER_MIN=0), or give more --source-address"
            }
            Refusal::Status(503 | 429) => {
                "the relay refuses more connections: raise its limits (longsplice: --max-connections, \
                 --max-connections-per-ip, and its descriptors by ulimit -n), or give more --source-address"
            }
            Refusal::Closed(Some(1013), _) => {
                "the relay has no room for more: raise its ulimit -n (longsplice: or --shards, each of which may hold \
                 as many descriptors)"
            }
            Refusal::Status(400..500) => {
                "check the path of --url; the Link endpoint is usually /v1/link, that for pairing /pair"
            }
            Refusal::Error(code) if code == "rate_limited" => {
                "the relay limits new pairing sessions of one IP address: raise that limit for the test (longsplice: \
                 --pair-ip-rate-per-min 0; PAIR_IP_RATE_PER_MIN=0), or give more --source-address"
            }
            Refusal::Error(code) if code == "server_at_capacity" => {
                "the relay holds no more pairing sessions, and keeps each for a while after both ends are gone: raise \
                 MAX_SESSIONS and shorten SESSION_TTL_SECONDS (longsplice: --pair-max-sessions, \
                 --pair-session-ttl-seconds)"
            }
            Refusal::Closed(Some(4007), _) => {
                "the relay does not take the hosts' signatures: give its LINK_ORIGIN as --origin, and compare the \
                 clocks of the two machines"
            }
            Refusal::Closed(Some(4010), _) => {
                "the relay registers only the keys on its allow-list: empty LINK_ALLOWED_REGISTER_KEYS for the test"
            }
            _ => return None,
        })
    }
}

/// A frame that came while a connection still spoke the control protocol.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Close(Option<u16>, String),
    /// A pong, which nobody asked for.
    Other,
}

/// The frame at the front of `bytes` and its length; `None` while bytes are missing. Control messages are at most
/// 4 KiB and are not fragmented by any relay known; one that does is told apart as a protocol error.
pub fn next_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Refusal> {
    let header = parse_header(bytes)
        .map_err(|_| Refusal::Protocol("a control connection carries what is no frame"))?;
    let Some((first, length, size)) = header else { return Ok(None) };
    if length > MESSAGE_BYTES_MAX {
        return Err(Refusal::Protocol("a control message of more than 4 KiB"));
    }
    let end = size + length as usize;
    let Some(payload) = bytes.get(size..end) else { return Ok(None) };
    let frame = match first {
        0x81 => Frame::Text(payload),
        0x89 => Frame::Ping(payload),
        0x88 => {
            let (code, text) = close_of(payload);
            Frame::Close(code, text)
        }
        0x8a => Frame::Other,
        _ => return Err(Refusal::Protocol("a control connection carries neither text nor pings")),
    };
    Ok(Some((frame, end)))
}

/// A control message, of those that a relay sends.
#[derive(Debug, Deserialize)]
pub struct Notice<'a> {
    #[serde(rename = "type")]
    pub kind: &'a str,
    #[serde(rename = "linkId")]
    pub link_id: Option<&'a str>,
    pub error: Option<&'a str>,
}

impl<'a> Notice<'a> {
    pub fn parse(text: &'a [u8]) -> Result<Notice<'a>, Refusal> {
        serde_json::from_slice(text)
            .map_err(|_| Refusal::Protocol("a control message is no JSON object with a type"))
    }
}

/// The frame of a `resolve` of this address.
pub fn resolve(address: &str) -> Vec<u8> {
    text(&json!({ "type": "resolve", "address": address }))
}

/// The frame of a client's `relay`.
pub fn relay(link_id: &str) -> Vec<u8> {
    text(&json!({ "type": "relay", "linkId": link_id }))
}

/// The frame of a host's `accept`.
pub fn accept(link_id: &str) -> Vec<u8> {
    text(&json!({ "type": "accept", "linkId": link_id }))
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    payload::client_frame(payload::PONG, payload, CONTROL_MASK)
}

/// A close frame with 1000.
pub fn close() -> Vec<u8> {
    payload::client_frame(CLOSE, &1000u16.to_be_bytes(), CONTROL_MASK)
}

/// A frame with an opcode that RFC 6455 reserves.
pub fn bad_frame() -> Vec<u8> {
    payload::client_frame(3, b"", CONTROL_MASK)
}

/// A control message that is no JSON.
pub fn bad_json() -> Vec<u8> {
    payload::client_frame(TEXT, b"{\"type\":", CONTROL_MASK)
}

/// A host's identity.
pub struct Host {
    key: SigningKey,
    /// The name that clients resolve.
    pub address: String,
}

impl Host {
    /// Of a secret that no other run has.
    pub fn new(secret: &[u8; 32], number: u64) -> Host {
        let seed: [u8; 32] =
            Sha256::new().chain_update(secret).chain_update(number.to_be_bytes()).finalize().into();
        let key = SigningKey::from_bytes(&seed);
        let address = URL_SAFE_NO_PAD.encode(Sha256::digest(key.verifying_key().to_bytes()));
        Host { key, address }
    }

    /// The frame of a `register`, signed now.
    pub fn register(&self, origin: &str) -> Vec<u8> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (now_ms, nonce) = (wall.as_millis() as u64, "loadtest");
        let mut signed = b"frontier-link-register-v1".to_vec();
        for field in [&self.address, &now_ms.to_string(), nonce, origin] {
            signed.extend((field.len() as u32).to_be_bytes());
            signed.extend(field.as_bytes());
        }
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(&signed).to_bytes());
        let public = URL_SAFE_NO_PAD.encode(self.key.verifying_key().to_bytes());
        text(&json!({
            "type": "register",
            "address": self.address,
            "auth": { "alg": "ed25519", "pub": public, "ts": now_ms, "nonce": nonce, "sig": signature },
        }))
    }
}

/// The frame of a control message.
pub fn text(message: &serde_json::Value) -> Vec<u8> {
    payload::client_frame(TEXT, message.to_string().as_bytes(), CONTROL_MASK)
}

/// The key of frames that are no load.
const CONTROL_MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];
const HEAD_BYTES_MAX: usize = 16 << 10;
const MESSAGE_BYTES_MAX: u32 = 4096;
