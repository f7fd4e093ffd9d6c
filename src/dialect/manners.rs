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
    /// Bytes that may wait for a connection. A message of the dialect's own that would be more closes it as a peer that
    /// accepts nothing; forwarded messages never come near, because their senders are not read.
    pub queue_bytes_max: usize,
    /// How often a connection is pinged. One that has not answered by the next ping is dropped.
    pub ping_interval: Duration,
    /// How long a connection may be without a role.
    pub role_timeout: Duration,
    /// Whether the dialect looks at the upgrade's `Origin`.
    pub wants_origin: bool,
}
