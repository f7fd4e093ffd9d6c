//! The state of links and of their two ends. Small, because there may be hundreds of thousands.

use rustix::fd::OwnedFd;

use super::{
    payload::{Payload, Stamp},
    reader::Reader,
    talk::Talk,
    wire::Host,
};
use crate::scenario::Pattern;

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not there: not yet, or between two sessions.
    Down,
    /// Its handshakes are in progress.
    ComingUp,
    /// Both ends carry payload.
    Up,
    /// A session that is being closed in order.
    Closing,
    /// It met a mishap; what the relay makes of what is left of it is awaited.
    Struck,
    /// Lost, refused or found wrong. It stays so.
    Failed,
}

/// A link of this worker.
#[derive(Debug)]
pub struct Link {
    pub pattern: Pattern,
    /// The number of its part of the load.
    pub part: u16,
    pub state: State,
    /// Messages that the clock has asked of the client since the session began (`Pattern::Rate`), modulo 2^32.
    pub allowed: u32,
    /// The same before the session began, when nothing could be sent.
    pub skipped: u32,
    /// When, in nanoseconds of the worker's clock, the session began, its closing began, or the message under way left.
    pub since: u64,
    /// Payload bytes that arrived in the measured part, both directions.
    pub bytes: u64,
}

/// One end of a link.
#[derive(Debug, Default)]
pub struct End {
    pub socket: Option<OwnedFd>,
    /// Until it carries payload.
    pub talk: Option<Box<Talk>>,
    pub reader: Reader,
    /// Pongs and closes that the kernel has not taken; for a paired device also the rest of a message.
    pub backlog: Vec<u8>,
    /// Messages of which the kernel has taken every byte, or what it has not taken is in the backlog.
    pub sent: u32,
    pub received: u32,
    /// Bytes that the kernel has taken of the frame under way.
    pub taken: u32,
    /// Our close frame is sent or in the backlog.
    pub is_close_sent: bool,
    /// It is looked at again in the next turn, whatever epoll says.
    pub is_coming_back: bool,
}

impl End {
    /// Takes note that the kernel took `count` more bytes of this end's messages.
    pub fn advance(&mut self, mut count: u32, stamp: impl Fn(u32) -> Stamp, payload: &Payload) {
        loop {
            let left = payload.frame_bytes(stamp(self.sent)) - self.taken;
            if count < left {
                self.taken += count;
                return;
            }
            count -= left;
            self.taken = 0;
            self.sent = super::payload::following(self.sent);
        }
    }
}

/// A host of this worker, with its control connection.
pub struct HostEnd {
    pub identity: Host,
    pub socket: Option<OwnedFd>,
    pub talk: Option<Box<Talk>>,
    pub is_registered: bool,
}

// What an idle link costs beside the kernel's memory.
const _: () = assert!(2 * size_of::<End>() + size_of::<Link>() <= 320);
