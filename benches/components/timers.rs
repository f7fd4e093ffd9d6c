//! The timer wheel with a million armed timers, as on a shard with half a million connections.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput};
use longsplice::{
    limits::TURN_BUDGET,
    time::Time,
    timers::{Alarm, Wheel},
};

const TIMERS: u32 = 1_000_000;

/// What a turn of the loop, a message and a mass expiry cost.
pub fn wheel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel of 1M");
    group.sample_size(10);
    let (mut wheel, at, mut fired) = (full_wheel(), Time(31_000_000), 0);
    while !wheel.is_empty() {
        fired += std::iter::from_fn(|| wheel.pop(at)).count();
    }
    assert_eq!(fired, TIMERS as usize);

    let mut wheel = full_wheel();
    group.bench_function("arm and cancel", |bencher| {
        bencher.iter(|| {
            let timer = wheel.arm(Time(30_000_000), Alarm::Shard(0));
            wheel.cancel(black_box(timer));
        });
    });
    group.bench_function("a turn without a due timer", |bencher| {
        bencher.iter(|| (wheel.pop(black_box(Time(0))), wheel.next_deadline()));
    });
    group.bench_function("the longest of the turns in which all fire", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| longest_turn(&mut full_wheel())).sum());
    });
    group.throughput(Throughput::Elements(u64::from(TIMERS)));
    group.bench_function("fire all, turn by turn", |bencher| {
        bencher.iter_batched_ref(
            full_wheel,
            |wheel| {
                while let Some(now) = wheel.next_deadline() {
                    while wheel.pop(now).is_some() {}
                }
            },
            BatchSize::PerIteration,
        );
    });
}

/// Turns as a shard takes them, each of a bounded number of alarms.
fn longest_turn(wheel: &mut Wheel) -> Duration {
    let mut longest = Duration::ZERO;
    while let Some(now) = wheel.next_deadline() {
        let start = Instant::now();
        black_box((0..TURN_BUDGET).map_while(|_| wheel.pop(now)).count());
        longest = longest.max(start.elapsed());
    }
    longest
}

/// Deadlines spread over the 30 s between two pings.
fn full_wheel() -> Wheel {
    let mut wheel = Wheel::new(Time(0));
    for number in 0..TIMERS {
        wheel.arm(Time(1_000 + u64::from(number) * 7_919 % 30_000_000), Alarm::Shard(number));
    }
    wheel
}
