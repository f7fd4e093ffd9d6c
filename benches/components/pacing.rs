//! What a link pays for a message: asked whether it may go, then charged for it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use longsplice::{
    limits::TURN_BUDGET,
    pacing::{Bucket, Budget, Ledger, Leg, Rates},
    time::Time,
    timers::{Alarm, Wheel},
};

const MESSAGE_BYTES: u64 = 128;

/// One bucket alone, then a link's three with the limits off and on.
pub fn charging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("charge");
    let (rate, capacity) = (1 << 30, 1 << 31);
    let mut bucket = Bucket::full(capacity);
    assert_eq!((bucket.take(capacity), bucket.take(1)), (0, 1));
    group.bench_function("one bucket", |bencher| {
        bencher.iter(|| {
            bucket.accrue(rate, capacity, Duration::from_micros(black_box(1)));
            bucket.take(black_box(MESSAGE_BYTES))
        });
    });
    let unlimited = Rates::default();
    let limited = Rates { rate_bps: 1 << 30, hourly_bytes: 1 << 40, trickle_bps: 16_384 };
    let slow = Rates { rate_bps: 1, ..unlimited };
    let mut budget = Budget::new(&slow, Time(0));
    assert_eq!(budget.allow(&slow, Time(0), 3), Ok(2), "two seconds' worth");
    budget.charge(&slow, 2);
    assert_eq!(budget.allow(&slow, Time(0), 1), Err(Time(1_000_000)), "a byte a second");
    for (name, rates) in [("a link without limits", unlimited), ("a link with rate and quota", limited)] {
        let mut ledger = Ledger::new(&rates, Time(0));
        let mut now = Time(0);
        let mut forwarded = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                now = Time(now.0 + 1);
                let granted = ledger.budget.allow(&rates, now, black_box(MESSAGE_BYTES));
                assert_eq!(granted, Ok(MESSAGE_BYTES));
                forwarded += MESSAGE_BYTES;
                ledger.charge(&rates, now, Leg::Client, MESSAGE_BYTES)
            });
        });
        assert_eq!(ledger.bytes[Leg::Client as usize], forwarded);
    }
}

const LINKS: u32 = 50_000;
const RATES: Rates = Rates { rate_bps: 16_384, hourly_bytes: 0, trickle_bps: 0 };

/// Links that all wait for their rate, woken as their slices fall due: what pacing adds to the bytes' own cost.
pub fn waiting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("50,000 links at their rate");
    group.sample_size(10);
    let mut waiting = Waiting::new();
    let before = waiting.granted;
    let (wakes, _) = waiting.run(Duration::from_secs(1));
    let rate = (waiting.granted - before) as f64 / f64::from(LINKS);
    // A slice is at most 100 ms of the rate, and the last may not be due yet.
    assert!((14_700.0..=16_400.0).contains(&rate), "{rate} bytes a second and link");
    group.bench_function("the longest turn of a second", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| waiting.run(Duration::from_secs(1)).1).sum());
    });
    group.throughput(Throughput::Elements(wakes));
    group.bench_function("a second of wake-ups", |bencher| {
        bencher.iter(|| waiting.run(Duration::from_secs(1)));
    });
}

struct Waiting {
    wheel: Wheel,
    budgets: Vec<Budget>,
    now: Time,
    granted: u64,
}

impl Waiting {
    /// Every burst is spent, and every link waits.
    fn new() -> Waiting {
        let now = Time(1_000_000);
        let mut wheel = Wheel::new(now);
        let mut budgets = vec![Budget::new(&RATES, now); LINKS as usize];
        for (link, budget) in (0..).zip(&mut budgets) {
            budget.charge(&RATES, 2 * RATES.rate_bps);
            wheel.arm(now + Duration::from_micros(u64::from(link % 100_000)), Alarm::Shard(link));
        }
        Waiting { wheel, budgets, now, granted: 0 }
    }

    /// Wake-ups in so much time, and how long the longest turn took in truth.
    fn run(&mut self, span: Duration) -> (u64, Duration) {
        let end = self.now + span;
        let mut wakes = 0;
        let mut longest = Duration::ZERO;
        while let Some(now) = self.wheel.next_deadline().filter(|at| *at < end) {
            self.now = now;
            let start = Instant::now();
            for _ in 0..TURN_BUDGET {
                let Some(Alarm::Shard(link)) = self.wheel.pop(now) else { break };
                wakes += 1;
                let budget = &mut self.budgets[link as usize];
                // There is always more to send than is paid for.
                let mut due = budget.allow(&RATES, now, 65_536);
                while let Ok(bytes) = due {
                    self.granted += bytes;
                    budget.charge(&RATES, bytes);
                    due = budget.allow(&RATES, now, 65_536);
                }
                self.wheel.arm(due.expect_err("the loop ends so"), Alarm::Shard(link));
            }
            longest = longest.max(start.elapsed());
        }
        self.now = end;
        (wakes, longest)
    }
}
