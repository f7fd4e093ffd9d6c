//! How a peer gets as far as the platform's judgement: the order of checks, where tokens are found, what is answered,
//! byte for byte.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 3: raw refusals | all |
//! | 3.1: order of checks and caps | the `cap` tests, `the_first_check_that_fails_answers` |
//! | 3.2: query | `a_query_outside_the_schema_is_a_bad_request`, `query_values_are_decoded_and_the_first_counts` |
//! | 3.3: tokens | the `token` tests |
//! | 3.4: subprotocols | `the_subprotocol_answered_is_the_first_that_is_no_token` |
//! | 3.5: handshake | `what_is_no_websocket_handshake_is_told_so` |
//! | 3.6: success | `an_upgrade_is_answered_without_extensions` |
//! | 4.1: the validate request | `the_platform_is_asked_once_in_its_own_words` |
//! | 24: client addresses | the `forwarded` tests |

mod support;

use serde_json::{Value, json};
use support::{
    Heard, PATIENCE, Raw, Relay,
    end::End,
    every_cell,
    http::Http,
    platform::{Platform, VALIDATE, token_of},
    raw::EXAMPLE_ACCEPT,
    workspace::{
        Caller, INTERNAL_KEY, TARGET, counted, head, refusal, setup, start, status, until_clients, until_end,
        until_logged,
    },
};

const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\n\r\n";
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\n\r\n";
const TOO_MANY: &str = "HTTP/1.1 429 Too Many Requests\r\n\r\n";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\n";

#[test]
fn an_upgrade_on_another_path_is_closed_without_a_byte() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        for path in ["/", "/ws/", "/WS", "/other?role=client", "/v1/link", "/pair"] {
            assert_eq!(refusal(&relay, &head(path, "")), "", "{path}");
        }
        assert!(platform.requests().is_empty());
    });
}

#[test]
fn a_path_is_what_a_url_parser_makes_of_it() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let caller = Caller::client("w1", TARGET, "c1");
        let bearer = format!("Authorization: Bearer {}\r\n", caller.token());
        for prefix in ["/x/..", "/.", "/x/%2e%2E", "http://elsewhere.test"] {
            let mut http = Http::over(relay.dial());
            http.write(head(&format!("{prefix}{}", caller.path()), &bearer).as_bytes());
            assert_eq!(http.response().expect("an answer").status, 101, "{prefix}");
        }
    });
}

#[test]
fn a_query_outside_the_schema_is_a_bad_request() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let good = Caller::client("w1", TARGET, "c1");
        let wrong = [
            good.clone().query("role", "Client"),
            good.clone().query("role", "daemon"),
            good.clone().query("role", ""),
            good.clone().query("role", "%20client"),
            good.clone().without_query("role"),
            good.clone().without_query("workspaceId"),
            good.clone().query("workspaceId", ""),
            good.clone().query("workspaceId", &"w".repeat(129)),
            good.clone().query("workspaceId", "a/b"),
            good.clone().query("workspaceId", "a%2Fb"),
            good.clone().query("workspaceId", "a+b"),
            good.clone().query("workspaceId", "%C3%A4"),
            good.clone().query("runtimeTargetId", ""),
            good.clone().query("runtimeTargetId", &"t".repeat(129)),
            good.clone().query("runtimeTargetId", "t%00"),
        ];
        for caller in &wrong {
            assert_eq!(caller.refusal(&relay), BAD_REQUEST, "{caller:?}");
        }
        assert_eq!(counted(&relay, "relay_upgrade_invalid_query_total"), wrong.len() as u64);
        assert!(platform.requests().is_empty(), "the platform is not asked");
    });
}

#[test]
fn query_values_are_decoded_and_the_first_counts() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let long = "w".repeat(128);
        let written = format!(
            "/ws?x=1&&role=%63lient&role=worker&workspaceId={long}&workspaceId=&runtimeTargetId=a%2Eb:_-"
        );
        let bearer = format!("Authorization: Bearer {}\r\n", token_of(&json!({ "jti": "jti" })));
        let mut http = Http::over(relay.dial());
        http.write(head(&written, &bearer).as_bytes());
        assert_eq!(http.response().expect("an answer").status, 101);
        let asked = platform.validations()[0].json();
        assert_eq!((&asked["role"], &asked["workspaceId"]), (&json!("client"), &json!(long)));
        assert_eq!(asked["runtimeTargetId"], "a.b:_-");
    });
}

