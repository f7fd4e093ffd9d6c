//! Looks at the relay at regular intervals, from before the load to after it: memory, descriptors, gauges.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use longsplice::driver::process::{Signal, Signals};
use parking_lot::Mutex;

use super::{exposition::Endpoint, verdict};
use crate::{
    relay_process,
    report::model::{Soak, Watched},
};

/// A thread that takes samples until it is finished, or dropped.
#[derive(Debug)]
pub struct Sampler {
    record: Arc<Mutex<Record>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    measured: Option<(Instant, Option<Instant>)>,
}

/// What was seen, in columns. Halved when it is full, so that it never grows beyond a bound.
#[derive(Debug)]
struct Record {
    at: Vec<Instant>,
    /// One for each of [`WATCHED`].
    columns: Vec<Vec<Option<f64>>>,
    /// Of how many samples each row is one.
    stride: u64,
    taken: u64,
    /// Without any load.
    baseline: Vec<Option<f64>>,
    latest: Vec<Option<f64>>,
    /// Looks at the metrics that failed.
    unanswered: u64,
}

/// What is watched of a relay.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    pub name: &'static str,
    source: Source,
    pub unit: &'static str,
    /// It may grow by so much, or by so much of its value, whichever is more; `None`: it is not judged.
    pub growth: Option<(f64, f64)>,
    /// Without load it comes back to what it was before, within so much; `None`: it is not judged.
    pub rest: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    ResidentMemory,
    Descriptors,
    Gauge(&'static str),
}

impl Sampler {
    /// Takes the first sample, before any load, and goes on so often. Errors: metrics that are not there.
    pub fn start(relay: Option<u32>, endpoint: Option<Endpoint>, every: Duration) -> Result<Sampler, String> {
        if let Some(endpoint) = &endpoint {
            endpoint.read().map_err(|error| format!("--metrics: {error}"))?;
        }
        let (baseline, _) = look(relay, endpoint.as_ref());
        let record = Arc::new(Mutex::new(Record {
            at: Vec::new(),
            columns: vec![Vec::new(); WATCHED.len()],
            stride: 1,
            taken: 0,
            latest: baseline.clone(),
            baseline,
            unanswered: 0,
        }));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&record), Arc::clone(&is_over));
        let watching = move || {
            let mut next = Instant::now();
            while !over.load(Ordering::Relaxed) {
                let (sample, is_unanswered) = look(relay, endpoint.as_ref());
                shared.lock().push(sample, is_unanswered);
                // Those that would be late are left out.
                while next <= Instant::now() {
                    next += every;
                }
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        };
        let thread = thread::Builder::new().name("sampler".to_owned()).spawn(watching);
        let thread = thread.map_err(|error| format!("no thread: {error}: raise ulimit -u"))?;
        Ok(Sampler { record, is_over, thread: Some(thread), measured: None })
    }

    /// The measured part begins now.
    pub fn measured_begins(&mut self) {
        self.measured = Some((Instant::now(), None));
    }

    /// The measured part ends now.
    pub fn measured_ends(&mut self) {
        if let Some((_, end)) = &mut self.measured {
            *end = Some(Instant::now());
        }
    }

    /// Waits until the relay is at rest, or has had its time, or a signal ends the wait, and judges.
    pub fn finish(mut self, patience: Duration, signals: &Signals) -> Soak {
        let began = Instant::now();
        while !self.record.lock().is_at_rest() && began.elapsed() < patience {
            if signals.wait(PACE) == Some(Signal::Stop) {
                break;
            }
        }
        let rest_seconds = began.elapsed().as_secs_f64();
        self.end();
        let record = self.record.lock();
        let begin = self.measured.map_or(began, |(begin, _)| begin);
        let end = self.measured.and_then(|(_, end)| end).unwrap_or(begin);
        let at = |at: &Instant| {
            let after = at.saturating_duration_since(begin).as_secs_f64();
            if *at >= begin { after } else { -(begin - *at).as_secs_f64() }
        };
        let at_seconds: Vec<f64> = record.at.iter().map(at).collect();
        let seconds = end.saturating_duration_since(begin).as_secs_f64();
        let watched = WATCHED.iter().enumerate().filter_map(|(place, watch)| {
            let before = record.baseline[place]?;
            let samples = record.columns[place].clone();
            Some(Watched {
                name: watch.name.to_owned(),
                unit: watch.unit.to_owned(),
                growth: watch
                    .growth
                    .and_then(|tolerance| verdict::growth(&at_seconds, &samples, seconds, tolerance)),
                rest: watch.rest.map(|tolerance| verdict::rest(before, record.latest[place], tolerance)),
                samples,
            })
        });
        Soak {
            watched: watched.collect(),
            at_seconds: at_seconds.clone(),
            rest_seconds,
            unanswered: record.unanswered,
            mishaps: BTreeMap::new(),
        }
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been told on standard error; what it saw until then is judged.
            let _ = thread.join();
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end();
    }
}

