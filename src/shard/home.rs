//! Moves: a connection goes to the shard that owns the key its first message names.
//!
//! Two things travel: the descriptor, through the driver's post, and everything else as mail, both under one
//! tag; the receiving shard joins them, whichever comes first. The sender keeps its descriptor until the
//! receiver says that it has it, so a connection is never without an owner. A connection travels with nothing
//! in flight on it: its receives are single ones until it has a role, and what was queued for it has been
//! sent.

use std::collections::HashMap;

use super::{
    Shard,
    conn::{Conn, Errand, Guest, Mode, Moving, Standing, State, Unread},
    mail::{Full, Mail},
};
use crate::{
    dialect::{Event, Kind},
    driver::{Driver, PostFull},
    id::ConnId,
    proto::ws::Inbound,
    reason::Reason,
    time::Time,
    timers::Alarm,
};

/// Everything of a connection but its descriptor.
#[derive(Debug)]
pub struct Traveller {
    kind: Kind,
    guest: Guest,
    moving: Moving,
    inbound: Inbound,
    unread: Option<Box<Unread>>,
    ping_at: Time,
    unanswered: u8,
    standing: Standing,
    counted: bool,
    sent: u64,
}

/// The moves that this shard takes part in.
#[derive(Debug, Default)]
pub(super) struct Home {
    tags: u64,
    /// Posted, not yet received: our descriptor is still open.
    departed: HashMap<u64, ConnId>,
    /// Came through the post, mail missing; `None` where this shard had no room for the descriptor.
    descriptors: HashMap<u64, Option<ConnId>>,
    /// Came by mail, descriptor missing.
    travellers: HashMap<u64, (u16, Box<Traveller>)>,
    /// The post was full; tried again every `RETRY`.
    waiting: Vec<ConnId>,
}

impl Home {
    pub(super) fn is_empty(&self) -> bool {
        self.open() == 0
    }

    /// Moves not finished.
    pub(super) fn open(&self) -> usize {
        self.departed.len() + self.descriptors.len() + self.travellers.len()
    }
}

