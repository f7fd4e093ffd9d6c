//! The workers: each a thread with its own descriptors, epoll set, connections and histograms. Nothing is shared for
//! a message.

/// Bytes at the start of every payload that say which message it is.
pub const STAMP_BYTES: usize = 8;
