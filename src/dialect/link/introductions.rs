//! The life of a link: introduced, pending, relaying, closed (link.md section 5).
//!
//! A link is made when a client's `resolve` finds its host and is over when either end closes, when its host
//! leaves before it relays, or when nothing has moved on it for too long. Its record stays until both ends
//! have closed, because bytes that were received before are still paid for from its account.

use std::num::NonZeroU64;

use super::{
    Alarm, Letter, Link,
    id::LinkId,
    links::{LinkKey, Record, State},
    registry::Address,
    seats::Role,
    wire::Answer,
};
use crate::{
    dialect::{Action, Cx},
    id::{ConnId, Remote},
    pacing::{Ledger, Leg},
    reason::Reason,
    time::Time,
};

impl Link {
    /// Makes a link from a client to the holder of the address that it resolved.
    pub(super) fn introduce(&mut self, cx: &mut Cx<'_>, client: ConnId, host: Remote, address: Address) {
        let link = LinkId::make(cx.random, self.place.relay, self.place.shard);
        let key = self.links.insert(Record {
            id: link,
            ledger: Ledger::new(&self.config.rates, cx.now.at),
            ends: [Some(client), None],
            host: Some(host),
            host_place: 0,
            state: State::Introduced,
            idle_timer: None,
            usage_timer: None,
            usage_from: Time(0),
            started_unix_ms: cx.now.unix_ms,
            relaying_unix_ms: None,
        });
        let idle_timer = self.arm(cx, cx.now.at + self.config.idle, Alarm::Idle(key));
        let record = self.links.get_mut(key).expect("it was just made");
        record.host_place = self.registry.add_link(host, key.index);
        record.idle_timer = Some(idle_timer);
        self.history.introduced();
        self.seats.change(client, Role::Client(key));
        cx.actions.push(Action::Settle { conn: client });
        self.send(cx, client, Answer::Found { link });
        self.post(cx, host.shard, Letter::Arrived { host: host.conn, link, address });
    }

    /// `relay`: the link's client asks for the dial-back.
    pub(super) fn on_relay(&mut self, cx: &mut Cx<'_>, key: LinkKey, name: &[u8]) -> Result<(), Reason> {
        let record = self.links.get_mut(key).expect("a client's link stays until the client has closed");
        if record.state == State::Closed {
            // We are closing this client already, and it is told why.
            return Ok(());
        }
        if record.state != State::Introduced || LinkId::parse(name) != Some(record.id) {
            return Err(Reason::BadRequest);
        }
        record.state = State::Pending;
        record.ledger.active_at = cx.now.at;
        self.history.moved(State::Introduced, State::Pending);
        let link = record.id;
        let host = record.host.expect("a link that does not relay yet ends with its host");
        self.post(cx, host.shard, Letter::DialBack { host: host.conn, link });
        Ok(())
    }

    /// Whether a link waits for its dial-back.
    pub(super) fn is_pending(&self, key: LinkKey) -> bool {
        self.links.get(key).is_some_and(|record| record.state == State::Pending)
    }

    /// Joins a fresh connection to the client of a pending link.
    pub(super) fn join(&mut self, cx: &mut Cx<'_>, host_end: ConnId, key: LinkKey) {
        let record = self.links.get_mut(key).expect("the caller has looked it up");
        let client = record.client().expect("a link whose client has closed is not pending");
        record.ends[Leg::Host as usize] = Some(host_end);
        record.state = State::Relaying;
        record.ledger.active_at = cx.now.at;
        record.relaying_unix_ms = NonZeroU64::new(cx.now.unix_ms.max(1));
        self.history.moved(State::Pending, State::Relaying);
        let (link, host) = (record.id, record.host);
        self.seats.change(host_end, Role::Relay(key));
        cx.actions.push(Action::Settle { conn: host_end });
        self.send(cx, client, Answer::Relaying { link });
        self.send(cx, host_end, Answer::Relaying { link });
        cx.actions.push(Action::Splice { client, host: host_end, splice: key.into() });
        if let Some(host) = host {
            self.post(cx, host.shard, Letter::DialBackOver { host: host.conn, link });
        }
    }

    /// One end has closed, or is closing and moves nothing any more: the other is told, and the record goes
    /// with the last.
    pub(super) fn end_departs(&mut self, cx: &mut Cx<'_>, key: LinkKey, leg: Leg, told: Reason) {
        let record = self.links.get_mut(key).expect("a link stays until its ends have closed");
        record.ends[leg as usize] = None;
        self.end_link(cx, key, told);
        self.drop_if_done(cx, key);
    }

    /// Ends a link and closes the ends that it still has for `reason`. One that has ended stays as it is.
    pub(super) fn end_link(&mut self, cx: &mut Cx<'_>, key: LinkKey, reason: Reason) {
        let record = self.links.get_mut(key).expect("the caller has looked it up");
        let state = std::mem::replace(&mut record.state, State::Closed);
        if state == State::Closed {
            return;
        }
        let (link, ends, host, host_place) = (record.id, record.ends, record.host.take(), record.host_place);
        let usage_timer = record.usage_timer.take();
        // Only an end that closes patiently may yet have to be cut.
        let idle_timer = if reason.is_patient() { None } else { record.idle_timer.take() };
        self.history.closed(state, record, reason, cx.now);
        self.links.unname(link);
        for timer in [usage_timer, idle_timer].into_iter().flatten() {
            cx.timers.cancel(timer);
        }
        for conn in ends.into_iter().flatten() {
            cx.actions.push(Action::Close { conn, reason });
        }
        let Some(host) = host else { return };
        if let Some(moved) = self.registry.remove_link(host, host_place) {
            let moved = self.links.key(moved);
            self.links.get_mut(moved).expect("the registry lists open links").host_place = host_place;
        }
        if state == State::Pending {
            self.post(cx, host.shard, Letter::DialBackOver { host: host.conn, link });
        }
    }

    fn drop_if_done(&mut self, cx: &mut Cx<'_>, key: LinkKey) {
        if self.links.get(key).is_some_and(|record| record.ends == [None, None]) {
            let record = self.links.remove(key).expect("it was just there");
            if let Some(timer) = record.idle_timer {
                cx.timers.cancel(timer);
            }
            self.history.gone(&record);
        }
    }

    /// Cuts a link on which nothing moved for too long, or looks again when that could next be.
    ///
    /// Also of a closed link whose last bytes are still on their way to an end that takes none of them: that
    /// end has been told to close patiently, and is now told to close.
    pub(super) fn on_idle_alarm(&mut self, cx: &mut Cx<'_>, key: LinkKey) {
        let Some(record) = self.links.get_mut(key) else { return };
        record.idle_timer = None;
        let deadline = record.ledger.active_at + self.config.idle;
        if cx.now.at < deadline {
            let timer = self.arm(cx, deadline, Alarm::Idle(key));
            self.links.get_mut(key).expect("it was just there").idle_timer = Some(timer);
        } else if record.state == State::Closed {
            for conn in record.ends.into_iter().flatten() {
                cx.actions.push(Action::Close { conn, reason: Reason::LinkIdle });
            }
        } else {
            self.end_link(cx, key, Reason::LinkIdle);
        }
    }
}
