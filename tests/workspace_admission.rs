//! Who is let in: what the platform may answer, and what its claims must say.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 4.2: outcomes | the `platform` tests |
//! | 4.3: claims schema | `claims_outside_the_schema_are_refused`, `claims_inside_the_schema_are_taken` |
//! | 5.1: checks and their order | the `claim` and `target` tests |
//! | 5.2: scope records | `a_scope_forgets_its_generation_when_it_is_evicted` |
//! | 5.3: daemons | the `daemon` and `generation` tests |
//! | 26, O7 | `an_answer_cut_short_or_never_finished_is_unauthorized` |
//! | 26, O15 | `a_role_in_the_claims_is_not_compared` |

mod support;

use std::{net::TcpListener, time::Instant};

use serde_json::{Value, json};
use support::{
    PATIENCE, Relay,
    end::End,
    eventually, every_cell,
    platform::{Answer, Platform, token_of},
    workspace::{
        Caller, TARGET, agree, counted, expect_policy, head, page, passes, refusal, say, scopes, setup,
        start, status, until_clients, until_counted, until_daemon, until_logged,
    },
};

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\n\r\n";

/// Refused by the platform, with this in the log.
fn denied(relay: &Relay, caller: &Caller, details: &Value) -> Value {
    assert_eq!(caller.refusal(relay), UNAUTHORIZED, "{details}");
    until_logged(relay, "admission_denied", details)
}

