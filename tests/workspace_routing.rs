//! Who gets which frame: key exchanges, sessions, pairing, scopes and profiles.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 7: client frames | `client_frames_outside_their_rules_are_answered_and_the_client_stays` |
//! | 8: daemon frames | `daemon_frames_outside_their_rules_are_dropped_without_a_word` |
//! | 11.1, 11.2: scopes and profiles | the `scope` and `profile` tests |
//! | 12: tables | the `key_exchange`, `session`, `pairing` and `cap` tests |
//! | 15: no daemon | `a_client_without_daemon_is_told_and_stays` |

mod support;

use serde_json::{Value, json};
use support::{
    Heard, PATIENCE, Peer, Relay,
    end::End,
    every_cell,
    workspace::{
        Caller, Session, TARGET, agree, counted, expect_policy, passes, say, setup, start, status,
        until_clients, until_counted, until_daemon, until_logged,
    },
};

/// A message with one of its keys set.
fn with(mut message: Value, key: &str, value: Value) -> Value {
    message[key] = value;
    message
}

/// A message without one of its keys.
fn without(mut message: Value, key: &str) -> Value {
    message.as_object_mut().expect("an object").remove(key);
    message
}

fn init_v2(request: &str) -> Value {
    json!({
        "type": "relay_key_exchange_init", "version": 2, "profile": "noise-ik", "requestId": request,
        "clientPublicKey": "", "clientNonce": "", "clientProof": "", "previousSessionId": 7,
    })
}

fn response_v2(request: &str, session: &str) -> Value {
    json!({
        "type": "relay_key_exchange_response", "version": 2, "profile": "noise-ik", "requestId": request,
        "daemonNonce": "nonce", "sessionId": session, "proof": "proof", "epoch": -0.5,
    })
}

fn event_frame(channel: &str) -> Value {
    json!({ "schema": "viewport.session_event_relay_frame/v1", "channel": channel, "event": null })
}

#[test]
fn client_frames_within_their_rules_pass_as_they_are() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let mut pairing = Caller::pairing("w1", TARGET, "c2").call(&relay);
        for message in [
            say::envelope("s", 1),
            with(with(say::envelope("s", 1), "seq", json!(1e20)), "epoch", json!(3.0)),
            with(say::envelope("s", 1), "profile", json!("noise-ikpsk2")),
            with(say::envelope("s", 1), "extra", json!({ "a": [null] })),
            say::init("r1"),
            with(
                with(say::init(""), "clientEphemeralPublicKey", json!("")),
                "encryptedClientStatic",
                json!(""),
            ),
            with(with(say::init("r"), "profile", json!("noise-ikpsk2")), "pairingPeerId", json!("p")),
            init_v2("r2"),
            with(with(init_v2("r"), "profile", json!("noise-ikpsk2")), "pairingPeerId", json!("p")),
        ] {
            passes(&mut client, &message, &mut daemon);
        }
        for message in [
            say::offer("r1"),
            with(say::offer("r1"), "ttlSeconds", json!(30)),
            with(say::offer("r1"), "ttlSeconds", json!(3600)),
            say::redeem("r2"),
        ] {
            passes(&mut pairing, &message, &mut daemon);
        }
        until_counted(&relay, "relay_frames_client_to_daemon_total", 13);
        assert_eq!(counted(&relay, "relay_frames_client_rejected_total"), 0);
    });
}

