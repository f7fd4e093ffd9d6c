//! What this dialect knows of each connection: one seat, by [`ConnId::index`].
//!
//! Promises that a name of a former connection finds nothing.

use super::{Method, Profile, Role, Scope};
use crate::{id::ConnId, tables::Key, timers::TimerId};

/// A connection.
#[derive(Debug)]
pub(super) struct Seat {
    /// As its upgrade asked for it: all shards' places are counted by these two.
    pub(super) role: Role,
    pub(super) ip: Box<str>,
    pub(super) workspace_id: Box<str>,
    pub(super) standing: Standing,
}

/// Where it stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// It may not stay: nothing depends on it, and nothing it says counts.
    Refused,
    /// It is in the scope.
    Member { scope: Key, member: Member, expiry: Option<TimerId> },
}

/// What is known of a member by its role.
#[derive(Debug)]
pub(super) enum Member {
    Daemon(Daemon),
    Client(Client),
    Worker(Worker),
}

#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) profile: Option<Profile>,
    pub(super) machine_id: Option<Box<str>>,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) scope: Scope,
    pub(super) client_id: Box<str>,
    pub(super) profile: Option<Profile>,
    pub(super) machine_id: Option<Box<str>>,
    /// Where its runtime messages are counted.
    pub(super) runtime_key: Box<str>,
    /// Where its key exchanges and pairings are counted.
    pub(super) address_key: Box<str>,
    /// The channels that it may subscribe to.
    pub(super) channels: Box<[Box<[u8]>]>,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) executor_id: Option<Box<str>>,
    /// What its requests begin with, where it may make any.
    pub(super) path: Option<Box<str>>,
    pub(super) open: Vec<OpenRequest>,
}

/// A worker's request that the platform has not answered yet.
#[derive(Debug)]
pub(super) struct OpenRequest {
    /// As JSON.
    pub(super) request_id: String,
    pub(super) method: Method,
    pub(super) path: Box<str>,
}

/// The seats of all connections.
#[derive(Debug, Default)]
pub(super) struct Seats {
    places: Vec<Option<(u32, Box<Seat>)>>,
    taken: usize,
}

impl Seats {
    pub(super) fn open(&mut self, conn: ConnId, seat: Seat) {
        let index = conn.index as usize;
        if index >= self.places.len() {
            self.places.resize_with(index + 1, || None);
        }
        debug_assert!(self.places[index].is_none(), "{conn:?} is in use");
        self.places[index] = Some((conn.generation, Box::new(seat)));
        self.taken += 1;
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Seat> {
        let (generation, seat) = self.places.get(conn.index as usize)?.as_ref()?;
        (*generation == conn.generation).then_some(seat)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Seat> {
        let (generation, seat) = self.places.get_mut(conn.index as usize)?.as_mut()?;
        (*generation == conn.generation).then_some(seat)
    }

    pub(super) fn take(&mut self, conn: ConnId) -> Option<Seat> {
        self.get(conn)?;
        self.taken -= 1;
        self.places[conn.index as usize].take().map(|(_, seat)| *seat)
    }

    /// Every seat with its connection.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Seat)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let (generation, seat) = place.as_ref()?;
            let index = u32::try_from(index).expect("it was a connection's index");
            Some((ConnId { index, generation: *generation }, &**seat))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }
}

impl Client {
    /// Whether it may hear of a channel.
    pub(super) fn may_hear(&self, channel: &[u8]) -> bool {
        self.channels.iter().any(|allowed| **allowed == *channel)
    }
}
