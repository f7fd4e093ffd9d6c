//! How many signatures a shard verifies: the one costly thing that anybody can ask of it.
//!
//! The per-IP budget holds each address to its share, but not many addresses together. Promises that over any span of
//! `t` seconds no more than `rate * (t + 1)` are granted, so that registrations never take more of a shard's core than
//! that, and its links go on.

use crate::{pacing::Bucket, time::Time};

/// What is left to be verified.
#[derive(Debug)]
pub(super) struct Verifications {
    /// A second; 0 is no bound.
    rate: u64,
    left: Bucket,
    at: Time,
}

impl Verifications {
    /// `rate` a second, with a burst of as many; 0 grants everything.
    pub(super) fn new(rate: u32) -> Verifications {
        let rate = u64::from(rate);
        Verifications { rate, left: Bucket::full(rate), at: Time(0) }
    }

    /// Takes one; `false` is over the rate.
    pub(super) fn take(&mut self, now: Time) -> bool {
        if self.rate == 0 {
            return true;
        }
        self.left.accrue(self.rate, self.rate, now.since(self.at));
        self.at = now;
        self.left.take(1) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_grants_its_burst_and_then_what_accrues() {
        let mut verifications = Verifications::new(4);
        let start = Time(0) + Duration::from_secs(100);
        let mut granted =
            |ms| (0..10).filter(|_| verifications.take(start + Duration::from_millis(ms))).count();
        assert_eq!([0, 249, 250, 1000, 1000, 60_000].map(&mut granted), [4, 0, 1, 3, 0, 4]);
    }

    #[test]
    fn a_rate_of_zero_is_none() {
        let mut verifications = Verifications::new(0);
        assert!((0..10_000).all(|_| verifications.take(Time(0))));
    }
}
