//! Who may knock at the workspace dialect, and how often (workspace.md section 3.1, steps 1 to 4).
//!
//! All shards share one gate; it is asked once per upgrade and once at the end of what came of it. A place is
//! reserved before the platform is asked, so that upgrades that wait side by side cannot all find the last one free.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::IpAddr,
    time::Duration,
};

use parking_lot::Mutex;

use super::TrustedProxies;
use crate::{
    dialect::workspace::{Refusal, Role},
    time::Time,
};

/// What the operator chose for upgrades of the workspace dialect (workspace.md sections 13, 22 and 24).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceGateSettings {
    /// `RELAY_UPGRADE_RATE_PER_MINUTE`.
    pub upgrades_per_minute: u32,
    /// `RELAY_UPGRADE_BUCKET_MAX`.
    pub upgrade_keys_max: usize,
    /// `RELAY_MAX_TOTAL_CONNECTIONS`: daemons and clients.
    pub connections_max: usize,
    /// `RELAY_MAX_CONNECTIONS_PER_IP`: all roles.
    pub connections_per_ip_max: usize,
    /// `RELAY_TRUSTED_PROXIES`.
    pub trusted_proxies: TrustedProxies,
    /// Whether a token may come in the query: `RELAY_MODE` is `dev`.
    pub query_tokens: bool,
    /// `RELAY_ADMISSION_TIMEOUT_MS`: how long the platform may take.
    pub admission_timeout: Duration,
}

impl Default for WorkspaceGateSettings {
    fn default() -> WorkspaceGateSettings {
        WorkspaceGateSettings {
            upgrades_per_minute: 120,
            upgrade_keys_max: 50_000,
            connections_max: 2000,
            connections_per_ip_max: 50,
            trusted_proxies: TrustedProxies::default(),
            query_tokens: false,
            admission_timeout: Duration::from_secs(2),
        }
    }
}

/// The gate. Promises that never more places are taken than there are.
#[derive(Debug)]
pub struct WorkspaceGate {
    settings: WorkspaceGateSettings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    windows: Windows,
    /// Places of daemons and clients.
    tracked: usize,
    /// Places by address. Invariant: no count is zero.
    per_ip: HashMap<Box<str>, usize>,
}

impl WorkspaceGate {
    /// A gate that nobody has come to.
    pub fn new(settings: WorkspaceGateSettings) -> WorkspaceGate {
        WorkspaceGate { settings, state: Mutex::default() }
    }

    /// The options.
    pub fn settings(&self) -> &WorkspaceGateSettings {
        &self.settings
    }

    /// Step 1: the client's address.
    pub fn client_of(&self, peer: IpAddr, forwarded_for: Option<&str>) -> Box<str> {
        self.settings.trusted_proxies.client_of(peer, forwarded_for)
    }

    /// Step 2: counts an upgrade of this address.
    pub fn charge(&self, ip: &str, now: Time) -> Result<(), Refusal> {
        let WorkspaceGateSettings { upgrades_per_minute, upgrade_keys_max, .. } = self.settings;
        let may = self.state.lock().windows.charge(ip, now, upgrades_per_minute, upgrade_keys_max);
        if may { Ok(()) } else { Err(Refusal::RateLimited) }
    }

    /// Steps 3 and 4, for an upgrade that is refused anyway: what comes before its own refusal.
    pub fn has_place(&self, ip: &str) -> Result<(), Refusal> {
        self.has_place_in(&self.state.lock(), ip)
    }

    /// Steps 3 and 4: takes a place, to be given back by [`WorkspaceGate::leave`].
    pub fn enter(&self, ip: &str, role: Role) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        self.has_place_in(&state, ip)?;
        state.tracked += usize::from(is_tracked(role));
        *state.per_ip.entry(ip.into()).or_insert(0) += 1;
        Ok(())
    }

    /// Gives back a place that was taken.
    pub fn leave(&self, ip: &str, role: Role) {
        let mut state = self.state.lock();
        state.tracked -= usize::from(is_tracked(role));
        match state.per_ip.entry(ip.into()) {
            Entry::Occupied(entry) if *entry.get() <= 1 => {
                entry.remove();
            }
            Entry::Occupied(mut entry) => *entry.get_mut() -= 1,
            Entry::Vacant(_) => debug_assert!(false, "only a place that was taken is given back"),
        }
    }

    /// Places taken: those of daemons and clients, and those of all roles.
    pub fn taken(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.tracked, state.per_ip.values().sum())
    }

    /// Windows that were forgotten before their minute was over: above zero, the upgrade rate is not exact.
    pub fn evicted(&self) -> u64 {
        self.state.lock().windows.evicted
    }

    fn has_place_in(&self, state: &State, ip: &str) -> Result<(), Refusal> {
        if state.tracked >= self.settings.connections_max {
            Err(Refusal::TooManyConnections)
        } else if state.per_ip.get(ip).is_some_and(|count| *count >= self.settings.connections_per_ip_max) {
            Err(Refusal::TooManyOfAddress)
        } else {
            Ok(())
        }
    }
}

/// Workers count for their address only.
fn is_tracked(role: Role) -> bool {
    role != Role::Worker
}

