//! The only I/O and the only unsafe code: sockets, completions and the memory that the kernel writes to.
//!
//! A [`Driver`] belongs to one shard thread. It is told what to do by calls that never block and never fail
//! on behalf of a peer, and it answers with [`Completion`]s, taken one at a time. Three implementations keep
//! this contract: io_uring, epoll and the simulated one in `crate::sim`; the shard is generic over them and
//! cannot tell which it drives.
//!
//! # The contract
//!
//! ```text
//! loop {
//!     driver.wait(deadline)?;                       // submits what was asked, waits for the first completion
//!     while let Some(done) = driver.next() { .. }   // each handled whole before the next is taken
//! }
//! ```
//!
//! - **Chunks.** A [`Completion::Received`] lends a [`Chunk`] of receive memory. It must be given back before
//!   `next` is called again, by [`Driver::send_chunk`] or [`Driver::release`]; dropping one panics in debug
//!   builds. Nothing above the driver holds a chunk over a call of `next`.
//! - **Headroom.** [`Driver::bytes_mut`] shows a chunk with [`HEADROOM`] writable bytes in front of the
//!   received ones, so that a frame header can be written in place even where the chunk starts inside a
//!   frame.
//! - **Sends** are queued per connection in order and leave together; the first attempt never waits and sends
//!   from the memory the bytes were received into. Bytes that the kernel did not take at that attempt are
//!   copied to the heap (`held_bytes` counts them over all connections) and the chunk's memory goes back to
//!   the pool: no pool buffer waits for a slow peer.
//! - **Receiving** starts only by [`Driver::read`]. While a connection is not read, its hang-up is still
//!   reported.
//! - **Stale names.** After `close` no completion names the connection again. A call that names a connection
//!   that is no longer there does nothing.
//! - **Order.** The completions of one connection come in the order in which they happened: bytes before the
//!   end.

mod buffers;
mod choose;
mod clock;
pub mod dial;
mod epoll;
pub mod listen;
mod outbox;
mod pending;
mod pipes;
mod poller;
pub mod post;
pub mod process;
mod slots;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod uring;
mod write;

use std::{io, net::SocketAddr, ops::Range, time::Duration};

use bytes::Bytes;

pub use self::{
    buffers::PoolOptions,
    choose::{Choice, ChooseError, Chosen, Kind, choose},
    clock::Clock,
    epoll::EpollDriver,
    table::Private,
    uring::{UringDriver, locked_bytes},
};

use crate::{
    id::ConnId,
    time::{Now, Time},
};

/// Writable bytes in front of every chunk: room for the longest header a relay writes (RFC 6455 section 5.2:
/// 2 + 8 bytes, unmasked), rounded up to keep payloads aligned.
pub const HEADROOM: usize = 16;

/// What a driver is made of. Everything in it belongs to the shard's thread.
#[derive(Debug)]
pub struct Setup {
    /// The process's clocks.
    pub clock: Clock,
    /// Where to accept connections, once [`Driver::resume_accept`] was called.
    pub listeners: Vec<listen::Listener>,
    /// The shard's ends of the post.
    pub post: post::Ends,
    /// The receive buffers.
    pub pool: PoolOptions,
    /// Most pipes for splicing, each two descriptors; 0 turns splicing off.
    pub pipes_max: u32,
    /// Connections above which accepting fails (`ENFILE`). Connections that come by the post are not refused.
    pub connections_max: u32,
    /// How long a connection is quiet before the io_uring driver parks it, and up to twice that; zero parks
    /// none. The epoll driver has all of them in its set as it is.
    pub park_after: Duration,
}

/// How a connection is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Not at all. Bytes that the kernel had already delivered may still arrive; [`Completion::Stopped`] says
    /// that none will any more. (Only after `Stream` or `Once`: turning off what is off answers nothing. It
    /// is no longer owed once reading was turned on again, or ended.)
    Off,
    /// One receive of at most `bytes_max` bytes (at least 1; the driver may receive less, one buffer's worth
    /// will do), then off by itself without a `Stopped`: the last chunk of it has `following == 0`. Nothing
    /// is in flight afterwards. Paced connections are read this way, never for more than is paid for. Asked
    /// again while it waits, it keeps its first bound.
    Once {
        /// The most to receive.
        bytes_max: u32,
    },
    /// As bytes come, until turned off or the end.
    Stream,
    /// No receive: one [`Completion::Readable`] when there is something to read, then off. For
    /// [`Driver::splice_in`].
    Readiness,
}

