//! One socket of a link, and what is queued for it.

use std::{collections::VecDeque, net::TcpStream};

use super::buffers::{Buffers, Received};

/// One run of bytes.
pub enum Piece {
    /// In a receive buffer.
    Buffer(Received),
    /// On the heap, from `start` on.
    Heap { bytes: Vec<u8>, start: usize },
}

/// The sending operation in flight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// None.
    No,
    /// One of so many bytes, or so many that are linked.
    Yes {
        /// The bytes of all.
        bytes: usize,
        /// Completions to come.
        operations: usize,
    },
}

pub struct Leg {
    pub socket: TcpStream,
    pub pieces: VecDeque<Piece>,
    /// Those in `pieces`.
    pub bytes: usize,
    pub sending: Sending,
    /// Bytes that the operations in flight have sent.
    pub sent: usize,
    /// The peer is slow: what is queued goes to the heap.
    pub is_stalled: bool,
    pub is_receiving: bool,
    pub is_cancelled: bool,
    /// Its peer does not take what comes: it is not read.
    pub is_paused: bool,
    pub is_starved: bool,
    pub is_changed: bool,
    message: Box<Message>,
}

/// A message header and what it names.
struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; RUNS_MAX],
}

impl Leg {
    pub fn new(socket: TcpStream) -> Leg {
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: zeros are a message header that names nothing.
        let header = unsafe { std::mem::zeroed() };
        Leg {
            socket,
            pieces: VecDeque::new(),
            bytes: 0,
            sending: Sending::No,
            sent: 0,
            is_stalled: false,
            is_receiving: false,
            is_cancelled: false,
            is_paused: false,
            is_starved: false,
            is_changed: false,
            message: Box::new(Message { header, parts: [part; RUNS_MAX] }),
        }
    }

    /// Queues what was received, where it lies, or a copy where that would wait.
    pub fn queue(&mut self, received: Received, buffers: &mut Buffers) {
        self.bytes += received.bytes as usize;
        if !self.is_stalled {
            return self.pieces.push_back(Piece::Buffer(received));
        }
        let bytes = buffers.bytes(received.buffer, received.start, received.bytes).to_vec();
        buffers.done(received.buffer);
        self.pieces.push_back(Piece::Heap { bytes, start: 0 });
    }

    /// Copies everything that is queued in receive buffers.
    pub fn hold(&mut self, buffers: &mut Buffers) {
        for piece in &mut self.pieces {
            if let Piece::Buffer(Received { buffer, start, bytes }) = *piece {
                *piece = Piece::Heap { bytes: buffers.bytes(buffer, start, bytes).to_vec(), start: 0 };
                buffers.done(buffer);
            }
        }
    }

    /// Takes sent bytes off the front.
    pub fn advance(&mut self, mut sent: usize, buffers: &mut Buffers) {
        self.bytes -= sent;
        while sent > 0 {
            let piece = self.pieces.front_mut().expect("what was sent was queued");
            let length = length(piece);
            if sent < length {
                match piece {
                    Piece::Buffer(received) => {
                        received.start += sent as u32;
                        received.bytes -= sent as u32;
                    }
                    Piece::Heap { start, .. } => *start += sent,
                }
                return;
            }
            sent -= length;
            if let Some(Piece::Buffer(received)) = self.pieces.pop_front() {
                buffers.done(received.buffer);
            }
        }
    }

    /// The header of a message of the first `runs` pieces. It and they stay where they are while it is in flight.
    pub fn message(&mut self, runs: usize, buffers: &Buffers) -> *const libc::msghdr {
        let Message { header, parts } = &mut *self.message;
        for (part, piece) in parts.iter_mut().zip(self.pieces.iter().take(runs)) {
            let (address, length) = run(piece, buffers);
            *part = libc::iovec { iov_base: address.cast_mut().cast(), iov_len: length };
        }
        header.msg_iov = parts.as_mut_ptr();
        header.msg_iovlen = runs;
        header
    }
}

/// Where a piece lies.
pub fn run(piece: &Piece, buffers: &Buffers) -> (*const u8, usize) {
    match piece {
        Piece::Buffer(received) => {
            (buffers.address(received.buffer, received.start).cast_const(), received.bytes as usize)
        }
        Piece::Heap { bytes, start } => (bytes[*start..].as_ptr(), bytes.len() - start),
    }
}

pub fn length(piece: &Piece) -> usize {
    match piece {
        Piece::Buffer(received) => received.bytes as usize,
        Piece::Heap { bytes, start } => bytes.len() - start,
    }
}

/// Pieces that one send covers at most, as in the relay.
pub const RUNS_MAX: usize = 16;
