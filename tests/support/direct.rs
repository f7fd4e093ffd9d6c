//! A sequence beside what `tungstenite` and npm `ws` conclude from it, and what the relay has to make of it.

use std::fmt;

use tungstenite::protocol::Role;

use super::{
    sequence::{Ending, Sequence},
    verdict::{End, Message, Text, Verdict, Ws, hex, tungstenite},
    violations::Violation,
};

/// What the peer behind a relayed link is closed with when the other has gone, whatever the reason.
const PEER_GONE: u16 = 4003;

/// A sequence, and what others conclude from it.
pub struct Direct {
    pub sequence: Sequence,
    /// As `tungstenite` and `ws` read it, with text checked.
    pub strict: Verdict,
    ws: Verdict,
    /// With text unchecked.
    opaque: Verdict,
    text: Text,
}

impl Direct {
    /// Judges a sequence for a socket whose text is checked or not.
    pub fn of(sequence: Sequence, text: Text, ws: &Ws) -> Direct {
        let read = |sequence: Sequence, len: usize| {
            let bytes = &sequence.bytes[..len];
            Direct {
                strict: tungstenite(bytes, Role::Server),
                ws: ws.judge(bytes, Role::Server, Text::Checked),
                opaque: ws.judge(bytes, Role::Server, Text::Opaque),
                text,
                sequence,
            }
        };
        let len = sequence.bytes.len();
        let direct = read(sequence, len);
        let Direct { strict, ws, .. } = &direct;
        // What one finds bad in a fragment the other finds when the message is whole.
        let bad_text = strict.end == End::Fault(1007);
        assert!(bad_text || strict.messages == ws.messages, "the judges differ: {direct}");
        let (expected, before) = match &direct.sequence.ending {
            Ending::Violation(violation) => {
                // Where others read on, what came before counts.
                let before = if violation.is_common() { len } else { len - violation.bytes.len() };
                ((&violation.tungstenite, &violation.ws), before)
            }
            _ => ((&strict.end, &strict.end), len),
        };
        assert!(bad_text || (&strict.end, &ws.end) == expected, "the judges differ: {direct}");
        if before == len { direct } else { read(direct.sequence, before) }
    }

    /// The verdict that the relay has to share.
    fn verdict(&self) -> &Verdict {
        match self.text {
            Text::Checked => &self.strict,
            Text::Opaque => &self.opaque,
        }
    }

    /// How the relay has to see the sequence end.
    fn end(&self) -> End {
        match &self.sequence.ending {
            Ending::Violation(violation) => End::Fault(violation.code),
            _ => self.verdict().end.clone(),
        }
    }

    /// Checks what the sender was told: these messages, pongs, and how it ends.
    pub fn check_back(&self, ws: &Ws, bytes: &[u8], answers: &[Message]) {
        let verdict = tungstenite(bytes, Role::Client);
        let other = ws.judge(bytes, Role::Client, Text::Checked);
        assert_eq!(verdict, other, "what the relay answered reads in two ways: {self}");
        assert_eq!(verdict.messages, answers, "answers: {self}");
        let end = match self.end() {
            End::Fault(code) => End::Closed(Some(code)),
            other => other,
        };
        assert_eq!(verdict.end, end, "how the sender ended: {self}");
        let expected = &self.verdict().pings;
        let mut pings = expected.iter();
        let in_order = verdict.pongs.iter().all(|pong| pings.any(|ping| ping == pong));
        assert!(in_order, "pongs {:?} for pings {expected:?}: {self}", verdict.pongs);
        if !matches!(self.sequence.ending, Ending::Gone) {
            assert_eq!(verdict.pongs.last(), expected.last(), "the newest ping is answered: {self}");
        }
    }

    /// Checks what the peer behind a link was told.
    pub fn check_there(&self, ws: &Ws, bytes: &[u8]) {
        let opaque = ws.judge(bytes, Role::Client, Text::Opaque);
        assert_eq!(opaque.messages, self.opaque.messages, "what was relayed: {self}");
        assert_eq!(opaque.end, End::Closed(Some(PEER_GONE)), "how the receiver ended: {self}");
        // The relay's own pings are empty, and come when they are due.
        let forwarded: Vec<&String> =
            opaque.pings.iter().filter(|ping| !ping.is_empty()).chain(&opaque.pongs).collect();
        assert!(forwarded.is_empty(), "control frames {forwarded:?}: {self}");
        // Text that is none is found by who checks it, as if there were no relay.
        let close_reason =
            matches!(&self.sequence.ending, Ending::Violation(violation) if violation.code == 1007);
        for (direct, behind) in [
            (&self.strict, tungstenite(bytes, Role::Client)),
            (&self.ws, ws.judge(bytes, Role::Client, Text::Checked)),
        ] {
            let bad_text =
                direct.end == End::Fault(1007) && !(close_reason && direct.messages == opaque.messages);
            assert_eq!(behind.messages, direct.messages, "what was relayed: {self}");
            let end = if bad_text { End::Fault(1007) } else { End::Closed(Some(PEER_GONE)) };
            assert_eq!(behind.end, end, "how the receiver ended: {self}");
        }
    }
}

impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sequence { seed, bytes, ending, .. } = &self.sequence;
        let (len, start) = (bytes.len(), hex(&bytes[..bytes.len().min(200)]));
        write!(f, "WS_SEQUENCE={seed}, {len} bytes {start}.. that end in {ending:?};")?;
        write!(f, " tungstenite: {:?}; ws: {:?}; opaque: {:?}", self.strict, self.ws, self.opaque)
    }
}
