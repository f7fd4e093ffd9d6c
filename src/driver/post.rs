//! The post between shards: descriptors travel by it, and it wakes.
//!
//! Holds one non-blocking `SOCK_SEQPACKET` pair per shard: everyone writes to the sending end, the shard
//! reads the other. A letter is one datagram: a tag with a descriptor (`SCM_RIGHTS`), or a single byte that
//! only wakes. Promises that a letter is delivered whole or refused at once, and that whoever finds the post
//! full and drops a wake-up loses nothing, because every letter wakes. Never blocks.
//!
//! The pairs are made before the shards start. A shard's thread gets a descriptor table of its own and adopts
//! its ends in it by number ([`EndNumbers::enter`]).

use std::{
    io,
    marker::PhantomData,
    mem::{MaybeUninit, size_of},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    sync::Arc,
};

use super::{
    PostFull,
    listen::Inherited,
    socket::{errno, is_not_now},
    table::{Private, make_private},
};

/// Room for one descriptor's control message, aligned as `cmsghdr` wants it.
#[repr(align(8))]
struct Control([u8; 64]);

// SAFETY: pure arithmetic in the C macro.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as usize;
const _: () = assert!(CONTROL_BYTES <= size_of::<Control>());

/// The pairs of all shards, as the main thread made them: two descriptors a shard, open for the life of the
/// process, so that their numbers stay valid wherever they were carried.
#[derive(Clone, Debug)]
pub struct Offices {
    receiving: Arc<[RawFd]>,
    sending: Arc<[RawFd]>,
}

/// Wakes shards from threads that share the main thread's descriptor table (main, control, signals).
#[derive(Clone, Debug)]
pub struct Wakers {
    sending: Arc<[RawFd]>,
}

/// The numbers of the ends that one shard uses, to be carried into its thread.
#[derive(Debug)]
pub struct EndNumbers {
    receiving: RawFd,
    sending: Arc<[RawFd]>,
}

/// A shard's ends, owned. Belongs to the thread that adopted them.
#[derive(Debug)]
pub struct Ends {
    receiving: OwnedFd,
    sending: Vec<OwnedFd>,
    /// A descriptor number means nothing in another thread's table.
    not_send: PhantomData<*const ()>,
}

/// What came by the post.
#[derive(Debug)]
pub(super) enum Letter {
    /// A connection and what its sender called it.
    Descriptor(u64, OwnedFd),
    /// A connection was sent, but this thread's descriptor table is full.
    Lost(u64),
    /// Only a wake-up.
    Wake,
}

impl Offices {
    /// Makes the pairs.
    pub fn new(shards: usize) -> io::Result<Offices> {
        let mut receiving = Vec::with_capacity(shards);
        let mut sending = Vec::with_capacity(shards);
        for _ in 0..shards {
            let (near, far) = pair()?;
            receiving.push(near.into_raw_fd());
            sending.push(far.into_raw_fd());
        }
        Ok(Offices { receiving: receiving.into(), sending: sending.into() })
    }

    /// For threads that are not shards.
    pub fn wakers(&self) -> Wakers {
        Wakers { sending: Arc::clone(&self.sending) }
    }

    /// For the thread of `shard`.
    pub fn ends_for(&self, shard: u16) -> EndNumbers {
        EndNumbers { receiving: self.receiving[shard as usize], sending: Arc::clone(&self.sending) }
    }
}

impl Wakers {
    /// Makes the shard's driver report [`super::Completion::Woken`].
    pub fn wake(&self, shard: u16) {
        // SAFETY: the pairs are never closed in the main thread's table.
        wake(unsafe { BorrowedFd::borrow_raw(self.sending[shard as usize]) });
    }
}

impl EndNumbers {
    /// The first thing a shard's thread does: gives the thread its own descriptor table, in which nothing is
    /// open but standard input, output and error, the shard's ends of the post and `inherited`. Where the kernel
    /// refuses, the thread shares the process's table (to be logged), and the ends are duplicates.
    ///
    /// Errors: no descriptor is left for a duplicate; inherited descriptors cannot be closed (`close_range`,
    /// Linux 5.9).
    pub fn enter(self, inherited: &[Inherited]) -> io::Result<(Private, Ends)> {
        let mut keep = self.sending.to_vec();
        keep.push(self.receiving);
        keep.extend(inherited.iter().map(Inherited::number));
        let private = make_private(&keep)?;
        Ok((private, self.adopt(private)?))
    }

    /// Owns the ends: by their numbers in a private table, where nothing else does; by duplicates in the
    /// shared one.
    fn adopt(&self, private: Private) -> io::Result<Ends> {
        let own = |number: RawFd| -> io::Result<OwnedFd> {
            if private == Private::Yes {
                // SAFETY: `enter` kept it open in this thread's new table, where nothing owns it.
                return Ok(unsafe { OwnedFd::from_raw_fd(number) });
            }
            // SAFETY: the pairs are never closed in the shared table.
            unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
        };
        let receiving = own(self.receiving)?;
        let sending = self.sending.iter().map(|&number| own(number)).collect::<io::Result<_>>()?;
        Ok(Ends { receiving, sending, not_send: PhantomData })
    }
}

