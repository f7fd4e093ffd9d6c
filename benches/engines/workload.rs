//! The workloads, each one measurement of one freshly started server.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    churn::Churn,
    frame::{MASK, ZERO_MASK},
    load::{Goal, Load, Pattern, Shape},
    machine::{
        cpu::Meter,
        server::{Cores, Server},
    },
    session::{Introducer, Link, register},
    subject::Subject,
};

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Links that ping-pong.
    pub message_links: usize,
    /// Links that ping-pong where growth is looked at.
    pub growth_links: usize,
    /// Links that stream 64 KiB messages.
    pub byte_links: usize,
    /// Links that stream 1 MiB messages.
    pub large_links: usize,
    /// Links that come and go, at a time.
    pub sessions: usize,
    /// Links that are idle.
    pub idle_links: usize,
    /// `SO_SNDBUF` of the streaming clients, where it is capped.
    pub send_buffer: usize,
    /// Loaded before the measured span, as often as the subject needs it.
    pub warm_up: Duration,
    /// The measured span.
    pub span: Duration,
    /// Messages that each link moves at least, and sessions that each place sees, also where the span is short.
    pub messages_per_link: u32,
}

/// What is done with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Small messages back and forth.
    Message,
    /// The same on many more links.
    Growth,
    /// Masked messages of 64 KiB one way, the senders' socket buffers capped.
    Byte,
    /// The same with buffers that the kernel grows to megabytes: the server then reads cold memory.
    ByteGrown,
    /// Messages of 1 MiB that need no unmasking, one way, the senders' socket buffers capped.
    Large,
    /// Links that come and go.
    Session,
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
    /// What was done in a second: messages, MiB or sessions; or for `Idle` the cost of each socket beyond the first
    /// tenth.
    pub beside: f64,
}

const SMALL: Shape = Shape { bytes: 128, mask: MASK };
const MEDIUM: Shape = Shape { bytes: 64 * 1024, mask: MASK };
const LARGE: Shape = Shape { bytes: 1024 * 1024, mask: ZERO_MASK };

impl Workload {
    /// All, in the order of the tables.
    pub const ALL: [Workload; 7] =
        [Self::Message, Self::Growth, Self::Byte, Self::ByteGrown, Self::Large, Self::Session, Self::Idle];

