//! WebSocket frames (RFC 6455), from a client's bytes to what is relayed or understood. Pure.
//!
//! One state per connection, [`Inbound`], follows the client's frames through any segmentation. Between
//! messages and within them the connection is read in one of two ways: [`Inbound::relay`] rewrites frames
//! in place for the other end, [`Inbound::collect`] gathers whole messages for a dialect. The way may
//! change after any message, and from collecting to relaying also within one ([`Inbound::relay_gathered`]).
//!
//! Both work through a buffer by a [`Cursor`] and return at whatever the caller has to act on; called again
//! with the same cursor they go on behind it.

mod close;
mod collect;
pub mod header;
mod inbound;
mod mask;
pub mod outbound;
#[cfg(test)]
pub mod tests;
mod translate;

use std::ops::Range;

pub use collect::{Bounds, Gathered};
pub use header::{Opcode, SERVER_HEADER_BYTES_MAX};
pub use inbound::Inbound;
pub use mask::{unmask, unmask_down};

use crate::{driver::HEADROOM, limits::CONTROL_FRAME_BYTES_MAX, reason::Reason};

/// Where the work on a buffer stands.
///
/// Invariant: `out.start <= out.end <= read <= buf.len()`, and at the start of a chunk `read - out.end >=
/// HEADROOM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The next input byte.
    pub read: usize,
    /// The rewritten frames so far: one contiguous run, to be sent as it is.
    pub out: Range<usize>,
    /// Payload bytes of data frames in `out`: what the caller charges.
    pub payload: usize,
    /// Messages whose last byte is in `out`.
    pub messages: usize,
}

impl Cursor {
    /// A cursor for input that starts at `read`, with everything in front of it free to write.
    ///
    /// # Panics
    /// If fewer than `HEADROOM` bytes are in front of it.
    pub fn at(read: usize) -> Cursor {
        let start = read.checked_sub(HEADROOM).expect("every chunk has headroom in front of it");
        Cursor { read, out: start..start, payload: 0, messages: 0 }
    }
}

/// A control frame's payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Control {
    len: u8,
    bytes: [u8; CONTROL_FRAME_BYTES_MAX],
}

impl Control {
    /// A payload of at most 125 bytes.
    ///
    /// # Panics
    /// If it is longer.
    pub fn new(payload: &[u8]) -> Control {
        let mut control = Control::default();
        control.bytes[..payload.len()].copy_from_slice(payload);
        control.len = payload.len() as u8;
        control
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Default for Control {
    /// An empty payload.
    fn default() -> Control {
        Control { len: 0, bytes: [0; CONTROL_FRAME_BYTES_MAX] }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({:02x?})", self.payload())
    }
}

/// Why `relay` or `collect` returned.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // Each variant names its fields.
pub enum Step {
    /// The input is used up.
    Empty,
    /// The payload budget is used up and input is left (`relay` only). Take the run away (copy or send it),
    /// then go on with `Cursor::at(cursor.read)`: what is left starts inside a frame, so its header needs
    /// the headroom.
    Budget,
    /// A ping to be answered with its payload.
    Ping(Control),
    /// A pong.
    Pong,
    /// A valid close frame: its code (`None` where it had none). Nothing after it is to be read.
    Close(Option<u16>),
    /// A whole message (`collect` only): text (checked UTF-8) or binary.
    Message { text: bool, payload: Payload },
    /// A message above the caller's maximum (`collect` only), said at the header that exceeds it. Nothing
    /// after it is to be read.
    TooLong,
    /// A message that has to be gathered wants this much room and there is less (`collect` only). Nothing
    /// of it is taken; call again with the rest of the input when there is.
    NoRoom(usize),
    /// At least `splice_min` bytes of a zero-mask data frame are still to come (`relay` only), said once
    /// per frame: the caller may move the rest of the frame, `Inbound::frame_left` bytes, itself and report
    /// by `Inbound::skip`; or call again to go on copying.
    Spliceable,
    /// The client broke the protocol: `ProtocolError`, `BadUtf8` or `MessageTooBig`. Nothing after it is to
    /// be read.
    Fault(Reason),
}

/// Where a collected message lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// In the buffer, unmasked.
    Here(Range<usize>),
    /// Gathered from several frames or chunks.
    Gathered(Vec<u8>),
}
