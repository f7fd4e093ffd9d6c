//! When messages by the clock are due.
//!
//! All links have the same rate, spread evenly over the interval, so that the links' turns follow one another in a
//! circle and the due time of any message follows from its number: nothing is stored for a message under way, and a
//! stall cannot move what is due behind it.

/// The schedule of one worker's links that send by the clock.
pub struct Schedule {
    links: Vec<u32>,
    /// Place of each link in the circle, by link; empty where no link sends by the clock.
    places: Vec<u32>,
    /// Nanoseconds between two messages of one link.
    interval: u64,
    /// So that workers with the same number of links do not send at the same instants.
    offset: u64,
    begin: u64,
    end: u64,
    /// Turns of the circle that have come, each one message of one link.
    turns: u64,
    late: u64,
}

impl Schedule {
    /// `per_second` messages for each of these links, out of `all` links of the worker.
    pub fn new(links: Vec<u32>, per_second: f64, all: u32, first_link: u32) -> Schedule {
        let mut places = Vec::new();
        if !links.is_empty() {
            places = vec![0; all as usize];
            for (place, link) in links.iter().enumerate() {
                places[*link as usize] = place as u32;
            }
        }
        let interval = (1e9 / per_second) as u64;
        let step = interval / (links.len() as u64).max(1);
        let offset = u64::from(first_link).wrapping_mul(0x9e37_79b9) % step.max(1);
        Schedule { links, places, interval, offset, begin: 0, end: 0, turns: 0, late: 0 }
    }

    /// Sets when the first message is due and from when on none is.
    pub fn begin(&mut self, begin: u64, end: u64) {
        (self.begin, self.end) = (begin, end);
    }

    /// When the next message is due; `None` when there are no more.
    pub fn next_due(&self) -> Option<u64> {
        if self.links.is_empty() {
            return None;
        }
        let due = self.due_of_turn(self.turns);
        (due < self.end).then_some(due)
    }

    /// The next link whose message is due at `now`.
    pub fn take_due(&mut self, now: u64) -> Option<u32> {
        let due = self.next_due().filter(|due| *due <= now)?;
        self.late += u64::from(now - due > LATE);
        let link = self.links[(self.turns % self.links.len() as u64) as usize];
        self.turns += 1;
        Some(link)
    }

    /// When the link's message of this number was due.
    pub fn due(&self, link: u32, sequence: u32) -> u64 {
        let turn = u64::from(sequence) * self.links.len() as u64 + u64::from(self.places[link as usize]);
        self.due_of_turn(turn)
    }

    /// How many messages this program was too slow for, if they are more than one in a hundred.
    pub fn late(&self) -> Option<u64> {
        (self.late * 100 > self.turns).then_some(self.late)
    }

    fn due_of_turn(&self, turn: u64) -> u64 {
        let since = u128::from(turn) * u128::from(self.interval) / self.links.len() as u128;
        self.begin + self.offset + since as u64
    }
}

/// A message whose turn comes so many nanoseconds after it was due was late by this program's fault: turns come by
/// the clock alone, whatever the relay does.
const LATE: u64 = 50_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_has_its_rate_and_every_due_time_can_be_told_again() {
        let mut schedule = Schedule::new(vec![1, 4, 5], 10.0, 6, 0);
        let second = 1_000_000_000;
        schedule.begin(5 * second, 7 * second);
        let mut sent = [0u32; 6];
        let mut last = 0;
        while let Some(due) = schedule.next_due() {
            assert!(due >= last.max(5 * second));
            assert_eq!(schedule.take_due(due - 1), None, "not before it is due");
            let link = schedule.take_due(due).expect("it is due");
            assert_eq!(schedule.due(link, sent[link as usize]), due);
            sent[link as usize] += 1;
            last = due;
        }
        assert_eq!(sent, [0, 20, 0, 0, 20, 20]);
        assert_eq!(schedule.late(), None);
    }

    #[test]
    fn a_generator_that_falls_behind_is_told() {
        let mut schedule = Schedule::new(vec![0], 100.0, 1, 0);
        schedule.begin(0, 1_000_000_000);
        while schedule.take_due(2_000_000_000).is_some() {}
        assert_eq!(schedule.late(), Some(100));
    }
}
