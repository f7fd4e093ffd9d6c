//! Workers' requests (workspace.md section 9.3).

use std::{sync::mpsc, time::Duration};

use super::{
    rig::{Rig, config, forward},
    server::{Server, nobody, respond},
};
use crate::{
    control::PlatformConfig,
    dialect::workspace::{Answer, Method, Response},
};

const PATH: &str = "/api/runtime/workspaces/w1/managed-executors/e1/runs?x=1";

fn rig(platform: &Server) -> Rig {
    Rig::start(config(&platform.url("127.0.0.1")))
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn the_request_is_the_workers_and_nothing_is_added_that_means_something() {
    let platform = Server::plain(|_, stream| respond(stream, "200 OK", "", b"done"));
    let rig = rig(&platform);
    let headers =
        [("Authorization", "Bearer x"), ("X-Viewport-Run-Lease", " lease "), ("Content-Type", "a/b")];
    let body = "{\"a\": 1}\r\n\u{e9}\u{0}";
    let response = rig.forward(Method::Patch, PATH, &headers, Some(body)).expect("it is answered");
    assert_eq!((response.status, &*response.body), (200, "done"));
    let heard = platform.next();
    assert_eq!((&*heard.method, &*heard.path, &*heard.body), ("PATCH", PATH, body));
    assert_eq!(heard.header("authorization"), Some("Bearer x"));
    assert_eq!(heard.header("x-viewport-run-lease"), Some("lease"));
    assert_eq!(heard.header("content-type"), Some("a/b"));
    let names: Vec<_> = heard.headers.iter().map(|(name, _)| name.as_str()).collect();
    for name in names {
        let known =
            ["authorization", "x-viewport-run-lease", "content-type", "content-length", "host", "accept"];
        assert!(known.contains(&name) || name == "accept-encoding", "{name}");
    }
}

#[test]
fn get_has_no_body_and_post_without_a_type_is_plain_text() {
    let platform = Server::plain(|_, stream| respond(stream, "200 OK", "", b""));
    let rig = rig(&platform);
    rig.forward(Method::Get, PATH, &[("accept", "a/b")], None).expect("it is answered");
    let get = platform.next();
    assert_eq!((&*get.method, get.header("content-type"), &*get.body), ("GET", None, ""));
    assert_eq!(get.header("accept"), Some("a/b"));
    rig.forward(Method::Post, PATH, &[], Some("")).expect("it is answered");
    let post = platform.next();
    assert_eq!((&*post.method, post.header("content-length")), ("POST", Some("0")));
    assert_eq!(post.header("content-type"), Some("text/plain;charset=UTF-8"));
}

#[test]
fn every_status_is_an_answer() {
    for status in ["204 No Content", "304 Not Modified", "404 Not Found", "500 Oops"] {
        let platform = Server::plain(move |_, stream| {
            write!(stream, "HTTP/1.1 {status}\r\nX-Reason: why\r\nSet-Cookie: s=1\r\n")?;
            write!(
                stream,
                "{}\r\n",
                if status.starts_with(['2', '3']) { "" } else { "content-length: 0\r\n" }
            )?;
            Ok(false)
        });
        let response = rig(&platform).forward(Method::Get, PATH, &[], None).expect("it is answered");
        assert!(status.starts_with(&response.status.to_string()), "{response:?}");
        assert_eq!((header(&response, "x-reason"), &*response.body), (Some("why"), ""));
        assert_eq!(header(&response, "set-cookie"), None);
    }
}

#[test]
fn a_compressed_answer_is_passed_on_as_text() {
    let platform = Server::plain(|heard, stream| {
        assert!(heard.header("accept-encoding").is_some_and(|names| names.contains("gzip")));
        respond(stream, "200 OK", "content-encoding: gzip\r\ncontent-type: text/plain\r\n", &GZIPPED)
    });
    let response = rig(&platform).forward(Method::Get, PATH, &[], None).expect("it is answered");
    assert_eq!(response.body, "hello, worker");
    assert_eq!(
        (header(&response, "content-type"), header(&response, "content-encoding")),
        (Some("text/plain"), None)
    );
}

#[test]
fn redirects_are_followed_within_the_origin_with_the_body_where_they_keep_it() {
    let platform = Server::plain(|heard, stream| match &*heard.path {
        "/there" => respond(stream, "200 OK", "", format!("{} {}", heard.method, heard.body).as_bytes()),
        "/keep" => respond(stream, "307 Temporary Redirect", "location: /there\r\n", b""),
        _ => respond(stream, "302 Found", "location: /there\r\n", b""),
    });
    let rig = rig(&platform);
    let body = |path: &str| rig.forward(Method::Post, path, &[], Some("b")).expect("it is answered").body;
    assert_eq!(body("/keep"), "POST b");
    assert_eq!(body("/turn"), "GET ");
}

#[test]
fn a_redirect_to_another_origin_is_the_answer() {
    let other = Server::plain(|_, stream| respond(stream, "200 OK", "", b"secrets"));
    let location = other.url("127.0.0.1");
    let platform = Server::plain(move |_, stream| {
        respond(stream, "307 Temporary Redirect", &format!("Location: {location}\r\n"), b"")
    });
    let response = rig(&platform).forward(Method::Get, PATH, &[], None).expect("it is answered");
    assert_eq!((response.status, header(&response, "location")), (307, Some(&*other.url("127.0.0.1"))));
    assert!(other.heard.try_recv().is_err(), "nobody went there");
}

#[test]
fn a_redirect_in_a_circle_is_a_failure() {
    let platform = Server::plain(|_, stream| respond(stream, "302 Found", "location: /again\r\n", b""));
    let failure = rig(&platform).forward(Method::Get, PATH, &[], None).expect_err("it has no end");
    assert!(failure.contains("too many redirects"), "{failure}");
}

#[test]
fn an_answer_that_no_frame_could_hold_is_a_failure() {
    let platform = Server::plain(|heard, stream| match &*heard.path {
        "/body" => respond(stream, "200 OK", "", &[b'x'; 1001]),
        "/headers" => respond(stream, "200 OK", &format!("x: {}\r\n", "x".repeat(1001)), b""),
        "/zip" => respond(stream, "200 OK", "content-encoding: gzip\r\n", &BOMB),
        _ => respond(stream, "200 OK", "", &[b'x'; 900]),
    });
    let rig = Rig::start(PlatformConfig { forward_bytes_max: 1000, ..config(&platform.url("127.0.0.1")) });
    for path in ["/body", "/headers", "/zip"] {
        let failure = rig.forward(Method::Get, path, &[], None).expect_err("it is too long");
        assert!(failure.contains("too long"), "{path}: {failure}");
    }
    assert_eq!(rig.forward(Method::Get, "/", &[], None).expect("it fits").body.len(), 900);
}

#[test]
fn what_cannot_be_sent_or_reached_is_a_failure() {
    let platform = Server::plain(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut")?;
        Ok(false)
    });
    let rig = rig(&platform);
    let failure = |path, headers: &[_]| rig.forward(Method::Get, path, headers, None).expect_err("a failure");
    assert_eq!(failure(PATH, &[("accept", "a\r\nb: c")]), "a header cannot be sent");
    assert_eq!(failure("/api/../x", &[]), "the path leads elsewhere");
    assert!(!failure(PATH, &[]).is_empty());
    let alone = Rig::start(config(&format!("http://{}/", nobody())));
    let failure = alone.forward(Method::Get, PATH, &[], None).expect_err("nobody is there");
    assert!(failure.contains("refused"), "{failure}");
}