impl Read {
    /// Whether both read in the same way, whatever their bounds.
    fn is_like(self, other: Read) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// What happened. Every variant names its connection; none is delivered for a connection that was closed or
/// posted.
#[derive(Debug)]
pub enum Completion {
    /// A listener accepted a connection. It is not read until told so.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// Its peer's address, IPv4-mapped IPv6 addresses turned into IPv4.
        peer: SocketAddr,
    },
    /// Accepting failed (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) and has stopped until
    /// [`Driver::resume_accept`].
    AcceptFailed {
        /// The errno.
        error: i32,
    },
    /// After [`Driver::stop_accept`]: the accept queues were drained to `EAGAIN`, those that outlive this process
    /// apart, and the listeners are closed.
    AcceptStopped,
    /// Bytes arrived.
    Received {
        /// On which connection.
        conn: ConnId,
        /// The bytes.
        chunk: Chunk,
        /// How many more bytes of the same receive come in the very next completions, all of this connection.
        following: usize,
    },
    /// The peer sends no more: end of file (`error` is `None`) or a broken connection. Reading is off.
    /// Sending may still work after an end of file.
    Ended {
        /// Which connection.
        conn: ConnId,
        /// The errno of a broken connection.
        error: Option<i32>,
    },
    /// The answer to `Read::Off`: nothing more will be received.
    Stopped {
        /// Which connection.
        conn: ConnId,
    },
    /// The answer to `Read::Readiness`.
    Readable {
        /// Which connection.
        conn: ConnId,
    },
    /// The kernel took `bytes` more of what was queued on the connection. It may have taken none: whenever an
    /// attempt begins a wait, that is told, with what [`Driver::queued`] says is left. Where more was queued meanwhile
    /// that has not been offered to the kernel, the bytes may be told together with those.
    Sent {
        /// Which connection.
        conn: ConnId,
        /// How many bytes; 0 where something waits and nothing of it was taken.
        bytes: usize,
    },
    /// Sending broke; what was queued is discarded. A receive may still deliver bytes and `Ended`.
    SendFailed {
        /// Which connection.
        conn: ConnId,
        /// The errno.
        error: i32,
    },
    /// The connection broke (reset, timed out) while it was not read. An orderly end is not reported here: it
    /// is read in its turn as `Ended`.
    Broken {
        /// Which connection.
        conn: ConnId,
        /// The errno (`SO_ERROR`).
        error: i32,
    },
    /// A connection came through the post from another shard.
    Arrived {
        /// The connection, not read until told so.
        conn: ConnId,
        /// What the sender called it.
        tag: u64,
    },
    /// A connection sent through the post was lost on arrival, because this shard's descriptor table is full.
    /// Its sender still has it.
    ArrivalFailed {
        /// What the sender called it.
        tag: u64,
    },
    /// Something came by the post, a wake-up from another thread or a connection: there may be mail.
    Woken,
}

/// A run of received bytes in the driver's memory. See the contract above.
#[derive(Debug)]
#[must_use = "a chunk goes back to the driver by `send_chunk` or `release`"]
pub struct Chunk {
    buffer: u32,
    len: u32,
}

impl Chunk {
    /// Names `len` bytes received into `buffer`. Only drivers make chunks.
    pub(crate) fn new(buffer: u32, len: usize) -> Chunk {
        Chunk { buffer, len: u32::try_from(len).expect("a receive buffer is far below 4 GiB") }
    }

    /// How many bytes were received.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds nothing. A driver never delivers such a chunk.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the chunk back: its buffer's number. Only drivers do.
    pub(crate) fn into_buffer(self) -> u32 {
        let buffer = self.buffer;
        std::mem::forget(self);
        buffer
    }

    /// The buffer's number, without taking the chunk back.
    pub(crate) fn buffer(&self) -> u32 {
        self.buffer
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        debug_assert!(std::thread::panicking(), "receive buffer {} was lost", self.buffer);
    }
}

/// What [`Driver::splice_in`] found.
#[derive(Debug)]
pub enum SpliceIn {
    /// This many bytes are in this pipe now.
    Moved(Pipe, usize),
    /// Nothing to read yet: ask for `Read::Readiness`.
    Empty,
    /// No pipe is free, or this driver does not splice: receive instead.
    Unavailable,
    /// The end, as in [`Completion::Ended`].
    Ended(Option<i32>),
}

/// A pipe of the driver's pool that holds bytes. Goes back by [`Driver::send_pipe`].
#[derive(Debug)]
#[must_use = "a pipe goes back to the driver by `send_pipe`"]
pub struct Pipe(pub(crate) u32);

/// The other shard's post is full for now; the connection was not sent.
#[derive(Debug, PartialEq, Eq)]
pub struct PostFull;

/// Counters that only the driver can count. Plain numbers, read by the shard when it reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Receive buffers in the pool.
    pub buffers: u64,
    /// Receive buffers not lent out or queued for sending at the moment.
    pub buffers_free: u64,
    /// Receives that found no free buffer.
    pub buffers_exhausted: u64,
    /// Bytes on the heap that wait for slow peers.
    pub held_bytes: u64,
    /// System calls made by `wait` and by direct reads and writes.
    pub syscalls: u64,
    /// Completions that named a connection no longer there.
    pub stale: u64,
    /// Frames' bytes that went through a pipe instead of a buffer.
    pub spliced_bytes: u64,
    /// Connections parked at the moment: quiet, and without a receive in flight.
    pub parked: u64,
    /// Times that a connection was parked.
    pub parked_total: u64,
    /// Times that a parked connection had something to read.
    pub woken_total: u64,
}

