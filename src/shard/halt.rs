//! A shard that stood still: its process was halted, or its core was somebody else's for a while.
//!
//! What peers sent meanwhile lies in the kernel, and every deadline has passed: who answered a ping in time would be
//! taken for gone, and a link with messages on their way for idle. So after standing still a shard first reads, and
//! no timer fires until nothing more comes, or [`CATCH_UP_MAX`] has passed. Then all of them fire in the next turn
//! that comes, however late that is.

use std::time::Duration;

use crate::time::Time;

/// Whether the shard is catching up after it stood still.
#[derive(Debug, Default)]
pub(super) struct Halt {
    since: Option<Time>,
}

/// What a turn finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The shard turns as it should: timers fire.
    Turning,
    /// It has stood still for this long: timers wait from now on.
    StoodStill(Duration),
    /// It is still reading what came meanwhile.
    CatchingUp,
}

impl Halt {
    /// Until when the driver may wait, where the next timer is due at `deadline`.
    pub(super) fn wait_until(&self, deadline: Option<Time>) -> Option<Time> {
        self.since.map(|since| since + CATCH_UP_MIN).or(deadline)
    }

    /// Judges a turn that was to begin at `expected`, began `now` and took `completions` from the driver.
    pub(super) fn judge(&mut self, expected: Time, now: Time, completions: usize) -> Found {
        let Some(since) = self.since else {
            let late = now.since(expected);
            if late < HALT_MIN {
                return Found::Turning;
            }
            self.since = Some(now);
            return Found::StoodStill(late);
        };
        let caught_up = now.since(since) >= CATCH_UP_MIN && completions == 0;
        if !caught_up && now.since(since) < CATCH_UP_MAX {
            return Found::CatchingUp;
        }
        self.since = None;
        Found::Turning
    }
}

/// How late a turn has to be to count as a halt: more than a busy machine makes of it, less than any sensible time for
/// a peer's answer.
const HALT_MIN: Duration = Duration::from_millis(500);
/// What came meanwhile is there at once, but a parked connection needs a few turns to be read.
const CATCH_UP_MIN: Duration = Duration::from_millis(100);
/// Peers that never stop sending put no deadline off for longer.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(ms * 1000)
    }

    #[test]
    fn timers_wait_until_what_came_meanwhile_is_read() {
        let mut halt = Halt::default();
        assert_eq!(halt.judge(at(1000), at(1499), 0), Found::Turning);
        assert_eq!(halt.wait_until(Some(at(1600))), Some(at(1600)));
        assert_eq!(halt.judge(at(1600), at(4600), 5), Found::StoodStill(Duration::from_secs(3)));
        assert_eq!(halt.wait_until(Some(at(1600))), Some(at(4700)));
        // Nothing came in this turn, but it is early.
        assert_eq!(halt.judge(at(4600), at(4601), 0), Found::CatchingUp);
        assert_eq!(halt.judge(at(4700), at(4700), 1), Found::CatchingUp);
        assert_eq!(halt.judge(at(4700), at(4701), 0), Found::Turning);
        assert_eq!(halt.wait_until(None), None);
    }

    #[test]
    fn peers_that_never_stop_put_timers_off_for_a_second_and_no_longer() {
        let mut halt = Halt::default();
        assert!(matches!(halt.judge(at(0), at(600), 9), Found::StoodStill(_)));
        assert_eq!(halt.judge(at(700), at(1599), 9), Found::CatchingUp);
        // Late again: the timers fire all the same.
        assert_eq!(halt.judge(at(1599), at(9000), 9), Found::Turning);
        assert!(matches!(halt.judge(at(9000), at(9900), 9), Found::StoodStill(_)));
    }
}
