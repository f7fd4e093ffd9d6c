//! The workers: each a thread with its own descriptors, epoll set, connections and histograms. Nothing is shared for
//! a message.
//!
//! Reading order: `payload` (what is sent), `reader` (how it is checked), `wire` and `talk` (the control protocol),
//! `link` (state), `worker` (the loop), `setup`, `traffic`, `closing`, and `tally` (what is counted). What is
//! different where two devices pair is in `device` (the protocol) and `pairing` (the worker's part).

mod closing;
mod device;
mod link;
mod pairing;
mod payload;
mod reader;
mod schedule;
mod setup;
mod talk;
mod tally;
mod traffic;
mod wire;
mod worker;

pub use self::{
    tally::{Board, Lead, PartTally, Sample, Stage, Tally, Times},
    worker::{Assignment, work},
};

/// Bytes at the start of every payload that say which message it is.
pub const STAMP_BYTES: usize = 8;
