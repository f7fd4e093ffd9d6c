//! Seeded simulations of the whole relay: see `longsplice::sim`.
//!
//! `SIM_SEEDS=n` runs the first n seeds, or n from `SIM_FIRST=k` on; `SIM_SEED=k` runs only that one and prints what
//! happens.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use longsplice::sim::run::{Report, Run};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 300;

#[test]
fn every_invariant_holds_under_every_seed() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{:?}", Run::new(seed, true).run());
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("SIM_FIRST").unwrap_or(0);
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut reports = Vec::new();
    let mut failed = Vec::new();
    let take = || (next.fetch_add(1, Ordering::Relaxed)..first + seeds).next();
    std::thread::scope(|scope| {
        let worker = || std::iter::from_fn(take).map(|seed| (seed, run(seed))).collect::<Vec<_>>();
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            for (seed, result) in worker.join().expect("a run's panic is caught") {
                match result {
                    Ok(report) => reports.push(report),
                    Err(why) => failed.push(format!("SIM_SEED={seed}: {why}")),
                }
            }
        }
    });
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds fail; replay one with\n{}",
        failed.len(),
        failed.join("\n")
    );
    prove_that_much_happened(&reports);
}

fn run(seed: u64) -> Result<Report, String> {
    catch_unwind(AssertUnwindSafe(|| Run::new(seed, false).run())).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref().map(|text: &&str| text.to_string())).unwrap_or_default()
    })
}

/// A simulation in which nothing happens finds nothing.
fn prove_that_much_happened(reports: &[Report]) {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let sums = [
        ("steps", sum(|report| report.steps)),
        ("links", sum(|report| report.links)),
        ("bytes", sum(|report| report.bytes)),
        ("messages", sum(|report| report.messages)),
        ("messages of paired devices", sum(|report| report.paired_messages)),
        ("places taken back", sum(|report| report.resumed)),
        ("sessions expired", sum(|report| report.expired)),
        ("answers in workspaces", sum(|report| report.answered)),
        ("upgrades admitted", sum(|report| report.admitted)),
        ("upgrades denied", sum(|report| report.denied)),
        ("questions without room", sum(|report| report.refused_questions)),
        ("members gone while they asked", sum(|report| report.gone_asking)),
        ("messages in workspaces", sum(|report| report.workspace_messages)),
        ("members that were too slow", sum(|report| report.overflows)),
        ("messages that waited for room", sum(|report| report.message_waits)),
        ("moves", sum(|report| report.moves)),
        ("receives without a buffer", sum(|report| report.buffers_exhausted)),
        ("spliced bytes", sum(|report| report.spliced_bytes)),
        ("stalls", sum(|report| report.stalls)),
        ("paced microseconds", sum(|report| report.paced_us)),
        ("ends of links reaped idle", sum(|report| report.reaped)),
        ("clients in crowds", sum(|report| report.crowd)),
        ("descriptors or room exhausted", sum(|report| report.exhausted)),
    ];
    println!("{} seeds: {sums:?}", reports.len());
    for (what, sum) in sums {
        assert!(sum > 0, "no {what} in {} seeds", reports.len());
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        assert_eq!(Run::new(seed, false).run(), Run::new(seed, false).run(), "seed {seed}");
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
