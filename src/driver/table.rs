//! The private descriptor table of a shard thread.
//!
//! With a table of its own a shard's accepts and closes never contend with other cores, and `RLIMIT_NOFILE`
//! counts per shard. The price: a descriptor number means something only in the thread whose table it is in,
//! so nothing that owns descriptors may cross threads afterwards.

use std::{io, os::fd::RawFd};

/// Whether a thread got a table of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Private {
    /// It did.
    Yes,
    /// The kernel refused with this errno; the thread shares the process's table, and nothing was closed.
    Refused(i32),
}

/// Gives the calling thread its own descriptor table (`unshare(2)`), then closes in it every inherited
/// descriptor but 0, 1, 2 and those in `keep`: a listener or connection that stayed open in a copy would
/// outlive its owner's close.
///
/// Errors: closing failed (`close_range` needs Linux 5.9).
pub(super) fn make_private(keep: &[RawFd]) -> io::Result<Private> {
    if let Private::Refused(error) = unshare() {
        return Ok(Private::Refused(error));
    }
    let mut keep: Vec<u32> = keep.iter().filter_map(|&number| u32::try_from(number).ok()).collect();
    keep.sort_unstable();
    let mut from = 3;
    for kept in keep.into_iter().filter(|&number| number > 2) {
        if kept > from {
            close_range(from, kept - 1)?;
        }
        from = from.max(kept + 1);
    }
    close_range(from, u32::MAX)?;
    Ok(Private::Yes)
}

/// Gives the calling thread a copy of the descriptor table. What was open stays open in both, under the same
/// numbers; what is opened or closed from now on concerns one of them.
pub(super) fn unshare() -> Private {
    // SAFETY: unshare names no memory. Every number that was open names the same file in the copy, so that whoever
    // owns it still does.
    match unsafe { libc::unshare(libc::CLONE_FILES) } {
        0 => Private::Yes,
        _ => Private::Refused(super::socket::errno(&io::Error::last_os_error())),
    }
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: closes descriptors of this thread's copy of the table alone, where by the contract of
    // `make_private` nothing owns them: every owner is a value of another thread, in whose table they stay
    // open.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn is_open(number: RawFd) -> bool {
        // SAFETY: F_GETFD only reads the table.
        unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
    }

    #[test]
    fn a_private_table_keeps_only_what_it_is_told_to() {
        let files: Vec<_> = (0..5).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let numbers: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let seen = numbers.clone();
        let thread = std::thread::spawn(move || {
            assert_eq!(make_private(&[seen[3], 1, seen[1]]).unwrap(), Private::Yes);
            seen.iter().map(|&number| is_open(number)).collect::<Vec<_>>()
        });
        assert_eq!(thread.join().unwrap(), [false, true, false, true, false]);
        assert!(numbers.iter().all(|&number| is_open(number)), "the other table is as it was");
    }
}
