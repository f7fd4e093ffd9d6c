//! A WebSocket client over the virtual network, strict about what it is sent.
//!
//! Holds one stream's bytes on their way out and in. Speaks the client's side of RFC 6455 by its own reading
//! of it, not with the product's code, so that the two check each other. Promises that a server's frame which
//! the RFC does not allow, or a pong that answers no ping of ours, is a panic. Never acts by itself, except
//! that it answers pings.

use std::collections::VecDeque;

use super::{
    dice::Dice,
    network::{Found, Network, StreamId},
};

/// What a server sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The connection is upgraded.
    Upgraded,
    /// It is not: the status of the response.
    Refused(u16),
    /// A part of a message; `last` ends it.
    Data {
        /// The type of the message.
        text: bool,
        /// The part.
        payload: Vec<u8>,
        /// Whether the message ends here.
        last: bool,
    },
    /// A close frame's code.
    Close(Option<u16>),
    /// The server sends no more.
    Ended,
    /// The stream was reset.
    Reset,
}

/// How far the connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Upgrading,
    Open,
    /// A close frame has come.
    Closed,
    Over,
}

/// One client's connection.
#[derive(Debug)]
pub struct Wire {
    /// The stream under it.
    pub stream: StreamId,
    out: VecDeque<u8>,
    input: Vec<u8>,
    phase: Phase,
    /// The type of the message that is being received.
    message: Option<bool>,
    /// Bytes left of the data frame that is being received, and whether it ends its message.
    frame: Option<(u64, bool)>,
    pings: VecDeque<Vec<u8>>,
    /// How often a mask is all zeros, in millionths.
    zero_mask: u32,
    shut: bool,
}

impl Wire {
    /// Upgrades a stream at `path`; `zero_mask` of a million frames will have a mask of zeros.
    pub fn new(stream: StreamId, path: &str, zero_mask: u32) -> Wire {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Wire {
            stream,
            out: head.into_bytes().into(),
            input: Vec::new(),
            phase: Phase::Upgrading,
            message: None,
            frame: None,
            pings: VecDeque::new(),
            zero_mask,
            shut: false,
        }
    }

    /// Bytes that wait to be sent.
    pub fn backlog(&self) -> usize {
        self.out.len()
    }

    /// Whether the newest of our pings is answered; older ones may be passed over.
    pub fn is_answered(&self) -> bool {
        self.pings.is_empty()
    }

