//! What an operator sees of the links: `GET /v1/stats` (link.md section 8), and gauges.
//!
//! Every shard gives a [`StatsPart`]; [`stats_json`] makes one answer of them. Promises that no address, key
//! or IP appears, and no id that somebody could still accept.

use std::{cmp::Reverse, collections::VecDeque, fmt, num::NonZeroU64};

use super::{
    Link,
    id::LinkId,
    links::{Record, State},
};
use crate::{
    limits::{STATS_CLOSED_MAX, STATS_LINKS_MAX},
    pacing::Leg,
    reason::Reason,
    time::{Iso, Now, Time},
};

/// A shard's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gauges {
    /// Registered addresses.
    pub addresses: u64,
    /// Links whose client has not asked for the dial-back.
    pub introduced: u64,
    /// Links that wait for their dial-back.
    pub pending: u64,
    /// Links that relay.
    pub relaying: u64,
    /// Links ever introduced.
    pub total: u64,
    /// Links that ever relayed.
    pub total_relayed: u64,
}

impl Gauges {
    /// Adds another shard's.
    pub fn add(&mut self, other: Gauges) {
        self.addresses += other.addresses;
        self.introduced += other.introduced;
        self.pending += other.pending;
        self.relaying += other.relaying;
        self.total += other.total;
        self.total_relayed += other.total_relayed;
    }
}

/// What one shard has to say for `/v1/stats`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StatsPart {
    gauges: Gauges,
    bytes: [u64; 2],
    live: Vec<LiveLink>,
    pub(super) closed: Vec<ClosedLink>,
}

#[derive(Clone, PartialEq, Debug)]
struct LiveLink {
    id: LinkId,
    state: State,
    started_unix_ms: u64,
    relaying_unix_ms: Option<u64>,
    bytes: [u64; 2],
    quota: Option<(f64, bool)>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct ClosedLink {
    id: LinkId,
    relaying_unix_ms: u64,
    /// Orders what closed within one millisecond.
    closed_at: Time,
    closed_unix_ms: u64,
    reason: &'static str,
    bytes: [u64; 2],
}

/// What a shard remembers of links beyond their records.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Open links, by [`State`].
    open: [u64; 3],
    total: u64,
    total_relayed: u64,
    /// Bytes ever relayed, by the leg they came from: kept as they go, so that asking often counts nothing.
    pub(super) bytes: [u64; 2],
    /// Newest first.
    recently_closed: VecDeque<ClosedLink>,
}

impl History {
    pub(super) fn introduced(&mut self) {
        self.total += 1;
        self.open[State::Introduced as usize] += 1;
    }

    pub(super) fn moved(&mut self, from: State, to: State) {
        self.open[from as usize] -= 1;
        self.open[to as usize] += 1;
        self.total_relayed += u64::from(to == State::Relaying);
    }

    /// A link has left `from` for good.
    pub(super) fn closed(&mut self, from: State, record: &Record, reason: Reason, now: Now) {
        self.open[from as usize] -= 1;
        let Some(relaying_unix_ms) = record.relaying_unix_ms else { return };
        self.recently_closed.truncate(STATS_CLOSED_MAX - 1);
        self.recently_closed.push_front(ClosedLink {
            id: record.id,
            relaying_unix_ms: relaying_unix_ms.get(),
            closed_at: now.at,
            closed_unix_ms: now.unix_ms,
            reason: reason_name(reason),
            bytes: record.ledger.bytes,
        });
    }

    /// A closed link's last bytes are delivered: the account is final.
    pub(super) fn gone(&mut self, record: &Record) {
        if let Some(closed) = self.recently_closed.iter_mut().find(|closed| closed.id == record.id) {
            closed.bytes = record.ledger.bytes;
        }
    }
}

/// The three names that the contract has for why a link ended.
fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::LinkIdle => "idle",
        Reason::SlowPeer => "slow_peer",
        _ => "peer_gone",
    }
}

fn add(sum: &mut [u64; 2], bytes: [u64; 2]) {
    sum[0] += bytes[0];
    sum[1] += bytes[1];
}

impl Link {
    /// How much there is of everything.
    pub fn gauges(&self) -> Gauges {
        let [introduced, pending, relaying] = self.history.open;
        Gauges {
            addresses: self.registry.len() as u64,
            introduced,
            pending,
            relaying,
            total: self.history.total,
            total_relayed: self.history.total_relayed,
        }
    }