#[test]
fn client_frames_outside_their_rules_are_answered_and_the_client_stays() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let mut pairing = Caller::pairing("w1", TARGET, "c2").call(&relay);
        let mut viewer = Caller::viewer("w1", TARGET, "c3", &["agent-session:1"]).call(&relay);
        let envelope = say::envelope("s", 1);
        let psk = |message: Value| with(message, "profile", json!("noise-ikpsk2"));
        let channel = "agent-session:1";
        let for_clients = [
            json!({}),
            json!({ "type": "e2ee" }),
            with(envelope.clone(), "type", json!("E2EE")),
            with(envelope.clone(), "version", json!("2")),
            with(envelope.clone(), "version", json!(3)),
            with(envelope.clone(), "profile", json!("noise")),
            without(envelope.clone(), "profile"),
            with(envelope.clone(), "sessionId", json!(" \u{feff}")),
            with(envelope.clone(), "iv", json!("")),
            with(envelope.clone(), "tag", json!(1)),
            without(envelope.clone(), "ciphertext"),
            with(envelope.clone(), "epoch", json!(0)),
            with(envelope.clone(), "epoch", json!(1.5)),
            with(envelope.clone(), "seq", json!("1")),
            with(envelope.clone(), "seq", json!(-1)),
            without(say::init("r"), "requestId"),
            with(say::init("r"), "requestId", json!(null)),
            with(say::init("r"), "encryptedClientStatic", json!(0)),
            with(say::init("r"), "version", json!(1)),
            psk(say::init("r")),
            with(psk(say::init("r")), "pairingPeerId", json!(" ")),
            without(init_v2("r"), "clientProof"),
            psk(init_v2("r")),
            say::key_update("s"),
            say::response("r", "s"),
            event_frame(channel),
            say::transport("r", "GET", "/api/runtime/workspaces/w1/managed-executors/e1"),
        ];
        let for_pairing = [
            with(say::offer("r"), "requestId", json!(" ")),
            without(say::offer("r"), "clientChannelPublicKey"),
            with(say::offer("r"), "ttlSeconds", json!(29)),
            with(say::offer("r"), "ttlSeconds", json!(3601)),
            with(say::offer("r"), "ttlSeconds", json!(30.5)),
            with(say::offer("r"), "ttlSeconds", Value::Null),
            with(say::redeem("r"), "encTag", json!("")),
            without(say::redeem("r"), "offerId"),
        ];
        let for_viewers = [
            with(say::subscribe(channel), "channel", json!(" agent-session:1")),
            with(say::subscribe(channel), "channel", json!("session:1")),
            without(say::subscribe(channel), "channel"),
            with(say::subscribe(channel), "afterSequence", json!(-1)),
            with(say::subscribe(channel), "afterSequence", json!(0.5)),
            with(say::subscribe(channel), "afterSequence", Value::Null),
            with(say::unsubscribe(channel), "channel", json!(1)),
            with(say::presence(channel, "u"), "action", json!("waving")),
            with(say::presence(channel, "u"), "userId", json!(" ")),
            with(say::presence(channel, "u"), "userId", json!("u".repeat(129))),
            with(say::presence(channel, "u"), "displayName", json!("d".repeat(256))),
            with(say::presence(channel, "u"), "displayName", Value::Null),
            with(say::presence(channel, "u"), "sentAt", json!(1)),
        ];
        let mut rejected = 0;
        for (peer, messages) in [
            (&mut client, &for_clients[..]),
            (&mut pairing, &for_pairing[..]),
            (&mut viewer, &for_viewers[..]),
        ] {
            for message in messages {
                peer.tell(message);
                peer.expect_text(&status::invalid_frame("w1"));
                rejected += 1;
            }
        }
        for text in ["", "[]", "null", "7", "\"x\"", "{", "{}x", "\u{feff}{}", "{'a':1}", "{\"a\":1,}", "NaN"]
        {
            client.say(text);
            client.expect_text(&status::invalid_frame("w1"));
            rejected += 1;
        }
        until_counted(&relay, "relay_frames_client_rejected_total", rejected);
        until_logged(
            &relay,
            "client_frame_rejected",
            &json!({ "reason": "invalid_client_frame", "clientId": "c2" }),
        );
        // All of them stay, and the daemon saw nothing of it.
        passes(&mut client, &envelope, &mut daemon);
        passes(&mut pairing, &say::offer("r"), &mut daemon);
        viewer.tell(&say::unsubscribe(channel));
        viewer.expect("viewport.session_events.unsubscribed/v1");
    });
}

#[test]
fn daemon_frames_outside_their_rules_are_dropped_without_a_word() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let Session { mut daemon, mut client } = Session::new(&relay, "w1", "s1");
        let envelope = say::envelope("s1", 1);
        let response = say::response("r", "s1");
        let offered = say::offered("r");
        let wrong = [
            json!({}),
            without(envelope.clone(), "tag"),
            with(response.clone(), "epoch", json!(0)),
            with(response.clone(), "proof", json!(1)),
            without(response.clone(), "encryptedMetadata"),
            without(response_v2("r", "s1"), "daemonNonce"),
            with(response_v2("r", "s1"), "epoch", json!("1")),
            without(say::key_update("s1"), "nextEpoch"),
            with(say::key_update("s1"), "sessionId", json!(1)),
            with(offered.clone(), "ok", json!("true")),
            with(offered.clone(), "ok", json!(false)),
            without(offered.clone(), "encIv"),
            with(offered, "requestId", json!("")),
            with(say::redeemed("r"), "ok", json!(false)),
            with(event_frame("agent-session:1"), "event", json!([])),
            without(event_frame("agent-session:1"), "event"),
            event_frame("other"),
            say::init("r"),
            say::offer("r"),
            say::subscribe("agent-session:1"),
        ];
        for message in &wrong {
            daemon.tell(message);
        }
        daemon.say("not JSON");
        // The first that passes is the first that is heard, on both sides.
        passes(&mut daemon, &envelope, &mut client);
        passes(&mut client, &envelope, &mut daemon);
        until_counted(&relay, "relay_frames_daemon_rejected_total", wrong.len() as u64 + 1);
        until_logged(
            &relay,
            "daemon_frame_rejected",
            &json!({ "reason": "invalid_daemon_frame", "workspaceId": "w1" }),
        );
    });
}

