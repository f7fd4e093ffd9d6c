//! Sending: one operation in flight per connection, with everything queued at the time.
//!
//! The first attempt never waits and may send straight from receive buffers: it is over when the call that
//! submitted it returns. What it leaves is copied to the heap, the buffers go back, and a send that waits
//! takes over. Pipes leave by direct calls. Promises that memory named to the kernel stays until the
//! completion is taken.

use std::{ops::Range, os::fd::AsFd};

use bytes::Bytes;

use super::{
    UringDriver,
    conn::Sending,
    token::{Op, Token},
};
use crate::{
    driver::{
        Chunk, Completion, Pipe,
        outbox::{Front, RUNS_MAX},
        socket::{self, errno, is_not_now},
        write::write_front,
    },
    id::ConnId,
};

/// What a send that waits covers at most: it reports progress only when all of it is taken. Only slow peers are sent to
/// in this way, so its cost does not matter; it has to be well below the 256 KiB at which their sources stop being
/// read, or these would start again late.
const WAITING_BYTES_MAX: usize = 64 * 1024;

impl UringDriver {
    pub(super) fn queue_chunk(&mut self, conn: ConnId, chunk: Chunk, range: Range<usize>) {
        let state = self.slots.get_mut(conn);
        let state = state.filter(|state| state.is_open() && !state.send_failed && !range.is_empty());
        let Some(state) = state else {
            return self.memory.pool.give_back(chunk.into_buffer());
        };
        let outbox = self.memory.outbox(&mut state.outbox);
        if state.stalled {
            let buffer = chunk.into_buffer();
            self.memory.push_copy_of(outbox, buffer, range.start, range.len());
            self.memory.pool.give_back(buffer);
        } else {
            self.memory.push_chunk(outbox, chunk, range.start, range.len());
            self.change(conn);
        }
    }

