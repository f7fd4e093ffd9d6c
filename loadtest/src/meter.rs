//! Measures what a run costs: the relay's CPU time and memory, the kernel's memory for sockets, the generator's own CPU
//! time. Told of the run's phases, it takes its readings at their borders.

use std::{collections::BTreeMap, fs, time::Instant};

use crate::{
    cores::Cores,
    machine::{self, SocketMemory},
    relay_process::{self, Cpu, Memory},
    report::model::{Cost, Each, Generator, Run, Tick},
    run::Phase,
};

/// The readings of one run.
#[derive(Debug)]
pub struct Meter {
    relay: Option<u32>,
    /// The cores that the relay is bound to; absent if it may run on all.
    pinned_to: Option<Cores>,
    before: Option<Held>,
    up: Option<Held>,
    after: Option<Memory>,
    began: Option<Reading>,
    ended: Option<Reading>,
    last_tick: Option<(Instant, Cpu)>,
}

/// What is held at one moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    relay: Option<Memory>,
    sockets: SocketMemory,
}

/// What has been used until one moment.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    relay: Option<Cpu>,
    softirq_seconds: f64,
    /// Of each of our threads by its id.
    threads: BTreeMap<u32, f64>,
}

impl Meter {
    /// For a run on the relay of this process and all below it; without one, only the generator is measured.
    pub fn new(relay: Option<u32>) -> Meter {
        Meter {
            relay,
            pinned_to: relay.and_then(relay_process::bound_to),
            before: None,
            up: None,
            after: None,
            began: None,
            ended: None,
            last_tick: None,
        }
    }

    /// A phase begins.
    pub fn phase(&mut self, phase: Phase) {
        match phase {
            Phase::LinksComingUp => self.before = Some(self.held()),
            Phase::Measuring => {
                self.up = Some(self.held());
                self.began = Some(self.reading());
            }
            Phase::Ending => self.ended = Some(self.reading()),
            Phase::Over => self.after = self.relay.and_then(relay_process::memory),
        }
    }

    /// Fills in what the relay uses and holds.
    pub fn tick(&mut self, tick: &mut Tick) {
        let Some((cpu, rss)) = self.relay.and_then(relay_process::usage) else { return };
        let now = Instant::now();
        if let Some((then, before)) = self.last_tick.replace((now, cpu)) {
            let seconds = (now - then).as_secs_f64();
            tick.relay_cores = (seconds > 0.0).then(|| (cpu.seconds() - before.seconds()).max(0.0) / seconds);
        }
        tick.relay_rss_bytes = Some(rss);
    }

    /// Writes down what the run cost, once it is over.
    pub fn finish(self, run: &mut Run) {
        let (Some(began), Some(ended)) = (&self.began, &self.ended) else { return };
        run.generator = generator(began, ended);
        let (Some(cpu_before), Some(cpu_after)) = (began.relay, ended.relay) else { return };
        let cpu = Cpu {
            user_seconds: cpu_after.user_seconds - cpu_before.user_seconds,
            system_seconds: cpu_after.system_seconds - cpu_before.system_seconds,
        };
        let softirq_seconds = ended.softirq_seconds - began.softirq_seconds;
        let mut cost = Cost {
            user_seconds: cpu.user_seconds,
            system_seconds: cpu.system_seconds,
            softirq_seconds,
            softirq_of: match &self.pinned_to {
                Some(cores) => format!("the relay's cores {cores}"),
                None => "all cores".to_owned(),
            },
            cpu: each(cpu.seconds(), run),
            cpu_with_softirq: each(cpu.seconds() + softirq_seconds, run),
            ..Cost::default()
        };
        self.put_memory(&mut cost, run);
        run.cost = Some(cost);
    }

    fn put_memory(&self, cost: &mut Cost, run: &Run) {
        let (Some(before), Some(up)) = (self.before, self.up) else { return };
        let rss = |memory: Option<Memory>| memory.map_or(0, |memory| memory.rss);
        cost.rss_before_bytes = rss(before.relay);
        cost.rss_up_bytes = rss(up.relay);
        cost.rss_after_bytes = rss(self.after);
        cost.pss_up_bytes = up.relay.and_then(|memory| memory.pss);
        let connections = if run.setup.connections > 0 { run.setup.connections } else { 2 * run.setup.links };
        if connections >= CONNECTIONS_MIN && up.relay.is_some() {
            let growth = cost.rss_up_bytes as f64 - cost.rss_before_bytes as f64;
            cost.rss_per_connection_bytes = Some(growth / connections as f64);
        }
        cost.slab_source = if up.sockets.is_slab_of_sockets { "slabinfo" } else { "meminfo" }.to_owned();
        cost.tcp_buffers_up_bytes = up.sockets.tcp_buffers_bytes;
        let sockets = up.sockets.sockets.saturating_sub(before.sockets.sockets);
        if sockets >= SOCKETS_MIN {
            let growth = up.sockets.slab_bytes as f64 - before.sockets.slab_bytes as f64;
            cost.slab_per_socket_bytes = Some(growth / sockets as f64);
        }
    }