#[test]
fn an_upgrade_without_a_usable_token_is_unauthorized() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let path = Caller::client("w1", TARGET, "c1").path();
        let wrong = [
            String::new(),
            "Authorization: Bearer 123456789\r\n".to_owned(),
            format!("Authorization: Bearer {}\r\n", "x".repeat(4097)),
            "Authorization: Basic 1234567890\r\n".to_owned(),
            "Sec-WebSocket-Protocol: viewport-relay-v1\r\n".to_owned(),
            "Sec-WebSocket-Protocol: auth.123456789\r\n".to_owned(),
            "Sec-WebSocket-Protocol: AUTH.1234567890\r\n".to_owned(),
        ];
        for headers in &wrong {
            assert_eq!(refusal(&relay, &head(&path, headers)), UNAUTHORIZED, "{headers}");
        }
        assert_eq!(refusal(&relay, &head(&format!("{path}&token=123456789"), "")), UNAUTHORIZED);
        assert_eq!(counted(&relay, "relay_upgrade_missing_auth_total"), wrong.len() as u64 + 1);
        assert!(platform.requests().is_empty(), "the platform is not asked");
    });
}

#[test]
fn a_token_in_the_query_counts_in_dev_mode_alone() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let caller = Caller::client("w1", TARGET, "c1");
        let path = format!("{}&token=%20{}+", caller.path(), caller.token());
        let mut raw = Raw::open_at(&relay, &path);
        raw.say("x");
        raw.expect_text(&status::invalid_frame("w1"));
        assert_eq!(platform.validations()[0].json()["relayToken"], caller.token(), "trimmed");

        let relay = setup(cell, &platform).env("RELAY_MODE", "staging").start();
        assert_eq!(refusal(&relay, &head(&path, "")), UNAUTHORIZED);
        assert_eq!(platform.validations().len(), 1);
    });
}

/// What the platform is asked about when all these places hold a token.
fn token_taken(relay: &Relay, platform: &Platform, query: &str, headers: &str) -> Value {
    let before = platform.validations().len();
    let path = Caller::client("w1", TARGET, "c1").path();
    // None of them is known to the platform.
    assert_eq!(refusal(relay, &head(&format!("{path}{query}"), headers)), UNAUTHORIZED);
    let asked = platform.validations();
    assert_eq!(asked.len(), before + 1, "asked once");
    asked[before].json()["relayToken"].clone()
}

#[test]
fn a_token_in_the_header_goes_before_the_protocol_and_that_before_the_query() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let header = "Authorization: bearer \t header-token \r\n";
        let short = "Authorization: Bearer short\r\n";
        let protocol = "Sec-WebSocket-Protocol: other, auth.short , auth.protocol-token,auth.other-token\r\n";
        let query = "&token=query-token";
        let taken = |query: &str, headers: &str| token_taken(&relay, &platform, query, headers);
        assert_eq!(taken(query, &format!("{header}{protocol}")), "header-token");
        assert_eq!(taken(query, &format!("{short}{protocol}")), "protocol-token");
        assert_eq!(taken(query, protocol), "protocol-token");
        assert_eq!(taken(query, "Sec-WebSocket-Protocol: viewport-relay-v1\r\n"), "query-token");
        assert_eq!(taken(query, short), "query-token");
        for length in [10, 4096] {
            let token = "t".repeat(length);
            assert_eq!(taken("", &format!("Authorization: Bearer {token}\r\n")), token);
        }
        assert_eq!(counted(&relay, "relay_admission_denied_total"), 7);
    });
}

#[test]
fn the_subprotocol_answered_is_the_first_that_is_no_token() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let caller = Caller::client("w1", TARGET, "c1");
        let token = format!("auth.{}", caller.token());
        for (offered, answered) in [
            (format!("viewport-relay-v1, {token}"), Some("viewport-relay-v1")),
            (format!("{token}, viewport-relay-v1"), Some("viewport-relay-v1")),
            (format!("other,viewport-relay-v1,{token}"), Some("other")),
            // A browser fails a connection none of whose offers is answered.
            (token.clone(), Some(token.as_str())),
        ] {
            let mut http = Http::over(relay.dial());
            http.write(head(&caller.path(), &format!("Sec-WebSocket-Protocol: {offered}\r\n")).as_bytes());
            let response = http.response().expect("an answer");
            assert_eq!(
                (response.status, response.header("sec-websocket-protocol")),
                (101, answered),
                "{offered}"
            );
        }
        let response = caller.ask(&relay).response().expect("an answer");
        assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, None));
    });
}

