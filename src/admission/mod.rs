//! Who may do what: register signatures, allow-lists, per-IP budgets, the platform's tokens.
//!
//! [`SharedPolicy`] is the one thing of the control plane that all shards share. It is asked once per
//! `register`, `resolve`, unknown `accept` and new pairing session, never per relayed byte, so plain locks do.

pub mod allow_list;
mod ip_counts;
pub mod ip_table;
pub mod jwks;
mod places;
pub mod register;
#[cfg(test)]
pub mod tests;
mod trusted_proxies;
mod workspace_gate;

use std::net::IpAddr;

use parking_lot::{Mutex, RwLock};

pub use self::{
    allow_list::AllowList,
    ip_counts::IpCounts,
    ip_table::{IpKey, IpTable},
    places::{PlaceBounds, Places},
    trusted_proxies::TrustedProxies,
    workspace_gate::{WorkspaceGate, WorkspaceGateSettings},
};
use crate::{
    dialect::{NoPlace, Policy, workspace::Role},
    time::Now,
};

/// The decisions that need what all shards share.
#[derive(Debug)]
pub struct SharedPolicy {
    requests: Mutex<IpTable>,
    unknown_accepts: Mutex<IpTable>,
    allow_list: RwLock<AllowList>,
    new_sessions: Mutex<IpTable>,
    sessions: Places,
    addresses: Places,
    workspace_gate: WorkspaceGate,
}

impl SharedPolicy {
    /// A policy with an `LINK_IP_RATE_PER_MIN` of `per_minute` (0 = off), for requests and, on an account of
    /// their own, for accepts of unknown links.
    pub fn new(per_minute: u32, allow_list: AllowList) -> SharedPolicy {
        SharedPolicy {
            requests: Mutex::new(IpTable::new(per_minute)),
            unknown_accepts: Mutex::new(IpTable::new(per_minute)),
            allow_list: RwLock::new(allow_list),
            new_sessions: Mutex::new(IpTable::new(0)),
            sessions: Places::new(PlaceBounds::default()),
            addresses: Places::new(PlaceBounds::default()),
            workspace_gate: WorkspaceGate::new(WorkspaceGateSettings::default()),
        }
    }

    /// The same policy with a `PAIR_IP_RATE_PER_MIN` of `per_minute` (0 = off) and places for pairing sessions;
    /// without this both are unlimited.
    pub fn with_sessions(self, per_minute: u32, bounds: PlaceBounds) -> SharedPolicy {
        SharedPolicy {
            new_sessions: Mutex::new(IpTable::new(per_minute)),
            sessions: Places::new(bounds),
            ..self
        }
    }

    /// The same policy with places for registered addresses; without this they are unlimited.
    pub fn with_addresses(self, bounds: PlaceBounds) -> SharedPolicy {
        SharedPolicy { addresses: Places::new(bounds), ..self }
    }

    /// The same policy with another gate of the workspace dialect; without this its options have their defaults.
    pub fn with_workspace_gate(self, settings: WorkspaceGateSettings) -> SharedPolicy {
        SharedPolicy { workspace_gate: WorkspaceGate::new(settings), ..self }
    }

    /// The gate of the workspace dialect.
    pub fn workspace_gate(&self) -> &WorkspaceGate {
        &self.workspace_gate
    }

    /// Pairing sessions of all shards.
    pub fn sessions(&self) -> usize {
        self.sessions.taken()
    }

    /// Registered addresses of all shards.
    pub fn addresses(&self) -> usize {
        self.addresses.taken()
    }

    /// Puts another allow-list in place. The shards have to be told (`dialect::Event::PolicyChanged`).
    pub fn replace_allow_list(&self, allow_list: AllowList) {
        *self.allow_list.write() = allow_list;
    }

    /// Per-IP windows that were forgotten early because the tables were full.
    pub fn evicted(&self) -> u64 {
        self.requests.lock().evicted()
            + self.unknown_accepts.lock().evicted()
            + self.new_sessions.lock().evicted()
            + self.workspace_gate.evicted()
    }
}

impl Policy for SharedPolicy {
    fn charge_request(&self, ip: IpAddr, now: Now) -> bool {
        self.requests.lock().charge(ip, now.at)
    }

    fn charge_unknown_accept(&self, ip: IpAddr, now: Now) -> bool {
        self.unknown_accepts.lock().charge(ip, now.at)
    }

    fn may_register(&self, public_key: &str) -> bool {
        self.allow_list.read().allows(public_key)
    }

    fn charge_session(&self, ip: IpAddr, now: Now) -> bool {
        self.new_sessions.lock().charge(ip, now.at)
    }

    fn take_session_place(&self, ip: IpAddr) -> Result<(), NoPlace> {
        self.sessions.take(ip)
    }

    fn leave_session_place(&self, ip: IpAddr) {
        self.sessions.leave(ip);
    }

    fn take_address_place(&self, ip: IpAddr) -> Result<(), NoPlace> {
        self.addresses.take(ip)
    }

    fn hand_over_address_place(&self, from: IpAddr, to: IpAddr) -> Result<(), NoPlace> {
        self.addresses.hand_over(from, to)
    }

    fn leave_address_place(&self, ip: IpAddr) {
        self.addresses.leave(ip);
    }

    fn leave_workspace_place(&self, ip: &str, role: Role) {
        self.workspace_gate.leave(ip, role);
    }
}
