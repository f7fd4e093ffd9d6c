//! Pacing: how many bytes of a link may go now, and when the next ones may.
//!
//! Pure arithmetic over [`crate::time::Time`]. Never sleeps, never reads a clock, never sees a byte.

mod bucket;
mod budget;
mod ledger;

pub use bucket::Bucket;
pub use budget::{Budget, Rates};
pub use ledger::{Ledger, Leg};
