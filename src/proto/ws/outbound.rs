//! Frames of ours: unmasked, ready to be sent; and a client's, for everything that plays one.

use std::ops::Deref;

use super::{
    Control, Opcode, SERVER_HEADER_BYTES_MAX,
    header::{encode, encoded_len},
    mask::unmask,
};
use crate::limits::CONTROL_FRAME_BYTES_MAX;

/// An encoded header of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    len: u8,
    bytes: [u8; SERVER_HEADER_BYTES_MAX],
}

impl FrameHeader {
    /// The header in front of a payload of `len` bytes.
    pub fn new(opcode: Opcode, fin: bool, len: u64) -> FrameHeader {
        let size = encoded_len(len);
        let mut bytes = [0; SERVER_HEADER_BYTES_MAX];
        encode(&mut bytes[..size], opcode, fin, len);
        FrameHeader { len: size as u8, bytes }
    }
}

impl Deref for FrameHeader {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// An encoded control frame of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlFrame {
    len: u8,
    bytes: [u8; CONTROL_HEADER_BYTES + CONTROL_FRAME_BYTES_MAX],
}

const CONTROL_HEADER_BYTES: usize = 2;

impl ControlFrame {
    fn new(opcode: Opcode, payload: &[u8]) -> ControlFrame {
        let len = CONTROL_HEADER_BYTES + payload.len();
        let mut bytes = [0; CONTROL_HEADER_BYTES + CONTROL_FRAME_BYTES_MAX];
        encode(&mut bytes[..CONTROL_HEADER_BYTES], opcode, true, payload.len() as u64);
        bytes[CONTROL_HEADER_BYTES..len].copy_from_slice(payload);
        ControlFrame { len: len as u8, bytes }
    }
}

impl Deref for ControlFrame {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of a whole text message of `len` bytes.
pub fn text_frame_header(len: usize) -> FrameHeader {
    FrameHeader::new(Opcode::Text, true, len as u64)
}

/// A close frame with a code and a text, or without both. A text that does not fit is cut at a character.
pub fn close_frame(code: Option<u16>, text: &str) -> ControlFrame {
    let Some(code) = code else { return ControlFrame::new(Opcode::Close, &[]) };
    let text = &text.as_bytes()[..text.floor_char_boundary(CONTROL_FRAME_BYTES_MAX - 2)];
    let mut payload = [0; CONTROL_FRAME_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + text.len()].copy_from_slice(text);
    ControlFrame::new(Opcode::Close, &payload[..2 + text.len()])
}

/// A ping.
pub fn ping_frame(payload: &Control) -> ControlFrame {
    ControlFrame::new(Opcode::Ping, payload.payload())
}

/// The pong that answers a ping.
pub fn pong_frame(ping: &Control) -> ControlFrame {
    ControlFrame::new(Opcode::Pong, ping.payload())
}

/// Appends a client's frame: masked, in its shortest form.
pub fn client_frame(out: &mut Vec<u8>, fin: bool, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    let header_at = out.len();
    out.extend_from_slice(&FrameHeader::new(opcode, fin, payload.len() as u64));
    out[header_at + 1] |= 0x80;
    out.extend_from_slice(&mask);
    let payload_at = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[payload_at..], mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_on_the_wire() {
        // FIN + close, 7 bytes: 1001, "going"
        assert_eq!(&*close_frame(Some(1001), "going"), b"\x88\x07\x03\xe9going");
        // FIN + close, empty
        assert_eq!(&*close_frame(None, "never sent"), b"\x88\x00");
        // FIN + ping, 2 bytes
        assert_eq!(&*ping_frame(&Control::new(b"hi")), b"\x89\x02hi");
        // FIN + pong, the same payload
        assert_eq!(&*pong_frame(&Control::new(b"hi")), b"\x8a\x02hi");
        // FIN + text, 126 bytes to follow
        assert_eq!(&*text_frame_header(126), b"\x81\x7e\x00\x7e");
        // FIN + text, masked, 5 bytes: "Hello" (RFC 6455 section 5.7)
        let mut out = Vec::new();
        client_frame(&mut out, true, Opcode::Text, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn a_close_text_is_cut_at_a_character() {
        let frame = close_frame(Some(4000), &"\u{20ac}".repeat(60));
        // 41 characters of 3 bytes are all that fit in 123.
        assert_eq!(frame.len(), 2 + 2 + 123);
        assert_eq!(close_frame(Some(4000), &format!("ab{}", "\u{20ac}".repeat(60))).len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
