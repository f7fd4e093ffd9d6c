//! Frame headers (RFC 6455 section 5.2): a client's, checked and decoded, and ours, encoded.
//!
//! ```text
//! byte 0      FIN 1, RSV 3, opcode 4
//! byte 1      MASK 1, length 7: up to 125 as it is, 126: 16 bits follow, 127: 64 bits follow
//! 0, 2 or 8   the extended length, big-endian, in its shortest form
//! 4           the masking key (client to server only)
//! ```

use crate::reason::Reason;

/// What a frame is. No other value is defined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the RFC's.
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    /// Whether frames of this kind may come within a message and are never fragmented (section 5.5).
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    fn decode(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }
}

/// A client's frame header: masked, without extensions, in its shortest form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whether the frame ends its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key.
    pub mask: [u8; 4],
    /// Bytes of payload, below 2^63.
    pub len: u64,
    /// Bytes of the header itself.
    pub size: usize,
}

/// The longest header of a client.
pub const CLIENT_HEADER_BYTES_MAX: usize = 14;
/// The longest header of ours, which has no masking key.
pub const SERVER_HEADER_BYTES_MAX: usize = 10;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

// A chunk that starts inside a frame gets its header in the bytes in front of it.
const _: () = assert!(SERVER_HEADER_BYTES_MAX <= crate::driver::HEADROOM);

/// Decodes a client's header from the start of `bytes`: `None` needs more. Whatever breaks the protocol is
/// [`Reason::ProtocolError`], said on the first byte that shows it.
pub fn decode(bytes: &[u8]) -> Result<Option<Header>, Reason> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let fin = first & FIN != 0;
    let opcode = Opcode::decode(first & 0x0f).ok_or(Reason::ProtocolError)?;
    if first & RESERVED != 0 || opcode.is_control() && !fin {
        return Err(Reason::ProtocolError);
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    let short = second & !MASKED;
    if second & MASKED == 0 || opcode.is_control() && short >= LENGTH_16 {
        return Err(Reason::ProtocolError);
    }
    let (len, key_at) = match short {
        LENGTH_16 => {
            let Some(long) = bytes[2..].first_chunk() else { return Ok(None) };
            let len = u16::from_be_bytes(*long);
            if len < u16::from(LENGTH_16) {
                return Err(Reason::ProtocolError);
            }
            (u64::from(len), 4)
        }
        LENGTH_64 => {
            let Some(long) = bytes[2..].first_chunk() else { return Ok(None) };
            let len = u64::from_be_bytes(*long);
            if len <= u64::from(u16::MAX) || len >> 63 != 0 {
                return Err(Reason::ProtocolError);
            }
            (len, 10)
        }
        _ => (u64::from(short), 2),
    };
    let Some(mask) = bytes[key_at..].first_chunk() else { return Ok(None) };
    Ok(Some(Header { fin, opcode, mask: *mask, len, size: key_at + 4 }))
}

/// Bytes of our header for a payload of `len` bytes.
pub fn encoded_len(len: u64) -> usize {
    match len {
        0..126 => 2,
        126..0x1_0000 => 4,
        _ => SERVER_HEADER_BYTES_MAX,
    }
}

/// Writes an unmasked header to `out`, which is `encoded_len(len)` bytes long.
pub fn encode(out: &mut [u8], opcode: Opcode, fin: bool, len: u64) {
    out[0] = opcode as u8 | if fin { FIN } else { 0 };
    match out.len() {
        2 => out[1] = len as u8,
        4 => {
            out[1] = LENGTH_16;
            out[2..].copy_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out[1] = LENGTH_64;
            out[2..].copy_from_slice(&len.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every header with every length around the borders of the three forms.
    fn headers() -> Vec<(Vec<u8>, Header)> {
        let mask = [0xa1, 0xb2, 0xc3, 0xd4];
        let opcodes = [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Ping];
        let lengths = [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 0x1_0001, i64::MAX as u64];
        let mut all = Vec::new();
        for opcode in opcodes {
            for len in lengths.into_iter().filter(|len| !opcode.is_control() || *len <= 125) {
                for fin in [true, false].into_iter().filter(|fin| *fin || !opcode.is_control()) {
                    let mut bytes = vec![0; encoded_len(len)];
                    encode(&mut bytes, opcode, fin, len);
                    bytes[1] |= MASKED;
                    bytes.extend_from_slice(&mask);
                    let size = bytes.len();
                    all.push((bytes, Header { fin, opcode, mask, len, size }));
                }
            }
        }
        all
    }

    #[test]
    fn decodes_what_it_encodes_and_waits_at_every_truncation() {
        for (mut bytes, header) in headers() {
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "{bytes:02x?} cut at {cut}");
            }
            bytes.extend_from_slice(b"payload");
            assert_eq!(decode(&bytes), Ok(Some(header)));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_rfc() {
        for (opcode, fin, len, wire) in [
            (Opcode::Text, true, 5, &[0x81, 0x05][..]),  // a whole text message
            (Opcode::Binary, false, 125, &[0x02, 0x7d]), // the longest short form
            (Opcode::Continuation, true, 126, &[0x80, 0x7e, 0x00, 0x7e]), // the shortest 16-bit form
            (Opcode::Binary, true, 65_535, &[0x82, 0x7e, 0xff, 0xff]), // the longest
            (Opcode::Binary, true, 65_536, &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]), // the shortest 64-bit form
            (Opcode::Pong, true, 0, &[0x8a, 0x00]),
        ] {
            let mut out = vec![0; encoded_len(len)];
            encode(&mut out, opcode, fin, len);
            assert_eq!(out, wire);
        }
    }

    #[test]
    fn each_broken_rule_is_a_protocol_error_on_the_byte_that_shows_it() {
        for (rule, wire) in [
            ("5.2 RSV1 without an extension", &[0xc1][..]),
            ("5.2 RSV2 without an extension", &[0xa1]),
            ("5.2 RSV3 without an extension", &[0x91]),
            ("5.2 opcode 3 is reserved", &[0x83]),
            ("5.2 opcode 7 is reserved", &[0x87]),
            ("5.2 opcode b is reserved", &[0x8b]),
            ("5.2 opcode f is reserved", &[0x8f]),
            ("5.5 a close must not be fragmented", &[0x08]),
            ("5.5 a ping must not be fragmented", &[0x09]),
            ("5.5 a pong must not be fragmented", &[0x0a]),
            ("5.1 a client must mask", &[0x81, 0x05]),
            ("5.1 a client must mask control frames", &[0x89, 0x00]),
            ("5.5 a control frame has at most 125 bytes", &[0x89, 0xfe]),
            ("5.5 a control frame has at most 125 bytes (64-bit)", &[0x88, 0xff]),
            ("5.2 125 bytes fit the short form", &[0x82, 0xfe, 0x00, 0x7d]),
            ("5.2 0 bytes fit the short form", &[0x82, 0xfe, 0x00, 0x00]),
            ("5.2 65535 bytes fit 16 bits", &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            ("5.2 the highest bit of the length is clear", &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(decode(wire), Err(Reason::ProtocolError), "{rule}");
            assert_eq!(decode(&wire[..wire.len() - 1]), Ok(None), "{rule}: not to be seen earlier");
        }
    }
}
