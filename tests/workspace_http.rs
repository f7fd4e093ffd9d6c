//! What the workspace dialect serves to plain HTTP requests on the public port.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 2: health, verbose and not | the `health` tests |
//! | 2.1: admin authorisation | the `admin_pages` tests |
//! | 2: everything else | `what_is_not_served_is_not_found` |
//! | 2.2: state | `state_lists_the_scopes_and_who_is_in_them` |
//! | 2.3: logs | the `logs` tests |
//! | 2.4: metrics | `metrics_list_counters_as_they_began_and_then_gauges` |
//! | 26, O1, O23 | `an_unparsable_target_or_host_is_a_bad_request`, `another_upgrade_of_a_page_gets_the_page` |

mod support;

use serde_json::{Value, json};
use support::{
    Relay, every_cell,
    http::{Http, Response},
    platform::Platform,
    workspace::{
        ADMIN_TOKEN, Caller, TARGET, counted, expect_policy, ordered, page, scopes, setup, start,
        until_clients, until_daemon, until_logged,
    },
};

/// The answer to a request without a body.
fn answer(relay: &Relay, method: &str, target: &str, headers: &str) -> Response {
    let mut http = Http::connect(relay.address);
    http.write(format!("{method} {target} HTTP/1.1\r\nHost: relay.test\r\n{headers}\r\n").as_bytes());
    http.response_to(method).unwrap_or_else(|| panic!("no answer to {method} {target}"))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn health_shows_six_fields_where_it_is_verbose_and_three_elsewhere() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_ID", "relay-7").start();
        let health = answer(&relay, "GET", "/health?whatever=1", "");
        assert_eq!((health.status, health.header("content-type")), (200, Some("application/json")));
        let text = String::from_utf8(health.body.clone()).expect("JSON is UTF-8");
        let uptime = health.json()["uptimeMs"].as_u64().expect("a whole number");
        let expected = ordered(&[
            ("ok", json!(true)),
            ("service", json!("relay")),
            ("uptimeMs", json!(uptime)),
            ("tlsEnabled", json!(false)),
            ("relayMode", json!("dev")),
            ("relayId", json!("relay-7")),
        ]);
        assert_eq!(text, expected);

        let relay = setup(cell, &platform).env("RELAY_HEALTH_VERBOSE", "0").start();
        let health = answer(&relay, "GET", "/health", "").json();
        assert_eq!(health, json!({ "ok": true, "service": "relay", "uptimeMs": health["uptimeMs"] }));
        assert!(platform.requests().is_empty(), "the platform has nothing to do with health");
    });
}

#[test]
fn admin_pages_are_not_there_unless_they_are_switched_on() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).without_env("RELAY_ENABLE_ADMIN_HTTP").start();
        for path in ["/state", "/logs", "/metrics"] {
            let bearer = format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
            let refused = answer(&relay, "GET", path, &bearer);
            assert_eq!(
                (refused.status, refused.header("content-type")),
                (404, Some("application/json")),
                "{path}"
            );
            assert_eq!(refused.body, br#"{"ok":false,"reason":"ADMIN_ENDPOINTS_DISABLED"}"#, "{path}");
        }
    });
}

#[test]
fn admin_pages_want_the_admin_token() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let right = ADMIN_TOKEN;
        let wrong = [
            String::new(),
            "Authorization: Bearer wrong\r\n".to_owned(),
            format!("Authorization: Basic {right}\r\n"),
            format!("Authorization: {right}\r\n"),
            "X-Relay-Admin-Token: wrong\r\n".to_owned(),
            "X-Relay-Admin-Token:  \r\n".to_owned(),
            format!("Authorization: Bearer {right}x\r\n"),
            // A wrong bearer counts, whatever else is there.
            format!("Authorization: Bearer wrong\r\nX-Relay-Admin-Token: {right}\r\n"),
        ];
        for (at, headers) in wrong.iter().enumerate() {
            let path = ["/state", "/logs", "/metrics"][at % 3];
            let refused = answer(&relay, "GET", path, headers);
            assert_eq!(
                (refused.status, refused.header("content-type")),
                (401, Some("application/json")),
                "{headers}"
            );
            assert_eq!(refused.body, br#"{"ok":false,"reason":"ADMIN_UNAUTHORIZED"}"#, "{headers}");
            assert_eq!(refused.header("www-authenticate"), None);
        }
        assert_eq!(counted(&relay, "relay_admin_unauthorized_total"), wrong.len() as u64);

        for headers in [
            format!("Authorization: Bearer {right}\r\n"),
            format!("authorization: bearer   {right}  \r\n"),
            format!("Authorization: BEARER {right}\r\n"),
            format!("X-Relay-Admin-Token: {right}\r\n"),
            format!("X-Relay-Admin-Token:  {right} \r\n"),
            format!("Authorization: Basic Zm9v\r\nX-Relay-Admin-Token: {right}\r\n"),
        ] {
            for path in ["/state", "/logs?x=1", "/metrics"] {
                assert_eq!(answer(&relay, "GET", path, &headers).status, 200, "{path} {headers}");
            }
        }
    });
}

