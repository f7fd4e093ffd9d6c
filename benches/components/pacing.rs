//! What a link pays for a message: asked whether it may go, then charged for it.

use std::{hint::black_box, time::Duration};

use criterion::Criterion;
use longsplice::{
    pacing::{Bucket, Budget, Ledger, Leg, Rates},
    time::Time,
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
