//! Scope records: who is in a workspace, or in one runtime target of it, and who waits for what (workspace.md sections
//! 5.2 and 12).
//!
//! A record's runtime target is fixed when the record is made. Promises that records are listed in the order in which
//! they were made, and that a socket that is gone is never named once it was told to [`Scope::forget_client`] or
//! [`Scope::forget_daemon`]. Never sends anything.

use std::{collections::HashMap, time::Duration};

use super::{WorkspaceConfig, tables::Owners};
use crate::{
    dialect::place::TableHasher,
    id::ConnId,
    tables::{Key, Table},
    time::{Now, Time},
};

/// One record.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) workspace_id: Box<str>,
    pub(super) runtime_target_id: Option<Box<str>>,
    pub(super) daemon: Option<ConnId>,
    /// The last daemon's `daemonIssueGeneration` that had one.
    pub(super) generation: Option<u64>,
    /// In the order in which they came.
    pub(super) clients: Vec<ConnId>,
    pub(super) key_exchanges: Owners,
    pub(super) sessions: Owners,
    pub(super) pairings: Owners,
    /// By trimmed channel, in the order in which they subscribed; no list is empty.
    subscribers: HashMap<Box<[u8]>, Vec<ConnId>, TableHasher>,
    /// The last registration, or the last end of a daemon or client.
    pub(super) active_at: Now,
    pub(super) made_at: Time,
    /// How many records were made before it.
    pub(super) number: u64,
}

impl Scope {
    /// Its name in the log.
    pub(super) fn name(&self) -> String {
        match &self.runtime_target_id {
            Some(runtime_target_id) => format!("{}:{runtime_target_id}", self.workspace_id),
            None => self.workspace_id.to_string(),
        }
    }

    /// Seats a daemon: sessions of the one before are over, pairings are not.
    pub(super) fn seat_daemon(&mut self, conn: ConnId, generation: Option<u64>) {
        self.daemon = Some(conn);
        self.generation = generation.or(self.generation);
        self.key_exchanges.clear();
        self.sessions.clear();
    }

    /// The daemon is gone; `false` where another has taken its place.
    pub(super) fn forget_daemon(&mut self, conn: ConnId) -> bool {
        let held = self.daemon == Some(conn);
        if held {
            self.daemon = None;
            self.key_exchanges.clear();
            self.sessions.clear();
            self.pairings.clear();
        }
        held
    }

    /// A client is gone.
    pub(super) fn forget_client(&mut self, conn: ConnId, channels: &[Box<[u8]>]) {
        self.clients.retain(|client| *client != conn);
        for owners in [&mut self.key_exchanges, &mut self.sessions, &mut self.pairings] {
            owners.forget(conn);
        }
        for channel in channels {
            self.unsubscribe(channel, conn);
        }
    }

    /// The sockets in a channel.
    pub(super) fn subscribers(&self, channel: &[u8]) -> &[ConnId] {
        self.subscribers.get(channel).map_or(&[], Vec::as_slice)
    }

    pub(super) fn subscribe(&mut self, channel: &[u8], conn: ConnId) {
        if !self.subscribers(channel).contains(&conn) {
            self.subscribers.entry(channel.into()).or_default().push(conn);
        }
    }

    pub(super) fn unsubscribe(&mut self, channel: &[u8], conn: ConnId) {
        if let Some(subscribers) = self.subscribers.get_mut(channel) {
            subscribers.retain(|subscriber| *subscriber != conn);
            if subscribers.is_empty() {
                self.subscribers.remove(channel);
            }
        }
    }

    /// Forgets what is over its time.
    fn prune(&mut self, now: Time) {
        for owners in [&mut self.key_exchanges, &mut self.sessions, &mut self.pairings] {
            owners.prune(now);
        }
    }
}

/// The records.
#[derive(Debug)]
pub(super) struct Scopes {
    by_name: HashMap<Box<str>, Key, TableHasher>,
    records: Table<Scope>,
    made: u64,
    hasher: TableHasher,
}

impl Scopes {
    pub(super) fn new(hasher: TableHasher) -> Scopes {
        Scopes { by_name: HashMap::with_hasher(hasher.clone()), records: Table::new(), made: 0, hasher }
    }

    /// The record of a workspace, or of a runtime target of it, if there is one.
    pub(super) fn find(&self, workspace_id: &str, runtime_target_id: Option<&str>) -> Option<&Scope> {
        self.records.get(*self.by_name.get(&*name(workspace_id, runtime_target_id))?)
    }

    /// The same record, made if there is none, with its key.
    pub(super) fn reach(
        &mut self,
        workspace_id: &str,
        runtime_target_id: Option<&str>,
        config: &WorkspaceConfig,
        now: Now,
    ) -> (Key, &mut Scope) {
        let name = name(workspace_id, runtime_target_id);
        let key = match self.by_name.get(&*name) {
            Some(key) => *key,
            None => {
                let owners = |max, lifetime| Owners::new(max, lifetime, self.hasher.clone());
                let key = self.records.insert(Scope {
                    workspace_id: workspace_id.into(),
                    runtime_target_id: runtime_target_id.map(Box::from),
                    daemon: None,
                    generation: None,
                    clients: Vec::new(),
                    key_exchanges: owners(config.requests_tracked_max, REQUEST_LIFETIME),
                    sessions: owners(config.owners_tracked_max, SESSION_LIFETIME),
                    pairings: owners(config.requests_tracked_max, REQUEST_LIFETIME),
                    subscribers: HashMap::with_hasher(self.hasher.clone()),
                    active_at: now,
                    made_at: now.at,
                    number: self.made,
                });
                self.made += 1;
                self.by_name.insert(name, key);
                key
            }
        };
        (key, self.records.get_mut(key).expect("what has a name has a record"))
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Scope> {
        self.records.get_mut(key)
    }

    /// All records in the order in which they were made.
    pub(super) fn in_order(&self) -> Vec<&Scope> {
        let mut records: Vec<_> = self.records.iter().map(|(_, scope)| scope).collect();
        records.sort_unstable_by_key(|scope| scope.number);
        records
    }

    /// Takes out what has had no daemon, no client and no activity for `ttl`, in order; prunes the rest.
    pub(super) fn sweep(&mut self, ttl: Duration, now: Time) -> Vec<Scope> {
        let is_over = |scope: &Scope| {
            scope.daemon.is_none() && scope.clients.is_empty() && now.since(scope.active_at.at) >= ttl
        };
        let keys: Vec<_> = self.records.iter().map(|(key, scope)| (key, is_over(scope))).collect();
        let mut gone = Vec::new();
        for (key, is_over) in keys {
            if !is_over {
                self.records.get_mut(key).expect("it was just listed").prune(now);
                continue;
            }
            let scope = self.records.remove(key).expect("it was just listed");
            self.by_name.remove(&*name(&scope.workspace_id, scope.runtime_target_id.as_deref()));
            gone.push(scope);
        }
        gone.sort_unstable_by_key(|scope| scope.number);
        gone
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

/// What a record is looked up by. An id may hold a colon, so a line break stands between the two.
fn name(workspace_id: &str, runtime_target_id: Option<&str>) -> Box<str> {
    match runtime_target_id {
        Some(runtime_target_id) => format!("{workspace_id}\n{runtime_target_id}").into(),
        None => workspace_id.into(),
    }
}

/// How long a request waits for its answer.
const REQUEST_LIFETIME: Duration = Duration::from_secs(120);
/// How long a session lasts on which the daemon sends nothing.
const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 60);
