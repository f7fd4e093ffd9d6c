//! New connections: accepted, or come by the post.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use io_uring::cqueue;

use super::{
    UringDriver,
    token::{Op, Token},
};
use crate::driver::{
    Completion,
    listen::Listener,
    post::Letter,
    socket::{self, errno, exhausted, is_not_now},
};

/// Letters taken from the post in one turn; the rest are reported again at once. The queue holds fewer
/// (`net.unix.max_dgram_qlen`, 10 by default), so this is reached only while others keep filling it.
const LETTERS_PER_TURN: usize = 64;
/// What may be left of an accept queue when accepting stops, with room for those that come meanwhile.
const ACCEPTS_AT_END_MAX: usize = 16 * 1024;

/// What is wanted of the listeners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    On,
    Off,
    /// Off for good, to be reported.
    Stopping,
    Stopped,
}

#[derive(Debug)]
struct Place {
    listener: Listener,
    armed: bool,
    cancelled: bool,
}

/// The listeners. An accept is in flight on each that is armed: a multishot one, unless other shards wait on the same
/// socket. There the kernel wakes the one that waits longest, which a multishot accept would be for ever; one that is
/// asked for anew goes to the end, and the shards take turns.
#[derive(Debug)]
pub(super) struct Acceptor {
    places: Vec<Place>,
    wanted: Wanted,
}

impl Acceptor {
    pub(super) fn new(listeners: Vec<Listener>) -> Acceptor {
        let place = |listener| Place { listener, armed: false, cancelled: false };
        Acceptor { places: listeners.into_iter().map(place).collect(), wanted: Wanted::Off }
    }

    pub(super) fn stop(&mut self) {
        if self.wanted != Wanted::Stopped {
            self.wanted = Wanted::Stopping;
        }
    }

    pub(super) fn resume(&mut self) {
        if self.wanted == Wanted::Off {
            self.wanted = Wanted::On;
        }
    }
}

impl UringDriver {
    /// Makes the accepts in flight agree with what is wanted.
    pub(super) fn arm_acceptor(&mut self) {
        let on = self.acceptor.wanted == Wanted::On;
        for (number, place) in self.acceptor.places.iter_mut().enumerate() {
            let token = Token::driver(Op::Accept, u32::try_from(number).expect("few listeners"));
            if on && !place.armed {
                place.armed = true;
                if place.listener.is_shared() {
                    self.ring.accept_once(place.listener.as_fd(), token);
                } else {
                    self.ring.accept(place.listener.as_fd(), token);
                }
            } else if !on && place.armed && !place.cancelled {
                place.cancelled = true;
                self.ring.cancel(token);
            }
        }
        self.conclude_accepting();
    }

    pub(super) fn on_accept(&mut self, number: usize, result: i32, flags: u32) {
        if !cqueue::more(flags)
            && let Some(place) = self.acceptor.places.get_mut(number)
        {
            (place.armed, place.cancelled) = (false, false);
        }
        if result >= 0 {
            // SAFETY: the kernel just installed the descriptor for us; nothing else owns it.
            let socket = unsafe { OwnedFd::from_raw_fd(result) };
            self.welcome(socket);
        } else if exhausted(&std::io::Error::from_raw_os_error(-result)) {
            self.accept_failed(-result);
        }
        self.conclude_accepting();
    }

    fn welcome(&mut self, socket: OwnedFd) {
        self.counters.syscalls += 1;
        // A peer that is gone already is not worth a name.
        let Some(peer) = socket::peer(socket.as_fd()) else { return };
        if self.slots.len() >= self.connections_max {
            return self.accept_failed(libc::ENFILE);
        }
        match self.admit(socket) {
            Some(conn) => self.pending.push(Completion::Accepted { conn, peer }),
            None => self.accept_failed(libc::ENFILE),
        }
    }

    fn accept_failed(&mut self, error: i32) {
        if self.acceptor.wanted == Wanted::On {
            self.acceptor.wanted = Wanted::Off;
            self.pending.push(Completion::AcceptFailed { error });
        }
    }

    /// Once no accept is in flight after a stop: takes what the queues still hold, but for those that outlive this
    /// process, and closes the listeners.
    fn conclude_accepting(&mut self) {
        if self.acceptor.wanted != Wanted::Stopping || self.acceptor.places.iter().any(|place| place.armed) {
            return;
        }
        for place in std::mem::take(&mut self.acceptor.places) {
            if place.listener.is_shared() {
                continue;
            }
            for _ in 0..ACCEPTS_AT_END_MAX {
                self.counters.syscalls += 1;
                match socket::accept(place.listener.as_fd()) {
                    Ok(socket) => self.welcome(socket),
                    Err(error) if is_not_now(&error) || exhausted(&error) => break,
                    // One connection's own error (accept(2)).
                    Err(_) => {}
                }
            }
        }
        self.acceptor.wanted = Wanted::Stopped;
        self.pending.push(Completion::AcceptStopped);
    }

    /// Cancels the accepts without taking what the queues hold. The listeners close with the driver.
    pub(super) fn close_listeners(&mut self) {
        self.acceptor.wanted = Wanted::Off;
        self.arm_acceptor();
    }

    pub(super) fn take_letters(&mut self) {
        let mut any = false;
        for _ in 0..LETTERS_PER_TURN {
            self.counters.syscalls += 1;
            match self.post.receive() {
                Ok(None) => break,
                Ok(Some(letter)) => {
                    any = true;
                    self.on_letter(letter);
                }
                // ENOMEM, say: the letter stays in the queue, and the next poll finds it.
                Err(error) => {
                    debug_assert!(errno(&error) != libc::EBADF);
                    break;
                }
            }
        }
        if any {
            self.pending.push(Completion::Woken);
        }
    }

    fn on_letter(&mut self, letter: Letter) {
        match letter {
            Letter::Wake => {}
            Letter::Lost(tag) => self.pending.push(Completion::ArrivalFailed { tag }),
            Letter::Descriptor(tag, socket) => {
                let arrival = match self.admit(socket) {
                    Some(conn) => Completion::Arrived { conn, tag },
                    None => Completion::ArrivalFailed { tag },
                };
                self.pending.push(arrival);
            }
        }
    }
}