#[test]
fn a_session_event_frame_of_a_daemon_is_counted_and_dropped() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let channel = "agent-session:1";
        let mut viewer = Caller::viewer("w1", TARGET, "c1", &[channel]).call(&relay);
        viewer.tell(&say::subscribe(channel));
        viewer.expect("viewport.session_events.subscribed/v1");
        daemon.tell(&event_frame(channel));
        until_counted(&relay, "relay_frames_daemon_to_clients_total", 1);
        until_logged(&relay, "daemon_frame_rejected", &json!({ "reason": "unroutable_daemon_frame" }));
        viewer.tell(&say::unsubscribe(channel));
        viewer.expect("viewport.session_events.unsubscribed/v1");
    });
}

#[test]
fn a_key_exchange_is_answered_once_and_to_the_asker_alone() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut asker = Caller::client("w1", TARGET, "c1").call(&relay);
        let mut other = Caller::client("w1", TARGET, "c1").call(&relay);
        // Whatever the spacing and the order, the bytes are the sender's.
        let init = r#" { "requestId" : "r1", "version":3.0,"x":"gr\u00fcn","profile":"noise-ik",
            "encryptedClientStatic":"s",
            "clientEphemeralPublicKey":"e", "type":"relay_key_exchange_ini\u0074" } "#;
        asker.say(init);
        daemon.expect_text(init);
        daemon.tell(&say::response("unknown", "s0"));
        passes(&mut daemon, &say::response("r1", "s1"), &mut asker);
        daemon.tell(&say::response("r1", "s2"));
        // Only the first answer made a session.
        daemon.tell(&say::envelope("s0", 1));
        daemon.tell(&say::envelope("s2", 1));
        passes(&mut daemon, &say::envelope("s1", 1), &mut asker);
        until_counted(&relay, "relay_key_exchange_response_routed_local_total", 1);
        until_counted(&relay, "relay_key_exchange_response_dropped_total", 2);
        until_counted(&relay, "relay_session_frame_dropped_total", 2);
        until_counted(&relay, "relay_session_frame_routed_local_total", 1);
        until_counted(&relay, "relay_frames_daemon_to_clients_total", 6);
        until_logged(
            &relay,
            "key_exchange_response_owner_missing",
            &json!({ "workspaceId": "w1", "requestId": "unknown", "sessionId": "s0" }),
        );
        agree(&mut other, &mut daemon, "s3");
        passes(&mut daemon, &say::envelope("s3", 1), &mut other);
    });
}

#[test]
fn session_frames_reach_the_owner_alone_and_follow_the_session() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut clients: Vec<Peer> =
            (0..3).map(|n| Caller::client("w1", TARGET, &format!("c{n}")).call(&relay)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            let request = format!("r{n}");
            passes(client, &init_v2(&request), &mut daemon);
            passes(&mut daemon, &response_v2(&request, &format!("s{n}")), client);
        }
        daemon.tell(&say::envelope("unknown", 1));
        daemon.tell(&say::key_update("unknown"));
        for (n, client) in clients.iter_mut().enumerate() {
            let session = format!("s{n}");
            for seq in 1..4 {
                passes(&mut daemon, &say::envelope(&session, seq), client);
                passes(client, &say::envelope(&session, seq), &mut daemon);
            }
            passes(&mut daemon, &say::key_update(&session), client);
        }
        // Rekeying by another client moves the session to it.
        let [_, second, third] = &mut clients[..] else { unreachable!("there are three") };
        passes(third, &say::init("again"), &mut daemon);
        passes(&mut daemon, &say::response("again", "s1"), third);
        passes(&mut daemon, &say::envelope("s1", 9), third);
        passes(second, &say::envelope("s1", 9), &mut daemon);
    });
}

