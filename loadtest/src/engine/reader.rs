//! The frames that a relay sends on one connection, taken from its bytes piece by piece and checked.
//!
//! The reader takes any fragmentation and any cutting into pieces, and holds no payload but a control frame's, and a
//! message's where messages are text. It is small, because there are two for every idle link.

use std::fmt;

use super::{
    STAMP_BYTES,
    payload::{BINARY, CLOSE, PING, PONG, Payload, Stamp, TEXT, WrongByte},
};
use crate::{dialect::Dialect, sizes::SIZE_MAX};

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The end of the message that was expected, whole and as it had been sent.
    Message {
        /// Bytes of its payload.
        bytes: u32,
        /// How many of them were compared.
        compared: u32,
    },
    /// A text message, of a dialect whose messages are text, whole and unread.
    Text(Vec<u8>),
    /// A ping, to be answered with its payload.
    Ping(Vec<u8>),
    /// A close, with its code if it had one and its text.
    Close(Option<u16>, String),
}

/// What arrived was not what had been sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A byte of the body.
    Byte(Stamp, WrongByte),
    /// Another message than the one whose turn it was.
    Order { expected: Stamp, arrived: Stamp },
    /// The right message, too long or too short.
    Length { stamp: Stamp, sent: u32, arrived: u32 },
    /// Bytes that are no frame of a server, or a frame that none sends here.
    Frame(&'static str),
    /// Text that nobody sent.
    Text(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Byte(stamp, WrongByte { at, arrived, sent }) => {
                write!(
                    out,
                    "byte {at} of message {} arrived as {arrived:#04x} instead of {sent:#04x}",
                    stamp.sequence
                )
            }
            Fault::Order { expected, arrived }
                if (expected.link, expected.from_host) != (arrived.link, arrived.from_host) =>
            {
                write!(
                    out,
                    "a wrong stamp, or a message of another link, in place of message {}: {arrived:?}",
                    expected.sequence
                )
            }
            Fault::Order { expected, arrived } => {
                let what = match arrived.sequence > expected.sequence {
                    true => "lost or reordered",
                    false => "duplicated or reordered",
                };
                write!(out, "message {} in place of message {}: {what}", arrived.sequence, expected.sequence)
            }
            Fault::Length { stamp, sent, arrived } => {
                write!(
                    out,
                    "message {} arrived with {arrived} bytes or more or fewer than its {sent}",
                    stamp.sequence
                )
            }
            Fault::Frame(what) => write!(out, "not a frame: {what}"),
            Fault::Text(what) => write!(out, "not a message: {what}"),
        }
    }
}

/// The state between two pieces of a connection's bytes.
#[derive(Debug, Default)]
pub struct Reader {
    /// Payload of the control frame that is under way.
    control: Vec<u8>,
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: u8,
    opcode: u8,
    is_last: bool,
    /// Within a frame's payload.
    in_frame: bool,
    /// Between the first fragment of a message and its last.
    in_message: bool,
    /// Bytes of the frame's payload that are missing.
    left: u32,
    /// Payload bytes seen of the message that is under way.
    offset: u32,
    /// How many of them were compared.
    compared: u32,
    stamp: [u8; STAMP_BYTES],
    /// The text message that is under way.
    text: Option<Box<Text>>,
}

/// Boxed, because most ends never have one.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
}

impl Reader {
    /// Takes bytes off the front of `input` up to the next arrival, or all of them. `expected` is the message whose
    /// turn it is.
    pub fn next(
        &mut self,
        input: &mut &[u8],
        expected: Stamp,
        payload: &Payload,
        dialect: Dialect,
    ) -> Result<Option<Arrival>, Fault> {
        loop {
            if !self.in_frame {
                match self.take_header(input, dialect)? {
                    true => self.in_frame = true,
                    false => return Ok(None),
                }
            }
            let count = input.len().min(self.left as usize);
            let (piece, rest) = input.split_at(count);
            *input = rest;
            self.left -= count as u32;
            if self.opcode >= CLOSE {
                self.control.extend_from_slice(piece);
            } else if let Some(text) = &mut self.text {
                if text.bytes.len() + piece.len() > SIZE_MAX as usize {
                    return Err(Fault::Frame("longer than any message"));
                }
                text.bytes.extend_from_slice(piece);
            } else {
                self.take_payload(piece, expected, payload)?;
            }
            if self.left > 0 {
                return Ok(None);
            }
            self.in_frame = false;
            if let Some(arrival) = self.end_of_frame(expected, payload)? {
                return Ok(Some(arrival));
            }
        }
    }

    /// Whether it stands between two messages and two frames: a connection that ends here has cut nothing off.
    pub fn is_between(&self) -> bool {
        !self.in_frame && !self.in_message && self.header_bytes == 0
    }

