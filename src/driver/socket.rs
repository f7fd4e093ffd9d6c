//! The system calls on one socket, as safe functions.
//!
//! Each returns what the kernel said, `EINTR` retried, and never blocks. Nothing here keeps state.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::{MaybeUninit, size_of},
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use socket2::{SockAddr, SockRef};

/// Where `tcpi_bytes_acked` is in `struct tcp_info` (linux/tcp.h): eight bytes of flags, 24 words, two 64-bit
/// rates.
const BYTES_ACKED_OFFSET: usize = 8 + 24 * 4 + 2 * 8;

/// Turns a C return value into a result, with a retry of what a signal interrupted.
fn retried(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        let returned = call();
        if let Ok(count) = usize::try_from(returned) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether an error only says "not now".
pub(super) fn is_not_now(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether an accept failed for want of something that only time brings back; other errors are one
/// connection's own (accept(2), "Error handling").
pub(super) fn exhausted(error: &io::Error) -> bool {
    matches!(errno(error), libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}

/// The errno of an error that came from the kernel.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Reads what is there, without waiting.
pub(super) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `into.len()` bytes to `into`, which we borrow mutably.
    retried(|| unsafe {
        libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT)
    })
}

/// Reads what is there into several places, one after the other, without waiting.
pub(super) fn receive_vectored(socket: BorrowedFd<'_>, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    // SAFETY: all zeros is a valid msghdr: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    // `IoSliceMut` has the layout of iovec (its documentation promises so).
    message.msg_iov = into.as_mut_ptr().cast();
    message.msg_iovlen = into.len() as _;
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: `message` names `into.len()` parts of live memory, which we borrow mutably.
    retried(|| unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })
}

/// Writes what fits, without waiting. `more` promises that more is written at once, so that the kernel may keep the
/// last segment back for it.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], more: bool) -> io::Result<usize> {
    // SAFETY: the kernel reads at most `bytes.len()` bytes from `bytes`.
    retried(|| unsafe {
        libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), send_flags(more))
    })
}

/// Writes what fits of several runs, one after the other, without waiting. `more` as in [`send`].
pub(super) fn send_vectored(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    // SAFETY: all zeros is a valid msghdr: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    // `IoSlice` has the layout of iovec (its documentation promises so); sendmsg only reads through the
    // pointer.
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len() as _;
    // SAFETY: `message` names `parts.len()` parts of live memory, which the kernel only reads.
    retried(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, send_flags(more)) })
}

fn send_flags(more: bool) -> i32 {
    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 }
}

/// Moves up to `bytes_max` bytes between a socket and a pipe, without waiting. The socket must be
/// `O_NONBLOCK`.
pub(super) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, bytes_max: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    let (null_in, null_out) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: no memory of ours is named: both offsets are null, as pipes and sockets require.
    retried(|| unsafe { libc::splice(from.as_raw_fd(), null_in, to.as_raw_fd(), null_out, bytes_max, flags) })
}

/// Accepts one connection, without waiting. The listener must be `O_NONBLOCK`.
pub(super) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: a null address asks for none.
    let number = retried(|| unsafe { libc::accept4(listener.as_raw_fd(), address, length, flags) } as isize)?;
    let number = i32::try_from(number).expect("descriptors are ints");
    // SAFETY: accept4 succeeded, so the number is an open descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The peer's address, an IPv4-mapped one turned into IPv4. `None` when the peer is gone already.
pub(super) fn peer(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address = SockRef::from(&socket).peer_addr().ok().as_ref().and_then(SockAddr::as_socket)?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Takes the pending error of a socket (`SO_ERROR`): afterwards the socket no longer reports it.
pub(super) fn take_error(socket: BorrowedFd<'_>) -> Option<i32> {
    let error = SockRef::from(&socket).take_error().ok().flatten()?;
    error.raw_os_error()
}

/// Sends FIN. A connection that is gone needs none, so its error is of no interest.
pub(super) fn shut_down(socket: BorrowedFd<'_>) {
    let _ = SockRef::from(&socket).shutdown(std::net::Shutdown::Write);
}

/// Makes the close of this socket an RST.
pub(super) fn reset_on_close(socket: BorrowedFd<'_>) {
    let _ = SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
}

/// Whether there is something to receive.
pub(super) fn has_unread(socket: BorrowedFd<'_>) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let peeked = SockRef::from(&socket).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
    peeked.is_ok_and(|bytes| bytes > 0)
}

/// `tcpi_bytes_acked`, where the kernel's `tcp_info` reaches that far (Linux 4.1).
pub(super) fn bytes_acked(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut info = [0u8; BYTES_ACKED_OFFSET + size_of::<u64>()];
    let mut length = libc::socklen_t::try_from(info.len()).expect("a small constant");
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that long.
    let returned = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, info.as_mut_ptr().cast(), &raw mut length)
    };
    if returned != 0 || (length as usize) < info.len() {
        return None;
    }
    let bytes = info[BYTES_ACKED_OFFSET..].try_into().expect("the array ends eight bytes after the offset");
    Some(u64::from_ne_bytes(bytes))
}