#[test]
fn an_upgrade_is_answered_without_extensions() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let caller = Caller::client("w1", TARGET, "c1");
        let mut http = Http::over(relay.dial());
        let further = "Origin: https://anywhere.test\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        http.write(caller.head_with(further).as_bytes());
        let response = http.response().expect("an answer");
        assert_eq!(response.status_line, "HTTP/1.1 101 Switching Protocols");
        for (name, value) in [
            ("upgrade", Some("websocket")),
            ("connection", Some("Upgrade")),
            ("sec-websocket-accept", Some(EXAMPLE_ACCEPT)),
            ("sec-websocket-extensions", None),
        ] {
            assert_eq!(response.header(name), value, "{name}");
        }
    });
}

#[test]
fn what_is_no_websocket_handshake_is_told_so() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let caller = Caller::client("w1", TARGET, "c1");
        let good = caller.head();
        let repeated = format!("Sec-WebSocket-Protocol: a, auth.{}, a\r\n", caller.token());
        for (head, status, text) in [
            (good.replacen("GET", "POST", 1), "405 Method Not Allowed", "Invalid HTTP method"),
            (good.replace("Upgrade: websocket", "Upgrade: h2c"), "400 Bad Request", "Invalid Upgrade header"),
            (
                good.replace("Sec-WebSocket-Key: ", "Sec-WebSocket-Key: x"),
                "400 Bad Request",
                "Missing or invalid Sec-WebSocket-Key header",
            ),
            (
                good.replace("Sec-WebSocket-Key", "Sec-WebSocket-Kex"),
                "400 Bad Request",
                "Missing or invalid Sec-WebSocket-Key header",
            ),
            (
                good.replace("Version: 13", "Version: 12"),
                "400 Bad Request",
                "Missing or invalid Sec-WebSocket-Version header",
            ),
            (caller.head_with(&repeated), "400 Bad Request", "Invalid Sec-WebSocket-Protocol header"),
            (
                caller.head_with("Sec-WebSocket-Protocol: a,,b\r\n"),
                "400 Bad Request",
                "Invalid Sec-WebSocket-Protocol header",
            ),
            (
                caller.head_with("Sec-WebSocket-Protocol: a b\r\n"),
                "400 Bad Request",
                "Invalid Sec-WebSocket-Protocol header",
            ),
        ] {
            let mut http = Http::over(relay.dial());
            http.write(head.as_bytes());
            let response = http.response().expect("an answer");
            assert_eq!(response.status_line, format!("HTTP/1.1 {status}"), "{head}");
            assert_eq!(response.header("connection"), Some("close"), "{head}");
            assert_eq!(response.header("content-type"), Some("text/html"), "{head}");
            assert_eq!(String::from_utf8_lossy(&response.body), text, "{head}");
            let versions = text.contains("Version").then_some("13, 8");
            assert_eq!(response.header("sec-websocket-version"), versions, "{head}");
            assert!(http.is_over(), "{head}");
        }
        let mut http = Http::over(relay.dial());
        http.write(good.replace("Version: 13", "Version: 8").replace("websocket", "WebSocket").as_bytes());
        assert_eq!(http.response().expect("an answer").status, 101);
    });
}

