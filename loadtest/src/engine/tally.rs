//! What a worker counts, and the board on which it shows it.
//!
//! A worker counts in values of its own and adds them to the board ten times a second, so that no message touches
//! anything shared.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Instant,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::{mix::Part, report::model::Verification, run::Error, scenario::Scenario};

/// What happened since it was last taken.
#[derive(Clone)]
pub struct Sample {
    pub links_up: u64,
    pub messages: u64,
    pub payload_bytes: u64,
    pub errors: u64,
    /// Microseconds, to two digits.
    pub latency: Histogram<u64>,
}

impl Sample {
    pub fn new() -> Sample {
        Sample { links_up: 0, messages: 0, payload_bytes: 0, errors: 0, latency: histogram(2) }
    }

    /// Adds what another one counted. `links_up` is a state, so that it is added where the others are of other workers
    /// and replaced where they are of an earlier time; the caller knows.
    pub fn add(&mut self, other: &Sample) {
        self.messages += other.messages;
        self.payload_bytes += other.payload_bytes;
        self.errors += other.errors;
        self.latency.add(&other.latency).expect("both have the same bounds");
    }

    /// Forgets everything but the state.
    pub fn clear(&mut self) {
        (self.messages, self.payload_bytes, self.errors) = (0, 0, 0);
        self.latency.reset();
    }
}

/// What a worker found in all.
pub struct Tally {
    /// In the order of the load's parts.
    pub parts: Vec<PartTally>,
    pub sessions: u64,
    pub pings: u64,
    pub errors: BTreeMap<String, u64>,
    /// What was made to happen on purpose, by kind.
    pub mishaps: BTreeMap<String, u64>,
    /// Messages and payload bytes of what ran beside the scenario, which has none of its parts.
    pub beside: (u64, u64),
    pub verification: Verification,
    /// Bytes a second of each link; empty where links are not compared.
    pub rates: Vec<f64>,
}

/// What it found of one part of the load, within the measured part of the run.
pub struct PartTally {
    /// Messages that arrived, and the bytes of their payload.
    pub messages: u64,
    pub payload_bytes: u64,
    /// Microseconds, to three digits.
    pub latency: Histogram<u64>,
    /// Its latencies are those of the run: see [`Scenario::is_leading`].
    pub is_leading: bool,
}

impl Tally {
    /// Of a scenario of which nothing has been seen.
    pub fn new(scenario: &Scenario) -> Tally {
        let part = |part: &Part| PartTally {
            messages: 0,
            payload_bytes: 0,
            latency: histogram(3),
            is_leading: scenario.is_leading(part.pattern),
        };
        Tally {
            parts: scenario.parts.all().iter().map(part).collect(),
            sessions: 0,
            pings: 0,
            errors: BTreeMap::new(),
            mishaps: BTreeMap::new(),
            beside: (0, 0),
            verification: Verification::default(),
            rates: Vec::new(),
        }
    }

    /// Adds what another worker found of the same scenario.
    pub fn add(&mut self, other: Tally) {
        for (part, other) in self.parts.iter_mut().zip(other.parts) {
            part.messages += other.messages;
            part.payload_bytes += other.payload_bytes;
            part.latency.add(&other.latency).expect("both have the same bounds");
        }
        self.sessions += other.sessions;
        self.pings += other.pings;
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        for (kind, count) in other.mishaps {
            *self.mishaps.entry(kind).or_default() += count;
        }
        self.beside.0 += other.beside.0;
        self.beside.1 += other.beside.1;
        self.verification.messages += other.verification.messages;
        self.verification.payload_bytes += other.verification.payload_bytes;
        for failure in other.verification.failures {
            self.add_failure(failure);
        }
        self.rates.extend(other.rates);
    }

    /// As one of a scenario that ran beside another: its messages count, its parts are not told apart.
    pub fn beside(mut self) -> Tally {
        for part in std::mem::take(&mut self.parts) {
            self.beside.0 += part.messages;
            self.beside.1 += part.payload_bytes;
        }
        self
    }

    /// The latencies of the run.
    pub fn latency(&self) -> Histogram<u64> {
        let mut all = histogram(3);
        for part in self.parts.iter().filter(|part| part.is_leading) {
            all.add(&part.latency).expect("both have the same bounds");
        }
        all
    }

    /// Keeps the first failures in words; any one of them fails the run.
    pub fn add_failure(&mut self, failure: String) {
        if self.verification.failures.len() < FAILURES_TOLD_MAX {
            self.verification.failures.push(failure);
        }
    }
}

/// Where all workers of a run are led from.
pub struct Lead {
    stage: AtomicU8,
    /// When traffic begins, when counting begins, and when both end unless the stage says so earlier.
    times: OnceLock<Times>,
}

/// See [`Lead`].
#[derive(Clone, Copy)]
pub struct Times {
    pub flow: Instant,
    pub count: Instant,
    pub end: Instant,
}

/// What workers are to do. A stage is never gone back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Bring links up, then wait.
    Setup,
    /// Traffic, at the times set.
    Flow,
    /// Send nothing new; let arrive what is under way.
    Drain,
    /// Close everything and return.
    Stop,
}

impl Lead {
    pub fn new() -> Lead {
        Lead { stage: AtomicU8::new(Stage::Setup as u8), times: OnceLock::new() }
    }

    pub fn stage(&self) -> Stage {
        // Acquire: who sees `Flow` sees the times.
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Setup,
            1 => Stage::Flow,
            2 => Stage::Drain,
            _ => Stage::Stop,
        }
    }

    /// Goes on to a later stage.
    pub fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Goes on to `Flow` at these times.
    pub fn flow(&self, times: Times) {
        self.times.set(times).ok().expect("the flow begins once");
        self.set(Stage::Flow);
    }

    /// The times, once they are set.
    pub fn times(&self) -> Option<Times> {
        self.times.get().copied()
    }
}

/// What one worker shows.
pub struct Board {
    /// Since the coordinator last took it.
    pub sample: Mutex<Sample>,
    /// Every link is up or has failed.
    pub is_set_up: AtomicBool,
    /// Nothing is under way any more, or is given up.
    pub is_drained: AtomicBool,
    /// Why the run cannot go on.
    pub fatal: Mutex<Option<Error>>,
}

impl Board {
    pub fn new() -> Board {
        Board {
            sample: Mutex::new(Sample::new()),
            is_set_up: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
            fatal: Mutex::new(None),
        }
    }
}

/// Records a latency; what is beyond the histogram's bounds counts as the bound.
pub fn record(histogram: &mut Histogram<u64>, microseconds: u64) {
    histogram.saturating_record(microseconds.max(1));
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, digits).expect("the bounds are in order")
}

/// Ten minutes.
const LATENCY_MAX_US: u64 = 600_000_000;
const FAILURES_TOLD_MAX: usize = 20;
