//! The public port as an HTTP server: what it answers, how long it waits, and the upgrade.

mod support;

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    End, Heard, Host, Keys, Link, PATIENCE, Peer, Raw, Relay, assert_within, eventually, every_cell,
    http::{Http, Response},
    raw::{EXAMPLE_ACCEPT, EXAMPLE_KEY, upgrade_head},
    wire,
};

#[test]
fn plain_requests_are_answered() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--dialects", "link").start();
        for target in ["/health", "/healthz", "/health?verbose=1", "/healthz?"] {
            let response = relay.get(target);
            assert_eq!(response.status, 200, "{target}");
            assert_eq!(response.json(), json!({ "status": "ok" }), "{target}");
            assert_eq!(response.header("content-type"), Some("application/json"), "{target}");
        }
        assert_eq!(relay.get("/ready").status, 200);
        let plain_404s = ["/", "/nothing", "/v1", "/v1/link", "/v1/link/", "/health/", "/HEALTH", "/metrics"];
        for target in plain_404s {
            let response = relay.get(target);
            assert_eq!(response.status, 404, "{target}");
            assert_eq!(response.json(), json!({ "error": "not_found" }), "{target}");
            assert_eq!(response.header("content-type"), Some("application/json"), "{target}");
        }
        for target in ["/health", "/ready"] {
            assert_eq!(relay.admin_get(target).status, 200, "admin {target}");
        }
        assert_eq!(relay.admin_get("/v1/link").status, 404);
    });
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut http = Http::connect(relay.address);
        for target in ["/health", "/v1/stats", "/nothing"] {
            http.write(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
            let head = http.response_to("HEAD").expect("a response");
            http.write(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
            let get = http.response().expect("a response: the connection stays open and in step");
            assert_eq!(head.status, get.status, "{target}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
        }
    });
}

#[test]
fn a_connection_serves_several_requests_in_order() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut http = Http::connect(relay.address);
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        for _ in 0..3 {
            http.write(get("/health").as_bytes());
            assert_eq!(http.response().expect("a response").status, 200);
        }
        // Pipelined, with one among them that has to ask all shards.
        let requests = ["/health", "/v1/stats", "/nothing", "/v1/stats", "/healthz"].map(get).concat();
        http.write(requests.as_bytes());
        let statuses: Vec<u16> = (0..5).map(|_| http.response().expect("a response").status).collect();
        assert_eq!(statuses, [200, 200, 404, 200, 200]);
        http.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(http.response().expect("a response").status, 200);
        assert!(http.is_over(), "`Connection: close` is obeyed");

        let mut http = Http::connect(relay.address);
        http.write(b"GET /health HTTP/1.0\r\n\r\n");
        assert_eq!(http.response().expect("a response").status, 200);
        assert!(http.is_over(), "HTTP/1.0 closes unless asked not to");
    });
}

#[test]
fn a_request_with_a_body_does_not_smuggle_another() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut http = Http::connect(relay.address);
        let body = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
        http.write(
            format!("POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .as_bytes(),
        );
        assert_eq!(http.response().expect("a response").status, 404);
        assert!(http.response().is_none(), "the body was taken for a request");
    });
}

