//! Sections 11, 12 and 15: whose messages go where.

use std::time::Duration;

use serde_json::json;

use super::{
    super::{Metric, Profile, Scope},
    net::{
        Net, Who, envelope, init, key_update, offer, offer_response, redeem, redeem_response, response,
        subscribe,
    },
};
use crate::reason::Reason;

const RUNTIME: Scope = Scope::Runtime;

#[test]
fn a_session_is_set_up_and_used() {
    let mut net = Net::new();
    let daemon = net.join(Who::daemon());
    let (client, other) = (net.join(Who::client(RUNTIME, "c1")), net.join(Who::client(RUNTIME, "c2")));
    net.pass(client, &init("r1"), daemon);
    net.pass(daemon, &response("r1", "s1"), client);
    net.exchange_keys(other, daemon, "s2");
    net.pass(client, &envelope("s1"), daemon);
    net.pass(daemon, &envelope("s1"), client);
    net.pass(daemon, &envelope("s2"), other);
    net.pass(daemon, &key_update("s1"), client);
    let mut again = init("r2");
    again["previousSessionId"] = "s1".into();
    net.pass(client, &again, daemon);
    assert_eq!(net.count(Metric::FramesClientToDaemon), 4);
    assert_eq!(net.count(Metric::FramesDaemonToClients), 5);
    let bytes = [init("r1"), init("for s2"), envelope("s1"), again].map(|said| said.to_string().len() as u64);
    assert_eq!(net.count(Metric::BytesClientToDaemon), bytes.iter().sum::<u64>());
    assert_eq!(net.count(Metric::KeyExchangeResponseRoutedLocal), 2);
    assert_eq!(net.count(Metric::SessionFrameRoutedLocal), 3);
    net.assert_nothing_left();
}

#[test]
fn a_second_answer_and_unknown_sessions_go_nowhere() {
    let mut net = Net::new();
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(RUNTIME, "c1")));
    net.exchange_keys(client, daemon, "s1");
    net.lose(daemon, &response("for s1", "s1"));
    net.lose(daemon, &response("never asked", "s9"));
    let note = net.notes.last().expect("it is logged");
    assert_eq!(note.event, "key_exchange_response_owner_missing");
    assert_eq!(note.details.request_id.as_deref(), Some("never asked"));
    assert_eq!(note.details.session_id.as_deref(), Some("s9"));
    net.notes.clear();
    net.lose(daemon, &response(" ", "s9"));
    net.lose(daemon, &response("r", "\u{feff}"));
    assert_eq!(net.count(Metric::KeyExchangeResponseDropped), 4);
    net.lose(daemon, &envelope("s9"));
    net.lose(daemon, &key_update("s9"));
    assert_eq!(net.count(Metric::SessionFrameDropped), 2);
    assert!(net.logged().is_empty(), "blank ids and unknown sessions are dropped in silence");
    net.lose(daemon, &offer_response("p9"));
    assert_eq!(net.logged(), [("pairing_response_owner_missing", None)]);
    assert_eq!(net.count(Metric::PairingResponseDropped), 1);
    assert_eq!(net.count(Metric::FramesDaemonToClients), 8, "delivered or not");
    assert_eq!(net.closed(daemon), None);
    net.assert_nothing_left();
}

