//! The simulated driver: the contract of [`Driver`] over the virtual network.
//!
//! Holds one shard's connections, receive buffers and completions. Promises what the contract promises and,
//! beyond it, nothing: what a real driver may do late, in parts or not at all, this one does late, in parts
//! or not at all as often as the faults of the run say. A caller that breaks its side of the contract panics.
//! Never waits: the harness takes a turn when [`SimDriver::poll`] finds something or a deadline has passed.

use std::{collections::VecDeque, io, ops::Range};

use bytes::Bytes;

use super::{
    conns::{Accepting, Ready, ShutDown, Slot},
    network::{Found, Shared},
    pool::Pool,
};
use crate::{
    driver::{Chunk, Completion, Driver, DriverCounters, Pipe, PostFull, Read, SpliceIn},
    id::ConnId,
    time::{Now, Time},
};

/// A shard's driver in a simulation.
#[derive(Debug)]
pub struct SimDriver {
    pub(super) shard: u16,
    pub(super) network: Shared,
    pub(super) eager: bool,
    pub(super) pool: Pool,
    pub(super) slots: Vec<Slot>,
    pub(super) vacant: Vec<u32>,
    pub(super) ready: VecDeque<Ready>,
    pub(super) accepting: Accepting,
    pub(super) turn: u64,
    /// Chunks that the caller holds.
    pub(super) lent: usize,
    /// A pipe without bytes is free.
    pipes: Vec<Vec<u8>>,
    pub(super) counters: DriverCounters,
    /// Where buffers are gathered on their way back to the pool.
    pub(super) back: Vec<u32>,
}

impl SimDriver {
    /// The driver of `shard`. Accepting is off until [`Driver::resume_accept`].
    pub fn new(network: Shared, shard: u16) -> SimDriver {
        let terrain = network.borrow().terrain.clone();
        SimDriver {
            shard,
            network,
            eager: terrain.eager,
            pool: Pool::new(terrain.buffers, terrain.buffer_bytes),
            slots: Vec::new(),
            vacant: Vec::new(),
            ready: VecDeque::new(),
            accepting: Accepting::Off,
            turn: 0,
            lent: 0,
            pipes: vec![Vec::new(); terrain.pipes],
            counters: DriverCounters::default(),
            back: Vec::new(),
        }
    }

    /// Drops everything of a connection but the connection.
    fn discard(&mut self, conn: ConnId) {
        let turn = self.turn;
        let SimDriver { slots, pool, back, .. } = self;
        let Some(of) = &mut slots[conn.index as usize].conn else { return };
        if let Some((due, buffers)) = of.outbox.discard(back) {
            pool.take_back_later(due.max(turn + 1), buffers);
        }
        self.take_back();
    }
}

impl Driver for SimDriver {
    fn now(&self) -> Now {
        self.network.borrow().now()
    }

    fn wait(&mut self, _deadline: Option<Time>) -> io::Result<()> {
        self.invariants();
        self.poll();
        Ok(())
    }

    fn next(&mut self) -> Option<Completion> {
        assert_eq!(self.lent, 0, "a chunk is held over a call of `next`");
        loop {
            let done = match self.ready.pop_front()? {
                Ready::Done(done) => done,
                Ready::ToReceive(conn) => {
                    // What it finds takes its place at the front.
                    self.receive(conn, true);
                    continue;
                }
            };
            match &done {
                Completion::Received { conn, following, .. } => {
                    self.lent += 1;
                    let following = *following;
                    let of = self.get(*conn).expect("completions of closed connections are purged");
                    if matches!(of.reading, Read::Once { .. }) && following == 0 && of.stopping.is_none() {
                        of.reading = Read::Off;
                    }
                }
                Completion::Ended { conn, .. }
                | Completion::Stopped { conn }
                | Completion::Readable { conn } => {
                    let of = self.get(*conn).expect("completions of closed connections are purged");
                    of.reading = Read::Off;
                    of.armed = false;
                    of.stopping = None;
                }
                Completion::AcceptFailed { .. } => self.accepting = Accepting::Off,
                _ => (),
            }
            self.network.borrow().note(|| format!("shard {} {done:?}", self.shard));
            return Some(done);
        }
    }

