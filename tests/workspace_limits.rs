//! Rates, and peers that do not read.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 13: windows and buckets | the `rate` tests |
//! | 17: pending bytes | the `read` tests |
//! | 26, O20 | `envelopes_are_limited_per_client_and_then_per_workspace` |

mod support;

use serde_json::json;
use support::{
    Heard, PATIENCE, Peer, Raw, Relay,
    end::End,
    every_cell, every_cell_in_turn,
    platform::Platform,
    workspace::{
        Caller, POLICY, Session, TARGET, agree, counted, expect_policy, passes, say, setup, status,
        until_clients, until_counted, until_daemon, until_logged,
    },
};

#[test]
fn key_exchanges_over_the_rate_close_the_client_and_are_remembered() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_KEX_INIT_RATE_PER_MINUTE", "3").start();
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let caller = Caller::client("w1", TARGET, "c1");
        let mut client = caller.call(&relay);
        for n in 0..2 {
            passes(&mut client, &say::init(&format!("r{n}")), &mut daemon);
        }
        drop(client);
        let mut client = caller.call(&relay);
        passes(&mut client, &say::init("r2"), &mut daemon);
        client.tell(&say::init("r3"));
        expect_policy(&mut client, "key exchange rate limit exceeded");
        let mut again = caller.call(&relay);
        again.tell(&say::init("r4"));
        expect_policy(&mut again, "key exchange rate limit exceeded");
        until_counted(&relay, "relay_frames_client_kex_rate_limited_total", 2);
        until_logged(
            &relay,
            "client_frame_rate_limited",
            &json!({ "clientId": "c1", "reason": "kex_rate_limit" }),
        );

        // Another client, another workspace and another address have a window of their own; another target has not.
        let mut other = Caller::client("w1", TARGET, "c2").call(&relay);
        passes(&mut other, &say::init("r5"), &mut daemon);
        let mut elsewhere = Caller::client("w2", TARGET, "c1").call(&relay);
        elsewhere.tell(&say::init("r"));
        elsewhere.expect_text(&status::unavailable("w2", TARGET));
        let bearer = format!("Bearer {}", caller.token());
        let stream = relay.dial_from([127, 0, 0, 2].into());
        let mut far = Peer::at(stream, &relay, &caller.path(), &[("Authorization", &bearer)]);
        passes(&mut far, &say::init("r6"), &mut daemon);
        let mut same = Caller::client("w1", "rt2", "c1").call(&relay);
        same.tell(&say::init("r7"));
        expect_policy(&mut same, "key exchange rate limit exceeded");
        // Envelopes are not key exchanges.
        let mut client = caller.call(&relay);
        passes(&mut client, &say::envelope("s", 1), &mut daemon);
    });
}

#[test]
fn pairing_requests_over_the_rate_close_the_client() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_PAIRING_RATE_PER_MINUTE", "2").start();
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::pairing("w1", TARGET, "c1").call(&relay);
        passes(&mut client, &say::offer("r1"), &mut daemon);
        passes(&mut client, &say::redeem("r2"), &mut daemon);
        // What is invalid does not count.
        client.say("x");
        client.expect_text(&status::invalid_frame("w1"));
        client.tell(&say::offer("r3"));
        expect_policy(&mut client, "pairing rate limit exceeded");
        until_counted(&relay, "relay_frames_client_pairing_rate_limited_total", 1);
    });
}

