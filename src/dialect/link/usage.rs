//! What a host is told of its links' quotas: when it asks, and when there is news (link.md sections 3 and 7).
//!
//! A `usage` message lists all relaying links of a control socket, so the socket's shard asks every home that
//! knows of it, unless there is none but itself. A link causes at most one message a second; a socket has at
//! most one in the making.

use std::time::Duration;

use super::{
    Alarm, Letter, Link,
    links::{LinkKey, Record},
    seats::Gather,
    wire::{Answer, UsageEntry},
};
use crate::{
    dialect::{Action, Cx},
    id::{ConnId, Remote},
    limits::ANSWER_TIMEOUT,
    pacing::Rates,
    time::Now,
};

/// How far apart the news of one link are.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);

impl Link {
    /// A link's usage has changed enough to be told.
    pub(super) fn on_usage(&mut self, cx: &mut Cx<'_>, key: LinkKey) {
        let Some(record) = self.links.get_mut(key) else { return };
        if !record.is_relaying() || record.usage_timer.is_some() {
            return;
        }
        if cx.now.at >= record.usage_from {
            self.tell_usage(cx, key);
        } else {
            let from = record.usage_from;
            let timer = self.arm(cx, from, Alarm::Usage(key));
            self.links.get_mut(key).expect("it was just there").usage_timer = Some(timer);
        }
    }

    /// The second of a link's last news is over, and there are more.
    pub(super) fn on_usage_alarm(&mut self, cx: &mut Cx<'_>, key: LinkKey) {
        let Some(record) = self.links.get_mut(key) else { return };
        record.usage_timer = None;
        self.tell_usage(cx, key);
    }

    fn tell_usage(&mut self, cx: &mut Cx<'_>, key: LinkKey) {
        let record = self.links.get_mut(key).expect("the caller has looked it up");
        let Some(host) = record.host else { return };
        record.usage_from = cx.now.at + NEWS_INTERVAL;
        self.post(cx, host.shard, Letter::UsageNews { host: host.conn });
    }

    /// What a control socket's relaying links on this shard use.
    pub(super) fn usage_of(&self, cx: &Cx<'_>, host: Remote) -> Vec<UsageEntry> {
        let links = self.registry.links_of(host).iter();
        let records = links.filter_map(|index| self.links.get(self.links.key(*index)));
        let relaying = records.filter(|record| record.is_relaying());
        relaying.map(|record| entry(record, &self.config.rates, cx.now)).collect()
    }

    /// `getUsage`.
    pub(super) fn on_get_usage(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        self.gather(cx, conn, true);
    }

    /// News of a link of a control socket of this shard.
    pub(super) fn on_usage_news(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if self.seats.control(conn).is_some() {
            self.gather(cx, conn, false);
        }
    }

    /// Starts a `usage` message; it is sent at once if no other shard has to be asked. A host that asked is
    /// held until then.
    fn gather(&mut self, cx: &mut Cx<'_>, conn: ConnId, pulled: bool) {
        let host = Remote { shard: self.place.shard, conn };
        let entries = self.usage_of(cx, host);
        let control = self.seats.control(conn).expect("the caller knows its role");
        if let Some(gather) = &mut control.gather {
            if pulled {
                // The message in the making answers the host as well.
                gather.pulled = true;
                cx.actions.push(Action::Hold { conn });
            } else {
                // The home that has news may have answered before it had them.
                gather.again = true;
            }
            return;
        }
        let others: Vec<u16> = control.homes.iter().copied().filter(|home| *home != host.shard).collect();
        if others.is_empty() {
            self.send(cx, conn, Answer::Usage { connections: &entries });
            return;
        }
        control.rounds = control.rounds.wrapping_add(1);
        let round = control.rounds;
        let timer = self.arm(cx, cx.now.at + ANSWER_TIMEOUT, Alarm::Untold(conn));
        let control = self.seats.control(conn).expect("it was just there");
        control.gather = Some(Gather { entries, waiting: others.len(), pulled, again: false, timer });
        if pulled {
            cx.actions.push(Action::Hold { conn });
        }
        for home in others {
            self.post(cx, home, Letter::UsageAsked { host, round });
        }
    }

    /// A home's answer.
    pub(super) fn on_usage_told(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        round: u32,
        entries: Vec<UsageEntry>,
    ) {
        let Some(control) = self.seats.control(conn).filter(|control| control.rounds == round) else {
            return;
        };
        let Some(gather) = &mut control.gather else { return };
        gather.entries.extend(entries);
        gather.waiting -= 1;
        if gather.waiting == 0 {
            self.finish_gather(cx, conn);
        }
    }

    /// Some homes have not answered in time: the host is told what there is.
    pub(super) fn on_untold(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if self.seats.control(conn).is_some_and(|control| control.gather.is_some()) {
            self.finish_gather(cx, conn);
        }
    }

    fn finish_gather(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let control = self.seats.control(conn).expect("the caller has looked it up");
        let gather = control.gather.take().expect("the caller has looked it up");
        cx.timers.cancel(gather.timer);
        self.send(cx, conn, Answer::Usage { connections: &gather.entries });
        if gather.pulled {
            cx.actions.push(Action::Resume { conn });
        }
        if gather.again {
            self.gather(cx, conn, false);
        }
    }
}

fn entry(record: &Record, rates: &Rates, now: Now) -> UsageEntry {
    // A look costs a copy of the buckets, and leaves the account to whoever charges it.
    let mut budget = record.ledger.budget;
    let quota = budget.used(rates, now.at).map(|used| (used, budget.throttled()));
    UsageEntry { link: record.id, quota }
}
