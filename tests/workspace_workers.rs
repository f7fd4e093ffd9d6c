//! Workers: HTTP over a WebSocket.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 9.1: requests | `invalid_requests_get_no_answer` |
//! | 9.2: paths | `paths_outside_the_executor_are_denied` |
//! | 9.3: forwarding | the `request` and `answer` tests |
//! | 26, O3, O30 | `paths_outside_the_executor_are_denied`, `answers_that_are_too_much_or_too_late_are_failures` |

mod support;

use serde_json::{Value, json};
use support::{
    Heard, PATIENCE, Peer,
    end::End,
    every_cell,
    platform::{Answer, Platform},
    workspace::{Caller, counted, say, setup, start, status, until_counted, until_logged},
};

const ROOT: &str = "/api/runtime/workspaces/w1/managed-executors/e1";

fn with(mut message: Value, key: &str, value: Value) -> Value {
    message[key] = value;
    message
}

/// The next message, which must be the answer to this request: status, headers and body.
fn answer(worker: &mut Peer, request: &str) -> (u64, Value, String) {
    let heard = worker.expect("viewport.worker_transport.response/v1");
    let keys: Vec<&String> = heard.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["body", "headers", "requestId", "status", "type"]);
    assert_eq!(heard["requestId"], request);
    let body = heard["body"].as_str().expect("a string").to_owned();
    (heard["status"].as_u64().expect("a number"), heard["headers"].clone(), body)
}

/// Header names of a request as the platform saw it, in lower case.
fn names(request: &support::platform::Request) -> Vec<String> {
    request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

#[test]
fn a_request_is_forwarded_with_the_listed_headers_and_its_own_bytes() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let body = "{\"grün\": \"\\u00e4\", \u{0} \"x\" : [ 1 ] }\r\n";
        let listed = [
            ("Authorization", "Bearer lease"),
            ("accept", "text/plain"),
            ("Content-Type", "application/vnd.x+json"),
            ("X-Viewport-Run-Lease", "1"),
            ("x-viewport-assignment-claim", "2"),
            ("x-viewport-worker-fingerprint", "3"),
            ("x-viewport-worker-timestamp", "4"),
            ("x-viewport-worker-nonce", "5"),
            ("x-viewport-worker-body-sha256", "6"),
            ("x-viewport-worker-signature", "7"),
            ("X-VIEWPORT-SERVER-ID", "8"),
        ];
        let mut headers = json!({ "cookie": "a=b", "x-relay-internal-key": "k", "x-other": "o", "host": "evil.test",
            "content-length": "1", "x-viewport-other": "o", "x-forwarded-for": "1.2.3.4" });
        for (name, value) in listed {
            headers[name] = json!(value);
        }
        let request =
            with(say::transport(" r1 ", "POST", &format!("{ROOT}/runs/7?x=%20y&z#part")), "headers", headers);
        worker.tell(&with(request, "body", json!(body)));
        let (status, headers, echoed) = answer(&mut worker, " r1 ");
        assert_eq!(status, 200);

        let seen = platform.last_forwarded();
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str()),
            ("POST", format!("{ROOT}/runs/7?x=%20y&z").as_str())
        );
        assert_eq!(String::from_utf8_lossy(&seen.body), body);
        for (name, value) in listed {
            assert_eq!(seen.header(name), Some(value), "{name}");
        }
        let platform_host = platform.address.to_string();
        assert_eq!(seen.header("host"), Some(platform_host.as_str()));
        for name in names(&seen) {
            let known = listed.iter().any(|(listed, _)| listed.eq_ignore_ascii_case(&name));
            let own = ["host", "content-length", "user-agent", "accept-encoding", "connection"]
                .contains(&name.as_str());
            assert!(known || own, "{name} is not to be forwarded");
        }

        // The answer: every header but those that are nobody's business, in lower case; the body as it came.
        assert_eq!(headers["x-echo"], "Yes");
        assert_eq!(headers["content-type"], "application/json");
        for absent in ["set-cookie", "authorization", "cookie", "Set-Cookie", "X-Echo"] {
            assert_eq!(headers.get(absent), None, "{absent}");
        }
        let echo: Value = serde_json::from_str(&echoed).expect("the stub answers JSON");
        assert_eq!(echo["target"], format!("{ROOT}/runs/7?x=%20y&z"));
        until_counted(&relay, "relay_worker_transport_forwarded_total", 1);
    });
}

