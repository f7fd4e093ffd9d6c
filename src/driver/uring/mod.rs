//! The driver on io_uring: completions from the kernel, one system call a turn.
//!
//! Calls only change what is wanted of a connection; before the driver waits, everything that changed is
//! **settled**: operations are pushed or cancelled until what is in flight agrees with what is wanted.
//! Receive buffers are handed to the kernel at the same moment. A connection that is closed keeps its slot,
//! and the memory of its sends, until the last completion of its operations; only then is its descriptor
//! closed.
//!
//! - `ring`: the queues; `token`: names of operations; `provided`: the kernel's buffer ring; `probe`: whether
//!   all of this is to be had.
//! - `conn`: one connection; `receive`, `send`, `accept`, `park`: what is done for it.

mod accept;
mod conn;
mod park;
mod probe;
mod provided;
mod receive;
mod ring;
mod send;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::VecDeque,
    io,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use bytes::Bytes;
use io_uring::cqueue;

pub(super) use self::probe::probe;
use self::{
    accept::Acceptor,
    conn::{Conn, Receiving, Sending},
    park::Park,
    provided::Provided,
    ring::{Queues, Ring},
    token::{Op, Token},
};
use super::{
    Chunk, Clock, Completion, Driver, DriverCounters, HEADROOM, Pipe, PoolOptions, PostFull, Read, Setup,
    SpliceIn,
    buffers::Pool,
    outbox::Memory,
    pending::Pending,
    pipes::Pipes,
    post::Ends,
    slots::Slots,
    socket::{self, errno, is_not_now},
};
use crate::{
    id::ConnId,
    time::{Now, Time},
};

/// Direct reads in one turn, while buffers are scarce. As many as the default pool has buffers, and a read keeps its
/// buffer until the turn's sends have left: with that pool buffers end the reading first, and the bound is there for
/// larger ones, whose sends would wait for all of it.
const DIRECT_READS_PER_TURN: usize = 64;
/// How long `finish` waits for operations that were cancelled. They end at once; this only bounds a bug.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// One shard's sockets on io_uring. See `crate::driver` for the contract.
#[derive(Debug)]
pub struct UringDriver {
    clock: Clock,
    ring: Ring,
    /// The three that the kernel may be using. Dropped only with nothing in flight, else leaked: see `drop`.
    provided: ManuallyDrop<Provided>,
    memory: ManuallyDrop<Memory>,
    slots: ManuallyDrop<Slots<Conn>>,
    connections_max: usize,
    pending: Pending,
    /// Those to be settled before the driver waits.
    changed: Vec<ConnId>,
    /// Those that found no buffer, in the order in which that happened.
    starved: VecDeque<ConnId>,
    /// A receive found no buffer, and not all that starved have been served since.
    scarce: bool,
    direct_reads_left: usize,
    acceptor: Acceptor,
    park: Park,
    post: Ends,
    post_watched: bool,
    counters: DriverCounters,
    /// The ring and the descriptors belong to one thread.
    not_send: PhantomData<*const ()>,
}

/// Memory that the driver of one shard locks, in bytes.
pub fn locked_bytes(pool: PoolOptions) -> u64 {
    ring::locked_bytes(pool.buffers)
}

impl UringDriver {
    /// Errors: the ring or its buffers cannot be had (see [`super::choose`]).
    pub fn new(setup: Setup) -> io::Result<UringDriver> {
        UringDriver::with_queues(setup, Queues::DEFAULT)
    }

    fn with_queues(setup: Setup, queues: Queues) -> io::Result<UringDriver> {
        let ring = Ring::new(queues)?;
        let pool = Pool::new(setup.pool);
        let provided = Provided::register(&ring, &pool)?;
        Ok(UringDriver {
            clock: setup.clock,
            ring,
            provided: ManuallyDrop::new(provided),
            memory: ManuallyDrop::new(Memory::new(pool, Pipes::new(setup.pipes_max))),
            slots: ManuallyDrop::new(Slots::new()),
            connections_max: setup.connections_max as usize,
            pending: Pending::default(),
            changed: Vec::new(),
            starved: VecDeque::new(),
            scarce: false,
            direct_reads_left: 0,
            acceptor: Acceptor::new(setup.listeners),
            park: Park::new(setup.park_after, setup.clock.at())?,
            post: setup.post,
            post_watched: false,
            counters: DriverCounters::default(),
            not_send: PhantomData,
        })
    }

