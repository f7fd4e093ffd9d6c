//! What messages say: a stamp, then bytes that follow from it, so that the receiver knows every byte it must see.
//!
//! ```text
//! stamp   link number 32 bits, sender 1 bit (0 the client), number of the message in its direction 31 bits
//! body    a run of the keystream, which begins where the stamp says
//! ```
//!
//! The keystream is kept twice, plain and masked, so that nothing is masked while messages flow.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::STAMP_BYTES;
use crate::{
    mix::Parts,
    scenario::{Mask, Verify},
    sizes::Sizes,
};

/// Which message it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub link: u32,
    pub from_host: bool,
    /// Counted from 0 in each direction; wraps after 2^31 messages.
    pub sequence: u32,
}

impl Stamp {
    /// The stamp as it stands on the wire, unmasked.
    pub fn encode(self) -> [u8; STAMP_BYTES] {
        let number = u32::from(self.from_host) << 31 | self.sequence & SEQUENCE_MASK;
        (u64::from(self.link) << 32 | u64::from(number)).to_be_bytes()
    }

    /// What eight bytes say as a stamp.
    pub fn decode(bytes: [u8; STAMP_BYTES]) -> Stamp {
        let number = u64::from_be_bytes(bytes);
        let low = number as u32;
        Stamp { link: (number >> 32) as u32, from_host: low >> 31 == 1, sequence: low & SEQUENCE_MASK }
    }

    /// The stamp's bytes spread over 64 bits, all values of which are equally likely.
    fn draw(self, seed: u64) -> u64 {
        // splitmix64, whose only job here is to look random.
        let mut number =
            u64::from_be_bytes(self.encode()).wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ number >> 31
    }
}

/// Where a message was not as it had been sent.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongByte {
    /// Place in the payload.
    pub at: u32,
    pub arrived: u8,
    pub sent: u8,
}

/// The makings of every message of one thread.
pub struct Payload {
    seed: u64,
    /// Of which a link's sizes are looked up.
    parts: Parts,
    verify: Verify,
    mask: [u8; 4],
    plain: Vec<u8>,
    masked: Vec<u8>,
}

impl Payload {
    /// All threads of a run, and all runs with this seed, send the same.
    pub fn new(seed: u64, parts: Parts, verify: Verify, mask: Mask) -> Payload {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mask = match mask {
            Mask::Zero => [0; 4],
            // A key without a zero byte, so that no byte of the payload is spared.
            Mask::Random => random.next_u32().to_be_bytes().map(|byte| byte | 1),
        };
        let mut plain = vec![0; parts.size_max() as usize + START_SPAN];
        random.fill_bytes(&mut plain);
        // A body begins at a multiple of four, in the keystream and behind the stamp, so that the key's first byte
        // meets its first byte.
        let masked = plain.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        Payload { seed, parts, verify, mask, plain, masked }
    }

    /// Bytes of the message's payload.
    pub fn size(&self, stamp: Stamp) -> u32 {
        match &self.parts.of(stamp.link).sizes {
            Sizes::Fixed(size) => *size,
            sizes => sizes.of(stamp.draw(self.seed)),
        }
    }

    /// Bytes of the message's frame.
    pub fn frame_bytes(&self, stamp: Stamp) -> u32 {
        let size = self.size(stamp);
        header_bytes(size) + size
    }

    /// Writes the front of the message's frame, header and stamp, to `out`; returns its length and the masked rest.
    pub fn frame(&self, stamp: Stamp, out: &mut [u8; FRONT_BYTES_MAX]) -> (usize, &[u8]) {
        let size = self.size(stamp);
        let stamp_at = write_header(out, BINARY, size, self.mask);
        let encoded = stamp.encode();
        for (at, byte) in encoded.into_iter().enumerate() {
            out[stamp_at + at] = byte ^ self.mask[at % 4];
        }
        let start = self.start(stamp);
        (stamp_at + STAMP_BYTES, &self.masked[start..start + size as usize - STAMP_BYTES])
    }

    /// The message's body, unmasked.
    pub fn body(&self, stamp: Stamp) -> &[u8] {
        let start = self.start(stamp);
        &self.plain[start..start + self.size(stamp) as usize - STAMP_BYTES]
    }

    /// The key of the frames that carry load.
    pub fn mask(&self) -> [u8; 4] {
        self.mask
    }

    /// Compares a piece of the message's body, from byte `at` of the payload on, as far as is asked for; returns how
    /// many bytes were compared.
    pub fn check(&self, stamp: Stamp, at: u32, piece: &[u8]) -> Result<usize, WrongByte> {
        let start = self.start(stamp) + at as usize - STAMP_BYTES;
        let sent = &self.plain[start..start + piece.len()];
        let whole = match self.verify {
            Verify::Off => return Ok(0),
            Verify::All => true,
            Verify::Sampled => stamp.sequence.is_multiple_of(SAMPLE_EVERY),
        };
        if whole {
            if piece == sent {
                return Ok(piece.len());
            }
        } else if piece.first() == sent.first() && piece.last() == sent.last() {
            return Ok(piece.len().min(2));
        }
        let differs = piece.iter().zip(sent).position(|(arrived, sent)| arrived != sent);
        let place = differs.expect("two runs of one length that are not the same differ somewhere");
        Err(WrongByte { at: at + place as u32, arrived: piece[place], sent: sent[place] })
    }

