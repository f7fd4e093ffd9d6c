//! How the relay of a run is set up: shards, options, and how many peers it gets.

use std::{sync::Arc, time::Duration};

use super::{
    dice::Dice, driver::SimDriver, network, pair::MESSAGE_BYTES_MAX as PAIR_MESSAGE_BYTES_MAX,
    workspace::MESSAGE_BYTES_MAX as WORKSPACE_MESSAGE_BYTES_MAX,
};
use crate::{
    admission::{AllowList, SharedPolicy, WorkspaceGateSettings},
    config::StatsAccess,
    dialect::{
        Dialects, Kind, Place,
        link::{Link, LinkConfig},
        pair::{Pair, PairConfig},
        workspace::{Limit, Workspace, WorkspaceConfig},
    },
    limits::{PING_INTERVAL, ROLE_TIMEOUT},
    pacing::Rates,
    shard::{self, Shard, shared::Settings},
    time::Time,
};

/// The relay and the crowd of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Shards.
    pub shards: u16,
    /// Hosts.
    pub hosts: usize,
    /// Clients.
    pub clients: usize,
    /// Peers that are neither.
    pub strangers: usize,
    /// Pairs of devices.
    pub couples: usize,
    /// The members of each workspace.
    pub crews: Vec<usize>,
    /// `SESSION_TTL_SECONDS`.
    pub ttl: Duration,
    /// `LINK_RELAY_IDLE_SEC`.
    pub idle: Duration,
    /// There are hundreds of hosts and clients.
    pub is_crowd: bool,
    rates: Rates,
    per_minute: u32,
    settings: Settings,
    hash_key: [u8; 16],
    workspace: Option<WorkspaceConfig>,
}

impl Plan {
    /// The plan of a run.
    pub fn draw(dice: &mut Dice) -> Plan {
        let mut hash_key = [0; 16];
        dice.fill(&mut hash_key);
        let unlimited = dice.chance(500_000);
        let rates = Rates {
            rate_bps: if unlimited || dice.chance(300_000) {
                0
            } else {
                dice.between(10_000, 1_000_000) as u64
            },
            hourly_bytes: if unlimited || dice.chance(500_000) { 0 } else { dice.size(1_000_000) as u64 },
            trickle_bps: dice.between(10_000, 100_000) as u64,
        };
        Plan {
            shards: dice.between(1, 4) as u16,
            hosts: dice.between(1, 4),
            clients: dice.between(1, 12),
            strangers: dice.below(4),
            couples: dice.below(4),
            crews: Vec::new(),
            ttl: Duration::from_secs(dice.between(5, 30) as u64),
            idle: Duration::from_secs(dice.between(60, 400) as u64),
            is_crowd: false,
            rates,
            per_minute: if dice.chance(800_000) { 0 } else { dice.between(5, 60) as u32 },
            settings: Settings {
                handshake_timeout: Duration::from_secs(10),
                manners: Kind::ALL.map(|kind| match kind {
                    Kind::Link => LinkConfig::manners(PING_INTERVAL, ROLE_TIMEOUT),
                    Kind::Pair => pair_config(Duration::ZERO).manners(PING_INTERVAL, ROLE_TIMEOUT),
                    Kind::Workspace => WorkspaceConfig::default().manners(ROLE_TIMEOUT),
                }),
                slow_peer: Duration::from_secs(30),
                splice_bytes_min: if dice.chance(250_000) { 0 } else { dice.size(100_000) },
                outbox_bytes_max: dice.size(1 << 20),
                message_bytes_max: PAIR_MESSAGE_BYTES_MAX.max(WORKSPACE_MESSAGE_BYTES_MAX)
                    + dice.size(1 << 20),
                connections_max: 0,
                shard_connections_max: usize::MAX,
                connections_per_ip_max: 0,
                handshakes_per_ip_max: 0,
                trust_proxy: dice.chance(500_000),
                stats: StatsAccess::Public,
                pair_metrics: false,
                workspace: None,
            },
            hash_key,
            workspace: None,
        }
    }

    /// Adds workspaces to a plan: drawn last, so that what a seed was before it stays.
    pub fn with_workspaces(mut self, dice: &mut Dice) -> Plan {
        self.crews = (0..dice.below(4)).map(|_| dice.between(1, 5)).collect();
        if self.crews.is_empty() {
            return self;
        }
        let often = Limit { per_minute: 1_000_000, keys_max: 1000 };
        let config = WorkspaceConfig {
            frame_bytes_max: WORKSPACE_MESSAGE_BYTES_MAX,
            pending_bytes_max: 2_000 + dice.size(150_000),
            kex: often,
            pairing: often,
            runtime_per_client: often,
            runtime_per_workspace: often,
            daemon: often,
            ..WorkspaceConfig::default()
        };
        // One that takes nothing at the moment is closed while more waits for all than may.
        self.settings.outbox_bytes_max = self.settings.outbox_bytes_max.max(512 * 1024);
        self.settings.manners[Kind::Workspace as usize] = config.manners(ROLE_TIMEOUT);
        self.settings.workspace = Some(WorkspaceGateSettings {
            upgrades_per_minute: 1_000_000,
            query_tokens: true,
            ..WorkspaceGateSettings::default()
        });
        self.workspace = Some(config);
        self
    }

