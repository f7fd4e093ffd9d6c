//! The workspace dialect (protocols: Viewport relay wire protocol): one **daemon**, many **clients** and **workers**,
//! let in by a platform.
//!
//! What daemon and clients say to each other is sealed; the relay reads the envelopes and passes them on as they
//! came. A client's messages go to the daemon of its scope, a daemon's to the one client that its request or session
//! belongs to, a worker's become requests to the platform.
//!
//! [`Workspace`] is one shard's part of it. All connections of a workspace are on the workspace's home shard, so it
//! needs no letters and shares no limiter. Promises that a message goes to no socket that it is not meant for, that
//! nothing a connection says after its refusal counts, and that the place of each connection is given back once.
//! Never sees a socket, a clock or the platform.
//!
//! Read on in `arrival` (who may stay), `client`, `daemon` and `worker` (what a message does), `frames` (what a valid
//! one is), `scope` (what is remembered).

mod arrival;
mod ask;
pub mod claims;
mod client;
mod daemon;
mod events;
mod fault;
mod frames;
mod limiters;
mod note;
mod scope;
mod seats;
mod state;
mod stats;
mod statuses;
mod tables;
#[cfg(test)]
mod tests;
mod ticket;
mod upgrade;
mod verdict;
mod worker;

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;

pub use self::{
    ask::{Answer, Ask, Denied, Method, Response},
    note::{Details, Level, Note},
    state::{Gauges, ScopeState},
    stats::{Counters, Metric},
    ticket::{Claims, Profile, Request, Role, Scope, Ticket},
    upgrade::{Asked, Flaw, Knock, Refusal},
    verdict::verdict,
};
use self::{
    limiters::Limiters,
    scope::Scopes,
    seats::{Seat, Seats, Standing},
};
use super::{Action, Backlog, Cx, Dialect, Event, Liveness, Manners, Place};
use crate::{
    dialect,
    id::ConnId,
    limits::WORKSPACE_CLOSE_TIMEOUT,
    reason::Reason,
    time::Time,
    timers::{self, TimerId},
};

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
    /// Keys remembered at once on a shard; above it the least recently asked for is forgotten.
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
            binary_is_text: true,
            queue_bytes_max: self.pending_bytes_max,
            backlog: Backlog::Overflows,
            ping_interval: self.ping_interval,
            liveness: Liveness::Within { pong: self.pong_timeout, idle: self.idle_timeout },
            close_timeout: WORKSPACE_CLOSE_TIMEOUT,
            role_timeout,
            wants_origin: false,
        }
    }
}

/// A timer of this dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// Scope records may be over.
    Cleanup,
    /// Keys of limiters may be idle.
    Sweep,
    /// A connection's token has expired.
    Expiry(ConnId),
    /// A refused connection was held back for long enough.
    Dismiss(ConnId),
}

/// One shard's part of the workspace dialect.
#[derive(Debug)]
pub struct Workspace {
    config: WorkspaceConfig,
    place: Place,
    counters: Counters,
    seats: Seats,
    scopes: Scopes,
    limiters: Limiters,
    /// Daemons and clients.
    members: usize,
    /// Requests of workers that the platform has not answered yet.
    open_requests: usize,
    /// Whether the gauges were ever set.
    counted: bool,
    /// Whether the two regular alarms are armed.
    ticks: bool,
    sweeps: bool,
}

impl Workspace {
    /// A part without connections.
    pub fn new(config: WorkspaceConfig, place: Place) -> Workspace {
        let hasher = place.table_hasher();
        Workspace {
            counters: Counters::default(),
            seats: Seats::default(),
            scopes: Scopes::new(hasher.clone()),
            limiters: Limiters::new(&config, &hasher),
            members: 0,
            open_requests: 0,
            counted: false,
            ticks: false,
            sweeps: false,
            config,
            place,
        }
    }

