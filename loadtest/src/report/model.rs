//! What a run found: plain data, written as JSON and read by every form of report.
//!
//! Times are microseconds and sizes bytes unless the name says otherwise.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The version of this form.
pub const FORMAT: u32 = 1;

/// Everything one invocation measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`]; a reader refuses another one.
    pub format: u32,
    /// Version and commit of the load generator.
    pub generator: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Where it ran.
    pub machine: Machine,
    /// The cores that the generator was bound to, as `taskset` writes them; absent where it was not.
    pub generator_cores: Option<String>,
    /// The relay under load, as far as it is known; two where two are compared.
    pub relays: Vec<Relay>,
    /// One entry for each scenario, in the order in which they ran.
    pub runs: Vec<Run>,
    /// One entry for each scenario that ran on two relays.
    pub comparisons: Vec<Comparison>,
}

/// The machine, as the kernel describes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: u32,
    pub memory_bytes: u64,
    pub kernel: String,
    /// What the CPU says of running under a hypervisor.
    pub is_virtual: bool,
}

/// The relay under load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Relay {
    /// Its name where two are compared: "A" or "B".
    pub label: Option<String>,
    pub url: String,
    /// The command that started it, where this program did.
    pub command: Option<String>,
    pub pid: Option<u32>,
    /// The cores that it was bound to, as `taskset` writes them; absent where this program did not.
    pub cores: Option<String>,
    /// What it says of its version and commit, where it does.
    pub version: Option<String>,
}

/// One scenario's run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// Which of the report's relays was under load.
    pub relay: usize,
    /// Which of its rounds this was, from 1, where two relays are compared.
    pub round: Option<u32>,
    /// Every setting it ran with, as text.
    pub settings: BTreeMap<String, String>,
    pub setup: Setup,
    /// How long the measured part took.
    pub seconds: f64,
    pub totals: Totals,
    /// Absent where the scenario measures none.
    pub latency: Option<Latency>,
    /// What one latency is: "round trip", "from schedule to arrival", "session set-up" and so on.
    pub latency_of: String,
    /// One entry for each part of a mixed load; empty where all links do the same.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// One entry for each second or so.
    pub series: Vec<Tick>,
    /// What the load cost the relay; absent where its process is not known.
    pub cost: Option<Cost>,
    /// What producing the load cost the generator, over the measured part.
    pub generator: Generator,
    /// Rate of each link in bytes a second; absent where the scenario does not compare links.
    pub rates: Option<Spread>,
    pub verification: Verification,
    /// What a soak watched; absent for other loads.
    #[serde(default)]
    pub soak: Option<Soak>,
    /// Ended by a signal before its time.
    pub was_interrupted: bool,
}

/// What a soak watched of the relay, and what it did to it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Soak {
    /// When each sample was taken, in seconds since the measured part began.
    pub at_seconds: Vec<f64>,
    pub watched: Vec<Watched>,
    /// How long the relay took to come to rest once the load was gone, or had been waited for.
    pub rest_seconds: f64,
    /// Looks at its metrics that it did not answer.
    pub unanswered: u64,
    /// What was made to happen on purpose, by kind.
    pub mishaps: BTreeMap<String, u64>,
}

/// One series of a soak.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Watched {
    pub name: String,
    /// "bytes", or nothing for a count.
    pub unit: String,
    /// One for each of [`Soak::at_seconds`]; absent where it could not be read.
    pub samples: Vec<Option<f64>>,
    /// Absent where it is not judged, or there were too few samples.
    pub growth: Option<Growth>,
    /// Absent where it is not judged.
    pub rest: Option<Rest>,
}

/// Whether a series grew over the measured part.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Growth {
    /// Medians of the quarters of the measured part.
    pub quarters: [f64; 4],
    /// The Theil-Sen slope.
    pub per_hour: f64,
    /// What it may grow by.
    pub tolerance: f64,
    pub is_growing: bool,
}

/// Whether a series came back to where it was.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Rest {
    /// Before any load.
    pub before: f64,
    /// Once the load was gone; absent where it could not be read.
    pub after: Option<f64>,
    pub tolerance: f64,
    pub is_back: bool,
}

