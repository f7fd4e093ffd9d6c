//! The generator's side of RFC 6455: frames it sends, and a reader that checks what arrives.
//!
//! A message is a stamp (which link, which message of it) and a fixed pattern, so that a reader knows every
//! byte it must see and looks at a few of each piece. The reader takes masked and unmasked frames and any
//! fragmentation: a relay unmasks and may cut a frame in pieces, the pass-through does neither. Neither side
//! ever holds a message.

/// What one message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The link it belongs to.
    pub link: u32,
    /// Its number in its direction, from 0.
    pub sequence: u32,
}

/// Bytes of a stamp, at the start of a payload.
pub const STAMP_BYTES: usize = 8;
/// A masking key like any other.
pub const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];
/// The key of a client that leaves its payload as it is.
pub const ZERO_MASK: [u8; 4] = [0; 4];
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A masked binary frame with the test pattern, ready for a stamp.
pub struct Template {
    /// Header and payload, as they are sent.
    pub bytes: Vec<u8>,
    mask: [u8; 4],
    stamp_at: usize,
}

impl Template {
    /// A message of `payload_bytes`, at least a stamp's, under `mask`.
    pub fn new(payload_bytes: usize, mask: [u8; 4]) -> Template {
        assert!(payload_bytes >= STAMP_BYTES, "a message carries its stamp");
        let payload: Vec<u8> = (0..payload_bytes as u64).map(pattern).collect();
        let bytes = masked_frame(BINARY, &payload, mask);
        let stamp_at = bytes.len() - payload_bytes;
        Template { bytes, mask, stamp_at }
    }

    /// Writes the stamp of the message that is sent next.
    pub fn stamp(&mut self, stamp: Stamp) {
        let link = stamp.link.to_be_bytes();
        let sequence = stamp.sequence.to_be_bytes();
        let place = &mut self.bytes[self.stamp_at..self.stamp_at + STAMP_BYTES];
        for (index, byte) in link.into_iter().chain(sequence).enumerate() {
            place[index] = byte ^ self.mask[index % 4];
        }
    }
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    masked_frame(PONG, payload, MASK)
}

/// A whole binary message.
pub fn binary(payload: &[u8]) -> Vec<u8> {
    masked_frame(BINARY, payload, MASK)
}

/// A close with a code.
pub fn close(code: u16) -> Vec<u8> {
    masked_frame(CLOSE, &code.to_be_bytes(), MASK)
}

/// A whole text message.
pub fn text(payload: &str) -> Vec<u8> {
    masked_frame(TEXT, payload.as_bytes(), MASK)
}

fn masked_frame(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    frame
}

fn pattern(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// A whole frame of a server's, which is short.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerFrame {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A close, with whatever it says.
    Close,
}

/// Takes the first frame that is no ping off `input`, if it is there whole. A session is over before an answer to a
/// ping is missed. Errors: it is nothing that is waited for in a session.
pub fn take_server_frame(input: &mut Vec<u8>) -> Result<Option<ServerFrame>, String> {
    while let [first, length @ 0..=125, ..] = input[..]
        && first == 0x80 | PING
        && input.len() >= 2 + usize::from(length)
    {
        input.drain(..2 + usize::from(length));
    }
    let (payload_at, length) = match input[..] {
        [_, length @ 0..=125, ..] => (2, usize::from(length)),
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, length, ..] if length > 126 => return Err(format!("a length byte of {length:#04x}")),
        _ => return Ok(None),
    };
    if input.len() < payload_at + length {
        return Ok(None);
    }
    let payload = input[payload_at..payload_at + length].to_vec();
    let frame = match input[0] & 0x0f {
        _ if input[0] & 0xf0 != 0x80 => Err(format!("a frame that begins {:#04x}", input[0])),
        TEXT => String::from_utf8(payload).map(ServerFrame::Text).map_err(|error| error.to_string()),
        BINARY => Ok(ServerFrame::Binary(payload)),
        CLOSE => Ok(ServerFrame::Close),
        other => Err(format!("an unexpected frame of opcode {other}")),
    }?;
    input.drain(..payload_at + length);
    Ok(Some(frame))
}

/// Something that arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The end of a message whose sampled bytes were all right.
    Message(Stamp),
    /// A ping to be answered with its payload.
    Ping(Vec<u8>),
}

/// Reads the frames of one connection, piece by piece.
pub struct Reader {
    message_bytes: u64,
    header: [u8; 14],
    header_bytes: usize,
    frame: Option<Frame>,
    /// Payload bytes seen of the message that is under way.
    offset: u64,
    stamp: [u8; STAMP_BYTES],
    /// Payload of the control frame that is under way.
    control: Vec<u8>,
    /// Payload bytes of messages, from the start.
    pub payload_bytes: u64,
}

struct Frame {
    opcode: u8,
    is_last: bool,
    mask: [u8; 4],
    length: u64,
    seen: u64,
}

impl Reader {
    /// For messages of exactly `message_bytes`.
    pub fn new(message_bytes: usize) -> Reader {
        Reader {
            message_bytes: message_bytes as u64,
            header: [0; 14],
            header_bytes: 0,
            frame: None,
            offset: 0,
            stamp: [0; STAMP_BYTES],
            control: Vec::new(),
            payload_bytes: 0,
        }
    }

