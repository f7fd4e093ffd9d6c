//! The harness of the black-box tests: a relay process per scenario and the peers that talk to it.
//!
//! It knows the built binary, the wire contract and the operator's surface (options, log lines, metrics),
//! and nothing of the crate's insides. Every scenario runs for each [`Cell`] of the matrix driver x shards.
//!
//! Real processes live in real time: what is waited for has [`PATIENCE`], far more than it needs, so that a
//! busy machine does not fail a test; bounds that prove something are two-sided and wide.

// Each test binary compiles the harness anew and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod bulk;
pub mod cable;
pub mod cell;
pub mod direct;
pub mod end;
pub mod faults;
pub mod http;
pub mod keys;
pub mod link;
pub mod metrics;
pub mod node;
pub mod pair;
pub mod peer;
pub mod platform;
pub mod process;
pub mod raw;
pub mod relay;
pub mod sequence;
pub mod verdict;
pub mod violations;
pub mod wire;
pub mod workspace;

use std::{
    thread,
    time::{Duration, Instant},
};

pub use cell::{Cell, every_cell, every_cell_in_turn};
pub use end::{End, Heard};
pub use faults::{Before, Witness};
pub use keys::Keys;
pub use link::{Host, Link};
pub use peer::Peer;
pub use raw::Raw;
pub use relay::{Relay, Setup};

/// How long an event that must come is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `condition` holds; fails naming `what` when [`PATIENCE`] is over.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Fails unless `measured` lies in `bounds`; the message names the value, the bounds and `what`.
pub fn assert_within<T: PartialOrd + std::fmt::Debug>(
    what: &str,
    measured: T,
    bounds: std::ops::RangeInclusive<T>,
) {
    assert!(bounds.contains(&measured), "{what}: {measured:?} is not within {bounds:?}");
}