impl Record {
    fn push(&mut self, sample: Vec<Option<f64>>, is_unanswered: bool) {
        self.unanswered += u64::from(is_unanswered);
        self.taken += 1;
        if self.taken.is_multiple_of(self.stride) {
            self.at.push(Instant::now());
            for (column, value) in self.columns.iter_mut().zip(&sample) {
                column.push(*value);
            }
        }
        self.latest = sample;
        if self.at.len() == ROWS_MAX {
            let keep = |place: usize| place % 2 == 1;
            self.at =
                self.at.iter().enumerate().filter(|(place, _)| keep(*place)).map(|(_, at)| *at).collect();
            for column in &mut self.columns {
                *column =
                    column.iter().enumerate().filter(|(place, _)| keep(*place)).map(|(_, v)| *v).collect();
            }
            self.stride *= 2;
        }
    }

    fn is_at_rest(&self) -> bool {
        WATCHED.iter().enumerate().all(|(place, watch)| match (watch.rest, self.baseline[place]) {
            (Some(tolerance), Some(before)) => verdict::rest(before, self.latest[place], tolerance).is_back,
            _ => true,
        })
    }
}

/// One look, and whether the metrics were not answered.
fn look(relay: Option<u32>, endpoint: Option<&Endpoint>) -> (Vec<Option<f64>>, bool) {
    let metrics = endpoint.map(Endpoint::read);
    let is_unanswered = matches!(metrics, Some(Err(_)));
    let metrics = metrics.and_then(Result::ok).unwrap_or_default();
    let value = |watch: &Watch| match watch.source {
        Source::ResidentMemory => relay.and_then(relay_process::memory).map(|memory| memory.rss as f64),
        Source::Descriptors => relay.and_then(relay_process::descriptors).map(|count| count as f64),
        Source::Gauge(name) => metrics.get(name).copied(),
    };
    (WATCHED.iter().map(value).collect(), is_unanswered)
}

const MIB: f64 = 1024.0 * 1024.0;
const COUNT: Option<(f64, f64)> = Some((24.0, 0.1));

const fn gauge(
    name: &'static str,
    metric: &'static str,
    growth: Option<(f64, f64)>,
    rest: Option<f64>,
) -> Watch {
    Watch { name, source: Source::Gauge(metric), unit: "", growth, rest }
}

/// Names, and what is asked of them. A relay without one of the metrics is not judged by it.
const WATCHED: [Watch; 11] = [
    Watch {
        name: "resident memory",
        source: Source::ResidentMemory,
        unit: "bytes",
        growth: Some((2.0 * MIB, 0.05)),
        rest: None,
    },
    Watch {
        name: "descriptors",
        source: Source::Descriptors,
        unit: "",
        growth: COUNT,
        // Pools that fill under load may keep a few.
        rest: Some(64.0),
    },
    gauge("connections", "longsplice_connections", COUNT, Some(0.0)),
    gauge("WebSockets", "longsplice_websockets", COUNT, Some(0.0)),
    gauge("links", "longsplice_links", COUNT, Some(0.0)),
    gauge("registered addresses", "longsplice_addresses", COUNT, Some(0.0)),
    gauge("pairing sessions", "longsplice_pair_sessions", COUNT, Some(0.0)),
    Watch {
        unit: "bytes",
        ..gauge("held bytes", "longsplice_held_bytes", Some((4.0 * MIB, 0.5)), Some(0.0))
    },
    Watch {
        unit: "bytes",
        ..gauge("incomplete messages", "longsplice_message_bytes", Some((4.0 * MIB, 0.5)), Some(0.0))
    },
    gauge("parked connections", "longsplice_parked", None, Some(0.0)),
    gauge("free receive buffers", "longsplice_receive_buffers_free", None, Some(0.0)),
];
const PACE: Duration = Duration::from_millis(50);
/// Two hours of samples a second.
const ROWS_MAX: usize = 7200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_to_its_bound_and_its_span() {
        let mut record = Record {
            at: Vec::new(),
            columns: vec![Vec::new(); WATCHED.len()],
            stride: 1,
            taken: 0,
            baseline: Vec::new(),
            latest: Vec::new(),
            unanswered: 0,
        };
        for number in 1..=3 * ROWS_MAX {
            record.push(vec![Some(number as f64); WATCHED.len()], false);
        }
        assert!(
            record.at.len() < ROWS_MAX && record.columns.iter().all(|column| column.len() == record.at.len())
        );
        let first = record.columns[0].first().copied().flatten().expect("a sample");
        let last = record.columns[0].last().copied().flatten().expect("a sample");
        assert!(first <= 4.0 && last > 3.0 * ROWS_MAX as f64 - 4.0, "{first} {last}");
        let steps = record.columns[0].windows(2).map(|pair| pair[1].unwrap_or(0.0) - pair[0].unwrap_or(0.0));
        assert!(steps.into_iter().all(|step| step == record.stride as f64), "evenly spread");
    }
}