#[test]
fn a_request_has_its_own_deadline() {
    let (_hold, held) = mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    let platform = Server::plain(move |_, _| {
        let _ = held.lock().recv();
        Ok(false)
    });
    let url = platform.url("127.0.0.1");
    let rig = Rig::start(PlatformConfig { forward_timeout: Duration::from_millis(200), ..config(&url) });
    let failure = rig.forward(Method::Get, PATH, &[], None);
    assert_eq!(failure, Err("no complete answer within 200 ms".to_owned()));
}

#[test]
fn requests_of_a_worker_run_at_once_and_answers_come_as_they_are_ready() {
    let (release, held) = mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    let platform = Server::plain(move |heard, stream| {
        if heard.path == "/slow" {
            let _ = held.lock().recv();
        }
        respond(stream, "200 OK", "", heard.path.as_bytes())
    });
    let rig = rig(&platform);
    rig.ask(forward("slow", Method::Get, "/slow", &[], None));
    platform.next();
    rig.ask(forward("fast", Method::Get, "/fast", &[], None));
    let id = |answer| match answer {
        Answer::Forwarded { request_id, outcome: Ok(_) } => request_id,
        other => panic!("no answer to a worker: {other:?}"),
    };
    assert_eq!(id(rig.next()), "fast");
    release.send(()).expect("it waits");
    assert_eq!(id(rig.next()), "slow");
}

/// `hello, worker`, as gzip writes it.
const GZIPPED: [u8; 33] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xd7, 0x51,
    0x28, 0xcf, 0x2f, 0xca, 0x4e, 0x2d, 0x02, 0x00, 0x99, 0xaa, 0xae, 0xb6, 0x0d, 0x00, 0x00, 0x00,
];

/// 20,000 times `x`, as gzip writes it.
const BOMB: [u8; 54] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x31, 0x01, 0x00, 0x00, 0x00,
    0xc2, 0xa0, 0xda, 0x8b, 0x6f, 0x0d, 0x0f, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x78, 0x30, 0x03, 0x47, 0x65, 0x41, 0x20,
    0x4e, 0x00, 0x00,
];
