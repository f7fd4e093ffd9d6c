//! One shard's counters, as the shard hands them out.
//!
//! A shard counts in plain integers that only its own thread touches, and copies them into a [`Snapshot`]
//! when asked. Totals only grow while the process runs; gauges say what is there at the moment. No address,
//! key, IP or link id is ever in here, and the size does not depend on the number of connections.

use std::time::Duration;

use crate::{
    dialect::{overview::MetricsPart, pair},
    driver::DriverCounters,
    reason::Reason,
};

/// What one shard counted since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The shard's number.
    pub shard: u16,
    /// Connections that are open (gauge).
    pub connections: u64,
    /// Connections that are upgraded to WebSockets (gauge).
    pub websockets: u64,
    /// Connections that the listeners accepted.
    pub accepted: u64,
    /// Times accepting failed (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`).
    pub accept_failures: u64,
    /// Times that the shard stood still.
    pub halts: u64,
    /// Plain HTTP requests answered.
    pub http_requests: u64,
    /// Connections turned away before they were served, by reason.
    pub refused: ByReason,
    /// Connections that ended, by reason; one that was handed to another shard has not ended.
    pub closed: ByReason,
    /// Addresses registered here (gauge).
    pub addresses: u64,
    /// Links by state.
    pub links: Links,
    /// Payload relayed from hosts to clients.
    pub from_host: Flow,
    /// Payload relayed from clients to hosts.
    pub from_client: Flow,
    /// Time that directions spent waiting for pacing, summed over them, microseconds.
    pub paced_us: u64,
    /// Times that reading stopped because the shard's outbox budget was used up.
    pub outbox_budget_waits: u64,
    /// Bytes reserved for messages that have begun and are not whole (gauge).
    pub reserved_bytes: u64,
    /// Times that a message had to wait because the shard's message budget was used up.
    pub message_budget_waits: u64,
    /// Questions to the platform that were not asked because too many were open.
    pub questions_refused: u64,
    /// The pair dialect's sessions and messages.
    pub pair: pair::Counters,
    /// The workspace dialect's own metrics.
    pub workspace: MetricsPart,
    /// Connections moved between shards.
    pub handoffs: Handoffs,
    /// Mails taken from other shards.
    pub mails: u64,
    /// Connections upgraded to WebSockets.
    pub upgrades: u64,
    /// Pings sent.
    pub pings: u64,
    /// Times that a source was not read because its destination did not take what it had.
    pub stalls: u64,
    /// Control sockets closed because they did not read their own notices.
    pub notices_dropped: u64,
    /// Warnings of the workspace dialect that were not written because a second had too many.
    pub log_entries_dropped: u64,
    /// Completions taken from the driver.
    pub completions: u64,
    /// Completions that named a connection no longer there.
    pub stale: u64,
    /// How long turns took, without the wait.
    pub turn_time: TurnTime,
    /// What the driver counted.
    pub driver: DriverCounters,
}

/// Links of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// A client has found its host (gauge).
    pub introduced: u64,
    /// The host was asked to dial back (gauge).
    pub pending: u64,
    /// Both ends are joined (gauge).
    pub relaying: u64,
    /// Links ever introduced.
    pub introduced_total: u64,
    /// Links that ever relayed.
    pub relayed_total: u64,
}

/// Payload that went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Payload bytes, without framing.
    pub bytes: u64,
    /// Whole messages.
    pub messages: u64,
}

/// Connections moved between shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handoffs {
    /// Moved away.
    pub sent: u64,
    /// Taken in.
    pub received: u64,
    /// Not moved, because a queue or a table was full.
    pub failed: u64,
    /// Moved later than decided, because the other shard's post was full.
    pub delayed: u64,
}

/// A counter for each [`Reason`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByReason([u64; Reason::ALL.len()]);

impl ByReason {
    /// Counts one.
    pub fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    /// How many were counted for `reason`.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().zip(self.0.iter().copied())
    }
}

impl Default for ByReason {
    fn default() -> ByReason {
        ByReason([0; Reason::ALL.len()])
    }
}

/// A histogram of the time that turns took.
///
/// Invariant: the buckets sum to the number of turns recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnTime {
    buckets: [u64; TURN_TIME_BOUNDS_US.len() + 1],
    sum_us: u64,
    max_us: u64,
}

impl TurnTime {
    /// Records one turn.
    pub fn record(&mut self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[TURN_TIME_BOUNDS_US.partition_point(|bound| *bound < took_us)] += 1;
        self.sum_us = self.sum_us.saturating_add(took_us);
        self.max_us = self.max_us.max(took_us);
    }

    /// For each bound, in microseconds, how many turns took that long or less; the last has no bound and
    /// counts all.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = TURN_TIME_BOUNDS_US.iter().map(|bound| Some(*bound)).chain([None]);
        bounds.zip(self.buckets.iter().scan(0, |sum, turns| {
            *sum += turns;
            Some(*sum)
        }))
    }

    /// How many turns were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time of all turns together, microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The longest turn, microseconds.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }
}

/// Upper bounds of the histogram's buckets. A turn is some tens of microseconds; above 100 ms pacing slices
/// run late, and above 5 s the shard counts as stalled.
const TURN_TIME_BOUNDS_US: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 1_000_000, 5_000_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_lands_in_the_bucket_whose_bound_it_does_not_exceed() {
        let mut times = TurnTime::default();
        for micros in [0, 50, 51, 5_000_000, 5_000_001] {
            times.record(Duration::from_micros(micros));
        }
        let cumulative: Vec<_> = times.cumulative().collect();
        assert_eq!(cumulative[0], (Some(50), 2));
        assert_eq!(cumulative[1], (Some(100), 3));
        assert_eq!(cumulative[11], (Some(5_000_000), 4));
        assert_eq!(cumulative[12], (None, 5));
        assert_eq!(times.count(), 5);
        assert_eq!(times.sum_us(), 10_000_102);
        assert_eq!(times.max_us(), 5_000_001);
    }

    #[test]
    fn reasons_are_counted_apart() {
        let mut counts = ByReason::default();
        counts.count(Reason::LinkIdle);
        counts.count(Reason::LinkIdle);
        counts.count(Reason::Overloaded);
        assert_eq!(counts.of(Reason::LinkIdle), 2);
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 3);
        assert_eq!(counts.iter().filter(|(_, count)| *count > 0).count(), 2);
    }
}
