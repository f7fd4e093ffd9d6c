//! One workspace: a daemon, some clients, perhaps a worker.

use std::net::SocketAddr;

use super::member::{Member, Part};
use crate::{sim::manners::Scene, time::Time};

/// The members of one workspace.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
}

impl Crew {
    /// The crew of workspace `number`, a member for each address: a daemon, clients, and a worker where there are more
    /// than two.
    pub fn new(number: usize, peers: &[SocketAddr]) -> Crew {
        let part = |index: usize| match index {
            0 => Part::Daemon,
            2 => Part::Worker,
            _ => Part::Client,
        };
        let members =
            peers.iter().enumerate().map(|(index, peer)| Member::new(number, index, part(index), *peer));
        Crew { members: members.collect() }
    }

    /// One step. Returns whether anything moved.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        let mut moved = false;
        self.members.iter_mut().for_each(|member| moved |= member.step(scene));
        moved
    }

    /// When it goes on by itself.
    pub fn wakes_at(&self) -> Option<Time> {
        self.members.iter().filter_map(Member::wakes_at).min()
    }

    /// Everyone comes, and stays.
    pub fn calm_down(&mut self) {
        self.members.iter_mut().for_each(Member::calm_down);
    }

    /// Everyone leaves and does not come back.
    pub fn retire(&mut self, scene: &mut Scene<'_>) {
        self.members.iter_mut().for_each(|member| member.retire(scene));
    }

    /// Whether nobody has a connection.
    pub fn is_gone(&self) -> bool {
        self.members.iter().all(Member::is_gone)
    }

    /// Whether everyone who asks was answered several times since it is calm.
    pub fn is_even(&self) -> bool {
        self.members.iter().all(Member::is_content)
    }

    /// Answers that were heard: envelopes that came back, and workers' responses.
    pub fn answered(&self) -> u64 {
        self.members.iter().map(|member| member.answered).sum()
    }
}