impl Ends {
    pub(super) fn receiving(&self) -> BorrowedFd<'_> {
        self.receiving.as_fd()
    }

    /// Wakes a shard. One that is not there is not woken.
    pub(super) fn wake(&self, shard: u16) {
        if let Some(end) = self.sending.get(shard as usize) {
            wake(end.as_fd());
        }
    }

    /// Sends a descriptor. Ours stays open.
    pub(super) fn send(&self, shard: u16, tag: u64, socket: BorrowedFd<'_>) -> Result<(), PostFull> {
        let end = self.sending.get(shard as usize).ok_or(PostFull)?;
        let mut control = Control([0; 64]);
        let mut tag = tag.to_ne_bytes();
        let mut part = libc::iovec { iov_base: tag.as_mut_ptr().cast(), iov_len: tag.len() };
        let message = message(&mut part, &mut control);
        // SAFETY: `message.msg_control` names `Control`, large enough for one header with one descriptor
        // (asserted above).
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: pure arithmetic in the C macro.
        let length = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) };
        // SAFETY: `header` points to the aligned start of `control`, which we hold mutably.
        unsafe {
            header.write(libc::cmsghdr {
                cmsg_len: length as _,
                cmsg_level: libc::SOL_SOCKET,
                cmsg_type: libc::SCM_RIGHTS,
            });
        }
        // SAFETY: the data of the header lies within `control`.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: `data` has room for one descriptor number; it may be unaligned.
        unsafe { data.cast::<RawFd>().write_unaligned(socket.as_raw_fd()) };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: everything `message` names lives until the call returns.
        match unsafe { libc::sendmsg(end.as_raw_fd(), &raw const message, flags) } {
            // EAGAIN (the queue), ETOOMANYREFS (descriptors in flight), ENOBUFS: all say "not now".
            ..0 => Err(PostFull),
            _ => Ok(()),
        }
    }

    /// Takes the next letter, or `None` when there is none for now.
    pub(super) fn receive(&self) -> io::Result<Option<Letter>> {
        let mut control = Control([0; 64]);
        let mut tag = [0u8; 8];
        let mut part = libc::iovec { iov_base: tag.as_mut_ptr().cast(), iov_len: tag.len() };
        let mut message = message(&mut part, &mut control);
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: everything `message` names is writable and lives until the call returns.
        let received = unsafe { libc::recvmsg(self.receiving.as_raw_fd(), &raw mut message, flags) };
        let Ok(length) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::Interrupted => self.receive(),
                _ if is_not_now(&error) => Ok(None),
                _ => Err(error),
            };
        };
        if length < tag.len() {
            return Ok(Some(Letter::Wake));
        }
        let tag = u64::from_ne_bytes(tag);
        // SAFETY: the kernel filled in `msg_controllen`, so the header is null or lies within `control`.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        if header.is_null() {
            return Ok(Some(Letter::Lost(tag)));
        }
        // SAFETY: not null, so within `control`, written by the kernel.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: only this module writes to the pair, so the header carries one descriptor number.
        let number = unsafe { data.cast::<RawFd>().read_unaligned() };
        // SAFETY: the kernel just installed the descriptor for us; nothing else owns it.
        Ok(Some(Letter::Descriptor(tag, unsafe { OwnedFd::from_raw_fd(number) })))
    }
}

/// A message of one part and the control room.
fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: all zeros is a valid msghdr: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    message
}

/// A full queue needs no further wake-up, and a shard that is gone cannot be woken: no outcome is of
/// interest.
fn wake(end: BorrowedFd<'_>) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let byte = [0u8; 1];
    // SAFETY: the kernel reads one byte, which lives until the call returns.
    unsafe { libc::send(end.as_raw_fd(), byte.as_ptr().cast(), byte.len(), flags) };
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut numbers = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `numbers` has room for the two descriptors that the call fills in.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, numbers.as_mut_ptr()) } != 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(error.kind(), format!("socketpair (errno {}): {error}", errno(&error))));
    }
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    let near = unsafe { OwnedFd::from_raw_fd(numbers[0]) };
    // SAFETY: as above.
    Ok((near, unsafe { OwnedFd::from_raw_fd(numbers[1]) }))
}

#[cfg(test)]
impl Offices {
    /// Ends for a test that stays in one thread.
    pub(super) fn ends_here(&self, shard: u16) -> Ends {
        self.ends_for(shard).adopt(Private::Refused(0)).expect("descriptors to spare")
    }
}
