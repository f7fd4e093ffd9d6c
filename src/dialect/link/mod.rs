//! The link dialect (protocols: Link relay wire protocol, v1): content-blind introductions.
//!
//! A **host** registers an address on its control socket; a **client** resolves it and gets a link; the host
//! dials back on a fresh socket and accepts the link; the shard splices the two.
//!
//! [`Link`] is one shard's part of it. It holds the seats of its connections, the registry of the addresses
//! at home here and the links made from them, and works with the other shards by [`Letter`]. Promises that
//! whatever depends on a connection (addresses, links, dial-backs, timers) is gone once it is. Never sees a
//! relayed byte, a socket, a clock or a random source of its own.
//!
//! Read on in `requests` (what a message does), `introductions` (the life of a link), `letters` (what crosses
//! shards).

mod id;
mod introductions;
mod letters;
mod links;
mod registry;
mod requests;
mod seats;
mod stats;
mod usage;
mod verifications;
mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::{
    id::LinkId,
    letters::Letter,
    links::LinkKey,
    registry::{Address, Claim, Registry, Verdict},
    stats::{Gauges, StatsPart, stats_json},
};
use self::{
    links::Links,
    seats::{Role, Seats},
    stats::History,
    verifications::Verifications,
    wire::Answer,
};
use super::{Action, Backlog, Cx, Dialect, Event, Liveness, Manners, Place, SpliceId};
use crate::{
    dialect,
    id::ConnId,
    limits::{CLOSE_TIMEOUT, CONTROL_MESSAGE_BYTES_MAX, DIRECTION_BYTES_HIGH},
    pacing::{Ledger, Leg, Rates},
    reason::Reason,
    time::Time,
    timers::{self, TimerId},
};

/// The upgrade path.
pub const PATH: &str = "/v1/link";

/// What the operator chose for the link dialect.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// `LINK_RELAY_MAX_BPS`, `LINK_RELAY_HOURLY_BYTES`, `LINK_RELAY_TRICKLE_BPS`.
    pub rates: Rates,
    /// `LINK_RELAY_IDLE_SEC`.
    pub idle: Duration,
    /// `LINK_ORIGIN`, lower-cased and trimmed; `None` takes the upgrade's `Host`.
    pub origin: Option<String>,
    /// `--link-verify-rate-per-sec`; 0 is no bound.
    pub verifications_per_sec: u32,
}

impl LinkConfig {
    /// What the link contract asks of the shard; the two spans are the operator's.
    pub fn manners(ping_interval: Duration, role_timeout: Duration) -> Manners {
        Manners {
            message_bytes_max: CONTROL_MESSAGE_BYTES_MAX,
            too_long: Reason::BadRequest,
            binary_is_text: false,
            // A control socket that does not read its own notices is cut early.
            queue_bytes_max: DIRECTION_BYTES_HIGH,
            backlog: Backlog::HoldsUpSenders,
            ping_interval,
            liveness: Liveness::NextPing,
            close_timeout: CLOSE_TIMEOUT,
            role_timeout,
            wants_origin: false,
        }
    }
}

/// A timer of this dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// A link may have been idle for too long.
    Idle(LinkKey),
    /// The host of a link may hear of its usage again.
    Usage(LinkKey),
    /// Another shard has not answered this control socket's claim.
    Unjudged(ConnId),
    /// Other shards have not told what this control socket's links use.
    Untold(ConnId),
}

/// One shard's part of the link dialect.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    place: Place,
    seats: Seats,
    registry: Registry,
    links: Links,
    history: History,
    verifications: Verifications,
}

impl Link {
    /// A part without connections.
    pub fn new(config: LinkConfig, place: Place) -> Link {
        Link {
            seats: Seats::default(),
            registry: Registry::new(place.table_hasher()),
            links: Links::new(place.table_hasher()),
            history: History::default(),
            verifications: Verifications::new(config.verifications_per_sec),
            config,
            place,
        }
    }

