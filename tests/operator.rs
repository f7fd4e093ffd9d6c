//! What an operator sees of a relay on its public port, and ends there.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 2: `GET /health` | `health_has_the_fields_of_the_dialects_that_are_served` |
//! | 2: admin off, 2.1 | `pages_are_for_who_presents_the_token` |
//! | 2: anything else | `what_is_no_page_is_not_found` |
//! | 2: malformed requests | `a_wrong_head_is_refused_in_the_contracts_words` |
//! | 2.2 | `state_shows_what_is_served` |
//! | 2.3 | `logs_are_bounded_and_short_where_they_are_to_be` |
//! | 2.4 | `metrics_list_what_was_counted` |
//! | 21: lines on standard output | `entries_are_lines_on_standard_output_where_lines_are_json` |
//!
//! Kicks are the relay's own.

mod support;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use support::{
    Cell, End, Link, Peer, Relay, Setup, every_cell,
    http::{Http, Response},
    pair::Pair,
    platform::Platform,
    relay::binary,
    workspace::{self, Caller, TARGET, passes, say, until_clients, until_daemon, until_logged},
};

const TOKEN: &str = workspace::ADMIN_TOKEN;

/// A relay of the workspace dialect alone whose operator has a token.
fn alone(cell: Cell) -> Setup {
    operated(cell).flag("--dialects", "workspace").env("RELAY_ID", "relay-a")
}

/// A relay whose operator has a token.
fn operated(cell: Cell) -> Setup {
    cell.setup().env("LONGSPLICE_ADMIN_HTTP", 1).env("LONGSPLICE_ADMIN_TOKEN", TOKEN)
}

/// One request on a connection of its own.
fn ask(address: SocketAddr, request_line: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut http = Http::connect(address);
    let mut head = format!("{request_line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    http.write(format!("{head}\r\n{body}").as_bytes());
    let method = request_line.split(' ').next().expect("split gives a first piece");
    http.response_to(method).unwrap_or_else(|| panic!("no response to {request_line}"))
}

/// One `GET` by the operator.
fn look(relay: &Relay, target: &str) -> Response {
    ask(relay.address, &format!("GET {target}"), &[("Authorization", &format!("Bearer {TOKEN}"))], "")
}

/// A kick by the operator.
fn kick(address: SocketAddr, what: &Value) -> Response {
    let bearer = format!("Bearer {TOKEN}");
    ask(address, "POST /admin/kick", &[("Authorization", &bearer)], &what.to_string())
}

fn keys(object: &Value) -> Vec<&String> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().collect()
}