    /// Whether it keeps nothing of any connection or workspace: for invariants.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.scopes.len() == 0 && self.open_requests == 0 && self.limiters.is_empty()
    }

    /// What it counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counts one of what the shard saw.
    pub fn count(&mut self, metric: Metric, now: Time) {
        self.counters.add(metric, 1, now);
    }

    /// The shard on which a workspace lives.
    pub fn home(&self, workspace_id: &str) -> u16 {
        self.place.home_of(workspace_id.as_bytes())
    }

    /// Whether the scope that a query names has room for one more of its role (workspace.md section 3.1, step 9).
    /// Makes no record.
    pub fn has_room(&self, request: &Request) -> bool {
        if request.role != Role::Client {
            return true;
        }
        let scope = self.scopes.find(&request.workspace_id, request.runtime_target_id.as_deref());
        scope.map_or(0, |scope| scope.clients.len()) < self.config.clients_per_scope_max
    }

    /// The connections of a workspace that live here, whatever their targets and roles: to be closed for the operator.
    pub fn kick(&self, workspace_id: &str) -> Vec<ConnId> {
        let of_it = self.seats.iter().filter(|(_, seat)| *seat.workspace_id == *workspace_id);
        of_it.map(|(conn, _)| conn).collect()
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, conn: ConnId, bytes: &[u8]) {
        // A message of a connection that may not stay has come too early to matter.
        let Some(Seat { role, standing: Standing::Member { .. }, .. }) = self.seats.get(conn) else {
            return;
        };
        let text = String::from_utf8_lossy(bytes);
        let message = Message { text: &text, replaced: matches!(text, Cow::Owned(_)) };
        let done = match role {
            Role::Daemon => self.on_daemon_message(cx, conn, &message),
            Role::Client => self.on_client_message(cx, conn, &message),
            Role::Worker => self.on_worker_message(cx, conn, &message),
        };
        if let Err(fault) = done {
            self.blame(cx, conn, fault);
        }
    }

    /// Removes the records of empty scopes, and what nobody waits for any more.
    fn on_cleanup(&mut self, cx: &mut Cx<'_>) {
        self.counted = true;
        for scope in self.scopes.sweep(self.config.empty_scope_ttl, cx.now.at) {
            self.counters.add(Metric::WorkspaceEvictions, 1, cx.now.at);
            let details = Details { workspace_id: Some(scope.name().into()), ..Details::default() };
            cx.actions.push(Action::Note(Note::info("workspace_evicted", details)));
        }
        self.ticks = false;
        if self.scopes.len() > 0 {
            self.keep_ticking(cx);
        }
    }

    fn on_sweep(&mut self, cx: &mut Cx<'_>) {
        self.limiters.sweep(cx.now.at);
        self.sweeps = false;
        if !self.limiters.is_empty() {
            self.keep_ticking(cx);
        }
    }

    /// Arms the regular alarms. They go on for as long as there is anything to look after.
    fn keep_ticking(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.ticks, true) {
            arm(cx, cx.now.at + self.config.cleanup_interval, Alarm::Cleanup);
        }
        if !std::mem::replace(&mut self.sweeps, true) {
            arm(cx, cx.now.at + self.config.ping_interval, Alarm::Sweep);
        }
    }
}

impl Dialect for Workspace {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event<'_>) {
        match event {
            Event::Opened { conn, opening } => self.on_opened(cx, conn, opening),
            Event::Message { conn, bytes, .. } => self.on_message(cx, conn, bytes),
            Event::Closed { conn, reason } => self.on_closed(cx, conn, reason),
            Event::Answer { conn, answer } => {
                if let Err(fault) = self.on_answer(cx, conn, answer) {
                    self.blame(cx, conn, fault);
                }
            }
            Event::Alarm(dialect::Alarm::Workspace(alarm)) => match alarm {
                Alarm::Cleanup => self.on_cleanup(cx),
                Alarm::Sweep => self.on_sweep(cx),
                Alarm::Expiry(conn) => self.on_expiry(cx, conn),
                Alarm::Dismiss(conn) => self.on_dismiss(cx, conn),
            },
            // The shard tells these to the dialects that ask for them.
            Event::Alarm(_) | Event::Letter { .. } | Event::Usage { .. } => {
                unreachable!("this dialect writes no letters and splices nothing")
            }
            Event::PolicyChanged => {}
        }
    }
}

/// A message as it is understood.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    text: &'a str,
    /// Whether it came with bytes that are no text, so that it is not what came any more.
    replaced: bool,
}

impl Message<'_> {
    /// Passes it on: what was received, from where it lies.
    fn forward(&self, cx: &mut Cx<'_>, to: ConnId) {
        if self.replaced {
            self.fan_out(cx, vec![to]);
        } else {
            cx.actions.push(Action::Forward { to, head: "", body: 0..self.text.len(), tail: "" });
        }
    }

    /// Passes it on to several.
    fn fan_out(&self, cx: &mut Cx<'_>, to: Vec<ConnId>) {
        cx.actions.push(Action::FanOut { to, text: Bytes::copy_from_slice(self.text.as_bytes()) });
    }
}

fn arm(cx: &mut Cx<'_>, at: Time, alarm: Alarm) -> TimerId {
    cx.timers.arm(at, timers::Alarm::Dialect(dialect::Alarm::Workspace(alarm)))
}
