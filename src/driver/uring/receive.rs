//! Receiving: streams, single receives, readiness, and what happens when buffers run out.
//!
//! A receive that finds no buffer ends with `ENOBUFS`. Its connection is then *starved*: it stands in a list,
//! in order, and is read by direct calls as buffers come back, which meanwhile are kept from the kernel.
//! While that lasts (`scarce`), whoever wants to receive is put on a poll, which needs no buffer, instead of
//! a receive that would only end the same way. When the list is empty, buffers go to the kernel again, and
//! each connection gets its receive at its next poll's completion.

use std::{io::IoSliceMut, os::fd::AsFd};

use io_uring::cqueue;

use super::{
    UringDriver,
    conn::Receiving,
    park::Parking,
    token::{Op, Token},
};
use crate::{
    driver::{
        Chunk, Completion, Read,
        outbox::RUNS_MAX,
        socket::{self, errno, is_not_now},
    },
    id::ConnId,
};

/// Buffers that one direct read of a bulk stream may fill: 256 KiB by default, from which on larger reads and sends
/// cost no less a byte. As many as one send covers.
const DIRECT_READ_BUFFERS: usize = RUNS_MAX;

const READABLE: i32 = (libc::POLLIN | libc::POLLRDHUP) as i32;

impl UringDriver {
    pub(super) fn settle_receiving(&mut self, conn: ConnId) {
        let scarce = self.scarce;
        let Some(state) = self.slots.get_mut(conn) else { return };
        if state.parking != Parking::No && state.want == Read::Stream && self.rests(conn) {
            return;
        }
        let Some(state) = self.slots.get_mut(conn) else { return };
        let socket = state.socket.as_fd();
        let token = Token::new(Op::Receive, conn);
        let wanted = match state.want {
            Read::Off => Receiving::Nothing,
            Read::Readiness => Receiving::Readiness,
            Read::Once { .. } | Read::Stream if scarce => Receiving::Readiness,
            Read::Once { .. } => Receiving::Once,
            Read::Stream => Receiving::Stream,
        };
        match (state.receiving, wanted) {
            (Receiving::Nothing, Receiving::Nothing) => {
                // Errors and hang-ups are reported whatever is asked for; an end alone is not to be.
                if !state.watching && state.broken == 0 {
                    state.watching = true;
                    self.ring.poll(socket, 0, Token::new(Op::Watch, conn));
                }
            }
            (Receiving::Nothing, _) if state.starved => {}
            (Receiving::Nothing, wanted) => {
                state.receiving = wanted;
                match (wanted, state.want) {
                    (Receiving::Stream, _) => self.ring.receive_stream(socket, token),
                    (Receiving::Once, Read::Once { bytes_max }) => {
                        self.ring.receive_once(socket, bytes_max.max(1), token);
                    }
                    _ => self.ring.poll(socket, READABLE, token),
                }
            }
            // A poll serves them all: what is wanted is looked at when it completes. A receive serves its own
            // kind, in times of scarcity as well.
            (Receiving::Readiness, _) if state.want != Read::Off => {}
            (Receiving::Stream, _) if state.want == Read::Stream => {}
            (Receiving::Once, _) if matches!(state.want, Read::Once { .. }) => {}
            // Over by itself: what is wanted is looked at when it completes.
            (Receiving::Fetch, _) => {}
            _ => {
                if !std::mem::replace(&mut state.receive_cancelled, true) {
                    self.ring.cancel(token);
                }
            }
        }
    }

