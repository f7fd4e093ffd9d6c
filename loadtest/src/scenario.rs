//! What a run does: the kind of load and its settings, from the command line or a file.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use clap::ValueEnum;
use serde::Deserialize;

use crate::{
    dialect::Dialect,
    mix::{Mix, Parts, RATE_MAX, RATE_MIN},
    settings::Settings,
    sizes::{Bytes, Sizes},
    soak::Hardship,
};

/// The kinds of load. The names are the subcommands and the `kind` in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A closed loop: each client has one message under way, which its host answers.
    Pingpong,
    /// An open loop: each client sends at a set rate, whatever comes back.
    Rate,
    /// Clients send without a pause, hosts read.
    Stream,
    /// Both ends send without a pause.
    Duplex,
    /// Links are brought up and held idle; pings are answered; at the end each carries one round trip.
    Hold,
    /// Whole sessions, set up and torn down without a pause.
    Churn,
    /// Streams that the relay holds to its cap: the rate of each link and how the rates spread.
    Paced,
    /// Some links of each pattern, by weight.
    Mixed,
    /// All of it for long, with mishaps; the relay is watched for growth.
    Soak,
    /// Pairing sessions of two devices; [`Measure`] says what they do.
    Pair,
}

impl Kind {
    /// The subcommand's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pingpong => "pingpong",
            Kind::Rate => "rate",
            Kind::Stream => "stream",
            Kind::Duplex => "duplex",
            Kind::Hold => "hold",
            Kind::Churn => "churn",
            Kind::Paced => "paced",
            Kind::Mixed => "mixed",
            Kind::Soak => "soak",
            Kind::Pair => "pair",
        }
    }

    /// The protocol that it speaks.
    pub fn dialect(self) -> Dialect {
        if self == Kind::Pair { Dialect::Pair } else { Dialect::Link }
    }
}

/// What one link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One message at a time, back and forth.
    Pingpong,
    /// Messages from the client by the clock.
    Rate,
    /// Messages from the client without a pause.
    Stream,
    /// Messages from both ends without a pause.
    Duplex,
    /// Nothing but answers to pings.
    Idle,
    /// A message back and forth for each session, then its end.
    Churn,
}

/// What pairing sessions are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// One payload under way in each session, back and forth.
    RoundTrips,
    /// Whole sessions, with one payload each way, set up and torn down without a pause.
    Pairings,
}

impl Measure {
    /// What each session does.
    fn pattern(self) -> Pattern {
        match self {
            Measure::RoundTrips => Pattern::Pingpong,
            Measure::Pairings => Pattern::Churn,
        }
    }
}

/// How the messages of links that send by the clock lie to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Evenly over the interval, one link after the other.
    Spread,
    /// All links at the same instants, again and again.
    Burst,
}

/// How clients mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mask {
    /// By a random key, as RFC 6455 wants it: the relay has to unmask.
    Random,
    /// By zero, as clients do whose payload is encrypted anyway: a relay may leave the payload alone.
    Zero,
}

/// How much of what arrives is compared with what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Every byte.
    All,
    /// The stamp and the length of every message, every byte of each 64th message and the borders of the others.
    Sampled,
    /// The stamp and the length of every message.
    Off,
}

/// A load, complete and checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name that reports show.
    pub name: String,
    pub kind: Kind,
    pub links: u32,
    /// Traffic before the measured part.
    pub warmup: Duration,
    /// Length of the measured part.
    pub length: Duration,
    /// What the links do.
    pub parts: Parts,
    /// Of links that send by the clock.
    pub arrival: Arrival,
    /// Of `Kind::Soak`, and of what runs beside it.
    pub hardship: Option<Hardship>,
    /// Of `Kind::Pair`.
    pub measure: Measure,
    pub mask: Mask,
    pub verify: Verify,
    pub seed: u64,
    /// Threads; more are used where descriptors require it. `None`: the program's choice.
    pub threads: Option<u32>,
    pub links_per_host: u32,
    /// Links brought up a second, over all threads. `None`: as fast as handshakes complete.
    pub ramp: Option<f64>,
    /// Handshakes in progress at once, over all threads.
    pub handshakes: u32,
    /// The longest that one step of a handshake, or the end of the traffic, may take without progress.
    pub patience: Duration,
    /// `SO_SNDBUF` and `SO_RCVBUF` of relayed sockets. `None`: the kernel's choice.
    pub send_buffer: Option<u32>,
    pub receive_buffer: Option<u32>,
    /// Where connections come from. Empty: the program's choice.
    pub sources: Vec<IpAddr>,
}

