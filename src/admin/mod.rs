//! What an operator may ask a running relay: metrics, health, readiness.
//!
//! Holds the counters' form ([`Snapshot`]), their text form for Prometheus and the HTTP server of
//! `--admin-listen`. Knows the shards only as a [`Fleet`] that answers questions; never touches a connection,
//! and shows no address, key, IP or link id.

mod access;
mod http;
mod prometheus;
mod snapshot;

pub use access::{Access, Verdict, presented};
pub use http::serve;
pub use prometheus::{About, markdown_table, render};
pub use snapshot::{ByReason, Flow, Handoffs, Links, Snapshot, TurnTime};

use crate::dialect::kick::Target;

/// The shards, as the admin server sees them.
pub trait Fleet: 'static {
    /// Every shard's counters, in the order of the shards' numbers; `None` for one that did not answer within
    /// [`crate::limits::GATHER_TIMEOUT`].
    fn snapshots(&self) -> impl Future<Output = Vec<Option<Snapshot>>>;

    /// Whether this is the operator's token.
    fn is_operator(&self, presented: Option<&str>) -> bool;

    /// Ends what is meant, on whichever shards it lives; how many connections that closed.
    fn kick(&self, target: Target) -> impl Future<Output = usize>;

    /// Whether the relay should be sent new connections. Never waits.
    fn readiness(&self) -> Ready;
}

/// Why a relay is ready, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// It is shutting down.
    pub draining: bool,
    /// Shards that have not turned for too long.
    pub stalled: Vec<u16>,
    /// Per-IP windows that were forgotten early because their table was full: above zero, the budgets are not exact.
    pub ip_windows_evicted: u64,
    /// Log lines that were not written.
    pub log_lines_lost: u64,
}

impl Ready {
    /// Whether new connections should come.
    pub fn is_ready(&self) -> bool {
        !self.draining && self.stalled.is_empty()
    }
}
