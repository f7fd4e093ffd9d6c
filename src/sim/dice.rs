//! The one source of chance in a simulation.
//!
//! Holds a seeded generator and turns it into the few questions that the simulator asks. Everything drawn
//! comes from here, in an order that only the seed decides, so that a seed replays its run exactly. Never
//! reads anything else.

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

/// A seeded generator with the questions that the simulator asks.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha12Rng);

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(ChaCha12Rng::seed_from_u64(seed))
    }

    /// Dice of their own for a part of the run, so that what that part draws does not disturb the others.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.0.next_u64())
    }

    /// A cryptographic generator for what the product itself draws.
    pub fn generator(&mut self) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(self.0.next_u64())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `bytes` with random ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// True in `per_million` of a million throws.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.0.next_u64() % 1_000_000 < u64::from(per_million)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
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
    fn sizes_reach_both_ends_and_stay_inside() {
        let mut dice = Dice::new(7);
        let sizes: Vec<usize> = (0..10_000).map(|_| dice.size(100)).collect();
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&1), Some(&100)));
        assert!((0..1000).all(|_| dice.size(1) == 1));
    }
}
