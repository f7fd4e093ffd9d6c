//! What the simulated driver keeps of each connection, and how it is found and dropped.
//!
//! Continues [`SimDriver`]. Promises that a stale name finds nothing, that what is dropped gives its
//! receive buffers back, and that the buffers that are out can be told one by one.

use std::collections::VecDeque;

use super::{
    driver::SimDriver,
    faults::Faults,
    network::{Found, StreamId},
    outbox::Outbox,
};
use crate::{
    driver::{Completion, Read},
    id::ConnId,
};

/// A place for a connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) conn: Option<Conn>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: StreamId,
    pub(super) outbox: Outbox,
    /// What the caller was led to believe: changes with what it asks and with what `next` delivers.
    pub(super) reading: Read,
    /// A receive is under way. After `Off`, or behind completions not yet taken, it differs from `reading`.
    pub(super) armed: bool,
    /// `Stopped` is owed from this turn on.
    pub(super) stopping: Option<u64>,
    /// `Broken` was reported.
    pub(super) broken: bool,
    /// A FIN is to follow what is queued, or has.
    pub(super) shut_down: ShutDown,
    pub(super) posted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ShutDown {
    No,
    Asked,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accepting {
    Off,
    On,
    Stopping,
    Stopped,
}

/// What waits to be taken by `next`.
#[derive(Debug)]
pub(super) enum Ready {
    Done(Completion),
    /// A readiness driver receives only when asked for the next completion.
    ToReceive(ConnId),
}

impl Conn {
    /// Whether bytes are still to be sent on it; after a failure they are discarded.
    pub(super) fn takes_sends(&self) -> bool {
        assert!(self.shut_down == ShutDown::No, "bytes are queued behind a FIN");
        !self.outbox.has_failed()
    }
}

impl SimDriver {
    /// The most that is queued on any connection, bytes.
    pub fn longest_queue(&self) -> usize {
        self.conns().map(|conn| conn.outbox.queued()).max().unwrap_or(0)
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.slots.iter().filter(|slot| slot.conn.is_some()).count()
    }

    /// Checks the driver's own sums: every buffer that is out is with the caller, in a completion or in a
    /// send queue.
    pub fn invariants(&self) {
        assert_eq!(self.lent, 0, "a chunk is held over the end of a turn");
        let waiting = |ready: &&Ready| matches!(ready, Ready::Done(Completion::Received { .. }));
        let out = self.ready.iter().filter(waiting).count()
            + self.conns().map(|conn| conn.outbox.buffers()).sum::<usize>()
            + self.pool.late();
        let (buffers, free) = self.pool.levels();
        assert_eq!(buffers, free + out, "buffers out are not buffers back");
        assert!(self.conns().all(|conn| conn.outbox.held() <= conn.outbox.queued()));
    }

    pub(super) fn conns(&self) -> impl Iterator<Item = &Conn> {
        self.slots.iter().filter_map(|slot| slot.conn.as_ref())
    }

    pub(super) fn get(&mut self, conn: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation == conn.generation { slot.conn.as_mut() } else { None }
    }

    /// Takes a stream in.
    pub(super) fn open(&mut self, stream: StreamId) -> ConnId {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, conn: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.conn = Some(Conn {
            stream,
            outbox: Outbox::default(),
            reading: Read::Off,
            armed: false,
            stopping: None,
            broken: false,
            shut_down: ShutDown::No,
            posted: false,
        });
        let conn = ConnId { index, generation: slot.generation };
        self.network.borrow().note(|| format!("shard {} {conn:?} is {stream:?}", self.shard));
        conn
    }

    /// Whether something is late that needs no more than turns.
    pub fn is_late(&self) -> bool {
        let network = self.network.borrow();
        self.conns().any(|conn| {
            let readable = conn.armed && network.readable(conn.stream) != Found::Nothing;
            readable || conn.stopping.is_some() || conn.outbox.is_attempting() || conn.outbox.has_fresh()
        })
    }

    /// Whether a wake-up has come or is on its way.
    pub fn will_wake(&self) -> bool {
        let woken = |ready: &Ready| matches!(ready, Ready::Done(Completion::Woken));
        self.ready.iter().any(woken) || self.network.borrow().will_wake(self.shard)
    }

    /// Drops what waits for a connection and `doomed` names.
    pub(super) fn purge(&mut self, conn: ConnId, doomed: impl Fn(&Completion) -> bool) {
        let mut kept = VecDeque::with_capacity(self.ready.len());
        for ready in self.ready.drain(..) {
            match ready {
                Ready::Done(done) if names(&done) == Some(conn) && doomed(&done) => {
                    if let Completion::Received { chunk, .. } = done {
                        self.pool.take_back(chunk.into_buffer());
                    }
                }
                Ready::ToReceive(of) if of == conn => (),
                other => kept.push_back(other),
            }
        }
        self.ready = kept;
    }

    /// Whether bytes of the connection wait to be taken by `next`.
    pub(super) fn is_delivering(&self, of: ConnId) -> bool {
        let received =
            |ready: &Ready| matches!(ready, Ready::Done(Completion::Received { conn, .. }) if *conn == of);
        self.ready.iter().any(received)
    }

    /// Empties `back` into the pool.
    pub(super) fn take_back(&mut self) {
        while let Some(buffer) = self.back.pop() {
            self.pool.take_back(buffer);
        }
    }

    /// How many turns something that is `rate` times in a million late takes.
    pub(super) fn lateness(&mut self, rate: impl FnOnce(&Faults) -> u32) -> u64 {
        let mut network = self.network.borrow_mut();
        let rate = rate(&network.faults);
        if network.dice.chance(rate) { network.dice.size(6) as u64 } else { 0 }
    }
}

/// The connection that a completion names.
fn names(done: &Completion) -> Option<ConnId> {
    match done {
        Completion::Received { conn, .. }
        | Completion::Accepted { conn, .. }
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