#[test]
fn two_targets_and_two_workspaces_know_nothing_of_each_other() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut ends: Vec<(Peer, Peer)> = [("w1", "rt1"), ("w1", "rt2"), ("w2", "rt1")]
            .into_iter()
            .map(|(workspace, target)| {
                let daemon = Caller::daemon(workspace, target).call(&relay);
                (daemon, Caller::client(workspace, target, "c1").call(&relay))
            })
            .collect();
        // The same request everywhere, open at once.
        for (daemon, client) in &mut ends {
            passes(client, &say::init("r"), daemon);
        }
        for (n, (daemon, client)) in ends.iter_mut().enumerate() {
            passes(daemon, &with(say::response("r", "s"), "n", n.into()), client);
        }
        for (n, (daemon, client)) in ends.iter_mut().enumerate() {
            passes(daemon, &with(say::envelope("s", 1), "n", n.into()), client);
            passes(client, &with(say::envelope("s", 2), "n", n.into()), daemon);
        }
    });
}

#[test]
fn a_client_that_comes_back_gets_nothing_of_its_old_session() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let Session { mut daemon, mut client } = Session::new(&relay, "w1", "s1");
        passes(&mut client, &say::init("open"), &mut daemon);
        drop(client);
        until_clients(&relay, "w1", 0);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        daemon.tell(&say::envelope("s1", 1));
        daemon.tell(&say::response("open", "s2"));
        daemon.tell(&say::envelope("s2", 1));
        until_counted(&relay, "relay_session_frame_dropped_total", 2);
        until_counted(&relay, "relay_key_exchange_response_dropped_total", 1);
        agree(&mut client, &mut daemon, "s1");
        passes(&mut daemon, &say::envelope("s1", 2), &mut client);
    });
}

#[test]
fn a_new_daemon_starts_without_sessions_and_a_daemon_that_goes_takes_all_with_it() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let mut pairing = Caller::pairing("w1", TARGET, "c2").call(&relay);
        client.tell(&say::init("before"));
        client.expect_text(&status::unavailable("w1", TARGET));
        pairing.tell(&say::offer("before"));
        pairing.expect_text(&status::unavailable("w1", TARGET));

        // What was asked before it came: the key exchange is forgotten, the pairing is not.
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        daemon.tell(&say::response("before", "s1"));
        daemon.tell(&say::envelope("s1", 1));
        passes(&mut daemon, &say::offered("before"), &mut pairing);
        until_counted(&relay, "relay_key_exchange_response_dropped_total", 1);

        agree(&mut client, &mut daemon, "s2");
        passes(&mut client, &say::init("open"), &mut daemon);
        passes(&mut pairing, &say::redeem("open"), &mut daemon);
        drop(daemon);
        until_daemon(&relay, "w1", false);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        daemon.tell(&say::envelope("s2", 1));
        daemon.tell(&say::response("open", "s3"));
        daemon.tell(&say::redeemed("open"));
        until_counted(&relay, "relay_pairing_response_dropped_total", 1);
        agree(&mut client, &mut daemon, "s4");
        passes(&mut pairing, &say::offer("r"), &mut daemon);
        passes(&mut daemon, &say::offered("r"), &mut pairing);
    });
}

#[test]
fn pairing_answers_go_to_the_asker_alone_and_once() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut first = Caller::pairing("w1", TARGET, "c1").call(&relay);
        let mut second = Caller::pairing("w1", TARGET, "c2").call(&relay);
        passes(&mut first, &say::offer("r1"), &mut daemon);
        passes(&mut second, &say::redeem("r2"), &mut daemon);
        daemon.tell(&say::redeemed("unknown"));
        passes(&mut daemon, &say::redeemed("r2"), &mut second);
        let failed = with(with(say::redeemed("r1"), "ok", json!(false)), "errorCode", json!("E"));
        passes(&mut daemon, &failed, &mut first);
        daemon.tell(&say::offered("r1"));
        until_counted(&relay, "relay_pairing_response_routed_local_total", 2);
        until_counted(&relay, "relay_pairing_response_dropped_total", 2);
        until_logged(
            &relay,
            "pairing_response_owner_missing",
            &json!({ "workspaceId": "w1", "requestId": "unknown" }),
        );
        passes(&mut first, &say::offer("r3"), &mut daemon);
        passes(&mut daemon, &say::offered("r3"), &mut first);
    });
}

