//! Heads that are right, incomplete and wrong; responses on the wire.

use super::*;

/// The example of RFC 6455 section 1.3, with a query and a host in capitals.
const HANDSHAKE: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: Server.Example.com \r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn head(request: &str) -> Head {
    parse(request.as_bytes()).expect("it is correct").expect("it is complete")
}

#[test]
fn the_handshake_of_the_rfc() {
    let request = format!("{HANDSHAKE}frames");
    assert_eq!(
        head(&request),
        Head {
            len: HANDSHAKE.len(),
            method: "GET".into(),
            path: "/chat".into(),
            keep_alive: true,
            body_len: Some(0),
            host: "server.example.com".into(),
            forwarded_for: None,
            origin: Some("http://example.com".into()),
            upgrade: Upgrade::WebSocket { accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into() },
        }
    );
    for cut in 0..HANDSHAKE.len() {
        assert_eq!(parse(&HANDSHAKE.as_bytes()[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn what_is_a_handshake_and_what_is_wrong_with_it() {
    let accept = |key: &[u8]| Upgrade::WebSocket { accept: derive_accept_key(key) };
    let usual = || accept(b"dGhlIHNhbXBsZSBub25jZQ==");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (from, to, upgrade) in [
        ("Connection: Upgrade", "connection: keep-alive,  UPGRADE", usual()),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade", usual()),
        ("Upgrade: websocket", "UPGRADE: h2c, WebSocket", usual()),
        ("Connection: Upgrade", "Connection: keep-alive", Upgrade::None),
        ("Connection: Upgrade", "Connection: not-upgrade", Upgrade::None),
        ("Upgrade: websocket", "Upgrade: h2c", Upgrade::Other),
        ("Upgrade: websocket", "X-Y: z", Upgrade::None),
        ("Version: 13", "Version: 8", Upgrade::WrongVersion),
        ("Version: 13", "Version: 14", Upgrade::WrongVersion),
        ("Sec-WebSocket-Version: 13", "X-Y: z", Upgrade::WrongVersion),
        ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", Upgrade::Malformed),
        (key, "X-Y: z", Upgrade::Malformed),
        (key, "Sec-WebSocket-Key: ", Upgrade::Malformed),
        ("ub25jZQ==", "ub25jZQ", Upgrade::Malformed), // no padding
        ("ub25jZQ==", "ub25j", Upgrade::Malformed),   // 15 bytes
        ("ub25jZQ==", "ub25jZWVl", Upgrade::Malformed), // 18 bytes
        ("ub25jZQ==", "ub25jZ!==", Upgrade::Malformed),
        ("ub25jZQ==", "ub25jZR==", accept(b"dGhlIHNhbXBsZSBub25jZR==")), // spare bits are noise
        (key, &format!("{key}\r\n{key}"), Upgrade::Malformed),
        ("GET", "POST", Upgrade::Malformed),
        ("HTTP/1.1", "HTTP/1.0", Upgrade::Malformed),
        (key, &format!("Content-Length: 1\r\n{key}"), Upgrade::Malformed),
    ] {
        let request = HANDSHAKE.replace(from, to);
        assert_ne!(request, HANDSHAKE);
        assert_eq!(head(&request).upgrade, upgrade, "{to}");
    }
}

#[test]
fn heads_that_could_be_read_in_two_ways_are_refused() {
    for fields in [
        "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        "Host: a\r\nContent-Length: 5\r\nContent-Length: 6",
        "Host: a\r\nContent-Length: 5, 5",
        "Host: a\r\nContent-Length: +5",
        "Host: a\r\nContent-Length: ",
        "Host: a\r\nContent-Length: \u{a0}5",
        "Host: a\r\nTransfer-Encoding: \u{a0}chunked",
        "Host: a\r\nContent-Length: 99999999999999999999",
        "Host: a\r\nTransfer-Encoding: identity",
        "Host: a\r\nTransfer-Encoding: chunked, gzip",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        "Host: a\r\nHost: b",
        "X-No-Host: a",
        "Host : a",
        "Host: a\r\n folded",
        "Host: a\0",
    ] {
        let request = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
        assert_eq!(parse(request.as_bytes()), Err(Reason::BadHead), "{fields}");
    }
    for request in ["GET / HTTP/2.0\r\n\r\n", "\x16\x03\x01\x02", "GET /\r\n\r\n", "\u{e9} / HTTP/1.1\r\n"] {
        assert_eq!(parse(request.as_bytes()), Err(Reason::BadHead), "{request:?}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(parse(old.as_bytes()), Err(Reason::BadHead));
}

#[test]
fn bodies_and_what_keeps_a_connection() {
    for (version, fields, keep_alive, body_len) in [
        ("1.1", "X: y", true, Some(0)),
        ("1.1", "Connection: Close", false, Some(0)),
        ("1.1", "Connection: a, close", false, Some(0)),
        ("1.0", "X: y", false, Some(0)),
        ("1.0", "Connection: Keep-Alive", true, Some(0)),
        ("1.0", "Connection: keep-alive, close", false, Some(0)),
        ("1.1", "Content-Length: 7", true, Some(7)),
        ("1.1", "Content-Length: 7\r\nContent-Length: 7", true, Some(7)),
        ("1.1", "Transfer-Encoding: gzip, Chunked", false, None),
    ] {
        let head = head(&format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n\r\n"));
        assert_eq!((head.keep_alive, head.body_len), (keep_alive, body_len), "{version} {fields}");
    }
    assert_eq!(head("GET / HTTP/1.0\r\n\r\n").host, "");
}

#[test]
fn targets_and_hops() {
    for (target, path, host) in [
        ("/v1/link?x=/y?z", "/v1/link", "own"),
        ("http://Other:80/v1/link?x", "/v1/link", "other:80"),
        ("HTTP://other?x=/y", "/", "other"),
        ("*", "*", "own"),
    ] {
        let head = head(&format!("GET {target} HTTP/1.1\r\nHost: own\r\n\r\n"));
        assert_eq!((&*head.path, &*head.host), (path, host), "{target}");
    }
    for (value, address) in [
        ("192.0.2.1", Some("192.0.2.1")),
        (" 192.0.2.1:4711 , 10.0.0.1", Some("192.0.2.1")),
        ("2001:db8::1,10.0.0.1", Some("2001:db8::1")),
        ("[2001:db8::1]", Some("2001:db8::1")),
        ("[2001:db8::1]:80", Some("2001:db8::1")),
        ("::ffff:192.0.2.1", Some("192.0.2.1")),
        ("unknown, 192.0.2.1", None),
        ("", None),
    ] {
        let head = head(&format!("GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: {value}\r\n\r\n"));
        assert_eq!(head.forwarded_for, address.map(|address| address.parse().unwrap()), "{value}");
    }
}

#[test]
fn a_head_has_at_most_16_kib_and_100_headers() {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let largest = format!("{start}{}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX - start.len() - 4));
    assert_eq!(head(&largest).len, HEAD_BYTES_MAX);
    assert_eq!(parse(&largest.as_bytes()[..HEAD_BYTES_MAX - 1]), Ok(None));
    let larger = largest.replace("\r\n\r\n", "x\r\n\r\n");
    assert_eq!(parse(&larger.as_bytes()[..HEAD_BYTES_MAX]), Err(Reason::HeadTooLarge));
    assert_eq!(parse(larger.as_bytes()), Err(Reason::HeadTooLarge));
    for (count, whole) in [(99, true), (100, false)] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count));
        let parsed = parse(request.as_bytes());
        assert_eq!(parsed.is_ok(), whole, "{parsed:?}");
        assert!(whole || parsed == Err(Reason::HeadTooLarge));
    }
}

#[test]
fn responses_on_the_wire() {
    let mut out = Vec::new();
    respond(&mut out, 404, &["content-type: application/json"], b"{}", true, false);
    respond(&mut out, 426, &["Sec-WebSocket-Version: 13"], b"old", false, true);
    switch_protocols(&mut out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", None);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\
         Connection: keep-alive\r\nCache-Control: no-store\r\n\r\n{}\
         HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 3\r\n\
         Connection: close\r\nCache-Control: no-store\r\n\r\n\
         HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}
