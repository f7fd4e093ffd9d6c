//! Time: heartbeats, idle peers, expiry, the end of the relay; and hundreds of clients at once.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 5.2, 5.4, 12: what an end clears | `workspace_routing.rs` |
//! | 16: close handshake | `a_close_of_a_peer_is_answered_with_its_code` |
//! | 17: heartbeat | the `ping` and `idle` tests |
//! | 19: shutdown | the `stop` tests |
//! | 26, O10, O34 | `a_mute_peer_is_cut_without_a_close_frame`, `a_pending_upgrade_does_not_hold_up_the_stop` |

mod support;

use std::{thread, time::Duration};

use serde_json::json;
use support::{
    Heard, PATIENCE, Peer, Raw, Relay,
    end::End,
    every_cell, every_cell_in_turn,
    http::Http,
    platform::{Answer, Platform},
    wire,
    workspace::{
        ADMIN_TOKEN, Caller, Session, TARGET, agree, expect_json, expect_policy, passes, refusal, say, setup,
        start, status, until_clients, until_counted, until_end, until_logged,
    },
};

#[test]
fn a_mute_peer_is_cut_without_a_close_frame_and_one_that_answers_pings_lives_on() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_PING_INTERVAL_MS", "2000")
            .env("RELAY_PONG_TIMEOUT_MS", "1900")
            // The second ping comes up to two intervals after all else, and looks at this first.
            .env("RELAY_IDLE_TIMEOUT_MS", "6000")
            .start();
        let mutes =
            [Caller::client("w1", TARGET, "c1"), Caller::worker("w1", "e1"), Caller::daemon("w2", TARGET)];
        let mut mutes = mutes.each_ref().map(|caller| {
            let mut raw = caller.call_raw(&relay);
            raw.answers_pings = false;
            raw
        });
        // Last, since nobody hears its pings before the others are there.
        let mut lively = Caller::daemon("w1", TARGET).call_raw(&relay);
        thread::scope(|scope| {
            for mute in &mut mutes {
                scope.spawn(|| {
                    mute.expect_dropped();
                    assert!(mute.pings >= 1, "cut without a ping");
                });
            }
            // Well past the idle timeout; whoever else is pinged meanwhile answers.
            lively.expect_silence(Duration::from_secs(8));
            assert!(lively.pings >= 2, "{} pings", lively.pings);
        });
        until_counted(&relay, "relay_ws_stale_terminated_total", 3);
        until_logged(&relay, "ws_terminated", &json!({ "reason": "heartbeat timeout" }));
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        agree(&mut client, &mut lively, "s1");
    });
}

#[test]
fn a_pong_timeout_longer_than_the_interval_still_finds_the_mute() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_PING_INTERVAL_MS", "100")
            .env("RELAY_PONG_TIMEOUT_MS", "300")
            .start();
        let mut mute = Caller::client("w1", TARGET, "c1").call_raw(&relay);
        mute.answers_pings = false;
        mute.expect_dropped();
        until_counted(&relay, "relay_ws_stale_terminated_total", 1);
    });
}

#[test]
fn an_idle_peer_is_cut_where_no_ping_asks_it() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_PING_INTERVAL_MS", "400")
            .env("RELAY_PONG_TIMEOUT_MS", "60000")
            .env("RELAY_IDLE_TIMEOUT_MS", "100")
            .start();
        let mut idle = Caller::client("w1", TARGET, "c1").call_raw(&relay);
        idle.answers_pings = false;
        idle.expect_dropped();
        until_counted(&relay, "relay_ws_idle_terminated_total", 1);
        until_logged(&relay, "ws_terminated", &json!({ "reason": "idle timeout" }));
    });
}

#[test]
fn a_token_that_expires_ends_its_connection_where_the_operator_wants_it() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("LONGSPLICE_WORKSPACE_CLOSE_ON_EXPIRY", "true").start();
        let soon = support::keys::unix_ms() as u64 / 1000 + 2;
        let mut lasting = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").claim("exp", soon).call(&relay);
        expect_policy(&mut client, "token expired");
        let mut late =
            Caller::client("w1", TARGET, "c1").claim("exp", json!(-9_007_199_254_740_991_i64)).call(&relay);
        expect_policy(&mut late, "token expired");
        // One that says nothing of its end stays, and so does one that never comes to it.
        let for_ever = Caller::client("w1", TARGET, "c1").claim("exp", 9_007_199_254_740_991);
        let mut client = for_ever.call(&relay);
        agree(&mut client, &mut lasting, "s1");
    });
}