    fn held(&self) -> Held {
        Held { relay: self.relay.and_then(relay_process::memory), sockets: SocketMemory::now() }
    }

    fn reading(&self) -> Reading {
        Reading {
            at: Instant::now(),
            relay: self.relay.and_then(relay_process::usage).map(|(cpu, _)| cpu),
            softirq_seconds: machine::softirq_seconds(self.pinned_to.as_ref()),
            threads: own_threads(),
        }
    }
}

fn each(seconds: f64, run: &Run) -> Each {
    let over = |count: u64, unit: f64| (count > 0).then(|| seconds * unit / count as f64);
    Each {
        us_per_message: over(run.totals.messages, 1e6),
        ns_per_byte: over(run.totals.payload_bytes, 1e9),
        us_per_session: over(run.totals.sessions, 1e6),
    }
}

fn generator(began: &Reading, ended: &Reading) -> Generator {
    let seconds = (ended.at - began.at).as_secs_f64().max(f64::MIN_POSITIVE);
    let used = ended.threads.iter().map(|(id, used)| used - began.threads.get(id).unwrap_or(&0.0));
    let cores: Vec<f64> = used.map(|used| used.max(0.0) / seconds).collect();
    Generator {
        cores: cores.iter().sum(),
        busiest_thread: cores.iter().fold(0.0, |most, cores| cores.max(most)),
    }
}

/// Seconds that each of our threads has run.
fn own_threads() -> BTreeMap<u32, f64> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let used = entries.flatten().filter_map(|entry| {
        let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        let nanoseconds: u64 = text.split(' ').next()?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, nanoseconds as f64 / 1e9))
    });
    used.collect()
}

/// Below, what a relay allocates once weighs more than what it holds for connections.
const CONNECTIONS_MIN: u64 = 100;
/// Below, what the rest of the machine does weighs more.
const SOCKETS_MIN: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_of_the_measured_part() {
        let mut meter = Meter::new(Some(std::process::id()));
        meter.phase(Phase::LinksComingUp);
        meter.phase(Phase::Measuring);
        let mut tick = Tick::default();
        meter.tick(&mut tick);
        assert!(tick.relay_cores.is_none(), "a rate needs two readings");
        let start = own_threads();
        let spent = |now: BTreeMap<u32, f64>| now.values().sum::<f64>() - start.values().sum::<f64>();
        while spent(own_threads()) < 0.1 {}
        meter.tick(&mut tick);
        assert!(tick.relay_cores.is_some_and(|cores| cores > 0.0) && tick.relay_rss_bytes > Some(1 << 20));
        meter.phase(Phase::Ending);
        meter.phase(Phase::Over);

        let mut run = Run::default();
        run.totals.messages = 1000;
        run.setup.links = 10;
        meter.finish(&mut run);
        let cost = run.cost.expect("the process is known");
        let seconds = cost.user_seconds + cost.system_seconds;
        assert!(seconds > 0.05, "{cost:?}");
        assert_eq!(cost.cpu.us_per_message, Some(seconds * 1e6 / 1000.0));
        assert_eq!((cost.cpu.ns_per_byte, cost.cpu.us_per_session), (None, None));
        assert!(cost.cpu_with_softirq.us_per_message >= cost.cpu.us_per_message);
        assert_eq!(cost.rss_per_connection_bytes, None, "20 connections say nothing of one");
        assert!(run.generator.cores > 0.0 && run.generator.busiest_thread <= run.generator.cores);
    }

    #[test]
    fn without_a_relay_only_the_generator_is_measured() {
        let mut meter = Meter::new(None);
        for phase in [Phase::LinksComingUp, Phase::Measuring, Phase::Ending, Phase::Over] {
            meter.phase(phase);
        }
        let mut tick = Tick::default();
        meter.tick(&mut tick);
        let mut run = Run::default();
        meter.finish(&mut run);
        assert!(run.cost.is_none() && tick.relay_rss_bytes.is_none());
    }

    #[test]
    fn a_run_that_was_never_measured_costs_nothing() {
        let mut meter = Meter::new(Some(std::process::id()));
        meter.phase(Phase::LinksComingUp);
        let mut run = Run::default();
        meter.finish(&mut run);
        assert!(run.cost.is_none());
    }
}
