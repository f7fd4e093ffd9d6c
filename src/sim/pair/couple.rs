//! A source, a target, and the session that they have at the moment.

use std::{net::SocketAddr, time::Duration};

use super::device::{Device, Role};
use crate::{sim::manners::Scene, time::Time};

/// Two devices.
#[derive(Debug)]
pub struct Couple {
    source: Device,
    target: Device,
    bond: Bond,
}

/// What both devices of a couple know: it went from one to the other by the QR code.
#[derive(Debug)]
pub(super) struct Bond {
    /// The couple's number; part of everything that it says.
    pub(super) number: usize,
    /// The session that the source has shown last.
    pub(super) session: Option<String>,
    /// How long it lasts without a message.
    pub(super) ttl: Duration,
    /// It cannot end before this and its time.
    pub(super) active_at: Time,
    /// It has to end some time after this and its time: when either wrote something last.
    pub(super) wrote_at: Time,
    /// Whether devices stay away once they have left.
    pub(super) retired: bool,
    /// Whether they stay as long as they can.
    pub(super) calm: bool,
}

impl Couple {
    /// A couple whose sessions last for `ttl`.
    pub fn new(number: usize, peers: [SocketAddr; 2], ttl: Duration) -> Couple {
        let [source, target] = peers;
        Couple {
            source: Device::new(Role::Source, source),
            target: Device::new(Role::Target, target),
            bond: Bond {
                number,
                session: None,
                ttl,
                active_at: Time(0),
                wrote_at: Time(0),
                retired: false,
                calm: false,
            },
        }
    }

    /// One step. Returns whether anything moved.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        let moved = self.source.step(&mut self.bond, scene);
        self.target.step(&mut self.bond, scene) || moved
    }

    /// When it goes on by itself.
    pub fn wakes_at(&self) -> Option<Time> {
        self.source.wakes_at().into_iter().chain(self.target.wakes_at()).min()
    }

    /// Neither leaves any more unless the relay ends it, and both keep the session going.
    pub fn calm_down(&mut self) {
        self.bond.calm = true;
        self.source.wake_up();
        self.target.wake_up();
    }

    /// Both leave and do not come back.
    pub fn retire(&mut self, scene: &mut Scene<'_>) {
        self.bond.retired = true;
        self.source.leave(scene);
        self.target.leave(scene);
    }

    /// Whether neither has a connection nor will make one.
    pub fn is_gone(&self) -> bool {
        self.source.is_gone() && self.target.is_gone()
    }

    /// Whether both have said much to each other since they were introduced last.
    pub fn is_even(&self) -> bool {
        self.source.is_content() && self.target.is_content()
    }

    /// Messages that arrived.
    pub fn heard(&self) -> u64 {
        self.source.heard_total + self.target.heard_total
    }

    /// Places that were taken back.
    pub fn resumed(&self) -> u64 {
        self.source.resumed + self.target.resumed
    }
}