/// One shard's sockets. See the contract at the head of this module.
pub trait Driver {
    /// Reads both clocks. Called twice a turn: for the time that all of it works with, and for how long it
    /// took.
    fn now(&self) -> Now;

    /// Submits everything asked for since the last call and waits until there is a completion or `deadline`
    /// has passed; `None` waits without limit. Returns at once while completions are left from before.
    fn wait(&mut self, deadline: Option<Time>) -> io::Result<()>;

    /// The next completion, or `None` when this turn's are used up.
    fn next(&mut self) -> Option<Completion>;

    /// Changes how a connection is read. Repeating the current state does nothing.
    fn read(&mut self, conn: ConnId, how: Read);

    /// The chunk's bytes, with [`HEADROOM`] bytes in front: `[HEADROOM..HEADROOM + chunk.len()]` was
    /// received.
    fn bytes_mut(&mut self, chunk: &Chunk) -> &mut [u8];

    /// Gives a chunk back unsent.
    fn release(&mut self, chunk: Chunk);

    /// Queues the part `range` of `bytes_mut(chunk)` for sending, and gives the chunk back. An empty range is
    /// `release`.
    fn send_chunk(&mut self, conn: ConnId, chunk: Chunk, range: Range<usize>);

    /// Queues a copy of the part `range` of `bytes_mut(chunk)` for sending. The chunk stays the caller's.
    fn send_part(&mut self, conn: ConnId, chunk: &Chunk, range: Range<usize>);

    /// Queues a copy of `bytes` for sending.
    fn send_bytes(&mut self, conn: ConnId, bytes: &[u8]);

    /// Queues `bytes` from `start` on for sending, where they lie.
    fn send_vec(&mut self, conn: ConnId, bytes: Vec<u8>, start: usize);

    /// Queues the same bytes for sending on several connections. They are not copied: whoever sends last frees
    /// them, and they count as held once, from now on.
    fn send_shared(&mut self, conns: &[ConnId], bytes: Bytes);

    /// Moves up to `bytes_max` bytes from the connection, which must not be read at the time, into a pipe.
    fn splice_in(&mut self, conn: ConnId, bytes_max: usize) -> SpliceIn;

    /// Queues what a pipe holds for sending.
    fn send_pipe(&mut self, conn: ConnId, pipe: Pipe);

    /// Bytes queued on the connection that the kernel has not taken. What was queued since the last `wait`
    /// may not have been offered to it yet, so that a high number alone does not mean a slow peer.
    fn queued(&self, conn: ConnId) -> usize;

    /// Bytes on the heap, over all connections, that wait for slow peers.
    fn held_bytes(&self) -> usize;

    /// How many bytes the connection's peer has acknowledged (`tcpi_bytes_acked`), if the kernel tells.
    fn acked_bytes(&mut self, conn: ConnId) -> Option<u64>;

    /// Whether bytes that the connection's peer has sent lie in the kernel and no receive has taken them yet.
    fn has_unread(&mut self, conn: ConnId) -> bool;

    /// Ends our sending side (FIN) once everything queued is sent.
    fn shut_down(&mut self, conn: ConnId);

    /// Closes the connection; queued bytes are discarded. Memory of operations in flight stays the driver's
    /// until their last completion. `reset` makes the peer see an RST (`SO_LINGER` 0).
    fn close(&mut self, conn: ConnId, reset: bool);

    /// Hands the connection's descriptor to another shard, which finds it as [`Completion::Arrived`] with
    /// this `tag`. Nothing may be in flight on it: not read, nothing queued. Our own descriptor stays open
    /// until `close`, which the caller calls (with `reset` false) once the other shard has it.
    fn post(&mut self, conn: ConnId, shard: u16, tag: u64) -> Result<(), PostFull>;

    /// Serves a posted connection again: the other shard had no room for it.
    fn take_back(&mut self, conn: ConnId);

    /// Wakes another shard: it will see [`Completion::Woken`].
    fn wake(&mut self, shard: u16);

    /// Stops accepting: drains the accept queues to `EAGAIN` (but for inherited ones, whose connections wait for the
    /// next process), closes the listeners, then says `AcceptStopped`.
    fn stop_accept(&mut self);

    /// Starts accepting: at first, and again after [`Completion::AcceptFailed`].
    fn resume_accept(&mut self);

    /// Closes every connection, cancels and drains everything in flight and asserts that nothing is left.
    fn finish(&mut self);

    /// The driver's own counters.
    fn counters(&self) -> DriverCounters;
}
