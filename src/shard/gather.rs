//! `/v1/stats`: one question to all shards, one answer to the client.

use std::collections::HashMap;

use super::{Shard, mail::Mail};
use crate::{
    dialect::link::{self, StatsPart},
    driver::Driver,
    id::ConnId,
    limits::GATHER_TIMEOUT,
    timers::{Alarm, TimerId},
};

/// Questions this shard has asked on behalf of its clients.
#[derive(Debug, Default)]
pub(super) struct Gathers {
    open: HashMap<u64, Gather>,
    tickets: u64,
}

#[derive(Debug)]
struct Gather {
    conn: ConnId,
    parts: Vec<StatsPart>,
    missing: Vec<u16>,
    timer: TimerId,
}

impl Gathers {
    /// The client is gone: its answer is not needed any more (the timer clears the rest).
    pub(super) fn forget(&mut self, conn: ConnId) {
        for gather in self.open.values_mut().filter(|gather| gather.conn == conn) {
            gather.missing.clear();
        }
    }

    /// Questions open at the moment.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl<D: Driver> Shard<D> {
    /// Asks every shard for its part. `false`: too many questions are open.
    pub(super) fn gather_stats(&mut self, conn: ConnId) -> bool {
        if self.gathers.open.len() >= OPEN_MAX {
            return false;
        }
        let ticket = self.gathers.tickets;
        self.gathers.tickets += 1;
        let others: Vec<u16> =
            (0..self.shared.mailboxes.shards()).filter(|shard| *shard != self.number).collect();
        let timer = self.timers.arm(self.now.at + GATHER_TIMEOUT, Alarm::Shard(alarm_of(ticket)));
        let parts = self.stats_part().into_iter().collect();
        self.gathers.open.insert(ticket, Gather { conn, parts, missing: others.clone(), timer });
        for shard in others {
            self.post_mail(shard, Mail::AskStats { from: self.number, ticket });
        }
        self.answer_if_complete(ticket);
        true
    }

    pub(super) fn answer_stats(&mut self, from: u16, ticket: u64) {
        if let Some(part) = self.stats_part() {
            self.post_mail(from, Mail::Stats { from: self.number, ticket, part: Box::new(part) });
        }
    }

    pub(super) fn on_stats(&mut self, from: u16, ticket: u64, part: StatsPart) {
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
        let body = link::stats_json(gather.parts, &gather.missing, self.now, self.shared.started_at);
        self.answer_request(gather.conn, body.as_bytes());
    }

    fn stats_part(&mut self) -> Option<StatsPart> {
        let now = self.now;
        self.dialects.link.as_mut().map(|link| link.stats_part(now))
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
/// Questions open at once on one shard; a further one is answered 503.
const OPEN_MAX: usize = 64;
