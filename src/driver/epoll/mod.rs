//! The driver on epoll: readiness turned into completions.
//!
//! Every socket is registered once, edge-triggered; what an edge announced is remembered in the connection.
//! Connections with something to do stand in a list that is visited in rounds: one read each, so that no busy
//! socket starves the others. All reads share **one** buffer: a chunk is given back before the next read (the
//! trait's contract), so an idle connection costs a slot and the kernel's memory. Sends are written at once;
//! what the kernel does not take is copied to the heap.

mod accept;
mod conn;
mod receive;
mod send;

use std::{collections::VecDeque, io, marker::PhantomData, ops::Range, os::fd::AsFd};

use bytes::Bytes;

use self::{accept::ACCEPTS_PER_TURN, conn::Conn};
use super::{
    Chunk, Clock, Completion, Driver, DriverCounters, HEADROOM, Pipe, PoolOptions, PostFull, Read, Setup,
    SpliceIn,
    buffers::{EPOLL_BUFFER_BYTES, Pool},
    listen::Listener,
    outbox::Memory,
    pending::Pending,
    pipes::Pipes,
    poller::{Event, Poller},
    post::Ends,
    slots::Slots,
    socket::{self, errno, is_not_now},
};
use crate::{
    id::ConnId,
    time::{Now, Time},
};

const SOCKET_MASK: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
/// The post's token; listeners count up from the one after it; connections stay below, having 24 bits of
/// index.
const POST_TOKEN: u64 = 1 << 62;
const LISTENER_TOKEN: u64 = POST_TOKEN + 1;

/// One shard's sockets on epoll. See `crate::driver` for the contract.
#[derive(Debug)]
pub struct EpollDriver {
    clock: Clock,
    poller: Poller,
    slots: Slots<Conn>,
    connections_max: usize,
    memory: Memory,
    pending: Pending,
    /// Those to be visited, and how many of them belong to the present round.
    list: VecDeque<ConnId>,
    round: usize,
    /// Those with bytes to be sent before the driver waits.
    unsent: Vec<ConnId>,
    listeners: Vec<Listener>,
    accepting: bool,
    post: Ends,
    counters: DriverCounters,
    /// Descriptors belong to one thread's table.
    not_send: PhantomData<*const ()>,
}

fn token(conn: ConnId) -> u64 {
    u64::from(conn.index) << 32 | u64::from(conn.generation)
}

impl EpollDriver {
    /// Errors: no epoll instance or no memory for it.
    pub fn new(setup: Setup) -> io::Result<EpollDriver> {
        let poller = Poller::new()?;
        poller.add(setup.post.receiving(), libc::EPOLLIN, POST_TOKEN)?;
        let buffer_bytes = setup.pool.buffer_bytes.max(EPOLL_BUFFER_BYTES);
        let pool = Pool::new(PoolOptions { buffers: 1, buffer_bytes });
        Ok(EpollDriver {
            clock: setup.clock,
            poller,
            slots: Slots::new(),
            connections_max: setup.connections_max as usize,
            memory: Memory::new(pool, Pipes::new(setup.pipes_max)),
            pending: Pending::default(),
            list: VecDeque::new(),
            round: 0,
            unsent: Vec::new(),
            listeners: setup.listeners,
            accepting: false,
            post: setup.post,
            counters: DriverCounters::default(),
            not_send: PhantomData,
        })
    }

    /// Has a connection visited in the next round.
    fn enlist(&mut self, conn: ConnId) {
        if let Some(state) = self.slots.get_mut(conn)
            && !state.listed
        {
            state.listed = true;
            self.list.push_back(conn);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event.token {
            POST_TOKEN => self.take_letters(),
            LISTENER_TOKEN.. => {
                let listener = usize::try_from(event.token - LISTENER_TOKEN).expect("a small number");
                self.accept_from(listener, ACCEPTS_PER_TURN);
            }
            token => {
                let generation = u32::try_from(token & u64::from(u32::MAX)).expect("masked");
                let index = u32::try_from(token >> 32).expect("shifted");
                self.on_socket_event(ConnId { index, generation }, event.mask.cast_signed());
            }
        }
    }

    fn on_socket_event(&mut self, conn: ConnId, mask: i32) {
        let Some(state) = self.slots.get_mut(conn).filter(|state| !state.posted) else {
            self.counters.stale += 1;
            return;
        };
        let failing = mask & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
        let ending = failing || mask & libc::EPOLLRDHUP != 0;
        state.failing |= failing;
        state.ending |= ending;
        state.readable |= ending || mask & libc::EPOLLIN != 0;
        let writable = failing || mask & libc::EPOLLOUT != 0;
        state.writable |= writable;
        let sends = writable && state.outbox.is_some();
        if state.readable && (state.want != Read::Off || state.failing) {
            self.enlist(conn);
        }
        if sends {
            self.flush(conn);
        }
    }
}

impl Driver for EpollDriver {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn wait(&mut self, deadline: Option<Time>) -> io::Result<()> {
        let mut unsent = std::mem::take(&mut self.unsent);
        for conn in unsent.drain(..) {
            self.flush_unsent(conn);
        }
        self.unsent = unsent;
        let timeout = if self.pending.is_empty() && self.list.is_empty() {
            deadline.map(|deadline| deadline.since(self.clock.at()))
        } else {
            Some(std::time::Duration::ZERO)
        };
        self.counters.syscalls += 1;
        self.poller.wait(timeout)?;
        for number in 0..self.poller.taken() {
            self.on_event(self.poller.event(number));
        }
        self.round = self.list.len();
        Ok(())
    }