#[test]
fn a_request_without_body_or_headers_gets_what_its_method_implies() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        // A GET has no body, given or not.
        worker.tell(&with(say::transport("r1", "GET", ROOT), "body", json!("ignored")));
        assert_eq!(answer(&mut worker, "r1").0, 200);
        let seen = platform.last_forwarded();
        assert_eq!((seen.method.as_str(), seen.body.len(), seen.header("content-type")), ("GET", 0, None));
        assert_eq!(seen.header("transfer-encoding"), None);

        for (request, method, body) in [("r2", "POST", None), ("r3", "PATCH", Some("text"))] {
            let mut message = say::transport(request, method, &format!("{ROOT}/x"));
            if let Some(body) = body {
                message["body"] = json!(body);
            }
            // Values that are no strings are not headers.
            worker.tell(&with(message, "headers", json!({ "accept": 1, "authorization": null })));
            assert_eq!(answer(&mut worker, request).0, 200);
            let seen = platform.last_forwarded();
            assert_eq!(seen.method, method);
            assert_eq!(String::from_utf8_lossy(&seen.body), body.unwrap_or(""));
            assert_eq!(seen.header("content-type"), Some("text/plain;charset=UTF-8"));
            assert_eq!(seen.header("authorization"), None);
        }
    });
}

#[test]
fn paths_outside_the_executor_are_denied() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let mut nobody = Caller::worker("w1", "e1").without_claim("managedExecutorId").call(&relay);
        let mut blank = Caller::worker("w1", " ").call(&relay);
        let denied = |worker: &mut Peer, path: &str| {
            worker.tell(&say::transport("r1", "GET", path));
            worker.expect_text(&status::transport_refused("r1", 403, "WORKER_TRANSPORT_PATH_DENIED"));
        };
        let paths = [
            "/api/runtime/workspaces/w1/managed-executors/e2",
            "/api/runtime/workspaces/w2/managed-executors/e1/x",
            "/api/runtime/workspaces/w1/managed-executors/e10",
            "/api/runtime/workspaces/w1",
            "/api/runtime/workspaces/",
            "/api/runtime/workspaces/w1/managed-executors/%651/x",
        ];
        let written = [
            format!("{ROOT}?x=1"),
            format!("{ROOT}#x"),
            // What a URL parser would take for a step up, or out of the platform.
            format!("{ROOT}/../e2"),
            format!("{ROOT}/x/.."),
            format!("{ROOT}/./x"),
            format!("{ROOT}/%2e%2e/e2"),
            format!("{ROOT}/%2E./e2"),
            format!("{ROOT}/.%2e/e2/x?y"),
            format!("{ROOT}/%2e/x"),
            format!("{ROOT}/..\\e2"),
            format!("{ROOT}\\..\\e2"),
            format!("{ROOT}/x\\y"),
            format!("{ROOT}/.\t./e2"),
            format!("{ROOT}/.\n./e2"),
        ];
        for path in paths.into_iter().chain(written.iter().map(String::as_str)) {
            denied(&mut worker, path);
        }
        denied(&mut nobody, &format!("{ROOT}/x"));
        denied(&mut blank, "/api/runtime/workspaces/w1/managed-executors//x");
        let refused = (paths.len() + written.len() + 2) as u64;
        until_counted(&relay, "relay_worker_transport_rejected_total", refused);
        assert!(
            platform.requests().iter().all(|request| request.method == "POST"),
            "none of it was forwarded"
        );
        // Dots within a name, and in a query, are no steps.
        for path in [format!("{ROOT}/a..b/...?../.."), format!("{ROOT}/x?y"), ROOT.to_owned()] {
            worker.tell(&say::transport("r1", "GET", &path));
            assert_eq!(answer(&mut worker, "r1").0, 200);
            assert_eq!(platform.last_forwarded().target, path);
        }
    });
}

#[test]
fn names_in_paths_are_encoded_as_uri_components() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let mut worker = Caller::worker("w:1", " e/1 (x)*~'!ü ").call(&relay);
        let path = "/api/runtime/workspaces/w%3A1/managed-executors/e%2F1%20(x)*~'!%C3%BC/x";
        worker.tell(&say::transport("r1", "GET", path));
        assert_eq!(answer(&mut worker, "r1").0, 200);
        assert_eq!(platform.last_forwarded().target, path);
        worker.tell(&say::transport("r2", "GET", &path.replace("%3A", ":")));
        assert_eq!(answer(&mut worker, "r2").0, 403);
    });
}

