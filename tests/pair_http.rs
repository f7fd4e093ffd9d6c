//! The pair dialect's HTTP surface, and what an operator sets for it.
//!
//! | pair.md | shown by |
//! |---|---|
//! | 1: endpoint, `GET /pair` without upgrade | `pair_is_upgraded_there_and_nowhere_else` |
//! | 1: `GET /health` | `health_counts_the_sessions` |
//! | 1: `GET /metrics` | `metrics_are_there_only_when_asked_for` |
//! | 1: `GET /` | `the_root_says_what_is_served_where` |
//! | 1: with several dialects | `with_several_dialects_health_is_the_union` |
//! | 1: a dialect that is off | `a_dialect_that_is_off_is_not_found` |
//! | 4: names and defaults | `the_references_names_and_defaults_hold` |
//! | 4: `PORT`, `HOST` | `host_and_port_make_the_url_of_the_qr_code` |
//! | 4: `RENDEZVOUS_URL` | `a_url_that_clients_could_not_use_refuses_to_start` |
//! | 4: its absence | `a_missing_url_is_warned_of_once_where_it_matters` |
//! | 4: `SESSION_TTL_SECONDS` | `the_time_to_live_is_in_the_answer` |
//! | 4: `LOG_LEVEL` | `log_levels_have_the_references_names` |
//! | 4: `METRICS_ENABLED` | `metrics_are_there_only_when_asked_for` |
//!
//! `MAX_SESSIONS` and `ALLOWED_ORIGINS` are in `pair_refusals.rs`.

mod support;

use std::process::Command;

use serde_json::json;
use support::{
    End, Link, Peer, Relay, eventually, every_cell,
    http::Http,
    keys::unix_ms,
    metrics::Metrics,
    pair::{Device, Pair, check_open, create, open},
    raw::upgrade_head_at,
    relay::binary,
};

/// A relay that serves only pair.
fn pair_alone(cell: support::Cell) -> support::Setup {
    cell.setup().flag("--dialects", "pair")
}

#[test]
fn pair_is_upgraded_there_and_nowhere_else() {
    every_cell(|cell| {
        let relay = pair_alone(cell).start();
        for path in ["/pair", "/pair?x=1", "/pair?"] {
            check_open(&mut Peer::open_at(&relay, path));
        }
        for path in ["/", "/pair/", "/PAIR", "/pairs", "/health", "/v1/link", "/ws", "/v1/pair"] {
            let mut http = Http::connect(relay.address);
            http.write(upgrade_head_at(&relay, path).as_bytes());
            assert_eq!(http.response().expect("a response").status, 404, "{path}");
        }
        for path in ["/pair", "/pair/", "/nothing", "/healthz", "/v1/stats"] {
            assert_eq!(relay.get(path).status, 404, "{path}");
        }
    });
}

