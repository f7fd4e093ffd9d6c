//! The receive buffers and pipes of one simulated driver.
//!
//! Holds them and who has them. Promises that a buffer is lent once at a time and that what comes back is
//! scribbled over, so that whoever still looks at it sees rubbish. A buffer that is given back twice, or
//! never, is a panic.

use super::dice::Dice;
use crate::driver::{Chunk, HEADROOM};

/// The receive buffers of one driver.
#[derive(Debug)]
pub(super) struct Pool {
    buffers: Vec<Box<[u8]>>,
    free: Vec<u32>,
    /// Buffers of closed connections that the network still reads: until which turn.
    late: Vec<(u64, Vec<u32>)>,
    /// Receives that found none free.
    pub(super) exhausted: u64,
}

impl Pool {
    /// `count` buffers of `bytes` each, with the headroom in front.
    pub(super) fn new(count: usize, bytes: usize) -> Pool {
        Pool {
            buffers: (0..count).map(|_| vec![SCRIBBLE; HEADROOM + bytes].into_boxed_slice()).collect(),
            free: (0..count as u32).collect(),
            late: Vec::new(),
            exhausted: 0,
        }
    }

    /// Bytes that a buffer can receive.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffers[0].len() - HEADROOM
    }

    /// How many buffers there are, and how many of them are free.
    pub(super) fn levels(&self) -> (usize, usize) {
        (self.buffers.len(), self.free.len())
    }

    /// Lends a buffer for `bytes` bytes, filled by `receive`; `None` without a free one.
    pub(super) fn lend(
        &mut self,
        bytes: usize,
        dice: &mut Dice,
        receive: impl FnOnce(&mut [u8]),
    ) -> Option<Chunk> {
        let number = self.free.pop()?;
        let memory = &mut self.buffers[number as usize];
        dice.fill(&mut memory[..HEADROOM]);
        receive(&mut memory[HEADROOM..HEADROOM + bytes]);
        Some(Chunk::new(number, bytes))
    }

    /// A chunk's memory.
    pub(super) fn memory(&mut self, chunk: &Chunk) -> &mut [u8] {
        &mut self.buffers[chunk.buffer() as usize][..HEADROOM + chunk.len()]
    }

    /// All memory, for sending.
    pub(super) fn all(&self) -> &[Box<[u8]>] {
        &self.buffers
    }

    /// Takes a buffer back.
    pub(super) fn take_back(&mut self, number: u32) {
        assert!(!self.free.contains(&number), "receive buffer {number} came back twice");
        self.buffers[number as usize].fill(SCRIBBLE);
        self.free.push(number);
    }

    /// Takes buffers back at a later turn.
    pub(super) fn take_back_later(&mut self, turn: u64, numbers: Vec<u32>) {
        self.late.push((turn, numbers));
    }

    /// Takes back what is due at `turn`.
    pub(super) fn settle(&mut self, turn: u64) {
        let mut back = Vec::new();
        self.late.retain_mut(|(due, numbers)| {
            if *due <= turn {
                back.append(numbers);
            }
            !numbers.is_empty()
        });
        for number in back {
            self.take_back(number);
        }
    }

    /// Buffers of closed connections that are still out.
    pub(super) fn late(&self) -> usize {
        self.late.iter().map(|(_, numbers)| numbers.len()).sum()
    }
}

/// What a free buffer holds.
const SCRIBBLE: u8 = 0xdd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_came_back_holds_nothing_of_what_it_held() {
        let mut pool = Pool::new(1, 8);
        let mut dice = Dice::new(1);
        let chunk = pool.lend(3, &mut dice, |bytes| bytes.copy_from_slice(b"abc")).expect("one is free");
        assert_eq!(&pool.memory(&chunk)[HEADROOM..], b"abc");
        assert!(pool.lend(1, &mut dice, |_| ()).is_none());
        pool.take_back(chunk.into_buffer());
        let chunk = pool.lend(3, &mut dice, |_| ()).expect("it came back");
        assert_eq!(&pool.memory(&chunk)[HEADROOM..], [SCRIBBLE; 3]);
        pool.take_back(chunk.into_buffer());
    }

    #[test]
    #[should_panic(expected = "came back twice")]
    fn a_buffer_that_comes_back_twice_is_found() {
        let mut pool = Pool::new(2, 8);
        pool.take_back(0);
    }
}
