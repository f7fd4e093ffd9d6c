//! The bounded pool of pipes that spliced bytes travel through.
//!
//! Promises that a pipe that is handed out is empty, and that at most `pipes_max` exist. Pipes are made when
//! first needed; one that could not be emptied in order is closed and made anew, never reused.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::Pipe;

/// Capacity asked for each pipe; what the kernel grants (its default is 64 KiB) bounds a splice.
const PIPE_BYTES: i32 = 256 * 1024;

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// The pipes by number.
#[derive(Debug)]
pub(super) struct Pipes {
    pipes: Vec<Option<Ends>>,
    free: Vec<u32>,
    /// Bytes in each pipe.
    held: Vec<usize>,
}

impl Pipes {
    pub(super) fn new(pipes_max: u32) -> Pipes {
        Pipes {
            pipes: (0..pipes_max).map(|_| None).collect(),
            free: (0..pipes_max).rev().collect(),
            held: vec![0; pipes_max as usize],
        }
    }

    /// An empty pipe, or `None` when all are in use or no more descriptors are to be had.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        let number = self.free.pop()?;
        let place = &mut self.pipes[number as usize];
        if place.is_none() {
            match make() {
                Ok(ends) => *place = Some(ends),
                Err(_) => {
                    self.free.push(number);
                    return None;
                }
            }
        }
        Some(Pipe(number))
    }

    pub(super) fn write_end(&self, pipe: &Pipe) -> BorrowedFd<'_> {
        self.ends(pipe.0).write.as_fd()
    }

    pub(super) fn read_end(&self, number: u32) -> BorrowedFd<'_> {
        self.ends(number).read.as_fd()
    }

    pub(super) fn filled(&mut self, pipe: &Pipe, bytes: usize) {
        self.held[pipe.0 as usize] += bytes;
    }

    pub(super) fn held(&self, number: u32) -> usize {
        self.held[number as usize]
    }

    pub(super) fn drained(&mut self, number: u32, bytes: usize) {
        self.held[number as usize] -= bytes;
    }

    /// Takes a pipe back. One that still holds bytes is closed.
    pub(super) fn give_back(&mut self, number: u32) {
        if std::mem::take(&mut self.held[number as usize]) != 0 {
            self.pipes[number as usize] = None;
        }
        self.free.push(number);
    }

    /// Whether every pipe is back.
    pub(super) fn all_back(&self) -> bool {
        self.free.len() == self.pipes.len()
    }

    fn ends(&self, number: u32) -> &Ends {
        self.pipes[number as usize].as_ref().expect("a pipe that was handed out is open until it is back")
    }
}

fn make() -> io::Result<Ends> {
    let mut numbers = [0; 2];
    // SAFETY: `numbers` is an array of two descriptors, which pipe2 fills in.
    if unsafe { libc::pipe2(numbers.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: pipe2 succeeded, so the number is an open descriptor that nothing else owns.
    let read = unsafe { OwnedFd::from_raw_fd(numbers[0]) };
    // SAFETY: as above.
    let write = unsafe { OwnedFd::from_raw_fd(numbers[1]) };
    // SAFETY: a plain fcntl on an open descriptor. Its refusal (the user's limit on pipe pages) leaves the
    // default size.
    unsafe { libc::fcntl(numbers[1], libc::F_SETPIPE_SZ, PIPE_BYTES) };
    Ok(Ends { read, write })
}