/// Fixed windows of a minute by key, the least recently asked for forgotten first.
///
/// Invariant: `order` holds each key of `windows` once, under its `asked`.
#[derive(Debug, Default)]
struct Windows {
    windows: HashMap<Box<str>, Window>,
    order: BTreeMap<u64, Box<str>>,
    asks: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Window {
    start: Time,
    count: u32,
    asked: u64,
}

impl Windows {
    /// Counts one; `false` is over the rate, and counts nothing.
    fn charge(&mut self, key: &str, now: Time, per_minute: u32, keys_max: usize) -> bool {
        self.asks += 1;
        let asked = self.asks;
        if let Some(window) = self.windows.get_mut(key) {
            let key = self.order.remove(&window.asked).expect("every window has its place in the order");
            self.order.insert(asked, key);
            window.asked = asked;
            if now.since(window.start) >= WINDOW {
                (window.start, window.count) = (now, 0);
            }
            let may = window.count < per_minute;
            window.count += u32::from(may);
            return may;
        }
        self.forget_old(now);
        if self.windows.len() >= keys_max.max(1) {
            let live = self.forget_least_recent(now);
            self.evicted += u64::from(live);
        }
        self.windows.insert(key.into(), Window { start: now, count: u32::from(per_minute > 0), asked });
        self.order.insert(asked, key.into());
        per_minute > 0
    }

    /// Forgets some windows that say nothing any more: more than one, so that they go faster than they come.
    fn forget_old(&mut self, now: Time) {
        for _ in 0..FORGOTTEN_PER_CHARGE {
            let oldest = self.order.first_key_value().and_then(|(_, key)| self.windows.get(key));
            if oldest.is_none_or(|window| now.since(window.start) < WINDOW) {
                return;
            }
            self.forget_least_recent(now);
        }
    }

    /// Whether what is forgotten was still running.
    fn forget_least_recent(&mut self, now: Time) -> bool {
        let forgotten = self.order.pop_first().and_then(|(_, key)| self.windows.remove(&key));
        forgotten.is_some_and(|window| now.since(window.start) < WINDOW)
    }
}

const WINDOW: Duration = Duration::from_secs(60);
const FORGOTTEN_PER_CHARGE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(settings: WorkspaceGateSettings) -> WorkspaceGate {
        WorkspaceGate::new(settings)
    }

    fn after(seconds: u64) -> Time {
        Time(7) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_minute_grants_its_upgrades_and_denials_neither_count_nor_extend() {
        let gate = gate(WorkspaceGateSettings { upgrades_per_minute: 2, ..Default::default() });
        let granted = [0, 1, 2, 59, 60, 61, 62, 119, 120].map(|at| gate.charge("a", after(at)).is_ok());
        assert_eq!(granted, [true, true, false, false, true, true, false, false, true]);
        assert!(gate.charge("b", after(62)).is_ok(), "addresses count apart");
    }

    #[test]
    fn a_limit_of_none_grants_none() {
        let gate = gate(WorkspaceGateSettings { upgrades_per_minute: 0, ..Default::default() });
        assert!(
            [0, 0, 59, 60].into_iter().all(|at| gate.charge("a", after(at)) == Err(Refusal::RateLimited))
        );
    }

    #[test]
    fn above_the_bound_the_least_recently_asked_for_is_forgotten() {
        let settings =
            WorkspaceGateSettings { upgrades_per_minute: 1, upgrade_keys_max: 2, ..Default::default() };
        let gate = gate(settings);
        let granted = ["a", "b", "a", "c", "a", "b"].map(|key| gate.charge(key, after(0)).is_ok());
        assert_eq!(
            granted,
            [true, true, false, true, false, true],
            "b made room for c, being asked longest ago"
        );
        assert_eq!(gate.evicted(), 2);
        let state = gate.state.lock();
        assert_eq!((state.windows.windows.len(), state.windows.order.len()), (2, 2));
    }

    #[test]
    fn windows_that_are_over_go_as_others_come() {
        let gate = gate(WorkspaceGateSettings::default());
        for number in 0..100 {
            assert!(gate.charge(&number.to_string(), after(0)).is_ok());
        }
        for number in 100..140 {
            assert!(gate.charge(&number.to_string(), after(60)).is_ok());
        }
        assert_eq!(gate.evicted(), 0);
        assert_eq!(gate.state.lock().windows.windows.len(), 40);
    }

    #[test]
    fn places_are_those_of_all_and_of_an_address_and_workers_take_only_the_latter() {
        let gate = gate(WorkspaceGateSettings {
            connections_max: 3,
            connections_per_ip_max: 2,
            ..Default::default()
        });
        let enter = |ip: &str, role| gate.enter(ip, role).err();
        assert_eq!(enter("a", Role::Daemon), None);
        assert_eq!(enter("a", Role::Worker), None);
        assert_eq!(enter("a", Role::Client), Some(Refusal::TooManyOfAddress));
        assert_eq!(enter("b", Role::Client), None);
        assert_eq!(enter("b", Role::Client), None);
        assert_eq!(
            enter("a", Role::Worker),
            Some(Refusal::TooManyConnections),
            "the total is looked at first"
        );
        assert_eq!(gate.has_place("c"), Err(Refusal::TooManyConnections));
        gate.leave("b", Role::Client);
        assert_eq!(gate.has_place("c"), Ok(()));
        assert_eq!(gate.has_place("a"), Err(Refusal::TooManyOfAddress));
        for (ip, role) in [("a", Role::Daemon), ("a", Role::Worker), ("b", Role::Client)] {
            gate.leave(ip, role);
        }
        assert_eq!(gate.taken(), (0, 0));
        assert!(gate.state.lock().per_ip.is_empty());
    }

    #[test]
    fn many_shards_at_once_never_take_more_than_there_are() {
        let gate = gate(WorkspaceGateSettings {
            connections_max: 1000,
            connections_per_ip_max: usize::MAX,
            ..Default::default()
        });
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..500).filter(|_| gate.enter("a", Role::Client).is_ok()).count();
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            takers.into_iter().map(|taker| taker.join().expect("takers do not panic")).sum()
        });
        assert_eq!((taken, gate.taken()), (1000, (1000, 1000)));
    }
}
