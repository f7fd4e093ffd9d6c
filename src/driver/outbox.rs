//! What is queued for sending on a connection, and the memory that it lies in.
//!
//! An [`Outbox`] holds pieces in order: parts of receive buffers, heap bytes, filled pipes. [`Memory`] holds
//! what the pieces lie in, and recycles emptied outboxes, so that an idle connection has none. Promises that
//! a piece's memory stays where it is from the moment it is queued until it is sent or discarded, and that
//! bytes leave in the order they were queued. Never writes to a socket.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Chunk, Pipe, buffers::Pool, pipes::Pipes};

/// Emptied outboxes kept for reuse: about what is queued in one turn of a busy shard.
const SPARE_OUTBOXES_MAX: usize = 256;
/// Emptied heap pieces kept for reuse, and how large one may be.
const SPARE_HEAPS_MAX: usize = 64;
const SPARE_HEAP_BYTES_MAX: usize = 16 * 1024;
/// A heap piece grows up to this; then the next one begins. About a receive buffer, so that what many stalled
/// readers leave is copied once: growing pieces further copied it again and cost half as much memory on top.
const HEAP_PIECE_BYTES: usize = 16 * 1024;

/// One run of bytes, in one place.
#[derive(Debug)]
enum Piece {
    /// `len` bytes from `start` (counted from the headroom) of a lent receive buffer.
    Buffer { buffer: u32, start: usize, len: usize },
    /// The bytes from `start` on.
    Heap { bytes: Vec<u8>, start: usize },
    /// The bytes from `start` on, of which others have their share.
    Shared { bytes: Bytes, start: usize },
    /// What a pipe holds.
    Pipe { pipe: u32 },
}

/// What comes first in an outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Front {
    /// Bytes in memory.
    Bytes,
    /// Bytes in this pipe.
    Pipe(u32),
}

/// The queue of one connection. Invariant: `bytes` is the sum of its pieces, none of which is empty.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// How many pieces at the front a send in flight covers: those neither grow nor move.
    flying: usize,
    flying_bytes: usize,
    /// Bytes that the kernel took and the shard has not been told of.
    pub(super) untold: usize,
    /// What that send says to the kernel where it covers several pieces. Kept for the next.
    message: Option<Box<Message>>,
}

/// Pieces that one send covers at most.
pub(super) const RUNS_MAX: usize = 16;

/// A message header and what it names, at an address that does not change.
#[derive(Debug)]
struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; RUNS_MAX],
}

impl Outbox {
    /// Bytes that the kernel has not taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn front(&self, memory: &Memory) -> Option<Front> {
        self.pieces.front().map(|piece| match piece {
            Piece::Pipe { pipe } => {
                debug_assert!(memory.pipes.held(*pipe) > 0);
                Front::Pipe(*pipe)
            }
            Piece::Buffer { .. } | Piece::Heap { .. } | Piece::Shared { .. } => Front::Bytes,
        })
    }

    /// Whether a pipe is anywhere in the queue.
    pub(super) fn has_pipe(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Pipe { .. }))
    }

    /// Whether the piece behind the first `count` is a pipe.
    pub(super) fn is_pipe_at(&self, count: usize) -> bool {
        matches!(self.pieces.get(count), Some(Piece::Pipe { .. }))
    }

    /// The runs of memory at the front, up to the first pipe.
    pub(super) fn runs<'a>(&'a self, memory: &'a Memory) -> impl Iterator<Item = &'a [u8]> {
        self.pieces.iter().map_while(move |piece| match piece {
            Piece::Buffer { buffer, start, len } => Some(memory.pool.part(*buffer, *start, *len)),
            Piece::Heap { bytes, start } => Some(&bytes[*start..]),
            Piece::Shared { bytes, start } => Some(&bytes[*start..]),
            Piece::Pipe { .. } => None,
        })
    }

    /// Says that a send in flight covers the first `pieces`, which are `bytes` long.
    pub(super) fn take_off(&mut self, pieces: usize, bytes: usize) {
        debug_assert!(self.flying == 0 && (1..=self.pieces.len()).contains(&pieces));
        (self.flying, self.flying_bytes) = (pieces, bytes);
    }

    /// A message of the first `count` runs. Its address and what it names stay until the outbox lands or is
    /// dropped.
    pub(super) fn message(&mut self, memory: &Memory, count: usize) -> *const libc::msghdr {
        let mut message = self.message.take().unwrap_or_else(Message::new);
        for (part, run) in message.parts.iter_mut().zip(self.runs(memory)).take(count) {
            *part = libc::iovec { iov_base: run.as_ptr().cast_mut().cast(), iov_len: run.len() };
        }
        let message = self.message.insert(message);
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = count as _;
        &raw const message.header
    }

    /// Says that no send is in flight any more. Returns how many bytes it covered.
    pub(super) fn land(&mut self) -> usize {
        self.flying = 0;
        std::mem::take(&mut self.flying_bytes)
    }
}