    fn next(&mut self) -> Option<Completion> {
        loop {
            let is_open = |conn| self.slots.get(conn).is_some_and(|state| !state.posted);
            if let Some(completion) = self.pending.pop(&mut self.memory.pool, is_open) {
                return Some(completion);
            }
            self.round = self.round.checked_sub(1)?;
            if let Some(conn) = self.list.pop_front() {
                self.visit(conn);
            }
        }
    }

    fn read(&mut self, conn: ConnId, how: Read) {
        let Some(state) = self.slots.get_mut(conn).filter(|state| !state.want.is_like(how) && !state.posted)
        else {
            return;
        };
        let before = std::mem::replace(&mut state.want, how);
        let list = state.failing || (state.readable && how != Read::Off);
        if how == Read::Off && before != Read::Readiness {
            self.pending.push(Completion::Stopped { conn });
        }
        if list {
            self.enlist(conn);
        }
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
        let Some(state) = self.slots.get_mut(conn) else { return SpliceIn::Unavailable };
        let Some(pipe) = self.memory.pipes.take() else { return SpliceIn::Unavailable };
        self.counters.syscalls += 1;
        let found = match socket::splice(state.socket.as_fd(), self.memory.pipes.write_end(&pipe), bytes_max)
        {
            Ok(bytes @ 1..) => {
                self.counters.spliced_bytes += bytes as u64;
                self.memory.pipes.filled(&pipe, bytes);
                return SpliceIn::Moved(pipe, bytes);
            }
            Ok(_) => SpliceIn::Ended((state.broken != 0).then_some(state.broken)),
            Err(error) if is_not_now(&error) => {
                state.readable = false;
                SpliceIn::Empty
            }
            Err(error) => {
                state.broken = errno(&error);
                SpliceIn::Ended(Some(state.broken))
            }
        };
        self.memory.pipes.give_back(pipe.0);
        found
    }

    fn send_pipe(&mut self, conn: ConnId, pipe: Pipe) {
        self.queue_pipe(conn, pipe);
    }

    fn queued(&self, conn: ConnId) -> usize {
        self.slots.get(conn).and_then(|state| state.outbox.as_ref()).map_or(0, |outbox| outbox.bytes())
    }

    fn held_bytes(&self) -> usize {
        self.memory.held_bytes()
    }

    fn acked_bytes(&mut self, conn: ConnId) -> Option<u64> {
        self.counters.syscalls += 1;
        socket::bytes_acked(self.slots.get(conn)?.socket.as_fd())
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        self.counters.syscalls += 1;
        self.slots.get(conn).is_some_and(|state| socket::has_unread(state.socket.as_fd()))
    }

    fn shut_down(&mut self, conn: ConnId) {
        if let Some(state) = self.slots.get_mut(conn) {
            state.finishing = true;
            self.finish_sending(conn);
        }
    }

    fn close(&mut self, conn: ConnId, reset: bool) {
        let Some(mut state) = self.slots.remove(conn) else { return };
        if let Some(outbox) = &mut state.outbox {
            self.memory.clear(outbox);
        }
        self.memory.recycle(&mut state.outbox);
        if reset {
            socket::reset_on_close(state.socket.as_fd());
        }
        if state.shared {
            // A registration goes with the open file, not with the descriptor.
            self.poller.remove(state.socket.as_fd());
        }
        self.counters.syscalls += 1;
        drop(state.socket);
    }

    fn post(&mut self, conn: ConnId, shard: u16, tag: u64) -> Result<(), PostFull> {
        let state = self.slots.get_mut(conn).ok_or(PostFull)?;
        debug_assert!(state.want == Read::Off && state.outbox.is_none(), "nothing may be in flight");
        self.counters.syscalls += 2;
        self.post.send(shard, tag, state.socket.as_fd())?;
        state.posted = true;
        // Closing our descriptor would not do: the other shard's keeps the open file, and with it the
        // registration, alive.
        self.poller.remove(state.socket.as_fd());
        Ok(())
    }

    fn take_back(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        state.posted = false;
        self.counters.syscalls += 1;
        // Adding reports what is there already.
        if let Err(error) = self.poller.add(state.socket.as_fd(), SOCKET_MASK, token(conn)) {
            let error = errno(&error);
            state.broken = error;
            self.pending.push(Completion::Broken { conn, error });
        }
    }

    fn wake(&mut self, shard: u16) {
        self.counters.syscalls += 1;
        self.post.wake(shard);
    }

    fn stop_accept(&mut self) {
        self.stop_accepting();
    }

    fn resume_accept(&mut self) {
        self.resume_accepting();
    }

    fn finish(&mut self) {
        self.listeners.clear();
        self.pending.clear(&mut self.memory.pool);
        for conn in self.slots.ids() {
            self.close(conn, false);
        }
        assert_eq!(self.memory.pool.unlent(), self.memory.pool.count(), "a receive buffer was lost");
        assert!(self.memory.pipes.all_back(), "a pipe was lost");
        assert_eq!(self.memory.held_bytes(), 0, "bytes of no connection are on the heap");
    }

    fn counters(&self) -> DriverCounters {
        DriverCounters {
            buffers: self.memory.pool.count() as u64,
            buffers_free: self.memory.pool.unlent() as u64,
            held_bytes: self.memory.held_bytes() as u64,
            ..self.counters
        }
    }
}
