//! The two clocks, as the driver reads them.
//!
//! Holds one origin shared by every shard, so that a [`Time`] means the same on all of them. Nothing outside
//! the driver reads a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Now, Time};

/// The process's clocks. Copied to every shard.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic time starts now.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// The monotonic clock.
    pub fn at(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Both clocks. A wall clock before 1970 reads as 1970.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { at: self.at(), unix_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }
}