impl<D: Driver> Shard<D> {
    /// Decides a move. It happens once what was received behind the message is set aside and nothing is
    /// queued for the connection: `rearm` and `on_sent` see to it.
    pub(super) fn decide_move(&mut self, id: ConnId, moving: Moving) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let guest =
            conn.guest.as_mut().expect("only a connection without a role moves, and it has its opening");
        guest.moving = Some(moving);
    }

    /// Posts the descriptor and the rest, if nothing is in flight.
    pub(super) fn depart(&mut self, id: ConnId) {
        if self.driver.queued(id) > 0 || self.conns.get(id).is_none_or(|conn| conn.mode != Mode::Off) {
            return;
        }
        let Some(conn) = self.conns.get(id) else { return };
        let Some(shard) =
            conn.guest.as_ref().and_then(|guest| guest.moving.as_ref()).map(|moving| moving.shard)
        else {
            return;
        };
        let tag = u64::from(self.number) << 48 | self.home.tags;
        if let Err(PostFull) = self.driver.post(id, shard, tag) {
            self.wait_for_post(id);
            return;
        }
        self.home.tags += 1;
        self.counters.handoffs.sent += 1;
        let conn = self.conns.remove(id).expect("looked at above");
        self.counters.websockets -= u64::from(conn.state == State::Open);
        self.cancel_timers(&conn);
        self.home.departed.insert(tag, id);
        let traveller = Box::new(Traveller::of(conn));
        match self.shared.mailboxes.try_put(shard, Mail::Traveller { from: self.number, tag, traveller }) {
            Ok(true) => self.driver.wake(shard),
            Ok(false) => {}
            // The descriptor is already on its way and cannot be called back: its mail has to follow.
            Err(Full(mail)) => self.post_mail(shard, mail),
        }
    }

    fn wait_for_post(&mut self, id: ConnId) {
        self.counters.handoffs.delayed += 1;
        if self.home.waiting.len() >= WAITING_MAX {
            self.counters.handoffs.failed += 1;
            // The dialect has forgotten it: no event, only the close frame.
            self.close_forgotten(id, Reason::Overloaded);
            return;
        }
        if self.home.waiting.is_empty() {
            self.timers.arm(self.now.at + RETRY, Alarm::Shard(ALARM_RETRY_POST));
        }
        self.home.waiting.push(id);
    }

    /// Tries again to post what found the post full.
    pub(super) fn retry_departures(&mut self) {
        for id in std::mem::take(&mut self.home.waiting) {
            self.depart(id);
        }
    }

    /// The receiver has the connection: our descriptor may go.
    pub(super) fn on_received_by_home(&mut self, tag: u64) {
        if let Some(id) = self.home.departed.remove(&tag) {
            self.driver.close(id, false);
        }
    }

    /// A descriptor came, or (`None`) found this shard's table full.
    pub(super) fn on_arrived(&mut self, id: Option<ConnId>, tag: u64) {
        match self.home.travellers.remove(&tag) {
            Some((from, traveller)) => self.join(id, from, tag, traveller),
            None => {
                self.home.descriptors.insert(tag, id);
            }
        }
    }

    pub(super) fn on_traveller(&mut self, from: u16, tag: u64, traveller: Box<Traveller>) {
        match self.home.descriptors.remove(&tag) {
            Some(id) => self.join(id, from, tag, traveller),
            None => {
                self.home.travellers.insert(tag, (from, traveller));
            }
        }
    }

    fn join(&mut self, id: Option<ConnId>, from: u16, tag: u64, traveller: Box<Traveller>) {
        match id {
            Some(id) => self.admit(id, from, tag, *traveller),
            None => self.post_mail(from, Mail::Returned { tag, traveller }),
        }
    }

    /// The other shard had no room: the client is told, by the descriptor that is still ours.
    pub(super) fn on_returned(&mut self, tag: u64, traveller: Traveller) {
        let Some(id) = self.home.departed.remove(&tag) else { return };
        self.driver.take_back(id);
        self.counters.handoffs.failed += 1;
        let (conn, _) = traveller.settle_in(id);
        self.counters.websockets += u64::from(conn.state == State::Open);
        self.conns.insert(id, conn);
        self.close_forgotten(id, Reason::Overloaded);
    }

    /// Takes in a connection that is complete, and acts on what brought it.
    fn admit(&mut self, id: ConnId, from: u16, tag: u64, traveller: Traveller) {
        self.counters.handoffs.received += 1;
        self.post_mail(from, Mail::Received { tag });
        let (conn, errand) = traveller.settle_in(id);
        let (text, message) = match errand {
            Errand::Message { text, bytes } => (text, bytes),
            Errand::Upgrade => {
                self.conns.insert(id, conn);
                self.await_admission(id);
                return self.ask_admission(id);
            }
        };
        self.counters.websockets += 1;
        let (kind, opening) = (conn.kind, conn.guest.as_ref().map(|guest| guest.opening.clone()));
        let opening = opening.expect("a traveller carries its opening");
        self.conns.insert(id, conn);
        self.arm_alive(id);
        self.tell(kind, Event::Opened { conn: id, opening });
        self.carry_out();
        if self.stage == super::Stage::Stopping {
            self.close(id, Reason::Draining);
            return;
        }
        self.give_moved(id, text, message);
        self.carry_out();
        self.go_on(id);
    }
}

impl Traveller {
    fn of(conn: Conn) -> Traveller {
        let mut guest = *conn.guest.expect("only a guest travels");
        let moving = guest.moving.take().expect("a move was decided");
        Traveller {
            kind: conn.kind,
            guest,
            moving,
            inbound: conn.inbound,
            unread: conn.unread,
            ping_at: conn.ping_at,
            unanswered: conn.unanswered,
            standing: conn.standing,
            counted: conn.counted,
            sent: conn.sent,
        }
    }

    fn settle_in(self, id: ConnId) -> (Conn, Errand) {
        let mut guest = self.guest;
        guest.opening.moves += 1;
        let mut conn = Conn::new(id, guest.opening.ip, guest.opened_at);
        conn.state = match self.moving.errand {
            Errand::Message { .. } => State::Open,
            Errand::Upgrade => State::Admitting,
        };
        conn.kind = self.kind;
        conn.inbound = self.inbound;
        conn.unread = self.unread;
        conn.ping_at = self.ping_at;
        conn.unanswered = self.unanswered;
        conn.reading = true;
        conn.standing = self.standing;
        conn.counted = self.counted;
        conn.sent = self.sent;
        conn.guest = Some(Box::new(guest));
        (conn, self.moving.errand)
    }
}

/// The shard's alarm for trying the post again.
pub(super) const ALARM_RETRY_POST: u32 = 1;

/// How long to wait when the post was full: the other shard empties it once a turn.
const RETRY: std::time::Duration = std::time::Duration::from_millis(1);

/// Connections that wait for a full post before further ones are closed as overloaded.
const WAITING_MAX: usize = 1024;