    /// Whether it keeps nothing of any connection, address or link: for invariants.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.registry.is_empty() && self.links.is_empty()
    }

    /// A splice's account, until both its ends are closed.
    pub fn ledger(&mut self, splice: SpliceId) -> Option<(&mut Ledger, &Rates)> {
        let record = self.links.get_mut(splice.into())?;
        Some((&mut record.ledger, &self.config.rates))
    }

    /// Charges payload that went to the other end, on a budget that had granted it. Returns whether the host
    /// should hear of its usage ([`Event::Usage`]).
    pub fn charge_splice(&mut self, splice: SpliceId, now: Time, from: Leg, payload: u64) -> bool {
        let Some(record) = self.links.get_mut(splice.into()) else { return false };
        self.history.bytes[from as usize] += payload;
        record.ledger.charge(&self.config.rates, now, from, payload)
    }

    /// The first characters of a link's id, for logs; empty for a link that is gone.
    pub fn splice_name(&self, splice: SpliceId) -> String {
        self.links.get(splice.into()).map(|record| record.id.short()).unwrap_or_default()
    }

    /// Ends the link of an id, for the operator; returns how many connections are closed. Of a link that is not joined
    /// yet operators know the first characters only.
    pub fn kick(&mut self, cx: &mut Cx<'_>, id: &str) -> usize {
        let found = self.links.iter().find(|record| {
            record.state != links::State::Closed && (record.id.to_string() == id || record.id.short() == id)
        });
        let ends: Vec<ConnId> = found.into_iter().flat_map(|record| record.ends).flatten().collect();
        if let Some(end) = ends.first() {
            self.dismiss(cx, *end, Reason::Kicked);
        }
        ends.len()
    }

    /// Closes a connection for a fault of its own, or because it may not stay. Whatever depends on it is over
    /// at once; its `Closed` is then only the end of its seat.
    fn dismiss(&mut self, cx: &mut Cx<'_>, conn: ConnId, reason: Reason) {
        cx.actions.push(Action::Close { conn, reason });
        if let Some(role) = self.seats.change(conn, Role::Closing) {
            self.depart(cx, conn, role, reason);
        }
    }

    fn on_closed(&mut self, cx: &mut Cx<'_>, conn: ConnId, reason: Reason) {
        if let Some(role) = self.seats.take(conn) {
            self.depart(cx, conn, role, reason);
        }
    }

    /// Ends what depends on a connection that closes for `reason`.
    fn depart(&mut self, cx: &mut Cx<'_>, conn: ConnId, role: Role, reason: Reason) {
        let told = told_to_others(reason);
        match role {
            Role::New(_) | Role::Closing => {}
            Role::Control(control) => self.leave_homes(cx, conn, *control, told),
            Role::Client(key) => self.end_departs(cx, key, Leg::Client, told),
            Role::Relay(key) => self.end_departs(cx, key, Leg::Host, told),
        }
    }

    fn send(&self, cx: &mut Cx<'_>, conn: ConnId, answer: Answer<'_>) {
        cx.actions.push(Action::Send { conn, text: answer.to_string() });
    }

    fn arm(&self, cx: &mut Cx<'_>, at: Time, alarm: Alarm) -> TimerId {
        cx.timers.arm(at, timers::Alarm::Dialect(dialect::Alarm::Link(alarm)))
    }
}

impl Dialect for Link {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event<'_>) {
        match event {
            Event::Opened { conn, opening } => self.seats.open(conn, opening),
            Event::Message { conn, text, bytes, moved } => self.on_message(cx, conn, text, bytes, moved),
            Event::Closed { conn, reason } => self.on_closed(cx, conn, reason),
            Event::Alarm(dialect::Alarm::Link(alarm)) => match alarm {
                Alarm::Idle(key) => self.on_idle_alarm(cx, key),
                Alarm::Usage(key) => self.on_usage_alarm(cx, key),
                Alarm::Unjudged(conn) => self.on_unjudged(cx, conn),
                Alarm::Untold(conn) => self.on_untold(cx, conn),
            },
            Event::Alarm(_) | Event::Answer { .. } => {
                unreachable!("an alarm or answer goes to the dialect that asked for it")
            }
            Event::Letter { from, letter: dialect::Letter::Link(letter) } => self.read(cx, from, letter),
            Event::Usage { splice } => self.on_usage(cx, splice.into()),
            Event::PolicyChanged => self.on_policy_changed(cx),
        }
    }
}

/// What the others are told when a connection closes for `reason`: a fault is its own (link.md section 6),
/// what is true of both ends is told to both.
fn told_to_others(reason: Reason) -> Reason {
    match reason {
        Reason::LinkIdle | Reason::SlowPeer | Reason::Draining | Reason::Kicked => reason,
        _ => Reason::PeerGone,
    }
}
