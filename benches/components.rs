//! The pure parts of the hot path by themselves: unmasking, translating frames, the timer wheel.
//!
//! Each checks its result once before it is measured, so that a fast wrong answer is no answer. Run without
//! `--bench` (`cargo test --benches`) every body runs once.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use longsplice::{
    driver::HEADROOM,
    limits::TURN_BUDGET,
    pacing::{Budget, Rates},
    proto::ws::{Cursor, Inbound, Opcode, Step, outbound::client_frame, unmask},
    time::Time,
    timers::{Alarm, Wheel},
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Against the loop of RFC 6455 section 5.3, which a compiler may vectorise too.
fn masking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for len in [128, 16_384] {
        let mut bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut naive = bytes.clone();
        unmask(&mut bytes, KEY);
        unmask_naive(&mut naive, KEY);
        assert_eq!(bytes, naive);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} B"), |bencher| {
            bencher.iter(|| unmask(black_box(&mut bytes), KEY));
        });
        group.bench_function(format!("{len} B, naive"), |bencher| {
            bencher.iter(|| unmask_naive(black_box(&mut naive), KEY));
        });
    }
}

fn unmask_naive(bytes: &mut [u8], mask: [u8; 4]) {
    bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i % 4]);
}

/// A receive buffer is refilled with the client's bytes before each round; `copy` is what that costs.
fn translating(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay");
    for (name, count, len, mask) in [
        ("64 x 128 B", 64, 128, KEY),
        ("1 x 64 KiB", 1, 65_536, KEY),
        ("1 x 64 KiB, zero mask", 1, 65_536, [0; 4]),
    ] {
        let mut wire = vec![0; HEADROOM];
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        (0..count).for_each(|_| client_frame(&mut wire, true, Opcode::Binary, mask, &payload));
        let mut buf = wire.clone();
        let run = relay(&mut buf);
        assert_eq!((run.payload, run.messages), (count * len, count));
        assert!(buf[run.out].ends_with(&payload));
        group.throughput(Throughput::Bytes((count * len) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                buf.copy_from_slice(&wire);
                relay(black_box(&mut buf))
            });
        });
        group.bench_function(format!("{name}, copy"), |bencher| {
            bencher.iter(|| black_box(&mut buf).copy_from_slice(&wire));
        });
    }
}

fn relay(buf: &mut [u8]) -> Cursor {
    let mut inbound = Inbound::new();
    let mut cursor = Cursor::at(HEADROOM);
    assert_eq!(inbound.relay(buf, &mut cursor, 0, usize::MAX, 0), Step::Empty);
    cursor
}

const TIMERS: u32 = 1_000_000;

/// A million armed timers, as on a shard with half a million connections.
fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel of 1M");
    group.sample_size(10);
    let (mut wheel, fired) = (full_wheel(), Time(31_000_000));
    assert_eq!(std::iter::from_fn(|| wheel.pop(fired)).count(), TIMERS as usize);

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

const LINKS: u32 = 50_000;
const RATES: Rates = Rates { rate_bps: 16_384, hourly_bytes: 0, trickle_bps: 0 };

/// Links that all wait for their rate, woken as their slices fall due: what pacing adds to the bytes' own cost.
fn pacing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("50,000 links at their rate");
    group.sample_size(10);
    let mut waiting = Waiting::new();
    let (before, wakes) = (waiting.granted, waiting.run(Duration::from_secs(1)));
    let rate = (waiting.granted - before) as f64 / f64::from(LINKS);
    assert!((15_000.0..18_000.0).contains(&rate), "{rate} bytes a second and link");
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

    /// Wake-ups in so much time.
    fn run(&mut self, span: Duration) -> u64 {
        let end = self.now + span;
        let mut wakes = 0;
        while let Some(now) = self.wheel.next_deadline().filter(|at| *at < end) {
            self.now = now;
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
        }
        self.now = end;
        wakes
    }
}

/// Deadlines spread over the 30 s between two pings.
fn full_wheel() -> Wheel {
    let mut wheel = Wheel::new(Time(0));
    for number in 0..TIMERS {
        wheel.arm(Time(1_000 + u64::from(number) * 7_919 % 30_000_000), Alarm::Shard(number));
    }
    wheel
}

criterion_group! {
    name = components;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = masking, translating, timers, pacing
}
criterion_main!(components);
