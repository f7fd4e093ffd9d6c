//! The memory of messages that have begun and are not whole.
//!
//! Each reserves what it may need when it begins, out of a budget of the shard; one for which there is no room is not
//! read, and begins when its turn comes. So the sum is bounded whatever peers announce, and a message that has begun
//! always can become whole. A peer that begins one and does not go on would keep the others waiting: while some wait,
//! messages that have been there for longer than a slow peer is borne end with their connections.

use std::collections::VecDeque;

use super::Shard;
use crate::{
    driver::Driver,
    id::ConnId,
    proto::ws::{Bounds, Gathered},
    reason::Reason,
    time::Time,
};

/// The budget, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    reserved: usize,
    /// In the order of their arrival, with the room that each needs.
    waiting: VecDeque<(ConnId, usize)>,
    /// The one whose turn it is.
    admitted: Option<ConnId>,
    /// When messages were last looked at while some waited.
    swept_at: Option<Time>,
}

impl Assembly {
    /// Bytes reserved.
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Connections that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What a message of a connection may take: who comes later does not overtake those that wait.
    pub(super) fn bounds(&self, conn: ConnId, message_max: usize, budget: usize) -> Bounds {
        let may_begin = self.waiting.is_empty() || self.admitted == Some(conn);
        Bounds { message_max, room: if may_begin { budget.saturating_sub(self.reserved) } else { 0 } }
    }

    /// A connection's reservation changed.
    pub(super) fn note(&mut self, before: usize, after: usize) {
        self.reserved = self.reserved + after - before;
    }
}

/// What a connection has reserved.
pub(super) fn reserved(gathered: Option<&Gathered>) -> usize {
    gathered.map_or(0, Gathered::reserved)
}

impl<D: Driver> Shard<D> {
    /// The connection's message has to wait for room.
    pub(super) fn wait_for_room(&mut self, id: ConnId, bytes: usize) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.awaits_room = true;
        self.counters.message_budget_waits += 1;
        self.assembly.waiting.push_back((id, bytes));
        self.assembly.swept_at.get_or_insert(self.now.at);
    }

    /// Drops what was gathered of a connection's message.
    pub(super) fn forget_gathered(&mut self, id: ConnId) {
        drop(self.take_gathered(id));
    }

    /// Takes away what was gathered of a connection's message.
    pub(super) fn take_gathered(&mut self, id: ConnId) -> Option<Box<Gathered>> {
        let gathered = self.conns.get_mut(id)?.gathered.take()?;
        self.assembly.note(gathered.reserved(), 0);
        Some(gathered)
    }

    /// Lets those begin that there is room for now, in order.
    pub(super) fn admit_waiting(&mut self) {
        let budget = self.shared.settings.message_bytes_max;
        while let Some((id, bytes)) = self.assembly.waiting.front().copied() {
            // One that is gone, or closing, needs nothing.
            let waits = self.conns.get(id).is_some_and(|conn| conn.awaits_room);
            if waits && self.assembly.reserved + bytes > budget {
                return;
            }
            self.assembly.waiting.pop_front();
            if let Some(conn) = self.conns.get_mut(id).filter(|_| waits) {
                conn.awaits_room = false;
                self.assembly.admitted = Some(id);
                self.go_on(id);
                self.assembly.admitted = None;
                self.carry_out();
            }
        }
        self.assembly.swept_at = None;
    }

    /// Ends connections whose message has been held through a whole interval in which others waited.
    pub(super) fn sweep_messages(&mut self) {
        let Some(swept_at) = self.assembly.swept_at else { return };
        if self.now.at < swept_at + self.shared.settings.slow_peer {
            return;
        }
        self.assembly.swept_at = Some(self.now.at);
        for id in self.conns.ids() {
            let Some(gathered) = self.conns.get_mut(id).and_then(|conn| conn.gathered.as_mut()) else {
                continue;
            };
            if std::mem::replace(&mut gathered.seen, true) {
                self.close(id, Reason::Overloaded);
                self.carry_out();
            }
        }
    }
}
