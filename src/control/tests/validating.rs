//! Asking the platform, and everything that can become of it (workspace.md section 4.2).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{
    rig::{Rig, config, request},
    server::{OK, Server, Stream, nobody, reply, respond},
};
use crate::{
    control::PlatformConfig,
    dialect::workspace::{Answer, Ask, Method},
    limits::ADMISSIONS_AT_ONCE,
};

/// A rig whose platform answers everything with these bytes and closes.
fn answering(bytes: &'static [u8]) -> (Rig, Server) {
    let platform = Server::plain(move |_, stream| {
        stream.write_all(bytes)?;
        Ok(false)
    });
    (Rig::start(config(&platform.url("127.0.0.1"))), platform)
}

/// A rig whose platform is given only so many milliseconds.
fn hurried(platform: &Server, millis: u64) -> Rig {
    Rig::start(PlatformConfig {
        admission_timeout: Duration::from_millis(millis),
        ..config(&platform.url("127.0.0.1"))
    })
}

#[test]
fn the_question_is_the_contracts() {
    let platform = Server::plain(|_, stream| reply(stream, OK));
    let rig = Rig::start(config(&format!("http://127.0.0.1:{}/some/prefix?x", platform.address.port())));
    rig.ask(Ask::Admit { token: "tok\"en-123456".into(), request: request(Some("rt1")) });
    assert!(matches!(rig.next(), Answer::Admitted(Ok(claims)) if claims.client_id.as_deref() == Some("c1")));
    let heard = platform.next();
    assert_eq!((&*heard.method, &*heard.path), ("POST", "/api/runtime/internal/relay/validate"));
    assert_eq!(heard.header("content-type"), Some("application/json"));
    assert_eq!(heard.header("x-relay-internal-key"), Some("key-1"));
    assert_eq!(heard.header("content-length"), Some(&*heard.body.len().to_string()));
    assert_eq!(
        heard.body,
        r#"{"relayToken":"tok\"en-123456","role":"client","workspaceId":"w1","runtimeTargetId":"rt1"}"#
    );
    rig.admit().expect("it is admitted");
    assert_eq!(
        platform.next().body,
        r#"{"relayToken":"a-token-of-mine","role":"client","workspaceId":"w1"}"#
    );
}

#[test]
fn without_a_key_there_is_no_header_for_it() {
    let platform = Server::plain(|_, stream| reply(stream, OK));
    let rig = Rig::start(PlatformConfig { internal_key: None, ..config(&platform.url("127.0.0.1")) });
    rig.admit().expect("it is admitted");
    assert_eq!(platform.next().header("x-relay-internal-key"), None);
}

#[test]
fn what_the_platform_says_is_logged_with_its_status() {
    for (bytes, status, reason) in [
        (
            &b"HTTP/1.1 403 Forbidden\r\ncontent-length: 31\r\n\r\n{\"ok\":false,\"reason\":\"EXPIRED\"} "[..],
            403,
            "EXPIRED",
        ),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}", 500, "VALIDATION_FAILED"),
        (b"HTTP/1.1 502 Bad\r\nconnection: close\r\n\r\n<html>", 502, "INVALID_JSON"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, "INVALID_JSON"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"ok\":true} ", 200, "INVALID_CLAIMS"),
    ] {
        let (rig, _platform) = answering(bytes);
        let denied = rig.denied();
        assert_eq!((denied.status, &*denied.reason), (status, reason));
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let platform = Server::plain(|heard, stream| match &*heard.path {
        "/elsewhere" => reply(stream, OK),
        _ => respond(stream, "302 Found", "location: /elsewhere\r\n", b"{}"),
    });
    let rig = Rig::start(config(&platform.url("127.0.0.1")));
    let denied = rig.denied();
    assert_eq!((denied.status, &*denied.reason), (302, "VALIDATION_FAILED"));
    platform.next();
    rig.stop();
    assert!(platform.heard.try_recv().is_err(), "it was asked once");
}

