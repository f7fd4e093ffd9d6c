//! The ring itself: operations go in, completions come out.
//!
//! Holds the submission and completion queues and counts what is in flight. Promises that an operation pushed
//! is submitted by the next `enter` at the latest, and that a full submission queue or an overflown
//! completion queue loses nothing. Knows neither connections nor what completions mean.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use io_uring::{IoUring, Submitter, cqueue, opcode, squeue, types};

use super::token::{Op, Token};
use crate::driver::socket::errno;

/// How long the two queues are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queues {
    /// Operations that are submitted together; a turn with more submits in several calls.
    pub(super) submissions: u32,
    /// Completions that wait to be taken before the kernel keeps them elsewhere (and ends multishot
    /// operations).
    pub(super) completions: u32,
}

impl Queues {
    /// Long enough that a busy turn never meets either end; 200 KiB a shard.
    pub(super) const DEFAULT: Queues = Queues { submissions: 1024, completions: 8192 };
}

/// Memory that a shard's ring and its ring of `buffers` receive buffers lock, in bytes; the buffers themselves are not
/// locked. Since Linux 6.14 it is charged to the user (`RLIMIT_MEMLOCK`), before only a part of it.
pub(super) fn locked_bytes(buffers: u32) -> u64 {
    let Queues { submissions, completions } = Queues::DEFAULT;
    // io_uring_setup(2): an entry is 64 bytes, a completion 16; the completions share their pages with the heads.
    let pages = |bytes: u64| bytes.next_multiple_of(4096);
    pages(u64::from(submissions) * 64)
        + pages(u64::from(completions) * 16 + 512)
        + pages(u64::from(buffers) * 16)
}

/// The group of the one buffer ring.
pub(super) const BUFFER_GROUP: u16 = 0;

pub(super) struct Ring {
    ring: IoUring,
    bundles: bool,
    in_flight: usize,
    /// `io_uring_enter` calls.
    pub(super) calls: u64,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("bundles", &self.bundles).field("in_flight", &self.in_flight).finish()
    }
}

impl Ring {
    /// Makes a ring that only the calling thread uses.
    ///
    /// `SINGLE_ISSUER` and `DEFER_TASKRUN` (Linux 6.1) let the kernel finish operations when we come for
    /// completions instead of interrupting us: a third cheaper by measurement. `NO_SQARRAY` (6.6) saves an
    /// indirection where there is one to save.
    pub(super) fn new(queues: Queues) -> io::Result<Ring> {
        let ring = match Self::build(queues, true) {
            Err(error) if errno(&error) == libc::EINVAL => Self::build(queues, false)?,
            made => made?,
        };
        let bundles = ring.params().is_feature_recvsend_bundle();
        Ok(Ring { ring, bundles, in_flight: 0, calls: 0 })
    }

    fn build(queues: Queues, no_sqarray: bool) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(queues.completions);
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(queues.submissions)
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    pub(super) fn parameters(&self) -> &io_uring::Parameters {
        self.ring.params()
    }

    /// Has the kernel do nothing, to see whether it does.
    pub(super) fn try_out(&mut self) -> io::Result<()> {
        self.push_entry(&opcode::Nop::new().build());
        self.enter(true, None)
    }

    /// Whether receives over several buffers at once are to be had (Linux 6.10).
    pub(super) fn bundles(&self) -> bool {
        self.bundles
    }

    /// Operations whose last completion is still to come.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// An operation's last completion was taken.
    pub(super) fn landed(&mut self) {
        self.in_flight -= 1;
    }