    /// This shard's part of `/v1/stats`.
    pub fn stats_part(&self, now: Now) -> StatsPart {
        let rates = &self.config.rates;
        let live = self.links.iter().filter(|record| record.state != State::Closed).take(STATS_LINKS_MAX + 1);
        let live = live.map(|record| {
            let mut budget = record.ledger.budget;
            LiveLink {
                id: record.id,
                state: record.state,
                started_unix_ms: record.started_unix_ms,
                relaying_unix_ms: record.relaying_unix_ms.map(NonZeroU64::get),
                bytes: record.ledger.bytes,
                quota: budget.used(rates, now.at).map(|used| (used, budget.throttled())),
            }
        });
        let live = live.collect();
        StatsPart {
            gauges: self.gauges(),
            bytes: self.history.bytes,
            live,
            closed: self.history.recently_closed.iter().cloned().collect(),
        }
    }
}

/// The answer to `GET /v1/stats` from the parts of the shards that gave one, the numbers of those that did
/// not, and when the process started.
pub fn stats_json(parts: Vec<StatsPart>, missing: &[u16], now: Now, started: Time) -> String {
    let mut sums = Gauges::default();
    let (mut bytes, mut live, mut closed) = ([0; 2], Vec::new(), Vec::new());
    for part in parts {
        sums.add(part.gauges);
        add(&mut bytes, part.bytes);
        live.extend(part.live);
        closed.extend(part.closed);
    }
    live.sort_by_key(|link| (link.started_unix_ms, link.id));
    closed.sort_by_key(|link| Reverse(link.closed_at));
    let truncated = live.len() > STATS_LINKS_MAX;
    let mut json = format!(
        concat!(
            r#"{{"uptimeSec":{},"addressRegistrations":{},"#,
            r#""links":{{"live":{},"relaying":{},"total":{},"totalRelayed":{}}},"bytesRelayed":{{{}}},"#,
            r#""liveLinks":[{}],"recentlyClosed":[{}]"#,
        ),
        now.at.since(started).as_secs(),
        sums.addresses,
        sums.introduced + sums.pending + sums.relaying,
        sums.relaying,
        sums.total,
        sums.total_relayed,
        Bytes(bytes, "fromHost", "fromClient"),
        Listed(&live[..live.len().min(STATS_LINKS_MAX)]),
        Listed(&closed[..closed.len().min(STATS_CLOSED_MAX)]),
    );
    if truncated {
        json.push_str(r#","liveLinksTruncated":true"#);
    }
    if !missing.is_empty() {
        json.push_str(&format!(r#","shardsMissing":[{}]"#, Listed(missing)));
    }
    json.push('}');
    json
}

/// Two byte counts under their names, the host's first.
struct Bytes([u64; 2], &'static str, &'static str);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes, host, client) = self;
        write!(f, r#""{host}":{},"{client}":{}"#, bytes[Leg::Host as usize], bytes[Leg::Client as usize])
    }
}

/// Items with commas between.
struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, item) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for LiveLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever knows the whole id of a link that waits for its host could accept it.
        let id = if self.relaying_unix_ms.is_some() { self.id.to_string() } else { self.id.short() };
        let (state, started) = (self.state.name(), Iso(self.started_unix_ms));
        write!(f, r#"{{"linkId":"{id}","state":"{state}","startedAt":"{started}","#)?;
        if let Some(relaying) = self.relaying_unix_ms {
            write!(f, r#""relayStartedAt":"{}","#, Iso(relaying))?;
        }
        write!(f, "{}", Bytes(self.bytes, "bytesFromHost", "bytesFromClient"))?;
        if let Some((used, throttled)) = self.quota {
            write!(f, r#","usedFraction":{used},"throttled":{throttled}"#)?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for ClosedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, reason) = (self.id, self.reason);
        let (relaying, closed) = (Iso(self.relaying_unix_ms), Iso(self.closed_unix_ms));
        write!(f, r#"{{"linkId":"{id}","relayStartedAt":"{relaying}","closedAt":"{closed}","#)?;
        write!(f, r#""reason":"{reason}",{}}}"#, Bytes(self.bytes, "bytesFromHost", "bytesFromClient"))
    }
}