    /// As the options name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Growth => "growth",
            Self::Byte => "byte",
            Self::ByteGrown => "byte-grown",
            Self::Large => "large",
            Self::Session => "session",
            Self::Idle => "idle",
        }
    }

    /// As the tables show it.
    pub fn title(self, sizes: &Sizes) -> String {
        let capped = format!("SO_SNDBUF {} KiB", sizes.send_buffer / 1024);
        match self {
            Self::Message => format!("CPU per 128 B message, {} links ping-pong", sizes.message_links),
            Self::Growth => format!("CPU per 128 B message, {} links ping-pong", sizes.growth_links),
            Self::Byte => {
                format!("CPU per byte, {} links stream 64 KiB masked frames, {capped}", sizes.byte_links)
            }
            Self::ByteGrown => {
                format!(
                    "CPU per byte, {} links stream 64 KiB masked frames, SO_SNDBUF grows",
                    sizes.byte_links
                )
            }
            Self::Large => {
                format!("CPU per byte, {} links stream 1 MiB zero-mask frames, {capped}", sizes.large_links)
            }
            Self::Session => {
                format!("CPU per session set up and torn down, {} under way at a time", sizes.sessions)
            }
            Self::Idle => format!("resident memory per idle socket, {} links", sizes.idle_links),
        }
    }

    /// Units of `Reading::cost` and `Reading::beside`.
    pub fn units(self) -> (&'static str, &'static str) {
        match self {
            Self::Message | Self::Growth => ("us", "messages/s"),
            Self::Byte | Self::ByteGrown | Self::Large => ("ns", "MiB/s"),
            Self::Session => ("us", "sessions/s"),
            Self::Idle => ("B", "B a further socket"),
        }
    }

    /// Whether it says something about `subject` that is worth its time.
    pub fn concerns(self, subject: Subject) -> bool {
        match self {
            Self::Message | Self::Byte | Self::Large | Self::Idle => true,
            // What a target is about, and no more: these are slow to set up.
            Self::Growth => subject.is_relay() || subject == Subject::Copy,
            Self::ByteGrown => subject.is_relay() || subject.is_pass_through(),
            // They know no session.
            Self::Session => !subject.is_pass_through(),
        }
    }

    /// Starts a server, loads it, measures it, kills it.
    pub fn measure(self, subject: Subject, cores: Cores, sizes: &Sizes) -> Result<Reading, String> {
        let sizes = &Sizes { warm_up: sizes.warm_up * subject.warm_ups(), ..sizes.clone() };
        let command =
            subject.command().map_err(|error| format!("{} does not start: {error}", subject.title()))?;
        let server = Server::start(subject.title(), command, cores)?;
        let meter = Meter::new(server.pid(), cores.server)?;
        let reading = match self {
            Self::Session => sessions(&meter, server.address, sizes),
            Self::Idle => idle(&meter, Introducer::new(subject, server.address)?, sizes),
            _ => self.loaded(&meter, Introducer::new(subject, server.address)?, sizes),
        };
        drop(server);
        reading
    }

    /// Microseconds a message in a ping-pong, nanoseconds a byte in a stream.
    fn loaded(self, meter: &Meter, mut introducer: Introducer, sizes: &Sizes) -> Result<Reading, String> {
        let capped = Pattern::Stream { send_buffer: Some(sizes.send_buffer) };
        let (links, pattern, shape) = match self {
            Self::Growth => (sizes.growth_links, Pattern::PingPong, SMALL),
            Self::Byte => (sizes.byte_links, capped, MEDIUM),
            Self::ByteGrown => (sizes.byte_links, Pattern::Stream { send_buffer: None }, MEDIUM),
            Self::Large => (sizes.large_links, capped, LARGE),
            _ => (sizes.message_links, Pattern::PingPong, SMALL),
        };
        let mut load = Load::start(pattern, shape, introduce(&mut introducer, links)?)?;
        load.run(&Goal { span: sizes.warm_up, messages_per_link: 1 })?;
        let before = cpu_ns(meter)?;
        let moved = load.run(&Goal { span: sizes.span, messages_per_link: sizes.messages_per_link })?;
        let cpu_ns = cpu_ns(meter)? - before;
        let seconds = moved.elapsed.as_secs_f64();
        let (messages, bytes) = (moved.messages as f64, moved.payload_bytes as f64);
        let (cost, beside) = match pattern {
            Pattern::PingPong => (cpu_ns / 1000.0 / messages, messages / seconds),
            Pattern::Stream { .. } => (cpu_ns / bytes, bytes / seconds / f64::from(1 << 20)),
        };
        Ok(Reading { cost, busy: cpu_ns / 1e9 / seconds, beside })
    }
}

fn introduce(introducer: &mut Introducer, links: usize) -> Result<Vec<Link>, String> {
    (0..links)
        .map(|link| introducer.link().map_err(|error| format!("introducing link {link}: {error}")))
        .collect()
}

/// Microseconds a session.
fn sessions(meter: &Meter, address: SocketAddr, sizes: &Sizes) -> Result<Reading, String> {
    let mut churn = Churn::start(address, register(address)?, sizes.sessions)?;
    churn.run(sizes.warm_up, sizes.sessions as u64)?;
    let before = cpu_ns(meter)?;
    let at_least = sizes.sessions as u64 * u64::from(sizes.messages_per_link);
    let (ended, elapsed) = churn.run(sizes.span, at_least)?;
    let cpu_ns = cpu_ns(meter)? - before;
    let (ended, seconds) = (ended as f64, elapsed.as_secs_f64());
    Ok(Reading { cost: cpu_ns / 1000.0 / ended, busy: cpu_ns / 1e9 / seconds, beside: ended / seconds })
}

fn cpu_ns(meter: &Meter) -> Result<f64, String> {
    let cpu_ns = meter.cpu_ns().map_err(|error| format!("reading the CPU time: {error}"))?;
    Ok(cpu_ns as f64)
}

/// Each link is two of the server's sockets.
fn idle(meter: &Meter, mut introducer: Introducer, sizes: &Sizes) -> Result<Reading, String> {
    let first = sizes.idle_links.div_ceil(10);
    let at_start = settled_memory(meter)?;
    let mut links = introduce(&mut introducer, first)?;
    let at_first = settled_memory(meter)?;
    links.extend(introduce(&mut introducer, sizes.idle_links - first)?);
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
