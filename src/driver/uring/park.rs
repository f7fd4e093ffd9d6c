//! Parking: a connection that has been quiet waits in an epoll set instead of holding a receive in the kernel.
//!
//! An armed multishot receive costs some 550 B more of kernel memory than the place of its socket in an epoll
//! set; the first bytes to a parked connection cost a system call more (docs/BENCHMARKS.md, "Parking"). A hand
//! goes round the table once in `after`, as in the clock algorithm of page replacement: whoever has received
//! nothing since it last came by has its receive cancelled, and stands in the set once that has ended. The
//! ring polls the set.
//!
//! - The first bytes to a parked connection are fetched by one receive that does not wait; it stays parked,
//!   so that the pongs of idle peers cost little and bring nobody back.
//! - A second time before the hand comes round, bytes that fill a buffer, an end, or a read of another kind
//!   take it back to the ring.
//!
//! Registrations are edge-triggered, and adding one reports what is there already: bytes that come while the
//! receive is being cancelled are seen. Promises that the shard cannot tell: a stream that was asked for stays
//! asked for.

use std::{io, os::fd::AsFd, time::Duration};

use super::{
    UringDriver,
    conn::{Conn, Receiving},
    token::{Op, Token},
};
use crate::{
    driver::{Read, poller::Poller},
    id::ConnId,
    time::Time,
};

/// Where a connection stands between the ring and the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parking {
    /// In the ring.
    No,
    /// Its receive is being cancelled; it is parked once that has ended, unless bytes came.
    Leaving,
    /// In the set.
    Parked,
}

/// The set, and the hand that fills it.
#[derive(Debug)]
pub(super) struct Park {
    set: Poller,
    /// How long a connection is quiet before it is parked, and up to twice that; zero parks none.
    after: Duration,
    /// The place that the hand comes to next.
    hand: usize,
    /// Up to when the hand has moved.
    moved_at: Time,
    /// A poll of the set is in flight.
    pub(super) watched: bool,
    /// Connections in the set.
    pub(super) parked: u64,
    /// Times that one was parked.
    pub(super) parked_total: u64,
    /// Times that a parked one had something to read.
    pub(super) woken_total: u64,
}

impl Park {
    pub(super) fn new(after: Duration, now: Time) -> io::Result<Park> {
        let set = Poller::new()?;
        Ok(Park {
            set,
            after,
            hand: 0,
            moved_at: now,
            watched: false,
            parked: 0,
            parked_total: 0,
            woken_total: 0,
        })
    }

    /// Puts a socket in the set; `false` where the kernel has no memory or allowance for it.
    fn add(&mut self, conn: ConnId, state: &mut Conn) -> bool {
        let name = u64::from(conn.index) << 32 | u64::from(conn.generation);
        let added = self.set.add(state.socket.as_fd(), PARKED_MASK, name).is_ok();
        state.parking = if added { Parking::Parked } else { Parking::No };
        self.parked += u64::from(added);
        self.parked_total += u64::from(added);
        added
    }

    /// Takes a connection out of the set, or back from its way there.
    pub(super) fn leave(&mut self, state: &mut Conn) {
        if std::mem::replace(&mut state.parking, Parking::No) == Parking::Parked {
            self.parked -= 1;
            self.set.remove(state.socket.as_fd());
        }
    }

    /// A parked connection's socket is about to be closed, which takes it out of the set.
    pub(super) fn forget(&mut self, state: &Conn) {
        self.parked -= u64::from(state.parking == Parking::Parked);
    }

    /// How many places the hand is to move by `now`, over a table of so many.
    fn due(&mut self, places: usize, now: Time) -> usize {
        let since_us = now.since(self.moved_at).as_micros();
        let after_us = self.after.as_micros().max(1);
        let due = usize::try_from(since_us * places as u128 / after_us).unwrap_or(usize::MAX);
        if due >= HAND_PLACES_MAX {
            self.moved_at = now;
            return HAND_PLACES_MAX.min(places);
        }
        // What is less than a place is kept for the next turn.
        self.moved_at =
            self.moved_at + Duration::from_micros((due as u128 * after_us / places.max(1) as u128) as u64);
        due.min(places)
    }
}

impl UringDriver {
    /// Moves the hand as far as the time says, and watches the set while somebody is in it.
    pub(super) fn park_quiet(&mut self, now: Time) {
        if self.park.after.is_zero() {
            return;
        }
        let places = self.slots.places();
        for _ in 0..self.park.due(places, now) {
            self.park.hand = (self.park.hand + 1) % places;
            let place = u32::try_from(self.park.hand).expect("bounded by SLOTS_MAX");
            if let Some(conn) = self.slots.at(place) {
                self.pass_by(conn);
            }
        }
        if self.park.parked > 0 && !self.park.watched {
            self.park.watched = true;
            self.ring.poll(self.park.set.as_fd(), libc::POLLIN.into(), Token::driver(Op::Park, 0));
        }
    }

    /// The hand comes by a connection.
    fn pass_by(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        let was_active = std::mem::take(&mut state.active);
        let rests = state.is_open() && state.want == Read::Stream && state.receiving == Receiving::Stream;
        if was_active
            || !rests
            || state.parking != Parking::No
            || state.outbox.is_some()
            || state.receive_cancelled
        {
            return;
        }
        state.parking = Parking::Leaving;
        state.receive_cancelled = true;
        self.ring.cancel(Token::new(Op::Receive, conn));
    }

    /// Whether a connection that wants its stream waits for it in the set, or is on its way there; else it is to
    /// be served by the ring.
    pub(super) fn rests(&mut self, conn: ConnId) -> bool {
        let Some(state) = self.slots.get_mut(conn) else { return false };
        match state.parking {
            Parking::No => false,
            Parking::Parked => true,
            Parking::Leaving if state.receiving != Receiving::Nothing => true,
            // Something came meanwhile.
            Parking::Leaving if state.active => {
                state.parking = Parking::No;
                false
            }
            Parking::Leaving => {
                self.counters.syscalls += 1;
                self.park.add(conn, state)
            }
        }
    }

    /// The set has something: fetches from those that it names.
    pub(super) fn on_park(&mut self, result: i32) {
        self.park.watched = false;
        self.counters.syscalls += 1;
        if result < 0 || self.park.set.wait(Some(Duration::ZERO)).is_err() {
            return;
        }
        for number in 0..self.park.set.taken() {
            let event = self.park.set.event(number);
            let index = u32::try_from(event.token >> 32).expect("shifted");
            let generation = u32::try_from(event.token & u64::from(u32::MAX)).expect("masked");
            self.wake(ConnId { index, generation }, event.mask.cast_signed());
        }
    }

    fn wake(&mut self, conn: ConnId, mask: i32) {
        let Some(state) = self.slots.get_mut(conn).filter(|state| state.is_open()) else {
            self.counters.stale += 1;
            return;
        };
        if state.parking != Parking::Parked {
            return;
        }
        self.park.woken_total += 1;
        let ends = mask & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0;
        if !ends && !state.active && !self.scarce && state.receiving == Receiving::Nothing {
            state.receiving = Receiving::Fetch;
            self.ring.fetch(state.socket.as_fd(), Token::new(Op::Receive, conn));
        } else {
            self.counters.syscalls += 1;
            self.park.leave(state);
            self.change(conn);
        }
    }
}

/// Whose edges wake a parked connection; errors and hang-ups always do.
const PARKED_MASK: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
/// Places that the hand moves in one turn at most, some microseconds' work: a table of a million is gone round
/// in a thousand turns, however long that takes.
const HAND_PLACES_MAX: usize = 1024;
