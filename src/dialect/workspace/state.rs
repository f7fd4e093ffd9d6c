//! What the dialect tells of itself: the scope records and two gauges (workspace.md sections 2.2 and 20).

use super::{
    Workspace,
    scope::Scope,
    seats::{Member, Standing},
};
use crate::{id::ConnId, time::Time};

/// One scope record. The parts of several shards, put in the order of `made_at`, are the relay's in the order in which
/// the records were made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScopeState {
    /// When the record was made.
    pub made_at: Time,
    /// Its workspace.
    pub workspace_id: Box<str>,
    /// Its runtime target, if it has one.
    pub runtime_target_id: Option<Box<str>>,
    /// Whether its daemon is connected.
    pub daemon_connected: bool,
    /// How many clients are connected.
    pub clients: usize,
    /// Their ids, in the order in which they came and with repeats, where the operator wants them shown.
    pub client_ids: Option<Vec<Box<str>>>,
    /// The last registration, or the last end of a daemon or client, in milliseconds since the Unix epoch.
    pub active_at_unix_ms: u64,
}

/// How much there is of what is counted as it comes and goes. Those of several shards add up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gauges {
    /// `relay_connections_total`: daemons and clients.
    pub connections: usize,
    /// `relay_workspaces_total`: scope records.
    pub workspaces: usize,
}

impl Workspace {
    /// The scope records that live here, in the order in which they were made.
    pub fn state(&self) -> Vec<ScopeState> {
        self.scopes.in_order().into_iter().map(|scope| self.describe(scope)).collect()
    }

    /// The gauges; `None` before the first registration, end of a member, or cleanup.
    pub fn gauges(&self, now: Time) -> Option<Gauges> {
        let gauges = Gauges { connections: self.members, workspaces: self.scopes.len() };
        // While there is nothing to clean up no timer is armed for it.
        (self.counted || now >= Time::default() + self.config.cleanup_interval).then_some(gauges)
    }

    fn describe(&self, scope: &Scope) -> ScopeState {
        let client_ids = || scope.clients.iter().filter_map(|conn| self.client_id(*conn)).collect();
        ScopeState {
            made_at: scope.made_at,
            workspace_id: scope.workspace_id.clone(),
            runtime_target_id: scope.runtime_target_id.clone(),
            daemon_connected: scope.daemon.is_some(),
            clients: scope.clients.len(),
            client_ids: self.config.state_names_clients.then(client_ids),
            active_at_unix_ms: scope.active_at.unix_ms,
        }
    }

    fn client_id(&self, conn: ConnId) -> Option<Box<str>> {
        match &self.seats.get(conn)?.standing {
            Standing::Member { member: Member::Client(client), .. } => Some(client.client_id.clone()),
            _ => None,
        }
    }
}
