//! How the shard treats the connections of a dialect.

use std::time::Duration;

use crate::reason::Reason;

/// The shard's rules for one dialect's connections, as the dialect's contract and the operator want them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manners {
    /// The largest message that is not spliced, payload bytes.
    pub message_bytes_max: usize,
    /// Why a larger one closes its connection.
    pub too_long: Reason,
    /// Whether a binary message is one of text: what of it is not UTF-8 is replaced by U+FFFD, which may make it longer
    /// than `message_bytes_max`.
    pub binary_is_text: bool,
    /// Bytes that may wait for a connection.
    pub queue_bytes_max: usize,
    /// What a connection comes to that does not take what waits for it.
    pub backlog: Backlog,
    /// How often a connection is pinged.
    pub ping_interval: Duration,
    /// When a peer is taken for gone.
    pub liveness: Liveness,
    /// How long a close that the relay began may take, unless the relay stops.
    pub close_timeout: Duration,
    /// How long a connection may be without a role.
    pub role_timeout: Duration,
    /// Whether the dialect looks at the upgrade's `Origin`.
    pub wants_origin: bool,
}

/// What a connection comes to that does not take what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Whoever sends to it is not read until it has taken enough, so that forwarded messages never come near
    /// `queue_bytes_max`. A message of the dialect's own that would be more closes it as a peer that accepts nothing.
    HoldsUpSenders,
    /// Nobody waits for it. A message for one for which more than `queue_bytes_max` waits already is dropped, and the
    /// connection closed ([`Reason::BufferOverflow`]).
    Overflows,
}

/// When a peer is taken for gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// When it has not answered a ping by the next one.
    NextPing,
    /// At a ping's time: when an earlier one has not been answered for longer than `pong`, or when neither message nor
    /// pong has come for longer than `idle` (workspace.md section 17).
    Within {
        /// `RELAY_PONG_TIMEOUT_MS`.
        pong: Duration,
        /// `RELAY_IDLE_TIMEOUT_MS`.
        idle: Duration,
    },
}