impl Scenario {
    /// Completes settings with the kind's defaults. Errors: the setting, its value, and what it may be.
    pub fn new(kind: Kind, name: Option<&str>, settings: &Settings) -> Result<Scenario, String> {
        let streams = matches!(kind, Kind::Stream | Kind::Duplex | Kind::Paced);
        let clocked = [("rate", settings.rate.is_some()), ("arrival", settings.arrival.is_some())];
        for (option, _) in clocked.into_iter().filter(|(_, is_given)| *is_given) {
            if !matches!(kind, Kind::Rate | Kind::Mixed | Kind::Soak) {
                let kind = kind.name();
                return Err(format!(
                    "--{option} is for `rate`, `mixed` and `soak`; `{kind}` is not paced by the clock"
                ));
            }
        }
        if settings.mix.is_some() && !matches!(kind, Kind::Mixed | Kind::Soak) {
            return Err(format!("--mix is for `mixed` and `soak`, not for `{}`", kind.name()));
        }
        if kind == Kind::Mixed && settings.mix.as_ref().is_some_and(|mix| mix.has(Pattern::Churn)) {
            return Err("--mix churn: only a `soak` mixes links that churn with others".to_owned());
        }
        let hardship = Hardship::of(kind, settings)?;
        if settings.measure.is_some() && kind != Kind::Pair {
            return Err(format!("--measure is for `pair`, not for `{}`", kind.name()));
        }
        let sizes = &settings.size;
        if kind == Kind::Pair {
            if let Some(count) = settings.links_per_host {
                return Err(format!("--links-per-host {count}: paired devices have no hosts"));
            }
            if let Some(sizes) = sizes.as_ref().filter(|sizes| sizes.max() > PAIR_SIZE_MAX) {
                let most = PAIR_SIZE_MAX >> 20;
                return Err(format!("--size {sizes}: {most} MiB at most for `pair`, a third more as base64"));
            }
        }
        let size = match kind {
            Kind::Stream | Kind::Duplex => Sizes::Fixed(64 << 10),
            Kind::Paced => Sizes::Fixed(4 << 10),
            Kind::Soak => SOAK_SIZES.parse().expect("the default is of sizes"),
            _ => Sizes::Fixed(128),
        };
        let buffer = |given: Option<Bytes>, name: &str, otherwise: u64| match given
            .map_or(otherwise, |bytes| bytes.0)
        {
            0 => Ok(None),
            bytes @ 2048..=BUFFER_MAX => Ok(Some(bytes as u32)),
            bytes => Err(format!("--{name} {bytes}: 0, or 2 KiB to {} MiB", BUFFER_MAX >> 20)),
        };
        let links_default = match kind {
            Kind::Hold => 10_000,
            Kind::Soak => 120,
            _ if streams => 16,
            _ => 100,
        };
        let capped = streams || matches!(kind, Kind::Mixed | Kind::Soak);
        let ramp = number("ramp", settings.ramp.unwrap_or(0.0), 0.0, 1e9)?;
        let seconds = settings.seconds.unwrap_or(match kind {
            Kind::Soak => 1800.0,
            Kind::Hold => 60.0,
            _ => 10.0,
        });
        let warmup = settings.warmup.unwrap_or(match kind {
            Kind::Soak => (seconds / 5.0).min(300.0),
            Kind::Paced => 3.0,
            _ => 0.0,
        });
        let links_per_host = if kind == Kind::Soak { 10 } else { 100 };
        let measure = settings.measure.unwrap_or(Measure::RoundTrips);
        let sizes = settings.size.clone().unwrap_or(size);
        let rate = number("rate", settings.rate.unwrap_or(10.0), RATE_MIN, RATE_MAX)?;
        let alone = |pattern| Parts::alone(kind.name(), pattern, sizes.clone(), rate);
        let parts = match kind {
            Kind::Pingpong => alone(Pattern::Pingpong),
            Kind::Rate => alone(Pattern::Rate),
            Kind::Stream | Kind::Paced => alone(Pattern::Stream),
            Kind::Duplex => alone(Pattern::Duplex),
            Kind::Hold => alone(Pattern::Idle),
            Kind::Churn => alone(Pattern::Churn),
            Kind::Pair => alone(measure.pattern()),
            Kind::Mixed | Kind::Soak => {
                let default = if kind == Kind::Soak { SOAK_MIX } else { DEFAULT_MIX };
                let default = || default.parse::<Mix>().expect("the default is a mix");
                settings.mix.clone().unwrap_or_else(default).complete(&sizes, rate)
            }
        };
        Ok(Scenario {
            name: name.unwrap_or(kind.name()).to_owned(),
            kind,
            links: whole("links", settings.links.unwrap_or(links_default), 1, 10_000_000)?,
            warmup: Duration::from_secs_f64(number("warmup", warmup, 0.0, 1e6)?),
            length: Duration::from_secs_f64(number("seconds", seconds, 0.1, 1e7)?),
            parts,
            arrival: settings.arrival.unwrap_or(Arrival::Spread),
            hardship,
            measure,
            mask: settings.mask.unwrap_or(Mask::Random),
            verify: settings.verify.unwrap_or(match kind {
                // What is decoded anyway is compared at little cost.
                Kind::Pair | Kind::Soak => Verify::All,
                _ => Verify::Sampled,
            }),
            seed: settings.seed.unwrap_or(1),
            threads: settings.threads.map(|threads| whole("threads", threads, 1, 1024)).transpose()?,
            links_per_host: whole(
                "links-per-host",
                settings.links_per_host.unwrap_or(links_per_host),
                1,
                1_000_000,
            )?,
            ramp: (ramp > 0.0).then_some(ramp),
            handshakes: whole("handshakes", settings.handshakes.unwrap_or(128), 1, 1_000_000)?,
            patience: Duration::from_secs_f64(number(
                "patience",
                settings.patience.unwrap_or(20.0),
                0.1,
                1e6,
            )?),
            send_buffer: buffer(settings.send_buffer, "send-buffer", if capped { 128 << 10 } else { 0 })?,
            // Small, so that who does not read is felt by the relay.
            receive_buffer: buffer(
                settings.receive_buffer,
                "receive-buffer",
                if kind == Kind::Soak { 32 << 10 } else { 0 },
            )?,
            sources: settings.source_address.clone().unwrap_or_default(),
        })
    }