#[test]
fn ids_are_compared_trimmed_but_sessions_looked_up_as_they_come() {
    let mut net = Net::new();
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(RUNTIME, "c1")));
    net.pass(client, &init(" r1\t"), daemon);
    net.pass(daemon, &response("\u{a0}r1", " s1 "), client);
    net.pass(daemon, &envelope("s1"), client);
    net.lose(daemon, &envelope(" s1 "));
    // An id that is blank is not tracked, but passed on.
    net.pass(client, &init("  "), daemon);
    net.lose(daemon, &response("", "s2"));
    // However it is spelled, and with surrogates that stand alone.
    let spelled = init("R").to_string().replace("\"R\"", r#""\u0072\ud800""#);
    net.say_bytes(client, spelled.as_bytes());
    assert_eq!(net.heard_bytes(daemon), [spelled.as_bytes()]);
    let answer = response("R", "s3").to_string().replace("\"R\"", r#""r\uD800""#);
    net.say_bytes(daemon, answer.as_bytes());
    assert_eq!(net.heard_bytes(client), [answer.as_bytes()]);
    net.assert_nothing_left();
}

#[test]
fn long_ids_are_told_apart() {
    let mut net = Net::new();
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(RUNTIME, "c1")));
    let other = net.join(Who::client(RUNTIME, "c2"));
    let long = |end: &str| "x".repeat(100_000) + end;
    net.pass(client, &init(&long("1")), daemon);
    net.pass(other, &init(&long("2")), daemon);
    net.pass(daemon, &response(&long("2"), &long("s2")), other);
    net.pass(daemon, &response(&long("1"), &long("s1")), client);
    net.pass(daemon, &envelope(&long("s2")), other);
    net.pass(daemon, &envelope(&long("s1")), client);
    net.lose(daemon, &envelope(&long("s3")));
    net.assert_nothing_left();
}

#[test]
fn targets_and_workspaces_are_apart() {
    let mut net = Net::new();
    let daemons = [Who::daemon(), Who::daemon().target("rt2"), Who::daemon().workspace("w2")];
    let clients = [
        Who::client(RUNTIME, "c1"),
        Who::client(RUNTIME, "c1").target("rt2"),
        Who::client(RUNTIME, "c1").workspace("w2"),
    ];
    let daemons = daemons.map(|who| net.join(who));
    let clients = clients.map(|who| net.join(who));
    for at in 0..3 {
        net.exchange_keys(clients[at], daemons[at], &format!("s{at}"));
    }
    for at in 0..3 {
        net.pass(clients[at], &envelope("s0"), daemons[at]);
        net.pass(daemons[at], &envelope(&format!("s{at}")), clients[at]);
        net.lose(daemons[at], &envelope(&format!("s{}", (at + 1) % 3)));
    }
    net.assert_nothing_left();
}

#[test]
fn pairings_are_answered_to_who_asked() {
    let mut net = Net::new();
    let daemon = net.join(Who::daemon());
    let (one, two) =
        (net.join(Who::client(Scope::Pairing, "c1")), net.join(Who::client(Scope::Pairing, "c2")));
    net.pass(one, &offer("p1"), daemon);
    net.pass(two, &redeem(" p2 "), daemon);
    net.pass(daemon, &redeem_response("p2 "), two);
    let failed =
        json!({ "type": "relay_pairing_offer_response", "requestId": "p1", "ok": false, "errorCode": "E" });
    net.pass(daemon, &failed, one);
    net.lose(daemon, &failed);
    assert_eq!(net.count(Metric::PairingResponseRoutedLocal), 2);
    net.assert_nothing_left();
}

#[test]
fn a_reused_request_id_takes_the_answer_over() {
    let mut net = Net::new();
    let daemon = net.join(Who::daemon());
    let (one, two) = (net.join(Who::client(RUNTIME, "c1")), net.join(Who::client(RUNTIME, "c2")));
    net.pass(one, &init("r"), daemon);
    net.pass(two, &init("r"), daemon);
    net.pass(daemon, &response("r", "s"), two);
    net.assert_nothing_left();
}

#[test]
fn tables_lose_what_was_inserted_first() {
    let mut net = Net::with(|config| {
        config.requests_tracked_max = 2;
        config.owners_tracked_max = 2;
    });
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(RUNTIME, "c1")));
    for request_id in ["r1", "r2", "r3"] {
        net.pass(client, &init(request_id), daemon);
    }
    net.lose(daemon, &response("r1", "s1"));
    net.pass(daemon, &response("r2", "s2"), client);
    net.pass(daemon, &response("r3", "s3"), client);
    net.exchange_keys(client, daemon, "s4");
    net.lose(daemon, &envelope("s2"));
    net.pass(daemon, &envelope("s3"), client);
    // One that is asked again keeps its place, and a full table makes room even for that.
    net.pass(client, &init("a"), daemon);
    net.pass(client, &init("b"), daemon);
    net.pass(client, &init("b"), daemon);
    net.lose(daemon, &response("a", "s5"));
    net.pass(client, &init("c"), daemon);
    net.pass(daemon, &response("b", "s5"), client);
    net.pass(client, &init("d"), daemon);
    net.pass(client, &init("e"), daemon);
    net.lose(daemon, &response("c", "s5"));
    // Pairings have the same bound, in a table of their own.
    let pairing = net.join(Who::client(Scope::Pairing, "c2"));
    net.pass(client, &init("r5"), daemon);
    for request_id in ["p1", "p2", "p3"] {
        net.pass(pairing, &offer(request_id), daemon);
    }
    net.lose(daemon, &offer_response("p1"));
    net.pass(daemon, &offer_response("p2"), pairing);
    net.pass(daemon, &response("r5", "s5"), client);
    net.assert_nothing_left();
}