    /// Puts a socket under the driver's care; gives it back, closed, when there is no slot.
    fn admit(&mut self, socket: OwnedFd) -> Option<ConnId> {
        let conn = self.slots.insert(Conn::new(socket)).ok()?;
        self.change(conn);
        Some(conn)
    }

    /// A connection that may still be named by calls.
    fn open(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.slots.get_mut(conn).filter(|state| !state.closing)
    }

    /// Has a connection settled before the driver waits.
    fn change(&mut self, conn: ConnId) {
        if let Some(state) = self.slots.get_mut(conn)
            && !std::mem::replace(&mut state.changed, true)
        {
            self.changed.push(conn);
        }
    }

    /// Makes what is in flight agree with what is wanted.
    fn settle(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        state.changed = false;
        if state.closing {
            self.cancel_all(conn);
            self.free(conn);
        } else if !state.posted {
            self.settle_receiving(conn);
            self.settle_sending(conn);
        }
    }

    /// Tells everything in flight on a connection to end.
    fn cancel_all(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        if state.receiving != Receiving::Nothing && !std::mem::replace(&mut state.receive_cancelled, true) {
            self.ring.cancel(Token::new(Op::Receive, conn));
        }
        // A send that never waits is over by itself.
        if matches!(state.sending, Sending::Waiting | Sending::Room) {
            self.ring.cancel(Token::new(Op::Send, conn));
        }
        if state.watching {
            self.ring.cancel(Token::new(Op::Watch, conn));
        }
    }

    /// Gives up the slot and the descriptor of a closed connection once nothing is in flight.
    fn free(&mut self, conn: ConnId) {
        if self.slots.get(conn).is_none_or(|state| !state.closing || state.is_in_flight()) {
            return;
        }
        let mut state = self.slots.remove(conn).expect("looked at above");
        self.park.forget(&state);
        if let Some(outbox) = &mut state.outbox {
            self.memory.clear(outbox);
        }
        self.memory.recycle(&mut state.outbox);
        self.counters.syscalls += 1;
        drop(state.socket);
    }

    /// Takes one completion of the kernel's.
    fn complete(&mut self, entry: &cqueue::Entry) {
        let token = Token::from(entry.user_data());
        if !cqueue::more(entry.flags()) && token.op() != Op::Cancel {
            self.ring.landed();
        }
        let conn = token.conn();
        match token.op() {
            Op::Receive => self.on_receive(conn, entry.result(), entry.flags()),
            Op::Send => self.on_send(conn, entry.result()),
            Op::Watch => self.on_watch(conn, entry.result()),
            Op::Accept => self.on_accept(conn.index as usize, entry.result(), entry.flags()),
            Op::Post => {
                self.post_watched = false;
                if entry.result() >= 0 {
                    self.take_letters();
                }
            }
            Op::Park => self.on_park(entry.result()),
            // What was to be cancelled had ended already.
            Op::Cancel => {}
        }
        if self.slots.get(conn).is_some_and(|state| state.closing) {
            self.counters.stale += 1;
            self.free(conn);
        }
    }

    /// Pushes everything that is due, and enters the kernel.
    fn turn(&mut self, wait: bool, timeout: Option<Duration>) -> io::Result<()> {
        self.direct_reads_left = DIRECT_READS_PER_TURN;
        let mut changed = std::mem::take(&mut self.changed);
        if self.is_short_of_buffers() {
            self.send_ahead(&changed);
        }
        changed.append(&mut self.changed);
        self.relieve();
        if !self.scarce {
            self.provided.provide_all(&mut self.memory.pool);
        }
        for conn in changed.drain(..) {
            self.settle(conn);
        }
        // Settling changes nothing that needs settling again before the kernel has answered, except for
        // closing.
        changed.append(&mut self.changed);
        self.changed = changed;
        let wait = wait && self.pending.is_empty() && !self.can_read_directly() && !self.ring.is_ready();
        self.ring.enter(wait, timeout)
    }

    /// Whether most buffers are queued for sending, so that the next receives would find none or few.
    fn is_short_of_buffers(&self) -> bool {
        self.scarce || self.memory.pool.unlent() < self.memory.pool.count() / 2
    }

    /// Submits the sends by themselves and takes their buffers back before anything is received. One system call
    /// more, where receives would otherwise end for want of a buffer, each to be read directly and armed anew.
    fn send_ahead(&mut self, changed: &[ConnId]) {
        // What is ready already comes first.
        if self.ring.is_ready() {
            return;
        }
        for &conn in changed {
            if self.open(conn).is_some_and(|state| !state.posted) {
                self.settle_sending(conn);
            }
        }
        self.ring.submit();
        while let Some(entry) = self.ring.pop() {
            self.complete(&entry);
        }
    }

