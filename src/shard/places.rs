//! Who may stay: a place among all connections and among the shard's own, and what becomes of those who get none.

use std::{collections::VecDeque, net::IpAddr};

use super::{
    Shard,
    conn::{Conns, Standing},
};
use crate::{dialect::pages::JSON, driver::Driver, id::ConnId, reason::Reason};

/// The shard's connections that are only told that they are refused.
///
/// Invariant: no more than [`STALE_MAX`] entries and twice those that are still there.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// In the order of their refusal, also ones that are gone.
    told: VecDeque<ConnId>,
    /// Connections counted as refused.
    count: usize,
}

impl Refused {
    fn push(&mut self, id: ConnId, conns: &Conns) {
        if self.told.len() >= STALE_MAX + 2 * self.count {
            self.told.retain(|id| conns.get(*id).is_some());
        }
        self.told.push_back(id);
    }

    fn oldest(&mut self, conns: &Conns) -> Option<ConnId> {
        while self.told.front().is_some_and(|id| conns.get(*id).is_none()) {
            self.told.pop_front();
        }
        self.told.front().copied()
    }
}

impl<D: Driver> Shard<D> {
    /// Takes a place for a connection just accepted, if need be that of a handshake that takes long; `false`: there is
    /// none.
    pub(super) fn take_place(&mut self, id: ConnId) -> bool {
        let shard_max = self.shared.settings.shard_connections_max;
        let is_full = self.conns.len() - self.refused.count > shard_max;
        let mut took = !is_full && self.shared.take_place();
        // Another shard may be faster, and have the place that was made.
        while !took && self.displace_handshake() {
            took = self.shared.take_place();
        }
        if took
            && self.conns.len() > shard_max
            && let Some(oldest) = self.refused.oldest(&self.conns)
        {
            // Its descriptor is needed. It has been told, and may be about to read it.
            self.finish(oldest, Reason::TooManyConnections, true);
        }
        if let Some(conn) = self.conns.get_mut(id).filter(|_| took) {
            conn.standing = Standing::Placed;
        }
        took
    }

    /// Turns a connection away before it has asked for anything. While it is told why, it has the place of no other,
    /// not even of its own IP.
    pub(super) fn refuse(&mut self, id: ConnId, reason: Reason) {
        self.counters.refused.count(reason);
        self.end_handshake(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let standing = std::mem::replace(&mut conn.standing, Standing::Refused);
        let ip = std::mem::take(&mut conn.counted).then_some(conn.ip);
        self.shared.give_back(standing, ip);
        self.refused.count += 1;
        let refused = self.shared.refused();
        let shard_max = self.shared.settings.shard_connections_max;
        // It keeps its descriptor until it has read why: of a table that others need, and not from those that move
        // here.
        let far_over = refused > REFUSED_MAX.min(shard_max / REFUSED_PART);
        if far_over || self.conns.len() > shard_max.saturating_add(SHARD_REFUSED_MAX) {
            return self.finish(id, reason, true);
        }
        self.refused.push(id, &self.conns);
        self.respond(id, 503, &["Retry-After: 5", JSON], br#"{"error":"overloaded"}"#, false, false);
    }

    /// Gives back what a connection that is gone was counted as.
    pub(super) fn give_back(&mut self, standing: Standing, ip: Option<IpAddr>) {
        self.refused.count -= usize::from(standing == Standing::Refused);
        self.shared.give_back(standing, ip);
    }
}

/// Refused connections that are told so at once; further ones are only reset.
const REFUSED_MAX: usize = 1024;
/// And the part of a shard's connections that they may be.
const REFUSED_PART: usize = 4;
/// The same for a shard's own limit, which the descriptors behind it are few for.
const SHARD_REFUSED_MAX: usize = 8;
/// Entries of refused connections that are gone, before all are looked for.
const STALE_MAX: usize = 1024;