    fn read(&mut self, conn: ConnId, how: Read) {
        let delay = if self.eager { 0 } else { self.lateness(|faults| faults.late_stop) };
        let (turn, eager) = (self.turn, self.eager);
        let Some(of) = self.get(conn).filter(|of| !of.posted) else { return };
        let was = if of.stopping.is_some() { Read::Off } else { of.reading };
        if std::mem::discriminant(&was) == std::mem::discriminant(&how) {
            return;
        }
        match (how, was) {
            (Read::Off, Read::Readiness) => {
                of.reading = Read::Off;
                of.armed = false;
                self.purge(conn, |done| matches!(done, Completion::Readable { .. }));
            }
            (Read::Off, _) => {
                of.stopping = Some(turn + delay);
                if eager {
                    of.armed = false;
                    self.purge(conn, |_| false);
                    self.ready.push_back(Ready::Done(Completion::Stopped { conn }));
                }
            }
            _ => {
                // What was received and not yet delivered is the one receive that is asked for.
                let resumed = of.stopping.take().is_some();
                of.reading = how;
                of.armed = true;
                if matches!(how, Read::Once { .. }) && self.is_delivering(conn) {
                    self.get(conn).expect("it was there above").armed = false;
                }
                if resumed {
                    // The answer to `Off` would no longer be true.
                    self.purge(conn, |done| matches!(done, Completion::Stopped { .. }));
                }
            }
        }
    }

    fn bytes_mut(&mut self, chunk: &Chunk) -> &mut [u8] {
        self.pool.memory(chunk)
    }

    fn release(&mut self, chunk: Chunk) {
        self.lent -= 1;
        self.pool.take_back(chunk.into_buffer());
    }

    fn send_chunk(&mut self, conn: ConnId, chunk: Chunk, range: Range<usize>) {
        assert!(range.end <= self.pool.memory(&chunk).len(), "sent range outside of its chunk");
        match self.get(conn) {
            Some(of) if !range.is_empty() && of.takes_sends() => {
                of.outbox.push_buffer(chunk.into_buffer(), range);
                self.lent -= 1;
                self.sent_something(conn);
            }
            _ => self.release(chunk),
        }
    }

    fn send_part(&mut self, conn: ConnId, chunk: &Chunk, range: Range<usize>) {
        let bytes = self.pool.memory(chunk)[range].to_vec();
        self.send_bytes(conn, &bytes);
    }

    fn send_vec(&mut self, conn: ConnId, bytes: Vec<u8>, start: usize) {
        self.send_bytes(conn, &bytes[start..]);
    }