/// What the links of one part of a mixed load did in the measured part of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// Its pattern with its weight, and with its size and its rate where they are its own.
    pub name: String,
    /// How many there were.
    pub links: u64,
    /// Messages and payload bytes that arrived.
    pub messages: u64,
    pub payload_bytes: u64,
    /// Absent where none is measured.
    pub latency: Option<Latency>,
    /// What one latency is.
    pub latency_of: String,
}

/// How the links came up.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Setup {
    pub links: u64,
    pub seconds: f64,
    /// Connections open to the relay with all links up, control connections included.
    pub connections: u64,
}

/// What producing the load cost the generator.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Generator {
    /// Cores of CPU that it used.
    pub cores: f64,
    /// The same of its busiest thread: near 1, the generator was the bottleneck and not the relay.
    pub busiest_thread: f64,
}

/// What went through in the measured part, both directions together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Messages that arrived.
    pub messages: u64,
    /// Payload bytes that arrived.
    pub payload_bytes: u64,
    /// Sessions set up and torn down, where the scenario does that.
    pub sessions: u64,
    /// Pings answered.
    pub pings: u64,
    /// What went wrong, by kind: "refused", "closed 1006", "timed out" and so on.
    pub errors: BTreeMap<String, u64>,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub min_us: u64,
    pub mean_us: f64,
    pub max_us: u64,
    /// Percentile (0 to 100) and the latency at or below which so many lie.
    pub percentiles: Vec<(f64, u64)>,
}

/// One interval of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tick {
    /// The interval's end, in seconds since the measured part began (negative while links come up).
    pub at_seconds: f64,
    pub links_up: u64,
    pub messages: u64,
    pub payload_bytes: u64,
    pub errors: u64,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub max_us: Option<u64>,
    /// Cores of CPU the relay used, where its process is known.
    pub relay_cores: Option<f64>,
    pub relay_rss_bytes: Option<u64>,
}

/// What the load cost the relay: its process and all processes below it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time over the measured part, the kernel's io_uring workers of the process included.
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// Time that cores spent in soft interrupts (the network stack), which no process is charged for.
    pub softirq_seconds: f64,
    /// Whose: "the relay's cores 0" or "all cores"; the latter holds the generator's share too.
    pub softirq_of: String,
    /// The process alone, for each message that arrived and so on; absent where there was none.
    pub cpu: Each,
    /// The same with the soft interrupts added.
    pub cpu_with_softirq: Each,
    /// Resident memory before the first link, with all links up, and at the end.
    pub rss_before_bytes: u64,
    pub rss_up_bytes: u64,
    pub rss_after_bytes: u64,
    /// With all links up, pages shared between processes divided among them; absent where it may not be read.
    pub pss_up_bytes: Option<u64>,
    pub rss_per_connection_bytes: Option<f64>,
    /// Growth of the kernel's slabs over all sockets of the machine, the generator's included.
    pub slab_per_socket_bytes: Option<f64>,
    /// Where that was read: "slabinfo" (the caches that sockets are made of) or "meminfo" (all slabs, rougher).
    pub slab_source: String,
    /// What TCP buffers of all sockets of the machine held with all links up.
    pub tcp_buffers_up_bytes: u64,
}

/// CPU time for each of what came through.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Each {
    pub us_per_message: Option<f64>,
    pub ns_per_byte: Option<f64>,
    pub us_per_session: Option<f64>,
}

/// One scenario on two relays, in rounds of one run each: A, B, A, B.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Comparison {
    pub scenario: String,
    /// Places in the report's runs: of A and of B, for each round.
    pub rounds: Vec<(usize, usize)>,
    pub measures: Vec<Measure>,
}

/// One measure over all rounds of a comparison.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measure {
    pub name: String,
    pub unit: String,
    /// Whether more is better; otherwise less is.
    pub more_is_better: bool,
    /// For each round.
    pub a: Vec<f64>,
    pub b: Vec<f64>,
    pub a_median: f64,
    pub b_median: f64,
    /// B over A within each round: the middle one and the range. Absent where A measured nothing.
    pub ratio: Option<Ratio>,
}

