//! One stream of the virtual network: two flows of bytes, and who still holds an end.
//!
//! A flow is ordered, bounded by a window, and ends with a FIN behind its last byte. Never looks at the bytes.

use std::{collections::VecDeque, net::SocketAddr};

use crate::time::Time;

/// One stream, for the whole run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) usize);

/// What reading a stream found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// This many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The other end sends no more.
    End,
    /// The stream was reset.
    Reset,
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) bytes: VecDeque<u8>,
    /// A FIN follows the bytes.
    pub(super) ended: bool,
    /// Nothing more is taken until then.
    pub(super) shut_until: Time,
    /// Bytes that left it at the receiver's end.
    pub(super) delivered: u64,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) peer: SocketAddr,
    pub(super) to_relay: Flow,
    pub(super) to_peer: Flow,
    pub(super) window: usize,
    /// Descriptors of this stream that shards hold, or the post.
    pub(super) relay_ends: u32,
    /// The peer still holds its end.
    pub(super) peer_open: bool,
    pub(super) reset: bool,
    /// The network reset it, not one of its ends.
    pub(super) by_fault: bool,
}

impl Flow {
    pub(super) fn push(&mut self, bytes: &[u8], window: usize, now: Time) -> usize {
        if self.ended || self.shut_until > now {
            return 0;
        }
        let count = bytes.len().min(window.saturating_sub(self.bytes.len()));
        self.bytes.extend(&bytes[..count]);
        count
    }

    pub(super) fn take(&mut self, count: usize) -> impl Iterator<Item = u8> {
        self.delivered += count as u64;
        self.bytes.drain(..count)
    }
}