    /// Takes bytes off the front of `input` up to the next arrival, or all of them. Errors: what was not as
    /// sent.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Arrival>, String> {
        loop {
            let Some(frame) = &mut self.frame else {
                match self.take_header(input)? {
                    Some(frame) => self.frame = Some(frame),
                    None => return Ok(None),
                }
                continue;
            };
            let count = (frame.length - frame.seen).min(input.len() as u64) as usize;
            let (piece, rest) = input.split_at(count);
            *input = rest;
            if is_control(frame.opcode) {
                let seen = frame.seen as usize;
                self.control
                    .extend(piece.iter().enumerate().map(|(at, byte)| byte ^ frame.mask[(seen + at) % 4]));
            } else {
                check_piece(piece, frame, self.offset, &mut self.stamp)?;
                self.offset += count as u64;
                self.payload_bytes += count as u64;
            }
            frame.seen += count as u64;
            if frame.seen < frame.length {
                return Ok(None);
            }
            let (opcode, is_last) = (frame.opcode, frame.is_last);
            self.frame = None;
            if let Some(arrival) = self.end_of_frame(opcode, is_last)? {
                return Ok(Some(arrival));
            }
        }
    }

    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, String> {
        loop {
            let known = &self.header[..self.header_bytes];
            if let Some(frame) = parse_header(known)? {
                self.header_bytes = 0;
                return Ok(Some(frame));
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(None) };
            self.header[self.header_bytes] = *byte;
            self.header_bytes += 1;
            *input = rest;
        }
    }

    fn end_of_frame(&mut self, opcode: u8, is_last: bool) -> Result<Option<Arrival>, String> {
        match opcode {
            PING => return Ok(Some(Arrival::Ping(std::mem::take(&mut self.control)))),
            CLOSE => return Err(format!("closed by the peer: {}", close_text(&self.control))),
            other if is_control(other) => return Err(format!("an unexpected frame of opcode {other}")),
            _ if !is_last => return Ok(None),
            _ => {}
        }
        if self.offset != self.message_bytes {
            return Err(format!("a message of {} bytes instead of {}", self.offset, self.message_bytes));
        }
        self.offset = 0;
        let (link, sequence) = self.stamp.split_at(4);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        Ok(Some(Arrival::Message(Stamp { link: number(link), sequence: number(sequence) })))
    }
}

/// `None` while bytes are missing.
fn parse_header(bytes: &[u8]) -> Result<Option<Frame>, String> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    let length_bytes = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
    if rest.len() < length_bytes + mask_bytes {
        return Ok(None);
    }
    let opcode = first & 0x0f;
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) || first & 0x70 != 0 {
        return Err(format!("a frame header of {first:#04x} {second:#04x}"));
    }
    let length = match length_bytes {
        0 => u64::from(second & 0x7f),
        bytes => rest[..bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let mut mask = [0; 4];
    mask[..mask_bytes].copy_from_slice(&rest[length_bytes..length_bytes + mask_bytes]);
    Ok(Some(Frame { opcode, is_last: first & 0x80 != 0, mask, length, seen: 0 }))
}

/// Gathers the stamp and looks at the first and the last byte of the pattern in this piece.
fn check_piece(
    piece: &[u8],
    frame: &Frame,
    offset: u64,
    stamp: &mut [u8; STAMP_BYTES],
) -> Result<(), String> {
    let plain = |at: usize| piece[at] ^ frame.mask[((frame.seen + at as u64) % 4) as usize];
    let in_stamp = (STAMP_BYTES as u64).saturating_sub(offset).min(piece.len() as u64) as usize;
    for at in 0..in_stamp {
        stamp[offset as usize + at] = plain(at);
    }
    if in_stamp == piece.len() {
        return Ok(());
    }
    for at in [in_stamp, piece.len() - 1] {
        let place = offset + at as u64;
        if plain(at) != pattern(place) {
            return Err(format!("byte {place} of a message is {} instead of {}", plain(at), pattern(place)));
        }
    }
    Ok(())
}

fn is_control(opcode: u8) -> bool {
    opcode & 8 != 0
}

fn close_text(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("code {}, {:?}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "without a code".to_owned(),
    }
}

/// Proves that the reader sees what it must, before anything is believed of it: panics where it does not.
pub fn check_the_reader() {
    let stamp = Stamp { link: 3, sequence: 70_000 };
    let mut template = Template::new(200, MASK);
    template.stamp(stamp);
    let read = |bytes: &[u8], piece_bytes: usize| -> Result<Vec<Arrival>, String> {
        let mut reader = Reader::new(200);
        let mut arrivals = Vec::new();
        for mut piece in bytes.chunks(piece_bytes) {
            while let Some(arrival) = reader.next(&mut piece)? {
                arrivals.push(arrival);
            }
        }
        Ok(arrivals)
    };
    for piece_bytes in 1..=template.bytes.len() {
        assert_eq!(
            read(&template.bytes, piece_bytes),
            Ok(vec![Arrival::Message(stamp)]),
            "pieces of {piece_bytes}"
        );
    }
    let ping = masked_frame(PING, b"there?", MASK);
    assert_eq!(read(&ping, 1), Ok(vec![Arrival::Ping(b"there?".to_vec())]));
    let last = template.bytes.len() - 1;
    template.bytes[last] ^= 1;
    assert!(read(&template.bytes, 64).is_err(), "a changed byte goes unseen");
    assert!(
        read(&Template::new(199, ZERO_MASK).bytes, 64).is_err(),
        "a message that is too short goes unseen"
    );
    assert!(read(&masked_frame(CLOSE, &[0x0f, 0xa3], MASK), 64).is_err(), "a close goes unseen");
}