impl Message {
    fn new() -> Box<Message> {
        // SAFETY: all zeros is a valid message header (no address, no parts, no control data) and a valid
        // empty part.
        unsafe { Box::<Message>::new_zeroed().assume_init() }
    }
}

/// Where queued bytes lie.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) pool: Pool,
    pub(super) pipes: Pipes,
    held_bytes: usize,
    #[expect(clippy::vec_box, reason = "a connection has a box, so that an idle one has only its pointer")]
    spare_outboxes: Vec<Box<Outbox>>,
    spare_heaps: Vec<Vec<u8>>,
}

impl Memory {
    pub(super) fn new(pool: Pool, pipes: Pipes) -> Memory {
        Memory { pool, pipes, held_bytes: 0, spare_outboxes: Vec::new(), spare_heaps: Vec::new() }
    }

    /// Queued bytes on the heap, over all outboxes.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The outbox of a connection, taken from the spare ones where it has none.
    pub(super) fn outbox<'a>(&mut self, place: &'a mut Option<Box<Outbox>>) -> &'a mut Outbox {
        place.get_or_insert_with(|| self.spare_outboxes.pop().unwrap_or_default())
    }

    /// Takes an emptied outbox back.
    pub(super) fn recycle(&mut self, place: &mut Option<Box<Outbox>>) {
        if place.as_ref().is_some_and(|outbox| outbox.is_empty() && outbox.flying == 0) {
            let outbox = place.take().expect("looked at above");
            debug_assert_eq!(outbox.untold, 0, "an emptied outbox has told everything");
            if self.spare_outboxes.len() < SPARE_OUTBOXES_MAX {
                self.spare_outboxes.push(outbox);
            }
        }
    }

    /// Queues part of a chunk's buffer where it lies.
    pub(super) fn push_chunk(&mut self, outbox: &mut Outbox, chunk: Chunk, start: usize, len: usize) {
        debug_assert!(len > 0);
        outbox.pieces.push_back(Piece::Buffer { buffer: chunk.into_buffer(), start, len });
        outbox.bytes += len;
    }

    /// Queues a copy.
    pub(super) fn push_copy(&mut self, outbox: &mut Outbox, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        outbox.bytes += bytes.len();
        self.held_bytes += bytes.len();
        copy_behind(outbox, &mut self.spare_heaps, bytes);
    }

    /// Queues the bytes from `start` on where they lie.
    pub(super) fn push_heap(&mut self, outbox: &mut Outbox, bytes: Vec<u8>, start: usize) {
        debug_assert!(start < bytes.len());
        outbox.bytes += bytes.len() - start;
        self.held_bytes += bytes.len() - start;
        outbox.pieces.push_back(Piece::Heap { bytes, start });
    }

    /// Queues a share of `bytes`. Whoever shares them out counts them, by [`Memory::count_shared`].
    pub(super) fn push_shared(&mut self, outbox: &mut Outbox, bytes: Bytes) {
        debug_assert!(!bytes.is_empty());
        outbox.bytes += bytes.len();
        outbox.pieces.push_back(Piece::Shared { bytes, start: 0 });
    }

    /// Counts what was shared out, once, if anyone has it. The last share that is freed takes it back.
    pub(super) fn count_shared(&mut self, bytes: Bytes) {
        if !bytes.is_unique() {
            self.held_bytes += bytes.len();
        }
    }

    /// Queues a copy of part of a lent buffer, which stays lent.
    pub(super) fn push_copy_of(&mut self, outbox: &mut Outbox, buffer: u32, start: usize, len: usize) {
        outbox.bytes += len;
        self.held_bytes += len;
        let bytes = self.pool.part(buffer, start, len);
        copy_behind(outbox, &mut self.spare_heaps, bytes);
    }

    /// Queues what a pipe holds.
    pub(super) fn push_pipe(&mut self, outbox: &mut Outbox, pipe: Pipe) {
        outbox.bytes += self.pipes.held(pipe.0);
        outbox.pieces.push_back(Piece::Pipe { pipe: pipe.0 });
    }

    /// The kernel took `bytes` from the front. What is sent whole is given back.
    pub(super) fn advance(&mut self, outbox: &mut Outbox, mut bytes: usize) {
        outbox.bytes -= bytes;
        while bytes > 0 {
            let piece = outbox.pieces.front_mut().expect("the kernel takes no more than it was given");
            let taken = match piece {
                Piece::Buffer { start, len, .. } => {
                    let taken = bytes.min(*len);
                    (*start, *len) = (*start + taken, *len - taken);
                    if *len > 0 {
                        return;
                    }
                    taken
                }
                Piece::Heap { bytes: heap, start } => {
                    let taken = bytes.min(heap.len() - *start);
                    *start += taken;
                    self.held_bytes -= taken;
                    if *start < heap.len() {
                        return;
                    }
                    taken
                }
                Piece::Shared { bytes: shared, start } => {
                    let taken = bytes.min(shared.len() - *start);
                    *start += taken;
                    if *start < shared.len() {
                        return;
                    }
                    taken
                }
                Piece::Pipe { pipe } => {
                    let taken = bytes.min(self.pipes.held(*pipe));
                    self.pipes.drained(*pipe, taken);
                    if self.pipes.held(*pipe) > 0 {
                        return;
                    }
                    taken
                }
            };
            bytes -= taken;
            let piece = outbox.pieces.pop_front().expect("looked at above");
            self.free(piece);
        }
    }

    /// Copies everything that lies in receive buffers to the heap, so that no buffer waits for a slow peer.
    /// Only while no send is in flight.
    pub(super) fn hold(&mut self, outbox: &mut Outbox) {
        debug_assert_eq!(outbox.flying, 0);
        if !outbox.pieces.iter().any(|piece| matches!(piece, Piece::Buffer { .. })) {
            return;
        }
        let mut held = VecDeque::with_capacity(outbox.pieces.len());
        for piece in std::mem::take(&mut outbox.pieces) {
            match piece {
                Piece::Buffer { buffer, start, len } => {
                    let mut copy = self.spare_heaps.pop().unwrap_or_default();
                    copy.extend_from_slice(self.pool.part(buffer, start, len));
                    self.held_bytes += len;
                    self.pool.give_back(buffer);
                    held.push_back(Piece::Heap { bytes: copy, start: 0 });
                }
                other => held.push_back(other),
            }
        }
        outbox.pieces = held;
    }

    /// Discards everything. Only while no send is in flight.
    pub(super) fn clear(&mut self, outbox: &mut Outbox) {
        debug_assert_eq!(outbox.flying, 0);
        (outbox.bytes, outbox.untold) = (0, 0);
        while let Some(piece) = outbox.pieces.pop_front() {
            if let Piece::Heap { bytes, start } = &piece {
                self.held_bytes -= bytes.len() - start;
            }
            self.free(piece);
        }
    }

    fn free(&mut self, piece: Piece) {
        match piece {
            Piece::Buffer { buffer, .. } => self.pool.give_back(buffer),
            Piece::Heap { bytes, .. } => self.keep_heap(bytes),
            Piece::Shared { bytes, .. } => {
                if bytes.is_unique() {
                    self.held_bytes -= bytes.len();
                }
            }
            Piece::Pipe { pipe } => self.pipes.give_back(pipe),
        }
    }

    fn keep_heap(&mut self, mut bytes: Vec<u8>) {
        if self.spare_heaps.len() < SPARE_HEAPS_MAX && bytes.capacity() <= SPARE_HEAP_BYTES_MAX {
            bytes.clear();
            self.spare_heaps.push(bytes);
        }
    }
}