#[test]
fn invalid_requests_get_no_answer() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let good = say::transport("r1", "GET", ROOT);
        let wrong = [
            json!({}),
            with(good.clone(), "type", json!("viewport.worker_transport.response/v1")),
            with(good.clone(), "requestId", json!(" ")),
            with(good.clone(), "requestId", json!(1)),
            with(good.clone(), "method", json!("DELETE")),
            with(good.clone(), "method", json!("get")),
            with(good.clone(), "path", json!("/api/runtime/workspace/w1")),
            with(good.clone(), "path", json!("http://elsewhere.test/api/runtime/workspaces/w1")),
            with(good.clone(), "headers", Value::Null),
            with(good.clone(), "headers", json!([])),
            with(good.clone(), "body", Value::Null),
            with(good.clone(), "body", json!({})),
            say::envelope("s", 1),
        ];
        for message in &wrong {
            worker.tell(message);
        }
        worker.say("x");
        worker.tell(&with(good, "requestId", json!("r2")));
        assert_eq!(answer(&mut worker, "r2").0, 200);
        until_counted(&relay, "relay_frames_daemon_rejected_total", wrong.len() as u64 + 1);
        until_logged(&relay, "worker_frame_rejected", &json!({ "reason": "invalid_worker_transport_frame" }));
    });
}

#[test]
fn answers_come_as_they_are_ready_and_to_their_own_worker() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let mut first = Caller::worker("w1", "e1").call(&relay);
        let mut second = Caller::worker("w1", "e1").call(&relay);
        let slow = format!("{ROOT}/slow");
        platform.rig(&slow, Answer::Held);
        first.tell(&say::transport("slow", "GET", &slow));
        platform.until_asked(&slow);
        for n in 0..8 {
            first.tell(&with(
                say::transport(&format!("a{n}"), "POST", &format!("{ROOT}/a{n}")),
                "body",
                json!("b"),
            ));
            second.tell(&say::transport(&format!("b{n}"), "GET", &format!("{ROOT}/b{n}")));
        }
        for (worker, name) in [(&mut first, "a"), (&mut second, "b")] {
            let mut heard: Vec<String> = (0..8)
                .map(|_| {
                    let message = worker.expect("viewport.worker_transport.response/v1");
                    let echo: Value =
                        serde_json::from_str(message["body"].as_str().expect("text")).expect("JSON");
                    let request = message["requestId"].as_str().expect("a string").to_owned();
                    assert_eq!(echo["target"], format!("{ROOT}/{request}"));
                    request
                })
                .collect();
            heard.sort();
            assert_eq!(heard, (0..8).map(|n| format!("{name}{n}")).collect::<Vec<_>>());
        }
        platform.release(&slow);
        assert_eq!(answer(&mut first, "slow").0, 200);
        // An answer to a worker that is gone is dropped.
        platform.rig(&slow, Answer::Held);
        second.tell(&say::transport("late", "GET", &format!("{slow}?2")));
        drop(second);
        platform.release(&slow);
        first.tell(&say::transport("r", "GET", ROOT));
        assert_eq!(answer(&mut first, "r").0, 200);
    });
}

#[test]
fn answers_of_any_status_and_encoding_are_passed_on() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let reply = |status: &str, headers: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
            Answer::Bytes([head.as_bytes(), body].concat())
        };
        let packed =
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x2b\x48\x4c\xce\x4e\x4d\x01\x00\x10\xb4\xf6\x21\x06\x00\x00\x00";
        for (at, (answered, status, body)) in [
            (reply("204 No Content", "", b""), 204, ""),
            (reply("404 Not Found", "x: 1\r\n", b"nope"), 404, "nope"),
            (reply("500 Oops", "", b"\xff\xc3\xbc"), 500, "\u{fffd}\u{fc}"),
            (
                reply("200 OK", "content-type: text/plain; charset=iso-8859-1\r\n", "\u{fc}".as_bytes()),
                200,
                "\u{fc}",
            ),
            (reply("200 OK", "content-encoding: gzip\r\n", packed), 200, "packed"),
            (
                Answer::Bytes(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
                        .to_vec(),
                ),
                200,
                "abcdef",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let path = format!("{ROOT}/{at}");
            platform.rig(&path, answered);
            worker.tell(&say::transport("r", "GET", &path));
            let (heard, _, text) = answer(&mut worker, "r");
            assert_eq!((heard, text.as_str()), (status, body), "{path}");
        }
        until_counted(&relay, "relay_worker_transport_forwarded_total", 6);
    });
}