#[test]
fn a_platform_that_does_not_admit_is_an_unauthorized_whatever_it_says() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).start();
        let answers: &[(u16, &str, &str)] = &[
            (500, r#"{"ok":true,"claims":{}}"#, "VALIDATION_FAILED"),
            (403, r#"{"ok":false,"reason":"REVOKED","error":"other"}"#, "REVOKED"),
            (403, r#"{"ok":false,"error":"nope"}"#, "nope"),
            (200, r#"{"ok":false}"#, "VALIDATION_FAILED"),
            (200, r#"{"ok":"true","claims":{}}"#, "VALIDATION_FAILED"),
            (200, r#"{"ok":1,"claims":{}}"#, "VALIDATION_FAILED"),
            (200, "{}", "VALIDATION_FAILED"),
            (200, "[]", "VALIDATION_FAILED"),
            (200, "7", "VALIDATION_FAILED"),
            (200, "<html>", "INVALID_JSON"),
            (502, "", "INVALID_JSON"),
            (200, "null", "INVALID_JSON"),
            (200, "false", "INVALID_JSON"),
            (200, "0", "INVALID_JSON"),
            (200, r#""""#, "INVALID_JSON"),
            (200, r#"{"ok":true}"#, "INVALID_CLAIMS"),
            (200, r#"{"ok":true,"claims":null}"#, "INVALID_CLAIMS"),
            (200, r#"{"ok":true,"claims":[]}"#, "INVALID_CLAIMS"),
            (200, r#"{"ok":true,"claims":{"surprise":1}}"#, "INVALID_CLAIMS"),
        ];
        for (at, &(status, body, reason)) in answers.iter().enumerate() {
            let caller = Caller::client(&format!("w{at}"), TARGET, "c1");
            platform.rig(&caller.token(), Answer::Reply(status, body.to_owned()));
            denied(
                &relay,
                &caller,
                &json!({ "workspaceId": format!("w{at}"), "role": "client", "ip": "127.0.0.1", "status": status,
                         "reason": reason }),
            );
        }
        assert_eq!(counted(&relay, "relay_admission_denied_total"), answers.len() as u64);
        assert_eq!(counted(&relay, "relay_admission_ok_total"), 0);

        // More keys beside the claims are the platform's business.
        let caller = Caller::client("w1", TARGET, "c1");
        platform.rig(&caller.token(), Answer::Reply(201, r#"{"ok":true,"x":1,"claims":{}}"#.to_owned()));
        assert_eq!(caller.ask(&relay).response().expect("an answer").status, 101);
    });
}

#[test]
fn a_platform_that_redirects_does_not_admit() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let elsewhere = Platform::start();
        let caller = Caller::client("w1", TARGET, "c1");
        let answer =
            format!("HTTP/1.1 302 Found\r\nlocation: {}/x\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        platform.rig(&caller.token(), Answer::Bytes(answer.into_bytes()));
        denied(&relay, &caller, &json!({ "status": 302, "reason": "INVALID_JSON" }));
        assert!(elsewhere.requests().is_empty());
    });
}

#[test]
fn an_answer_over_the_limit_does_not_admit() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_ADMISSION_MAX_RESPONSE_BYTES", "1000").start();
        for (length, admitted) in [(1000, true), (1001, false), (300_000, false)] {
            let caller = Caller::client("w1", TARGET, "c1");
            let mut body = r#"{"ok":true,"claims":{}}"#.to_owned();
            body += &" ".repeat(length - body.len());
            platform.rig(&caller.token(), Answer::Reply(200, body));
            if admitted {
                assert_eq!(caller.ask(&relay).response().expect("an answer").status, 101, "{length}");
            } else {
                denied(&relay, &caller, &json!({ "status": 502, "reason": "ADMISSION_RESPONSE_TOO_LARGE" }));
            }
        }
    });
}

#[test]
fn an_answer_cut_short_or_never_finished_is_unauthorized() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_ADMISSION_TIMEOUT_MS", "2000").start();
        for (at, answer) in
            [Answer::Cut, Answer::CutInBody, Answer::Never, Answer::Drip].into_iter().enumerate()
        {
            let caller = Caller::client(&format!("w{at}"), TARGET, "c1");
            let asked = Instant::now();
            platform.rig(&caller.token(), answer.clone());
            denied(&relay, &caller, &json!({ "workspaceId": format!("w{at}"), "status": 504 }));
            assert!(asked.elapsed() < PATIENCE, "{answer:?} hangs");
        }
        // The others are not held up by them. A busy machine may not answer within two seconds every time.
        eventually("others are admitted", || {
            let mut asked = Caller::client("w1", TARGET, "c1").ask(&relay);
            asked.response().expect("an answer").status == 101
        });
    });
}

#[test]
fn a_platform_that_is_not_there_is_unauthorized() {
    every_cell(|cell| {
        let platform = Platform::start();
        let closed =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let relay = setup(cell, &platform).env("SERVER_URL", format!("http://{closed}")).start();
        denied(&relay, &Caller::daemon("w1", TARGET), &json!({ "status": 504, "role": "workspace-daemon" }));
    });
}

#[test]
fn a_slow_platform_holds_up_nobody_else() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let slow: Vec<Caller> = (0..20).map(|n| Caller::client(&format!("w{n}"), TARGET, "c1")).collect();
        let asked: Vec<_> = slow
            .iter()
            .map(|caller| {
                platform.rig(&caller.token(), Answer::Held);
                caller.ask(&relay)
            })
            .collect();
        for caller in &slow {
            platform.until_asked(&caller.token());
        }
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        agree(&mut client, &mut daemon, "s1");
        for (caller, mut asked) in slow.iter().zip(asked) {
            platform.release(&caller.token());
            // The last ones may have been given up meanwhile.
            let status = asked.response().expect("an answer").status;
            assert!([101, 401].contains(&status), "{status}");
        }
        passes(&mut client, &say::envelope("s1", 1), &mut daemon);
    });
}

#[test]
fn claims_outside_the_schema_are_refused() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let long = |length: usize| Value::from("x".repeat(length));
        let misfits = [
            ("unknown", json!(1)),
            ("clientId", json!("")),
            ("clientId", long(129)),
            ("clientId", Value::Null),
            ("clientId", json!(7)),
            ("userId", long(129)),
            ("installId", json!("")),
            ("runtimeTargetId", long(129)),
            ("managedExecutorId", json!("")),
            ("machineId", long(256)),
            ("role", json!("admin")),
            ("scope", json!("everything")),
            ("scope", Value::Null),
            ("sessionIds", json!([""])),
            ("sessionIds", json!("s")),
            ("sessionIds", json!(vec!["s"; 65])),
            ("sessionChannels", json!(["agent-session:"])),
            ("sessionChannels", json!(["other:1"])),
            ("sessionChannels", json!(["agent-session:\n"])),
            ("sessionChannels", json!([format!("agent-session:{}", "x".repeat(242))])),
            ("e2eeProfile", json!("noise-xx")),
            ("daemonPublicKey", long(513)),
            ("daemonPublicKey", json!("")),
            ("pairingSecret", long(1025)),
            ("relayWsBaseUrl", json!(1)),
            ("iss", long(256)),
            ("jti", json!("")),
            ("aud", json!([1])),
            ("aud", json!("")),
            ("exp", json!(1.5)),
            ("iat", json!("1")),
            ("nbf", json!(9_007_199_254_740_992_u64)),
            ("ver", Value::Null),
            ("daemonIssueGeneration", json!(-1)),
            ("daemonIssueGeneration", json!(0.5)),
            ("policyMode", long(129)),
        ];
        for (name, value) in misfits {
            let caller = Caller::client("w1", TARGET, "c1").claim(name, value.clone());
            assert_eq!(caller.refusal(&relay), UNAUTHORIZED, "{name}: {value}");
        }
        until_logged(&relay, "admission_denied", &json!({ "status": 200, "reason": "INVALID_CLAIMS" }));
    });
}