    fn take_header(&mut self, input: &mut &[u8], dialect: Dialect) -> Result<bool, Fault> {
        // Nearly always a whole header is there.
        if self.header_bytes == 0
            && let Some((first, length, size)) = parse_header(input)?
        {
            *input = &input[size..];
            return self.begin_frame(first, length, dialect).map(|()| true);
        }
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.header[usize::from(self.header_bytes)] = *byte;
            self.header_bytes += 1;
            if let Some((first, length, _)) = parse_header(&self.header[..usize::from(self.header_bytes)])? {
                self.header_bytes = 0;
                return self.begin_frame(first, length, dialect).map(|()| true);
            }
        }
        Ok(false)
    }

    fn begin_frame(&mut self, first: u8, length: u32, dialect: Dialect) -> Result<(), Fault> {
        (self.opcode, self.is_last, self.left) = (first & 0x0f, first & 0x80 != 0, length);
        match self.opcode {
            CLOSE | PING | PONG if !self.is_last || length > 125 => {
                Err(Fault::Frame("a control frame in pieces or of more than 125 bytes"))
            }
            CLOSE | PING | PONG => Ok(()),
            0 if !self.in_message => Err(Fault::Frame("a continuation of nothing")),
            BINARY | TEXT if self.in_message => Err(Fault::Frame("a new message before the end of the last")),
            TEXT if dialect == Dialect::Link => Err(Fault::Frame("text, where binary had been sent")),
            TEXT => {
                let bytes = Vec::with_capacity(length as usize);
                (self.in_message, self.text) = (true, Some(Box::new(Text { bytes })));
                Ok(())
            }
            BINARY if dialect == Dialect::Pair => Err(Fault::Frame("binary, where messages are text")),
            BINARY => {
                (self.in_message, self.offset, self.compared) = (true, 0, 0);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_payload(&mut self, mut piece: &[u8], expected: Stamp, payload: &Payload) -> Result<(), Fault> {
        if (self.offset as usize) < STAMP_BYTES {
            let at = self.offset as usize;
            let count = piece.len().min(STAMP_BYTES - at);
            self.stamp[at..at + count].copy_from_slice(&piece[..count]);
            self.offset += count as u32;
            piece = &piece[count..];
            if (self.offset as usize) < STAMP_BYTES {
                return Ok(());
            }
            if self.stamp != expected.encode() {
                return Err(Fault::Order { expected, arrived: Stamp::decode(self.stamp) });
            }
        }
        if piece.is_empty() {
            return Ok(());
        }
        let size = payload.size(expected);
        if piece.len() as u32 > size - self.offset {
            let arrived = self.offset + piece.len() as u32;
            return Err(Fault::Length { stamp: expected, sent: size, arrived });
        }
        let compared =
            payload.check(expected, self.offset, piece).map_err(|wrong| Fault::Byte(expected, wrong))?;
        self.compared += compared as u32;
        self.offset += piece.len() as u32;
        Ok(())
    }

    fn end_of_frame(&mut self, expected: Stamp, payload: &Payload) -> Result<Option<Arrival>, Fault> {
        match self.opcode {
            PING => return Ok(Some(Arrival::Ping(std::mem::take(&mut self.control)))),
            CLOSE => {
                let (code, text) = close_of(&std::mem::take(&mut self.control));
                return Ok(Some(Arrival::Close(code, text)));
            }
            PONG => {
                self.control = Vec::new();
                return Ok(None);
            }
            _ if !self.is_last => return Ok(None),
            _ => {}
        }
        self.in_message = false;
        if let Some(text) = self.text.take() {
            return Ok(Some(Arrival::Text(text.bytes)));
        }
        let size = payload.size(expected);
        match self.offset == size {
            true => Ok(Some(Arrival::Message { bytes: size, compared: self.compared })),
            false => Err(Fault::Length { stamp: expected, sent: size, arrived: self.offset }),
        }
    }
}

/// The first byte, the payload's length and the header's own, of a server's header at the front of `bytes`; `None`
/// while bytes are missing.
pub fn parse_header(bytes: &[u8]) -> Result<Option<(u8, u32, usize)>, Fault> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 || !matches!(first & 0x0f, 0 | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(Fault::Frame("a reserved bit or opcode"));
    }
    if second & 0x80 != 0 {
        return Err(Fault::Frame("masked by the server"));
    }
    let (length, size) = match second {
        126 => match rest.first_chunk() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        length => (u64::from(length), 2),
    };
    match length <= u64::from(SIZE_MAX) {
        true => Ok(Some((first, length as u32, size))),
        false => Err(Fault::Frame("longer than any message")),
    }
}

/// Code and text of a close frame's payload.
pub fn close_of(payload: &[u8]) -> (Option<u16>, String) {
    match payload {
        [high, low, text @ ..] => {
            (Some(u16::from_be_bytes([*high, *low])), String::from_utf8_lossy(text).into_owned())
        }
        _ => (None, String::new()),
    }
}

/// A server's header has no key.
const HEADER_BYTES_MAX: usize = 10;
const _: () = assert!(size_of::<Reader>() <= 72);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mix::Parts,
        scenario::{Mask, Pattern, Verify},
        sizes::Sizes,
    };

    const SIZE: u32 = 300;

    fn payload() -> Payload {
        Payload::new(
            1,
            Parts::alone("stream", Pattern::Stream, Sizes::Fixed(SIZE), 1.0),
            Verify::All,
            Mask::Zero,
        )
    }

    fn stamp(sequence: u32) -> Stamp {
        Stamp { link: 3, from_host: false, sequence }
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(length as u8),
            length => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        [frame, payload.to_vec()].concat()
    }

    /// A message's payload, as a relay passes it on.
    fn message(payload: &Payload, sequence: u32) -> Vec<u8> {
        let mut front = [0; super::super::payload::FRONT_BYTES_MAX];
        let (_, body) = payload.frame(stamp(sequence), &mut front);
        [&stamp(sequence).encode()[..], body].concat()
    }

    fn read(wire: &[u8], piece_bytes: usize) -> Result<Vec<Arrival>, Fault> {
        let (payload, mut reader, mut arrivals, mut sequence) = (payload(), Reader::default(), Vec::new(), 0);
        for mut piece in wire.chunks(piece_bytes) {
            while let Some(arrival) = reader.next(&mut piece, stamp(sequence), &payload, Dialect::Link)? {
                sequence += u32::from(matches!(arrival, Arrival::Message { .. }));
                arrivals.push(arrival);
            }
        }
        assert!(reader.is_between(), "something is left");
        Ok(arrivals)
    }

    #[test]
    fn any_cut_and_any_fragments_are_read() {
        let first = message(&payload(), 0);
        let second = message(&payload(), 1);
        let wire = [
            frame(0x02, &first[..5]),
            frame(0x00, &first[5..200]),
            frame(0x89, b"there?"),
            frame(0x00, b""),
            frame(0x80, &first[200..]),
            frame(0x82, &second),
            frame(0x88, b"\x0f\xa3gone"),
        ]
        .concat();
        let whole = |compared| Arrival::Message { bytes: SIZE, compared };
        for piece_bytes in 1..=wire.len() {
            assert_eq!(
                read(&wire, piece_bytes).expect("nothing is wrong with it"),
                [
                    Arrival::Ping(b"there?".to_vec()),
                    whole(SIZE - 8),
                    whole(SIZE - 8),
                    Arrival::Close(Some(4003), "gone".to_owned())
                ],
                "in pieces of {piece_bytes}"
            );
        }
    }

    #[test]
    fn text_is_gathered_where_messages_are_text() {
        let wire =
            [frame(0x01, b"{\"a"), frame(0x89, b"!"), frame(0x80, b"\":1}"), frame(0x81, b"")].concat();
        for piece_bytes in 1..=wire.len() {
            let (mut reader, mut arrivals) = (Reader::default(), Vec::new());
            for mut piece in wire.chunks(piece_bytes) {
                let next = |reader: &mut Reader, piece: &mut &[u8]| {
                    reader.next(piece, stamp(0), &payload(), Dialect::Pair).expect("nothing is wrong with it")
                };
                while let Some(arrival) = next(&mut reader, &mut piece) {
                    arrivals.push(arrival);
                }
            }
            let text = |text: &str| Arrival::Text(text.as_bytes().to_vec());
            assert_eq!(arrivals, [Arrival::Ping(b"!".to_vec()), text("{\"a\":1}"), text("")]);
            assert!(reader.is_between());
        }
        let (binary, mut reader) = (frame(0x82, b"{}"), Reader::default());
        assert!(reader.next(&mut &binary[..], stamp(0), &payload(), Dialect::Pair).is_err());
    }

    #[test]
    fn what_was_not_sent_is_a_fault() {
        let payload = payload();
        let (first, second) = (message(&payload, 0), message(&payload, 1));
        let mut flipped = first.clone();
        flipped[299] ^= 1;
        let mut foreign = first.clone();
        foreign[3] ^= 1;
        let long = [&first[..], b"x"].concat();
        for (what, wire) in [
            ("a flipped byte", frame(0x82, &flipped)),
            ("another link's", frame(0x82, &foreign)),
            ("a lost message", frame(0x82, &second)),
            ("a duplicate", [frame(0x82, &first), frame(0x82, &first)].concat()),
            ("too short", frame(0x82, &first[..299])),
            ("too long", frame(0x82, &long)),
            ("shorter than a stamp", frame(0x82, &first[..7])),
            ("text", frame(0x81, &first)),
            ("a continuation of nothing", frame(0x80, &first)),
            ("a message within a message", [frame(0x02, &first[..20]), frame(0x82, &first[20..])].concat()),
            ("masked", vec![0x82, 0x88, 0, 0, 0, 0]),
            ("compressed", frame(0xc2, &first)),
            ("a length beyond all", vec![0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert!(read(&wire, 64).is_err(), "{what} goes unseen");
        }
    }
}
