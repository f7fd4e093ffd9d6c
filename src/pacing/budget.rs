//! The three buckets of a link (link.md section 7).
//!
//! - **rate**: bytes are due when `LINK_RELAY_MAX_BPS` has paid for them.
//! - **quota**: an hour's allowance; it covers what it holds, and the shortfall goes to
//! - **trickle**: the floor, so that a link over its quota still moves.
//!
//! The reference charges a message at once and delays it until its debt is repaid. Here bytes are granted in
//! slices as the buckets fill: the last byte leaves at the same time, the ones before it earlier, and nothing
//! is ever owed.

use std::time::Duration;

use super::bucket::{Bucket, due};
use crate::{limits::PACING_SLICE, time::Time};

/// The limits of a link in bytes and bytes per second; zero turns a limit off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rates {
    /// `LINK_RELAY_MAX_BPS`.
    pub rate_bps: u64,
    /// `LINK_RELAY_HOURLY_BYTES`.
    pub hourly_bytes: u64,
    /// `LINK_RELAY_TRICKLE_BPS`; only used with a quota.
    pub trickle_bps: u64,
}

impl Rates {
    fn quota_bps(&self) -> u64 {
        // Below one byte a second the trickle alone carries the link.
        self.hourly_bytes / 3600
    }

    fn slice(&self, bps: u64) -> u64 {
        (bps.saturating_mul(PACING_SLICE.as_millis() as u64) / 1000).max(1)
    }

    /// Whether nothing limits a link.
    pub fn is_unlimited(&self) -> bool {
        self.rate_bps == 0 && self.hourly_bytes == 0
    }
}

/// What a link has left to spend. Both directions are charged to the same budget.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    rate: Bucket,
    quota: Bucket,
    trickle: Bucket,
    counted_at: Time,
    throttled: bool,
    usage_step: u8,
}

impl Budget {
    /// Full buckets.
    pub fn new(rates: &Rates, now: Time) -> Budget {
        Budget {
            rate: Bucket::full(rates.rate_bps.saturating_mul(2)),
            quota: Bucket::full(rates.hourly_bytes),
            trickle: Bucket::full(rates.trickle_bps.saturating_mul(2)),
            counted_at: now,
            throttled: false,
            usage_step: 0,
        }
    }

    /// How many of `want` bytes (at least one) may go now, or when asking again will grant some.
    ///
    /// Grants all of `want` if the buckets hold it; else whatever they hold once that is a slice's worth, so
    /// that a waiting link is woken about ten times a second, not per byte.
    pub fn allow(&mut self, rates: &Rates, now: Time, want: u64) -> Result<u64, Time> {
        debug_assert!(want > 0);
        if rates.is_unlimited() {
            return Ok(want);
        }
        self.accrue(rates, now);
        let mut granted = want;
        let mut at = now;
        if rates.rate_bps > 0 {
            let need = want.min(rates.slice(rates.rate_bps));
            let missing = self.rate.missing_micro(need);
            if missing > 0 {
                at = at.max(due(now, missing, rates.rate_bps));
            }
            granted = granted.min(self.rate.bytes());
        }
        if rates.hourly_bytes > 0 {
            let bps = rates.trickle_bps + rates.quota_bps();
            let need = want.min(rates.slice(bps));
            let missing =
                self.quota.missing_micro(need).saturating_sub(self.trickle.bytes().saturating_mul(1_000_000));
            if missing > 0 {
                at = at.max(due(now, missing, bps));
            }
            granted = granted.min(self.quota.bytes() + self.trickle.bytes());
        }
        // Two fractions of a byte do not make one: `at` may say now while nothing whole is there.
        if at > now || granted == 0 { Err(at.max(now + Duration::from_micros(1))) } else { Ok(granted) }
    }

    /// Charges `bytes` that `allow` granted. Returns whether the operator's host should hear of its usage: a
    /// step of 0.5, 0.8, 0.95 or 1 was crossed, either way, or `throttled` flipped.
    pub fn charge(&mut self, rates: &Rates, bytes: u64) -> bool {
        if rates.rate_bps > 0 {
            self.rate.take(bytes);
        }
        if rates.hourly_bytes == 0 || bytes == 0 {
            return false;
        }
        let shortfall = self.quota.take(bytes);
        self.trickle.take(shortfall);
        let throttled = shortfall > 0;
        let step = usage_step(self.quota.bytes(), self.quota.used(rates.hourly_bytes));
        let news = throttled != self.throttled || step != self.usage_step;
        self.throttled = throttled;
        self.usage_step = step;
        news
    }

