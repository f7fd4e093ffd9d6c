//! Questions that all shards answer together, for one client: `/v1/stats`, `/state`, `/metrics`, a kick.

use std::{collections::HashMap, time::Duration};

use super::{Shard, mail::Mail};
use crate::{
    dialect::{
        Cx, kick,
        kick::Target,
        link,
        overview::{MetricsPart, StatePart},
        pages::{JSON, Page},
    },
    driver::Driver,
    id::ConnId,
    limits::GATHER_TIMEOUT,
    time::Time,
    timers::{Alarm, TimerId},
};

/// What all shards are asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inquiry {
    /// For `/v1/stats`.
    Stats,
    /// For `/state`.
    State,
    /// For `/metrics`.
    Metrics,
    /// To end something.
    Kick(Target),
}

/// What one shard answers.
#[derive(Debug)]
pub enum Part {
    /// To [`Inquiry::Stats`].
    Stats(link::StatsPart),
    /// To [`Inquiry::State`].
    State(StatePart),
    /// To [`Inquiry::Metrics`].
    Metrics(MetricsPart),
    /// To [`Inquiry::Kick`]: connections closed.
    Kicked(usize),
}

/// Questions this shard has asked on behalf of its clients.
#[derive(Debug, Default)]
pub(super) struct Gathers {
    open: HashMap<u64, Gather>,
    tickets: u64,
    stats: Stats,
}

/// `/v1/stats`, which anybody may ask for as often as they like: of all that ask at about the same time only one asks
/// the shards.
#[derive(Debug, Default)]
struct Stats {
    /// Those who asked after the last question was put.
    waiting: Vec<ConnId>,
    /// No further question is put before.
    next_at: Time,
    /// A question is on its way.
    is_asked: bool,
    is_armed: bool,
}

#[derive(Debug)]
struct Gather {
    conns: Vec<ConnId>,
    inquiry: Inquiry,
    parts: Vec<Part>,
    missing: Vec<u16>,
    timer: TimerId,
}

impl Gathers {
    /// The client is gone: its answer is not needed any more (the timer clears the rest).
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.stats.waiting.retain(|waiting| *waiting != conn);
        for gather in self.open.values_mut().filter(|gather| gather.conns == [conn]) {
            gather.missing.clear();
        }
    }

    /// Questions open at the moment.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.stats.waiting.len()
    }
}

impl<D: Driver> Shard<D> {
    /// Asks every shard for its part. `false`: too many questions are open.
    pub(super) fn gather(&mut self, conn: ConnId, inquiry: Inquiry) -> bool {
        if inquiry == Inquiry::Stats {
            let is_full = self.gathers.stats.waiting.len() >= OPEN_MAX;
            if !is_full {
                self.gathers.stats.waiting.push(conn);
                self.ask_for_stats();
            }
            return !is_full;
        }
        let is_full = self.gathers.open.len() >= OPEN_MAX;
        if !is_full {
            self.put(vec![conn], inquiry);
        }
        !is_full
    }

    /// Puts the question of those who wait for `/v1/stats`, unless the last one is too young or still open.
    pub(super) fn ask_for_stats(&mut self) {
        let now = self.now.at;
        let stats = &mut self.gathers.stats;
        if stats.is_asked || stats.waiting.is_empty() {
            return;
        }
        if now < stats.next_at {
            if !std::mem::replace(&mut stats.is_armed, true) {
                self.timers.arm(stats.next_at, Alarm::Shard(ALARM_STATS));
            }
            return;
        }
        stats.next_at = now + STATS_INTERVAL;
        stats.is_asked = true;
        let conns = std::mem::take(&mut stats.waiting);
        self.put(conns, Inquiry::Stats);
    }

    pub(super) fn on_stats_due(&mut self) {
        self.gathers.stats.is_armed = false;
        self.ask_for_stats();
    }

    fn put(&mut self, conns: Vec<ConnId>, inquiry: Inquiry) {
        let ticket = self.gathers.tickets;
        self.gathers.tickets += 1;
        let others: Vec<u16> =
            (0..self.shared.mailboxes.shards()).filter(|shard| *shard != self.number).collect();
        let timer = self.timers.arm(self.now.at + GATHER_TIMEOUT, Alarm::Shard(alarm_of(ticket)));
        let parts = vec![self.part(&inquiry)];
        let gather = Gather { conns, inquiry: inquiry.clone(), parts, missing: others.clone(), timer };
        self.gathers.open.insert(ticket, gather);
        for shard in others {
            self.post_mail(shard, Mail::Inquiry { from: self.number, ticket, inquiry: inquiry.clone() });
        }
        self.answer_if_complete(ticket);
    }