#[test]
fn envelopes_are_limited_per_client_and_then_per_workspace() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_RUNTIME_RATE_PER_MINUTE", "3")
            .env("RELAY_RUNTIME_RATE_PER_MINUTE_WORKSPACE", "5")
            .start();
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut first = Caller::client("w1", TARGET, "c1").call(&relay);
        for seq in 1..=3 {
            passes(&mut first, &say::envelope("s", seq), &mut daemon);
        }
        // What the client's own limit refuses costs the workspace nothing.
        first.tell(&say::envelope("s", 4));
        expect_policy(&mut first, "runtime rate limit exceeded");
        let mut second = Caller::client("w1", TARGET, "c2").call(&relay);
        passes(&mut second, &say::envelope("s", 1), &mut daemon);
        passes(&mut second, &say::envelope("s", 2), &mut daemon);
        second.tell(&say::envelope("s", 3));
        expect_policy(&mut second, "runtime rate limit exceeded");
        until_counted(&relay, "relay_frames_client_runtime_rate_limited_total", 2);

        // The same client id in another workspace is another client.
        let mut daemon = Caller::daemon("w2", TARGET).call(&relay);
        let mut same = Caller::client("w2", TARGET, "c1").call(&relay);
        for seq in 1..=3 {
            passes(&mut same, &say::envelope("s", seq), &mut daemon);
        }
    });
}

#[test]
fn a_bucket_fills_up_again() {
    every_cell(|cell| {
        let platform = Platform::start();
        // One a second.
        let relay = setup(cell, &platform).env("RELAY_RUNTIME_RATE_PER_MINUTE", "60").start();
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let caller = Caller::client("w1", TARGET, "c1");
        let mut client = caller.call(&relay);
        let mut sent = 0;
        loop {
            client.tell(&say::envelope("s", 1));
            // Either end says what became of it.
            client.say("x");
            match client.hear(PATIENCE) {
                Heard::Text(_) => sent += 1,
                Heard::Closed(POLICY, reason) => break assert_eq!(reason, "runtime rate limit exceeded"),
                other => panic!("{other:?}"),
            }
        }
        assert!(sent >= 60, "only {sent} of a full bucket");
        for _ in 0..sent {
            daemon.expect("e2ee");
        }
        support::eventually("there is room for one more", || {
            let mut client = caller.call(&relay);
            client.tell(&say::envelope("s", 1));
            client.say("x");
            matches!(client.hear(PATIENCE), Heard::Text(_))
        });
        daemon.expect("e2ee");
    });
}

#[test]
fn daemons_and_workers_of_a_workspace_share_a_rate() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_DAEMON_RUNTIME_RATE_PER_MINUTE", "5").start();
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let path = "/api/runtime/workspaces/w1/managed-executors/e1/x";
        worker.tell(&say::transport("r1", "GET", path));
        worker.expect("viewport.worker_transport.response/v1");
        // Invalid frames cost a token, too.
        for _ in 0..4 {
            daemon.say("x");
        }
        until_counted(&relay, "relay_frames_daemon_rejected_total", 4);
        worker.tell(&say::transport("r2", "GET", path));
        expect_policy(&mut worker, "worker rate limit exceeded");
        daemon.tell(&say::envelope("s", 1));
        expect_policy(&mut daemon, "daemon rate limit exceeded");
        until_counted(&relay, "relay_frames_daemon_rate_limited_total", 2);
        until_logged(&relay, "daemon_frame_rate_limited", &json!({ "workspaceId": "w1" }));
        until_logged(&relay, "worker_frame_rate_limited", &json!({ "workspaceId": "w1" }));
        // Other targets of the workspace draw on it as well, other workspaces do not.
        let mut other = Caller::daemon("w1", "rt2").call(&relay);
        other.say("x");
        expect_policy(&mut other, "daemon rate limit exceeded");
        let mut elsewhere = Session::new(&relay, "w2", "s1");
        passes(&mut elsewhere.daemon, &say::envelope("s1", 1), &mut elsewhere.client);
    });
}

const PENDING: usize = 256 * 1024;

fn narrow_relay(cell: support::Cell, platform: &Platform) -> Relay {
    setup(cell, platform)
        .env("RELAY_MAX_PENDING_BYTES", PENDING)
        .env("RELAY_DAEMON_RUNTIME_RATE_PER_MINUTE", "1000000")
        .env("RELAY_RUNTIME_RATE_PER_MINUTE", "1000000")
        .env("RELAY_RUNTIME_RATE_PER_MINUTE_WORKSPACE", "1000000")
        .start()
}

