//! The timer wheel: many deadlines, most of them never reached.
//!
//! Pure: told the time, never reads it. Hierarchical, one millisecond a tick; arming and cancelling are O(1), a turn
//! without a due timer costs a comparison.

use crate::{dialect, id::ConnId, time::Time};

/// Why a timer was armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// A connection's own deadline: handshake, role, ping, close.
    Conn(ConnId),
    /// Paced bytes of the link whose client is this connection may be due.
    Pace(ConnId),
    /// Progress of a destination that bytes wait for.
    Progress(ConnId),
    /// A dialect's.
    Dialect(dialect::Alarm),
    /// The shard's own housekeeping, by number.
    Shard(u32),
}

/// An armed timer: slot and generation, so that cancelling a fired timer does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

/// The wheel.
#[derive(Debug)]
pub struct Wheel {}

impl Wheel {
    /// Arms a timer; one in the past is due at the next `pop`.
    pub fn arm(&mut self, _at: Time, _alarm: Alarm) -> TimerId {
        unimplemented!()
    }

    /// Cancels a timer; a stale id does nothing.
    pub fn cancel(&mut self, _timer: TimerId) {
        unimplemented!()
    }

    /// A time at or before the earliest deadline (never later than it, and always moving on when turns are taken at it);
    /// `None` without timers.
    pub fn next_deadline(&self) -> Option<Time> {
        unimplemented!()
    }

    /// Takes one timer that is due at `now`; never before its deadline.
    pub fn pop(&mut self, _now: Time) -> Option<Alarm> {
        unimplemented!()
    }
}