#[test]
fn an_upgrade_is_answered_as_rfc_6455_says() {
    every_cell(|cell| {
        let relay = cell.start();
        let heads = [
            upgrade_head(&relay),
            upgrade_head(&relay).replace("/v1/link", "/v1/link?token=x&y"),
            upgrade_head(&relay)
                .replace("Connection: Upgrade", "connection: keep-alive , UPGRADE")
                .replace("Upgrade: websocket", "UPGRADE: WebSocket"),
            upgrade_head(&relay).replace(
                "Sec-WebSocket-Version",
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                 Origin: https://example.com\r\nSec-WebSocket-Version",
            ),
        ];
        for head in heads {
            let mut http = Http::connect(relay.address);
            http.write(head.as_bytes());
            let response = http.response().expect("a response");
            assert_eq!(response.status, 101, "{head}");
            assert_eq!(response.header("sec-websocket-accept"), Some(EXAMPLE_ACCEPT));
            assert!(response.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
            assert!(response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
            assert_eq!(response.header("sec-websocket-extensions"), None, "payload is ciphertext");
        }
    });
}

#[test]
fn an_upgrade_elsewhere_is_a_bare_404() {
    every_cell(|cell| {
        let relay = cell.start();
        for path in ["/", "/v1/link/", "/v2/link", "/ws", "/pair/", "/health", "/V1/LINK"] {
            let (response, over) = exchange(&relay, &upgrade_head(&relay).replace("/v1/link", path));
            assert_eq!(response.status_line, "HTTP/1.1 404 Not Found", "{path}");
            assert!(over, "{path}: the connection is closed");
        }
    });
}

#[test]
fn a_wrong_upgrade_is_refused() {
    every_cell(|cell| {
        let relay = cell.start();
        let head = upgrade_head(&relay);
        let key = format!("Sec-WebSocket-Key: {EXAMPLE_KEY}\r\n");
        let refused = [
            ("no key", 400, head.replace(&key, "")),
            ("an empty key", 400, head.replace(&key, "Sec-WebSocket-Key:\r\n")),
            ("a key that is not base64", 400, head.replace(EXAMPLE_KEY, "!!!!!!!!!!!!!!!!!!!!!!==")),
            ("a key of 15 bytes", 400, head.replace(EXAMPLE_KEY, "AAAAAAAAAAAAAAAAAAAA")),
            ("a key of 17 bytes", 400, head.replace(EXAMPLE_KEY, "AAAAAAAAAAAAAAAAAAAAAAA=")),
            ("version 8", 426, head.replace("Version: 13", "Version: 8")),
            ("version 14", 426, head.replace("Version: 13", "Version: 14")),
            ("by POST", 400, head.replace("GET ", "POST ")),
        ];
        for (what, status, head) in refused {
            let (response, over) = exchange(&relay, &head);
            assert_eq!(response.status, status, "{what}");
            assert!(over, "{what}: the connection is closed");
            if status == 426 {
                assert_eq!(response.header("sec-websocket-version"), Some("13"));
            }
        }
    });
}

#[test]
fn what_is_not_http_is_400_and_what_is_too_much_is_431() {
    every_cell(|cell| {
        let relay = cell.start();
        let malformed = [
            "nonsense\r\n\r\n",
            "GET /health\r\n\r\n",
            "GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost x\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
            "GET /health HTTP/1.1\r\nHo st: x\r\n\r\n",
            "GET /health HTTP/1.1\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            "GET /hea\0lth HTTP/1.1\r\nHost: x\r\n\r\n",
            "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03 a TLS hello\r\n\r\n",
        ];
        for head in malformed {
            let (response, over) = exchange(&relay, head);
            assert_eq!(response.status, 400, "{head:?}");
            assert!(over, "{head:?}: the connection is closed");
        }
        let headers = |n: usize| -> String { (1..n).map(|i| format!("X-{i}: y\r\n")).collect() };
        let with =
            |headers: &str| format!("GET /health HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
        for (what, status, head) in [
            ("99 headers", 200, with(&headers(98))),
            ("100 headers", 200, with(&headers(99))),
            ("101 headers", 431, with(&headers(100))),
            ("16 KiB", 200, with(&format!("X: {}\r\n", "y".repeat(16_000)))),
            ("17 KiB", 431, with(&format!("X: {}\r\n", "y".repeat(17_000)))),
            ("a head without an end", 431, format!("GET /{}", "y".repeat(100_000))),
        ] {
            let (response, over) = exchange(&relay, &head);
            assert_eq!(response.status, status, "{what}");
            assert!(over, "{what}: the connection is closed");
        }
        let refused = relay.metrics();
        assert!(refused.sum_of("longsplice_refused_total", &[("reason", "bad_head")]) >= 12.0);
        assert!(refused.sum_of("longsplice_refused_total", &[("reason", "head_too_large")]) >= 3.0);
    });
}

#[test]
fn a_head_may_come_byte_by_byte() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut http = Http::connect(relay.address);
        for byte in b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" {
            http.write(&[*byte]);
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(http.response().expect("a response").status, 200);
        for byte in upgrade_head(&relay).as_bytes() {
            http.write(&[*byte]);
        }
        let mut socket = Raw::upgraded(http);
        socket.tell(&json!({ "type": "resolve", "address": "nowhere" }));
        socket.expect_error("unknown_address");
    });
}

#[test]
fn frames_may_follow_the_upgrade_in_the_same_packet() {
    every_cell(|cell| {
        let relay = cell.start();
        let resolve = || {
            // What could be an address has a home, and most of the sockets have to move there.
            let text = json!({ "type": "resolve", "address": Keys::new().address }).to_string();
            wire::message(wire::TEXT, text.as_bytes())
        };
        for _ in 0..8 {
            let mut http = Http::connect(relay.address);
            let mut bytes =
                format!("GET /health HTTP/1.1\r\nHost: x\r\n\r\n{}", upgrade_head(&relay)).into_bytes();
            bytes.extend(resolve());
            bytes.extend(wire::message(wire::PING, b"in between"));
            bytes.extend(resolve());
            let last = resolve();
            bytes.extend(&last[..9]);
            http.write(&bytes);
            assert_eq!(http.response().expect("a response").status, 200);
            let mut socket = Raw::upgraded(http);
            socket.expect_error("unknown_address");
            socket.expect_error("unknown_address");
            socket.write(&last[9..]);
            socket.expect_error("unknown_address");
        }
    });
}