    /// The protocol that it speaks.
    pub fn dialect(&self) -> Dialect {
        self.kind.dialect()
    }

    /// Hosts that so many links of one thread have.
    pub fn hosts(&self, links: u32) -> u32 {
        match self.dialect() {
            Dialect::Link => links.div_ceil(self.links_per_host),
            Dialect::Pair => 0,
        }
    }

    /// Whether links are set up and torn down without a pause.
    pub fn churns(&self) -> bool {
        matches!(self.kind, Kind::Churn | Kind::Soak)
            || self.kind == Kind::Pair && self.measure == Measure::Pairings
    }

    /// What runs beside this one, on the same relay: large frames that need no unmasking, and pairing sessions.
    pub fn companions(&self) -> Vec<Scenario> {
        let Some(hardship) = self.hardship.as_ref().filter(|_| self.kind == Kind::Soak) else {
            return Vec::new();
        };
        let beside =
            Scenario { threads: Some(1), hardship: Some(hardship.without_strangers()), ..self.clone() };
        let large = LARGE_SIZES.parse().expect("they are sizes");
        let large = Scenario {
            links: self.links.div_ceil(4),
            // So that a link's rate suffices for them.
            parts: self.parts.with(&large, 1.0 / 20.0),
            mask: Mask::Zero,
            ..beside.clone()
        };
        let sizes = &self.parts.all()[0].sizes;
        let paired = |measure: Measure, links| Scenario {
            kind: Kind::Pair,
            parts: Parts::alone(Kind::Pair.name(), measure.pattern(), sizes.clone(), 1.0),
            measure,
            links,
            ..beside.clone()
        };
        let mut all = vec![
            large,
            paired(Measure::RoundTrips, hardship.pair_links / 2),
            paired(Measure::Pairings, hardship.pair_links.div_ceil(2)),
        ];
        all.retain(|scenario| scenario.links > 0);
        all
    }

    /// Whether the links' rates are compared with one another.
    pub fn compares_links(&self) -> bool {
        matches!(self.kind, Kind::Stream | Kind::Duplex | Kind::Paced)
    }

    /// Whether a part's latencies are those that the run's own are made of: where some links send by the clock, theirs
    /// alone, because a time from when a message was due and a round trip do not mix.
    pub fn is_leading(&self, pattern: Pattern) -> bool {
        let clocked = |pattern| pattern == Pattern::Rate;
        let is_measured = self.latency_of(pattern).is_some();
        is_measured && (clocked(pattern) || !self.parts.all().iter().any(|part| clocked(part.pattern)))
    }