#[test]
fn claims_inside_the_schema_are_taken() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        // Lengths are in UTF-16 units: 64 of these characters are 128.
        let caller = Caller::client("w1", TARGET, &"\u{1f600}".repeat(64))
            .claim("userId", "u")
            .claim("installId", "i")
            .claim("machineId", &*"m".repeat(255))
            .claim("managedExecutorId", "e")
            .claim("role", "client")
            .claim("sessionIds", json!(vec!["s"; 64]))
            .claim("sessionChannels", json!(["agent-session:1"]))
            .claim("e2eeProfile", "noise-ikpsk2")
            .claim("daemonPublicKey", Value::Null)
            .claim("pairingSecret", Value::Null)
            .claim("relayWsBaseUrl", Value::Null)
            .claim("iss", "viewport-server")
            .claim("aud", json!(["viewport-relay", "other"]))
            .claim("iat", json!(-1))
            .claim("exp", json!(1.0))
            .claim("nbf", json!(9_007_199_254_740_991_u64))
            .claim("ver", 2)
            .claim("daemonIssueGeneration", 0)
            .claim("policyMode", "crypto_pairing");
        let mut client = caller.call(&relay);
        client.say("x");
        client.expect_text(&status::invalid_frame("w1"));
    });
}

#[test]
fn claims_that_do_not_fit_the_query_close_with_the_first_reason() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let client = Caller::client("w1", TARGET, "c1");
        let rejected = [
            (client.clone().without_claim("workspaceId").without_claim("scope"), "missing workspace claim"),
            (client.clone().claim("workspaceId", " \u{feff}\u{a0}"), "missing workspace claim"),
            (
                client.clone().claim("workspaceId", "w2").claim("runtimeTargetId", "x"),
                "workspace claim mismatch",
            ),
            (
                client.clone().claim("runtimeTargetId", "rt2").without_claim("scope"),
                "runtime target claim mismatch",
            ),
            (client.clone().without_claim("runtimeTargetId"), "runtime target claim mismatch"),
            (client.clone().without_claim("scope"), "invalid scope claim"),
            (
                client
                    .clone()
                    .without_claim("scope")
                    .without_claim("runtimeTargetId")
                    .without_query("runtimeTargetId"),
                "invalid scope claim",
            ),
            (Caller::daemon("w1", TARGET).claim("workspaceId", "W1"), "workspace claim mismatch"),
            (Caller::worker("w1", "e1").without_claim("workspaceId"), "missing workspace claim"),
            (Caller::worker("w1", "e1").query("runtimeTargetId", "rt1"), "runtime target claim mismatch"),
        ];
        for (caller, reason) in &rejected {
            expect_policy(&mut caller.call(&relay), reason);
        }
        until_counted(&relay, "relay_ws_connections_rejected_total", rejected.len() as u64);
        assert_eq!(counted(&relay, "relay_ws_connections_opened_total"), 0);
        until_logged(
            &relay,
            "connection_rejected",
            &json!({ "reason": "runtime_target_claim_mismatch", "requestedRuntimeTargetId": "rt1",
                     "claimedRuntimeTargetId": "rt2", "role": "client", "workspaceId": "w1", "ip": "127.0.0.1" }),
        );
        until_logged(&relay, "client_connection_rejected", &json!({ "reason": "invalid_scope_claim" }));
        // Claims are trimmed.
        let trimmed = client.claim("workspaceId", " w1 ").claim("runtimeTargetId", "\trt1\u{feff}");
        let mut connected = trimmed.call(&relay);
        connected.say("x");
        connected.expect_text(&status::invalid_frame("w1"));
    });
}

