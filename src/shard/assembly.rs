//! The memory of messages that have begun and are not whole.
//!
//! Each reserves what it may need when it begins, out of a budget of the shard; one for which there is no room is not
//! read, and begins when its turn comes. So the sum is bounded whatever peers announce, and a message that has begun
//! always can become whole. A peer that begins one and does not go on would keep the others waiting: while some wait,
//! messages that have been there for longer than a slow peer is borne end with their connections.
//!
//! Anybody may be a connection without a role, so those have a budget of their own, and less time: they can keep each
//! other waiting, and nobody else.

use std::{collections::VecDeque, time::Duration};

use super::{Shard, conn::Conn, shared::Settings};
use crate::{
    driver::Driver,
    id::ConnId,
    proto::ws::{Bounds, Gathered},
    reason::Reason,
    time::Time,
};

/// Whose messages a budget is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Connections that have a role.
    Settled,
    /// Those that have none yet.
    Stranger,
}

impl Class {
    const ALL: [Class; 2] = [Class::Settled, Class::Stranger];

    pub(super) fn of(conn: &Conn) -> Class {
        if conn.settled { Class::Settled } else { Class::Stranger }
    }

    /// Bytes that messages of the class may reserve. One alone may have as many as it needs.
    fn budget(self, settings: &Settings) -> usize {
        match self {
            Class::Settled => settings.message_bytes_max,
            Class::Stranger => settings.message_bytes_max / STRANGERS_PART,
        }
    }

    /// How long a message may be there while others wait, and once more.
    fn patience(self, settings: &Settings) -> Duration {
        match self {
            Class::Settled => settings.slow_peer,
            Class::Stranger => settings.slow_peer.min(STRANGERS_PATIENCE),
        }
    }
}

/// The budgets of all classes.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// By [`Class`].
    budgets: [Budget; 2],
}

impl Assembly {
    /// Bytes reserved.
    pub(super) fn reserved(&self) -> usize {
        self.budgets.iter().map(|budget| budget.reserved).sum()
    }

    /// Connections that wait.
    pub(super) fn waiting(&self) -> usize {
        self.budgets.iter().map(|budget| budget.waiting.len()).sum()
    }

    /// What a message of a connection may take: who comes later does not overtake those that wait.
    pub(super) fn bounds(&self, id: ConnId, conn: &Conn, message_max: usize, settings: &Settings) -> Bounds {
        let class = Class::of(conn);
        let budget = &self.budgets[class as usize];
        let may_begin = budget.waiting.is_empty() || budget.admitted == Some(id);
        let bytes_max = class.budget(settings).max(message_max);
        Bounds { message_max, room: if may_begin { bytes_max.saturating_sub(budget.reserved) } else { 0 } }
    }

    /// A connection's reservation changed.
    pub(super) fn note(&mut self, class: Class, before: usize, after: usize) {
        let budget = self.of(class);
        budget.reserved = budget.reserved + after - before;
    }

    fn of(&mut self, class: Class) -> &mut Budget {
        &mut self.budgets[class as usize]
    }
}

/// A budget, and who waits for it.
#[derive(Debug, Default)]
struct Budget {
    reserved: usize,
    /// In the order of their arrival, with the room that each needs.
    waiting: VecDeque<(ConnId, usize)>,
    /// The one whose turn it is.
    admitted: Option<ConnId>,
    /// When messages were last looked at while some waited.
    swept_at: Option<Time>,
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
        let budget = self.assembly.of(Class::of(conn));
        budget.waiting.push_back((id, bytes));
        budget.swept_at.get_or_insert(self.now.at);
    }

    /// Drops what was gathered of a connection's message.
    pub(super) fn forget_gathered(&mut self, id: ConnId) {
        drop(self.take_gathered(id));
    }

    /// Takes away what was gathered of a connection's message.
    pub(super) fn take_gathered(&mut self, id: ConnId) -> Option<Box<Gathered>> {
        let conn = self.conns.get_mut(id)?;
        let gathered = conn.gathered.take()?;
        self.assembly.note(Class::of(conn), gathered.reserved(), 0);
        Some(gathered)
    }

    /// The connection has a role from here on: what it has reserved goes with it.
    pub(super) fn settle_reservation(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let bytes = reserved(conn.gathered.as_deref());
        self.assembly.note(Class::of(conn), bytes, 0);
        conn.settled = true;
        self.assembly.note(Class::Settled, 0, bytes);
    }

    /// Lets those begin that there is room for now, in order.
    pub(super) fn admit_waiting(&mut self) {
        for class in Class::ALL {
            self.admit_waiting_of(class);
        }
    }

    fn admit_waiting_of(&mut self, class: Class) {
        let bytes_max = class.budget(&self.shared.settings);
        while let Some((id, bytes)) = self.assembly.of(class).waiting.front().copied() {
            // One that is gone, or closing, needs nothing.
            let waits = self.conns.get(id).is_some_and(|conn| conn.awaits_room);
            let budget = self.assembly.of(class);
            if waits && budget.reserved > 0 && budget.reserved + bytes > bytes_max {
                return;
            }
            budget.waiting.pop_front();
            if let Some(conn) = self.conns.get_mut(id).filter(|_| waits) {
                conn.awaits_room = false;
                budget.admitted = Some(id);
                self.go_on(id);
                self.assembly.of(class).admitted = None;
                self.carry_out();
            }
        }
        self.assembly.of(class).swept_at = None;
    }

    /// Ends connections whose message has been held through a whole interval in which others waited.
    pub(super) fn sweep_messages(&mut self) {
        for class in Class::ALL {
            self.sweep_messages_of(class);
        }
    }

    fn sweep_messages_of(&mut self, class: Class) {
        let patience = class.patience(&self.shared.settings);
        let Some(swept_at) = &mut self.assembly.of(class).swept_at else { return };
        if self.now.at < *swept_at + patience {
            return;
        }
        *swept_at = self.now.at;
        for id in self.conns.ids() {
            let Some(conn) = self.conns.get_mut(id).filter(|conn| Class::of(conn) == class) else { continue };
            let Some(gathered) = conn.gathered.as_mut() else { continue };
            if std::mem::replace(&mut gathered.seen, true) {
                self.close(id, Reason::Overloaded);
                self.carry_out();
            }
        }
    }
}

/// What connections without a role may have beside those that have one, as a part of it.
const STRANGERS_PART: usize = 4;
/// A connection's first messages are small: who takes longer for one holds it up on purpose.
const STRANGERS_PATIENCE: Duration = Duration::from_secs(5);