#[test]
fn health_has_the_fields_of_the_dialects_that_are_served() {
    every_cell(|cell| {
        let health = |setup: Setup| setup.start().get("/health");
        let verbose = health(alone(cell));
        let body = String::from_utf8(verbose.body.clone()).expect("JSON is UTF-8");
        assert!(body.starts_with(r#"{"ok":true,"service":"relay","uptimeMs":"#), "{body}");
        assert!(body.ends_with(r#","tlsEnabled":false,"relayMode":"dev","relayId":"relay-a"}"#), "{body}");
        let brief = health(alone(cell).env("RELAY_HEALTH_VERBOSE", 0)).json();
        assert_eq!(keys(&brief), ["ok", "service", "uptimeMs"]);
        let all = health(operated(cell).env("RELAY_MODE", "staging")).json();
        let mut union = ["status", "ok", "service", "uptimeMs", "uptimeSec", "activeSessions", "version"]
            .map(str::to_owned);
        union.sort_unstable();
        assert_eq!(keys(&all), union.iter().collect::<Vec<_>>());
    });
}

#[test]
fn pages_are_for_who_presents_the_token() {
    every_cell(|cell| {
        let relay = alone(cell).start();
        let bearer = |token: &str| format!("Bearer {token}");
        let (right, wrong) = (bearer(TOKEN), bearer("wrong"));
        let small = format!("bearer \t{TOKEN}");
        for path in ["/state", "/logs", "/metrics"] {
            let page = |headers: &[(&str, &str)]| ask(relay.address, &format!("GET {path}"), headers, "");
            for headers in [
                &[("Authorization", right.as_str())][..],
                &[("authorization", &small)],
                &[("X-Relay-Admin-Token", TOKEN)],
                &[("Authorization", "Basic eA=="), ("x-relay-admin-token", TOKEN)],
            ] {
                assert_eq!(page(headers).status, 200, "{path} {headers:?}");
            }
            for headers in [
                &[][..],
                &[("Authorization", wrong.as_str())],
                &[("Authorization", &wrong), ("X-Relay-Admin-Token", TOKEN)],
                &[("X-Relay-Admin-Token", "")],
            ] {
                let refusal = page(headers);
                assert_eq!(refusal.status, 401, "{path} {headers:?}");
                assert_eq!(refusal.body, br#"{"ok":false,"reason":"ADMIN_UNAUTHORIZED"}"#);
                assert_eq!(refusal.header("content-type"), Some("application/json"));
            }
        }
        let metrics = String::from_utf8(look(&relay, "/metrics").body).expect("the format is UTF-8");
        assert!(metrics.contains("relay_admin_unauthorized_total 12\n"), "{metrics}");
        let disabled = br#"{"ok":false,"reason":"ADMIN_ENDPOINTS_DISABLED"}"#;
        let off = alone(cell).env("LONGSPLICE_ADMIN_HTTP", 0).start();
        for path in ["/state", "/logs", "/metrics"] {
            let response = look(&off, path);
            assert_eq!((response.status, response.body.as_slice()), (404, &disabled[..]), "{path}");
        }
        assert_eq!(kick(off.address, &json!({"linkId": "a"})).status, 404);
        let without = alone(cell).without_env("LONGSPLICE_ADMIN_TOKEN").start();
        assert_eq!(look(&without, "/state").status, 401);
    });
}

#[test]
fn what_is_no_page_is_not_found() {
    every_cell(|cell| {
        let relay = alone(cell).start();
        for request in [
            "POST /health",
            "HEAD /health",
            "GET /ws",
            "GET /nope",
            "GET /health/",
            "GET /%68ealth",
            "POST /state",
        ] {
            let response = ask(relay.address, request, &[], "");
            assert_eq!(response.status, 404, "{request}");
            let body: &[u8] =
                if request.starts_with("HEAD") { b"" } else { br#"{"ok":false,"reason":"NOT_FOUND"}"# };
            assert_eq!(response.body, body, "{request}");
        }
        assert_eq!(ask(relay.address, "GET /x/../health?y", &[], "").status, 200);
        assert_eq!(relay.get("/ready").status, 200);
        let others = cell.start();
        for path in ["/state", "/logs", "/metrics", "/admin/kick"] {
            assert_eq!(others.get(path).status, 404, "{path}");
            assert_eq!(others.get(path).json()["reason"], "NOT_FOUND", "{path}");
        }
    });
}

#[test]
fn a_wrong_head_is_refused_in_the_contracts_words() {
    every_cell(|cell| {
        let relay = alone(cell).start();
        let long = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(17_000));
        for (head, status) in [
            ("nonsense\r\n\r\n", 400),
            ("GET /health HTTP/1.1\r\n\r\n", 400),
            ("GET // HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /health HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            (&long, 431),
        ] {
            let mut http = Http::connect(relay.address);
            http.write(head.as_bytes());
            let response = http.response().expect("a response");
            assert_eq!(response.status, status, "{:?}", &head[..head.len().min(40)]);
            assert!(response.body.is_empty());
            assert_eq!(response.header("connection"), Some("close"));
        }
        assert_eq!(relay.get("/health").status, 200);
    });
}

#[test]
fn state_shows_what_is_served() {
    every_cell(|cell| {
        let relay = alone(cell).start();
        let state = look(&relay, "/state");
        assert_eq!(state.header("content-type"), Some("application/json"));
        let expected =
            r#"{"ok":true,"service":"relay","relayMode":"dev","serverUrl":"https://api.getviewport.com","#
                .to_owned()
                + r#""tlsEnabled":false,"tlsHost":"relay.getviewport.com","#
                + r#""wsBaseUrl":"ws://relay.getviewport.com:8080/ws","#
                + r#""relayId":"relay-a","backplaneMode":"single","busEnabled":false,"clientRedirectEnabled":false,"#
                + r#""workspaces":[]}"#;
        let expected = expected.replace("8080", &relay.address.port().to_string());
        assert_eq!(String::from_utf8_lossy(&state.body), expected);
        let relay = operated(cell).flag("--dialects", "link,pair").start();
        let (_host, _link) = Link::<Peer, Peer>::new(&relay);
        let _pair = Pair::<Peer>::new(&relay);
        let expected =
            r#"{"ok":true,"service":"relay","links":{"addresses":1,"introduced":0,"pending":0,"relaying":1},"#
                .to_owned() + r#""pairing":{"activeSessions":1}}"#;
        assert_eq!(String::from_utf8_lossy(&look(&relay, "/state").body), expected);
    });
}

#[test]
fn logs_are_bounded_and_short_where_they_are_to_be() {
    every_cell(|cell| {
        let relay = alone(cell).start();
        let entry = |target: &str| look(&relay, target).json()["logs"][0].clone();
        assert_eq!(entry("/logs")["event"], "relay_started");
        assert_eq!(entry("/logs")["details"]["relayId"], "relay-a");
        assert_eq!(entry("/logs")["details"]["maxFrameBytes"], "[redacted]");
        assert_eq!(entry("/logs")["details"]["tlsCertPath"], Value::Null);
        assert_eq!(keys(&entry("/logs?summary=1")), ["event", "level", "ts"]);
        let brief = alone(cell).env("RELAY_HEALTH_VERBOSE", "off").start();
        assert_eq!(keys(&look(&brief, "/logs").json()["logs"][0]), ["event", "level", "ts"]);
    });
}

#[test]
fn metrics_list_what_was_counted() {
    every_cell(|cell| {
        let relay = alone(cell).start();
        assert_eq!(look(&relay, "/metrics").body, b"\n");
        ask(relay.address, "GET /metrics", &[], "");
        let counted = look(&relay, "/metrics");
        assert_eq!(counted.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let expected = "# TYPE relay_admin_unauthorized_total counter\nrelay_admin_unauthorized_total 1\n";
        assert_eq!(String::from_utf8_lossy(&counted.body), expected);
        // Beside a page for everyone under the same path.
        let relay = operated(cell).env("METRICS_ENABLED", 1).env("RELAY_MODE", "dev").start();
        let public = relay.get("/metrics");
        assert!(public.body.starts_with(b"# HELP rendezvous_active_sessions"));
        assert_eq!(ask(relay.address, "GET /metrics", &[("Authorization", "Bearer wrong")], "").status, 401);
        let all = String::from_utf8(look(&relay, "/metrics").body).expect("the format is UTF-8");
        assert!(all.starts_with("# TYPE relay_admin_unauthorized_total"), "{all}");
        assert!(all.contains("rendezvous_active_sessions 0\n"), "{all}");
        // What is not to be counted for everyone is not counted for the operator either.
        let relay = operated(cell).env("METRICS_ENABLED", 0).env("RELAY_MODE", "dev").start();
        let counted = look(&relay, "/metrics");
        assert_eq!((counted.status, String::from_utf8_lossy(&counted.body)), (200, "\n".into()));
    });
}

#[test]
fn a_link_that_is_kicked_ends_at_both_ends_and_no_other_does() {
    every_cell(|cell| {
        let relay = operated(cell).start();
        let (mut host, mut link) = Link::<Peer, Peer>::new(&relay);
        let mut other = host.join::<Peer, Peer>(&relay);
        let answer = kick(relay.address, &json!({"linkId": link.id}));
        assert_eq!((answer.status, answer.body.as_slice()), (200, &br#"{"ok":true,"closed":2}"#[..]));
        for end in [&mut link.client, &mut link.host] {
            assert_eq!(end.expect_closed(1001), "disconnected by the operator");
        }
        other.check();
        relay.logged(&["ended by the operator", r#"what="link""#, "closed=2"]);
        relay.logged(&["relayed link closes", &format!("link=\"{}\"", &link.id[..8]), r#"reason="kicked""#]);
        assert_eq!(kick(relay.address, &json!({"linkId": link.id})).json(), json!({"ok": true, "closed": 0}));
        // One that is not joined yet is known by what /v1/stats shows of it.
        let (mut client, id) = host.introduce::<Peer>(&relay);
        let answer = kick(relay.admin_address(), &json!({"linkId": id[..8]}));
        assert_eq!(answer.json(), json!({"ok": true, "closed": 1}));
        client.expect_closed(1001);
        other.check();
    });
}

#[test]
fn a_crowd_that_asks_for_statistics_keeps_no_operator_out() {
    every_cell(|cell| {
        let relay = operated(cell).start();
        let mut link = Link::<Peer, Peer>::new(&relay).1;
        let requests = "HEAD /v1/stats HTTP/1.1\r\nHost: x\r\n\r\n".repeat(300);
        let mut crowd: Vec<Http> = (0..100 * usize::from(cell.shards))
            .map(|_| {
                let mut http = Http::connect(relay.address);
                http.write(requests.as_bytes());
                http
            })
            .collect();
        for _ in 0..20 {
            let answer =
                ask(relay.address, "GET /state", &[("Authorization", &format!("Bearer {TOKEN}"))], "");
            assert_eq!(answer.status, 200);
            link.check();
        }
        // Each of them is answered, in step.
        for http in &mut crowd {
            let status = http.response_to("HEAD").expect("a response").status;
            assert!([200, 503].contains(&status), "{status}");
        }
        drop(crowd);
        assert_eq!(kick(relay.address, &json!({"linkId": link.id})).json(), json!({"ok": true, "closed": 2}));
    });
}

#[test]
fn a_pairing_session_that_is_kicked_is_over() {
    every_cell(|cell| {
        let relay = operated(cell).start();
        let mut pair = Pair::<Peer>::new(&relay);
        let mut other = Pair::<Peer>::new(&relay);
        let answer = kick(relay.address, &json!({"sessionId": pair.id}));
        assert_eq!(answer.json(), json!({"ok": true, "closed": 2}));
        for end in [&mut pair.source, &mut pair.target] {
            assert_eq!(end.expect_closed(1001), "disconnected by the operator");
        }
        other.check();
        relay.logged(&["ended by the operator", r#"what="session""#, "closed=2"]);
        assert_eq!(relay.get("/health").json()["activeSessions"], 1);
    });
}

#[test]
fn a_workspace_that_is_kicked_loses_everyone_and_no_other_does() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = workspace::setup(cell, &platform).start();
        let mut everyone = [
            Caller::daemon("w1", TARGET),
            Caller::daemon("w1", "rt2"),
            Caller::client("w1", TARGET, "c1"),
            Caller::worker("w1", "e1"),
        ]
        .map(|caller| caller.call(&relay));
        let mut other = Caller::daemon("w2", TARGET).call(&relay);
        let mut its_client = Caller::client("w2", TARGET, "c1").call(&relay);
        until_clients(&relay, "w1", 1);
        until_daemon(&relay, "w2", true);
        until_logged(&relay, "worker_connected", &json!({"workspaceId": "w1"}));
        until_logged(&relay, "daemon_connected", &json!({"workspaceId": "w1", "runtimeTargetId": "rt2"}));
        let answer = kick(relay.address, &json!({"workspaceId": "w1"}));
        assert_eq!(answer.json(), json!({"ok": true, "closed": 4}));
        for peer in &mut everyone {
            assert_eq!(peer.expect_closed(1001), "disconnected by the operator");
        }
        passes(&mut its_client, &say::init("r1"), &mut other);
        relay.logged(&["ended by the operator", r#"what="workspace""#, "closed="]);
        // Who may still connect may come back.
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        until_daemon(&relay, "w1", true);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        passes(&mut client, &say::init("r1"), &mut daemon);
    });
}

#[test]
fn a_kick_needs_the_token_and_names_one_thing() {
    every_cell(|cell| {
        let relay = operated(cell).start();
        let post = |token: &str, body: &str| {
            let bearer = format!("Bearer {token}");
            ask(relay.address, "POST /admin/kick", &[("Authorization", &bearer)], body).status
        };
        assert_eq!(post("wrong", r#"{"linkId":"a"}"#), 401);
        assert_eq!(post(TOKEN, r#"{"linkId":"a","sessionId":"b"}"#), 400);
        assert_eq!(post(TOKEN, ""), 400);
        assert_eq!(post(TOKEN, &"x".repeat(5000)), 413);
        assert_eq!(look(&relay, "/admin/kick").status, 404);
        // A body that comes later than its head.
        let mut http = Http::connect(relay.address);
        let (first, rest) = r#"{"workspaceId":"nobody"}"#.split_at(9);
        let length = first.len() + rest.len();
        http.write(
            format!(
                "POST /admin/kick HTTP/1.1\r\nHost: x\r\nX-Relay-Admin-Token: {TOKEN}\r\n\
                 Content-Length: {length}\r\n\r\n{first}"
            )
            .as_bytes(),
        );
        assert_eq!(relay.get("/health").status, 200);
        http.write(rest.as_bytes());
        assert_eq!(http.response().expect("a response").json(), json!({"ok": true, "closed": 0}));
    });
}

#[test]
fn entries_are_lines_on_standard_output_where_lines_are_json() {
    let mut relay = Command::new(binary())
        .args(["--listen", "127.0.0.1:0", "--dialects", "workspace", "--log-format", "json", "--shards", "1"])
        .env_clear()
        .env("RELAY_ID", "relay-a")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let lines: Vec<String> = BufReader::new(relay.stdout.take().expect("it is piped"))
        .lines()
        .take(2)
        .map(|line| line.expect("a line of text"))
        .collect();
    relay.kill().expect("it runs");
    relay.wait().expect("it has ended");
    let entry: Value = serde_json::from_str(&lines[0]).expect("the first line is JSON");
    assert_eq!((&entry["level"], &entry["event"]), (&json!("info"), &json!("relay_started")));
    assert_eq!(entry["details"]["backplaneMode"], "single");
    let port = &entry["details"]["port"];
    assert!(lines[1].starts_with(&format!("[relay] listening on http://127.0.0.1:{port}")), "{}", lines[1]);
}