#[test]
fn a_request_that_is_asked_again_keeps_its_place_in_the_order() {
    let mut net = Net::with(|config| config.requests_tracked_max = 3);
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(RUNTIME, "c1")));
    for request_id in ["a", "b", "a", "c", "d"] {
        net.pass(client, &init(request_id), daemon);
    }
    net.lose(daemon, &response("a", "s1"));
    net.pass(daemon, &response("b", "s2"), client);
    net.assert_nothing_left();
}

#[test]
fn requests_wait_two_minutes_and_sessions_half_an_hour_from_their_last_use() {
    let mut net = Net::new();
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(RUNTIME, "c1")));
    let (minute, instant) = (Duration::from_secs(60), Duration::from_millis(1));
    net.pass(client, &init("r1"), daemon);
    net.pass(client, &init("r2"), daemon);
    net.advance(2 * minute);
    net.pass(daemon, &response("r1", "s1"), client);
    net.advance(instant);
    net.lose(daemon, &response("r2", "s2"));
    net.advance(30 * minute - instant);
    net.pass(daemon, &envelope("s1"), client);
    net.advance(30 * minute);
    net.pass(daemon, &key_update("s1"), client);
    net.advance(30 * minute + instant);
    net.lose(daemon, &envelope("s1"));
    net.assert_nothing_left();
}

