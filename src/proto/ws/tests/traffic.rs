//! What clients send, as values and as bytes; and `tungstenite` to read it.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use tungstenite::{
    Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use crate::proto::ws::{Opcode, outbound::client_frame};

/// A message of a client with everything that may vary about it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Text or binary.
    pub text: bool,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Where it is cut into frames; two equal places make an empty frame.
    pub cuts: Vec<usize>,
    /// The masking key of its frames.
    pub mask: [u8; 4],
    /// Control frames after each of its frames but the last: ping or pong, and the payload.
    pub controls: Vec<(bool, Vec<u8>)>,
}

impl Sent {
    /// Appends its frames.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut ends = self.cuts.clone();
        ends.push(self.payload.len());
        let mut controls = self.controls.iter();
        let mut from = 0;
        for (number, to) in ends.iter().enumerate() {
            let opcode = match (number, self.text) {
                (0, true) => Opcode::Text,
                (0, false) => Opcode::Binary,
                _ => Opcode::Continuation,
            };
            let last = number + 1 == ends.len();
            client_frame(out, last, opcode, self.mask, &self.payload[from..*to]);
            from = *to;
            let between = if last { controls.len() } else { 1 };
            for (ping, payload) in controls.by_ref().take(between) {
                let opcode = if *ping { Opcode::Ping } else { Opcode::Pong };
                client_frame(out, true, opcode, self.mask, payload);
            }
        }
    }
}

/// The frames of messages, in order.
pub fn encode(messages: &[Sent]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    out
}

/// The payloads of the pings in messages, in order.
pub fn pings(messages: &[Sent]) -> Vec<Vec<u8>> {
    let controls = messages.iter().flat_map(|message| &message.controls);
    controls.filter(|(ping, _)| *ping).map(|(_, payload)| payload.clone()).collect()
}

/// Any message with a payload of a length from `len`.
pub fn message(len: impl Strategy<Value = usize>) -> impl Strategy<Value = Sent> {
    let mask = prop_oneof![1 => Just([0; 4]), 2 => any::<[u8; 4]>()];
    let control = (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..=125));
    let controls = proptest::collection::vec(control, 0..3);
    let cuts = proptest::collection::vec(any::<proptest::sample::Index>(), 0..5);
    (any::<bool>(), len, any::<u8>(), cuts, mask, controls).prop_map(
        |(text, len, noise, cuts, mask, controls)| {
            let payload = if text { letters(len, noise) } else { bytes(len, noise) };
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
            cuts.sort_unstable();
            Sent { text, payload, cuts, mask, controls }
        },
    )
}

/// Lengths around everything that changes a header, mostly short.
pub fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0usize..300, 2 => 0usize..5_000, 1 => 65_000usize..70_000]
}

fn bytes(len: usize, noise: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ noise).collect()
}

/// About `len` bytes of characters of one to four bytes.
fn letters(len: usize, noise: u8) -> Vec<u8> {
    let alphabet = ["a", "\u{e9}", "\u{20ac}", "\u{1f980}", "\0"];
    let mut text = String::new();
    while text.len() < len {
        text.push_str(alphabet[(text.len() + usize::from(noise)) % alphabet.len()]);
    }
    text.into_bytes()
}

/// Bytes to read; what is written is dropped.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `tungstenite` reads from `bytes` until their end: as a client our frames, as a server a client's.
pub fn oracle(bytes: &[u8], role: Role) -> Vec<Message> {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket = WebSocket::from_raw_socket(Wire(bytes), role, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => messages.push(message),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return messages,
            Err(error) => panic!("tungstenite refuses it after {} messages: {error}", messages.len()),
        }
    }
}

/// A message as `tungstenite` has it, as text flag and payload.
pub fn plain(message: Message) -> (bool, Vec<u8>) {
    (message.is_text(), message.into_data().to_vec())
}
