//! The one source of chance in a simulation.
//!
//! Holds a seeded generator, or a script that a fuzzer wrote, and turns it into the few questions that the simulator
//! asks. Everything drawn comes from here, in an order that only the seed or script decides, so that it replays its
//! run exactly. Never reads anything else.

use std::collections::VecDeque;

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

/// A generator with the questions that the simulator asks.
#[derive(Clone, Debug)]
pub struct Dice {
    /// Throws that are decided already, two bytes each.
    script: VecDeque<u8>,
    generator: ChaCha12Rng,
}

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Dice {
        Dice { script: VecDeque::new(), generator: ChaCha12Rng::seed_from_u64(seed) }
    }

    /// Dice whose first throws are decided by `script`, two bytes each: a changed byte changes one throw.
    pub fn scripted(script: &[u8]) -> Dice {
        Dice { script: script.iter().copied().collect(), ..Dice::new(script.len() as u64) }
    }

    /// Whether the next throw is decided already.
    pub fn has_script(&self) -> bool {
        !self.script.is_empty()
    }

    /// Dice of their own for a part of the run, so that what that part draws does not disturb the others.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.bits())
    }

    /// A cryptographic generator for what the product itself draws.
    pub fn generator(&mut self) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let Some(low) = self.script.pop_front() else { return self.generator.next_u64() };
        let high = self.script.pop_front().unwrap_or_default();
        // An odd factor spreads the two bytes over all bits, so that every question depends on both.
        u64::from(u16::from_le_bytes([low, high])).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }

    /// Fills `bytes` with random ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.generator.fill_bytes(bytes);
    }

    /// True in `per_million` of a million throws.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.bits() % 1_000_000 < u64::from(per_million)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// A size from 1 to `max`, small ones as likely as large ones: every power of two gets the same share.
    pub fn size(&mut self, max: usize) -> usize {
        let magnitudes = usize::BITS - max.leading_zeros();
        let top = 1usize << self.below(magnitudes as usize);
        self.between(top, (top * 2 - 1).min(max))
    }

    /// Puts `items` in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_another_does_not() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_script_decides_its_throws_and_no_others() {
        let draw = |script: &[u8]| {
            let mut dice = Dice::scripted(script);
            (0..4).map(|_| dice.bits()).collect::<Vec<_>>()
        };
        let (one, other) = (draw(&[1, 2, 3, 4]), draw(&[1, 2, 7, 4]));
        assert_eq!((one[0], &one[2..]), (other[0], &other[2..]));
        assert_ne!(one[1], other[1]);
        let mut dice = Dice::scripted(&[1, 2, 3]);
        assert_eq!([0; 3].map(|_| (dice.has_script(), dice.bits()).0), [true, true, false]);
    }

    #[test]
    fn sizes_reach_both_ends_and_stay_inside() {
        let mut dice = Dice::new(7);
        let sizes: Vec<usize> = (0..10_000).map(|_| dice.size(100)).collect();
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&1), Some(&100)));
        assert!((0..1000).all(|_| dice.size(1) == 1));
    }
}
