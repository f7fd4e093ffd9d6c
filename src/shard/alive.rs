//! Deadlines of connections: pings, the time without a role, and the shard's own alarms.
//!
//! Every connection has exactly one armed timer of its own ([`super::conn::Due`] says what for), so that none
//! can be forgotten. A ping costs a timer, a few bytes and, only for a peer that has not answered, a look at
//! TCP.

use std::time::Duration;

use rand_chacha::rand_core::Rng;

use super::{Shard, conn::Due, gather, home, notes};
use crate::{
    dialect::{
        Kind, Liveness,
        workspace::{Details, Metric, Note},
    },
    driver::Driver,
    id::ConnId,
    proto::ws::{Control, outbound},
    reason::Reason,
    time::Time,
    timers::Alarm,
};

/// How often an otherwise idle shard turns, so that a stalled one can be told from it.
pub(super) const PULSE: Duration = Duration::from_secs(1);
/// The shard's alarms.
pub(super) const ALARM_PULSE: u32 = 0;
/// Accepting failed and is tried again.
pub(super) const ALARM_ACCEPT: u32 = 2;
/// How long accepting rests after it failed: descriptors do not come back in less.
pub(super) const ACCEPT_REST: Duration = Duration::from_millis(100);

impl<D: Driver> Shard<D> {
    /// (Re)arms the connection's own timer.
    pub(super) fn arm(&mut self, id: ConnId, due: Due, span: Duration) {
        let at = self.now.at + span;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(timer) = conn.timer.take() {
            self.timers.cancel(timer);
        }
        conn.due = due;
        conn.timer = Some(self.timers.arm(at, Alarm::Conn(id)));
    }

    /// Arms the next ping, or the end of the time without a role if that comes first.
    pub(super) fn arm_alive(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let role_timeout = self.shared.settings.manners(conn.kind).role_timeout;
        let role_at = conn.guest.as_ref().map(|guest| guest.opened_at + role_timeout);
        let at = role_at.map_or(conn.ping_at, |role_at| conn.ping_at.min(role_at));
        let span = at.since(self.now.at);
        self.arm(id, Due::Alive, span);
    }

    /// When a connection that opens now is pinged first: at any time within the interval, so that those that
    /// come together are not pinged together from then on.
    pub(super) fn first_ping_at(&mut self, interval: Duration) -> Time {
        let interval_us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        self.now.at + Duration::from_micros(1 + self.random.next_u64() % interval_us.max(1))
    }

    /// The role is fixed.
    pub(super) fn settle(&mut self, id: ConnId) {
        self.settle_reservation(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.guest = None;
        self.arm_alive(id);
    }

    pub(super) fn on_due(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.timer = None;
        match conn.due {
            Due::Head if conn.unread_len() == 0 && conn.sent > 0 => self.finish(id, Reason::HttpDone, false),
            Due::Head => self.finish(id, Reason::HandshakeTimeout, false),
            Due::Admission => self.on_admission_due(id),
            Due::Close => self.on_close_due(id),
            Due::Alive => self.on_alive_due(id),
        }
    }

    fn on_alive_due(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let opened_at = conn.guest.as_ref().map(|guest| guest.opened_at);
        let role_timeout = self.shared.settings.manners(conn.kind).role_timeout;
        if opened_at.is_some_and(|at| self.now.at >= at + role_timeout) {
            self.close(id, Reason::RoleTimeout);
            return;
        }
        if self.now.at >= conn.ping_at {
            if let Some(reason) = self.is_gone(id) {
                return self.drop_gone(id, reason);
            }
            self.ping(id);
        }
        self.arm_alive(id);
    }

    /// Why the peer of a connection that is to be pinged is taken for gone, if it is.
    fn is_gone(&mut self, id: ConnId) -> Option<Reason> {
        // Its pong may be among what it sent and we, being behind with reading, have not looked at.
        self.is_silent(id).filter(|_| !self.driver.has_unread(id))
    }

    fn is_silent(&mut self, id: ConnId) -> Option<Reason> {
        let conn = self.conns.get(id)?;
        let manners = self.shared.settings.manners(conn.kind);
        let Liveness::Within { pong, idle } = manners.liveness else {
            return self.is_unanswered(id).then_some(Reason::PingTimeout);
        };
        // One that is not read cannot show that it is there.
        if !conn.reading {
            return None;
        }
        if self.now.at.since(conn.active_at) > idle {
            return Some(Reason::WorkspaceIdle);
        }
        // The time of the oldest ping stands. One that waits behind other bytes is the slow-peer rule's.
        let waited = manners.ping_interval * u32::from(conn.unanswered);
        (waited > pong && self.driver.queued(id) == 0).then_some(Reason::PingTimeout)
    }

    /// Drops a connection without a close frame.
    pub(super) fn drop_gone(&mut self, id: ConnId, reason: Reason) {
        if self.conns.get(id).is_some_and(|conn| conn.kind == Kind::Workspace) {
            let (metric, why) = match reason {
                Reason::WorkspaceIdle => (Metric::WsIdleTerminated, "idle timeout"),
                _ => (Metric::WsStaleTerminated, "heartbeat timeout"),
            };
            self.count(metric);
            notes::write(&Note::warn("ws_terminated", Details { reason: Some(why), ..Details::default() }));
        }
        self.finish(id, reason, true);
    }

    /// Whether the previous ping should have been answered by now.
    fn is_unanswered(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        // Not judged while it is not read; nor while our ping waits behind bytes that the peer takes its time
        // with: the slow-peer rule looks after those.
        if conn.unanswered == 0 || !conn.reading || self.driver.queued(id) > 0 {
            return false;
        }
        let interval = self.shared.settings.manners(conn.kind).ping_interval;
        match self.look_at_acks(id) {
            // Progress since the ping: it is still on its way behind bytes that the peer takes its time with.
            Some(acks) => !acks.outstanding || acks.still >= interval,
            None => true,
        }
    }

    fn ping(&mut self, id: ConnId) {
        let now = self.now.at;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let interval = self.shared.settings.manners(conn.kind).ping_interval;
        conn.ping_at = now + interval;
        conn.unanswered = conn.unanswered.saturating_add(u8::from(conn.unanswered > 0));
        if self.driver.queued(id) > 0 || conn.ended.is_some() {
            return;
        }
        if conn.reading {
            conn.unanswered = conn.unanswered.max(1);
        }
        self.counters.pings += 1;
        self.driver.send_bytes(id, &outbound::ping_frame(&Control::default()));
    }

    pub(super) fn on_shard_alarm(&mut self, number: u32) {
        match number {
            ALARM_PULSE => {
                self.timers.arm(self.now.at + PULSE, Alarm::Shard(ALARM_PULSE));
                self.sweep_messages();
            }
            ALARM_ACCEPT => self.driver.resume_accept(),
            home::ALARM_RETRY_POST => self.retry_departures(),
            gather::ALARM_STATS => self.on_stats_due(),
            ticket => self.on_gather_due(gather::ticket_of(ticket)),
        }
    }
}
