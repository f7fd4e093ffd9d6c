//! One token bucket.

use std::time::Duration;

use crate::time::Time;

/// Tokens in millionths of a byte, so that any whole rate accrues exactly at the clock's resolution.
const MICRO: u64 = 1_000_000;

/// A token bucket that fills at a rate up to a capacity, both given with every call so that an idle link
/// keeps eight bytes and a changed limit holds from the next call on.
///
/// Invariant: `tokens <= capacity`. Over any span `t` no more than `capacity + rate * t` bytes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    tokens_micro: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn full(capacity: u64) -> Bucket {
        Bucket { tokens_micro: capacity.saturating_mul(MICRO) }
    }

    /// Adds what accrued over `span`.
    pub fn accrue(&mut self, rate: u64, capacity: u64, span: Duration) {
        let span_us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let gained = rate.saturating_mul(span_us);
        self.tokens_micro = self.tokens_micro.saturating_add(gained).min(capacity.saturating_mul(MICRO));
    }

    /// Whole bytes in the bucket.
    pub fn bytes(&self) -> u64 {
        self.tokens_micro / MICRO
    }

    /// Takes up to `bytes`; what the bucket did not hold is returned.
    pub fn take(&mut self, bytes: u64) -> u64 {
        let wanted = bytes.saturating_mul(MICRO);
        if wanted <= self.tokens_micro {
            self.tokens_micro -= wanted;
            return 0;
        }
        let whole = self.bytes();
        self.tokens_micro -= whole * MICRO;
        bytes - whole
    }

    /// Millionths of a byte missing until it holds `bytes`.
    pub fn missing_micro(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(MICRO).saturating_sub(self.tokens_micro)
    }

    /// The share of the capacity that is in use, 0 to 1.
    pub fn used(&self, capacity: u64) -> f64 {
        if capacity == 0 {
            return 0.0;
        }
        1.0 - self.tokens_micro as f64 / (capacity as f64 * MICRO as f64)
    }
}

/// When `missing_micro` millionths of a byte have accrued at `rate` bytes per second, counted from `now`.
pub(super) fn due(now: Time, missing_micro: u64, rate: u64) -> Time {
    Time(now.0.saturating_add(missing_micro.div_ceil(rate.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accrues_exactly_and_never_over_capacity() {
        let mut bucket = Bucket::full(10);
        assert_eq!(bucket.take(10), 0);
        for _ in 0..1000 {
            bucket.accrue(3, 10, Duration::from_micros(1000));
        }
        assert_eq!(bucket.bytes(), 3);
        bucket.accrue(3, 10, Duration::from_secs(100));
        assert_eq!(bucket.bytes(), 10);
    }

    #[test]
    fn take_returns_the_shortfall_and_stops_at_zero() {
        let mut bucket = Bucket::full(4);
        assert_eq!(bucket.take(6), 2);
        assert_eq!(bucket.bytes(), 0);
        assert_eq!(bucket.take(1), 1);
    }

    #[test]
    fn the_due_time_is_when_the_bytes_are_there() {
        let mut bucket = Bucket::full(0);
        let now = Time(5);
        let at = due(now, bucket.missing_micro(7), 3);
        bucket.accrue(3, 100, at.since(now));
        assert!(bucket.bytes() >= 7);
        assert!(at.since(now) <= Duration::from_micros(2_333_334));
    }
}