#[test]
fn admin_pages_are_closed_to_all_where_no_token_is_configured() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).without_env("RELAY_ADMIN_TOKEN").start();
        for headers in ["", "Authorization: Bearer x\r\n", "X-Relay-Admin-Token: undefined\r\n"] {
            assert_eq!(answer(&relay, "GET", "/state", headers).status, 401, "{headers}");
        }
    });
}

#[test]
fn what_is_not_served_is_not_found() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        for (method, target) in [
            ("GET", "/nope"),
            ("GET", "/"),
            ("GET", "/health/"),
            ("GET", "/Health"),
            ("GET", "/%68ealth"),
            ("GET", "/ws"),
            ("GET", "/ws?role=client&workspaceId=w1"),
            ("POST", "/health"),
            ("DELETE", "/state"),
            ("OPTIONS", "/metrics"),
            ("HEAD", "/health"),
        ] {
            let missing = answer(&relay, method, target, "");
            assert_eq!(
                (missing.status, missing.header("content-type")),
                (404, Some("application/json")),
                "{target}"
            );
            let body: &[u8] = if method == "HEAD" { b"" } else { br#"{"ok":false,"reason":"NOT_FOUND"}"# };
            assert_eq!(missing.body, body, "{method} {target}");
            assert_eq!(missing.header("access-control-allow-origin"), None);
        }
        assert_eq!(answer(&relay, "GET", "/x/../health", "").status, 200, "dots are resolved");
    });
}

#[test]
fn an_unparsable_target_or_host_is_a_bad_request() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        for request in [
            "GET // HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: x:99999\r\n\r\n",
            "GET /health HTTP/1.1\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            let mut http = Http::connect(relay.address);
            http.write(request.as_bytes());
            assert_eq!(http.response().expect("an answer").status, 400, "{request:?}");
        }
        let mut http = Http::connect(relay.address);
        http.write(
            format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(17_000)).as_bytes(),
        );
        assert_eq!(http.response().expect("an answer").status, 431);
        assert_eq!(relay.get("/health").status, 200, "and the relay is well");
    });
}

#[test]
fn another_upgrade_of_a_page_gets_the_page() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
        assert_eq!(answer(&relay, "GET", "/health", upgrade).status, 200);
    });
}

#[test]
fn metrics_list_counters_as_they_began_and_then_gauges() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let empty = page(&relay, "/metrics");
        assert_eq!(empty.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert_eq!(String::from_utf8_lossy(&empty.body), "\n", "nothing has been counted");

        assert_eq!(answer(&relay, "GET", "/state", "").status, 401);
        let _daemon = Caller::daemon("w1", TARGET).call(&relay);
        until_daemon(&relay, "w1", true);
        let text = String::from_utf8(page(&relay, "/metrics").body).expect("UTF-8");
        let expected = [
            ("relay_admin_unauthorized_total", "counter", 1),
            ("relay_admission_ok_total", "counter", 1),
            ("relay_ws_connections_opened_total", "counter", 1),
            ("relay_connections_total", "gauge", 1),
            ("relay_workspaces_total", "gauge", 1),
        ]
        .map(|(name, kind, value)| format!("# TYPE {name} {kind}\n{name} {value}\n"));
        assert_eq!(text, expected.concat());
    });
}

