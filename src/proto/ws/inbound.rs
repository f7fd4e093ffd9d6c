//! One connection's inbound frame state: what `relay` and `collect` have in common.
//!
//! Follows the client's frames through any segmentation: headers split at any byte, control frames between
//! data frames, the rules of fragmentation (RFC 6455 section 5.4). Plain data without pointers into a
//! buffer, small enough to be kept for every idle connection; only a control frame that is split over
//! chunks needs the heap, and gives it back.

use super::{
    Control, Cursor, Step, close,
    header::{self, CLIENT_HEADER_BYTES_MAX, Header, Opcode},
    mask,
};
use crate::{limits::RELAYED_MESSAGE_BYTES_MAX, reason::Reason};

/// One connection's inbound frame state.
///
/// Invariant: `promised <= left` in a data frame; `left`, `mask` and `fin` are those of `frame` and mean
/// nothing without one.
#[derive(Debug)]
pub struct Inbound {
    /// Payload bytes of the frame that have not been taken.
    pub(super) left: u64,
    /// The payload so far of a control frame that is split over chunks.
    split_control: Option<Box<Control>>,
    /// Payload bytes that the last written header announces and that have not been written.
    pub(super) promised: u32,
    /// Payload bytes of the message as far as its frames' headers are known; stays at the top.
    message_bytes: u32,
    /// The masking key, turned so that it starts at the next payload byte.
    pub(super) mask: [u8; 4],
    /// The first bytes of a header that is split over chunks.
    split_header: [u8; CLIENT_HEADER_BYTES_MAX - 1],
    split_header_len: u8,
    /// The frame whose payload comes next, or a header.
    pub(super) frame: Option<Opcode>,
    /// Whether the client's frame ends its message.
    pub(super) fin: bool,
    /// What the message is, from its first header until its last byte.
    pub(super) message: Option<Kind>,
    /// Whether a part of the message went out, so that the next one continues it.
    pub(super) continued: bool,
    /// Whether the frame was offered for splicing.
    pub(super) offered: bool,
}

// Every connection keeps one, idle or not.
const _: () = assert!(size_of::<Inbound>() <= 48);
// Saturating at the top of `message_bytes` keeps every message that is too large too large.
const _: () = assert!(RELAYED_MESSAGE_BYTES_MAX < u32::MAX as u64);

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Text,
    Binary,
}

impl Inbound {
    /// The state at the start of the stream.
    pub fn new() -> Inbound {
        Inbound {
            left: 0,
            split_control: None,
            promised: 0,
            message_bytes: 0,
            mask: [0; 4],
            split_header: [0; CLIENT_HEADER_BYTES_MAX - 1],
            split_header_len: 0,
            frame: None,
            fin: false,
            message: None,
            continued: false,
            offered: false,
        }
    }

    /// Whether no message is under way: the reading may change from `relay` to `collect`.
    pub fn is_between_messages(&self) -> bool {
        self.message.is_none()
    }

    /// Payload bytes of the current data frame that are still to come; zero between frames.
    pub fn frame_left(&self) -> u64 {
        if self.in_data() { self.left } else { 0 }
    }

    /// Payload bytes that the last header written by `relay` announced and that are still to be written:
    /// while it is not zero the output is inside a frame. Always zero after a chunk with `following == 0`.
    pub fn owed(&self) -> usize {
        self.promised as usize
    }

    /// Whether a data frame's payload comes next.
    pub(super) fn in_data(&self) -> bool {
        self.frame.is_some_and(|opcode| !opcode.is_control())
    }

    /// Reads headers and control frames up to a data frame with a payload or without, and returns its
    /// header; or the step to return.
    pub(super) fn next_data_frame(&mut self, buf: &mut [u8], cursor: &mut Cursor) -> Result<Header, Step> {
        loop {
            if self.frame.is_some() {
                return Err(self.control(buf, cursor));
            }
            let header = self.next_header(buf, cursor).map_err(Step::Fault)?.ok_or(Step::Empty)?;
            self.begin(&header).map_err(Step::Fault)?;
            if !header.opcode.is_control() {
                return Ok(header);
            }
        }
    }

