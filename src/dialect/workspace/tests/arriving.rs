//! Section 5: who may stay, and what a registration and its end do.

use std::time::Duration;

use super::{
    super::{Metric, Role, Scope},
    net::{Net, T, Who, envelope, init, offer, offer_response, response},
};
use crate::reason::Reason;

const RUNTIME: Scope = Scope::Runtime;

/// Somebody is refused, with this reason and these entries of the log.
fn assert_refused(net: &mut Net, who: Who, reason: Reason, event: &str, log: &str) {
    let conn = net.open(who.clone());
    if reason == Reason::MissingRuntimeTargetClaim {
        let status = concat!(
            r#"{"type":"relay_status","code":"RUNTIME_TARGET_REQUIRED""#,
            r#","message":"Runtime client must specify a runtime target","workspaceId":"w1""#,
            r#","retryable":false}"#,
        );
        assert_eq!(net.heard(conn), [status]);
    }
    if reason == Reason::DaemonAlreadyConnected {
        net.advance(Duration::from_secs(1));
    }
    assert_eq!(net.closed(conn), Some(reason));
    net.assert_silence();
    let note = net.notes.last().expect("a refusal is logged").clone();
    let details = note.details;
    assert_eq!((note.event, details.reason), (event, Some(log)));
    assert_eq!(details.workspace_id.as_deref(), Some("w1"));
    assert_eq!(details.role, Some(who.request.role.name()));
    assert_eq!(details.ip.as_deref(), Some("192.0.2.1"));
    net.notes.clear();
}

#[test]
fn the_checks_come_in_their_order() {
    let mut net = Net::new();
    // Everything is wrong with them; one after the other is put right.
    let mut who = Who::client(RUNTIME, "c1").claims(|claims| {
        claims.workspace_id = Some(" \u{feff}".into());
        claims.runtime_target_id = Some("rt2".into());
        claims.scope = None;
    });
    let (any, client) = ("connection_rejected", "client_connection_rejected");
    assert_refused(&mut net, who.clone(), Reason::MissingWorkspaceClaim, any, "missing_workspace_claim");
    who = who.claims(|claims| claims.workspace_id = None);
    assert_refused(&mut net, who.clone(), Reason::MissingWorkspaceClaim, any, "missing_workspace_claim");
    who = who.claims(|claims| claims.workspace_id = Some("w2".into()));
    assert_refused(&mut net, who.clone(), Reason::WorkspaceClaimMismatch, any, "workspace_claim_mismatch");
    who = who.claims(|claims| claims.workspace_id = Some("\tw1 ".into()));
    let (reason, log) = (Reason::RuntimeTargetClaimMismatch, "runtime_target_claim_mismatch");
    assert_refused(&mut net, who.clone(), reason, any, log);
    who = who.claims(|claims| claims.runtime_target_id = None);
    assert_refused(&mut net, who.clone(), reason, any, log);
    who = who.request(|request| request.runtime_target_id = None);
    assert_refused(&mut net, who.clone(), Reason::InvalidScopeClaim, client, "invalid_scope_claim");
    let (reason, log) = (Reason::MissingRuntimeTargetClaim, "missing_runtime_target_claim");
    who = who.claims(|claims| claims.scope = Some(Scope::SessionEvents));
    assert_refused(&mut net, who.clone(), reason, any, log);
    who = who.claims(|claims| claims.scope = Some(RUNTIME));
    assert_refused(&mut net, who.clone(), reason, any, log);
    assert_refused(&mut net, Who::daemon().no_target(), reason, any, log);
    assert_eq!(net.count(Metric::WsConnectionsRejected), 9);
    assert!(net.workspace.state().is_empty(), "a refusal makes no record");
    who = who.claims(|claims| claims.runtime_target_id = Some(" rt1\u{a0}".into()));
    net.join(who);
    let state = net.workspace.state();
    assert_eq!(state[0].runtime_target_id.as_deref(), Some(T), "the claim, trimmed, decides");
    net.assert_nothing_left();
}

#[test]
fn pairing_clients_and_workers_need_no_target() {
    let mut net = Net::new();
    let pairing = net.join(Who::client(Scope::Pairing, "c1").no_target());
    net.join(Who::worker("e1"));
    net.say(pairing, &offer("r1"));
    let status = concat!(
        r#"{"type":"relay_status","code":"RUNTIME_TARGET_REQUIRED""#,
        r#","message":"Runtime client must specify a runtime target","workspaceId":"w1""#,
        r#","retryable":false}"#,
    );
    assert_eq!(net.heard(pairing), [status]);
    assert_eq!(net.logged(), [("client_message_dropped", Some("missing_runtime_target"))]);
    assert_eq!(net.count(Metric::ClientMessagesDropped), 1);
    assert_eq!(net.closed(pairing), None);
    net.assert_nothing_left();
}