    /// Whether nothing more can come.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Queues bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if !self.shut {
            self.out.extend(bytes);
        }
    }

    /// Queues a frame.
    pub fn send_frame(&mut self, opcode: u8, last: bool, payload: &[u8], dice: &mut Dice) {
        // A mask of zeros is a mask; some clients use no other, and the relay has a way of its own for it.
        let mask = if dice.chance(self.zero_mask) { [0; 4] } else { (dice.bits() as u32).to_le_bytes() };
        let mut frame = vec![u8::from(last) << 7 | opcode];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.send_raw(&frame);
    }

    /// Queues a whole text message.
    pub fn send_text(&mut self, text: &str, dice: &mut Dice) {
        self.send_frame(TEXT, true, text.as_bytes(), dice);
    }

    /// Queues a whole message as text or binary, in one frame or several: `fragment` is how often of a million times it
    /// is cut once more.
    pub fn send_message(&mut self, message: &[u8], fragment: u32, dice: &mut Dice) {
        let mut opcode = if dice.chance(500_000) { TEXT } else { BINARY };
        let mut rest = message;
        while dice.chance(fragment) && rest.len() > 1 {
            let (part, more) = rest.split_at(dice.below(rest.len()));
            self.send_frame(opcode, false, part, dice);
            (opcode, rest) = (0, more);
        }
        self.send_frame(opcode, true, rest, dice);
    }

    /// Queues a ping; its answer is checked.
    pub fn send_ping(&mut self, dice: &mut Dice) {
        let mut payload = vec![0; dice.below(126)];
        dice.fill(&mut payload);
        self.send_frame(PING, true, &payload, dice);
        self.pings.push_back(payload);
    }

    /// Queues a close frame.
    pub fn send_close(&mut self, code: u16, dice: &mut Dice) {
        self.send_frame(CLOSE, true, &code.to_be_bytes(), dice);
    }

    /// Sends what is queued, in pieces as large as the dice say. Returns whether anything moved.
    pub fn flush(&mut self, network: &mut Network, dice: &mut Dice) -> bool {
        if self.out.is_empty() {
            return false;
        }
        let count = if dice.chance(500_000) { self.out.len() } else { dice.size(self.out.len()) };
        let sent = network.peer_send(self.stream, &self.out.make_contiguous()[..count]);
        let sent = sent.unwrap_or_else(|_| {
            // The answer comes with what is received.
            self.out.clear();
            0
        });
        self.out.drain(..sent);
        network.note(|| format!("{:?} sent {sent} bytes", self.stream));
        if self.shut && self.out.is_empty() {
            network.peer_shut_down(self.stream);
        }
        sent > 0
    }

    /// Ends our side once everything queued is sent; nothing more can be queued.
    pub fn shut_down(&mut self, network: &mut Network) {
        self.shut = true;
        if self.out.is_empty() {
            network.peer_shut_down(self.stream);
        }
    }

    /// Receives up to `bytes_max` bytes and what they mean.
    pub fn receive(&mut self, network: &mut Network, bytes_max: usize, dice: &mut Dice) -> Vec<Incoming> {
        let mut found = Vec::new();
        if self.phase == Phase::Over {
            return found;
        }
        let end = match network.peer_receive(self.stream, &mut self.input, bytes_max) {
            Found::Bytes(_) => None,
            Found::Nothing => return found,
            Found::End => Some(Incoming::Ended),
            Found::Reset => Some(Incoming::Reset),
        };
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(used) = self.understand(&input[at..], &mut found, dice) {
            at += used;
        }
        input.drain(..at);
        self.input = input;
        if let Some(end) = end {
            // Whoever ends its own side without a close frame is not waited for.
            let may_break_off = self.shut || end == Incoming::Reset;
            assert!(self.input.is_empty() || may_break_off, "{:?} ended inside a frame", self.stream);
            self.phase = Phase::Over;
            found.push(end);
        }
        for incoming in &found {
            network.note(|| match incoming {
                Incoming::Data { text, payload, last } => {
                    let shown = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
                    let shown =
                        if shown.starts_with('{') { shown } else { format!("{} bytes", payload.len()) };
                    format!("{:?} data text {text} last {last} {shown}", self.stream)
                }
                other => format!("{:?} {other:?}", self.stream),
            });
        }
        found
    }

    /// Understands the next thing in `input`: how many bytes it took, or `None` if it is not complete.
    fn understand(&mut self, input: &[u8], found: &mut Vec<Incoming>, dice: &mut Dice) -> Option<usize> {
        match self.phase {
            Phase::Upgrading => self.understand_response(input, found),
            Phase::Open => match self.frame {
                Some((left, fin)) => self.continue_frame(left, fin, input, found),
                None => self.understand_frame(input, found, dice),
            },
            Phase::Closed | Phase::Over => {
                assert!(input.is_empty(), "bytes behind a close frame");
                None
            }
        }
    }

    fn understand_response(&mut self, input: &[u8], found: &mut Vec<Incoming>) -> Option<usize> {
        let end = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = str::from_utf8(&input[..end]).expect("a response head is ASCII");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status == 101 {
            assert!(head.contains(ACCEPT), "the wrong Sec-WebSocket-Accept: {head}");
            self.phase = Phase::Open;
            found.push(Incoming::Upgraded);
            return Some(end);
        }
        self.phase = Phase::Closed;
        found.push(Incoming::Refused(status));
        // The body says no more than the status.
        Some(input.len())
    }

    fn continue_frame(
        &mut self,
        left: u64,
        fin: bool,
        input: &[u8],
        found: &mut Vec<Incoming>,
    ) -> Option<usize> {
        let count = left.min(input.len() as u64) as usize;
        if count == 0 && left > 0 {
            return None;
        }
        let left = left - count as u64;
        let text = self.message.expect("a frame belongs to a message");
        let last = fin && left == 0;
        self.frame = (left > 0).then_some((left, fin));
        if last {
            self.message = None;
        }
        found.push(Incoming::Data { text, payload: input[..count].to_vec(), last });
        Some(count)
    }

    fn understand_frame(
        &mut self,
        input: &[u8],
        found: &mut Vec<Incoming>,
        dice: &mut Dice,
    ) -> Option<usize> {
        let (&first, &second) = (input.first()?, input.get(1)?);
        assert_eq!(first & 0x70, 0, "a reserved bit is set");
        assert_eq!(second & 0x80, 0, "a server masks");
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (size, len) = match second {
            126 => {
                let len = u16::from_be_bytes(input.get(2..4)?.try_into().expect("two bytes"));
                assert!(len > 125, "a length is not minimal");
                (4, u64::from(len))
            }
            127 => {
                let len = u64::from_be_bytes(input.get(2..10)?.try_into().expect("eight bytes"));
                assert!(len > 0xffff, "a length is not minimal");
                (10, len)
            }
            len => (2, u64::from(len)),
        };
        if opcode < CLOSE {
            self.message = Some(match (opcode, self.message) {
                (CONTINUATION, Some(text)) => text,
                (TEXT, None) => true,
                (BINARY, None) => false,
                other => panic!("a data frame out of place: {other:?}"),
            });
            self.frame = Some((len, fin));
            return Some(size);
        }
        assert!(fin && len <= 125, "a control frame is fragmented or too long");
        let payload = input.get(size..size + len as usize)?;
        match opcode {
            PING => self.send_frame(PONG, true, payload, dice),
            PONG => self.check_pong(payload),
            CLOSE => {
                assert_ne!(len, 1, "half a close code");
                self.phase = Phase::Closed;
                let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                found.push(Incoming::Close(code));
            }
            other => panic!("unknown opcode {other}"),
        }
        Some(size + len as usize)
    }

    /// Pongs come in the order of our pings; older ones may be left out (RFC 6455 section 5.5.3).
    fn check_pong(&mut self, payload: &[u8]) {
        while let Some(ping) = self.pings.pop_front() {
            if ping == payload {
                return;
            }
        }
        panic!("a pong that answers no ping of ours");
    }
}

/// What every peer calls the relay.
pub const HOST: &str = "relay.test";
/// The answer to the key in our handshake (RFC 6455 section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const CONTINUATION: u8 = 0;
/// Opcode of a text message's first frame.
pub const TEXT: u8 = 1;
/// Opcode of a binary message's first frame.
pub const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
