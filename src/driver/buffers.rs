//! The receive buffers of one driver.
//!
//! Holds a fixed number of equal buffers in one allocation, each with [`HEADROOM`] bytes in front, and who
//! has each of them. Promises that a buffer has one owner at a time: the pool, the kernel, or whoever holds
//! the chunk made of it. Never grows, and never makes a reference to memory that the kernel may write to.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io::IoSliceMut,
    ptr::NonNull,
};

use super::{Chunk, HEADROOM};

/// How large a shard's receive pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Buffers, rounded up to a power of two, at most 32768. The epoll driver needs one and ignores this.
    pub buffers: u32,
    /// Bytes of each. The epoll driver reads into at least 256 KiB: its one buffer stays in the cache, and what is
    /// read at once leaves at once.
    pub buffer_bytes: u32,
}

/// Least that the epoll driver offers to a read.
pub(super) const EPOLL_BUFFER_BYTES: u32 = 256 * 1024;

impl Default for PoolOptions {
    /// About 1 MiB: it stays in the second-level cache, which measured 30 % cheaper than 4 MiB.
    fn default() -> PoolOptions {
        PoolOptions { buffers: 64, buffer_bytes: 16 * 1024 }
    }
}

/// Who has a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// The pool.
    Pool,
    /// The kernel's buffer ring: it may be written to at any time.
    Kernel,
    /// A chunk lent out, or a queued send.
    Lent,
}

/// The buffers. Invariant: `free` lists exactly the buffers whose owner is the pool.
#[derive(Debug)]
pub(super) struct Pool {
    memory: NonNull<u8>,
    layout: Layout,
    buffer_bytes: usize,
    stride: usize,
    owners: Vec<Owner>,
    free: Vec<u32>,
    lent: usize,
}

