//! The send queue of one simulated connection.
//!
//! Holds what was asked to be sent and not yet taken by the network, in order: pieces that wait for their
//! first attempt, a first attempt whose completion is not due, and what was left of it, on the heap. Promises
//! that pieces leave in order and that every receive buffer comes back by [`Outbox::report`] or
//! [`Outbox::discard`]. Never decides when: the driver does.

use std::{collections::VecDeque, ops::Range};

use super::network::{Network, StreamId};

/// A part of the queue in front of its first attempt.
#[derive(Debug)]
enum Piece {
    /// A part of a receive buffer.
    Buffer(u32, Range<usize>),
    /// A copy, or what a pipe held.
    Bytes(Vec<u8>),
}

/// An attempt that the network has answered and the driver has not been told of.
#[derive(Debug)]
struct Attempt {
    taken: usize,
    buffers: Vec<u32>,
    due: u64,
}

/// The send queue of one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    fresh: Vec<Piece>,
    attempt: Option<Attempt>,
    heap: VecDeque<u8>,
    /// Invariant: the bytes of `fresh`, of the attempt and of `heap`.
    queued: usize,
    failed: bool,
}

impl Outbox {
    /// Bytes queued that the driver does not know to be taken.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes that wait on the heap after their first attempt.
    pub(super) fn held(&self) -> usize {
        self.heap.len()
    }

    /// Whether something waits for its first attempt.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether an attempt is to be reported at `turn`.
    pub(super) fn is_due(&self, turn: u64) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.due <= turn)
    }

    /// Whether an attempt is under way.
    pub(super) fn is_attempting(&self) -> bool {
        self.attempt.is_some()
    }

    /// Whether sending broke: whatever is queued from then on is discarded.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Receive buffers in the queue.
    pub(super) fn buffers(&self) -> usize {
        let fresh = self.fresh.iter().filter(|piece| matches!(piece, Piece::Buffer(..))).count();
        fresh + self.attempt.as_ref().map_or(0, |attempt| attempt.buffers.len())
    }

    /// Queues a part of a receive buffer.
    pub(super) fn push_buffer(&mut self, buffer: u32, range: Range<usize>) {
        self.queued += range.len();
        self.fresh.push(Piece::Buffer(buffer, range));
    }

    /// Queues a copy.
    pub(super) fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.queued += bytes.len();
        self.fresh.push(Piece::Bytes(bytes));
    }

    /// The first attempt of everything fresh, to be reported at `due`. Behind a heap that waits already there
    /// is no attempt: the bytes join it and their buffers, added to `back`, are free.
    pub(super) fn launch(
        &mut self,
        network: &mut Network,
        stream: StreamId,
        pool: &[Box<[u8]>],
        due: u64,
        back: &mut Vec<u32>,
    ) -> Result<(), i32> {
        debug_assert!(self.attempt.is_none());
        let mut open = self.heap.is_empty();
        let mut attempt = Attempt { taken: 0, buffers: Vec::new(), due };
        let total: usize = self.fresh.iter().map(Piece::len).sum();
        let mut allowed = match network.dice.chance(network.faults.partial_send) {
            true => network.dice.below(total + 1),
            false => total,
        };
        for piece in self.fresh.drain(..) {
            let bytes: &[u8] = match &piece {
                Piece::Buffer(buffer, range) => &pool[*buffer as usize][range.clone()],
                Piece::Bytes(bytes) => bytes,
            };
            let taken = if open {
                let taken = network.send(stream, &bytes[..bytes.len().min(allowed)]);
                taken.unwrap_or_else(|_| {
                    self.failed = true;
                    0
                })
            } else {
                0
            };
            open &= taken == bytes.len();
            allowed -= taken;
            attempt.taken += taken;
            self.heap.extend(&bytes[taken..]);
            if let Piece::Buffer(buffer, _) = piece {
                // A buffer that was offered to the network is out until the completion.
                if taken > 0 { attempt.buffers.push(buffer) } else { back.push(buffer) }
            }
        }
        if attempt.taken > 0 || !attempt.buffers.is_empty() {
            self.attempt = Some(attempt);
        }
        if self.failed { Err(libc::ECONNRESET) } else { Ok(()) }
    }

    /// Goes on with what waits on the heap: how many bytes the network took.
    pub(super) fn go_on(&mut self, network: &mut Network, stream: StreamId) -> Result<usize, i32> {
        debug_assert!(self.attempt.is_none());
        let mut count = self.heap.len();
        if count > 0 && network.dice.chance(network.faults.partial_send) {
            count = network.dice.size(count);
        }
        let bytes = &self.heap.make_contiguous()[..count];
        let taken = network.send(stream, bytes).inspect_err(|_| self.failed = true)?;
        self.heap.drain(..taken);
        self.queued -= taken;
        Ok(taken)
    }

    /// Ends the attempt: how many bytes it took. Its buffers, added to `back`, are free.
    pub(super) fn report(&mut self, back: &mut Vec<u32>) -> usize {
        let Some(attempt) = self.attempt.take() else { return 0 };
        back.extend(attempt.buffers);
        self.queued -= attempt.taken;
        attempt.taken
    }

    /// Drops everything. Buffers that were not offered to the network, added to `back`, are free; those of an
    /// attempt under way are returned with the turn at which they will be.
    pub(super) fn discard(&mut self, back: &mut Vec<u32>) -> Option<(u64, Vec<u32>)> {
        for piece in self.fresh.drain(..) {
            if let Piece::Buffer(buffer, _) = piece {
                back.push(buffer);
            }
        }
        self.heap.clear();
        self.queued = 0;
        self.attempt.take().map(|attempt| (attempt.due, attempt.buffers))
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Buffer(_, range) => range.len(),
            Piece::Bytes(bytes) => bytes.len(),
        }
    }
}
