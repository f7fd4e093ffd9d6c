//! The workloads, each one measurement of one freshly started server.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    cpu::Meter,
    load::{Goal, Load, Pattern},
    server::{Cores, Server, Subject},
    session::{Introducer, Link},
};

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Links that ping-pong.
    pub ping_pong_links: usize,
    /// Links that stream.
    pub stream_links: usize,
    /// Links that are idle.
    pub idle_links: usize,
    /// `SO_SNDBUF` of the streaming clients, where it is capped.
    pub send_buffer: usize,
    /// Loaded before the measured span.
    pub warm_up: Duration,
    /// The measured span.
    pub span: Duration,
    /// Messages that each link moves at least, also where the span is short.
    pub messages_per_link: u32,
}

/// What is done with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Small messages back and forth.
    PingPong,
    /// Large messages one way, the senders' socket buffers capped.
    StreamCapped,
    /// The same with buffers that the kernel grows to megabytes: the server then reads cold memory.
    StreamGrown,
    /// Links that do nothing.
    Idle,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The cost in the workload's unit.
    pub cost: f64,
    /// The share of its core that the server used, or 0 where nothing runs.
    pub busy: f64,
    /// What was moved in a second: messages or MiB, or for `Idle` the cost of each socket beyond the first
    /// tenth.
    pub beside: f64,
}

impl Workload {
    /// All, in the order of the table.
    pub const ALL: [Workload; 4] = [Self::PingPong, Self::StreamCapped, Self::StreamGrown, Self::Idle];

    /// As `--only` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PingPong => "message",
            Self::StreamCapped => "byte",
            Self::StreamGrown => "byte-grown",
            Self::Idle => "idle",
        }
    }

    /// As the table shows it.
    pub fn title(self, sizes: &Sizes) -> String {
        let Sizes { ping_pong_links, stream_links, idle_links, send_buffer, .. } = sizes;
        match self {
            Self::PingPong => format!("CPU per 128 B message, {ping_pong_links} links ping-pong"),
            Self::StreamCapped => {
                format!(
                    "CPU per byte, {stream_links} links stream 64 KiB frames, SO_SNDBUF {} KiB",
                    send_buffer / 1024
                )
            }
            Self::StreamGrown => {
                format!("CPU per byte, {stream_links} links stream 64 KiB frames, SO_SNDBUF grows")
            }
            Self::Idle => format!("resident memory per idle socket, {idle_links} links"),
        }
    }

    /// Units of `Reading::cost` and `Reading::beside`.
    pub fn units(self) -> (&'static str, &'static str) {
        match self {
            Self::PingPong => ("us", "messages/s"),
            Self::StreamCapped | Self::StreamGrown => ("ns", "MiB/s"),
            Self::Idle => ("B", "B a further socket"),
        }
    }

    /// Starts a server, loads it, measures it, kills it.
    pub fn measure(self, subject: Subject, cores: Cores, sizes: &Sizes) -> Result<Reading, String> {
        let server = Server::start(subject, cores)?;
        let meter = Meter::new(server.pid(), cores.server)?;
        let mut introducer = Introducer::new(subject, server.address)?;
        let reading = match self {
            Self::PingPong => {
                let links = introduce(&mut introducer, sizes.ping_pong_links)?;
                loaded(&meter, Pattern::PingPong, links, sizes, |moved, cpu_ns, seconds| {
                    (cpu_ns / 1000.0 / moved.messages as f64, moved.messages as f64 / seconds)
                })
            }
            Self::StreamCapped | Self::StreamGrown => {
                let links = introduce(&mut introducer, sizes.stream_links)?;
                let send_buffer = (self == Self::StreamCapped).then_some(sizes.send_buffer);
                loaded(&meter, Pattern::Stream { send_buffer }, links, sizes, |moved, cpu_ns, seconds| {
                    let bytes = moved.payload_bytes as f64;
                    (cpu_ns / bytes, bytes / seconds / f64::from(1 << 20))
                })
            }
            Self::Idle => idle(&meter, &mut introducer, sizes),
        };
        // Before the sockets go, so that it sees no goodbyes.
        drop(server);
        reading
    }
}

fn introduce(introducer: &mut Introducer, links: usize) -> Result<Vec<Link>, String> {
    (0..links)
        .map(|link| introducer.link().map_err(|error| format!("introducing link {link}: {error}")))
        .collect()
}

/// `figures`: cost and rate from what was moved, the CPU time in nanoseconds and the seconds it took.
fn loaded(
    meter: &Meter,
    pattern: Pattern,
    links: Vec<Link>,
    sizes: &Sizes,
    figures: impl Fn(&crate::load::Moved, f64, f64) -> (f64, f64),
) -> Result<Reading, String> {
    let unreadable = |error: std::io::Error| format!("reading the CPU time: {error}");
    let mut load = Load::start(pattern, links)?;
    load.run(&Goal { span: sizes.warm_up, messages_per_link: 1 })?;
    let before = meter.cpu_ns().map_err(unreadable)?;
    let moved = load.run(&Goal { span: sizes.span, messages_per_link: sizes.messages_per_link })?;
    let cpu_ns = (meter.cpu_ns().map_err(unreadable)? - before) as f64;
    let seconds = moved.elapsed.as_secs_f64();
    let (cost, beside) = figures(&moved, cpu_ns, seconds);
    Ok(Reading { cost, busy: cpu_ns / 1e9 / seconds, beside })
}

/// Each link is two of the server's sockets.
fn idle(meter: &Meter, introducer: &mut Introducer, sizes: &Sizes) -> Result<Reading, String> {
    let first = sizes.idle_links.div_ceil(10);
    let at_start = settled_memory(meter)?;
    let mut links = introduce(introducer, first)?;
    let at_first = settled_memory(meter)?;
    links.extend(introduce(introducer, sizes.idle_links - first)?);
    let at_end = settled_memory(meter)?;
    let grown = |from: f64, links: usize| (at_end - from) / (2 * links) as f64;
    Ok(Reading {
        cost: grown(at_start, sizes.idle_links),
        busy: 0.0,
        beside: grown(at_first, links.len() - first),
    })
}

/// Resident bytes once they have stopped moving, or as they are after some seconds.
fn settled_memory(meter: &Meter) -> Result<f64, String> {
    let unreadable = |error: std::io::Error| format!("reading the memory: {error}");
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut last = meter.resident_bytes().map_err(unreadable)?;
    loop {
        thread::sleep(Duration::from_millis(300));
        let now = meter.resident_bytes().map_err(unreadable)?;
        if now == last || Instant::now() > deadline {
            return Ok(now as f64);
        }
        last = now;
    }
}