    /// The share of the hour's allowance that is used up, 0 to 1 rounded to four places; `None` without a
    /// quota.
    pub fn used(&mut self, rates: &Rates, now: Time) -> Option<f64> {
        if rates.hourly_bytes == 0 {
            return None;
        }
        self.accrue(rates, now);
        Some((self.quota.used(rates.hourly_bytes).clamp(0.0, 1.0) * 10_000.0).round() / 10_000.0)
    }

    /// Whether the last charge ran over the quota.
    pub fn throttled(&self) -> bool {
        self.throttled
    }

    fn accrue(&mut self, rates: &Rates, now: Time) {
        let span = now.since(self.counted_at);
        if span.is_zero() {
            return;
        }
        self.counted_at = now;
        self.rate.accrue(rates.rate_bps, rates.rate_bps.saturating_mul(2), span);
        self.quota.accrue(rates.quota_bps(), rates.hourly_bytes, span);
        self.trickle.accrue(rates.trickle_bps, rates.trickle_bps.saturating_mul(2), span);
    }
}

fn usage_step(left: u64, used: f64) -> u8 {
    if left == 0 {
        return 4;
    }
    [0.5, 0.8, 0.95].iter().filter(|step| used >= **step).count() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { rate_bps: 1_048_576, hourly_bytes: 0, trickle_bps: 16_384 };

    /// Sends `total` bytes as fast as the budget allows; returns when each slice left.
    fn run(rates: &Rates, total: u64) -> Vec<(Time, u64)> {
        let mut now = Time(1_000_000);
        let mut budget = Budget::new(rates, now);
        let mut left = total;
        let mut sent = Vec::new();
        while left > 0 {
            match budget.allow(rates, now, left.min(65_536)) {
                Ok(bytes) => {
                    budget.charge(rates, bytes);
                    sent.push((now, bytes));
                    left -= bytes;
                }
                Err(at) => {
                    assert!(at > now);
                    now = at;
                }
            }
        }
        sent
    }

    #[test]
    fn a_burst_of_two_seconds_goes_at_once_and_the_rest_at_the_rate() {
        let sent = run(&RATES, 10 * 1_048_576);
        let start = sent[0].0;
        let burst: u64 = sent.iter().filter(|(at, _)| *at == start).map(|(_, bytes)| bytes).sum();
        assert_eq!(burst, 2 * 1_048_576);
        let end = sent.last().unwrap().0;
        let took = end.since(start).as_secs_f64();
        assert!((7.9..=8.01).contains(&took), "{took}");
    }

    #[test]
    fn any_second_after_the_burst_is_within_ten_percent_of_the_rate() {
        let sent = run(&RATES, 10 * 1_048_576);
        let start = sent[0].0;
        for offset_ms in (100..6_900).step_by(37) {
            let from = start + Duration::from_millis(offset_ms);
            let to = from + Duration::from_secs(1);
            let bytes: u64 =
                sent.iter().filter(|(at, _)| *at >= from && *at < to).map(|(_, bytes)| bytes).sum();
            assert!(
                (943_718..=1_153_434).contains(&bytes),
                "{bytes} bytes in the second from {offset_ms} ms"
            );
        }
    }

    #[test]
    fn without_limits_everything_is_granted_and_nothing_is_told() {
        let rates = Rates::default();
        let mut budget = Budget::new(&rates, Time(0));
        assert_eq!(budget.allow(&rates, Time(0), u64::MAX), Ok(u64::MAX));
        assert!(!budget.charge(&rates, u64::MAX));
        assert_eq!(budget.used(&rates, Time(0)), None);
    }

    #[test]
    fn over_the_quota_the_trickle_carries_the_link() {
        let rates = Rates { rate_bps: 0, hourly_bytes: 36_000, trickle_bps: 1000 };
        let sent = run(&rates, 36_000 + 2_000 + 11_000);
        let start = sent[0].0;
        let burst: u64 = sent.iter().filter(|(at, _)| *at == start).map(|(_, bytes)| bytes).sum();
        assert_eq!(burst, 38_000);
        // The allowance comes back at 10 B/s beside the 1000 B/s of the floor.
        let took = sent.last().unwrap().0.since(start).as_secs_f64();
        assert!((10.7..=10.95).contains(&took), "{took}");
    }

    #[test]
    fn usage_is_told_at_each_step_and_when_throttling_flips() {
        let rates = Rates { rate_bps: 0, hourly_bytes: 36_000, trickle_bps: 1000 };
        let mut budget = Budget::new(&rates, Time(0));
        let told: Vec<bool> = [17_000, 1_000, 10_800, 5_400, 1_800, 100]
            .map(|bytes| {
                budget.allow(&rates, Time(0), bytes).unwrap();
                budget.charge(&rates, bytes)
            })
            .to_vec();
        assert_eq!(told, [false, true, true, true, true, true]);
        assert!(budget.throttled());
        assert_eq!(budget.used(&rates, Time(0)), Some(1.0));
        // Ten minutes later a sixth of the allowance is back.
        let later = Time(600_000_000);
        assert_eq!(budget.allow(&rates, later, 100), Ok(100));
        assert!(budget.charge(&rates, 100));
        assert!(!budget.throttled());
        assert_eq!(budget.used(&rates, later), Some(0.8361));
    }

    #[test]
    fn who_waits_is_woken_once_a_slice_is_paid_for_and_not_for_less() {
        let mut budget = Budget::new(&RATES, Time(0));
        assert_eq!(budget.allow(&RATES, Time(0), 3_000_000), Ok(2_097_152));
        budget.charge(&RATES, 2_097_152);
        let half = Time(50_000);
        for now in [Time(0), half] {
            assert_eq!(
                budget.allow(&RATES, now, 1_000_000),
                Err(Time(100_000)),
                "a tenth of a second's bytes"
            );
            assert_eq!(budget.allow(&RATES, now, 65_536), Err(Time(62_500)), "all that is wanted");
        }
        assert_eq!(budget.allow(&RATES, half, 50_000), Ok(50_000));
        assert_eq!(budget.allow(&RATES, Time(100_000), 1_000_000), Ok(104_857));
    }

    #[test]
    fn who_waits_for_the_quota_waits_for_what_it_and_the_floor_pay_together() {
        let rates = Rates { rate_bps: 0, hourly_bytes: 36_000, trickle_bps: 1000 };
        let mut budget = Budget::new(&rates, Time(0));
        assert_eq!(
            budget.allow(&rates, Time(0), 100_000),
            Ok(38_000),
            "the allowance and two seconds of the floor"
        );
        budget.charge(&rates, 38_000);
        // 10 B/s and 1000 B/s.
        assert_eq!(budget.allow(&rates, Time(0), 50), Err(Time(49_505)));
        assert_eq!(budget.allow(&rates, Time(0), 1000), Err(Time(100_000)));
        assert_eq!(budget.allow(&rates, Time(60_000), 1000), Err(Time(100_000)));
    }

    #[test]
    fn of_two_limits_the_one_that_pays_later_counts() {
        let slow_quota = Rates { rate_bps: 10_000, hourly_bytes: 3_600, trickle_bps: 1000 };
        let mut budget = Budget::new(&slow_quota, Time(0));
        budget.charge(&slow_quota, 20_000);
        assert_eq!(budget.allow(&slow_quota, Time(0), 100), Err(Time(99_901)));
        let slow_rate = Rates { rate_bps: 500, hourly_bytes: 3_600, trickle_bps: 1000 };
        let mut budget = Budget::new(&slow_rate, Time(0));
        budget.charge(&slow_rate, 20_000);
        assert_eq!(budget.allow(&slow_rate, Time(0), 50), Err(Time(100_000)));
    }

    #[test]
    fn unlimited_is_what_neither_limit_holds() {
        assert!(Rates::default().is_unlimited());
        assert!(Rates { trickle_bps: 5, ..Rates::default() }.is_unlimited(), "the floor limits nothing");
        assert!(!Rates { rate_bps: 1, ..Rates::default() }.is_unlimited());
        assert!(!Rates { hourly_bytes: 1, ..Rates::default() }.is_unlimited());
    }

    #[test]
    fn a_rate_of_one_byte_a_second_still_moves() {
        let rates = Rates { rate_bps: 1, hourly_bytes: 0, trickle_bps: 1 };
        let sent = run(&rates, 5);
        assert_eq!(sent.last().unwrap().0.since(sent[0].0), Duration::from_secs(3));
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_grants_nothing_twice() {
        let mut budget = Budget::new(&RATES, Time(10_000_000));
        assert_eq!(budget.allow(&RATES, Time(10_000_000), 2_097_152), Ok(2_097_152));
        budget.charge(&RATES, 2_097_152);
        assert!(budget.allow(&RATES, Time(9_000_000), 1).is_err());
        assert!(budget.allow(&RATES, Time(10_000_000), 1).is_err());
    }
}
