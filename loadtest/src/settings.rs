//! The settings of a scenario as they are given, by the command line or a file.

use std::net::IpAddr;

use clap::Args;
use serde::Deserialize;

use crate::{
    mix::Mix,
    scenario::{Arrival, Mask, Measure, Verify},
    sizes::{Bytes, Sizes},
};

/// The settings of a scenario: those that are not given take the kind's default.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[command(next_help_heading = "Load")]
pub struct Settings {
    /// Links, each of two sockets. [default: 100; soak: 120; hold: 10000; stream, duplex, paced: 16]
    #[arg(long, value_name = "N")]
    pub links: Option<u32>,
    /// Length of the measured part, once all links are up. [default: 10; hold: 60; soak: 1800]
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<f64>,
    /// Traffic before the measured part, in which what is started or saved up wears off. [default: 0; paced: 3; soak: a
    /// fifth of --seconds, at most 300]
    #[arg(long, value_name = "SECONDS")]
    pub warmup: Option<f64>,
    /// Bytes of a message: one size (128, 64KiB), a range (64..4096), or sizes with weights (128:9,4KiB:1).
    /// [default: 128; stream, duplex: 64KiB; paced: 4KiB; soak: 64:45,1KiB:35,16KiB:15,256KiB:5] Of `pair`, before they
    /// become base64.
    #[arg(long, value_name = "SIZES")]
    pub size: Option<Sizes>,
    /// Messages a second of each link that sends by the clock (rate, mixed, soak). [default: 10]
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// How the messages of links that send by the clock lie to one another: spread evenly over the interval, or in a
    /// burst of all links at once (rate, mixed, soak). [default: spread]
    #[arg(long, value_enum)]
    pub arrival: Option<Arrival>,
    /// What a mixed load or a soak is made of: patterns with weights, and where they are not --size and --rate, with a
    /// size and a rate of their own, as in pingpong:1000@128,rate:20@64..4096@5/s,stream:1@64KiB. [default:
    /// hold:60,pingpong:20,rate:18,stream:2; soak: hold:30,pingpong:20,rate:20,churn:18,stream:6,duplex:6]
    #[arg(long, value_name = "PARTS")]
    pub mix: Option<Mix>,
    /// Of a hundred hosts, how many meet mishaps with all their links (soak). [default: 30]
    #[arg(long, value_name = "PERCENT")]
    pub troubled: Option<u32>,
    /// Connections a second that misbehave from their first byte on (soak). [default: 5]
    #[arg(long, value_name = "PER_SECOND")]
    pub strangers: Option<f64>,
    /// Pairing sessions beside the links, half of them short ones (soak). [default: 20]
    #[arg(long, value_name = "N")]
    pub pair_links: Option<u32>,
    /// How long the relay may take to come to rest once the load is gone (soak). [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub settle: Option<f64>,
    /// What pairing sessions are for (pair). [default: round-trips]
    #[arg(long, value_enum)]
    pub measure: Option<Measure>,
    /// How clients mask. [default: random]
    #[arg(long, value_enum)]
    pub mask: Option<Mask>,
    /// How much of what arrives is compared, beside the stamp and the length of each message. [default: sampled;
    /// pair, soak: all]
    #[arg(long, value_enum)]
    pub verify: Option<Verify>,
    /// Determines keys, masks, sizes and payloads. [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Threads. More are started where one may not hold enough descriptors. [default: half the cores for a relay on
    /// this machine, else all]
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// Links that share one host, its key and its control socket. [default: 100; soak: 10]
    #[arg(long, value_name = "N")]
    pub links_per_host: Option<u32>,
    /// Links brought up a second; 0 is as fast as handshakes complete. [default: 0]
    #[arg(long, value_name = "PER_SECOND")]
    pub ramp: Option<f64>,
    /// Handshakes in progress at once. [default: 128]
    #[arg(long, value_name = "N")]
    pub handshakes: Option<u32>,
    /// How long a handshake, or what is still under way at the end, may go without progress. [default: 20]
    #[arg(long, value_name = "SECONDS")]
    pub patience: Option<f64>,
    /// SO_SNDBUF of relayed sockets; 0 leaves it to the kernel. Streams measure two different things with and without a
    /// cap (README). [default: 128KiB for stream, duplex, paced, mixed and soak, else 0]
    #[arg(long, value_name = "BYTES")]
    pub send_buffer: Option<Bytes>,
    /// SO_RCVBUF of relayed sockets; 0 leaves it to the kernel. [default: 0]
    #[arg(long, value_name = "BYTES")]
    pub receive_buffer: Option<Bytes>,
    /// Address to connect from; repeat it for several. [default: 127.0.0.1 and up, one for every 10,000 connections to
    /// a relay on this machine; else the kernel's choice]
    #[arg(long, value_name = "IP")]
    pub source_address: Option<Vec<IpAddr>>,
}

impl Settings {
    /// These settings, with those of `other` where it has any.
    pub fn overridden_by(self, other: &Settings) -> Settings {
        let other = other.clone();
        Settings {
            links: other.links.or(self.links),
            seconds: other.seconds.or(self.seconds),
            warmup: other.warmup.or(self.warmup),
            size: other.size.or(self.size),
            rate: other.rate.or(self.rate),
            arrival: other.arrival.or(self.arrival),
            mix: other.mix.or(self.mix),
            troubled: other.troubled.or(self.troubled),
            strangers: other.strangers.or(self.strangers),
            pair_links: other.pair_links.or(self.pair_links),
            settle: other.settle.or(self.settle),
            measure: other.measure.or(self.measure),
            mask: other.mask.or(self.mask),
            verify: other.verify.or(self.verify),
            seed: other.seed.or(self.seed),
            threads: other.threads.or(self.threads),
            links_per_host: other.links_per_host.or(self.links_per_host),
            ramp: other.ramp.or(self.ramp),
            handshakes: other.handshakes.or(self.handshakes),
            patience: other.patience.or(self.patience),
            send_buffer: other.send_buffer.or(self.send_buffer),
            receive_buffer: other.receive_buffer.or(self.receive_buffer),
            source_address: other.source_address.or(self.source_address),
        }
    }
}