impl Pool {
    pub(super) fn new(options: PoolOptions) -> Pool {
        let buffers = options.buffers.clamp(1, 1 << 15).next_power_of_two();
        let buffer_bytes = options.buffer_bytes.max(4096) as usize;
        let stride = (HEADROOM + buffer_bytes).next_multiple_of(64);
        let layout = Layout::from_size_align(stride * buffers as usize, 4096)
            .expect("options keep the pool far below the address space");
        // SAFETY: the layout's size is not zero: there is at least one buffer of at least 4096 bytes.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        // The pool is a fixed cost, paid here instead of by the first messages. Where the kernel does not know
        // the advice (before Linux 5.14), those pay.
        // SAFETY: the range is our own allocation, page-aligned at its start; populating leaves its bytes as
        // they are.
        unsafe { libc::madvise(memory.as_ptr().cast(), layout.size(), libc::MADV_POPULATE_WRITE) };
        Pool {
            memory,
            layout,
            buffer_bytes,
            stride,
            owners: vec![Owner::Pool; buffers as usize],
            // The last of the list is taken first: the buffer used last, which the cache still holds.
            free: (0..buffers).rev().collect(),
            lent: 0,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Buffers that are neither lent out nor queued.
    pub(super) fn unlent(&self) -> usize {
        self.count() - self.lent
    }

    /// Buffers that the pool itself has.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a buffer from the pool for a chunk.
    pub(super) fn lend(&mut self) -> Option<u32> {
        let buffer = self.free.pop()?;
        self.pass(buffer, Owner::Pool, Owner::Lent);
        self.lent += 1;
        Some(buffer)
    }

    /// Takes a buffer from the pool for the kernel.
    pub(super) fn provide(&mut self) -> Option<u32> {
        let buffer = self.free.pop()?;
        self.pass(buffer, Owner::Pool, Owner::Kernel);
        Some(buffer)
    }

    /// The kernel received into a buffer: from now on it is a chunk's.
    pub(super) fn lend_received(&mut self, buffer: u32) {
        self.pass(buffer, Owner::Kernel, Owner::Lent);
        self.lent += 1;
    }

    /// A lent buffer comes back.
    pub(super) fn give_back(&mut self, buffer: u32) {
        self.pass(buffer, Owner::Lent, Owner::Pool);
        self.lent -= 1;
        self.free.push(buffer);
    }

    /// Checked in every build: were it false, the kernel would write into memory that somebody reads,
    /// corruption far from here instead of a crash.
    fn pass(&mut self, buffer: u32, from: Owner, to: Owner) {
        let owner = &mut self.owners[buffer as usize];
        assert_eq!(*owner, from, "receive buffer {buffer} was to pass to {to:?}");
        *owner = to;
    }

    /// Where the received bytes of a buffer begin.
    pub(super) fn address(&self, buffer: u32) -> *mut u8 {
        assert!((buffer as usize) < self.count());
        // SAFETY: `buffer` is below the count, so the offset lies within the allocation of `count * stride`
        // bytes.
        unsafe { self.memory.as_ptr().add(buffer as usize * self.stride + HEADROOM) }
    }

    /// The memory of a lent buffer: [`HEADROOM`] bytes, then all its bytes.
    pub(super) fn memory_mut(&mut self, buffer: u32) -> &mut [u8] {
        assert_eq!(self.owners[buffer as usize], Owner::Lent);
        let start = self.address(buffer).wrapping_sub(HEADROOM);
        // SAFETY: the slice lies within the buffer's stride of our allocation, which is initialised (zeroed
        // at first). The buffer is lent, so the kernel has no receive on it, and `&mut self` excludes other
        // references; a send in flight only reads, and its buffer is in a queue, not in a chunk that could be
        // asked for here.
        unsafe { std::slice::from_raw_parts_mut(start, HEADROOM + self.buffer_bytes) }
    }

    /// The memory of several lent buffers behind their headroom, at most `bytes_max` in all, for one read
    /// into them. Returns how many of `rooms` were set.
    pub(super) fn rooms_mut<'a>(
        &'a mut self,
        buffers: &[u32],
        mut bytes_max: usize,
        rooms: &mut [IoSliceMut<'a>],
    ) -> usize {
        let mut count = 0;
        for (number, (&buffer, room)) in buffers.iter().zip(rooms).enumerate() {
            assert!(self.owners[buffer as usize] == Owner::Lent && !buffers[..number].contains(&buffer));
            let length = bytes_max.min(self.buffer_bytes);
            if length == 0 {
                break;
            }
            bytes_max -= length;
            // SAFETY: within the buffer's stride and initialised; lent, so the kernel has no receive on it.
            // The buffers are distinct (checked above), so the slices do not overlap, and `&mut self` stays
            // borrowed for as long as they live.
            *room = IoSliceMut::new(unsafe { std::slice::from_raw_parts_mut(self.address(buffer), length) });
            count += 1;
        }
        count
    }

    /// Part of a lent buffer, counted from the start of its headroom.
    pub(super) fn part(&self, buffer: u32, start: usize, len: usize) -> &[u8] {
        assert_eq!(self.owners[buffer as usize], Owner::Lent);
        assert!(start + len <= HEADROOM + self.buffer_bytes);
        let start = self.address(buffer).wrapping_sub(HEADROOM).wrapping_add(start);
        // SAFETY: within the buffer's stride (checked above) and initialised; lent, so the kernel does not
        // write to it.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// The bytes of a chunk, with the headroom in front.
    pub(super) fn bytes_mut(&mut self, chunk: &Chunk) -> &mut [u8] {
        &mut self.memory_mut(chunk.buffer())[..HEADROOM + chunk.len()]
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; the driver drops its pool only when no operation is in
        // flight.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_one_owner_and_its_own_memory() {
        let mut pool = Pool::new(PoolOptions { buffers: 3, buffer_bytes: 5000 });
        assert_eq!((pool.count(), pool.free(), pool.unlent()), (4, 4, 4));
        let lent: Vec<u32> = std::iter::from_fn(|| pool.lend()).collect();
        assert_eq!((lent.len(), pool.free(), pool.unlent()), (4, 0, 0));
        for &buffer in &lent {
            let mark = u8::try_from(buffer).unwrap() + 1;
            pool.memory_mut(buffer).fill(mark);
        }
        for buffer in lent {
            let mark = u8::try_from(buffer).unwrap() + 1;
            assert!(pool.part(buffer, 0, HEADROOM + 5000).iter().all(|&byte| byte == mark));
            pool.give_back(buffer);
        }
        assert_eq!((pool.free(), pool.unlent()), (4, 4));
    }

    #[test]
    #[should_panic(expected = "was to pass to")]
    fn giving_a_buffer_back_twice_is_caught() {
        let mut pool = Pool::new(PoolOptions::default());
        let buffer = pool.lend().unwrap();
        pool.give_back(buffer);
        pool.give_back(buffer);
    }
}