#[test]
fn a_second_daemon_is_refused_and_held_back() {
    let mut net = Net::new();
    let first = net.join(Who::daemon().generation(1));
    let second = net.open(Who::daemon().generation(2));
    net.advance(Duration::from_millis(999));
    assert_eq!(net.closed(second), None, "it is held back, so that it does not come again at once");
    net.say(second, &envelope("s1"));
    net.advance(Duration::from_millis(1));
    assert_eq!(net.closed(second), Some(Reason::DaemonAlreadyConnected));
    assert_eq!(net.logged(), [("daemon_connection_rejected", Some("daemon_already_connected"))]);
    assert_eq!(net.count(Metric::FramesDaemonToClients), 0, "nothing it says counts");
    // One that leaves by itself meanwhile is not closed again.
    let third = net.open(Who::daemon());
    net.close(third);
    net.advance(Duration::from_secs(2));
    net.close(first);
    net.join(Who::daemon());
    net.assert_nothing_left();
}

#[test]
fn generations_only_rise_for_as_long_as_the_scope_is_remembered() {
    let mut net = Net::new();
    let daemon = "daemon_connection_rejected";
    let stale = "stale_daemon_issue_generation";
    let first = net.join(Who::daemon().generation(5));
    // The generation is judged before the slot.
    assert_refused(&mut net, Who::daemon().generation(4), Reason::StaleDaemonGeneration, daemon, stale);
    net.close(first);
    let lower = net.open(Who::daemon().generation(4));
    assert_eq!(net.closed(lower), Some(Reason::StaleDaemonGeneration));
    let note = net.notes.pop().expect("it is logged");
    assert_eq!((note.details.claim_generation, note.details.latest_generation), (Some(4), Some(5)));
    for generation in [Some(5), Some(6), None] {
        let who = Who::daemon().claims(|claims| claims.daemon_issue_generation = generation);
        let next = net.join(who);
        net.close(next);
    }
    assert_refused(&mut net, Who::daemon().generation(5), Reason::StaleDaemonGeneration, daemon, stale);
    net.join(Who::daemon().target("rt2").generation(1));
    // Two minutes of nothing, and up to half a minute until someone looks.
    net.advance(Duration::from_secs(150));
    let again = net.join(Who::daemon().generation(1));
    net.close(again);
    net.assert_nothing_left();
}

#[test]
fn a_scope_is_evicted_two_minutes_after_its_last_member() {
    let mut net = Net::new();
    let client = net.join(Who::client(RUNTIME, "c1"));
    let worker = net.join(Who::worker("e1"));
    net.advance(Duration::from_secs(149));
    // The worker keeps its record no longer than that.
    assert_eq!(net.logged(), [("workspace_evicted", None)]);
    assert_eq!(net.workspace.state().len(), 1);
    net.advance(Duration::from_secs(3600));
    net.close(client);
    net.advance(Duration::from_secs(119));
    assert_eq!(net.workspace.state().len(), 1);
    assert_eq!(net.count(Metric::WorkspaceEvictions), 1);
    net.advance(Duration::from_secs(31));
    assert!(net.workspace.state().is_empty());
    assert_eq!(net.count(Metric::WorkspaceEvictions), 2);
    let evicted = net.notes.pop().expect("it is logged");
    assert_eq!(evicted.details.workspace_id.as_deref(), Some("w1:rt1"));
    net.close(worker);
    net.assert_nothing_left();
}

#[test]
fn a_daemon_clears_what_the_one_before_left_but_pairings() {
    let mut net = Net::new();
    let (client, pairing) =
        (net.join(Who::client(RUNTIME, "c1")), net.join(Who::client(Scope::Pairing, "c2")));
    // Tracked before there is a daemon.
    net.say(client, &init("early"));
    net.say(pairing, &offer("p1"));
    net.heard(client);
    net.heard(pairing);
    let daemon = net.join(Who::daemon());
    net.lose(daemon, &response("early", "s0"));
    net.pass(daemon, &offer_response("p1"), pairing);
    // Its end clears all three.
    net.exchange_keys(client, daemon, "s1");
    net.say(client, &init("late"));
    net.say(pairing, &offer("p2"));
    net.heard(daemon);
    net.close(daemon);
    let daemon = net.join(Who::daemon());
    net.lose(daemon, &envelope("s1"));
    net.lose(daemon, &response("late", "s2"));
    net.lose(daemon, &offer_response("p2"));
    net.assert_nothing_left();
}