    pub(super) fn queue_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        let state = self.slots.get_mut(conn);
        let state = state.filter(|state| state.is_open() && !state.send_failed && !bytes.is_empty());
        let Some(state) = state else { return };
        let outbox = self.memory.outbox(&mut state.outbox);
        self.memory.push_copy(outbox, bytes);
        self.change(conn);
    }

    pub(super) fn queue_part(&mut self, conn: ConnId, chunk: &Chunk, range: Range<usize>) {
        let state = self.slots.get_mut(conn);
        let state = state.filter(|state| state.is_open() && !state.send_failed && !range.is_empty());
        let Some(state) = state else { return };
        let outbox = self.memory.outbox(&mut state.outbox);
        self.memory.push_copy_of(outbox, chunk.buffer(), range.start, range.len());
        self.change(conn);
    }

    pub(super) fn queue_vec(&mut self, conn: ConnId, bytes: Vec<u8>, start: usize) {
        let state = self.slots.get_mut(conn);
        let state = state.filter(|state| state.is_open() && !state.send_failed && start < bytes.len());
        let Some(state) = state else { return };
        let outbox = self.memory.outbox(&mut state.outbox);
        self.memory.push_heap(outbox, bytes, start);
        self.change(conn);
    }

    pub(super) fn queue_shared(&mut self, conns: &[ConnId], bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        for &conn in conns {
            let state = self.slots.get_mut(conn).filter(|state| state.is_open() && !state.send_failed);
            let Some(state) = state else { continue };
            let outbox = self.memory.outbox(&mut state.outbox);
            self.memory.push_shared(outbox, bytes.clone());
            self.change(conn);
        }
        self.memory.count_shared(bytes);
    }

    pub(super) fn queue_pipe(&mut self, conn: ConnId, pipe: Pipe) {
        let state = self.slots.get_mut(conn).filter(|state| state.is_open() && !state.send_failed);
        let Some(state) = state else {
            return self.memory.pipes.give_back(pipe.0);
        };
        let outbox = self.memory.outbox(&mut state.outbox);
        self.memory.push_pipe(outbox, pipe);
        self.change(conn);
    }

    /// Starts sending what is queued, or ends the sending side where that was asked for and nothing is.
    pub(super) fn settle_sending(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        if state.sending != Sending::Nothing {
            return;
        }
        if state.outbox.is_some() {
            self.splice_out(conn);
            self.start_send(conn);
        }
        self.finish_sending(conn);
    }

    /// Sends FIN where it is due.
    fn finish_sending(&mut self, conn: ConnId) {
        if let Some(state) = self.slots.get_mut(conn)
            && state.finishing
            && state.outbox.is_none()
        {
            state.finishing = false;
            self.counters.syscalls += 1;
            socket::shut_down(state.socket.as_fd());
        }
    }

    /// Pushes a send of the bytes at the front.
    fn start_send(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        if state.sending != Sending::Nothing {
            return;
        }
        let Some(outbox) = &mut state.outbox else { return };
        if outbox.front(&self.memory) != Some(Front::Bytes) {
            return;
        }
        let bytes_max = if state.stalled { WAITING_BYTES_MAX } else { usize::MAX };
        let mut bytes = 0;
        let mut runs = 0;
        for run in outbox.runs(&self.memory).take(RUNS_MAX) {
            bytes += run.len();
            runs += 1;
            if bytes >= bytes_max {
                break;
            }
        }
        let (sending, flags) = if state.stalled {
            (Sending::Waiting, libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        } else {
            (Sending::Attempt, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        state.sending = sending;
        outbox.take_off(runs, bytes);
        let (socket, token) = (state.socket.as_fd(), Token::new(Op::Send, conn));
        if runs == 1 {
            let run = outbox.runs(&self.memory).next().expect("counted above");
            // SAFETY: the run is a heap piece or a lent buffer of the outbox's first piece, which took off:
            // it is neither changed nor freed until `land`, on this operation's completion. Closing keeps the
            // slot and its outbox until then.
            unsafe { self.ring.send(socket, run, flags, token) };
        } else {
            let message = outbox.message(&self.memory, runs);
            // SAFETY: as above for the runs; the header is boxed in the outbox and rewritten only by the next
            // send.
            unsafe { self.ring.send_message(socket, message, flags, token) };
        }
    }

    pub(super) fn on_send(&mut self, conn: ConnId, result: i32) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        let operation = std::mem::replace(&mut state.sending, Sending::Nothing);
        let is_open = state.is_open();
        if operation == Sending::Room {
            if is_open {
                self.change(conn);
            }
            return;
        }
        let Some(outbox) = &mut state.outbox else { return };
        let flown = outbox.land();
        match usize::try_from(result) {
            Ok(bytes) => {
                self.memory.advance(outbox, bytes);
                if bytes < flown {
                    state.stalled = true;
                }
                outbox.untold += bytes;
                // What was queued meanwhile has not been offered: that it is left says nothing about the peer.
                if outbox.is_empty() || state.stalled {
                    let bytes = std::mem::take(&mut outbox.untold);
                    if bytes > 0 && is_open {
                        self.pending.push(Completion::Sent { conn, bytes });
                    }
                }
            }
            Err(_) if matches!(-result, libc::EAGAIN | libc::EINTR | libc::ECANCELED) => {
                state.stalled = true;
                let bytes = std::mem::take(&mut outbox.untold);
                if operation == Sending::Attempt && is_open {
                    self.pending.push(Completion::Sent { conn, bytes });
                }
            }
            Err(_) => return self.fail_sending(conn, -result),
        }
        if state.stalled {
            self.memory.hold(outbox);
        }
        self.memory.recycle(&mut state.outbox);
        state.stalled &= state.outbox.is_some();
        if is_open && state.outbox.is_some() {
            self.change(conn);
        } else if is_open {
            self.finish_sending(conn);
        }
    }

    /// Writes what is queued up to the last pipe by direct calls, as far as the socket takes it: a pipe can leave in
    /// no other way, and what stands in front of it leaves with it.
    fn splice_out(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        let Some(outbox) = &mut state.outbox else { return };
        if !outbox.has_pipe() {
            return;
        }
        let mut sent = std::mem::take(&mut outbox.untold);
        let mut waits = false;
        let mut failure = None;
        while outbox.has_pipe()
            && let Some(written) = write_front(state.socket.as_fd(), outbox, &mut self.memory)
        {
            self.counters.syscalls += 1;
            match written {
                Ok(bytes) => sent += bytes,
                Err(error) if is_not_now(&error) => {
                    waits = true;
                    state.stalled = true;
                    state.sending = Sending::Room;
                    self.memory.hold(outbox);
                    self.ring.poll(state.socket.as_fd(), libc::POLLOUT.into(), Token::new(Op::Send, conn));
                    break;
                }
                Err(error) => {
                    failure = Some(errno(&error));
                    break;
                }
            }
        }
        self.memory.recycle(&mut state.outbox);
        state.stalled &= state.outbox.is_some();
        if sent > 0 || waits {
            self.pending.push(Completion::Sent { conn, bytes: sent });
        }
        if let Some(error) = failure {
            self.fail_sending(conn, error);
        }
    }

    fn fail_sending(&mut self, conn: ConnId, error: i32) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        if let Some(outbox) = &mut state.outbox {
            self.memory.clear(outbox);
        }
        self.memory.recycle(&mut state.outbox);
        (state.stalled, state.send_failed, state.broken) = (false, true, error);
        if state.is_open() {
            self.pending.push(Completion::SendFailed { conn, error });
        }
    }
}