    /// Closes everything and waits until nothing is in flight, for a limited time.
    fn drain(&mut self) {
        self.pending.clear(&mut self.memory.pool);
        for conn in self.slots.ids() {
            self.close(conn, false);
        }
        self.close_listeners();
        if self.post_watched {
            self.ring.cancel(Token::driver(Op::Post, 0));
        }
        if self.park.watched {
            self.ring.cancel(Token::driver(Op::Park, 0));
        }
        let deadline = self.clock.at() + DRAIN_TIME_MAX;
        loop {
            // Failing to enter shows in what is left in flight.
            let _ = self.turn(self.ring.in_flight() > 0, Some(Duration::from_millis(100)));
            while let Some(entry) = self.ring.pop() {
                self.complete(&entry);
            }
            self.pending.clear(&mut self.memory.pool);
            if (self.ring.in_flight() == 0 && self.slots.len() == 0) || self.clock.at() > deadline {
                return;
            }
        }
    }
}

impl Driver for UringDriver {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn wait(&mut self, deadline: Option<Time>) -> io::Result<()> {
        self.arm_acceptor();
        if !self.post_watched {
            self.post_watched = true;
            self.ring.poll(self.post.receiving(), libc::POLLIN.into(), Token::driver(Op::Post, 0));
        }
        let now = self.clock.at();
        self.park_quiet(now);
        let timeout = deadline.map(|deadline| deadline.since(now));
        self.turn(timeout != Some(Duration::ZERO), timeout)
    }

    fn next(&mut self) -> Option<Completion> {
        loop {
            let is_open = |conn| self.slots.get(conn).is_some_and(Conn::is_open);
            if let Some(completion) = self.pending.pop(&mut self.memory.pool, is_open) {
                return Some(completion);
            }
            if let Some(entry) = self.ring.pop() {
                self.complete(&entry);
            } else if !self.read_directly() {
                return None;
            }
        }
    }

    fn read(&mut self, conn: ConnId, how: Read) {
        let state = self.slots.get_mut(conn).filter(|state| state.is_open() && !state.want.is_like(how));
        let Some(state) = state else { return };
        let before = std::mem::replace(&mut state.want, how);
        self.park.leave(state);
        state.stop_owed = how == Read::Off && (before != Read::Readiness || state.stop_owed);
        // One that starved has nothing in flight: it is settled anew, and its place in the list is void.
        state.starved = false;
        if state.stop_owed && state.receiving == Receiving::Nothing {
            state.stop_owed = false;
            self.pending.push(Completion::Stopped { conn });
        }
        self.change(conn);
    }

    fn bytes_mut(&mut self, chunk: &Chunk) -> &mut [u8] {
        self.memory.pool.bytes_mut(chunk)
    }

    fn release(&mut self, chunk: Chunk) {
        self.memory.pool.give_back(chunk.into_buffer());
    }

    fn send_chunk(&mut self, conn: ConnId, chunk: Chunk, range: Range<usize>) {
        assert!(range.end <= HEADROOM + chunk.len(), "a range of the chunk's own bytes");
        self.queue_chunk(conn, chunk, range);
    }

    fn send_part(&mut self, conn: ConnId, chunk: &Chunk, range: Range<usize>) {
        self.queue_part(conn, chunk, range);
    }