/// Hears this text again and again, and then the close for not having taken it all.
fn expect_overflow(mute: &mut Raw, backlog: &str) {
    loop {
        match mute.hear(PATIENCE) {
            Heard::Text(text) => assert!(text == backlog, "{text:.200}"),
            Heard::Closed(code, reason) => {
                return assert_eq!((code, reason.as_str()), (POLICY, "buffer overflow"));
            }
            other => panic!("expected the backlog and a close, heard {other:?}"),
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_closed_and_holds_up_nobody() {
    every_cell_in_turn(|cell| {
        let platform = Platform::start();
        let relay = narrow_relay(cell, &platform);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut mute = Caller::client("w1", TARGET, "c1").call_narrow(&relay);
        let mut other = Caller::client("w1", TARGET, "c2").call(&relay);
        agree(&mut mute, &mut daemon, "s1");
        agree(&mut other, &mut daemon, "s2");
        let mut large = say::envelope("s1", 1);
        large["ciphertext"] = "x".repeat(50_000).into();
        let mut sent = 0;
        while counted(&relay, "relay_ws_slow_client_terminated_total") == 0 {
            for _ in 0..10 {
                daemon.tell(&large);
            }
            sent += 10;
            assert!(sent < 2000, "it takes everything");
            passes(&mut daemon, &say::envelope("s2", sent), &mut other);
            passes(&mut other, &say::envelope("s2", sent), &mut daemon);
        }
        expect_overflow(&mut mute, &large.to_string());
        until_counted(&relay, "relay_ws_slow_client_terminated_total", 1);
        until_clients(&relay, "w1", 1);
        passes(&mut daemon, &say::envelope("s2", 1), &mut other);
    });
}

#[test]
fn a_daemon_that_does_not_read_is_closed_by_the_traffic_of_its_clients() {
    every_cell_in_turn(|cell| {
        let platform = Platform::start();
        let relay = narrow_relay(cell, &platform);
        let mut mute = Caller::daemon("w1", TARGET).call_narrow(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let mut large = say::envelope("s1", 1);
        large["ciphertext"] = "x".repeat(50_000).into();
        let mut sent = 0;
        while counted(&relay, "relay_ws_slow_client_terminated_total") == 0 {
            for _ in 0..10 {
                client.tell(&large);
            }
            sent += 10;
            assert!(sent < 2000, "it takes everything");
        }
        expect_overflow(&mut mute, &large.to_string());
        drop(mute);
        until_daemon(&relay, "w1", false);
        // Those that came after its end were answered; the client is still there.
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        client.tell(&say::init("r"));
        daemon.expect_any(&["e2ee", "relay_key_exchange_init"]);
    });
}

#[test]
fn a_viewer_that_does_not_read_is_closed_and_the_others_get_everything() {
    every_cell_in_turn(|cell| {
        let platform = Platform::start();
        let relay = narrow_relay(cell, &platform);
        let channel = "agent-session:1";
        let viewer = |id: &str| Caller::viewer("w1", TARGET, id, &[channel]);
        let mut mute = viewer("c1").call_narrow(&relay);
        let mut other = viewer("c2").call(&relay);
        let mut sender = viewer("c3").call(&relay);
        let subscribe = |end: &mut dyn FnMut(&str)| end(&say::subscribe(channel).to_string());
        subscribe(&mut |text| mute.say(text));
        mute.expect("viewport.session_events.subscribed/v1");
        subscribe(&mut |text| other.say(text));
        other.expect("viewport.session_events.subscribed/v1");
        let mut presence = say::presence(channel, "u1");
        presence["padding"] = "x".repeat(50_000).into();
        let mut sent = 0;
        while counted(&relay, "relay_ws_slow_client_terminated_total") == 0 {
            for _ in 0..10 {
                passes(&mut sender, &presence, &mut other);
            }
            sent += 10;
            assert!(sent < 2000, "it takes everything");
        }
        expect_overflow(&mut mute, &presence.to_string());
        passes(&mut sender, &presence, &mut other);
    });
}