#[test]
fn an_operator_ends_a_workspace_and_no_other() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut kicked = Session::new(&relay, "w1", "s1");
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let mut stays = Session::new(&relay, "w11", "s1");
        let body = r#"{"workspaceId":"w1"}"#;
        let mut http = Http::over(relay.dial());
        let head = format!("POST /admin/kick HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n");
        http.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        assert_eq!(http.response().expect("an answer").json(), json!({ "ok": true, "closed": 3 }));
        for end in [&mut kicked.daemon, &mut kicked.client, &mut worker] {
            let Heard::Closed(1001, _) = end.hear(PATIENCE) else { panic!("not closed") };
        }
        passes(&mut stays.daemon, &say::envelope("s1", 1), &mut stays.client);
        // They may come back.
        let _again = Session::new(&relay, "w1", "s2");
    });
}

#[test]
fn a_close_of_a_peer_is_answered_with_its_code() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        for code in [1000, 1001, 3000, 4999] {
            let mut raw = Caller::client("w1", TARGET, "c1").call_raw(&relay);
            raw.write(&wire::message(wire::CLOSE, &wire::close_payload(code, b"bye")));
            match raw.hear(PATIENCE) {
                Heard::Closed(answered, _) => assert_eq!(answered, code),
                other => panic!("{other:?}"),
            }
            raw.expect_lost();
        }
        until_counted(&relay, "relay_ws_connections_closed_total", 4);
        relay.until_empty();
    });
}

#[test]
fn on_stop_every_socket_is_told_and_the_relay_ends_well() {
    every_cell(|cell| {
        for signal in ["TERM", "INT"] {
            let (_platform, mut relay) = start(cell);
            let mut ends: Vec<Peer> = vec![
                Caller::daemon("w1", TARGET).call(&relay),
                Caller::client("w1", TARGET, "c1").call(&relay),
                Caller::viewer("w2", TARGET, "c1", &[]).call(&relay),
                Caller::worker("w3", "e1").call(&relay),
            ];
            relay.signal(signal);
            for end in &mut ends {
                let Heard::Closed(code, reason) = end.hear(PATIENCE) else { panic!("not closed") };
                assert_eq!((code, reason.as_str()), (1001, "relay shutting down"));
                assert_eq!(end.hear(PATIENCE), Heard::Dropped);
            }
            assert!(relay.exited(PATIENCE).success());
        }
    });
}

