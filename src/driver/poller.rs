//! An epoll instance, as safe functions.
//!
//! Holds the descriptor and the array that the kernel fills in. Tokens are opaque here.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// Most events taken at once: bounds a turn, and is two pages of memory.
const EVENTS_MAX: usize = 512;

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    taken: usize,
}

/// What is ready, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) token: u64,
    /// `EPOLLIN` and its kin.
    pub(super) mask: u32,
}

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        // SAFETY: names no memory.
        let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Poller { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX], taken: 0 })
    }

    pub(super) fn add(&self, fd: BorrowedFd<'_>, mask: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: mask.cast_unsigned(), u64: token };
        // SAFETY: the kernel only reads `event`, which lives until the call returns.
        let returned = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)
        };
        if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Forgets a descriptor; one that was not there is fine.
    pub(super) fn remove(&self, fd: BorrowedFd<'_>) {
        // SAFETY: no event is needed to remove (epoll_ctl(2), since Linux 2.6.9).
        unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                fd.as_raw_fd(),
                std::ptr::null_mut(),
            );
        }
    }

    /// Waits for events, at most for `timeout` (rounded up to milliseconds); a signal ends it early.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let ms =
            timeout.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let room = i32::try_from(self.events.len()).expect("a small constant");
        // SAFETY: the kernel writes at most `room` events to the vector, which has that many.
        let returned =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, ms) };
        self.taken = usize::try_from(returned).unwrap_or(0);
        if returned >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
    }

    /// The instance itself, which is readable while it has events.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// How many events the last `wait` took.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn event(&self, number: usize) -> Event {
        let event = self.events[number];
        Event { token: event.u64, mask: event.events }
    }
}
