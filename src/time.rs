//! Time as a value.
//!
//! Nothing but the driver reads a clock. Everything else is told what time it is, once per turn, as a
//! [`Now`].

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on the monotonic clock, in microseconds since an arbitrary origin (the start of the process).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, span: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Both clocks, as read at the start of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// The monotonic clock: deadlines, pacing.
    pub at: Time,
    /// The wall clock, in milliseconds since the Unix epoch: register time stamps, reports. May jump.
    pub unix_ms: u64,
}