#[test]
fn health_counts_the_sessions() {
    every_cell(|cell| {
        let relay = pair_alone(cell).env("SESSION_TTL_SECONDS", 10).start();
        let health = || relay.get("/health").json();
        let empty = health();
        let uptime = empty["uptimeSec"].as_u64().unwrap_or_else(|| panic!("{empty}"));
        let expected = json!({
            "status": "ok",
            "activeSessions": 0,
            "uptimeSec": uptime,
            "version": env!("CARGO_PKG_VERSION"),
        });
        assert_eq!(empty, expected);
        let mut held: Vec<_> = (0..7)
            .map(|_| {
                let mut source = open(&relay);
                create(&mut source, &Device::new("source").source());
                source
            })
            .collect();
        assert_eq!(health()["activeSessions"], 7);
        // A session stays when its socket goes, until it expires.
        held.clear();
        assert_eq!(health()["activeSessions"], 7);
        eventually("the sessions expire", || health()["activeSessions"] == 0);
        assert!(health()["uptimeSec"].as_u64() >= Some(uptime + 1));
        let response = relay.get("/health");
        assert!(response.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    });
}

#[test]
fn metrics_are_there_only_when_asked_for() {
    every_cell(|cell| {
        assert_eq!(pair_alone(cell).start().get("/metrics").status, 404);
        assert_eq!(pair_alone(cell).env("METRICS_ENABLED", 0).start().get("/metrics").status, 404);
        let relay = pair_alone(cell).env("METRICS_ENABLED", 1).start();
        let _pair = Pair::<Peer>::new(&relay);
        let response = relay.get("/metrics");
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4"));
        let text = String::from_utf8(response.body).expect("the exposition format is UTF-8");
        assert!(text.contains("# TYPE rendezvous_active_sessions gauge\n"), "{text}");
        let metrics = Metrics::parse(&text);
        assert_eq!(metrics.sum("rendezvous_active_sessions"), 1.0);
        assert!(metrics.sum("rendezvous_uptime_seconds") < 600.0);
    });
}

#[test]
fn the_root_says_what_is_served_where() {
    every_cell(|cell| {
        for (enabled, metrics) in [("0", "(disabled)"), ("1", "/metrics")] {
            let relay = pair_alone(cell).env("METRICS_ENABLED", enabled).start();
            let response = relay.get("/");
            assert_eq!(response.status, 200);
            let root = response.json();
            assert!(root["service"].is_string(), "{root}");
            assert_eq!(root["version"], env!("CARGO_PKG_VERSION"));
            assert!(root["pair"].as_str().is_some_and(|pair| pair.starts_with("/pair")), "{root}");
            assert_eq!(root["health"], "/health");
            assert_eq!(root["metrics"], metrics);
            assert_eq!(root.as_object().map(serde_json::Map::len), Some(5), "{root}");
        }
    });
}

#[test]
fn with_several_dialects_health_is_the_union() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--dialects", "link,pair").start();
        Link::<Peer>::new(&relay).1.check();
        Pair::<Peer>::new(&relay).check();
        let health = relay.get("/health").json();
        assert_eq!((&health["status"], &health["ok"]), (&json!("ok"), &json!(true)));
        assert_eq!(health["activeSessions"], 1);
        for number in ["uptimeMs", "uptimeSec"] {
            assert!(health[number].is_u64(), "{health}");
        }
        for text in ["service", "version"] {
            assert!(health[text].is_string(), "{health}");
        }
        let unknown = relay.get("/nothing");
        assert_eq!(unknown.status, 404);
        assert_eq!(unknown.json(), json!({ "ok": false, "error": "not_found", "reason": "NOT_FOUND" }));
        assert_eq!(relay.get("/pair").status, 404);
        assert_eq!(relay.get("/v1/stats").status, 200);
    });
}

#[test]
fn a_dialect_that_is_off_is_not_found() {
    every_cell(|cell| {
        let status = |relay: &Relay, path: &str| {
            let mut http = Http::connect(relay.address);
            http.write(upgrade_head_at(relay, path).as_bytes());
            http.response().expect("a response").status
        };
        let relay = cell.setup().flag("--dialects", "link").start();
        assert_eq!((status(&relay, "/pair"), status(&relay, "/v1/link")), (404, 101));
        let relay = pair_alone(cell).start();
        assert_eq!((status(&relay, "/pair"), status(&relay, "/v1/link")), (101, 404));
        // Both, when nothing is said.
        let relay = cell.start();
        assert_eq!((status(&relay, "/pair"), status(&relay, "/v1/link")), (101, 101));
    });
}

#[test]
fn the_time_to_live_is_in_the_answer() {
    every_cell(|cell| {
        for (given, seconds) in [(None, 60), (Some(1), 1), (Some(3600), 3600)] {
            let setup = match given {
                Some(given) => cell.setup().env("SESSION_TTL_SECONDS", given),
                None => cell.setup(),
            };
            let relay = setup.start();
            let before = unix_ms();
            let expires = create(&mut open(&relay), &Device::new("source").source()).expires_at;
            let bounds = before + (seconds - 1) * 1000..=unix_ms() + seconds * 1000;
            support::assert_within("expiresAt", expires, bounds);
        }
    });
}

#[test]
fn host_and_port_make_the_url_of_the_qr_code() {
    every_cell(|cell| {
        let relay = cell.setup().start_by_host_and_port();
        let qr = create(&mut open(&relay), &Device::new("source").source()).qr;
        assert_eq!(qr["rendezvousUrl"], format!("ws://{}", relay.address));
    });
}