    pub(super) fn on_receive(&mut self, conn: ConnId, result: i32, flags: u32) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        let operation = state.receiving;
        let last = !cqueue::more(flags);
        if last {
            (state.receiving, state.receive_cancelled) = (Receiving::Nothing, false);
        }
        if operation == Receiving::Readiness {
            self.on_readable(conn, result);
        } else {
            self.on_received(conn, operation, result, flags);
        }
        let Some(state) = self.slots.get_mut(conn) else { return };
        if last && state.is_open() {
            if state.want == Read::Off && std::mem::take(&mut state.stop_owed) {
                self.pending.push(Completion::Stopped { conn });
            }
            self.change(conn);
        }
    }

    fn on_received(&mut self, conn: ConnId, operation: Receiving, result: i32, flags: u32) {
        if let Ok(bytes @ 1..) = usize::try_from(result) {
            let first = cqueue::buffer_select(flags).expect("bytes come in a buffer of the group");
            return self.deliver(conn, operation, first.into(), bytes);
        }
        if let Some(buffer) = cqueue::buffer_select(flags)
            && !(operation == Receiving::Stream && self.ring.bundles())
        {
            // The end of a stream may cost a buffer, except in a bundle, which counts buffers by the bytes in
            // them.
            self.memory.pool.lend_received(buffer.into());
            self.memory.pool.give_back(buffer.into());
        }
        match -result {
            libc::ENOBUFS => {
                self.counters.buffers_exhausted += 1;
                self.starve(conn);
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            0 => self.end(conn, None),
            error => self.end(conn, Some(error)),
        }
    }

    /// Lends out the buffers that a receive filled, the first to the last.
    fn deliver(&mut self, conn: ConnId, operation: Receiving, first: u32, bytes: usize) {
        let room = self.memory.pool.buffer_bytes();
        let open = self.slots.get_mut(conn).filter(|state| state.is_open());
        let is_open = open.is_some();
        if let Some(state) = open {
            state.active = true;
            state.bulk = bytes >= room;
            if operation == Receiving::Once && matches!(state.want, Read::Once { .. }) {
                state.want = Read::Off;
            }
            if operation == Receiving::Fetch && bytes == room {
                // More may be there, of which no edge will tell.
                self.park.leave(state);
            }
        }
        let mut left = bytes;
        for after in 0..bytes.div_ceil(room) {
            let buffer = self.provided.following(first, after);
            self.memory.pool.lend_received(buffer);
            let length = left.min(room);
            left -= length;
            if is_open {
                let chunk = Chunk::new(buffer, length);
                self.pending.push(Completion::Received { conn, chunk, following: left });
            } else {
                self.memory.pool.give_back(buffer);
            }
        }
    }

    fn end(&mut self, conn: ConnId, error: Option<i32>) {
        let Some(state) = self.slots.get_mut(conn).filter(|state| state.is_open()) else { return };
        state.want = Read::Off;
        state.stop_owed = false;
        self.park.leave(state);
        state.broken = error.unwrap_or(state.broken);
        let error = state.known_error();
        self.pending.push(Completion::Ended { conn, error });
    }

    /// A poll completed that stood for a receive or for `Read::Readiness`.
    fn on_readable(&mut self, conn: ConnId, result: i32) {
        let scarce = self.scarce;
        let Some(state) = self.slots.get_mut(conn).filter(|state| state.is_open()) else { return };
        if result < 0 {
            return;
        }
        match state.want {
            Read::Off => {}
            Read::Readiness => {
                state.want = Read::Off;
                self.pending.push(Completion::Readable { conn });
            }
            Read::Once { .. } | Read::Stream => {
                if scarce {
                    self.starve(conn);
                }
            }
        }
    }

    /// The poll of a connection that is not read completed: it broke, or both directions have ended.
    pub(super) fn on_watch(&mut self, conn: ConnId, result: i32) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        state.watching = false;
        if result < 0 || !state.is_open() || state.want != Read::Off {
            return;
        }
        self.counters.syscalls += 1;
        // Without an error both directions have ended in order, and there is nothing left to watch for.
        if let Some(error) = socket::take_error(state.socket.as_fd()) {
            state.broken = error;
            self.pending.push(Completion::Broken { conn, error });
        }
    }

    /// Puts a connection in the list of those to be read directly.
    fn starve(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn).filter(|state| state.is_open()) else { return };
        if !matches!(state.want, Read::Once { .. } | Read::Stream) {
            return;
        }
        self.scarce = true;
        state.starved = true;
        self.park.leave(state);
        if !std::mem::replace(&mut state.listed, true) {
            self.starved.push_back(conn);
        }
    }

    /// Whether a starved connection can be read before the kernel is entered again.
    pub(super) fn can_read_directly(&self) -> bool {
        !self.starved.is_empty() && self.memory.pool.free() > 0
    }

    /// Reads the connection that has starved longest, if a buffer is free and the turn's bound is not
    /// reached. Returns whether anything was done.
    pub(super) fn read_directly(&mut self) -> bool {
        if self.direct_reads_left == 0 || self.memory.pool.free() == 0 {
            return false;
        }
        let Some(conn) = self.starved.pop_front() else { return false };
        let Some(state) = self.slots.get_mut(conn) else { return true };
        state.listed = false;
        if !std::mem::take(&mut state.starved) || !state.is_open() {
            return true;
        }
        self.direct_reads_left -= 1;
        self.counters.syscalls += 1;
        let once = match state.want {
            Read::Once { bytes_max } => Some(bytes_max.max(1) as usize),
            _ => None,
        };
        let pool = &mut self.memory.pool;
        let mut lent = [0; DIRECT_READ_BUFFERS];
        let count = pool.free().min(if once.is_none() && state.bulk { DIRECT_READ_BUFFERS } else { 1 });
        for place in &mut lent[..count] {
            *place = pool.lend().expect("counted above");
        }
        let lent = &lent[..count];
        let mut rooms: [_; DIRECT_READ_BUFFERS] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let count = pool.rooms_mut(lent, once.unwrap_or(usize::MAX), &mut rooms);
        let received = socket::receive_vectored(state.socket.as_fd(), &mut rooms[..count]);
        state.active = true;
        if once.is_some() && matches!(received, Ok(1..)) {
            state.want = Read::Off;
        }
        let mut left = received.as_ref().map_or(0, |bytes| *bytes);
        state.bulk = left >= pool.buffer_bytes();
        for &buffer in lent {
            let length = left.min(pool.buffer_bytes());
            left -= length;
            if length == 0 {
                pool.give_back(buffer);
            } else {
                let chunk = Chunk::new(buffer, length);
                self.pending.push(Completion::Received { conn, chunk, following: left });
            }
        }
        self.change(conn);
        match received {
            Ok(1..) => {}
            Ok(_) => self.end(conn, None),
            Err(error) if is_not_now(&error) => {}
            Err(error) => self.end(conn, Some(errno(&error))),
        }
        true
    }

    /// Before the kernel is entered: ends the scarcity when all are served, and sees to it that none waits
    /// for ever.
    pub(super) fn relieve(&mut self) {
        // Buffers that the kernel got before it said that it had none are given out by receives, or they
        // would lie there while the list waits for them.
        let with_kernel = self.memory.pool.unlent() - self.memory.pool.free();
        let mut receives = if self.scarce { with_kernel } else { 0 };
        while let Some(&conn) = self.starved.front() {
            let waits = self.slots.get(conn).is_some_and(|state| state.starved && state.is_open());
            if waits && receives == 0 {
                return;
            }
            self.starved.pop_front();
            let Some(state) = self.slots.get_mut(conn) else { continue };
            state.listed = false;
            if std::mem::take(&mut state.starved) && state.is_open() {
                receives -= 1;
                self.receive_despite_scarcity(conn);
            }
        }
        // With every buffer queued for sending, receives would only end at once.
        self.scarce &= self.memory.pool.unlent() == 0;
    }

    fn receive_despite_scarcity(&mut self, conn: ConnId) {
        let scarce = std::mem::replace(&mut self.scarce, false);
        self.settle_receiving(conn);
        self.scarce = scarce;
    }
}
