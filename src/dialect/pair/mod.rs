//! The pair dialect (protocols: dvai-bridge rendezvous wire protocol, v1): two devices find each other by a QR code and
//! exchange payloads that the relay cannot read.
//!
//! A **source** asks for a session and shows its id; a **target** that has read it joins; from then on a
//! `relay` message of one is passed on to the other. A place whose socket is gone may be taken back until
//! the session expires.
//!
//! [`Pair`] is one shard's part of it. It holds the seats of its connections and the sessions that live
//! here, and needs no letters: whoever names a session of another shard moves there first. Promises that a
//! session is gone when its time is, that the places of all shards for sessions are counted exactly, and
//! that a payload is never decoded. Never sees a socket, a clock or a random source of its own.
//!
//! Read on in `requests` (what a message does), `wire` (how it is written).

mod id;
mod requests;
mod seats;
mod sessions;
mod stats;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

pub use self::{id::SessionId, stats::Counters, wire::Error};
use self::{
    seats::{Seats, Standing},
    sessions::Sessions,
    wire::Answer,
};
use super::{Action, Backlog, Cx, Dialect, Event, Liveness, Manners, Opening, Place};
use crate::{
    dialect,
    id::ConnId,
    limits::{CLOSE_TIMEOUT, DIRECTION_BYTES_HIGH},
    reason::Reason,
    time::Time,
    timers,
};

/// The upgrade path.
pub const PATH: &str = "/pair";

/// What the operator chose for the pair dialect.
#[derive(Clone, Debug)]
pub struct PairConfig {
    /// `RENDEZVOUS_URL`, without a path: where the target's device finds this relay.
    pub rendezvous_url: String,
    /// `SESSION_TTL_SECONDS`.
    pub ttl: Duration,
    /// `ALLOWED_ORIGINS`; `None` allows every origin.
    pub origins: Option<Vec<String>>,
    /// `PAIR_MAX_MESSAGE_BYTES`.
    pub message_bytes_max: usize,
}

impl PairConfig {
    /// What the pair contract asks of the shard; the two spans are the operator's.
    pub fn manners(&self, ping_interval: Duration, role_timeout: Duration) -> Manners {
        Manners {
            message_bytes_max: self.message_bytes_max,
            too_long: Reason::MessageTooBig,
            binary_is_text: false,
            // A sender is stopped above one `DIRECTION_BYTES_HIGH`, which its last message may exceed by
            // its whole length; notices and answers to the connection's own messages have another one to
            // themselves.
            queue_bytes_max: 2 * DIRECTION_BYTES_HIGH + self.message_bytes_max,
            backlog: Backlog::HoldsUpSenders,
            ping_interval,
            liveness: Liveness::NextPing,
            close_timeout: CLOSE_TIMEOUT,
            role_timeout,
            wants_origin: self.origins.is_some(),
        }
    }
}

/// A timer of this dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// A session may have been idle for too long.
    Expiry(SessionId),
}

/// One shard's part of the pair dialect.
#[derive(Debug)]
pub struct Pair {
    config: PairConfig,
    /// The URL as JSON.
    rendezvous_url: String,
    place: Place,
    seats: Seats,
    sessions: Sessions,
    counters: Counters,
}

impl Pair {
    /// A part without connections.
    pub fn new(config: PairConfig, place: Place) -> Pair {
        Pair {
            rendezvous_url: serde_json::to_string(&config.rendezvous_url).expect("a string is JSON"),
            seats: Seats::default(),
            sessions: Sessions::new(place.table_hasher()),
            counters: Counters::default(),
            config,
            place,
        }
    }

