//! The pair protocol from both sides: a source that asks for a session, a target that joins it, and the two
//! of them paired.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use super::{
    PATIENCE,
    end::{End, Heard},
    peer::Peer,
    relay::{PAIR_PATH, Relay},
};

/// A session id of the right shape that no relay gave out.
pub const UNKNOWN_SESSION: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// What a device says of itself.
#[derive(Debug, Clone)]
pub struct Device {
    pub id: String,
    pub name: String,
    pub capability: Value,
    /// Its ephemeral public key, base64url.
    pub key: String,
}

impl Device {
    /// A device with an id and a key of its own.
    pub fn new(name: &str) -> Device {
        let mut random = [0; 48];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        let (id, key) = random.split_at(16);
        Device {
            id: BASE64URL.encode(id),
            name: name.to_owned(),
            capability: json!({ "memoryGb": 16, "tokensPerSec": 21.5 }),
            key: BASE64URL.encode(key),
        }
    }

    /// Asks for a session.
    pub fn source(&self) -> Value {
        self.says("pair-source")
    }

    /// Asks for its slot in a session back.
    pub fn source_again(&self, session: &str) -> Value {
        with_session(self.says("pair-source"), session)
    }

    /// Joins a session, for the first time or again.
    pub fn target(&self, session: &str) -> Value {
        with_session(self.says("pair-target"), session)
    }

    /// What the other end is told of it.
    pub fn connected(&self) -> Value {
        json!({
            "type": "peer-connected",
            "peerEphemeralPubKey": self.key,
            "peerDeviceId": self.id,
            "peerDeviceName": self.name,
            "peerCapability": self.capability,
        })
    }

    fn says(&self, kind: &str) -> Value {
        json!({
            "type": kind,
            "deviceId": self.id,
            "deviceName": self.name,
            "capability": self.capability,
            "ephemeralPubKey": self.key,
        })
    }
}

fn with_session(mut message: Value, session: &str) -> Value {
    message["sessionId"] = json!(session);
    message
}

/// What a source is told of its session.
#[derive(Debug, Clone, PartialEq)]
pub struct Created {
    /// The session's id.
    pub id: String,
    /// The QR code's content, decoded.
    pub qr: Value,
    /// When the session ends unless somebody joins, in milliseconds since the epoch.
    pub expires_at: i64,
}

/// Sends what asks for a session; checks the answer's shape.
pub fn create(socket: &mut impl End, asks: &Value) -> Created {
    socket.tell(asks);
    let created = socket.expect("session-created");
    let text = |field: &str| created[field].as_str().unwrap_or_else(|| panic!("{created}")).to_owned();
    let qr = BASE64URL.decode(text("qrPayload")).expect("the QR payload is base64url without padding");
    let found = Created {
        id: text("sessionId"),
        qr: serde_json::from_slice(&qr).expect("the QR payload is JSON"),
        expires_at: created["expiresAt"].as_i64().unwrap_or_else(|| panic!("{created}")),
    };
    assert_eq!(created.as_object().map(serde_json::Map::len), Some(4), "{created}");
    found
}

/// A `relay` message, its fields in the order in which clients write them.
pub fn relay_message(session: &str, payload: &str) -> String {
    format!(r#"{{"type":"relay","sessionId":{},"payload":{}}}"#, json!(session), json!(payload))
}

/// What comes of it at the other end.
pub fn relayed(from: &str, payload: &str) -> Value {
    json!({ "type": "relay", "from": from, "payload": payload })
}

/// The next message, which must be an `error` with this code and a text for people.
pub fn expect_refusal(socket: &mut impl End, code: &str) {
    let error = socket.expect("error");
    assert_eq!(error["code"], code, "{error}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    assert_eq!(error.as_object().map(serde_json::Map::len), Some(3), "{error}");
}

/// The next messages, which must be such an `error` and a close that names the same code.
pub fn expect_refused(socket: &mut impl End, code: &str, close: u16) {
    expect_refusal(socket, code);
    assert_eq!(socket.expect_closed(close), code);
}

/// The next thing, which must be that the session is over.
pub fn expect_expired(socket: &mut impl End) {
    assert_eq!(socket.expect_closed(1000), "session expired");
}

/// The next message, which must say that the other end is gone.
pub fn expect_disconnected(socket: &mut impl End) {
    let gone = json!({ "type": "peer-disconnected", "reason": "peer closed connection" });
    assert_eq!(socket.expect("peer-disconnected"), gone);
}

/// Whether the socket still works: nothing was sent to it, and it is answered.
pub fn check_open(socket: &mut impl End) {
    socket.tell(&json!({ "type": "ping" }));
    assert_eq!(socket.expect("pong"), json!({ "type": "pong" }));
}

/// Two paired sockets.
pub struct Pair<S = Peer, T = S> {
    /// The session's id.
    pub id: String,
    pub source: S,
    pub target: T,
    pub source_device: Device,
    pub target_device: Device,
}

impl<S: End, T: End> Pair<S, T> {
    /// Pairs two new devices.
    pub fn new(relay: &Relay) -> Pair<S, T> {
        Pair::over(S::open_at(relay, PAIR_PATH), T::open_at(relay, PAIR_PATH))
    }

    /// Pairs two new devices over sockets that are in no session.
    pub fn over(mut source: S, mut target: T) -> Pair<S, T> {
        let (source_device, target_device) = (Device::new("source"), Device::new("target"));
        let id = create(&mut source, &source_device.source()).id;
        target.tell(&target_device.target(&id));
        let mut pair = Pair { id, source, target, source_device, target_device };
        pair.expect_connected();
        pair
    }

    /// The next message at both ends, which must introduce the other.
    pub fn expect_connected(&mut self) {
        assert_eq!(self.source.expect("peer-connected"), self.target_device.connected());
        assert_eq!(self.target.expect("peer-connected"), self.source_device.connected());
    }

    /// Sends a payload each way and checks that it arrives: the pair works.
    pub fn check(&mut self) {
        self.tell_target("from the source");
        self.tell_source("from the target");
    }

    /// Sends a payload to the target and checks that it arrives.
    pub fn tell_target(&mut self, payload: &str) {
        self.source.say(&relay_message(&self.id, payload));
        assert_eq!(self.target.expect("relay"), relayed("source", payload));
    }

    /// Sends a payload to the source and checks that it arrives.
    pub fn tell_source(&mut self, payload: &str) {
        self.target.say(&relay_message(&self.id, payload));
        assert_eq!(self.source.expect("relay"), relayed("target", payload));
    }
}

/// A socket for a device that is in no session.
pub fn open(relay: &Relay) -> Peer {
    Peer::open_at(relay, PAIR_PATH)
}

/// Drops messages until the socket is closed with this code and reason.
pub fn expect_closed_after_messages(socket: &mut impl End, code: u16, reason: &str) {
    loop {
        match socket.hear(PATIENCE) {
            Heard::Text(_) => {}
            other => return assert_eq!(other, Heard::Closed(code, reason.to_owned())),
        }
    }
}

/// Sends a message again and again until its answer is of one of these types: for what takes effect when the
/// relay has noticed something.
pub fn tell_until(relay: &Relay, message: &Value, kind: &str) -> (Peer, Value) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut socket = open(relay);
        socket.tell(message);
        let answer = socket.expect_any(&[kind, "error"]);
        if answer["type"] == kind {
            return (socket, answer);
        }
        assert!(std::time::Instant::now() < deadline, "{message} was last answered {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