#[test]
fn a_pending_upgrade_does_not_hold_up_the_stop() {
    every_cell(|cell| {
        let (platform, mut relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let pending = [Answer::Never, Answer::Held].map(|answer| {
            let caller = Caller::client("w1", TARGET, "c1");
            platform.rig(&caller.token(), answer);
            let asked = caller.ask(&relay);
            platform.until_asked(&caller.token());
            asked
        });
        relay.signal("TERM");
        let Heard::Closed(1001, _) = daemon.hear(PATIENCE) else { panic!("not closed") };
        for asked in pending {
            let (mut stream, _) = asked.into_parts();
            let answered = until_end(&mut stream);
            let refused = answered.is_empty()
                || answered.starts_with("HTTP/1.1 503 ")
                || answered.starts_with("HTTP/1.1 401 ");
            assert!(refused, "{answered}");
        }
        drop(daemon);
        assert!(relay.exited(PATIENCE).success());
    });
}

#[test]
fn a_peer_that_never_answers_the_close_does_not_hold_up_the_stop_for_ever() {
    every_cell(|cell| {
        let (_platform, mut relay) = start(cell);
        // Nothing is read and nothing answered.
        let _mute = Caller::daemon("w1", TARGET).call_raw(&relay);
        relay.signal("TERM");
        assert!(relay.exited(PATIENCE * 2).success());
    });
}

/// One client's part of the crowd.
fn converse(relay: &Relay, workspace: usize, client: usize, daemon_answers: usize) {
    let workspace_id = format!("w{workspace}");
    let mut peer = Caller::client(&workspace_id, TARGET, &format!("c{client}")).call(relay);
    let session = format!("s-{workspace}-{client}");
    let request = format!("r-{client}");
    peer.tell(&say::init(&request));
    let answer = peer.expect("relay_key_exchange_response");
    assert_eq!((&answer["requestId"], &answer["sessionId"]), (&json!(request), &json!(session)));
    for seq in 1..=daemon_answers as u64 {
        let mut message = say::envelope(&session, seq);
        message["from"] = json!(format!("{workspace}/{client}"));
        peer.tell(&message);
        // The daemon echoes it, to nobody else.
        expect_json(&mut peer, &message);
    }
}

/// A daemon that answers key exchanges and echoes envelopes until its relay's clients have all spoken.
fn serve(relay: &Relay, workspace: usize, messages: usize) {
    let mut daemon = Caller::daemon(&format!("w{workspace}"), TARGET).call(relay);
    for _ in 0..messages {
        let Heard::Text(text) = daemon.hear(PATIENCE) else {
            panic!("the daemon of w{workspace} hears no more")
        };
        let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        if message["type"] == "e2ee" {
            let from = message["from"].as_str().expect("a sender");
            assert!(from.starts_with(&format!("{workspace}/")), "{from} reached w{workspace}");
            daemon.say(&text);
        } else {
            let request = message["requestId"].as_str().expect("a request");
            let client = request.strip_prefix("r-").expect("a number");
            daemon.tell(&say::response(request, &format!("s-{workspace}-{client}")));
        }
    }
    // Stays until the last of its clients has heard the last answer.
    until_clients(relay, &format!("w{workspace}"), 0);
}

#[test]
fn three_hundred_clients_in_forty_workspaces_hear_their_own_alone() {
    // Isolation over shards is what this is about: the cells with one shard add nothing but time.
    const WORKSPACES: usize = 40;
    const CLIENTS: usize = 300;
    const MESSAGES: usize = 10;
    every_cell_in_turn(|cell| {
        if cell.shards == 1 {
            return;
        }
        let platform = Platform::start();
        let relay = setup(cell, &platform).start();
        let of = |workspace: usize| (0..CLIENTS).filter(move |client| client % WORKSPACES == workspace);
        thread::scope(|scope| {
            let relay = &relay;
            for workspace in 0..WORKSPACES {
                scope.spawn(move || serve(relay, workspace, of(workspace).count() * (MESSAGES + 1)));
            }
            for workspace in 0..WORKSPACES {
                support::workspace::until_daemon(relay, &format!("w{workspace}"), true);
            }
            for client in 0..CLIENTS {
                scope.spawn(move || converse(relay, client % WORKSPACES, client, MESSAGES));
            }
        });
        until_counted(&relay, "relay_session_frame_dropped_total", 0);
        until_counted(&relay, "relay_frames_client_to_daemon_total", (CLIENTS * (MESSAGES + 1)) as u64);
        relay.until_empty();
    });
}

#[test]
fn the_workspace_dialect_shares_the_port_with_the_others() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("LONGSPLICE_DIALECTS", "link,pair,workspace").start();
        let mut session = Session::new(&relay, "w1", "s1");
        let (_host, mut link) = support::Link::<Peer>::new(&relay);
        let mut pair = support::pair::Pair::<Peer>::new(&relay);
        link.check();
        pair.check();
        passes(&mut session.daemon, &say::envelope("s1", 1), &mut session.client);
        let mut alone = Caller::client("w2", TARGET, "c1").call(&relay);
        alone.tell(&say::envelope("s", 1));
        alone.expect_text(&status::unavailable("w2", TARGET));
        assert_eq!(refusal(&relay, &support::workspace::head("/elsewhere", "")), "");
    });
}

#[test]
fn the_workspace_dialect_is_not_there_unless_it_is_served() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut http = Http::over(relay.dial());
        http.write(Caller::client("w1", TARGET, "c1").head().as_bytes());
        let status = http.response().expect("an answer").status;
        assert_eq!(status, 404);
        let _ = Raw::open(&relay);
    });
}
