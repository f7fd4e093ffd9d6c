//! What a message does, in the contract's order (pair.md sections 2 and 3).
//!
//! A connection without a session travels to the shard that the session it names lives on before anything
//! is looked up there. One that is in a session stays where it is: it may ask for another session of its
//! own, for which it leaves the one it is in, but not join one.

use std::ops::Range;

use super::{
    Pair,
    id::SessionId,
    seats::{Seat, Standing},
    sessions::{Card, End, Role, Session},
    wire::{self, Answer, Error, Request},
};
use crate::{
    dialect::{Action, Cx, NoPlace},
    id::ConnId,
    limits::MOVES_MAX,
    reason::Reason,
};

impl Pair {
    /// Takes a message.
    pub(super) fn on_message(&mut self, cx: &mut Cx<'_>, conn: ConnId, bytes: &[u8]) {
        // A message of a connection that is being closed has come too late to matter.
        let Some(seat) = self.seats.get(conn).copied().filter(|seat| seat.standing != Standing::Closing)
        else {
            return;
        };
        let done = wire::parse(bytes).and_then(|request| match request {
            Request::Relay { session, payload } => self.on_relay(cx, conn, session, payload),
            Request::Source { resume: None, card } => self.on_source(cx, conn, seat, card),
            Request::Source { resume: Some(id), card } => {
                self.on_join(cx, conn, seat, Role::Source, id, card)
            }
            Request::Target { session, card } => self.on_join(cx, conn, seat, Role::Target, session, card),
            Request::Ping => {
                self.send(cx, conn, Answer::Pong);
                Ok(())
            }
        });
        if let Err(error) = done {
            self.counters.count(error);
            self.send(cx, conn, Answer::Error(error));
            if let Some(reason) = error.closes() {
                self.dismiss(cx, conn, reason);
            }
        }
    }

    /// `relay`: the only message of the hot path.
    fn on_relay(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        session: Option<SessionId>,
        payload: Range<usize>,
    ) -> Result<(), Error> {
        let session = session.and_then(|id| self.sessions.get_mut(id)).ok_or(Error::SessionMismatch)?;
        let role = session.role_of(conn).ok_or(Error::SessionMismatch)?;
        // What cannot be delivered keeps the session all the same: its sender still wants it.
        session.active_at = cx.now.at;
        let to = session.socket(role.other()).ok_or(Error::PeerNotConnected)?;
        self.counters.relayed_messages += 1;
        self.counters.relayed_bytes += payload.len() as u64;
        let (head, tail) = (wire::relay_head(role), wire::RELAY_TAIL);
        cx.actions.push(Action::Forward { to, head, body: payload, tail });
        Ok(())
    }

    /// `pair-source`: budget, capacity, a session.
    fn on_source(&mut self, cx: &mut Cx<'_>, conn: ConnId, seat: Seat, card: Card) -> Result<(), Error> {
        if !cx.policy.charge_session(seat.ip, cx.now) {
            return Err(Error::RateLimited);
        }
        cx.policy.take_session_place(seat.ip).map_err(|full| match full {
            NoPlace::InAll => Error::ServerAtCapacity,
            NoPlace::OfIp => Error::RateLimited,
        })?;
        self.depart(cx, conn, seat.standing, Reason::PeerGone);
        let id = SessionId::make(cx.random, self.place.relay, self.place.shard);
        let source = End { conn: Some(conn), card };
        self.sessions.insert(id, Session { source, target: None, ip: seat.ip, active_at: cx.now.at });
        self.arm(cx, cx.now.at + self.config.ttl, id);
        self.counters.created += 1;
        self.settle(cx, conn, id);
        self.tell_created(cx, conn, id);
        Ok(())
    }

    /// `pair-target`, and `pair-source` with a session: the journey to where that lives, then a place in it.
    fn on_join(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        seat: Seat,
        role: Role,
        id: Option<SessionId>,
        card: Card,
    ) -> Result<(), Error> {
        // Numbers in an id are claims: one that is not ours to serve makes the id unknown.
        let is_ours = |id: &SessionId| id.relay() == self.place.relay && id.shard() < self.place.shards;
        let id = id.filter(is_ours).ok_or(Error::SessionJoinFailed)?;
        if seat.standing != Standing::New {
            return Err(Error::SessionJoinFailed);
        }
        if id.shard() != self.place.shard {
            if seat.moves >= MOVES_MAX {
                return Err(Error::SessionJoinFailed);
            }
            self.seats.take(conn);
            cx.actions.push(Action::Move { conn, shard: id.shard() });
            return Ok(());
        }
        let session = self.sessions.get_mut(id).ok_or(Error::SessionJoinFailed)?;
        let is_first = role == Role::Target && session.target.is_none();
        if !session.seat(role, conn, card) {
            return Err(Error::SessionJoinFailed);
        }
        session.active_at = cx.now.at;
        let has_other = session.socket(role.other()).is_some();
        *(if is_first { &mut self.counters.joined } else { &mut self.counters.resumed }) += 1;
        self.settle(cx, conn, id);
        if role == Role::Source {
            self.tell_created(cx, conn, id);
        }
        // The first target hears of its source even where that is away for the moment, as in the reference.
        if has_other || is_first {
            self.introduce(cx, id);
        }
        Ok(())
    }

    /// The connection is in a session now, and stays on this shard.
    fn settle(&mut self, cx: &mut Cx<'_>, conn: ConnId, id: SessionId) {
        self.seats.set(conn, Standing::Member(id));
        cx.actions.push(Action::Settle { conn });
    }

    fn tell_created(&self, cx: &mut Cx<'_>, conn: ConnId, session: SessionId) {
        let source = &self.sessions.get(session).expect("it was just entered").source.card;
        let ttl_ms = self.config.ttl.as_millis() as u64;
        let expires_at = cx.now.unix_ms + ttl_ms;
        let rendezvous_url = &self.rendezvous_url;
        self.send(cx, conn, Answer::SessionCreated { session, source, rendezvous_url, expires_at });
    }

    /// Tells each end that is there of the other, the source first.
    fn introduce(&self, cx: &mut Cx<'_>, id: SessionId) {
        let Some(Session { source, target: Some(target), .. }) = self.sessions.get(id) else { return };
        for (end, peer) in [(source, target), (target, source)] {
            if let Some(conn) = end.conn {
                self.send(cx, conn, Answer::PeerConnected { peer: &peer.card });
            }
        }
    }
}
