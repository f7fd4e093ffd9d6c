//! What this dialect knows of each connection: one small seat, dense by [`ConnId::index`].
//!
//! Promises that a name of a former connection finds nothing.

use std::net::IpAddr;

use super::id::SessionId;
use crate::id::ConnId;

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// In no session yet: it may still move.
    New,
    /// An end of this session.
    Member(SessionId),
    /// We closed it; nothing depends on it any more.
    Closing,
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    generation: u32,
    pub(super) ip: IpAddr,
    /// How often it has moved.
    pub(super) moves: u8,
    pub(super) standing: Standing,
}

/// The seats of all connections.
#[derive(Debug, Default)]
pub(super) struct Seats {
    places: Vec<Option<Seat>>,
    taken: usize,
}

impl Seats {
    pub(super) fn open(&mut self, conn: ConnId, ip: IpAddr, moves: u8) {
        let index = conn.index as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, None);
        }
        debug_assert!(self.places[index].is_none(), "{conn:?} is in use");
        self.places[index] = Some(Seat { generation: conn.generation, ip, moves, standing: Standing::New });
        self.taken += 1;
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Seat> {
        self.places.get(conn.index as usize)?.as_ref().filter(|seat| seat.generation == conn.generation)
    }

    pub(super) fn set(&mut self, conn: ConnId, standing: Standing) {
        let place = self.places.get_mut(conn.index as usize).and_then(Option::as_mut);
        if let Some(seat) = place.filter(|seat| seat.generation == conn.generation) {
            seat.standing = standing;
        }
    }

    pub(super) fn take(&mut self, conn: ConnId) -> Option<Seat> {
        self.get(conn)?;
        self.taken -= 1;
        self.places[conn.index as usize].take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }
}