/// Appends to the last heap piece where that is not in flight and not full, or begins another.
fn copy_behind(outbox: &mut Outbox, spare_heaps: &mut Vec<Vec<u8>>, bytes: &[u8]) {
    let at_rest = outbox.pieces.len() > outbox.flying;
    if let Some(Piece::Heap { bytes: last, .. }) = outbox.pieces.back_mut()
        && at_rest
        && last.len() + bytes.len() <= HEAP_PIECE_BYTES
    {
        last.extend_from_slice(bytes);
        return;
    }
    let mut copy = spare_heaps.pop().unwrap_or_default();
    copy.extend_from_slice(bytes);
    outbox.pieces.push_back(Piece::Heap { bytes: copy, start: 0 });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{HEADROOM, PoolOptions};

    fn memory() -> Memory {
        Memory::new(Pool::new(PoolOptions { buffers: 4, buffer_bytes: 4096 }), Pipes::new(1))
    }

    fn chunk_of(memory: &mut Memory, text: &[u8]) -> Chunk {
        let buffer = memory.pool.lend().unwrap();
        memory.pool.memory_mut(buffer)[HEADROOM..HEADROOM + text.len()].copy_from_slice(text);
        Chunk::new(buffer, text.len())
    }

    fn queued(outbox: &Outbox, memory: &Memory) -> Vec<u8> {
        outbox.runs(memory).flatten().copied().collect()
    }

    #[test]
    fn pieces_leave_in_order_and_give_their_memory_back() {
        let (mut memory, mut outbox) = (memory(), Outbox::default());
        memory.push_copy(&mut outbox, b"ab");
        let chunk = chunk_of(&mut memory, b"cdefg");
        memory.push_chunk(&mut outbox, chunk, HEADROOM + 1, 3);
        memory.push_copy(&mut outbox, b"hi");
        memory.push_copy(&mut outbox, b"jk");
        assert_eq!(queued(&outbox, &memory), b"abdefhijk");
        assert_eq!((outbox.bytes(), memory.held_bytes(), memory.pool.unlent()), (9, 6, 3));

        memory.advance(&mut outbox, 3);
        assert_eq!(queued(&outbox, &memory), b"efhijk");
        assert_eq!((memory.held_bytes(), memory.pool.unlent()), (4, 3));

        memory.hold(&mut outbox);
        assert_eq!(queued(&outbox, &memory), b"efhijk");
        assert_eq!((outbox.bytes(), memory.held_bytes(), memory.pool.unlent()), (6, 6, 4));

        memory.advance(&mut outbox, 5);
        memory.clear(&mut outbox);
        assert_eq!((outbox.bytes(), memory.held_bytes(), outbox.is_empty()), (0, 0, true));
    }

    #[test]
    fn shared_bytes_count_once_and_until_the_last_share_is_gone() {
        let mut memory = memory();
        let mut outboxes = [Outbox::default(), Outbox::default(), Outbox::default()];
        let bytes = Bytes::from(b"shared".to_vec());
        for outbox in &mut outboxes {
            memory.push_copy(outbox, b"1");
            memory.push_shared(outbox, bytes.clone());
            memory.push_copy(outbox, b"2");
        }
        memory.count_shared(bytes);
        assert_eq!(memory.held_bytes(), 6 + 3 * 2);
        let [first, second, third] = &mut outboxes;
        assert_eq!((first.bytes(), queued(first, &memory)), (8, b"1shared2".to_vec()));
        memory.advance(first, 4);
        memory.hold(first);
        assert_eq!(queued(first, &memory), b"red2");
        memory.advance(first, 4);
        memory.clear(second);
        assert_eq!(memory.held_bytes(), 6 + 2, "the third has its share still");
        memory.advance(third, 8);
        assert_eq!(memory.held_bytes(), 0);

        memory.count_shared(Bytes::from(b"nobody has it".to_vec()));
        assert_eq!(memory.held_bytes(), 0);
    }

    #[test]
    fn what_is_in_flight_does_not_grow() {
        let (mut memory, mut outbox) = (memory(), Outbox::default());
        memory.push_copy(&mut outbox, b"flying");
        outbox.take_off(1, 6);
        memory.push_copy(&mut outbox, b"behind");
        let runs: Vec<&[u8]> = outbox.runs(&memory).collect();
        assert_eq!(runs, [b"flying", b"behind"]);
    }

    #[test]
    fn an_emptied_outbox_is_used_again() {
        let (mut memory, mut place) = (memory(), None);
        memory.outbox(&mut place).pieces.reserve(100);
        let capacity = place.as_ref().unwrap().pieces.capacity();
        memory.recycle(&mut place);
        assert!(place.is_none());
        assert_eq!(memory.outbox(&mut place).pieces.capacity(), capacity);
    }
}
