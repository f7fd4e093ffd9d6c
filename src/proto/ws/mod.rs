//! WebSocket frames (RFC 6455), from a client's bytes to what is relayed or understood. Pure.
//!
//! One state per connection, [`Inbound`], follows the client's frames through any segmentation. Between messages and
//! within them the connection is read in one of two ways: [`Inbound::relay`] rewrites frames in place for the other end,
//! [`Inbound::collect`] gathers whole messages for a dialect. The way may change after any message.
//!
//! Both work through a buffer by a [`Cursor`] and return at whatever the caller has to act on; called again with the
//! same cursor they go on behind it.

use std::ops::Range;

use crate::reason::Reason;

/// Where the work on a buffer stands.
///
/// Invariant: `out.start <= out.end <= read <= buf.len()`, and at the start of a chunk `read - out.end >= HEADROOM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The next input byte.
    pub read: usize,
    /// The rewritten frames so far: one contiguous run, to be sent as it is.
    pub out: Range<usize>,
}

impl Cursor {
    /// A cursor for input that starts at `read`, with everything in front of it free to write.
    pub fn at(read: usize) -> Cursor {
        let start = read - crate::driver::HEADROOM;
        Cursor { read, out: start..start }
    }
}

/// A control frame's payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Control {
    len: u8,
    bytes: [u8; crate::limits::CONTROL_FRAME_BYTES_MAX],
}

/// Why `relay` or `collect` returned.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // Each variant names its fields.
pub enum Step {
    /// The input is used up.
    Empty,
    /// The payload budget is used up and input is left (`relay` only).
    Budget,
    /// A ping to be answered with its payload.
    Ping(Control),
    /// A pong.
    Pong,
    /// A valid close frame: its code (`None` where it had none). Nothing after it is to be read.
    Close(Option<u16>),
    /// A whole message (`collect` only): text (checked UTF-8) or binary.
    Message { text: bool, payload: Payload },
    /// A data frame's payload of at least `splice_min` bytes with a zero mask starts here (`relay` only): the caller may move the rest
    /// of the frame, `Inbound::frame_left` bytes, itself and report by `Inbound::skip`; or call again to go on copying.
    Spliceable,
    /// The client broke the protocol: `ProtocolError`, `BadUtf8` or `MessageTooBig`. Nothing after it is to be read.
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

/// One connection's inbound frame state.
#[derive(Debug)]
pub struct Inbound {}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({:02x?})", &self.bytes[..usize::from(self.len)])
    }
}