#[test]
fn state_lists_the_scopes_and_who_is_in_them() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_ID", "relay-7")
            .env("RELAY_PUBLIC_WS_BASE_URL", "ws://relay.test:7781/ws")
            .start();
        let _daemon = Caller::daemon("w1", TARGET).call(&relay);
        let _one = Caller::client("w1", TARGET, "c1").call(&relay);
        let _same = Caller::client("w1", TARGET, "c1").call(&relay);
        let _other = Caller::client("w2", "rt2", "c2").call(&relay);
        let _pairing = Caller::pairing("w1", TARGET, "c3")
            .without_query("runtimeTargetId")
            .without_claim("runtimeTargetId");
        let _pairing = _pairing.call(&relay);
        let _worker = Caller::worker("w3", "e1").call(&relay);
        until_clients(&relay, "w2", 1);

        let state = page(&relay, "/state");
        assert_eq!(state.header("content-type"), Some("application/json"));
        let text = String::from_utf8(state.body.clone()).expect("UTF-8");
        let head = ordered(&[
            ("ok", json!(true)),
            ("service", json!("relay")),
            ("relayMode", json!("dev")),
            ("serverUrl", json!(platform.url())),
            ("tlsEnabled", json!(false)),
            ("tlsHost", json!("relay.getviewport.com")),
            ("wsBaseUrl", json!("ws://relay.test:7781/ws")),
            ("relayId", json!("relay-7")),
            ("backplaneMode", json!("single")),
            ("busEnabled", json!(false)),
            ("clientRedirectEnabled", json!(false)),
            ("workspaces", json!([])),
        ]);
        assert!(text.starts_with(head.trim_end_matches("]}")), "{text}");
        let state = state.json();
        let mut listed = state["workspaces"].as_array().expect("a list").clone();
        assert_eq!(
            keys(&listed[0]),
            [
                "clientCount",
                "clientIds",
                "daemonConnected",
                "lastActivityAt",
                "runtimeTargetId",
                "workspaceId"
            ]
        );
        for scope in &mut listed {
            let at = scope["lastActivityAt"].take();
            let at = at.as_str().expect("a time");
            assert!(at.len() == 24 && at.starts_with("20") && at.ends_with('Z'), "{at}");
            scope.as_object_mut().expect("an object").remove("lastActivityAt");
        }
        let expected = json!([
            { "workspaceId": "w1", "runtimeTargetId": "rt1", "daemonConnected": true, "clientCount": 2,
              "clientIds": ["c1", "c1"] },
            { "workspaceId": "w2", "runtimeTargetId": "rt2", "daemonConnected": false, "clientCount": 1,
              "clientIds": ["c2"] },
            { "workspaceId": "w1", "daemonConnected": false, "clientCount": 1, "clientIds": ["c3"] },
            { "workspaceId": "w3", "daemonConnected": false, "clientCount": 0, "clientIds": [] },
        ]);
        assert_eq!(Value::from(listed), expected);
    });
}

#[test]
fn state_names_no_clients_and_no_addresses_where_it_is_not_to() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_HEALTH_VERBOSE", "0")
            .env("RELAY_STATE_INCLUDE_CLIENT_IDS", "no")
            .start();
        let _client = Caller::client("w1", TARGET, "c1").call(&relay);
        until_clients(&relay, "w1", 1);
        let state = page(&relay, "/state").json();
        for absent in ["serverUrl", "tlsEnabled", "tlsHost", "wsBaseUrl"] {
            assert_eq!(state.get(absent), None, "{absent}");
        }
        assert_eq!(scopes(&relay)[0].get("clientIds"), None);
    });
}

#[test]
fn logs_carry_details_where_they_are_verbose_and_hide_secrets() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let caller = Caller::client("w1", TARGET, "c1").claim("workspaceId", "other");
        expect_policy(&mut caller.call(&relay), "workspace claim mismatch");
        until_logged(
            &relay,
            "connection_rejected",
            &json!({ "workspaceId": "w1", "ip": "127.0.0.1", "reason": "workspace_claim_mismatch", "role": "client",
                     "claimedWorkspaceId": "other" }),
        );
        let logs = page(&relay, "/logs").json();
        assert_eq!(logs["ok"], true);
        let entries = logs["logs"].as_array().expect("a list");
        for entry in entries {
            assert_eq!(keys(entry), ["details", "event", "level", "ts"]);
        }
        assert_eq!(entries[0]["event"], "relay_started", "oldest first");
        assert_eq!(entries[0]["details"]["maxFrameBytes"], "[redacted]");
        assert_eq!(entries[0]["details"]["backplaneMode"], "single");
        assert_eq!(entries.last().expect("entries")["level"], "warn");
        // Less may be asked for.
        let summaries = page(&relay, "/logs?summary=1").json();
        assert_eq!(keys(&summaries["logs"][0]), ["event", "level", "ts"]);
    });
}

#[test]
fn logs_are_summaries_where_they_are_not_verbose_and_their_ring_is_bounded() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_HEALTH_VERBOSE", "false").env("MAX_LOGS", "3").start();
        for n in 0..5 {
            let caller = Caller::worker(&format!("w{n}"), "e1").claim("workspaceId", "other");
            expect_policy(&mut caller.call(&relay), "workspace claim mismatch");
        }
        support::eventually("the ring is full of rejections", || {
            let entries = page(&relay, "/logs").json()["logs"].as_array().expect("a list").clone();
            assert!(entries.len() <= 3, "{entries:?}");
            for entry in &entries {
                assert_eq!(keys(entry), ["event", "level", "ts"]);
            }
            entries.len() == 3 && entries.iter().all(|entry| entry["event"] == "connection_rejected")
        });
    });
}
