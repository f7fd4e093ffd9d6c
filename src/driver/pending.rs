//! Completions that are known but not yet taken.
//!
//! Promises the order in which they were put in, and that one whose connection was closed or posted meanwhile
//! is dropped instead of delivered, its chunk given back.

use std::collections::VecDeque;

use super::{Completion, buffers::Pool};
use crate::id::ConnId;

#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<Completion>,
}

impl Pending {
    pub(super) fn push(&mut self, completion: Completion) {
        self.queue.push_back(completion);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The oldest completion that nobody's close made stale.
    pub(super) fn pop(&mut self, pool: &mut Pool, is_open: impl Fn(ConnId) -> bool) -> Option<Completion> {
        loop {
            let completion = self.queue.pop_front()?;
            if connection_of(&completion).is_none_or(&is_open) {
                return Some(completion);
            }
            discard(completion, pool);
        }
    }

    /// Drops everything, giving chunks back.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        for completion in self.queue.drain(..) {
            discard(completion, pool);
        }
    }
}

fn discard(completion: Completion, pool: &mut Pool) {
    if let Completion::Received { chunk, .. } = completion {
        pool.give_back(chunk.into_buffer());
    }
}

fn connection_of(completion: &Completion) -> Option<ConnId> {
    match completion {
        Completion::Accepted { conn, .. }
        | Completion::Received { conn, .. }
        | Completion::Ended { conn, .. }
        | Completion::Stopped { conn }
        | Completion::Readable { conn }
        | Completion::Sent { conn, .. }
        | Completion::SendFailed { conn, .. }
        | Completion::Broken { conn, .. }
        | Completion::Arrived { conn, .. } => Some(*conn),
        Completion::AcceptFailed { .. }
        | Completion::AcceptStopped
        | Completion::ArrivalFailed { .. }
        | Completion::Woken => None,
    }
}