    /// What one latency of a link of this pattern is; `None` where none is measured.
    pub fn latency_of(&self, pattern: Pattern) -> Option<&'static str> {
        match pattern {
            Pattern::Rate => Some("from schedule to arrival"),
            Pattern::Pingpong => Some("round trip"),
            Pattern::Churn if self.dialect() == Dialect::Pair => Some("pairing"),
            Pattern::Churn => Some("session set-up"),
            Pattern::Stream | Pattern::Duplex | Pattern::Idle => None,
        }
    }

    /// Every setting as text, for the report.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let bytes = |buffer: Option<u32>| {
            buffer.map_or_else(|| "kernel's choice".to_owned(), |bytes| bytes.to_string())
        };
        let mut all = BTreeMap::from([
            ("kind".to_owned(), self.kind.name().to_owned()),
            ("links".to_owned(), self.links.to_string()),
            ("seconds".to_owned(), self.length.as_secs_f64().to_string()),
            ("warmup".to_owned(), self.warmup.as_secs_f64().to_string()),
            ("mask".to_owned(), format!("{:?}", self.mask).to_lowercase()),
            ("verify".to_owned(), format!("{:?}", self.verify).to_lowercase()),
            ("seed".to_owned(), self.seed.to_string()),
            ("ramp".to_owned(), self.ramp.map_or_else(|| "unlimited".to_owned(), |ramp| ramp.to_string())),
            ("handshakes".to_owned(), self.handshakes.to_string()),
            ("patience".to_owned(), self.patience.as_secs_f64().to_string()),
            ("send-buffer".to_owned(), bytes(self.send_buffer)),
            ("receive-buffer".to_owned(), bytes(self.receive_buffer)),
        ]);
        if !self.sources.is_empty() {
            let sources: Vec<String> = self.sources.iter().map(IpAddr::to_string).collect();
            all.insert("source-address".to_owned(), sources.join(", "));
        }
        match self.dialect() {
            Dialect::Link => all.insert("links-per-host".to_owned(), self.links_per_host.to_string()),
            Dialect::Pair => {
                let measure = self.measure.to_possible_value().expect("no value is hidden");
                all.insert("measure".to_owned(), measure.get_name().to_owned())
            }
        };
        if matches!(self.kind, Kind::Rate | Kind::Mixed | Kind::Soak) {
            let arrival = self.arrival.to_possible_value().expect("no value is hidden");
            all.insert("arrival".to_owned(), arrival.get_name().to_owned());
        }
        if let Some(hardship) = &self.hardship {
            all.extend(hardship.settings());
        }
        let parts = self.parts.all();
        if matches!(self.kind, Kind::Mixed | Kind::Soak) {
            let parts: Vec<String> = parts.iter().map(|part| part.in_full().to_string()).collect();
            all.insert("mix".to_owned(), parts.join(","));
        } else {
            all.insert("size".to_owned(), parts[0].sizes.to_string());
        }
        if self.kind == Kind::Rate {
            all.insert("rate".to_owned(), parts[0].rate.to_string());
        }
        all
    }
}

pub fn whole(name: &str, value: u32, min: u32, max: u32) -> Result<u32, String> {
    match (min..=max).contains(&value) {
        true => Ok(value),
        false => Err(format!("--{name} {value}: a whole number from {min} to {max}")),
    }
}

pub fn number(name: &str, value: f64, min: f64, max: f64) -> Result<f64, String> {
    match (min..=max).contains(&value) {
        true => Ok(value),
        false => Err(format!("--{name} {value}: a number from {min} to {max}")),
    }
}

const DEFAULT_MIX: &str = "hold:60,pingpong:20,rate:18,stream:2";
const SOAK_MIX: &str = "hold:30,pingpong:20,rate:20,churn:18,stream:6,duplex:6";
/// Above what longsplice splices.
const LARGE_SIZES: &str = "1KiB:60,300KiB:30,1MiB:10";
const SOAK_SIZES: &str = "64:45,1KiB:35,16KiB:15,256KiB:5";
const BUFFER_MAX: u64 = 1 << 30;
/// With base64 and the JSON around it, below the 16 MiB that no message is longer than.
const PAIR_SIZE_MAX: u32 = 11 << 20;