    /// Where the message's body begins in the keystream.
    fn start(&self, stamp: Stamp) -> usize {
        // Neighbouring messages of a link and the same message of neighbouring links begin at different places.
        let number = stamp
            .sequence
            .wrapping_add(stamp.link.wrapping_mul(37))
            .wrapping_add(u32::from(stamp.from_host) * 501);
        number as usize % (START_SPAN / 4) * 4
    }
}

/// A client's frame with this payload.
pub fn client_frame(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    append_frame(&mut frame, opcode, payload.len(), mask, |out| out.extend_from_slice(payload));
    frame
}

/// Adds a client's frame to `out`. `write` adds its payload, which has `size` bytes.
pub fn append_frame(
    out: &mut Vec<u8>,
    opcode: u8,
    size: usize,
    mask: [u8; 4],
    write: impl FnOnce(&mut Vec<u8>),
) {
    let mut header = [0; HEADER_BYTES_MAX];
    let length = u32::try_from(size).expect("no message is longer than 16 MiB");
    let header_bytes = write_header(&mut header, opcode, length, mask);
    out.extend_from_slice(&header[..header_bytes]);
    let start = out.len();
    write(out);
    assert_eq!(out.len() - start, size, "the header tells the length");
    for piece in out[start..].chunks_mut(4) {
        for (byte, key) in piece.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

/// Writes a client's header with its key to the front of `out`; returns its length.
fn write_header(out: &mut [u8], opcode: u8, size: u32, mask: [u8; 4]) -> usize {
    out[0] = FIN | opcode;
    let key_at = match size {
        0..126 => {
            out[1] = MASKED | size as u8;
            2
        }
        126..0x1_0000 => {
            out[1] = MASKED | LENGTH_16;
            out[2..4].copy_from_slice(&(size as u16).to_be_bytes());
            4
        }
        _ => {
            out[1] = MASKED | LENGTH_64;
            out[2..10].copy_from_slice(&u64::from(size).to_be_bytes());
            10
        }
    };
    out[key_at..key_at + 4].copy_from_slice(&mask);
    key_at + 4
}

/// The longest front of a frame: header, key and stamp.
pub const FRONT_BYTES_MAX: usize = HEADER_BYTES_MAX + STAMP_BYTES;
const HEADER_BYTES_MAX: usize = 14;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
const SEQUENCE_MASK: u32 = u32::MAX >> 1;
/// Every so many messages one is compared whole.
const SAMPLE_EVERY: u32 = 64;
/// Bodies begin in so many bytes of the keystream. Small, so that what is sent stays in the processor's cache.
const START_SPAN: usize = 4096;

/// Bytes of a client's header, its key included.
fn header_bytes(size: u32) -> u32 {
    match size {
        0..126 => 6,
        126..0x1_0000 => 8,
        _ => 14,
    }
}

/// The sequence number behind this one.
pub fn following(sequence: u32) -> u32 {
    sequence.wrapping_add(1) & SEQUENCE_MASK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Pattern;

    fn parts(size: u32) -> Parts {
        Parts::alone("stream", Pattern::Stream, Sizes::Fixed(size), 1.0)
    }

    fn stamp(sequence: u32) -> Stamp {
        Stamp { link: 70_000, from_host: true, sequence }
    }

    #[test]
    fn stamps_read_as_they_were_written() {
        for sequence in [0, 1, SEQUENCE_MASK] {
            assert_eq!(Stamp::decode(stamp(sequence).encode()), stamp(sequence));
        }
        assert_eq!(following(SEQUENCE_MASK), 0);
    }

    #[test]
    fn every_wrong_byte_is_seen_where_all_are_compared() {
        let payload = Payload::new(1, parts(300), Verify::All, Mask::Random);
        let mut front = [0; FRONT_BYTES_MAX];
        let (_, body) = payload.frame(stamp(5), &mut front);
        let mut body: Vec<u8> =
            body.iter().enumerate().map(|(at, byte)| byte ^ payload.mask[at % 4]).collect();
        assert_eq!(payload.check(stamp(5), 8, &body), Ok(292));
        assert!(payload.check(stamp(6), 8, &body).is_err(), "another message's body");
        for at in 0..body.len() {
            body[at] ^= 0x10;
            let wrong = payload.check(stamp(5), 8, &body).expect_err("a flipped bit");
            assert_eq!((wrong.at, wrong.arrived), (at as u32 + 8, body[at]));
            body[at] ^= 0x10;
        }
    }

    #[test]
    fn tungstenite_reads_the_frames() {
        use std::io::Cursor;
        use tungstenite::protocol::{Role, WebSocket};
        for size in [8, 125, 126, 65_535, 65_536] {
            for mask in [Mask::Random, Mask::Zero] {
                let payload = Payload::new(3, parts(size), Verify::All, mask);
                let mut front = [0; FRONT_BYTES_MAX];
                let (length, body) = payload.frame(stamp(9), &mut front);
                let wire = [&front[..length], body].concat();
                assert_eq!(wire.len(), payload.frame_bytes(stamp(9)) as usize);
                let mut socket = WebSocket::from_raw_socket(Cursor::new(wire), Role::Server, None);
                let message = socket.read().expect("a frame").into_data();
                assert_eq!(message[..8], stamp(9).encode());
                assert_eq!(payload.check(stamp(9), 8, &message[8..]), Ok(size as usize - 8));
            }
        }
    }
}
