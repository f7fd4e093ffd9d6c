//! What this dialect knows of each connection: its role, and what the role needs.
//!
//! Holds one small seat per connection, dense by [`ConnId::index`]. Promises that a name of a former
//! connection finds nothing. What only a `new` or a control socket needs is boxed and goes with the role: the
//! two ends of a relaying link, which are nearly all connections, cost a seat each.

use std::{mem::size_of, net::IpAddr};

use super::{id::LinkId, links::LinkKey, registry::Claim, wire::UsageEntry};
use crate::{dialect::Opening, id::ConnId, tables::Chunks, timers::TimerId};

/// A connection's role (link.md section 2).
#[derive(Debug)]
pub(super) enum Role {
    /// None yet.
    New(Box<Opening>),
    /// A host's: registered.
    Control(Box<Control>),
    /// The client of a link.
    Client(LinkKey),
    /// The host's end of a link.
    Relay(LinkKey),
    /// We closed it, for whatever role it had; nothing depends on it any more.
    Closing,
}

/// A control socket.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) ip: IpAddr,
    /// The origin that its registrations are signed for; empty if that is configured.
    pub(super) origin: Box<str>,
    /// The addresses that it holds, with the keys that show it may.
    pub(super) held: Vec<Claim>,
    /// The shards that know of it: homes of the addresses that it registered or asked to register.
    pub(super) homes: Vec<u16>,
    /// Links whose dial-back it was asked for and has not made.
    pub(super) dial_backs: Vec<LinkId>,
    /// The registration that another shard has not answered yet.
    pub(super) asked: Option<Asked>,
    /// The usage that other shards have not answered yet.
    pub(super) gather: Option<Gather>,
    /// Numbers the gathers, so that a late answer is not taken for another's.
    pub(super) rounds: u32,
}

/// A claim on its way to its home.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) claim: Claim,
    pub(super) timer: TimerId,
}

/// A usage message in the making.
#[derive(Debug)]
pub(super) struct Gather {
    pub(super) entries: Vec<UsageEntry>,
    /// Shards that have not answered.
    pub(super) waiting: usize,
    /// Whether the host asked (and is held), rather than news having come.
    pub(super) pulled: bool,
    /// Whether news came that an answer may have missed.
    pub(super) again: bool,
    pub(super) timer: TimerId,
}

impl Control {
    pub(super) fn new(ip: IpAddr, origin: Box<str>) -> Control {
        Control {
            ip,
            origin,
            held: Vec::new(),
            homes: Vec::new(),
            dial_backs: Vec::new(),
            asked: None,
            gather: None,
            rounds: 0,
        }
    }

    /// Every claim that it holds or has asked for.
    pub(super) fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.held.iter().chain(self.asked.as_ref().map(|asked| &asked.claim))
    }

    /// Notes a granted claim; a newer one of the same address takes the older one's place.
    pub(super) fn hold(&mut self, claim: Claim) {
        self.held.retain(|held| held.address != claim.address);
        self.held.push(claim);
    }

    /// Notes that `shard` knows of this socket.
    pub(super) fn add_home(&mut self, shard: u16) {
        if !self.homes.contains(&shard) {
            self.homes.push(shard);
        }
    }
}

#[derive(Debug)]
struct Seat {
    generation: u32,
    role: Option<Role>,
}

// An idle relaying connection is to cost next to nothing above its socket.
const _: () = assert!(size_of::<Seat>() <= 32);

/// All connections that speak this dialect on this shard.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: Chunks<Seat>,
}

impl Seats {
    /// Seats a new connection.
    pub(super) fn open(&mut self, conn: ConnId, opening: Opening) {
        let seat = self.seats.reach(conn.index as usize, || Seat { generation: 0, role: None });
        debug_assert!(seat.role.is_none(), "{conn:?} opened twice");
        *seat = Seat { generation: conn.generation, role: Some(Role::New(Box::new(opening))) };
    }

    /// Forgets a connection.
    pub(super) fn take(&mut self, conn: ConnId) -> Option<Role> {
        let seat = self.seats.get_mut(conn.index as usize)?;
        if seat.generation == conn.generation { seat.role.take() } else { None }
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Role> {
        let seat = self.seats.get(conn.index as usize)?;
        seat.role.as_ref().filter(|_| seat.generation == conn.generation)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Role> {
        let seat = self.seats.get_mut(conn.index as usize)?;
        seat.role.as_mut().filter(|_| seat.generation == conn.generation)
    }

    /// Gives a connection another role; returns the one it had.
    pub(super) fn change(&mut self, conn: ConnId, role: Role) -> Option<Role> {
        self.get_mut(conn).map(|seat| std::mem::replace(seat, role))
    }

    /// The open control socket of this name.
    pub(super) fn control(&mut self, conn: ConnId) -> Option<&mut Control> {
        match self.get_mut(conn)? {
            Role::Control(control) => Some(control),
            _ => None,
        }
    }

    /// All open control sockets.
    pub(super) fn controls(&self) -> impl Iterator<Item = (ConnId, &Control)> {
        self.seats.iter().enumerate().filter_map(|(index, seat)| match &seat.role {
            Some(Role::Control(control)) => {
                let index = u32::try_from(index).expect("seats are indexed by u32");
                Some((ConnId { index, generation: seat.generation }, &**control))
            }
            _ => None,
        })
    }

    /// Whether every seat is vacant.
    pub(super) fn is_empty(&self) -> bool {
        self.seats.iter().all(|seat| seat.role.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_former_connection_finds_nothing() {
        let opening = Opening {
            ip: IpAddr::from([192, 0, 2, 1]),
            host: "h".into(),
            origin: None,
            ticket: None,
            moves: 0,
        };
        let (first, second) = (ConnId { index: 3, generation: 1 }, ConnId { index: 3, generation: 2 });
        let mut seats = Seats::default();
        seats.open(first, opening.clone());
        assert!(matches!(seats.take(first), Some(Role::New(_))));
        seats.open(second, opening);
        assert!(seats.get(first).is_none() && seats.get_mut(first).is_none());
        assert!(seats.take(first).is_none() && seats.change(first, Role::Closing).is_none());
        assert!(matches!(seats.get(second), Some(Role::New(_))));
        assert!(seats.take(ConnId { index: 4, generation: 1 }).is_none());
    }
}
