//! Section 13: how often something may happen.

use std::time::Duration;

use super::{
    super::{
        Limit, Metric, Role, Scope,
        limiters::{Buckets, Windows},
    },
    net::{Net, Who, envelope, init, offer},
};
use crate::{dialect::Place, id::ConnId, reason::Reason, time::Time};

const RUNTIME: Scope = Scope::Runtime;

fn place() -> Place {
    Place { shard: 0, shards: 1, relay: 0, hash_key: *b"a key for tables" }
}

fn limit(per_minute: u32, keys_max: usize) -> Limit {
    Limit { per_minute, keys_max }
}

fn at(ms: u64) -> Time {
    Time(1_000_000) + Duration::from_millis(ms)
}

#[test]
fn a_window_starts_with_the_first_event_and_refusals_do_not_count() {
    let mut windows = Windows::new(limit(2, 10), place().table_hasher());
    assert!(windows.take("a", at(5)) && windows.take("a", at(30_000)));
    assert!(!windows.take("a", at(30_000)) && !windows.take("a", at(60_004)));
    assert!(windows.take("b", at(60_004)));
    assert!(
        windows.take("a", at(60_005)) && windows.take("a", at(120_004)) && !windows.take("a", at(120_004))
    );
    assert!(windows.take("a", at(120_005)));
}

#[test]
fn a_bucket_fills_continuously_and_loses_nothing_by_being_asked() {
    let mut buckets = Buckets::new(limit(3, 10), place().table_hasher());
    for _ in 0..3 {
        assert!(buckets.take("a", at(0)));
    }
    // A token every 20 s, however often it is asked for meanwhile.
    for ms in (0..20_000).step_by(7) {
        assert!(!buckets.take("a", at(ms)));
    }
    assert!(buckets.take("a", at(20_000)) && !buckets.take("a", at(20_000)));
    assert!(!buckets.take("a", at(39_999)) && buckets.take("a", at(40_000)));
    // Never fuller than full.
    for _ in 0..3 {
        assert!(buckets.take("a", at(10_000_000)));
    }
    assert!(!buckets.take("a", at(10_000_000)));
    // A clock that goes back gives nothing.
    assert!(!buckets.take("a", at(9_000_000)) && !buckets.take("a", at(10_000_000)));
}

#[test]
fn a_rate_that_does_not_divide_the_minute_is_kept_over_hours() {
    let mut buckets = Buckets::new(limit(7, 10), place().table_hasher());
    let granted = (0..36_000_000u64).step_by(997).filter(|ms| buckets.take("a", at(*ms))).count();
    assert_eq!(granted, 7 + 7 * 600 - 1, "the capacity, and what flowed in ten hours but for the last part");
}

#[test]
fn over_the_bound_the_key_least_recently_asked_for_is_forgotten() {
    let mut windows = Windows::new(limit(1, 2), place().table_hasher());
    assert!(windows.take("a", at(0)) && windows.take("b", at(1)));
    assert!(!windows.take("a", at(2)), "asking touches it, also in vain");
    assert!(windows.take("c", at(3)));
    assert_eq!(windows.len(), 2);
    assert!(!windows.take("a", at(4)) && windows.take("b", at(5)));
    windows.sweep(at(120_004));
    assert_eq!(windows.len(), 2);
    windows.sweep(at(120_005));
    assert_eq!(windows.len(), 1, "idle for more than two windows");
    windows.sweep(at(120_006));
    assert_eq!(windows.len(), 0);
}

/// Lets a client say something until it is closed; how often that went well.
fn until_closed(net: &mut Net, conn: ConnId, said: &serde_json::Value) -> u64 {
    let mut count = 0;
    while net.closed(conn).is_none() {
        net.say(conn, said);
        count += 1;
        assert!(count < 10_000, "there is no limit");
    }
    count - 1
}

#[test]
fn key_exchanges_and_pairings_are_limited_by_workspace_client_and_address() {
    let mut net = Net::new();
    let cases = [
        (RUNTIME, init("r"), 60, Reason::KeyExchangeRateLimited, Metric::FramesClientKexRateLimited),
        (Scope::Pairing, offer("p"), 30, Reason::PairingRateLimited, Metric::FramesClientPairingRateLimited),
    ];
    for (scope, said, per_minute, reason, metric) in cases {
        let who = || Who::client(scope, "c1");
        let conn = net.join(who());
        net.notes.clear();
        assert_eq!(until_closed(&mut net, conn, &said), per_minute);
        assert_eq!((net.closed(conn), net.count(metric)), (Some(reason), 1));
        let logged: Vec<_> =
            net.logged().into_iter().filter(|(event, _)| *event == "client_frame_rate_limited").collect();
        let wanted = [("client_frame_rate_limited", Some("kex_rate_limit"))];
        assert_eq!(logged, wanted[..usize::from(scope == RUNTIME)]);
        // A new connection does not help, another client, address or workspace has its own.
        let again = net.join(who());
        assert_eq!(until_closed(&mut net, again, &said), 0);
        for other in [who().ip("192.0.2.2"), who().workspace("w2"), Who::client(scope, "c2")] {
            let other = net.join(other);
            assert_eq!(until_closed(&mut net, other, &said), per_minute);
        }
        net.advance(Duration::from_secs(60));
        let later = net.join(who());
        assert_eq!(until_closed(&mut net, later, &said), per_minute);
    }
    net.assert_nothing_left();
}