#[test]
fn the_platform_is_asked_once_in_its_own_words() {
    every_cell(|cell| {
        let platform = Platform::start();
        let with_prefix = format!("{}/some/prefix?x=1", platform.url());
        let relay = setup(cell, &platform).env("SERVER_URL", with_prefix).start();
        let client = Caller::client("w1", TARGET, "c1");
        let worker = Caller::worker("w:2", "e1");
        let _connected = (client.call(&relay), worker.call(&relay));
        let asked = platform.requests();
        let expected = [
            format!(
                r#"{{"relayToken":"{}","role":"client","workspaceId":"w1","runtimeTargetId":"rt1"}}"#,
                client.token()
            ),
            format!(r#"{{"relayToken":"{}","role":"worker","workspaceId":"w:2"}}"#, worker.token()),
        ];
        assert_eq!(asked.len(), 2);
        for (request, body) in asked.iter().zip(&expected) {
            assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", VALIDATE));
            assert_eq!(request.header("content-type"), Some("application/json"));
            assert_eq!(request.header("content-length"), Some(body.len().to_string().as_str()));
            assert_eq!(request.header("x-relay-internal-key"), Some(INTERNAL_KEY));
            assert_eq!(String::from_utf8_lossy(&request.body), *body);
        }

        let relay = setup(cell, &platform).without_env("RELAY_INTERNAL_KEY").start();
        let _connected = client.call(&relay);
        assert_eq!(platform.requests()[2].header("x-relay-internal-key"), None);
    });
}

#[test]
fn a_validate_url_of_its_own_is_asked_as_it_is_written() {
    every_cell(|cell| {
        let platform = Platform::start();
        let url = format!("{}/else/where?key=1", platform.url());
        let relay = setup(cell, &platform).without_env("SERVER_URL").env("RELAY_VALIDATE_URL", url).start();
        let caller = Caller::client("w1", TARGET, "c1");
        platform.rig(
            &caller.token(),
            support::platform::Answer::Reply(200, r#"{"ok":true,"claims":{}}"#.to_owned()),
        );
        assert_eq!(caller.ask(&relay).response().expect("an answer").status, 101);
        assert_eq!(platform.requests()[0].target, "/else/where?key=1");
    });
}

#[test]
fn attempts_over_the_rate_of_an_address_are_too_many() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_UPGRADE_RATE_PER_MINUTE", "4").start();
        let caller = Caller::client("w1", TARGET, "c1");
        // Bad paths and refusals count.
        assert_eq!(refusal(&relay, &head("/other", "")), "");
        assert_eq!(caller.clone().query("role", "x").refusal(&relay), BAD_REQUEST);
        assert_eq!(refusal(&relay, &head(&caller.path(), "")), UNAUTHORIZED);
        let _connected = caller.call(&relay);
        for path in [caller.path().as_str(), "/other"] {
            assert_eq!(refusal(&relay, &head(path, "")), TOO_MANY);
        }
        assert_eq!(caller.refusal(&relay), TOO_MANY);
        assert_eq!(counted(&relay, "relay_upgrade_rate_limited_total"), 3);
        // Other requests of the address are none of its business, and neither are other addresses.
        assert_eq!(relay.get("/health").status, 200);
        let mut other = Http::over(relay.dial_from([127, 0, 0, 2].into()));
        other.write(caller.head().as_bytes());
        assert_eq!(other.response().expect("an answer").status, 101);
    });
}

#[test]
fn caps_refuse_the_connection_over_them_and_give_places_back() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_MAX_TOTAL_CONNECTIONS", "4")
            .env("RELAY_MAX_CLIENTS_PER_WORKSPACE", "2")
            .start();
        let client = Caller::client("w1", TARGET, "c1");
        let first = client.call(&relay);
        let _second = client.call(&relay);
        assert_eq!(client.refusal(&relay), TOO_MANY, "a third client of the scope");
        assert_eq!(counted(&relay, "relay_upgrade_rejected_workspace_clients_total"), 1);
        // Another scope, and a daemon of this one, are not clients of it.
        let _other = Caller::client("w1", "rt2", "c1").call(&relay);
        let daemon = Caller::daemon("w1", TARGET);
        let _daemon = daemon.call(&relay);
        assert_eq!(Caller::client("w2", TARGET, "c1").refusal(&relay), UNAVAILABLE, "a fifth connection");
        assert_eq!(Caller::worker("w2", "e1").refusal(&relay), UNAVAILABLE, "workers are refused as well");
        assert_eq!(counted(&relay, "relay_upgrade_rejected_total_connections_total"), 2);
        drop(first);
        // The one of the other scope is among them.
        until_clients(&relay, "w1", 2);
        let _third = client.call(&relay);
    });
}