    /// In few runs, a crowd: hundreds of hosts and clients, with little to say each. Drawn behind the workspaces,
    /// for the same reason.
    pub fn with_a_crowd(mut self, dice: &mut Dice) -> Plan {
        self.is_crowd = dice.chance(20_000);
        if self.is_crowd {
            (self.hosts, self.clients) = (dice.between(40, 120), dice.between(200, 400));
            // A budget for one address is not what a crowd is for.
            self.per_minute = 0;
        }
        self
    }

    /// The plan of a scenario: one shard, links at `rates`, frames of `splice_bytes_min` leave by a pipe.
    #[cfg(test)]
    pub(super) fn of_a_scenario(rates: Rates, splice_bytes_min: usize) -> Plan {
        let drawn = Plan::draw(&mut Dice::new(0));
        let settings = Settings { splice_bytes_min, outbox_bytes_max: 1 << 20, ..drawn.settings.clone() };
        Plan { shards: 1, idle: Duration::from_secs(300), rates, per_minute: 0, settings, ..drawn }
    }

    /// The same, with as many bytes that may wait for a connection of a link.
    #[cfg(test)]
    pub(super) fn queueing(mut self, bytes_max: usize) -> Plan {
        self.settings.manners[Kind::Link as usize].queue_bytes_max = bytes_max;
        self
    }

    /// The plan of some shards that serve workspaces.
    #[cfg(test)]
    pub(super) fn of_workspaces(
        shards: u16,
        gate: crate::admission::WorkspaceGateSettings,
        config: WorkspaceConfig,
    ) -> Plan {
        let drawn = Plan::draw(&mut Dice::new(0));
        let mut manners = drawn.settings.manners.clone();
        manners[Kind::Workspace as usize] = config.manners(ROLE_TIMEOUT);
        let settings = Settings {
            manners,
            trust_proxy: false,
            outbox_bytes_max: 1 << 20,
            workspace: Some(gate),
            ..drawn.settings.clone()
        };
        Plan { shards, per_minute: 0, settings, workspace: Some(config), ..drawn }
    }

    /// The same plan with another `--outbox-budget`.
    #[cfg(test)]
    pub(super) fn with_outbox_budget(mut self, bytes: usize) -> Plan {
        self.settings.outbox_bytes_max = bytes;
        self
    }

    /// Whether links have a rate.
    pub fn is_paced(&self) -> bool {
        !self.rates.is_unlimited()
    }

    /// What the shards share.
    pub fn shared(&self, started_at: Time) -> shard::Shared {
        let policy = SharedPolicy::new(self.per_minute, AllowList::default());
        shard::Shared::new(self.settings.clone(), policy, self.shards, started_at)
    }

    /// The shards, accepting.
    pub fn start_shards(
        &self,
        network: &network::Shared,
        relay: &Arc<shard::Shared>,
        dice: &mut Dice,
    ) -> Vec<Shard<SimDriver>> {
        let start = |number| {
            let driver = SimDriver::new(network.clone(), number);
            let dialects = self.dialects(number);
            let mut shard = Shard::new(driver, number, Arc::clone(relay), dialects, dice.generator());
            shard.start();
            shard
        };
        (0..self.shards).map(start).collect()
    }

    /// The dialects of one shard.
    pub fn dialects(&self, shard: u16) -> Dialects {
        let config =
            LinkConfig { rates: self.rates, idle: self.idle, origin: None, verifications_per_sec: 0 };
        let place = Place { shard, shards: self.shards, relay: 0, hash_key: self.hash_key };
        let pair = Pair::new(pair_config(self.ttl), place.clone());
        Dialects {
            workspace: self.workspace.clone().map(|config| Workspace::new(config, place.clone())),
            link: Some(Link::new(config, place)),
            pair: Some(pair),
        }
    }
}

fn pair_config(ttl: Duration) -> PairConfig {
    PairConfig {
        rendezvous_url: "ws://relay.test".into(),
        ttl,
        origins: None,
        message_bytes_max: PAIR_MESSAGE_BYTES_MAX,
    }
}