    fn send_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(of) = self.get(conn) else { return };
        if !bytes.is_empty() && of.takes_sends() {
            of.outbox.push_bytes(bytes.to_vec());
            self.sent_something(conn);
        }
    }

    fn send_shared(&mut self, conns: &[ConnId], bytes: Bytes) {
        for &conn in conns {
            self.send_bytes(conn, &bytes);
        }
    }

    fn splice_in(&mut self, conn: ConnId, bytes_max: usize) -> SpliceIn {
        let Some(of) = self.get(conn) else { return SpliceIn::Unavailable };
        assert!(!of.armed && of.stopping.is_none(), "a connection that is read is spliced");
        let stream = of.stream;
        let Some(pipe) = self.pipes.iter().position(Vec::is_empty) else {
            return SpliceIn::Unavailable;
        };
        let mut network = self.network.borrow_mut();
        match network.readable(stream) {
            Found::Bytes(there) => {
                let count = network.receive_size(there.min(bytes_max));
                let mut bytes = vec![0; count];
                network.receive(stream, &mut bytes);
                self.counters.spliced_bytes += count as u64;
                self.pipes[pipe] = bytes;
                SpliceIn::Moved(Pipe(pipe as u32), count)
            }
            Found::Nothing => SpliceIn::Empty,
            Found::End => SpliceIn::Ended(None),
            Found::Reset => SpliceIn::Ended(Some(libc::ECONNRESET)),
        }
    }

    fn send_pipe(&mut self, conn: ConnId, pipe: Pipe) {
        let bytes = std::mem::take(&mut self.pipes[pipe.0 as usize]);
        self.send_bytes(conn, &bytes);
    }

    fn queued(&self, conn: ConnId) -> usize {
        let slot = self.slots.get(conn.index as usize).filter(|slot| slot.generation == conn.generation);
        slot.and_then(|slot| slot.conn.as_ref()).map_or(0, |conn| conn.outbox.queued())
    }

    fn held_bytes(&self) -> usize {
        self.conns().map(|conn| conn.outbox.held()).sum()
    }

    fn acked_bytes(&mut self, conn: ConnId) -> Option<u64> {
        let stream = self.get(conn)?.stream;
        Some(self.network.borrow().acked(stream))
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        let Some(stream) = self.get(conn).map(|of| of.stream) else { return false };
        matches!(self.network.borrow().readable(stream), Found::Bytes(_))
    }

    fn shut_down(&mut self, conn: ConnId) {
        let Some(of) = self.get(conn) else { return };
        if of.shut_down == ShutDown::No {
            of.shut_down = ShutDown::Asked;
        }
    }

    fn close(&mut self, conn: ConnId, reset: bool) {
        let Some(of) = self.get(conn) else { return };
        let stream = of.stream;
        self.discard(conn);
        self.purge(conn, |_| true);
        let slot = &mut self.slots[conn.index as usize];
        slot.conn = None;
        slot.generation += 1;
        self.vacant.push(conn.index);
        self.network.borrow_mut().let_go(stream, reset);
    }

    fn post(&mut self, conn: ConnId, shard: u16, tag: u64) -> Result<(), PostFull> {
        let Some(of) = self.get(conn) else { return Ok(()) };
        assert_eq!(of.reading, Read::Off, "a connection that is read is posted");
        assert!(of.outbox.queued() == 0, "a connection with bytes queued is posted");
        let stream = of.stream;
        if !self.network.borrow_mut().post(stream, shard, tag) {
            return Err(PostFull);
        }
        self.get(conn).expect("it was there above").posted = true;
        self.purge(conn, |_| true);
        Ok(())
    }

    fn take_back(&mut self, conn: ConnId) {
        if let Some(of) = self.get(conn) {
            of.posted = false;
        }
    }

    fn wake(&mut self, shard: u16) {
        self.network.borrow_mut().wake(shard);
    }

    fn stop_accept(&mut self) {
        if self.accepting != Accepting::Stopped {
            self.accepting = Accepting::Stopping;
        }
    }

    fn resume_accept(&mut self) {
        if self.accepting == Accepting::Off {
            self.accepting = Accepting::On;
        }
    }

    fn finish(&mut self) {
        let open = |(index, slot): (usize, &Slot)| {
            slot.conn.as_ref().map(|_| ConnId { index: index as u32, generation: slot.generation })
        };
        let all: Vec<ConnId> = self.slots.iter().enumerate().filter_map(open).collect();
        for conn in all {
            self.close(conn, false);
        }
        self.network.borrow_mut().stop_listening(self.shard);
        self.pool.settle(u64::MAX);
        self.ready.clear();
        let (buffers, free) = self.pool.levels();
        assert_eq!((buffers, self.lent), (free, 0), "receive buffers are missing");
        assert!(self.pipes.iter().all(Vec::is_empty), "a pipe with bytes is missing");
    }

    fn counters(&self) -> DriverCounters {
        let (buffers, free) = self.pool.levels();
        DriverCounters {
            buffers: buffers as u64,
            buffers_free: free as u64,
            buffers_exhausted: self.pool.exhausted,
            held_bytes: self.held_bytes() as u64,
            ..self.counters
        }
    }
}