#[test]
fn workers_count_for_their_address_but_not_in_all() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_MAX_TOTAL_CONNECTIONS", "1")
            .env("RELAY_MAX_CONNECTIONS_PER_IP", "3")
            .start();
        let worker = Caller::worker("w1", "e1");
        let _workers = (worker.call(&relay), worker.call(&relay));
        let client = Caller::client("w1", TARGET, "c1");
        let connected = client.call(&relay);
        assert_eq!(worker.refusal(&relay), UNAVAILABLE, "in all goes before the address");
        drop(connected);
        until_clients(&relay, "w1", 0);
        let _third = worker.call(&relay);
        for caller in [&worker, &client] {
            assert_eq!(caller.refusal(&relay), TOO_MANY);
        }
        assert_eq!(counted(&relay, "relay_upgrade_rejected_ip_connections_total"), 2);
    });
}

#[test]
fn caps_hold_while_admissions_are_pending() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_MAX_TOTAL_CONNECTIONS", "2").start();
        let callers = [0, 1].map(|n| Caller::client(&format!("w{n}"), TARGET, "c1"));
        let pending = callers.each_ref().map(|caller| {
            platform.rig(&caller.token(), support::platform::Answer::Held);
            let asked = caller.ask(&relay);
            platform.until_asked(&caller.token());
            asked
        });
        assert_eq!(Caller::client("w9", TARGET, "c1").refusal(&relay), UNAVAILABLE);
        for (caller, mut asked) in callers.iter().zip(pending) {
            platform.release(&caller.token());
            assert_eq!(asked.response().expect("an answer").status, 101);
        }
    });
}

#[test]
fn the_first_check_that_fails_answers() {
    every_cell(|cell| {
        let platform = Platform::start();
        let set = |name: &str| {
            setup(cell, &platform)
                .env("RELAY_MAX_TOTAL_CONNECTIONS", if name == "total" { "1" } else { "100" })
                .env("RELAY_MAX_CONNECTIONS_PER_IP", if name == "scope" { "100" } else { "1" })
                .env("RELAY_MAX_CLIENTS_PER_WORKSPACE", "1")
                .start()
        };
        let client = Caller::client("w1", TARGET, "c1");
        let bad_query = client.clone().query("role", "x");

        let relay = set("total");
        let _connected = client.call(&relay);
        assert_eq!(refusal(&relay, &head("/other", "")), UNAVAILABLE, "in all goes before the path");
        assert_eq!(client.refusal(&relay), UNAVAILABLE, "in all goes before the address");

        let relay = set("address");
        let _connected = client.call(&relay);
        assert_eq!(refusal(&relay, &head("/other", "")), TOO_MANY, "the address goes before the path");

        let relay = set("scope");
        let _connected = client.call(&relay);
        assert_eq!(refusal(&relay, &head("/other", "")), "", "the path goes before the query");
        assert_eq!(
            refusal(&relay, &head(&bad_query.path(), "")),
            BAD_REQUEST,
            "the query goes before the token"
        );
        assert_eq!(
            refusal(&relay, &head(&client.path(), "")),
            UNAUTHORIZED,
            "the token goes before the scope"
        );
        assert_eq!(client.refusal(&relay), TOO_MANY);
        assert_eq!(platform.validations().len(), 3, "the scope goes before the platform");
    });
}

#[test]
fn what_comes_before_the_answer_is_handled_in_order_after_it() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let client = Caller::client("w1", TARGET, "c1");
        platform.rig(&client.token(), support::platform::Answer::Held);
        let inits: Vec<String> = (0..40)
            .map(|n| support::workspace::say::init(&format!("r{n}-{}", "x".repeat(n * 50))).to_string())
            .collect();
        let frames: Vec<Vec<u8>> =
            inits.iter().map(|init| support::wire::message(support::wire::TEXT, init.as_bytes())).collect();
        let (behind_the_head, later) = frames.split_at(20);
        let mut http = Http::over(relay.dial());
        http.write(&[client.head().as_bytes(), &behind_the_head.concat()].concat());
        platform.until_asked(&client.token());
        http.write(&later.concat());
        platform.release(&client.token());
        let _client = Raw::upgraded(http);
        for init in &inits {
            daemon.expect_text(init);
        }
    });
}

