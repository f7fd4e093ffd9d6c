//! Names of connections.
//!
//! A connection is named by the slot that holds it and by the generation of that slot, so that a completion,
//! a timer or a mail that arrives after the connection is gone is recognised as stale and ignored.

use std::fmt;

/// One connection of one shard: a slot and the slot's generation.
///
/// Given out by the driver when a socket enters it, and used by every layer above for the same connection.
/// Unique within a shard for as long as the generation does not wrap (2^32 connections).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// The slot's index, dense from zero.
    pub index: u32,
    /// Which of the shard's connections it is.
    pub generation: u32,
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.index, self.generation)
    }
}

/// A connection of any shard of this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Remote {
    /// The shard that holds it.
    pub shard: u16,
    /// Its name there.
    pub conn: ConnId,
}