/// The ratios of pairs.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Ratio {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// How a value spreads over links.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    pub links: u64,
    pub min: f64,
    pub p5: f64,
    pub median: f64,
    pub p95: f64,
    pub max: f64,
    pub mean: f64,
}

/// Whether what arrived was what had been sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verification {
    /// Messages whose place in the order and length were checked.
    pub messages: u64,
    /// Payload bytes compared one by one.
    pub payload_bytes: u64,
    /// The first failures in words; any of them fails the run.
    pub failures: Vec<String>,
}

impl Tick {
    /// This interval and the one behind it, as one.
    pub fn joined(self, later: Tick) -> Tick {
        let most = |one: Option<u64>, other: Option<u64>| one.max(other);
        Tick {
            messages: self.messages + later.messages,
            payload_bytes: self.payload_bytes + later.payload_bytes,
            errors: self.errors + later.errors,
            p50_us: most(self.p50_us, later.p50_us),
            p99_us: most(self.p99_us, later.p99_us),
            max_us: most(self.max_us, later.max_us),
            relay_rss_bytes: most(self.relay_rss_bytes, later.relay_rss_bytes),
            relay_cores: match (self.relay_cores, later.relay_cores) {
                (Some(one), Some(other)) => Some((one + other) / 2.0),
                (one, other) => one.or(other),
            },
            ..later
        }
    }

    /// Seconds in which messages could pass since the tick before: traffic begins with the measured part, or earlier
    /// where the load is warmed up.
    pub fn traffic_seconds(&self, before: Option<&Tick>) -> f64 {
        let begin = match before {
            Some(before) if before.messages > 0 || before.at_seconds > 0.0 => before.at_seconds,
            _ if self.at_seconds > 0.0 => 0.0,
            _ => self.at_seconds - 1.0,
        };
        (self.at_seconds - begin).max(MOMENT)
    }
}

impl Watched {
    /// Whether it did not grow, and came to rest.
    pub fn passed(&self) -> bool {
        !self.growth.is_some_and(|growth| growth.is_growing) && self.rest.is_none_or(|rest| rest.is_back)
    }
}

impl Latency {
    /// The percentiles that reports show, out of a histogram of microseconds; `None` if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        if histogram.is_empty() {
            return None;
        }
        let percentiles =
            histogram.iter_quantiles(5).map(|step| (step.percentile(), step.value_iterated_to())).collect();
        Some(Latency {
            count: histogram.len(),
            min_us: histogram.min(),
            mean_us: histogram.mean(),
            max_us: histogram.max(),
            percentiles,
        })
    }
}

impl Run {
    /// Whether nothing was wrong, lost, duplicated or reordered, and nothing failed.
    pub fn passed(&self) -> bool {
        let is_soaked = self.soak.as_ref().is_none_or(|soak| soak.watched.iter().all(Watched::passed));
        self.verification.failures.is_empty() && self.totals.errors.is_empty() && is_soaked
    }
}

/// Less than between any two ticks, and more than nothing.
const MOMENT: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_timed_from_where_it_begins() {
        let tick = |at_seconds, messages| Tick { at_seconds, messages, ..Tick::default() };
        assert_eq!(tick(0.5, 9).traffic_seconds(Some(&tick(-0.5, 0))), 0.5, "it began at 0");
        assert_eq!(tick(0.5, 9).traffic_seconds(Some(&tick(-0.5, 9))), 1.0, "it was warmed up");
        assert_eq!(tick(1.5, 9).traffic_seconds(Some(&tick(0.5, 0))), 1.0, "it stalled");
        assert_eq!(tick(0.7, 9).traffic_seconds(None), 0.7);
        assert_eq!(tick(-3.0, 0).traffic_seconds(None), 1.0);
        assert!(tick(1.0, 9).traffic_seconds(Some(&tick(1.0, 9))) > 0.0);
    }
}
