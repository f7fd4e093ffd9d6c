//! Sending on epoll: written at once, the rest when the socket can take it.
//!
//! Promises that bytes leave in the order they were queued and that no receive buffer is still queued when a
//! call returns.

use std::{ops::Range, os::fd::AsFd};

use bytes::Bytes;

use super::EpollDriver;
use crate::{
    driver::{
        Chunk, Completion, Pipe,
        socket::{self, errno, is_not_now},
        write::write_front,
    },
    id::ConnId,
};

impl EpollDriver {
    pub(super) fn queue_chunk(&mut self, conn: ConnId, chunk: Chunk, range: Range<usize>) {
        let state = self.slots.get_mut(conn).filter(|state| !state.send_failed && !range.is_empty());
        let Some(state) = state else {
            return self.memory.pool.give_back(chunk.into_buffer());
        };
        let outbox = self.memory.outbox(&mut state.outbox);
        if state.writable {
            self.memory.push_chunk(outbox, chunk, range.start, range.len());
            self.flush(conn);
        } else {
            let buffer = chunk.into_buffer();
            self.memory.push_copy_of(outbox, buffer, range.start, range.len());
            self.memory.pool.give_back(buffer);
        }
    }

    pub(super) fn queue_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        let state = self.slots.get_mut(conn).filter(|state| !state.send_failed && !bytes.is_empty());
        let Some(state) = state else { return };
        let outbox = self.memory.outbox(&mut state.outbox);
        self.memory.push_copy(outbox, bytes);
        self.send_later(conn);
    }

    pub(super) fn queue_part(&mut self, conn: ConnId, chunk: &Chunk, range: Range<usize>) {
        let state = self.slots.get_mut(conn).filter(|state| !state.send_failed && !range.is_empty());
        let Some(state) = state else { return };
        let outbox = self.memory.outbox(&mut state.outbox);
        self.memory.push_copy_of(outbox, chunk.buffer(), range.start, range.len());
        self.send_later(conn);
    }

    pub(super) fn queue_vec(&mut self, conn: ConnId, bytes: Vec<u8>, start: usize) {
        let state = self.slots.get_mut(conn).filter(|state| !state.send_failed && start < bytes.len());
        let Some(state) = state else { return };
        let outbox = self.memory.outbox(&mut state.outbox);
        self.memory.push_heap(outbox, bytes, start);
        self.send_later(conn);
    }

    pub(super) fn queue_shared(&mut self, conns: &[ConnId], bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        for &conn in conns {
            let state = self.slots.get_mut(conn).filter(|state| !state.send_failed);
            let Some(state) = state else { continue };
            let outbox = self.memory.outbox(&mut state.outbox);
            self.memory.push_shared(outbox, bytes.clone());
            self.send_later(conn);
        }
        self.memory.count_shared(bytes);
    }

    pub(super) fn queue_pipe(&mut self, conn: ConnId, pipe: Pipe) {
        let Some(state) = self.slots.get_mut(conn).filter(|state| !state.send_failed) else {
            return self.memory.pipes.give_back(pipe.0);
        };
        let outbox = self.memory.outbox(&mut state.outbox);
        self.memory.push_pipe(outbox, pipe);
        self.send_later(conn);
    }

    /// Small things wait for the end of the turn, so that they leave together.
    fn send_later(&mut self, conn: ConnId) {
        if let Some(state) = self.slots.get_mut(conn)
            && !std::mem::replace(&mut state.unsent, true)
        {
            self.unsent.push(conn);
        }
    }

    pub(super) fn flush_unsent(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        state.unsent = false;
        if state.writable {
            self.flush(conn);
        }
    }

    /// Writes what is queued until it is gone or the kernel takes no more.
    pub(super) fn flush(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        let mut sent = 0;
        let mut waits = false;
        let mut failure = None;
        while let Some(outbox) = &mut state.outbox
            && let Some(written) = write_front(state.socket.as_fd(), outbox, &mut self.memory)
        {
            self.counters.syscalls += 1;
            match written {
                Ok(bytes) => sent += bytes,
                Err(error) if is_not_now(&error) => {
                    state.writable = false;
                    waits = true;
                    break;
                }
                Err(error) => {
                    failure = Some(errno(&error));
                    break;
                }
            }
        }
        if let Some(outbox) = &mut state.outbox {
            if failure.is_some() {
                self.memory.clear(outbox);
            }
            self.memory.hold(outbox);
        }
        self.memory.recycle(&mut state.outbox);
        if sent > 0 || waits {
            self.pending.push(Completion::Sent { conn, bytes: sent });
        }
        if let Some(error) = failure {
            state.send_failed = true;
            state.broken = error;
            self.pending.push(Completion::SendFailed { conn, error });
        }
        self.finish_sending(conn);
    }

    /// Sends FIN where it is due.
    pub(super) fn finish_sending(&mut self, conn: ConnId) {
        if let Some(state) = self.slots.get_mut(conn)
            && state.finishing
            && state.outbox.is_none()
        {
            state.finishing = false;
            self.counters.syscalls += 1;
            socket::shut_down(state.socket.as_fd());
        }
    }
}
