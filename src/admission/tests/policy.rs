//! What the tables that all shards share count together.

use std::net::IpAddr;

use parking_lot::Mutex;

use super::super::{AllowList, IpTable, SharedPolicy, WorkspaceGateSettings};
use crate::{
    dialect::Policy,
    time::{Now, Time},
};

#[test]
fn windows_forgotten_early_are_counted_over_all_tables() {
    let settings =
        WorkspaceGateSettings { upgrades_per_minute: 1, upgrade_keys_max: 1, ..Default::default() };
    let policy = SharedPolicy {
        requests: Mutex::new(IpTable::with_bound(1, 1)),
        unknown_accepts: Mutex::new(IpTable::with_bound(1, 1)),
        new_sessions: Mutex::new(IpTable::with_bound(1, 1)),
        ..SharedPolicy::new(0, AllowList::default()).with_workspace_gate(settings)
    };
    let now = Now { at: Time(7), unix_ms: 7 };
    let ips = (1..=9).map(|number| IpAddr::from([192, 0, 2, number]));
    // Of so many, all but the last.
    ips.clone().take(2).for_each(|ip| assert!(policy.charge_request(ip, now)));
    ips.clone().take(3).for_each(|ip| assert!(policy.charge_unknown_accept(ip, now)));
    ips.clone().take(5).for_each(|ip| assert!(policy.charge_session(ip, now)));
    ips.take(9).for_each(|ip| assert!(policy.workspace_gate().charge(&ip.to_string(), now.at).is_ok()));
    assert_eq!(policy.evicted(), 1 + 2 + 4 + 8);
}