#[test]
fn a_head_that_does_not_come_in_time_ends_the_connection() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--handshake-timeout", "4s").start();
        let started = Instant::now();
        let mut silent = Http::connect(relay.address);
        let mut half = Http::connect(relay.address);
        half.write(b"GET /health HTTP/1.1\r\nHost:");
        let mut kept = Http::connect(relay.address);
        kept.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(kept.response().expect("a response").status, 200);
        // A byte now and then does not buy time.
        let mut dribbling = relay.dial();
        dribbling.set_nodelay(true).expect("a TCP stream");
        let dribbler = thread::spawn(move || {
            let head = b"GET /health HTTP/1.1\r\nX: ".iter().copied().chain(std::iter::repeat_n(b'y', 400));
            for byte in head {
                if dribbling.write_all(&[byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
            started.elapsed()
        });
        for (what, http) in [("silent", &mut silent), ("half a head", &mut half), ("kept alive", &mut kept)] {
            let last = http.response();
            assert!(last.is_none_or(|response| response.status == 408), "{what}");
            assert_within(what, started.elapsed(), Duration::from_millis(3900)..=PATIENCE);
        }
        let dribbled = dribbler.join().expect("the dribbler does not panic");
        assert_within("dribbling", dribbled, Duration::from_millis(3900)..=PATIENCE);
        relay.until_empty();
        assert!(relay.metrics().sum_of("longsplice_closed_total", &[("reason", "handshake_timeout")]) >= 1.0);
    });
}

#[test]
fn stats_tell_what_was_relayed_and_no_secret() {
    every_cell(|cell| {
        let relay = cell.start();
        let empty = relay.stats();
        assert_eq!(
            keys_of(&empty),
            ["addressRegistrations", "bytesRelayed", "links", "liveLinks", "recentlyClosed", "uptimeSec"]
        );
        assert_eq!(empty["links"], json!({ "live": 0, "relaying": 0, "total": 0, "totalRelayed": 0 }));
        assert_eq!(empty["bytesRelayed"], json!({ "fromHost": 0, "fromClient": 0 }));
        assert_eq!((&empty["liveLinks"], &empty["recentlyClosed"]), (&json!([]), &json!([])));

        let (mut host, mut link) = Link::<Peer>::new(&relay);
        let (_introduced, introduced_id) = host.introduce::<Peer>(&relay);
        let (_pending, pending_id) = host.pend::<Peer>(&relay);
        link.client.send_binary(&[0; 1000]);
        link.host.hear(PATIENCE);
        link.host.say("twenty-two bytes, text");
        link.client.hear(PATIENCE);

        let relayed = json!({ "fromHost": 22, "fromClient": 1000 });
        // The sum over all links may be a second old.
        eventually("the bytes are counted", || relay.stats()["bytesRelayed"] == relayed);
        let stats = relay.stats();
        assert_eq!(stats["addressRegistrations"], 1);
        assert_eq!(stats["links"], json!({ "live": 3, "relaying": 1, "total": 3, "totalRelayed": 1 }));
        let live = |id: &str| {
            let links = stats["liveLinks"].as_array().expect("a list").iter();
            links
                .clone()
                .find(|link| link["linkId"] == id)
                .unwrap_or_else(|| panic!("{id} is not in {stats}"))
        };
        let relaying = live(&link.id);
        assert_eq!(
            keys_of(relaying),
            ["bytesFromClient", "bytesFromHost", "linkId", "relayStartedAt", "startedAt", "state"]
        );
        assert_eq!(relaying["state"], "relaying");
        assert_eq!((&relaying["bytesFromHost"], &relaying["bytesFromClient"]), (&json!(22), &json!(1000)));
        for key in ["startedAt", "relayStartedAt"] {
            assert_timestamp(&relaying[key]);
        }
        // Whoever knows a pending id can accept it.
        for (id, state) in [(introduced_id, "introduced"), (pending_id, "pending")] {
            assert_eq!(live(&id[..8])["state"], state);
            assert!(!stats.to_string().contains(&id), "a link's whole id before it relays");
        }
        assert!(!stats.to_string().contains(host.address()), "an address");
        assert!(!stats.to_string().contains(&host.keys.public), "a key");
        assert!(!stats.to_string().contains("127.0.0.1"), "an IP");

        link.client.close(1000);
        link.host.expect_closed(4003);
        let stats = relay.stats();
        assert_eq!(stats["links"], json!({ "live": 2, "relaying": 0, "total": 3, "totalRelayed": 1 }));
        assert_eq!(stats["bytesRelayed"], relayed, "totals stay");
        let closed = &stats["recentlyClosed"][0];
        assert_eq!(
            keys_of(closed),
            ["bytesFromClient", "bytesFromHost", "closedAt", "linkId", "reason", "relayStartedAt"]
        );
        assert_eq!(closed["linkId"], link.id.as_str());
        assert_eq!(closed["reason"], "peer_gone");
        assert_timestamp(&closed["closedAt"]);
        assert_eq!((&closed["bytesFromHost"], &closed["bytesFromClient"]), (&json!(22), &json!(1000)));
    });
}

