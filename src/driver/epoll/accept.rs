//! New connections: accepted, or come by the post.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use super::{EpollDriver, LISTENER_TOKEN, SOCKET_MASK, conn::Conn, token};
use crate::{
    driver::{
        Completion,
        post::Letter,
        socket::{self, errno, is_not_now},
    },
    id::ConnId,
};

/// Connections accepted from one listener, and letters taken from the post, in one turn. Both are level-triggered: the
/// rest come in the next turn, so the values decide only how long connections that relay wait for those that come,
/// 64 accepts being less than a millisecond's work.
pub(super) const ACCEPTS_PER_TURN: usize = 64;
const LETTERS_PER_TURN: usize = 64;
/// What may be left of an accept queue when accepting stops, with room for those that come meanwhile.
const ACCEPTS_AT_END_MAX: usize = 16 * 1024;

impl EpollDriver {
    /// Puts a socket under the driver's care.
    fn admit(&mut self, socket: OwnedFd) -> io::Result<ConnId> {
        let full = || io::Error::from_raw_os_error(libc::ENFILE);
        let conn = self.slots.insert(Conn::new(socket)).map_err(|_| full())?;
        let socket = &self.slots.get(conn).expect("just inserted").socket;
        self.counters.syscalls += 1;
        if let Err(error) = self.poller.add(socket.as_fd(), SOCKET_MASK, token(conn)) {
            self.slots.remove(conn);
            return Err(error);
        }
        Ok(conn)
    }

    pub(super) fn take_letters(&mut self) {
        let mut any = false;
        for _ in 0..LETTERS_PER_TURN {
            self.counters.syscalls += 1;
            // An error here (ENOMEM) leaves the letter in the queue: the next turn tries again.
            let Ok(Some(letter)) = self.post.receive() else { break };
            any = true;
            match letter {
                Letter::Wake => {}
                Letter::Lost(tag) => self.pending.push(Completion::ArrivalFailed { tag }),
                Letter::Descriptor(tag, socket) => {
                    let arrival = match self.admit(socket) {
                        Ok(conn) => {
                            self.slots.get_mut(conn).expect("just admitted").shared = true;
                            Completion::Arrived { conn, tag }
                        }
                        Err(_) => Completion::ArrivalFailed { tag },
                    };
                    self.pending.push(arrival);
                }
            }
        }
        if any {
            self.pending.push(Completion::Woken);
        }
    }

    /// Accepts up to `accepts_max` connections. Returns whether the queue was drained.
    pub(super) fn accept_from(&mut self, listener: usize, accepts_max: usize) -> bool {
        for _ in 0..accepts_max {
            let Some(listener) = self.listeners.get(listener) else { return true };
            if self.slots.len() >= self.connections_max {
                self.accept_failed(libc::ENFILE);
                return false;
            }
            self.counters.syscalls += 2;
            match socket::accept(listener.as_fd()) {
                Ok(socket) => {
                    // A peer that is gone already is not worth a name.
                    let Some(peer) = socket::peer(socket.as_fd()) else { continue };
                    match self.admit(socket) {
                        Ok(conn) => self.pending.push(Completion::Accepted { conn, peer }),
                        Err(error) => {
                            self.accept_failed(errno(&error));
                            return false;
                        }
                    }
                }
                Err(error) if is_not_now(&error) => return true,
                Err(error) => {
                    if socket::exhausted(&error) {
                        self.accept_failed(errno(&error));
                        return false;
                    }
                }
            }
        }
        false
    }

    fn accept_failed(&mut self, error: i32) {
        if std::mem::take(&mut self.accepting) {
            for listener in &self.listeners {
                self.poller.remove(listener.as_fd());
            }
            self.pending.push(Completion::AcceptFailed { error });
        }
    }

    /// Takes what the queues still hold, but for those that outlive this process, and closes the listeners.
    pub(super) fn stop_accepting(&mut self) {
        self.accepting = false;
        for listener in 0..self.listeners.len() {
            if !self.listeners[listener].is_shared() {
                self.accept_from(listener, ACCEPTS_AT_END_MAX);
            } else {
                // Closing our descriptor would not end the registration: the open file stays.
                self.poller.remove(self.listeners[listener].as_fd());
            }
        }
        self.listeners.clear();
        self.pending.push(Completion::AcceptStopped);
    }

    pub(super) fn resume_accepting(&mut self) {
        if std::mem::replace(&mut self.accepting, true) {
            return;
        }
        for (number, listener) in self.listeners.iter().enumerate() {
            let exclusive = if listener.is_shared() { libc::EPOLLEXCLUSIVE } else { 0 };
            let token = LISTENER_TOKEN + number as u64;
            let added = self.poller.add(listener.as_fd(), libc::EPOLLIN | exclusive, token);
            if let Err(error) = added {
                return self.accept_failed(errno(&error));
            }
        }
    }
}