#[test]
fn envelopes_are_limited_by_client_and_then_by_workspace() {
    let mut net = Net::new();
    let daemon = net.join(Who::daemon());
    let mut passed = 0;
    for (client_id, allowed) in [("a", 240), ("b", 240), ("c", 240), ("d", 240), ("e", 240), ("f", 0)] {
        let conn = net.join(Who::client(RUNTIME, client_id));
        assert_eq!(until_closed(&mut net, conn, &envelope("s")), allowed, "{client_id}");
        assert_eq!(net.closed(conn), Some(Reason::RuntimeRateLimited));
        passed += allowed;
    }
    assert_eq!(net.heard(daemon).len() as u64, passed);
    assert_eq!(net.count(Metric::FramesClientRuntimeRateLimited), 6);
    // The same ids in another workspace have budgets of their own.
    let elsewhere = net.join(Who::client(RUNTIME, "a").workspace("w2"));
    net.say(elsewhere, &envelope("s"));
    assert_eq!(net.closed(elsewhere), None);
    net.heard(elsewhere);
    // Four a second for a client; the five that refused clients tried cost the workspace nothing.
    net.advance(Duration::from_millis(500));
    let conn = net.join(Who::client(RUNTIME, "a"));
    assert_eq!(until_closed(&mut net, conn, &envelope("s")), 2);
    net.heard(daemon);
    net.assert_nothing_left();
}

#[test]
fn daemons_and_workers_draw_on_one_bucket_also_with_what_is_invalid() {
    let mut net = Net::with(|config| config.daemon.per_minute = 10);
    let (daemon, other) = (net.join(Who::daemon()), net.join(Who::daemon().target("rt2")));
    let worker = net.join(Who::worker("e1"));
    for conn in [daemon, worker, other, daemon, worker] {
        net.say_bytes(conn, b"junk");
        net.say_bytes(conn, b"junk");
        net.assert_silence();
    }
    assert_eq!(net.count(Metric::FramesDaemonRejected), 10);
    net.notes.clear();
    net.say_bytes(worker, b"junk");
    assert_eq!(net.closed(worker), Some(Reason::WorkerRateLimited));
    assert_eq!(net.logged()[0], ("worker_frame_rate_limited", None));
    net.say_bytes(daemon, b"junk");
    assert_eq!(net.closed(daemon), Some(Reason::DaemonRateLimited));
    assert_eq!(net.logged()[0], ("daemon_frame_rate_limited", None));
    assert_eq!(net.count(Metric::FramesDaemonRateLimited), 2);
    net.advance(Duration::from_secs(6));
    net.say_bytes(other, b"junk");
    assert_eq!(net.closed(other), None);
    let elsewhere = net.join(Who::daemon().workspace("w2"));
    assert_eq!(until_closed(&mut net, elsewhere, &envelope("s")), 10);
    net.assert_nothing_left();
}

#[test]
fn what_a_workspace_used_up_is_kept_until_it_says_nothing_any_more() {
    let mut net = Net::new();
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(RUNTIME, "c1")));
    net.say(client, &envelope("s1"));
    net.close(client);
    net.close(daemon);
    assert!(!net.workspace.limiters.is_empty());
    net.assert_nothing_left();
}

#[test]
fn a_limited_message_changes_nothing() {
    let mut net = Net::with(|config| config.kex.per_minute = 1);
    let daemon = net.join(Who::daemon());
    let (one, two) = (net.join(Who::client(RUNTIME, "c")), net.join(Who::client(RUNTIME, "c")));
    net.pass(one, &init("r"), daemon);
    net.say(two, &init("r"));
    assert_eq!(net.closed(two), Some(Reason::KeyExchangeRateLimited));
    net.pass(daemon, &super::net::response("r", "s"), one);
    assert_eq!(net.count(Metric::FramesClientToDaemon), 1);
    // Roles that clients' limits are not for are not touched by them.
    let worker = Who::worker("e").request(|request| request.role = Role::Worker);
    net.join(worker);
    net.assert_nothing_left();
}
