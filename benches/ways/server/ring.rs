//! A ring that can be set up in each way.

use std::{io, os::fd::AsRawFd};

use io_uring::{IoUring, Submitter, cqueue, squeue, types};

use crate::way::{self, TaskRun, Wait};

pub struct Ring {
    ring: IoUring,
    /// The place of its own descriptor among the registered ones.
    registered: Option<u32>,
    fixed_files: bool,
}

impl Ring {
    pub fn new(way: way::Ring) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_submit_all().setup_cqsize(8192);
        match way.task_run {
            TaskRun::Deferred => {
                builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
            }
            TaskRun::Cooperative => {
                builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag();
            }
            TaskRun::AtOnce => {}
        }
        if way.no_sqarray {
            builder.setup_no_sqarray();
        }
        let ring = builder.build(1024)?;
        let registered = if way.is_registered { Some(register(&ring)?) } else { None };
        Ok(Ring { ring, registered, fixed_files: way.fixed_files })
    }

    pub fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Where sockets are registered, they are named by their places.
    pub fn register_sockets<T: AsRawFd>(&self, sockets: &[T]) -> io::Result<()> {
        if !self.fixed_files {
            return Ok(());
        }
        let numbers: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        self.ring.submitter().register_files(&numbers)
    }

    /// The descriptor of the socket at a place, as operations are to name it.
    pub fn socket<T: AsRawFd>(&self, place: usize, socket: &T) -> types::Fd {
        types::Fd(if self.fixed_files { place as i32 } else { socket.as_raw_fd() })
    }

    /// Pushes an operation on a connection.
    ///
    /// # Safety
    ///
    /// What the entry names stays where it is until its last completion.
    pub unsafe fn push(&mut self, entry: squeue::Entry, flags: squeue::Flags, token: u64) {
        let fixed = if self.fixed_files { squeue::Flags::FIXED_FILE } else { squeue::Flags::empty() };
        // SAFETY: as this function demands.
        unsafe { self.push_plain(&entry.flags(flags | fixed).user_data(token)) };
    }

    /// Pushes an operation on nothing.
    ///
    /// # Safety
    ///
    /// As for `push`.
    pub unsafe fn push_plain(&mut self, entry: &squeue::Entry) {
        // SAFETY: as this function demands.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit();
        }
    }

    /// Makes sure that so many entries can be pushed without anything being submitted in between.
    pub fn reserve(&mut self, entries: usize) {
        let submission = self.ring.submission();
        let is_short = submission.capacity() - submission.len() < entries;
        drop(submission);
        if is_short {
            self.submit();
        }
    }

    /// Submits and does nothing else.
    pub fn submit(&mut self) {
        // What fails is submitted next time.
        let _ = self.call(0, 0);
    }

    /// Submits and waits.
    pub fn enter(&mut self, wait: &Wait) -> io::Result<()> {
        let entered = if wait.completions <= 1 {
            self.call(wait.completions, GETEVENTS)
        } else {
            let micros = u32::try_from(wait.patience.as_micros()).expect("far below an hour");
            let timeout = types::Timespec::from(wait.patience);
            let arguments = match wait.gives_up {
                true => types::SubmitArgs::new().timespec(&timeout),
                // Of what is there already none counts as the one that ends the wait then.
                false => types::SubmitArgs::new().min_wait_usec(micros),
            };
            self.ring.submitter().submit_with_args(wait.completions as usize, &arguments)
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn call(&mut self, wanted: u32, flags: u32) -> io::Result<usize> {
        let pushed = self.ring.submission().len() as u32;
        let Some(place) = self.registered else {
            // SAFETY: names no memory beside the queues.
            return unsafe { self.ring.submitter().enter::<libc::sigset_t>(pushed, wanted, flags, None) };
        };
        let flags = flags | ENTER_REGISTERED_RING;
        // SAFETY: as above; the arguments are those of io_uring_enter(2).
        let entered = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, place, pushed, wanted, flags, 0_usize, 0_usize)
        };
        usize::try_from(entered).map_err(|_| io::Error::last_os_error())
    }

    pub fn is_ready(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    pub fn pop(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }
}

/// Registers the ring's own descriptor. (The crate's `Submitter` forgets it with itself.)
fn register(ring: &IoUring) -> io::Result<u32> {
    // struct io_uring_rsrc_update: where to, nothing, what.
    #[repr(C)]
    struct Update {
        offset: u32,
        reserved: u32,
        data: u64,
    }
    let mut update = Update { offset: u32::MAX, reserved: 0, data: ring.as_raw_fd() as u64 };
    let (fd, update) = (ring.as_raw_fd(), &raw mut update);
    // SAFETY: one structure of the layout that io_uring_register(2) gives, which outlives the call.
    let count = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, update, 1) };
    if count != 1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it lives until here, and the kernel wrote to it.
    Ok(unsafe { (*update).offset })
}

// From linux/io_uring.h.
const GETEVENTS: u32 = 1;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: u32 = 20;
