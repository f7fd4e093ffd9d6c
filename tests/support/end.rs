//! What every socket to the relay can do, whatever it is made of.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    PATIENCE,
    relay::{LINK_PATH, Relay},
};

/// What came from the relay. Pings are answered and counted below this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A close frame: code and reason.
    Closed(u16, String),
    /// The stream ended, or broke, without a close frame.
    Dropped,
    /// Nothing, in the time given.
    Nothing,
}

/// One WebSocket to the relay.
pub trait End: Sized {
    /// Connects and upgrades on a path, which chooses the dialect.
    fn open_at(relay: &Relay, path: &str) -> Self;

    /// Connects and upgrades to speak link.
    fn open(relay: &Relay) -> Self {
        Self::open_at(relay, LINK_PATH)
    }

    /// Sends a text message.
    fn say(&mut self, text: &str);
    /// The next message or ending, or [`Heard::Nothing`] after `within`.
    fn hear(&mut self, within: Duration) -> Heard;

    /// Sends a control message.
    fn tell(&mut self, message: &Value) {
        self.say(&message.to_string());
    }

    /// The next message, which must be control of this type.
    fn expect(&mut self, kind: &str) -> Value {
        self.expect_any(&[kind])
    }

    /// The next message, which must be control of one of these types.
    fn expect_any(&mut self, kinds: &[&str]) -> Value {
        match self.hear(PATIENCE) {
            Heard::Text(text) => {
                let message: Value = serde_json::from_str(&text)
                    .unwrap_or_else(|_| panic!("expected one of {kinds:?}, heard the text {text:?}"));
                let known = message["type"].as_str().is_some_and(|kind| kinds.contains(&kind));
                assert!(known, "expected one of {kinds:?}, heard {text}");
                message
            }
            other => panic!("expected one of {kinds:?}, heard {other:?}"),
        }
    }

    /// The next message, which must be an `error` saying this.
    fn expect_error(&mut self, error: &str) {
        assert_eq!(self.expect("error"), serde_json::json!({ "type": "error", "error": error }));
    }

    /// The next message, which must say that this link is relaying.
    fn expect_relaying(&mut self, id: &str) {
        assert_eq!(self.expect("relaying"), serde_json::json!({ "type": "relaying", "linkId": id }));
    }

    /// The next message, which must be this text.
    fn expect_text(&mut self, text: &str) {
        assert_eq!(self.hear(PATIENCE), Heard::Text(text.to_owned()));
    }

    /// The next thing, which must be a close frame with this code, and the stream's end behind it. Gives
    /// the reason.
    fn expect_closed(&mut self, code: u16) -> String {
        match self.hear(PATIENCE) {
            Heard::Closed(heard, reason) => {
                assert_eq!(heard, code, "closed {heard} {reason:?}, expected {code}");
                let after = self.hear(PATIENCE);
                assert_eq!(after, Heard::Dropped, "the stream must end behind the close frame");
                reason
            }
            other => panic!("expected to be closed {code}, heard {other:?}"),
        }
    }

    /// Drops data until the close frame, which must have this code.
    fn expect_any_until_closed(&mut self, code: u16) {
        loop {
            match self.hear(PATIENCE) {
                Heard::Text(_) | Heard::Binary(_) => {}
                other => {
                    let closed = matches!(other, Heard::Closed(heard, _) if heard == code);
                    assert!(closed, "expected to be closed {code}, heard {other:?}");
                    return;
                }
            }
        }
    }

    /// The next thing, which must be the stream's end without a close frame.
    fn expect_dropped(&mut self) {
        assert_eq!(self.hear(PATIENCE), Heard::Dropped);
    }

    /// Hears nothing for a while.
    fn expect_silence(&mut self, span: Duration) {
        let until = Instant::now() + span;
        assert_eq!(self.hear(span), Heard::Nothing);
        assert!(Instant::now() >= until, "silence was cut short");
    }
}