    pub(super) fn answer_inquiry(&mut self, from: u16, ticket: u64, inquiry: &Inquiry) {
        let part = Box::new(self.part(inquiry));
        self.post_mail(from, Mail::Part { from: self.number, ticket, part });
    }

    pub(super) fn on_part(&mut self, from: u16, ticket: u64, part: Part) {
        let Some(gather) = self.gathers.open.get_mut(&ticket) else { return };
        gather.missing.retain(|shard| *shard != from);
        gather.parts.push(part);
        self.answer_if_complete(ticket);
    }

    /// The time for answers is over: those who did not are named.
    pub(super) fn on_gather_due(&mut self, low_bits: u64) {
        let due = |ticket: &&u64| alarm_of(**ticket) == alarm_of(low_bits);
        if let Some(ticket) = self.gathers.open.keys().find(due).copied() {
            self.answer(ticket);
        }
    }

    fn answer_if_complete(&mut self, ticket: u64) {
        let Some(gather) = self.gathers.open.get(&ticket) else { return };
        if gather.missing.is_empty() {
            self.timers.cancel(gather.timer);
            self.answer(ticket);
        }
    }

    fn answer(&mut self, ticket: u64) {
        let Some(gather) = self.gathers.open.remove(&ticket) else { return };
        let Gather { conns, inquiry, parts, missing, .. } = gather;
        let page = self.page_of(&inquiry, parts, &missing);
        for conn in conns {
            self.answer_request(conn, &page);
        }
        if inquiry == Inquiry::Stats {
            self.gathers.stats.is_asked = false;
            self.ask_for_stats();
        }
    }

    /// This shard's part of an answer. What a kick sets going, the turn carries out.
    fn part(&mut self, inquiry: &Inquiry) -> Part {
        let now = self.now;
        match inquiry {
            Inquiry::Stats => {
                let link = self.dialects.link.as_ref();
                Part::Stats(link.map(|link| link.stats_part(now)).unwrap_or_default())
            }
            Inquiry::State => Part::State(self.dialects.state_part()),
            Inquiry::Metrics => Part::Metrics(self.dialects.metrics_part(now.at)),
            Inquiry::Kick(target) => Part::Kicked(self.kick(target)),
        }
    }

    fn page_of(&self, inquiry: &Inquiry, parts: Vec<Part>, missing: &[u16]) -> Page {
        let (mut stats, mut states, mut metrics, mut closed) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for part in parts {
            match part {
                Part::Stats(part) => stats.push(part),
                Part::State(part) => states.push(part),
                Part::Metrics(part) => metrics.push(part),
                Part::Kicked(more) => closed += more,
            }
        }
        let json = |body| Page { content_type: JSON, body };
        match inquiry {
            Inquiry::Stats => json(link::stats_json(stats, missing, self.now, self.shared.started_at)),
            Inquiry::State => self.dialects.state_page(states, missing, &self.facts()),
            Inquiry::Metrics => self.dialects.metrics_page(metrics, &self.facts()),
            Inquiry::Kick(_) => json(kick::answer(closed)),
        }
    }

    /// Ends what of it lives here; returns how many connections are closed.
    pub(super) fn kick(&mut self, target: &Target) -> usize {
        let Shard { dialects, timers, actions, random, shared, now, .. } = self;
        let cx = &mut Cx { now: *now, random, policy: &shared.policy, timers, actions };
        let closed = dialects.kick(cx, target);
        if closed > 0 {
            tracing::info!(shard = self.number, what = target.word(), closed, "ended by the operator");
        }
        closed
    }
}

/// Tickets and the shard's other alarms share a number space: the first few are the others'.
fn alarm_of(ticket: u64) -> u32 {
    FIRST_TICKET_ALARM + (ticket % u64::from(u32::MAX - FIRST_TICKET_ALARM)) as u32
}

/// The ticket, as far as the alarm's number tells.
pub(super) fn ticket_of(alarm: u32) -> u64 {
    u64::from(alarm - FIRST_TICKET_ALARM)
}

const FIRST_TICKET_ALARM: u32 = 16;
/// Questions open at once on one shard, and those who wait for `/v1/stats`; a further one is answered 503.
const OPEN_MAX: usize = 64;
/// How often a shard asks all of them for `/v1/stats` at most, a few milliseconds' work where there are many links.
const STATS_INTERVAL: Duration = Duration::from_millis(50);
/// The shard's alarm for those who wait for `/v1/stats`.
pub(super) const ALARM_STATS: u32 = 3;
