//! Connections whose first request head is not whole yet: how many one IP may have, and who makes room when all places
//! are taken.
//!
//! At `--max-handshakes-per-ip` the newest is refused: whoever opens it is the one who has too many. At a bound of all
//! connections the oldest goes instead, if it has used up a tenth of its time. Nobody needs that long, so connections
//! that send nothing cannot keep those out that do.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::{Shard, conn::Conns};
use crate::{driver::Driver, id::ConnId, reason::Reason, time::Time};

/// The connections in order of their acceptance, also ones that are through or gone.
///
/// Invariant: no more than [`STALE_MAX`] entries and twice the connections.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    accepted: VecDeque<(ConnId, Time)>,
}

impl Handshakes {
    fn push(&mut self, id: ConnId, now: Time, conns: &Conns) {
        self.drop_finished(conns);
        if self.accepted.len() >= STALE_MAX + 2 * conns.len() {
            self.accepted.retain(|(id, _)| is_greeting(conns, *id));
        }
        self.accepted.push_back((id, now));
    }

    /// The one that was accepted first, if that was `age` ago or more.
    fn oldest(&mut self, now: Time, age: Duration, conns: &Conns) -> Option<ConnId> {
        self.drop_finished(conns);
        self.accepted.front().filter(|(_, accepted)| now.since(*accepted) >= age).map(|(id, _)| *id)
    }

    fn drop_finished(&mut self, conns: &Conns) {
        while self.accepted.front().is_some_and(|(id, _)| !is_greeting(conns, *id)) {
            self.accepted.pop_front();
        }
    }
}

fn is_greeting(conns: &Conns, id: ConnId) -> bool {
    conns.get(id).is_some_and(|conn| conn.greeting)
}

impl<D: Driver> Shard<D> {
    /// Counts a connection just accepted; `false` is over the bound of its IP.
    pub(super) fn begin_handshake(&mut self, id: ConnId, ip: IpAddr) -> bool {
        if !self.shared.count_handshake(ip) {
            return false;
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.greeting = true;
        }
        self.handshakes.push(id, self.now.at, &self.conns);
        true
    }

    /// The connection's first head is whole, or will never be.
    pub(super) fn end_handshake(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && std::mem::take(&mut conn.greeting)
        {
            self.shared.uncount_handshake(conn.ip);
        }
    }

    /// Ends the handshake that takes longest, if any has had time enough; returns whether that made room.
    pub(super) fn displace_handshake(&mut self) -> bool {
        let age = self.shared.settings.handshake_timeout / AGE_PART;
        let oldest = self.handshakes.oldest(self.now.at, age, &self.conns);
        if let Some(id) = oldest {
            self.finish(id, Reason::HandshakeDisplaced, true);
        }
        oldest.is_some()
    }
}

/// The part of its time that a handshake has to itself.
const AGE_PART: u32 = 10;
/// Entries of connections that are through, before all are looked for.
const STALE_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::conn::Conn;

    fn id(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn accept(handshakes: &mut Handshakes, conns: &mut Conns, id: ConnId, at: Time) {
        let mut conn = Conn::new(id, IpAddr::from([192, 0, 2, 1]), at);
        conn.greeting = true;
        conns.insert(id, conn);
        handshakes.push(id, at, conns);
    }

    #[test]
    fn the_oldest_is_the_one_that_was_accepted_first_and_is_not_through() {
        let (mut handshakes, mut conns) = (Handshakes::default(), Conns::default());
        let second = |number| Time(0) + Duration::from_secs(number);
        for index in 0..4 {
            accept(&mut handshakes, &mut conns, id(index), second(index.into()));
        }
        conns.remove(id(0));
        conns.get_mut(id(1)).unwrap().greeting = false;
        let mut oldest = |now, age| handshakes.oldest(second(now), Duration::from_secs(age), &conns);
        assert_eq!(oldest(7, 5), Some(id(2)));
        assert_eq!(oldest(7, 6), None, "it is not that old");
    }

    #[test]
    fn those_behind_one_that_takes_long_are_forgotten_all_the_same() {
        let (mut handshakes, mut conns) = (Handshakes::default(), Conns::default());
        accept(&mut handshakes, &mut conns, id(0), Time(0));
        for generation in 0..10 * STALE_MAX as u32 {
            let brief = ConnId { index: 1, generation };
            accept(&mut handshakes, &mut conns, brief, Time(1));
            conns.remove(brief);
            assert!(handshakes.accepted.len() <= STALE_MAX + 4);
        }
        assert_eq!(handshakes.oldest(Time(9), Duration::ZERO, &conns), Some(id(0)));
    }
}