#[test]
fn forwarded_addresses_count_from_trusted_peers_alone() {
    every_cell(|cell| {
        let platform = Platform::start();
        let address_of = |proxies: &str, forwarded: &str| {
            let relay = setup(cell, &platform).env("RELAY_TRUSTED_PROXIES", proxies).start();
            let denied = head(
                &Caller::client("w1", TARGET, "c1").path(),
                &format!("Authorization: Bearer unknown-token\r\n{forwarded}"),
            );
            assert_eq!(refusal(&relay, &denied), UNAUTHORIZED);
            until_logged(&relay, "admission_denied", &json!({ "workspaceId": "w1" }))["ip"].clone()
        };
        let two = "X-Forwarded-For: 203.0.113.9 , 10.0.0.1\r\n";
        assert_eq!(address_of("", two), "127.0.0.1");
        assert_eq!(address_of("10.0.0.0/8,192.0.2.1", two), "127.0.0.1");
        assert_eq!(address_of("127.0.0.1", two), "203.0.113.9");
        assert_eq!(address_of("nonsense, ::ffff:127.0.0.0/8 ,::/300", two), "203.0.113.9");
        assert_eq!(
            address_of("10.0.0.0/8, 127.0.0.0/8", "X-Forwarded-For: ::ffff:203.0.113.9\r\n"),
            "203.0.113.9"
        );
        assert_eq!(address_of("127.0.0.0/8", "X-Forwarded-For: not an address\r\n"), "not an address");
        assert_eq!(address_of("127.0.0.0/8", "X-Forwarded-For: , 203.0.113.9\r\n"), "unknown");
        assert_eq!(address_of("127.0.0.0/8", "X-Forwarded-For:  \r\n"), "127.0.0.1");
        let repeated = "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: 203.0.113.2\r\n";
        assert_eq!(address_of("127.0.0.0/8", repeated), "203.0.113.1");
        let others = "X-Real-IP: 203.0.113.1\r\nForwarded: for=203.0.113.1\r\nX-Forwarded-Proto: https\r\n";
        assert_eq!(address_of("127.0.0.0/8", others), "127.0.0.1");
    });
}

#[test]
fn the_forwarded_address_is_the_one_that_is_limited() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform)
            .env("RELAY_TRUSTED_PROXIES", "127.0.0.1/32")
            .env("RELAY_MAX_CONNECTIONS_PER_IP", "1")
            .start();
        let caller = Caller::client("w1", TARGET, "c1");
        let from = |address: &str| caller.head_with(&format!("X-Forwarded-For: {address}\r\n"));
        let mut connected = Vec::new();
        for address in ["203.0.113.1", "203.0.113.2", "2001:db8::1"] {
            let mut http = Http::over(relay.dial());
            http.write(from(address).as_bytes());
            connected.push(Raw::upgraded(http));
            assert_eq!(refusal(&relay, &from(address)), TOO_MANY, "{address}");
        }
    });
}

#[test]
fn peers_over_ipv6_are_known_by_their_address() {
    every_cell(|cell| {
        let platform = Platform::start();
        let Some(relay) = std::net::TcpListener::bind("[::1]:0").is_ok().then(|| {
            setup(cell, &platform)
                .without_listen()
                .env("LONGSPLICE_LISTEN", "[::1]:0")
                .env("RELAY_TRUSTED_PROXIES", "::/64")
                .start()
        }) else {
            return println!("skipped: there is no IPv6");
        };
        let denied = head(
            &Caller::client("w1", TARGET, "c1").path(),
            "Authorization: Bearer unknown-token\r\nX-Forwarded-For: 2001:db8::7\r\n",
        );
        let mut stream = relay.dial();
        std::io::Write::write_all(&mut stream, denied.as_bytes()).expect("the relay reads");
        assert_eq!(until_end(&mut stream), UNAUTHORIZED);
        assert_eq!(until_logged(&relay, "admission_denied", &json!({}))["ip"], "2001:db8::7");
    });
}

#[test]
fn a_refused_peer_leaves_nothing_behind() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        for n in 0..20 {
            let denied = head(
                &Caller::client(&format!("w{n}"), TARGET, "c1").path(),
                "Authorization: Bearer unknown-token\r\n",
            );
            assert_eq!(refusal(&relay, &denied), UNAUTHORIZED);
        }
        assert!(support::workspace::scopes(&relay).is_empty(), "no scope is made by asking");
        relay.until_empty();
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        client.say("x");
        assert!(matches!(client.hear(PATIENCE), Heard::Text(_)));
    });
}