    /// Payload bytes of the message as far as its frames' headers are known.
    pub(super) fn message_bytes(&self) -> u64 {
        u64::from(self.message_bytes)
    }

    /// Takes note that the frame's last payload byte was taken. Returns whether it ended its message.
    pub(super) fn end_data_frame(&mut self) -> bool {
        self.frame = None;
        if self.fin {
            self.message = None;
        }
        self.fin
    }

    /// Decodes the next header, across chunks; `None` takes all there is and waits for more.
    fn next_header(&mut self, buf: &[u8], cursor: &mut Cursor) -> Result<Option<Header>, Reason> {
        let input = &buf[cursor.read..];
        if self.split_header_len == 0
            && let Some(header) = header::decode(input)?
        {
            cursor.read += header.size;
            return Ok(Some(header));
        }
        let before = usize::from(self.split_header_len);
        let taken = input.len().min(CLIENT_HEADER_BYTES_MAX - before);
        let mut bytes = [0; CLIENT_HEADER_BYTES_MAX];
        bytes[..before].copy_from_slice(&self.split_header[..before]);
        bytes[before..before + taken].copy_from_slice(&input[..taken]);
        let known = &bytes[..before + taken];
        let header = header::decode(known)?;
        match &header {
            Some(header) => {
                cursor.read += header.size - before;
                self.split_header_len = 0;
            }
            None => {
                cursor.read += taken;
                self.split_header[..known.len()].copy_from_slice(known);
                self.split_header_len = known.len() as u8;
            }
        }
        Ok(header)
    }

    /// Enters a frame, if it may come here.
    fn begin(&mut self, header: &Header) -> Result<(), Reason> {
        match (header.opcode, self.message) {
            (Opcode::Text, None) => self.message = Some(Kind::Text),
            (Opcode::Binary, None) => self.message = Some(Kind::Binary),
            (Opcode::Continuation, Some(_)) => {}
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {}
            (Opcode::Text | Opcode::Binary, Some(_)) | (Opcode::Continuation, None) => {
                return Err(Reason::ProtocolError);
            }
        }
        self.frame = Some(header.opcode);
        self.left = header.len;
        self.mask = header.mask;
        if header.opcode.is_control() {
            return Ok(());
        }
        self.fin = header.fin;
        self.offered = false;
        if header.opcode != Opcode::Continuation {
            self.message_bytes = 0;
            self.continued = false;
        }
        let len = u32::try_from(header.len).unwrap_or(u32::MAX);
        self.message_bytes = self.message_bytes.saturating_add(len);
        Ok(())
    }

    /// Takes a control frame's payload, across chunks, and says what it means.
    fn control(&mut self, buf: &mut [u8], cursor: &mut Cursor) -> Step {
        let taken = (buf.len() - cursor.read).min(self.left as usize);
        let part = &mut buf[cursor.read..cursor.read + taken];
        self.mask = mask::unmask(part, self.mask);
        cursor.read += taken;
        self.left -= taken as u64;
        let whole = match (&mut self.split_control, self.left) {
            (None, 0) => Control::new(part),
            (None, _) => {
                self.split_control = Some(Box::new(Control::new(part)));
                return Step::Empty;
            }
            (Some(control), left) => {
                let len = usize::from(control.len);
                control.bytes[len..len + part.len()].copy_from_slice(part);
                control.len += part.len() as u8;
                if left > 0 {
                    return Step::Empty;
                }
                let whole = **control;
                self.split_control = None;
                whole
            }
        };
        match self.frame.take() {
            Some(Opcode::Ping) => Step::Ping(whole),
            Some(Opcode::Pong) => Step::Pong,
            _ => match close::decode(whole.payload()) {
                Ok(code) => Step::Close(code),
                Err(reason) => Step::Fault(reason),
            },
        }
    }
}

impl Default for Inbound {
    fn default() -> Inbound {
        Inbound::new()
    }
}