#[test]
fn the_oldest_requests_and_sessions_over_the_cap_are_forgotten() {
    every_cell(|cell| {
        let platform = support::platform::Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_PAIRING_REQUEST_TRACK_MAX", "2")
            .env("RELAY_SESSION_OWNER_TRACK_MAX", "2")
            .start();
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let mut pairing = Caller::pairing("w1", TARGET, "c1").call(&relay);
        for n in 1..=3 {
            passes(&mut pairing, &say::offer(&format!("r{n}")), &mut daemon);
            passes(&mut client, &say::init(&format!("r{n}")), &mut daemon);
        }
        daemon.tell(&say::offered("r1"));
        passes(&mut daemon, &say::offered("r2"), &mut pairing);
        passes(&mut daemon, &say::offered("r3"), &mut pairing);
        daemon.tell(&say::response("r1", "s1"));
        passes(&mut daemon, &say::response("r2", "s2"), &mut client);
        passes(&mut daemon, &say::response("r3", "s3"), &mut client);
        agree(&mut client, &mut daemon, "s4");
        daemon.tell(&say::envelope("s2", 1));
        passes(&mut daemon, &say::envelope("s3", 1), &mut client);
        passes(&mut daemon, &say::envelope("s4", 1), &mut client);
    });
}

#[test]
fn request_ids_are_compared_trimmed() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let mut pairing = Caller::pairing("w1", TARGET, "c2").call(&relay);
        passes(&mut client, &say::init("  r1\u{feff}"), &mut daemon);
        passes(&mut daemon, &say::response("r1\u{2028}", " s1 "), &mut client);
        passes(&mut daemon, &say::envelope("s1", 1), &mut client);
        // Frames of a session name it as it is.
        daemon.tell(&say::envelope(" s1 ", 2));
        until_counted(&relay, "relay_session_frame_dropped_total", 1);
        passes(&mut pairing, &say::offer("r2"), &mut daemon);
        passes(&mut daemon, &say::offered("\t r2"), &mut pairing);
        // A blank one is nobody's.
        passes(&mut client, &say::init(" "), &mut daemon);
        daemon.tell(&say::response(" ", "s2"));
        passes(&mut client, &say::init("r3"), &mut daemon);
        daemon.tell(&say::response("r3", " "));
        until_counted(&relay, "relay_key_exchange_response_dropped_total", 2);
    });
}

#[test]
fn frames_outside_the_scope_of_a_client_close_it() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let client = Caller::client("w1", TARGET, "c1");
        let pairing = Caller::pairing("w1", TARGET, "c1");
        let channel = "agent-session:1";
        for (caller, message, reason) in [
            (&pairing, say::envelope("s", 1), "pairing scope only"),
            (&pairing, say::init("r"), "pairing scope only"),
            (&client, say::offer("r"), "runtime scope only"),
            (&client, say::redeem("r"), "runtime scope only"),
            (&client, say::subscribe(channel), "session-events scope required"),
            (&pairing, say::presence(channel, "u"), "session-events scope required"),
            (&client, say::unsubscribe(channel), "session-events scope required"),
        ] {
            let mut peer = caller.call(&relay);
            peer.tell(&message);
            // What follows is not looked at any more.
            peer.tell(&say::init("late"));
            peer.tell(&say::offer("late"));
            expect_policy(&mut peer, reason);
        }
        until_counted(&relay, "relay_frames_client_rejected_scope_total", 7);
        until_logged(&relay, "client_frame_rejected", &json!({ "reason": "scope_mismatch_pairing_only" }));
        until_logged(&relay, "client_frame_rejected", &json!({ "reason": "scope_mismatch_runtime_only" }));
        until_logged(
            &relay,
            "client_frame_rejected",
            &json!({ "reason": "scope_mismatch_runtime_or_pairing_only" }),
        );
        let mut fresh = client.call(&relay);
        passes(&mut fresh, &say::init("r"), &mut daemon);
    });
}

#[test]
fn a_viewer_that_sends_anything_else_is_told_and_stays() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut viewer = Caller::viewer("w1", TARGET, "c1", &["agent-session:1"]).call(&relay);
        for message in [say::envelope("s", 1), say::init("r"), say::offer("r")] {
            viewer.tell(&message);
            viewer.expect_text(&status::scope_only("w1"));
        }
        until_counted(&relay, "relay_frames_client_rejected_scope_total", 3);
        until_logged(
            &relay,
            "client_frame_rejected",
            &json!({ "reason": "scope_mismatch_session_events_only" }),
        );
    });
}