#[test]
fn an_answer_may_be_as_long_as_the_limit_and_no_longer() {
    for (is_chunked, spare, admitted) in
        [(false, 0, true), (false, 1, false), (true, 0, true), (true, 1, false)]
    {
        let body = format!("{OK}{}", " ".repeat(1000 - OK.len() + spare));
        let platform = Server::plain(move |_, stream| {
            if !is_chunked {
                return reply(stream, &body);
            }
            write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            for chunk in body.as_bytes().chunks(100) {
                write!(stream, "{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk))?;
            }
            write!(stream, "0\r\n\r\n")?;
            Ok(true)
        });
        let url = platform.url("127.0.0.1");
        let rig = Rig::start(PlatformConfig { admission_bytes_max: 1000, ..config(&url) });
        match rig.admit() {
            Ok(_) => assert!(admitted),
            Err(denied) => {
                assert!(!admitted, "{denied:?}");
                assert_eq!((denied.status, &*denied.reason), (502, "ADMISSION_RESPONSE_TOO_LARGE"));
            }
        }
    }
}

#[test]
fn an_answer_that_never_ends_is_cut_off_at_the_limit() {
    let platform = Server::plain(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b' '; 4096])?;
        }
    });
    assert_eq!(
        Rig::start(config(&platform.url("127.0.0.1"))).denied().reason,
        "ADMISSION_RESPONSE_TOO_LARGE"
    );
}

#[test]
fn an_answer_cut_in_the_middle_is_a_failure_at_once() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"ok\":true,"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ok\"\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        // The deadline is a minute: what denies is the cut.
        let (rig, _platform) = answering(bytes);
        let denied = rig.denied();
        assert_eq!(denied.status, 504, "{denied:?}");
        assert!(!denied.reason.is_empty() && !denied.reason.contains("no complete answer"), "{denied:?}");
    }
}

#[test]
fn a_platform_that_is_not_there_is_a_failure() {
    let denied = Rig::start(config(&format!("http://{}/", nobody()))).denied();
    assert_eq!(denied.status, 504);
    assert!(denied.reason.contains("refused"), "{denied:?}");
    let denied = Rig::start(config("http://no-such-host.invalid/")).denied();
    assert_eq!(denied.status, 504);
}

#[test]
fn a_platform_that_does_not_answer_has_until_the_deadline() {
    let (_hold, held) = mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    let platform = Server::plain(move |_, _| {
        let _ = held.lock().recv();
        Ok(false)
    });
    let denied = hurried(&platform, 200).denied();
    assert_eq!((denied.status, &*denied.reason), (504, "no complete answer within 200 ms"));
}

#[test]
fn a_dribble_does_not_move_the_deadline() {
    let platform = Server::plain(|_, stream: &mut dyn Stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
        loop {
            stream.write_all(b" ")?;
            stream.flush()?;
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(hurried(&platform, 300).denied().reason, "no complete answer within 300 ms");
}

#[test]
fn each_question_has_a_connection_of_its_own_so_that_none_is_lost_with_an_old_one() {
    // It would keep the connection, which it may as well close at any moment.
    let platform = Server::plain(|_, stream| reply(stream, OK));
    let rig = Rig::start(config(&platform.url("127.0.0.1")));
    for turn in 0..5 {
        rig.admit().expect("it is admitted");
        assert_eq!(platform.next().connection, turn);
    }
}

#[test]
fn only_so_many_are_asked_at_once_and_the_others_wait_their_turn() {
    const ASKED: usize = ADMISSIONS_AT_ONCE + 20;
    let inside = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (hold, held) = mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    let (arrive, arrived) = mpsc::channel();
    let platform = Server::plain({
        let most = Arc::clone(&most);
        move |heard, stream| {
            if heard.path == "/api/x" {
                return reply(stream, OK);
            }
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _ = arrive.send(());
            // Until all that may come are here.
            let _ = held.lock().recv();
            inside.fetch_sub(1, Ordering::SeqCst);
            reply(stream, OK)
        }
    });
    let rig = Rig::start(config(&platform.url("127.0.0.1")));
    for _ in 0..ASKED {
        rig.ask(Ask::Admit { token: "a-token-of-mine".into(), request: request(None) });
    }
    for _ in 0..ADMISSIONS_AT_ONCE {
        arrived.recv().expect("they come");
    }
    // Requests that wait for no turn, one after the other: whoever else was on the way would have come before them.
    for _ in 0..5 {
        rig.forward(Method::Get, "/api/x", &[], None).expect("it is answered");
    }
    drop(hold);
    for _ in 0..ASKED {
        assert!(matches!(rig.next(), Answer::Admitted(Ok(_))));
    }
    assert_eq!(most.load(Ordering::SeqCst), ADMISSIONS_AT_ONCE);
}
