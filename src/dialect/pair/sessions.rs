//! The pairing sessions of this shard, by their ids.
//!
//! Holds for each the two ends: who they said they are, and the sockets that hold their places at the moment. Promises
//! that a socket that is gone is never named, and that a place whose socket is there is never given to another. Never
//! sends anything.

use std::{collections::HashMap, net::IpAddr};

use super::id::SessionId;
use crate::{
    dialect::{json::string, place::TableHasher},
    id::ConnId,
    time::Time,
};

/// Which end of a session a socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Source,
    Target,
}

/// What a device said of itself: raw JSON values, to be passed on as they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Card {
    pub(super) device_id: Box<str>,
    pub(super) device_name: Box<str>,
    pub(super) capability: Box<str>,
    pub(super) key: Box<str>,
}

impl Card {
    /// Whether it is the same device with the same key, however each is spelled.
    fn is_same_device(&self, other: &Card) -> bool {
        string(&self.device_id) == string(&other.device_id) && string(&self.key) == string(&other.key)
    }
}

/// One place of a session.
#[derive(Debug)]
pub(super) struct End {
    /// The socket that holds it, until that is closed.
    pub(super) conn: Option<ConnId>,
    pub(super) card: Card,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) source: End,
    /// From the first join on.
    pub(super) target: Option<End>,
    /// Whose place it takes: the address of who asked for it.
    pub(super) ip: IpAddr,
    /// The last relayed message, join or resumption.
    pub(super) active_at: Time,
}

impl Session {
    /// The place that a socket holds.
    pub(super) fn role_of(&self, conn: ConnId) -> Option<Role> {
        if self.source.conn == Some(conn) {
            Some(Role::Source)
        } else if self.socket(Role::Target) == Some(conn) {
            Some(Role::Target)
        } else {
            None
        }
    }

    /// The socket of an end, if it is there.
    pub(super) fn socket(&self, role: Role) -> Option<ConnId> {
        match role {
            Role::Source => self.source.conn,
            Role::Target => self.target.as_ref().and_then(|target| target.conn),
        }
    }

    /// Gives a place to a socket: a target's that nobody has had, or one whose socket is gone to the device
    /// that had it. `false` refuses.
    pub(super) fn seat(&mut self, role: Role, conn: ConnId, card: Card) -> bool {
        let end = match (role, &mut self.target) {
            (Role::Source, _) => &mut self.source,
            (Role::Target, Some(target)) => target,
            (Role::Target, place @ None) => {
                *place = Some(End { conn: Some(conn), card });
                return true;
            }
        };
        let may = end.conn.is_none() && end.card.is_same_device(&card);
        if may {
            *end = End { conn: Some(conn), card };
        }
        may
    }

    /// Empties the place that a socket holds; returns the other end's socket.
    pub(super) fn unseat(&mut self, conn: ConnId) -> Option<ConnId> {
        let role = self.role_of(conn)?;
        match (role, &mut self.target) {
            (Role::Source, _) => self.source.conn = None,
            (Role::Target, Some(target)) => target.conn = None,
            (Role::Target, None) => {}
        }
        self.socket(role.other())
    }
}

impl Role {
    /// The other end.
    pub(super) fn other(self) -> Role {
        match self {
            Role::Source => Role::Target,
            Role::Target => Role::Source,
        }
    }
}

/// The sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    by_id: HashMap<SessionId, Session, TableHasher>,
}

impl Sessions {
    pub(super) fn new(hasher: TableHasher) -> Sessions {
        Sessions { by_id: HashMap::with_hasher(hasher) }
    }

    pub(super) fn insert(&mut self, id: SessionId, session: Session) {
        let earlier = self.by_id.insert(id, session);
        debug_assert!(earlier.is_none(), "random ids do not repeat");
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.by_id.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