/// What a peer hears first.
fn first(peer: &mut Peer) -> Heard {
    peer.hear(PATIENCE)
}

#[test]
fn a_profile_other_than_the_claimed_one_closes_a_client_and_a_weaker_one_a_daemon() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let psk = |message: Value| {
            with(with(message, "profile", json!("noise-ikpsk2")), "pairingPeerId", json!("p"))
        };
        let client = Caller::client("w1", TARGET, "c1");
        for (claimed, message) in [
            ("noise-ik", psk(say::envelope("s", 1))),
            ("noise-ikpsk2", say::envelope("s", 1)),
            ("noise-ik", psk(say::init("r"))),
        ] {
            let mut peer = client.clone().claim("e2eeProfile", claimed).call(&relay);
            peer.tell(&message);
            expect_policy(&mut peer, "client frame profile mismatch");
        }
        until_counted(&relay, "relay_frames_client_rejected_profile_mismatch_total", 3);
        until_logged(
            &relay,
            "client_frame_rejected",
            &json!({ "reason": "profile_mismatch", "expectedProfile": "noise-ik", "gotProfile": "noise-ikpsk2" }),
        );

        // Each scope has a daemon with another claim.
        let session = |workspace: &str, claimed: &str| {
            let mut daemon = Caller::daemon(workspace, TARGET).claim("e2eeProfile", claimed).call(&relay);
            let mut client = Caller::client(workspace, TARGET, "c1").call(&relay);
            passes(&mut client, &say::init("r"), &mut daemon);
            (daemon, client)
        };
        let (mut weak, mut its_client) = session("w2", "noise-ik");
        passes(&mut weak, &psk(say::response("r", "s")), &mut its_client);
        passes(&mut weak, &say::key_update("s"), &mut its_client);
        let (mut strong, _its_client) = session("w3", "noise-ikpsk2");
        strong.tell(&say::key_update("s"));
        strong.tell(&say::response("r", "s"));
        expect_policy(&mut strong, "daemon frame profile mismatch");
        until_counted(&relay, "relay_frames_daemon_rejected_profile_mismatch_total", 1);
        until_logged(
            &relay,
            "daemon_frame_rejected",
            &json!({ "reason": "profile_mismatch", "workspaceId": "w3" }),
        );
    });
}

#[test]
fn a_client_without_daemon_is_told_and_stays() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut client = Caller::client("w1", TARGET, "c1").claim("machineId", " m1 ").call(&relay);
        let mut other = Caller::client("w1", TARGET, "c2").call(&relay);
        client.tell(&say::envelope("s", 1));
        client.expect_text(&status::unavailable_on_machine("w1", TARGET, "m1"));
        other.tell(&say::init("r"));
        other.expect_text(&status::unavailable("w1", TARGET));
        until_counted(&relay, "relay_client_messages_dropped_total", 2);
        assert_eq!(counted(&relay, "relay_frames_client_to_daemon_total"), 0);
        until_logged(
            &relay,
            "client_message_dropped",
            &json!({ "reason": "daemon_unavailable", "clientId": "c1", "runtimeTargetId": "rt1", "machineId": "m1" }),
        );
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        agree(&mut client, &mut daemon, "s1");
        // A daemon that goes is not announced, it is missed.
        drop(daemon);
        until_daemon(&relay, "w1", false);
        other.tell(&say::init("r"));
        assert!(matches!(first(&mut other), Heard::Text(text) if text.contains("DAEMON_UNAVAILABLE")));
        client.tell(&say::envelope("s1", 1));
        assert!(matches!(first(&mut client), Heard::Text(text) if text.contains("DAEMON_UNAVAILABLE")));
    });
}

/// Counts bytes as well as frames.
#[test]
fn bytes_are_counted_each_way() {
    every_cell(|cell| {
        let (_platform, relay): (_, Relay) = start(cell);
        let Session { mut daemon, mut client } = Session::new(&relay, "w1", "s1");
        let before = ["relay_bytes_client_to_daemon_total", "relay_bytes_daemon_to_clients_total"]
            .map(|name| (name, counted(&relay, name)));
        let large = with(say::envelope("s1", 1), "ciphertext", json!("x".repeat(100_000)));
        let size = large.to_string().len() as u64;
        passes(&mut client, &large, &mut daemon);
        passes(&mut daemon, &large, &mut client);
        for (name, before) in before {
            until_counted(&relay, name, before + size);
        }
    });
}