    fn send_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        self.queue_bytes(conn, bytes);
    }

    fn send_vec(&mut self, conn: ConnId, bytes: Vec<u8>, start: usize) {
        self.queue_vec(conn, bytes, start);
    }

    fn send_shared(&mut self, conns: &[ConnId], bytes: Bytes) {
        self.queue_shared(conns, bytes);
    }

    fn splice_in(&mut self, conn: ConnId, bytes_max: usize) -> SpliceIn {
        let Some(state) = self.slots.get_mut(conn).filter(|state| state.is_open()) else {
            return SpliceIn::Unavailable;
        };
        debug_assert!(
            matches!(state.receiving, Receiving::Nothing | Receiving::Readiness),
            "spliced from only while it is not read"
        );
        let Some(pipe) = self.memory.pipes.take() else { return SpliceIn::Unavailable };
        self.counters.syscalls += 1;
        let found = match socket::splice(state.socket.as_fd(), self.memory.pipes.write_end(&pipe), bytes_max)
        {
            Ok(bytes @ 1..) => {
                self.counters.spliced_bytes += bytes as u64;
                self.memory.pipes.filled(&pipe, bytes);
                return SpliceIn::Moved(pipe, bytes);
            }
            Ok(_) => SpliceIn::Ended(state.known_error()),
            Err(error) if is_not_now(&error) => SpliceIn::Empty,
            Err(error) => {
                state.broken = errno(&error);
                SpliceIn::Ended(state.known_error())
            }
        };
        self.memory.pipes.give_back(pipe.0);
        found
    }

    fn send_pipe(&mut self, conn: ConnId, pipe: Pipe) {
        self.queue_pipe(conn, pipe);
    }

    fn queued(&self, conn: ConnId) -> usize {
        let state = self.slots.get(conn).filter(|state| !state.closing);
        state.and_then(|state| state.outbox.as_ref()).map_or(0, |outbox| outbox.bytes())
    }

    fn held_bytes(&self) -> usize {
        self.memory.held_bytes()
    }

    fn acked_bytes(&mut self, conn: ConnId) -> Option<u64> {
        self.counters.syscalls += 1;
        socket::bytes_acked(self.open(conn)?.socket.as_fd())
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        self.counters.syscalls += 1;
        self.open(conn).is_some_and(|state| socket::has_unread(state.socket.as_fd()))
    }

    fn shut_down(&mut self, conn: ConnId) {
        if let Some(state) = self.open(conn) {
            state.finishing = true;
            self.change(conn);
        }
    }

    fn close(&mut self, conn: ConnId, reset: bool) {
        let Some(state) = self.open(conn) else { return };
        state.closing = true;
        if reset {
            socket::reset_on_close(state.socket.as_fd());
        }
        if state.is_in_flight() {
            self.change(conn);
        } else {
            self.free(conn);
        }
    }

    fn post(&mut self, conn: ConnId, shard: u16, tag: u64) -> Result<(), PostFull> {
        let state = self.slots.get_mut(conn).filter(|state| state.is_open()).ok_or(PostFull)?;
        debug_assert!(
            state.want == Read::Off && !state.stop_owed && state.outbox.is_none(),
            "nothing may be in flight"
        );
        self.counters.syscalls += 1;
        self.post.send(shard, tag, state.socket.as_fd())?;
        state.posted = true;
        Ok(())
    }

    fn take_back(&mut self, conn: ConnId) {
        if let Some(state) = self.slots.get_mut(conn) {
            state.posted = false;
            self.change(conn);
        }
    }

    fn wake(&mut self, shard: u16) {
        self.counters.syscalls += 1;
        self.post.wake(shard);
    }

    fn stop_accept(&mut self) {
        self.acceptor.stop();
    }

    fn resume_accept(&mut self) {
        self.acceptor.resume();
    }

    fn finish(&mut self) {
        self.drain();
        assert_eq!(self.ring.in_flight(), 0, "operations outlived their cancellation");
        assert_eq!(self.memory.pool.unlent(), self.memory.pool.count(), "a receive buffer was lost");
        assert!(self.memory.pipes.all_back(), "a pipe was lost");
        assert_eq!(self.memory.held_bytes(), 0, "bytes of no connection are on the heap");
    }

    fn counters(&self) -> DriverCounters {
        DriverCounters {
            buffers: self.memory.pool.count() as u64,
            buffers_free: self.memory.pool.unlent() as u64,
            held_bytes: self.memory.held_bytes() as u64,
            syscalls: self.counters.syscalls + self.ring.calls,
            parked: self.park.parked,
            parked_total: self.park.parked_total,
            woken_total: self.park.woken_total,
            ..self.counters
        }
    }
}

impl Drop for UringDriver {
    /// Order matters: first nothing may be in flight, then the buffer ring is unregistered, and only then may
    /// the memory go. What cannot be drained is leaked instead: the kernel may go on writing to it for as
    /// long as it likes, and the process does not notice, where freeing it would corrupt whoever gets it
    /// next.
    fn drop(&mut self) {
        if self.ring.in_flight() > 0 {
            self.drain();
        }
        let unregistered = self.ring.submitter().unregister_buf_ring(ring::BUFFER_GROUP);
        if self.ring.in_flight() > 0 || unregistered.is_err() {
            return;
        }
        self.pending.clear(&mut self.memory.pool);
        // SAFETY: not used again, here or by the kernel: nothing is in flight and the buffer ring is
        // unregistered.
        unsafe { ManuallyDrop::drop(&mut self.provided) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.memory) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.slots) };
    }
}