    /// Whether it keeps nothing of any connection or session: for invariants.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.sessions.len() == 0
    }

    /// What it counted, with the sessions that are there.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.sessions = self.sessions.len() as u64;
        counters
    }

    fn on_opened(&mut self, cx: &mut Cx<'_>, conn: ConnId, opening: Opening) {
        self.seats.open(conn, opening.ip, opening.moves);
        // A connection without an `Origin` is no browser's, and one that has moved was looked at where it came from.
        if let (Some(allowed), Some(origin), 0) = (&self.config.origins, opening.origin, opening.moves)
            && !allowed.iter().any(|allowed| **allowed == *origin)
        {
            self.dismiss(cx, conn, Reason::OriginNotAllowed);
        }
    }

    fn on_closed(&mut self, cx: &mut Cx<'_>, conn: ConnId, reason: Reason) {
        if let Some(seat) = self.seats.take(conn) {
            self.depart(cx, conn, seat.standing, reason);
        }
    }

    /// Closes a connection for a fault of its own, or because it may not stay. It has left its session at once; its
    /// `Closed` is then only the end of its seat.
    fn dismiss(&mut self, cx: &mut Cx<'_>, conn: ConnId, reason: Reason) {
        cx.actions.push(Action::Close { conn, reason });
        if let Some(seat) = self.seats.get(conn) {
            let standing = seat.standing;
            self.seats.set(conn, Standing::Closing);
            self.depart(cx, conn, standing, reason);
        }
    }

    /// Empties the place that a connection held and tells the other end, unless that is closed for the same reason.
    fn depart(&mut self, cx: &mut Cx<'_>, conn: ConnId, standing: Standing, reason: Reason) {
        let Standing::Member(id) = standing else { return };
        let other = self.sessions.get_mut(id).and_then(|session| session.unseat(conn));
        if let Some(other) = other.filter(|_| reason != Reason::Draining) {
            self.send(cx, other, Answer::PeerDisconnected);
        }
    }

    /// The session's time may be over.
    fn on_expiry(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        let due = session.active_at + self.config.ttl;
        if due > cx.now.at {
            return self.arm(cx, due, id);
        }
        self.counters.expired += 1;
        self.end(cx, id, Reason::SessionExpired);
    }

    /// Ends the session of an id, for the operator; returns how many connections are closed.
    pub fn kick(&mut self, cx: &mut Cx<'_>, id: &str) -> usize {
        match SessionId::parse(id.as_bytes()) {
            Some(id) => self.end(cx, id, Reason::Kicked),
            None => 0,
        }
    }

    /// Ends a session; returns how many connections are closed.
    fn end(&mut self, cx: &mut Cx<'_>, id: SessionId, reason: Reason) -> usize {
        let Some(session) = self.sessions.remove(id) else { return 0 };
        cx.policy.leave_session_place(session.ip);
        let target = session.target.and_then(|target| target.conn);
        let ends = [session.source.conn, target].into_iter().flatten();
        ends.inspect(|conn| self.dismiss(cx, *conn, reason)).count()
    }

    fn send(&self, cx: &mut Cx<'_>, conn: ConnId, answer: Answer<'_>) {
        cx.actions.push(Action::Send { conn, text: answer.to_string() });
    }

    fn arm(&self, cx: &mut Cx<'_>, at: Time, id: SessionId) {
        // Never cancelled: hardly a session ends otherwise, and then it finds nothing.
        cx.timers.arm(at, timers::Alarm::Dialect(dialect::Alarm::Pair(Alarm::Expiry(id))));
    }
}

impl Dialect for Pair {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event<'_>) {
        match event {
            Event::Opened { conn, opening } => self.on_opened(cx, conn, opening),
            Event::Message { conn, bytes, .. } => self.on_message(cx, conn, bytes),
            Event::Closed { conn, reason } => self.on_closed(cx, conn, reason),
            Event::Alarm(dialect::Alarm::Pair(Alarm::Expiry(id))) => self.on_expiry(cx, id),
            // The shard tells these to the dialects that ask for them.
            Event::Alarm(_) | Event::Answer { .. } | Event::Letter { .. } | Event::Usage { .. } => {
                unreachable!("this dialect asks nothing, writes no letters and splices nothing")
            }
            Event::PolicyChanged => {}
        }
    }
}