#[test]
fn redirects_do_not_leave_the_platform() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let elsewhere = Platform::start();
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let path = format!("{ROOT}/away");
        let location = format!("location: {}{ROOT}\r\ncontent-length: 0\r\n", elsewhere.url());
        platform.rig(&path, Answer::Bytes(format!("HTTP/1.1 302 Found\r\n{location}\r\n").into_bytes()));
        worker.tell(&say::transport("r", "GET", &path));
        let (status, ..) = answer(&mut worker, "r");
        assert!([302, 502].contains(&status), "{status}");
        assert!(elsewhere.requests().is_empty());
        // Within it they are followed.
        let path = format!("{ROOT}/here");
        let location = format!("location: {ROOT}/there\r\ncontent-length: 0\r\n");
        platform.rig(&path, Answer::Bytes(format!("HTTP/1.1 302 Found\r\n{location}\r\n").into_bytes()));
        worker.tell(&say::transport("r", "GET", &path));
        assert_eq!(answer(&mut worker, "r").0, 200);
        assert_eq!(platform.last_forwarded().target, format!("{ROOT}/there"));
    });
}

fn expect_failed(worker: &mut Peer, request: &str) {
    worker.expect_text(&status::transport_refused(request, 502, "WORKER_TRANSPORT_FORWARD_FAILED"));
}

#[test]
fn a_platform_that_does_not_answer_is_a_failure() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let headers = json!({ "authorization": "a\r\nb: c" });
        worker.tell(&with(say::transport("r0", "GET", ROOT), "headers", headers));
        expect_failed(&mut worker, "r0");
        for (request, answer) in [("r1", Answer::Cut), ("r2", Answer::CutInBody)] {
            let path = format!("{ROOT}/{request}");
            platform.rig(&path, answer);
            worker.tell(&say::transport(request, "GET", &path));
            expect_failed(&mut worker, request);
        }
        platform.stop();
        worker.tell(&say::transport("r\"3\u{e4}", "PATCH", &format!("{ROOT}/x")));
        expect_failed(&mut worker, "r\"3\u{e4}");
        until_counted(&relay, "relay_worker_transport_forward_failed_total", 4);
        assert_eq!(counted(&relay, "relay_worker_transport_forwarded_total"), 0);
        let path = format!("{ROOT}/x");
        until_logged(
            &relay,
            "worker_transport_forward_failed",
            &json!({ "workspaceId": "w1", "managedExecutorId": "e1", "method": "PATCH", "path": path }),
        );
    });
}

#[test]
fn answers_that_are_too_much_are_failures_and_large_ones_pass() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).start();
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        let large = "x".repeat(500_000);
        platform.rig(&format!("{ROOT}/large"), Answer::Reply(200, large.clone()));
        platform.rig(&format!("{ROOT}/huge"), Answer::Reply(200, "x".repeat(8 << 20)));
        worker.tell(&say::transport("r1", "GET", &format!("{ROOT}/large")));
        assert!(answer(&mut worker, "r1").2 == large);
        worker.tell(&say::transport("r2", "GET", &format!("{ROOT}/huge")));
        expect_failed(&mut worker, "r2");
        // And large ones the other way.
        let body = "\u{fc}".repeat(200_000);
        worker.tell(&with(say::transport("r3", "POST", &format!("{ROOT}/x")), "body", json!(body)));
        assert_eq!(answer(&mut worker, "r3").0, 200);
        assert!(platform.last_forwarded().body == body.as_bytes());
    });
}

#[test]
fn a_worker_that_hangs_up_leaves_nothing_behind() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let path = format!("{ROOT}/never");
        platform.rig(&path, Answer::Never);
        for _ in 0..10 {
            let mut worker = Caller::worker("w1", "e1").call(&relay);
            worker.tell(&say::transport("r", "GET", &path));
            worker.close(1000);
            match worker.hear(PATIENCE) {
                Heard::Closed(1000, _) | Heard::Dropped => {}
                other => panic!("{other:?}"),
            }
        }
        relay.until_empty();
        let mut worker = Caller::worker("w1", "e1").call(&relay);
        worker.tell(&say::transport("r", "GET", ROOT));
        assert_eq!(answer(&mut worker, "r").0, 200);
    });
}