/// Runs the binary to its end.
fn run(environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(binary())
        .arg("--print-config")
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_url_that_clients_could_not_use_refuses_to_start() {
    for url in [
        "relay.example",
        "http://relay.example",
        "https://relay.example",
        "ws:relay.example",
        "ws://",
        "wss:///pair",
        "wss://relay.example/pair",
        "wss://relay.example/pair/",
        "wss://relay.example?x=1",
        "wss://relay.example#x",
        "wss://user:secret@relay.example",
        "wss://relay.example:port",
        "wss://relay.example:99999",
        "wss://relay example",
    ] {
        let (code, _, message) = run(&[("RENDEZVOUS_URL", url)]);
        assert_eq!(code, Some(2), "{url} said: {message}");
        for part in ["RENDEZVOUS_URL", url, "wss://"] {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
    for url in ["ws://localhost:8080", "wss://relay.example", "wss://relay.example:8443", "ws://[::1]:80"] {
        let (code, printed, message) = run(&[("RENDEZVOUS_URL", url)]);
        assert_eq!(code, Some(0), "{url} said: {message}");
        assert!(printed.contains(url), "{url} is not in: {printed}");
    }
}

#[test]
fn other_bad_values_refuse_to_start_too() {
    for (name, value) in [
        ("SESSION_TTL_SECONDS", "0"),
        ("SESSION_TTL_SECONDS", "-1"),
        ("SESSION_TTL_SECONDS", "soon"),
        ("MAX_SESSIONS", "-1"),
        ("MAX_SESSIONS", "many"),
        ("METRICS_ENABLED", "yes"),
        ("METRICS_ENABLED", "2"),
        ("PAIR_IP_RATE_PER_MIN", "-1"),
        ("PAIR_MAX_MESSAGE_BYTES", "-1"),
        ("PAIR_MAX_MESSAGE_BYTES", "lots"),
        ("PORT", "70000"),
        ("LOG_LEVEL", "loud"),
    ] {
        let (code, _, message) = run(&[(name, value)]);
        assert_eq!(code, Some(2), "{name}={value} said: {message}");
        assert!(message.contains(name) && message.contains(value), "{message}");
    }
}

#[test]
fn the_references_names_and_defaults_hold() {
    let (_, defaults, _) = run(&[]);
    for name in
        ["RENDEZVOUS_URL", "SESSION_TTL_SECONDS", "MAX_SESSIONS", "ALLOWED_ORIGINS", "METRICS_ENABLED"]
    {
        let value = match name {
            "RENDEZVOUS_URL" => "wss://relay.example",
            "ALLOWED_ORIGINS" => "https://app.example",
            "METRICS_ENABLED" => "1",
            _ => "77",
        };
        let (code, printed, message) = run(&[(name, value)]);
        assert_eq!(code, Some(0), "{name}: {message}");
        let source = printed.lines().find(|line| line.contains(name));
        assert!(source.is_some(), "nothing is said to come from {name} in: {printed}");
        assert_ne!(printed, defaults);
    }
}

#[test]
fn log_levels_have_the_references_names() {
    for level in ["trace", "debug", "info", "warn", "error", "fatal", "silent"] {
        let (code, _, message) = run(&[("LOG_LEVEL", level)]);
        assert_eq!(code, Some(0), "{level} said: {message}");
    }
}

#[test]
fn a_missing_url_is_warned_of_once_where_it_matters() {
    every_cell(|cell| {
        let warned = |relay: &Relay| {
            relay.log().iter().filter(|line| line.contains("WARN") && line.contains("RENDEZVOUS_URL")).count()
        };
        let anywhere = || cell.setup().without_listen().env("HOST", "0.0.0.0").env("PORT", 0);
        let relay = anywhere().start();
        assert_eq!(warned(&relay), 1);
        for quiet in [
            anywhere().env("RENDEZVOUS_URL", "wss://relay.example").start(),
            anywhere().flag("--dialects", "link").start(),
            cell.start(),
        ] {
            assert_eq!(warned(&quiet), 0);
        }
    });
}
