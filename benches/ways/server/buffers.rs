//! Receive buffers and the ring that the kernel takes them from, plain or filled piece by piece.

use std::{
    alloc::{Layout, alloc_zeroed, handle_alloc_error},
    io,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{cqueue, types::BufRingEntry};

use super::ring::Ring;
use crate::way::{Pump, Receive};

/// Never freed: they live as long as the process.
pub struct Buffers {
    memory: *mut u8,
    entries: *mut BufRingEntry,
    buffer_bytes: usize,
    tail: u16,
    mask: u16,
    /// Which buffer stands at each place of the ring, and where each buffer stands.
    order: Vec<u16>,
    places: Vec<u16>,
    states: Vec<State>,
    free: Vec<u16>,
    /// Buffers that the kernel has done with and somebody has not.
    lent: usize,
    is_incremental: bool,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Pieces of it that are queued.
    pieces: u32,
    /// Where the kernel goes on, in an incremental buffer.
    head: u32,
    /// The kernel has done with it.
    is_filled: bool,
}

/// Bytes in a buffer.
pub struct Received {
    pub buffer: u16,
    pub start: u32,
    pub bytes: u32,
}

impl Buffers {
    pub fn register(ring: &Ring, pump: &Pump) -> io::Result<Buffers> {
        let count = pump.buffers;
        let buffer_bytes = pump.buffer_bytes as usize;
        let is_incremental = pump.receive == Receive::Incremental;
        let memory = allocate(usize::from(count) * buffer_bytes);
        let entries = allocate(usize::from(count) * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        let flags = if is_incremental { IOU_PBUF_RING_INC } else { 0 };
        let address = entries.addr() as u64;
        // SAFETY: room for as many entries, aligned to pages, never freed.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, flags) }?;
        Ok(Buffers {
            memory,
            entries,
            buffer_bytes,
            tail: 0,
            mask: count - 1,
            order: vec![0; count.into()],
            places: vec![0; count.into()],
            states: vec![State::default(); count.into()],
            free: (0..count).rev().collect(),
            lent: 0,
            is_incremental,
        })
    }

    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    pub fn with_kernel(&self) -> usize {
        self.states.len() - self.lent - self.free.len()
    }

    /// Whether more than half are queued.
    pub fn are_short(&self) -> bool {
        2 * self.lent > self.states.len()
    }

    /// Hands all that are free to the kernel.
    pub fn provide_all(&mut self) {
        while let Some(buffer) = self.free.pop() {
            let place = self.tail & self.mask;
            self.order[usize::from(place)] = buffer;
            self.places[usize::from(buffer)] = place;
            self.states[usize::from(buffer)] = State::default();
            let address = self.address(buffer, 0).addr() as u64;
            // SAFETY: the place lies within the ring, and above the tail, which is published below.
            let entry = unsafe { &mut *self.entries.add(place.into()) };
            entry.set_addr(address);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the first entry of the ring, where the kernel keeps the tail; both sides access it atomically.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The pieces that a receive filled, each to be given back by `done`.
    pub fn received(&mut self, first: u16, bytes: u32, flags: u32, mut each: impl FnMut(Received)) {
        if self.is_incremental {
            let state = &mut self.states[usize::from(first)];
            let start = state.head;
            state.head += bytes;
            state.pieces += 1;
            if !cqueue::buffer_more(flags) {
                state.is_filled = true;
                self.lent += 1;
            }
            return each(Received { buffer: first, start, bytes });
        }
        let mut left = bytes;
        let mut place = self.places[usize::from(first)];
        while left > 0 {
            let buffer = self.order[usize::from(place & self.mask)];
            let bytes = left.min(self.buffer_bytes as u32);
            self.states[usize::from(buffer)] = State { pieces: 1, head: 0, is_filled: true };
            self.lent += 1;
            each(Received { buffer, start: 0, bytes });
            left -= bytes;
            place = place.wrapping_add(1);
        }
    }

    /// Takes a free buffer for a direct read.
    pub fn lend(&mut self) -> Option<u16> {
        let buffer = self.free.pop()?;
        self.states[usize::from(buffer)] = State { pieces: 1, head: 0, is_filled: true };
        self.lent += 1;
        Some(buffer)
    }

    /// A piece was sent or copied.
    pub fn done(&mut self, buffer: u16) {
        let state = &mut self.states[usize::from(buffer)];
        state.pieces -= 1;
        if state.pieces == 0 && state.is_filled {
            self.lent -= 1;
            self.free.push(buffer);
        }
    }

    pub fn address(&self, buffer: u16, start: u32) -> *mut u8 {
        assert!(usize::from(buffer) < self.states.len() && start as usize <= self.buffer_bytes);
        // SAFETY: within the allocation, by the line above.
        unsafe { self.memory.add(usize::from(buffer) * self.buffer_bytes + start as usize) }
    }

    /// Bytes of a piece.
    pub fn bytes(&self, buffer: u16, start: u32, bytes: u32) -> &[u8] {
        assert!((start + bytes) as usize <= self.buffer_bytes);
        // SAFETY: within the allocation and initialised; the kernel writes only behind what it has received.
        unsafe { std::slice::from_raw_parts(self.address(buffer, start), bytes as usize) }
    }
}

/// Zeroed pages, all of them there.
fn allocate(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, 4096).expect("a few megabytes");
    // SAFETY: not of size zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: our own allocation; populating leaves its bytes as they are.
    unsafe { libc::madvise(memory.cast(), bytes, libc::MADV_POPULATE_WRITE) };
    memory
}

/// The group of the one buffer ring.
pub const GROUP: u16 = 0;
/// From linux/io_uring.h.
const IOU_PBUF_RING_INC: u16 = 2;