    /// Accepts until cancelled.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(flags).build();
        self.push(&entry, token);
    }

    /// Accepts one connection.
    pub(super) fn accept_once(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let entry =
            opcode::Accept::new(types::Fd(listener.as_raw_fd()), address, length).flags(flags).build();
        self.push(&entry, token);
    }

    /// Receives into buffers of the group until cancelled, the end, or no buffer is left.
    pub(super) fn receive_stream(&mut self, socket: BorrowedFd<'_>, token: Token) {
        let socket = types::Fd(socket.as_raw_fd());
        let entry = if self.bundles {
            opcode::RecvMultiBundle::new(socket, BUFFER_GROUP).build()
        } else {
            opcode::RecvMulti::new(socket, BUFFER_GROUP).build()
        };
        self.push(&entry, token);
    }

    /// Receives once, into one buffer of the group.
    pub(super) fn receive_once(&mut self, socket: BorrowedFd<'_>, bytes_max: u32, token: Token) {
        let entry = opcode::Recv::new(types::Fd(socket.as_raw_fd()), std::ptr::null_mut(), bytes_max)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(&entry, token);
    }

    /// Receives what is there, into one buffer of the group; never waits.
    pub(super) fn fetch(&mut self, socket: BorrowedFd<'_>, token: Token) {
        let entry = opcode::Recv::new(types::Fd(socket.as_raw_fd()), std::ptr::null_mut(), 0)
            .flags(libc::MSG_DONTWAIT)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(&entry, token);
    }

    /// Waits once for readiness. Errors and hang-ups count always.
    pub(super) fn poll(&mut self, socket: BorrowedFd<'_>, mask: i32, token: Token) {
        let entry = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), mask.cast_unsigned()).build();
        self.push(&entry, token);
    }

    /// Sends one run of memory.
    ///
    /// # Safety
    ///
    /// `bytes` stays where it is and unchanged until this operation's completion is taken.
    pub(super) unsafe fn send(&mut self, socket: BorrowedFd<'_>, bytes: &[u8], flags: i32, token: Token) {
        let length = u32::try_from(bytes.len()).expect("a piece is far below 4 GiB");
        let entry =
            opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), length).flags(flags).build();
        self.push(&entry, token);
    }

    /// Sends what a message header names.
    ///
    /// # Safety
    ///
    /// The header and everything it names stay where they are and unchanged until this operation's completion
    /// is taken.
    pub(super) unsafe fn send_message(
        &mut self,
        socket: BorrowedFd<'_>,
        message: *const libc::msghdr,
        flags: i32,
        token: Token,
    ) {
        let flags = flags.cast_unsigned();
        let entry = opcode::SendMsg::new(types::Fd(socket.as_raw_fd()), message).flags(flags).build();
        self.push(&entry, token);
    }

    /// Cancels the operation of this token, whose own completion then comes. Says nothing itself where that
    /// succeeds.
    pub(super) fn cancel(&mut self, token: Token) {
        let entry = opcode::AsyncCancel::new(token.into())
            .build()
            .user_data(Token::driver(Op::Cancel, 0).into())
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.push_entry(&entry);
    }

    fn push(&mut self, entry: &squeue::Entry, token: Token) {
        self.in_flight += 1;
        self.push_entry(&entry.clone().user_data(token.into()));
    }

    fn push_entry(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the descriptors that an entry names are open until its operation's last completion (a
            // connection, a listener and the post are closed only with nothing in flight), and so is the
            // memory, by the contract of the two functions that name some. Were that false, the kernel would
            // use what the number or the memory became since.
            match unsafe { self.ring.submission().push(entry) } {
                Ok(()) => return,
                Err(_full) => {
                    self.calls += 1;
                    // A failure (EINTR, EBUSY, EAGAIN) is retried: without room there is nothing else to do.
                    let _ = self.ring.submit();
                }
            }
        }
    }

    /// Submits what was pushed, without letting the kernel do anything else: of what was submitted before nothing
    /// completes meanwhile. A failure leaves operations for the next `enter`.
    pub(super) fn submit(&mut self) {
        let pushed = self.ring.submission().len();
        if pushed == 0 {
            return;
        }
        self.calls += 1;
        let pushed = u32::try_from(pushed).expect("no more than the queue is long");
        // SAFETY: names no memory beside the queue, whose entries are valid by the contract of `push_entry`.
        let _ = unsafe { self.ring.submitter().enter::<libc::sigset_t>(pushed, 0, 0, None) };
    }

    /// Submits what was pushed, and if `wait`, waits for a completion or the timeout.
    pub(super) fn enter(&mut self, wait: bool, timeout: Option<Duration>) -> io::Result<()> {
        if !wait {
            let submission = self.ring.submission();
            if submission.is_empty() && !submission.taskrun() && !submission.cq_overflow() {
                return Ok(());
            }
        }
        self.calls += 1;
        let entered = if let (true, Some(timeout)) = (wait, timeout) {
            let timeout = types::Timespec::from(timeout);
            let arguments = types::SubmitArgs::new().timespec(&timeout);
            self.ring.submitter().submit_with_args(1, &arguments)
        } else {
            self.ring.submit_and_wait(usize::from(wait))
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match errno(&error) {
                // The timeout; a signal; completions to be taken first; memory short for the moment.
                libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Whether completions can be taken.
    pub(super) fn is_ready(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Takes a completion.
    pub(super) fn pop(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }
}