#[test]
fn stats_remember_the_last_32_links_that_relayed() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut ids = Vec::new();
        for _ in 0..40 {
            let Link { id, client, host: mut dial_back } = host.join::<Peer, Peer>(&relay);
            drop(client);
            dial_back.expect_closed(4003);
            ids.push(id);
        }
        drop(host.introduce::<Peer>(&relay));
        ids.reverse();
        let closed = relay.stats()["recentlyClosed"].clone();
        let listed: Vec<_> = closed.as_array().expect("a list").iter().map(|link| &link["linkId"]).collect();
        assert_eq!(listed, ids[..32].iter().collect::<Vec<_>>(), "the newest first");
    });
}

#[test]
fn stats_can_be_turned_off() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--stats", "off").start();
        let response = relay.get("/v1/stats");
        assert_eq!(response.status, 404);
        assert_eq!(response.json(), json!({ "ok": false, "error": "not_found", "reason": "NOT_FOUND" }));
        drop(relay);
        let relay = cell.setup().flag("--stats", "loopback").start();
        assert_eq!(relay.stats()["links"]["live"], 0);
    });
}

#[test]
fn a_socket_without_a_role_is_closed_in_time() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--role-timeout", "4s").start();
        let mut host = Host::register(&relay);
        let (mut client, _) = host.introduce::<Peer>(&relay);
        let mut link: Link = host.join(&relay);
        let started = Instant::now();
        let mut idle = relay.peer();
        let mut trying = relay.peer();
        trying.tell(&json!({ "type": "resolve", "address": "nowhere" }));
        trying.expect_error("unknown_address");
        for socket in [&mut idle, &mut trying] {
            socket.expect_closed(4000);
            assert_within("closed after", started.elapsed(), Duration::from_millis(3900)..=PATIENCE);
        }
        client.expect_silence(Duration::from_millis(500));
        host.join::<Peer, Peer>(&relay).check();
        link.check();
    });
}

#[test]
fn a_burst_of_connections_is_served_whole() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut sockets: Vec<Http> = (0..150).map(|_| Http::connect(relay.address)).collect();
        for http in &mut sockets {
            http.write(upgrade_head(&relay).as_bytes());
        }
        let mut sockets: Vec<Raw> = sockets.into_iter().map(Raw::upgraded).collect();
        for socket in &mut sockets {
            socket.tell(&json!({ "type": "resolve", "address": Keys::new().address }));
        }
        for socket in &mut sockets {
            socket.expect_error("unknown_address");
        }
        eventually("all are counted", || relay.metrics().sum("longsplice_websockets") == 150.0);
        for mut socket in sockets {
            socket.write(&wire::message(wire::CLOSE, &wire::close_payload(1000, b"")));
            assert_eq!(socket.hear(PATIENCE), Heard::Closed(1000, String::new()));
        }
        relay.until_empty();
    });
}

/// Sends a head on a connection of its own; gives the response, and whether the connection ended behind it.
fn exchange(relay: &Relay, head: &str) -> (Response, bool) {
    let mut http = Http::connect(relay.address);
    http.write(head.as_bytes());
    let response =
        http.response().unwrap_or_else(|| panic!("no response to {:?}", &head[..head.len().min(80)]));
    (response, http.is_over())
}

fn keys_of(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// ISO 8601, UTC, with milliseconds.
fn assert_timestamp(value: &Value) {
    let text = value.as_str().expect("a time is a string");
    let shape: String = text.chars().map(|digit| if digit.is_ascii_digit() { '0' } else { digit }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{text}");
}
