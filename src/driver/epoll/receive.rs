//! What a listed connection is there for: a read, a word about readiness, a broken connection.

use std::os::fd::AsFd;

use super::EpollDriver;
use crate::{
    driver::{
        Chunk, Completion, HEADROOM, Read,
        socket::{self, errno, is_not_now},
    },
    id::ConnId,
};

impl EpollDriver {
    /// Does what a listed connection is there for, once.
    pub(super) fn visit(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        state.listed = false;
        if state.posted {
            return;
        }
        match state.want {
            Read::Off if state.failing => {
                state.failing = false;
                self.counters.syscalls += 1;
                if let Some(error) = socket::take_error(state.socket.as_fd()) {
                    state.broken = error;
                    self.pending.push(Completion::Broken { conn, error });
                }
            }
            Read::Off => {}
            Read::Readiness => {
                if state.readable {
                    state.want = Read::Off;
                    self.pending.push(Completion::Readable { conn });
                }
            }
            Read::Once { .. } | Read::Stream => {
                if state.readable {
                    self.receive(conn);
                }
            }
        }
    }

    fn receive(&mut self, conn: ConnId) {
        let Some(state) = self.slots.get_mut(conn) else { return };
        let buffer = self.memory.pool.lend().expect("nobody holds a chunk over a call of `next`");
        let bytes_max = match state.want {
            Read::Once { bytes_max } => bytes_max.max(1) as usize,
            _ => usize::MAX,
        };
        let room = bytes_max.min(self.memory.pool.buffer_bytes());
        let into = &mut self.memory.pool.memory_mut(buffer)[HEADROOM..HEADROOM + room];
        self.counters.syscalls += 1;
        let received = socket::receive(state.socket.as_fd(), into);
        match received {
            Ok(bytes @ 1..) => {
                // With edges a read that leaves room has read everything, unless the end is waiting behind
                // it.
                state.readable = bytes == room || state.ending;
                if state.want != Read::Stream {
                    state.want = Read::Off;
                }
                let again = state.readable && state.want == Read::Stream;
                let chunk = Chunk::new(buffer, bytes);
                self.pending.push(Completion::Received { conn, chunk, following: 0 });
                if again {
                    self.enlist(conn);
                }
                return;
            }
            Ok(_) => {
                state.want = Read::Off;
                let error = (state.broken != 0).then_some(state.broken);
                self.pending.push(Completion::Ended { conn, error });
            }
            Err(error) if is_not_now(&error) => state.readable = false,
            Err(error) => {
                state.want = Read::Off;
                state.failing = false;
                state.broken = errno(&error);
                self.pending.push(Completion::Ended { conn, error: Some(state.broken) });
            }
        }
        self.memory.pool.give_back(buffer);
    }
}