#[test]
fn without_a_runtime_target_daemons_and_clients_are_told_and_closed() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        for caller in [
            Caller::daemon("w1", TARGET),
            Caller::client("w1", TARGET, "c1"),
            Caller::viewer("w1", TARGET, "c1", &[]),
            Caller::daemon("w1", TARGET).claim("runtimeTargetId", "  "),
        ] {
            let caller = caller.without_query("runtimeTargetId");
            let blank = caller.clone().claim("runtimeTargetId", " ");
            for caller in [caller.without_claim("runtimeTargetId"), blank] {
                let mut peer = caller.call(&relay);
                peer.expect_text(&status::target_required("w1"));
                expect_policy(&mut peer, "missing runtime target claim");
            }
        }
        until_logged(&relay, "connection_rejected", &json!({ "reason": "missing_runtime_target_claim" }));
    });
}

#[test]
fn a_pairing_client_without_target_is_let_in_and_told_per_frame() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let caller = Caller::pairing("w1", TARGET, "c1")
            .without_query("runtimeTargetId")
            .without_claim("runtimeTargetId");
        let mut client = caller.call(&relay);
        for message in [say::offer("r1"), say::redeem("r2")] {
            client.tell(&message);
            client.expect_text(&status::target_required("w1"));
        }
        until_counted(&relay, "relay_client_messages_dropped_total", 2);
        until_logged(
            &relay,
            "client_message_dropped",
            &json!({ "reason": "missing_runtime_target", "clientId": "c1" }),
        );
    });
}

#[test]
fn a_target_in_the_claims_alone_leads_to_its_scope() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").without_query("runtimeTargetId").call(&relay);
        agree(&mut client, &mut daemon, "s1");
        let scopes = scopes(&relay);
        assert_eq!(scopes.len(), 1);
        assert_eq!((&scopes[0]["runtimeTargetId"], &scopes[0]["clientCount"]), (&json!(TARGET), &json!(1)));
    });
}

#[test]
fn a_second_daemon_is_refused_while_the_first_is_there() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let caller = Caller::daemon("w1", TARGET).claim("daemonIssueGeneration", 1);
        let mut first = caller.call(&relay);
        for second in [&caller, &caller.clone().claim("daemonIssueGeneration", 2)] {
            expect_policy(&mut second.call(&relay), "daemon already connected");
        }
        until_logged(&relay, "daemon_connection_rejected", &json!({ "reason": "daemon_already_connected" }));
        // The first stays, and other targets and workspaces are free.
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        agree(&mut client, &mut first, "s1");
        let _other = (Caller::daemon("w1", "rt2").call(&relay), Caller::daemon("w2", TARGET).call(&relay));
        eventually("a record for each", || scopes(&relay).len() == 3);

        drop(first);
        until_logged(
            &relay,
            "daemon_disconnected",
            &json!({ "workspaceId": "w1", "clearedCurrentDaemon": true }),
        );
        let mut third = caller.call(&relay);
        agree(&mut client, &mut third, "s2");
    });
}

#[test]
fn a_daemon_of_an_older_generation_is_refused() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let generation = |number: u64| Caller::daemon("w1", TARGET).claim("daemonIssueGeneration", number);
        let come_and_go = |caller: &Caller| {
            let daemon = caller.call(&relay);
            until_daemon(&relay, "w1", true);
            drop(daemon);
            until_daemon(&relay, "w1", false);
        };
        come_and_go(&generation(5));
        expect_policy(&mut generation(4).call(&relay), "stale daemon generation");
        until_logged(
            &relay,
            "daemon_connection_rejected",
            &json!({ "reason": "stale_daemon_issue_generation", "claimGeneration": 4, "latestGeneration": 5 }),
        );
        come_and_go(&generation(5));
        // One without a generation passes and leaves the memory as it is.
        come_and_go(&Caller::daemon("w1", TARGET));
        expect_policy(&mut generation(0).call(&relay), "stale daemon generation");
        come_and_go(&generation(6));
        let _present = generation(6).call(&relay);
        expect_policy(&mut generation(5).call(&relay), "stale daemon generation");
    });
}

