//! What a worker of a soak keeps: how its links and hosts fare, and the agenda of what is to happen to them.
//!
//! An entry of the agenda names the session that it is for, and is passed over when that is gone.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::super::{
    mishap::{Mishap, between},
    wire::Refusal,
};
use crate::{scenario::Scenario, soak::Hardship};

/// What a worker of a soak keeps beside what it keeps for any load.
pub struct Trouble {
    pub hardship: Hardship,
    pub random: ChaCha8Rng,
    agenda: BinaryHeap<Reverse<Entry>>,
    /// One for each link.
    pub courses: Vec<Course>,
    /// One for each host.
    pub hosts: Vec<HostCourse>,
    /// Ends that do not read.
    pub unread: HashSet<u32>,
    /// Which links' turn it is to stream.
    pub slice: u64,
}

/// How a link fares.
#[derive(Clone, Default)]
pub struct Course {
    /// The link's sessions are told apart by it.
    pub session: u32,
    /// What happens to it, or happened.
    pub mishap: Option<Mishap>,
    /// Payload could flow when it happened.
    pub was_up: bool,
    /// The next message has to wait.
    pub is_pausing: bool,
    /// What each end was told before it ended.
    pub told: [Option<Refusal>; 2],
}

/// How a host fares.
#[derive(Clone, Default)]
pub struct HostCourse {
    pub session: u32,
    /// From the mishap until it is registered again.
    pub is_down: bool,
    /// It has sent what closes its control connection.
    pub is_refused: bool,
    /// When it was last down.
    pub down_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    due: u64,
    event: Event,
    session: u32,
}

/// What is to happen, to the link, the end or the host of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The link meets its mishap.
    Strike(u32),
    /// An end reads again.
    Read(u32),
    /// The link's pause is over.
    Go(u32),
    /// The link begins a new session.
    Begin(u32),
    /// The relay has had its time to close what was left of the link.
    GiveUp(u32),
    /// The host loses its control connection.
    StrikeHost(u32),
    /// The host registers again.
    Register(u32),
    /// The relay has had its time to answer the host.
    GiveUpHost(u32),
}

impl Trouble {
    /// For the links and hosts of one worker; `None` where the scenario is no soak.
    pub fn new(scenario: &Scenario, first_link: u32, links: u32, hosts: usize) -> Option<Box<Trouble>> {
        let hardship = scenario.hardship.clone()?;
        Some(Box::new(Trouble {
            hardship,
            random: ChaCha8Rng::seed_from_u64(scenario.seed << 32 | u64::from(first_link)),
            agenda: BinaryHeap::new(),
            courses: vec![Course::default(); links as usize],
            hosts: vec![HostCourse::default(); hosts],
            unread: HashSet::new(),
            slice: 0,
        }))
    }

    /// Puts an event on the agenda, for the session that there is now.
    pub fn plan(&mut self, due: u64, event: Event) {
        let session = self.session(event);
        self.agenda.push(Reverse(Entry { due, event, session }));
    }

    /// The same, at a time between two from now on.
    pub fn plan_within(&mut self, now: u64, span: (u64, u64), event: Event) {
        let due = now + between(&mut self.random, span);
        self.plan(due, event);
    }

    /// The next event that is due and not of a session that is gone.
    pub fn take_due(&mut self, now: u64) -> Option<Event> {
        while self.next_due().is_some_and(|due| due <= now) {
            let Reverse(Entry { event, session, .. }) = self.agenda.pop()?;
            if session == self.session(event) {
                return Some(event);
            }
        }
        None
    }

    /// When the next entry is due.
    pub fn next_due(&self) -> Option<u64> {
        self.agenda.peek().map(|Reverse(entry)| entry.due)
    }

    /// Nothing is to happen any more.
    pub fn clear_agenda(&mut self) {
        self.agenda.clear();
    }

    /// The session that whom an event is for is in.
    fn session(&self, event: Event) -> u32 {
        match event {
            Event::Strike(link) | Event::Go(link) | Event::Begin(link) | Event::GiveUp(link) => {
                self.courses[link as usize].session
            }
            Event::Read(token) => self.courses[token as usize / 2].session,
            Event::StrikeHost(host) | Event::Register(host) | Event::GiveUpHost(host) => {
                self.hosts[host as usize].session
            }
        }
    }
}
