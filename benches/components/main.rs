//! The parts by themselves, each beside the plain way to do the same where there is one.
//!
//! Each checks its result before it is measured, so that a fast wrong answer is no answer. Run without
//! `--bench` (`cargo test --benches`) every body runs once.

mod frames;
mod handoff;
mod pacing;
mod pairing;
mod registry;
mod signatures;
mod tables;
mod timers;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = components;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets =
        frames::masking,
        frames::headers,
        frames::translating,
        pacing::charging,
        pacing::waiting,
        pairing::routing,
        timers::wheel,
        registry::addresses,
        tables::looking_up,
        signatures::verifying,
        handoff::moving,
}
criterion_main!(components);