#[test]
fn a_scope_forgets_its_generation_when_it_is_evicted() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_EMPTY_WORKSPACE_TTL_MS", "100")
            .env("RELAY_CLEANUP_INTERVAL_MS", "100")
            .start();
        let _worker = Caller::worker("w1", "e1").call(&relay);
        drop(Caller::daemon("w1", TARGET).claim("daemonIssueGeneration", 5).call(&relay));
        // A worker does not keep a scope alive.
        until_counted(&relay, "relay_workspace_evictions_total", 2);
        until_logged(&relay, "workspace_evicted", &json!({ "workspaceId": "w1:rt1" }));
        until_logged(&relay, "workspace_evicted", &json!({ "workspaceId": "w1" }));
        assert!(scopes(&relay).is_empty());
        let daemon = Caller::daemon("w1", TARGET).claim("daemonIssueGeneration", 1).call(&relay);
        until_daemon(&relay, "w1", true);
        // One that is in use stays, however quiet.
        std::thread::sleep(std::time::Duration::from_millis(400));
        assert_eq!(scopes(&relay)[0]["daemonConnected"], true);
        drop(daemon);
    });
}

#[test]
fn the_rejected_take_no_place_and_leave_no_trace() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_MAX_CONNECTIONS_PER_IP", "2").start();
        let _daemon = Caller::daemon("w1", TARGET).call(&relay);
        until_daemon(&relay, "w1", true);
        let before = scopes(&relay);
        let client = Caller::client("w1", TARGET, "c1");
        for _ in 0..3 {
            expect_policy(&mut Caller::daemon("w1", TARGET).call(&relay), "daemon already connected");
            expect_policy(&mut client.clone().without_claim("scope").call(&relay), "invalid scope claim");
        }
        assert_eq!(scopes(&relay), before);
        let _second = client.call(&relay);
        assert_eq!(client.refusal(&relay), "HTTP/1.1 429 Too Many Requests\r\n\r\n");
    });
}

#[test]
fn a_role_in_the_claims_is_not_compared() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).claim("role", "client").call(&relay);
        let mut client =
            Caller::client("w1", TARGET, "c1").claim("role", "worker").claim("exp", 1).call(&relay);
        agree(&mut client, &mut daemon, "s1");
    });
}

#[test]
fn connections_are_counted_as_they_come_and_go() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let peers = (
            Caller::daemon("w1", TARGET).claim("machineId", " m1 ").call(&relay),
            Caller::client("w1", TARGET, "c1").call(&relay),
            Caller::worker("w1", "e1").call(&relay),
        );
        until_counted(&relay, "relay_ws_connections_opened_total", 3);
        assert_eq!(counted(&relay, "relay_connections_total"), 2, "workers are not in it");
        until_logged(
            &relay,
            "daemon_connected",
            &json!({ "workspaceId": "w1", "runtimeTargetId": "rt1", "machineId": "m1", "ip": "127.0.0.1" }),
        );
        until_logged(
            &relay,
            "client_connected",
            &json!({ "workspaceId": "w1", "clientId": "c1", "ip": "127.0.0.1" }),
        );
        until_logged(
            &relay,
            "worker_connected",
            &json!({ "workspaceId": "w1", "managedExecutorId": "e1", "ip": "127.0.0.1" }),
        );
        drop(peers);
        until_counted(&relay, "relay_ws_connections_closed_total", 3);
        until_counted(&relay, "relay_connections_total", 0);
        until_clients(&relay, "w1", 0);
        until_logged(&relay, "client_disconnected", &json!({ "clientId": "c1" }));
        until_logged(&relay, "worker_disconnected", &json!({ "managedExecutorId": "e1" }));
        eventually("no connection is left but the one that asks", || relay.connections() == 0);
        let logs = page(&relay, "/logs").json().to_string();
        assert!(!logs.contains("tok_"), "no token is ever logged");
        assert_eq!(
            refusal(&relay, &head("/ws?role=client&workspaceId=w1&token=x", "")),
            UNAUTHORIZED,
            "{}",
            token_of(&json!({}))
        );
    });
}
