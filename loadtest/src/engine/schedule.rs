//! When messages by the clock are due.
//!
//! All links of a part have the same rate, spread evenly over the interval or all at its begin, so that the links'
//! turns follow one another in a circle and the due time of any message follows from its number: nothing is stored for
//! a message under way, and a stall cannot move what is due behind it.

use super::link::Link;
use crate::{
    mix::Part,
    scenario::{Arrival, Pattern, Scenario},
};

/// The schedules of one worker: one for each part of the load that sends by the clock.
pub struct Schedules {
    /// With the number of the part.
    all: Vec<(usize, Schedule)>,
}

impl Schedules {
    /// Of a worker's links, the first of which has this number.
    pub fn new(scenario: &Scenario, links: &[Link], first_link: u32) -> Schedules {
        let by_clock = |(_, part): &(usize, &Part)| part.pattern == Pattern::Rate;
        let parts = scenario.parts.all().iter().enumerate().filter(by_clock);
        let schedule = |(number, part): (usize, &Part)| {
            let own = (0u32..).zip(links).filter(|(_, link)| usize::from(link.part) == number);
            let own = own.map(|(link, _)| link).collect();
            let all = links.len();
            (number, Schedule::new(own, part.rate, scenario.arrival, all, first_link))
        };
        Schedules { all: parts.map(schedule).collect() }
    }

    /// Sets when the first messages are due and from when on none is.
    pub fn begin(&mut self, begin: u64, end: u64) {
        for (_, schedule) in &mut self.all {
            (schedule.begin, schedule.end) = (begin, end);
        }
    }

    /// When the next message is due; `None` when there are no more.
    pub fn next_due(&self) -> Option<u64> {
        self.all.iter().filter_map(|(_, schedule)| schedule.next_due()).min()
    }

    /// The next link whose message is due at `now`.
    pub fn take_due(&mut self, now: u64) -> Option<u32> {
        self.all.iter_mut().find_map(|(_, schedule)| schedule.take_due(now))
    }

    /// When the message of this number was due, of a link of this part.
    pub fn due(&self, part: usize, link: u32, sequence: u32) -> u64 {
        let own = self.all.iter().find(|(number, _)| *number == part);
        own.expect("a part that sends by the clock has its schedule").1.due(link, sequence)
    }

    /// How many messages this program was too slow for, if they are more than one in a hundred of a part's.
    pub fn late(&self) -> Option<u64> {
        self.all.iter().filter_map(|(_, schedule)| schedule.late()).reduce(|one, other| one + other)
    }
}

/// The schedule of one worker's links of one part.
struct Schedule {
    links: Vec<u32>,
    /// Place of each link in the circle, by link; empty where no link sends by the clock.
    places: Vec<u32>,
    /// Nanoseconds between two messages of one link.
    interval: u64,
    arrival: Arrival,
    /// So that workers with the same number of links do not send at the same instants, unless they are to.
    offset: u64,
    begin: u64,
    end: u64,
    /// Turns of the circle that have come, each one message of one link.
    turns: u64,
    late: u64,
}

impl Schedule {
    /// `per_second` messages for each of these links, out of `all` links of the worker.
    fn new(links: Vec<u32>, per_second: f64, arrival: Arrival, all: usize, first_link: u32) -> Schedule {
        let mut places = Vec::new();
        if !links.is_empty() {
            places = vec![0; all];
            for (place, link) in links.iter().enumerate() {
                places[*link as usize] = place as u32;
            }
        }
        let interval = (1e9 / per_second) as u64;
        let step = interval / (links.len() as u64).max(1);
        let offset = match arrival {
            Arrival::Spread => u64::from(first_link).wrapping_mul(0x9e37_79b9) % step.max(1),
            Arrival::Burst => 0,
        };
        Schedule { links, places, interval, arrival, offset, begin: 0, end: 0, turns: 0, late: 0 }
    }

    /// When the next message is due; `None` when there are no more.
    fn next_due(&self) -> Option<u64> {
        if self.links.is_empty() {
            return None;
        }
        let due = self.due_of_turn(self.turns);
        (due < self.end).then_some(due)
    }

    /// The next link whose message is due at `now`.
    fn take_due(&mut self, now: u64) -> Option<u32> {
        let due = self.next_due().filter(|due| *due <= now)?;
        self.late += u64::from(now - due > self.patience());
        let link = self.links[(self.turns % self.links.len() as u64) as usize];
        self.turns += 1;
        Some(link)
    }

    /// When the link's message of this number was due.
    fn due(&self, link: u32, sequence: u32) -> u64 {
        let turn = u64::from(sequence) * self.links.len() as u64 + u64::from(self.places[link as usize]);
        self.due_of_turn(turn)
    }

    /// How many messages this program was too slow for, if they are more than one in a hundred.
    fn late(&self) -> Option<u64> {
        (self.late * 100 > self.turns).then_some(self.late)
    }

    fn due_of_turn(&self, turn: u64) -> u64 {
        let (turn, links, interval) = (u128::from(turn), self.links.len() as u128, u128::from(self.interval));
        let since = match self.arrival {
            Arrival::Spread => turn * interval / links,
            Arrival::Burst => turn / links * interval,
        };
        self.begin + self.offset + since as u64
    }

    /// A message whose turn comes so many nanoseconds after it was due was late by this program's fault: turns come by
    /// the clock alone, whatever the relay does. A burst takes its time, and may as long as the next one is not due.
    fn patience(&self) -> u64 {
        match self.arrival {
            Arrival::Spread => LATE,
            Arrival::Burst => self.interval.max(LATE),
        }
    }
}

/// Nanoseconds that a turn may be late on a busy machine.
const LATE: u64 = 50_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_has_its_rate_and_every_due_time_can_be_told_again() {
        let mut schedule = Schedule::new(vec![1, 4, 5], 10.0, Arrival::Spread, 6, 0);
        let second = 1_000_000_000;
        (schedule.begin, schedule.end) = (5 * second, 7 * second);
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
        let mut schedule = Schedule::new(vec![0], 100.0, Arrival::Spread, 1, 0);
        schedule.end = 1_000_000_000;
        while schedule.take_due(2_000_000_000).is_some() {}
        assert_eq!(schedule.late(), Some(100));
    }

    #[test]
    fn a_burst_is_of_all_links_at_one_instant() {
        // Of the second worker, which sends with the first one.
        let mut schedule = Schedule::new(vec![0, 1, 2], 10.0, Arrival::Burst, 3, 700);
        (schedule.begin, schedule.end) = (1000, 300_000_000);
        let mut instants = Vec::new();
        while let Some(due) = schedule.next_due() {
            let sequence = instants.len() as u32 / 3;
            let link = schedule.take_due(due).expect("it is due");
            assert_eq!((link, schedule.due(link, sequence)), (instants.len() as u32 % 3, due));
            instants.push(due);
        }
        let burst = |at| [at; 3];
        assert_eq!(instants, [burst(1000), burst(100_001_000), burst(200_001_000)].concat());
    }

    #[test]
    fn a_burst_may_take_until_the_next_one() {
        let links: Vec<u32> = (0..100).collect();
        let mut schedule = Schedule::new(links, 10.0, Arrival::Burst, 100, 0);
        schedule.end = 300_000_000;
        while schedule.take_due(99_000_000).is_some() {}
        while schedule.take_due(199_000_000).is_some() {}
        assert_eq!(schedule.late(), None);
        while schedule.take_due(301_000_000).is_some() {}
        assert_eq!(schedule.late(), Some(100));
    }
}
