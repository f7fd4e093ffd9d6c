//! Tables that grow a chunk at a time.
//!
//! What there is one of for every connection lives in these. A vector that doubles copies all of itself in one
//! turn, tens of megabytes of it on a large shard, and leaves its old half behind for the allocator to give
//! back in its own time; a chunk is allocated once, filled from its start, and never moves.
//!
//! [`Chunks`] is a plain vector, [`Table`] a slab with generations. Neither shrinks: a vacant place costs what
//! an occupied one does.

mod chunks;
mod table;

pub use self::{
    chunks::Chunks,
    table::{Key, Table},
};

/// Entries of a chunk: 30 to 200 KiB for what is kept in them, so that a shard of a hundred thousand
/// connections has a hundred chunks a table, and one that has few connections wastes untouched pages only.
const CHUNK_ENTRIES: usize = 1024;