#[test]
fn without_a_daemon_clients_are_told() {
    let mut net = Net::new();
    let client = net.join(Who::client(RUNTIME, "c1").machine(" \"m1\" "));
    net.say(client, &envelope("s1"));
    let status = concat!(
        r#"{"type":"relay_status","code":"DAEMON_UNAVAILABLE""#,
        r#","message":"No machine runtime is connected for this runtime target""#,
        r#","workspaceId":"w1","retryable":true,"runtimeTargetId":"rt1","machineId":"\"m1\""}"#,
    );
    assert_eq!(net.heard(client), [status]);
    let note = net.notes.pop().expect("it is logged");
    assert_eq!((note.event, note.details.reason), ("client_message_dropped", Some("daemon_unavailable")));
    assert_eq!(note.details.machine_id.as_deref(), Some("\"m1\""));
    assert_eq!(note.details.runtime_target_id.as_deref(), Some("rt1"));
    let nameless = net.join(Who::client(RUNTIME, "c2"));
    net.say(nameless, &init("r1"));
    assert_eq!(net.heard(nameless), [status.replace(r#","machineId":"\"m1\"""#, "")]);
    assert_eq!(net.count(Metric::ClientMessagesDropped), 2);
    assert_eq!(net.count(Metric::FramesClientToDaemon), 0);
    assert_eq!(net.closed(client), None);
    let daemon = net.join(Who::daemon());
    net.pass(client, &envelope("s1"), daemon);
    net.assert_nothing_left();
}

#[test]
fn what_is_no_valid_message_is_answered_to_a_client_and_not_to_a_daemon() {
    let mut net = Net::new();
    let daemon = net.join(Who::daemon());
    let clients =
        [RUNTIME, Scope::Pairing, Scope::SessionEvents].map(|scope| net.join(Who::client(scope, "c")));
    let status = concat!(
        r#"{"type":"relay_status","code":"INVALID_FRAME""#,
        r#","message":"client frame must be a valid runtime or pairing control frame""#,
        r#","workspaceId":"w1"}"#,
    );
    for client in clients {
        net.say_bytes(client, b"[]");
        assert_eq!(net.heard(client), [status]);
        assert_eq!(net.logged(), [("client_frame_rejected", Some("invalid_client_frame"))]);
        assert_eq!(net.closed(client), None);
    }
    assert_eq!(net.count(Metric::FramesClientRejected), 3);
    net.say_bytes(daemon, b"{}");
    net.assert_silence();
    assert_eq!(net.logged(), [("daemon_frame_rejected", Some("invalid_daemon_frame"))]);
    assert_eq!(net.count(Metric::FramesDaemonRejected), 1);
    assert_eq!(net.count(Metric::FramesDaemonToClients), 0);
    assert_eq!(net.closed(daemon), None);
    net.assert_nothing_left();
}

#[test]
fn a_session_event_of_a_daemon_is_counted_and_dropped() {
    let mut net = Net::new();
    let daemon = net.join(Who::daemon());
    let viewer = net.join(Who::viewer("c1", &["agent-session:1"]));
    net.say(viewer, &subscribe("agent-session:1"));
    net.heard(viewer);
    let event = json!({
        "schema": "viewport.session_event_relay_frame/v1", "channel": "agent-session:1", "event": {},
    });
    net.lose(daemon, &event);
    assert_eq!(net.logged(), [("daemon_frame_rejected", Some("unroutable_daemon_frame"))]);
    assert_eq!(net.count(Metric::FramesDaemonToClients), 1);
    assert_eq!(net.count(Metric::FramesDaemonRejected), 0);
    net.assert_nothing_left();
}

#[test]
fn scopes_say_what_they_are_for() {
    use Reason::{PairingScopeOnly, RuntimeScopeOnly, SessionEventsScopeRequired};
    let cases = [
        (Scope::Pairing, envelope("s"), PairingScopeOnly, "scope_mismatch_pairing_only"),
        (Scope::Pairing, init("r"), PairingScopeOnly, "scope_mismatch_pairing_only"),
        (RUNTIME, offer("p"), RuntimeScopeOnly, "scope_mismatch_runtime_only"),
        (RUNTIME, redeem("p"), RuntimeScopeOnly, "scope_mismatch_runtime_only"),
        (
            RUNTIME,
            subscribe("agent-session:1"),
            SessionEventsScopeRequired,
            "scope_mismatch_runtime_or_pairing_only",
        ),
        (
            Scope::Pairing,
            subscribe("agent-session:1"),
            SessionEventsScopeRequired,
            "scope_mismatch_runtime_or_pairing_only",
        ),
    ];
    let mut net = Net::new();
    let daemon = net.join(Who::daemon());
    for (number, (scope, said, reason, log)) in cases.into_iter().enumerate() {
        let client = net.join(Who::client(scope, "c"));
        net.say(client, &said);
        assert_eq!(net.closed(client), Some(reason), "{said}");
        assert_eq!(net.logged()[0], ("client_frame_rejected", Some(log)));
        assert_eq!(net.count(Metric::FramesClientRejectedScope), number as u64 + 1);
    }
    let viewer = net.join(Who::client(Scope::SessionEvents, "c"));
    for said in [envelope("s"), init("r"), offer("p")] {
        net.say(viewer, &said);
        let status = concat!(
            r#"{"type":"relay_status","code":"SESSION_EVENTS_SCOPE_ONLY""#,
            r#","message":"session-events scoped clients can only subscribe to authorized session event channels""#,
            r#","workspaceId":"w1"}"#,
        );
        assert_eq!(net.heard(viewer), [status]);
        assert_eq!(net.logged(), [("client_frame_rejected", Some("scope_mismatch_session_events_only"))]);
    }
    assert_eq!(net.closed(viewer), None);
    assert!(net.heard(daemon).is_empty());
    net.assert_nothing_left();
}

#[test]
fn clients_keep_exactly_to_their_profile_and_daemons_to_theirs_or_a_stronger() {
    let weak = Profile::NoiseIk;
    let strong = Profile::NoiseIkPsk2;
    let with = |mut said: serde_json::Value, profile: Profile| {
        said["profile"] = profile.name().into();
        said["pairingPeerId"] = "peer".into();
        said
    };
    for (claimed, said, client_may, daemon_may) in [
        (None, weak, true, true),
        (None, strong, true, true),
        (Some(weak), weak, true, true),
        (Some(weak), strong, false, true),
        (Some(strong), strong, true, true),
        (Some(strong), weak, false, false),
    ] {
        let claim = |who: Who| who.claims(|claims| claims.e2ee_profile = claimed);
        let mut net = Net::new();
        let (daemon, client) = (net.join(claim(Who::daemon())), net.join(claim(Who::client(RUNTIME, "c1"))));
        net.say(client, &with(envelope("s"), said));
        let closed = net.closed(client);
        assert_eq!(closed, (!client_may).then_some(Reason::ClientProfileMismatch));
        assert_eq!(net.heard(daemon).len(), usize::from(client_may));
        if !client_may {
            let note = net.notes.iter().find(|note| note.event == "client_frame_rejected").expect("logged");
            assert_eq!(note.details.reason, Some("profile_mismatch"));
            assert_eq!(note.details.expected_profile, claimed.map(Profile::name));
            assert_eq!(note.details.got_profile, Some(said.name()));
            assert_eq!(net.count(Metric::FramesClientRejectedProfileMismatch), 1);
        }
        net.notes.clear();
        net.say(daemon, &with(envelope("s"), said));
        let closed = net.closed(daemon);
        assert_eq!(closed, (!daemon_may).then_some(Reason::DaemonProfileMismatch));
        if !daemon_may {
            assert_eq!(net.logged()[0], ("daemon_frame_rejected", Some("profile_mismatch")));
            assert_eq!(net.count(Metric::FramesDaemonRejectedProfileMismatch), 1);
            assert_eq!(net.count(Metric::FramesDaemonToClients), 0);
        }
        net.assert_nothing_left();
    }
}

#[test]
fn a_profile_counts_also_where_a_message_needs_none() {
    let mut net = Net::new();
    let who = Who::client(Scope::Pairing, "c1").profile(Profile::NoiseIk);
    let (daemon, client) = (net.join(Who::daemon()), net.join(who));
    let mut said = offer("p1");
    said["profile"] = "another".into();
    net.pass(client, &said, daemon);
    said["profile"] = "noise-ikpsk2".into();
    net.say(client, &said);
    assert_eq!(net.closed(client), Some(Reason::ClientProfileMismatch));
    net.assert_nothing_left();
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_may_become_too_many() {
    let mut net = Net::with(|config| config.frame_bytes_max = 300);
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(RUNTIME, "c1")));
    let said = envelope("s1").to_string();
    let junk = |junk: &[u8]| {
        let (head, tail) = said.split_once("sealed").expect("there it is");
        [head.as_bytes(), junk, tail.as_bytes()].concat()
    };
    net.say_bytes(client, &junk(b"a\xff\xe2\x82z"));
    assert_eq!(net.heard(daemon), [said.replace("sealed", "a\u{fffd}\u{fffd}z")]);
    assert_eq!(net.count(Metric::BytesClientToDaemon), said.len() as u64 - 6 + 8);
    // One that grows to the limit passes, one byte more does not.
    let room = 300 - (said.len() - "sealed".len());
    let fitting = [vec![0xff; room / 3], vec![b'z'; room % 3]].concat();
    net.say_bytes(client, &junk(&fitting));
    assert_eq!(net.heard(daemon).iter().map(String::len).collect::<Vec<_>>(), [300]);
    net.say_bytes(client, &junk(&[&fitting[..], b"z"].concat()));
    assert_eq!(net.closed(client), Some(Reason::FrameTooLarge));
    net.say_bytes(daemon, &[0xff; 101]);
    assert_eq!(net.closed(daemon), Some(Reason::FrameTooLarge));
    assert_eq!(net.count(Metric::WsFrameTooLarge), 2);
    assert_eq!(net.count(Metric::FramesDaemonRejected), 0, "size is judged first");
    net.assert_nothing_left();
}
