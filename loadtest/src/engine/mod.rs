//! The workers: each a thread with its own descriptors, epoll set, connections and histograms. Nothing is shared for
//! a message.
//!
//! Reading order: `payload` (what is sent), `reader` (how it is checked), `wire` and `talk` (the control protocol),
//! `link` (state), `worker` (the loop), `setup`, `traffic`, `closing`, and `tally` (what is counted). What is
//! different where two devices pair is in `device` (the protocol) and `pairing` (the worker's part); what a soak does
//! to links in `mishap` and `trouble` (the worker's part), and who misbehaves beside them in `strangers`.

mod closing;
mod device;
mod link;
mod mishap;
mod pairing;
mod payload;
mod reader;
mod schedule;
mod setup;
mod strangers;
mod talk;
mod tally;
mod traffic;
mod trouble;
mod wire;
mod worker;

pub use self::{
    strangers::wander,
    tally::{Board, Lead, PartTally, Sample, Stage, Tally, Times},
    worker::{Assignment, work},
};

/// Bytes at the start of every payload that say which message it is.
pub const STAMP_BYTES: usize = 8;