#[test]
fn a_client_takes_its_requests_and_sessions_along() {
    let mut net = Net::new();
    let daemon = net.join(Who::daemon());
    let (client, other) = (net.join(Who::client(RUNTIME, "c1")), net.join(Who::client(RUNTIME, "c2")));
    net.exchange_keys(client, daemon, "s1");
    net.exchange_keys(other, daemon, "s2");
    net.pass(client, &init("r1"), daemon);
    net.close(client);
    let again = net.join(Who::client(RUNTIME, "c1"));
    net.lose(daemon, &envelope("s1"));
    net.lose(daemon, &response("r1", "s3"));
    net.pass(daemon, &envelope("s2"), other);
    net.exchange_keys(again, daemon, "s1");
    net.assert_nothing_left();
}

#[test]
fn comings_and_goings_are_logged() {
    let mut net = Net::new();
    let members = [
        Who::daemon().machine(" m1 "),
        Who::client(RUNTIME, "c1"),
        Who::client(RUNTIME, "c2").claims(|claims| claims.client_id = None),
        Who::worker(" e1 "),
    ];
    let conns: Vec<_> = members.into_iter().map(|who| net.open(who)).collect();
    for conn in conns {
        net.close(conn);
    }
    let mut seen = Vec::new();
    for note in net.notes.drain(..) {
        let details = note.details;
        assert_eq!((details.workspace_id.as_deref(), details.ip.as_deref()), (Some("w1"), Some("192.0.2.1")));
        let who =
            [details.runtime_target_id, details.machine_id, details.client_id, details.managed_executor_id];
        let who: Vec<_> = who.into_iter().flatten().collect();
        seen.push(format!("{} {}{:?}", note.event, who.join(","), details.cleared_current_daemon));
    }
    let want = [
        "daemon_connected rt1,m1None",
        "client_connected c1None",
        "client_connected client_unknownNone",
        "worker_connected e1None",
        "daemon_disconnected rt1,m1Some(true)",
        "client_disconnected c1None",
        "client_disconnected client_unknownNone",
        "worker_disconnected e1None",
    ];
    assert_eq!(seen, want);
    assert_eq!(net.count(Metric::WsConnectionsOpened), 4);
    net.assert_nothing_left();
}

#[test]
fn a_claimed_role_is_not_looked_at_and_only_clients_need_room() {
    let mut net = Net::with(|config| config.clients_per_scope_max = 1);
    let who = Who::client(RUNTIME, "c1");
    assert!(net.workspace.has_room(&who.request));
    assert!(net.workspace.state().is_empty(), "looking makes no record");
    net.join(who.clone());
    assert!(!net.workspace.has_room(&who.request));
    assert!(net.workspace.has_room(&who.clone().target("rt2").request), "another scope");
    assert!(net.workspace.has_room(&who.no_target().request), "the scope without a target is one of its own");
    for role in [Role::Daemon, Role::Worker] {
        let request = Who::daemon().request(|request| request.role = role).request;
        assert!(net.workspace.has_room(&request));
    }
    net.assert_nothing_left();
}

#[test]
fn tokens_end_connections_only_where_that_is_wanted() {
    for wanted in [false, true] {
        let mut net = Net::with(|config| config.close_on_expiry = wanted);
        let exp = (net.now.unix_ms / 1000) as i64 + 60;
        let expires = |exp| move |claims: &mut super::super::Claims| claims.exp = Some(exp);
        let client = net.join(Who::client(RUNTIME, "c1").claims(expires(exp)));
        let daemon = net.join(Who::daemon().claims(expires(exp + 7 * 24 * 3600)));
        let late = net.join(Who::client(RUNTIME, "c2").claims(expires(-1)));
        let gone = net.join(Who::client(RUNTIME, "c3").claims(expires(exp)));
        net.close(gone);
        net.advance(Duration::from_millis(1));
        assert_eq!(net.closed(late), wanted.then_some(Reason::TokenExpired));
        net.advance(Duration::from_secs(59));
        assert_eq!(net.closed(client), None);
        net.advance(Duration::from_secs(1));
        assert_eq!(net.closed(client), wanted.then_some(Reason::TokenExpired));
        assert_eq!(net.closed(daemon), None);
        net.assert_nothing_left();
    }
}
