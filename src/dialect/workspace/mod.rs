//! The workspace dialect (protocols: Viewport relay wire protocol): one daemon, many clients and workers, let in by a
//! platform.

mod ask;
pub mod claims;
mod note;
mod stats;
mod ticket;
mod verdict;

use std::time::Duration;

pub use self::{
    ask::{Answer, Ask, Denied, Method, Response},
    note::{Details, Level, Note},
    stats::{Counters, Metric},
    ticket::{Claims, Profile, Request, Role, Scope, Ticket},
    verdict::verdict,
};
use super::{Action, Cx, Dialect, Event, Manners, Place};
use crate::{id::ConnId, reason::Reason};

/// The upgrade path.
pub const PATH: &str = "/ws";

/// What the operator chose for the dialect's frames, tables and limiters (workspace.md sections 12, 13, 17, 22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceConfig {
    /// `RELAY_MAX_CLIENTS_PER_WORKSPACE`.
    pub clients_per_scope_max: usize,
    /// `RELAY_MAX_FRAME_BYTES`.
    pub frame_bytes_max: usize,
    /// `RELAY_MAX_PENDING_BYTES`.
    pub pending_bytes_max: usize,
    /// `RELAY_PING_INTERVAL_MS`.
    pub ping_interval: Duration,
    /// `RELAY_PONG_TIMEOUT_MS`.
    pub pong_timeout: Duration,
    /// `RELAY_IDLE_TIMEOUT_MS`.
    pub idle_timeout: Duration,
    /// `RELAY_EMPTY_WORKSPACE_TTL_MS`.
    pub empty_scope_ttl: Duration,
    /// `RELAY_CLEANUP_INTERVAL_MS`.
    pub cleanup_interval: Duration,
    /// `RELAY_PAIRING_REQUEST_TRACK_MAX`.
    pub requests_tracked_max: usize,
    /// `RELAY_SESSION_OWNER_TRACK_MAX`.
    pub owners_tracked_max: usize,
    /// `RELAY_KEX_INIT_RATE_PER_MINUTE` and its keys.
    pub kex: Limit,
    /// `RELAY_PAIRING_RATE_PER_MINUTE` and its keys.
    pub pairing: Limit,
    /// `RELAY_RUNTIME_RATE_PER_MINUTE` and its keys.
    pub runtime_per_client: Limit,
    /// `RELAY_RUNTIME_RATE_PER_MINUTE_WORKSPACE` and its keys.
    pub runtime_per_workspace: Limit,
    /// `RELAY_DAEMON_RUNTIME_RATE_PER_MINUTE` and its keys.
    pub daemon: Limit,
    /// `--workspace-close-on-expiry`.
    pub close_on_expiry: bool,
    /// `RELAY_STATE_INCLUDE_CLIENT_IDS`.
    pub state_names_clients: bool,
}

/// A limiter of workspace.md section 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Events a minute.
    pub per_minute: u32,
    /// Keys remembered at once; above it the least recently asked for is forgotten.
    pub keys_max: usize,
}

impl Default for WorkspaceConfig {
    fn default() -> WorkspaceConfig {
        let limit = |per_minute, keys_max| Limit { per_minute, keys_max };
        WorkspaceConfig {
            clients_per_scope_max: 100,
            frame_bytes_max: 1 << 20,
            pending_bytes_max: 4 << 20,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            empty_scope_ttl: Duration::from_secs(120),
            cleanup_interval: Duration::from_secs(30),
            requests_tracked_max: 2048,
            owners_tracked_max: 4096,
            kex: limit(60, 20_000),
            pairing: limit(30, 20_000),
            runtime_per_client: limit(240, 20_000),
            runtime_per_workspace: limit(1200, 10_000),
            daemon: limit(2400, 10_000),
            close_on_expiry: false,
            state_names_clients: false,
        }
    }
}

impl WorkspaceConfig {
    /// What the workspace contract asks of the shard.
    pub fn manners(&self, role_timeout: Duration) -> Manners {
        Manners {
            message_bytes_max: self.frame_bytes_max,
            too_long: Reason::MessageTooBig,
            queue_bytes_max: self.pending_bytes_max,
            ping_interval: self.ping_interval,
            role_timeout,
            wants_origin: false,
        }
    }
}

/// A timer of this dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// Sweep what is over.
    Cleanup,
    /// A connection's token may have expired.
    Expiry(ConnId),
}

/// One shard's part of the workspace dialect.
#[derive(Debug)]
pub struct Workspace {
    config: WorkspaceConfig,
    place: Place,
    counters: Counters,
}

impl Workspace {
    /// A part without connections.
    pub fn new(config: WorkspaceConfig, place: Place) -> Workspace {
        Workspace { config, place, counters: Counters::default() }
    }

    /// What it counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The shard on which a workspace lives.
    pub fn home(&self, workspace_id: &str) -> u16 {
        self.place.home_of(workspace_id.as_bytes())
    }

    /// Whether the scope that a query names has room for one more client (workspace.md section 3.1, step 9).
    pub fn has_room(&self, _request: &Request) -> bool {
        self.config.clients_per_scope_max > 0
    }
}

impl Dialect for Workspace {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event<'_>) {
        if let Event::Opened { conn, .. } = event {
            cx.actions.push(Action::Settle { conn });
        }
    }
}
