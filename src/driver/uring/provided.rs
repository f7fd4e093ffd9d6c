//! The ring of receive buffers that the kernel takes from.
//!
//! Holds the memory shared with the kernel and a copy of its order, which is how the buffers of a bundle,
//! named by its first alone, are found. Promises that a buffer stands in the ring at most once. Buffers enter
//! when the driver is about to wait, and only then.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types::BufRingEntry;

use super::ring::{BUFFER_GROUP, Ring};
use crate::driver::buffers::Pool;

#[derive(Debug)]
pub(super) struct Provided {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    /// Where the next buffer goes; wraps with the kernel's own 16 bits.
    tail: u16,
    mask: u16,
    /// Which buffer stands at each place, and where each buffer stands.
    order: Vec<u32>,
    places: Vec<u16>,
}

impl Provided {
    /// Registers a buffer ring with room for every buffer of the pool. It is empty at first.
    pub(super) fn register(ring: &Ring, pool: &Pool) -> io::Result<Provided> {
        let count = u16::try_from(pool.count()).expect("a pool has at most 32768 buffers");
        assert!(count.is_power_of_two(), "the pool sees to that");
        // Page-aligned, as registering demands.
        let layout = Layout::array::<BufRingEntry>(count.into())
            .and_then(|layout| layout.align_to(4096))
            .expect("at most half a megabyte");
        // SAFETY: the layout's size is not zero: a pool has at least one buffer.
        let memory = unsafe { alloc_zeroed(layout) };
        let entries =
            NonNull::new(memory.cast::<BufRingEntry>()).unwrap_or_else(|| handle_alloc_error(layout));
        let provided = Provided {
            entries,
            layout,
            tail: 0,
            mask: count - 1,
            order: vec![0; count.into()],
            places: vec![0; count.into()],
        };
        let address = entries.as_ptr().addr() as u64;
        // SAFETY: the memory has room for `count` entries and outlives the registration: `Provided` is
        // dropped only after the ring has nothing in flight and was unregistered, or never (see `Drop for
        // UringDriver`).
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) }?;
        Ok(provided)
    }

    /// Hands every buffer that the pool has to the kernel.
    pub(super) fn provide_all(&mut self, pool: &mut Pool) {
        let before = self.tail;
        while let Some(buffer) = pool.provide() {
            let place = self.tail & self.mask;
            self.order[place as usize] = buffer;
            self.places[buffer as usize] = place;
            let (address, length) = (pool.address(buffer).addr() as u64, pool.buffer_bytes());
            // SAFETY: `place` is below the count, so the entry lies within the allocation.
            let entry = unsafe { self.entries.add(place.into()) };
            // SAFETY: the kernel reads entries only below the tail, which is published afterwards; the place
            // is vacant, since the ring has as many places as there are buffers and each stands in it at most
            // once.
            let entry = unsafe { &mut *entry.as_ptr() };
            entry.set_addr(address);
            entry.set_len(u32::try_from(length).expect("a buffer is far below 4 GiB"));
            entry.set_bid(u16::try_from(buffer).expect("at most 32768 buffers"));
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            // SAFETY: `entries` is the initialised first entry of the ring, in whose reserved field the
            // kernel keeps the tail.
            let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
            // SAFETY: the field is ours, aligned for 16 bits, and lives as long as `self`; both sides access
            // it atomically.
            let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
            // The kernel reads the tail with acquire semantics and then the entries.
            tail.store(self.tail, Ordering::Release);
        }
    }

    /// The buffer that stands `after` places behind `first` in the order in which the kernel takes them.
    pub(super) fn following(&self, first: u32, after: usize) -> u32 {
        let place = usize::from(self.places[first as usize]) + after;
        self.order[place & usize::from(self.mask)]
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with this layout; the registration is over (see there).
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
