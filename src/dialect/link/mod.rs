//! The link dialect (protocols: Link relay wire protocol, v1).

use std::time::Duration;

use super::{Cx, Event, SpliceId};
use crate::pacing::{Ledger, Rates};

/// The upgrade path.
pub const PATH: &str = "/v1/link";

/// What the operator chose for the link dialect.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// `LINK_RELAY_MAX_BPS`, `LINK_RELAY_HOURLY_BYTES`, `LINK_RELAY_TRICKLE_BPS`.
    pub rates: Rates,
    /// `LINK_RELAY_IDLE_SEC`.
    pub idle: Duration,
    /// `LINK_ORIGIN`, lower-cased and trimmed; `None` takes the upgrade's `Host`.
    pub origin: Option<String>,
}

/// Which shard of which relay this is.
#[derive(Clone, Debug)]
pub struct Place {
    /// This shard's number.
    pub shard: u16,
    /// How many shards the relay has.
    pub shards: u16,
    /// The relay's number in its cluster.
    pub relay: u16,
    /// The key of the hash that homes addresses; the same on all shards, secret.
    pub hash_key: [u8; 16],
}

/// A timer of this dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {}

/// A message between this dialect's shards.
#[derive(Clone, PartialEq, Debug)]
pub enum Letter {}

/// One shard's part of the link dialect.
#[derive(Debug)]
pub struct Link {}

impl Link {
    /// Takes an event.
    pub fn handle(&mut self, _cx: &mut Cx<'_>, _event: Event<'_>) {
        unimplemented!()
    }

    /// A splice's account.
    pub fn ledger(&mut self, _splice: SpliceId) -> Option<(&mut Ledger, &Rates)> {
        unimplemented!()
    }

    /// The shortened link id for logs.
    pub fn splice_name(&self, _splice: SpliceId) -> String {
        unimplemented!()
    }
}
