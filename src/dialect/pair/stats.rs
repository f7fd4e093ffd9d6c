//! What one shard's part of the pair dialect counts.

use super::wire::Error;

/// Totals since the start, and what is there at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions (gauge).
    pub sessions: u64,
    /// Sessions ever created.
    pub created: u64,
    /// Targets that joined a session first.
    pub joined: u64,
    /// Places taken back by the device that had them.
    pub resumed: u64,
    /// Sessions whose time was over.
    pub expired: u64,
    /// Messages passed on.
    pub relayed_messages: u64,
    /// Bytes of their payloads, as JSON.
    pub relayed_bytes: u64,
    errors: [u64; Error::ALL.len()],
}

impl Counters {
    /// Counts an error.
    pub(super) fn count(&mut self, error: Error) {
        self.errors[error as usize] += 1;
    }

    /// Every error with how often it was answered.
    pub fn errors(&self) -> impl Iterator<Item = (Error, u64)> + '_ {
        Error::ALL.into_iter().zip(self.errors.iter().copied())
    }
}
