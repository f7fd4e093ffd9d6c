//! What all shards of a relay share: settings, policy, mailboxes, and a few numbers that no message touches.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{ask::Platform, conn::Standing, mail::Mailboxes};
use crate::{
    admin::Access,
    admission::{IpCounts, SharedPolicy, WorkspaceGateSettings},
    config::StatsAccess,
    dialect::{Kind, Manners, pages::Site},
    logs::Ring,
    time::Time,
};

/// The options that the shard itself obeys. Units in the types; zero turns a bound off.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--handshake-timeout`.
    pub handshake_timeout: Duration,
    /// What differs between the dialects' connections, by the dialect's number.
    pub manners: [Manners; Kind::ALL.len()],
    /// `LINK_SLOW_PEER_SEC`.
    pub slow_peer: Duration,
    /// `--splice-min`, bytes; 0 never splices.
    pub splice_bytes_min: usize,
    /// `--outbox-budget`, bytes a shard.
    pub outbox_bytes_max: usize,
    /// `--message-budget`, bytes a shard.
    pub message_bytes_max: usize,
    /// `--max-connections`.
    pub connections_max: usize,
    /// Connections of one shard above which a new one is refused: what its descriptor table holds, less a
    /// reserve for those that move here and for pipes. One that moves here is not refused.
    pub shard_connections_max: usize,
    /// `--max-connections-per-ip`.
    pub connections_per_ip_max: u32,
    /// `--max-handshakes-per-ip`.
    pub handshakes_per_ip_max: u32,
    /// `LINK_TRUST_PROXY`.
    pub trust_proxy: bool,
    /// `--stats`.
    pub stats: StatsAccess,
    /// `METRICS_ENABLED`.
    pub pair_metrics: bool,
    /// What the operator chose for upgrades of the workspace dialect; without it the defaults hold.
    pub workspace: Option<WorkspaceGateSettings>,
}

impl Settings {
    /// How connections of a dialect are treated.
    pub fn manners(&self, kind: Kind) -> &Manners {
        &self.manners[kind as usize]
    }
}

/// What the operator's pages on the public port are made of.
#[derive(Debug)]
pub struct Operator {
    /// Who is let in.
    pub access: Access,
    /// What pages tell of the relay.
    pub site: Site,
    /// `/logs`.
    pub logs: Arc<Ring>,
}

impl Default for Operator {
    fn default() -> Operator {
        Operator { access: Access::default(), site: Site::default(), logs: Arc::new(Ring::new(0)) }
    }
}

/// See the module.
pub struct Shared {
    /// The options.
    pub settings: Settings,
    /// Budgets and allow-lists.
    pub policy: SharedPolicy,
    /// One mailbox a shard.
    pub mailboxes: Mailboxes,
    /// Who carries questions to the platform, where a dialect has any.
    pub platform: Option<Box<dyn Platform>>,
    /// What the operator may see, and who is the operator. Without it nobody is.
    pub operator: Operator,
    /// Open connections of all shards.
    connections: AtomicUsize,
    /// Those that are only told that they are refused, and are none of the open ones.
    refused: AtomicUsize,
    per_ip: IpCounts,
    handshakes: IpCounts,
    pulses: Box<[AtomicU64]>,
    draining: std::sync::atomic::AtomicBool,
    /// The process's start, for `uptimeSec`.
    pub started_at: Time,
}

impl Shared {
    /// For `shards` shards.
    pub fn new(settings: Settings, policy: SharedPolicy, shards: u16, started_at: Time) -> Shared {
        let gate = settings.workspace.clone().unwrap_or_default();
        Shared {
            settings,
            policy: policy.with_workspace_gate(gate),
            mailboxes: Mailboxes::new(shards),
            platform: None,
            operator: Operator::default(),
            connections: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            per_ip: IpCounts::default(),
            handshakes: IpCounts::default(),
            pulses: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            draining: false.into(),
            started_at,
        }
    }

    /// Takes a place among all connections; `false`: there is none.
    pub(super) fn take_place(&self) -> bool {
        let max = self.settings.connections_max;
        let one_more = |open| (max == 0 || open < max).then_some(open + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Counts a connection as one that is only told that it is refused; returns how many of those there are.
    pub(super) fn refused(&self) -> usize {
        self.refused.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts a connection out, and its IP if that was counted.
    pub(super) fn give_back(&self, standing: Standing, ip: Option<IpAddr>) {
        match standing {
            Standing::New => {}
            Standing::Placed => _ = self.connections.fetch_sub(1, Ordering::Relaxed),
            Standing::Refused => _ = self.refused.fetch_sub(1, Ordering::Relaxed),
        }
        if let Some(ip) = ip
            && self.settings.connections_per_ip_max > 0
        {
            self.per_ip.remove(ip);
        }
    }

    /// Open connections of all shards.
    pub fn open_connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection for its IP; `false` is over the bound (and not counted).
    pub(super) fn count_ip(&self, ip: IpAddr) -> bool {
        let limit = self.settings.connections_per_ip_max;
        limit == 0 || self.per_ip.add(ip, limit)
    }

    /// Counts a connection without a whole head for its IP; `false` is over the bound (and not counted).
    pub(super) fn count_handshake(&self, ip: IpAddr) -> bool {
        !self.counts_handshakes() || self.handshakes.add(ip, self.settings.handshakes_per_ip_max)
    }

    /// Counts out one that was counted.
    pub(super) fn uncount_handshake(&self, ip: IpAddr) {
        if self.counts_handshakes() {
            self.handshakes.remove(ip);
        }
    }

    /// Behind a proxy all of them are the proxy's.
    fn counts_handshakes(&self) -> bool {
        self.settings.handshakes_per_ip_max > 0 && !self.settings.trust_proxy
    }

    /// Notes that a shard has turned.
    pub(super) fn pulse(&self, shard: u16, at: Time) {
        self.pulses[usize::from(shard)].store(at.0, Ordering::Relaxed);
    }

    /// The shards that have not turned for `STALL`.
    pub fn stalled(&self, now: Time) -> Vec<u16> {
        let stalled = |pulse: &AtomicU64| now.since(Time(pulse.load(Ordering::Relaxed))) > STALL;
        (0..self.mailboxes.shards()).filter(|shard| stalled(&self.pulses[usize::from(*shard)])).collect()
    }

    /// `/ready` turns 503 from here on.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the relay is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// A shard that has not turned for this long fails `/ready` (DESIGN, "Rules that keep it true").
const STALL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admission::AllowList, dialect::link::LinkConfig};

    #[test]
    fn a_shard_that_has_not_turned_for_five_seconds_is_stalled() {
        let settings = Settings {
            handshake_timeout: STALL,
            manners: Kind::ALL.map(|_| LinkConfig::manners(STALL, STALL)),
            slow_peer: STALL,
            splice_bytes_min: 0,
            outbox_bytes_max: 0,
            message_bytes_max: 0,
            connections_max: 0,
            shard_connections_max: usize::MAX,
            connections_per_ip_max: 0,
            handshakes_per_ip_max: 0,
            trust_proxy: false,
            stats: StatsAccess::Public,
            pair_metrics: false,
            workspace: None,
        };
        let shared = Shared::new(settings, SharedPolicy::new(0, AllowList::default()), 2, Time(0));
        let now = Time(0) + Duration::from_secs(60);
        shared.pulse(0, now - STALL);
        shared.pulse(1, now - STALL - Duration::from_micros(1));
        assert_eq!(shared.stalled(now), [1]);
        shared.pulse(1, now);
        assert!(shared.stalled(now).is_empty());
    }
}
