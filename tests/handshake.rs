//! The opening handshake (RFC 6455 section 4) on the paths of the link and the pair dialect: what is refused and how,
//! what is offered and not taken, and what follows the request at once. The workspace dialect has a contract of its
//! own for this, and `workspace_upgrade.rs`.

mod support;

use support::{
    End, Heard, PATIENCE, Raw, Relay, every_cell,
    http::{Http, Response},
    raw::{EXAMPLE_ACCEPT, EXAMPLE_KEY, upgrade_head_at},
    relay::{LINK_PATH, PAIR_PATH},
    wire::{self, BINARY, CLOSE, FIN, MASK, PING, TEXT, client_frame, message},
};

const PATHS: [&str; 2] = [LINK_PATH, PAIR_PATH];

/// Sends bytes on a connection of their own; gives the response, and the connection behind it.
fn ask(relay: &Relay, bytes: &[u8]) -> (Response, Http) {
    let mut http = Http::connect(relay.address);
    http.write(bytes);
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
    let response = http.response().unwrap_or_else(|| panic!("no response to {start:?}"));
    (response, http)
}

#[test]
fn a_handshake_that_is_none_is_refused_on_every_path() {
    every_cell(|cell| {
        let relay = cell.start();
        for path in PATHS {
            let head = upgrade_head_at(&relay, path);
            let key = format!("Sec-WebSocket-Key: {EXAMPLE_KEY}\r\n");
            let version = "Sec-WebSocket-Version: 13\r\n";
            let host = format!("Host: {}\r\n", relay.address);
            let cases = [
                // Not a request for a WebSocket: what a plain request to the path gets.
                ("no Upgrade", 404, head.replace("Upgrade: websocket\r\n", "")),
                ("no Connection", 404, head.replace("Connection: Upgrade\r\n", "")),
                (
                    "a Connection without upgrade",
                    404,
                    head.replace("Connection: Upgrade", "Connection: close"),
                ),
                ("another protocol", 404, head.replace("Upgrade: websocket", "Upgrade: h2c")),
                ("another protocol that begins so", 404, head.replace("websocket", "websocket2")),
                // Section 4.2.1.
                ("HTTP/1.0", 400, head.replace("HTTP/1.1", "HTTP/1.0")),
                ("POST", 400, head.replace("GET ", "POST ")),
                ("get", 400, head.replace("GET ", "get ")),
                ("no Host", 400, head.replace(&host, "")),
                ("two Hosts", 400, head.replace(&host, &host.repeat(2))),
                ("no key", 400, head.replace(&key, "")),
                ("an empty key", 400, head.replace(EXAMPLE_KEY, "")),
                ("two keys", 400, head.replace(&key, &key.repeat(2))),
                ("a key of 15 bytes", 400, head.replace(EXAMPLE_KEY, "AAAAAAAAAAAAAAAAAAAA")),
                ("a key of 17 bytes", 400, head.replace(EXAMPLE_KEY, "AAAAAAAAAAAAAAAAAAAAAAA=")),
                ("a key that is not base64", 400, head.replace(EXAMPLE_KEY, "!!!!!!!!!!!!!!!!!!!!!!==")),
                ("a key that is base64url", 400, head.replace(EXAMPLE_KEY, "__________________8A_w==")),
                ("a key without padding", 400, head.replace("==", "")),
                ("a body", 400, head.replace(version, &format!("{version}Content-Length: 5\r\n"))),
                (
                    "a chunked body",
                    400,
                    head.replace(version, &format!("{version}Transfer-Encoding: chunked\r\n")),
                ),
                ("two versions in two lines", 400, head.replace(version, &version.repeat(2))),
                // Section 4.4.
                ("no version", 426, head.replace(version, "")),
                ("version 8", 426, head.replace("Version: 13", "Version: 8")),
                ("version 14", 426, head.replace("Version: 13", "Version: 14")),
                ("version 013", 426, head.replace("Version: 13", "Version: 013")),
                ("two versions in a list", 426, head.replace("Version: 13", "Version: 13, 8")),
                ("a version that is no number", 426, head.replace("Version: 13", "Version: thirteen")),
            ];
            for (what, status, head) in cases {
                let (response, mut http) = ask(&relay, head.as_bytes());
                assert_eq!(response.status, status, "{path}: {what}");
                let version = response.header("sec-websocket-version");
                assert_eq!(version, (status == 426).then_some("13"), "{path}: {what}");
                assert_eq!(response.header("sec-websocket-accept"), None, "{path}: {what}");
                // One that asked for nothing but a page may ask again.
                assert!(status == 404 || http.is_over(), "{path}: {what}: the connection is closed");
            }
        }
    });
}

#[test]
fn a_handshake_may_be_written_in_any_legal_way() {
    every_cell(|cell| {
        let relay = cell.start();
        for path in PATHS {
            let head = upgrade_head_at(&relay, path);
            for head in [
                head.to_lowercase()
                    .replacen("get", "GET", 1)
                    .replacen("http/", "HTTP/", 1)
                    .replace(&EXAMPLE_KEY.to_lowercase(), EXAMPLE_KEY),
                head.replace("Connection: Upgrade", "Connection:keep-alive,Upgrade"),
                head.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: \tUPGRADE \t"),
                head.replace("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
                head.replace(path, &format!("http://{}{path}", relay.address)),
                head.replace(path, &format!("{path}?a=/b?c")),
                head.replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version:13\r\nCookie: a=b\r\nX:"),
            ] {
                let (response, http) = ask(&relay, head.as_bytes());
                assert_eq!(response.status_line, "HTTP/1.1 101 Switching Protocols", "{head}");
                for (name, value) in [
                    ("upgrade", "websocket"),
                    ("connection", "Upgrade"),
                    ("sec-websocket-accept", EXAMPLE_ACCEPT),
                ] {
                    assert_eq!(response.header(name), Some(value), "{head}");
                }
                drop(http);
            }
        }
    });
}

#[test]
fn what_a_handshake_offers_is_not_taken() {
    every_cell(|cell| {
        let relay = cell.start();
        for path in PATHS {
            let head = upgrade_head_at(&relay, path);
            for offer in [
                "Sec-WebSocket-Extensions: permessage-deflate",
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15, x-webkit-deflate-frame",
                "Sec-WebSocket-Extensions: permessage-bzip2\r\nSec-WebSocket-Extensions: permessage-deflate",
                "Sec-WebSocket-Extensions: ;,=\"",
                "Sec-WebSocket-Protocol: chat, superchat",
                "Sec-WebSocket-Protocol: a b c,,",
                "Sec-WebSocket-Accept: AAAA",
            ] {
                let head = head.replace("\r\n\r\n", &format!("\r\n{offer}\r\n\r\n"));
                // A compressed message right behind the request, as if the extension had been taken.
                let compressed = client_frame(FIN | 0x40 | BINARY, MASK, b"\xf2H\xcd\xc9\xc9\x07\x00");
                let mut http = Http::connect(relay.address);
                http.write(&[head.as_bytes(), &compressed].concat());
                let response = http.response().expect("a response");
                assert_eq!(response.status, 101, "{offer}");
                for name in ["sec-websocket-extensions", "sec-websocket-protocol"] {
                    assert_eq!(response.header(name), None, "{offer}");
                }
                assert_eq!(response.header("sec-websocket-accept"), Some(EXAMPLE_ACCEPT), "{offer}");
                let (mut stream, unread) = http.into_parts();
                assert_close(&mut stream, unread, 1002);
            }
        }
    });
}

#[test]
fn what_follows_the_handshake_at_once_is_read_as_frames() {
    every_cell(|cell| {
        let relay = cell.start();
        for path in PATHS {
            let behind = |bytes: &[u8]| {
                let mut http = Http::connect(relay.address);
                http.write(&[upgrade_head_at(&relay, path).as_bytes(), bytes].concat());
                http
            };
            // A ping, whole and in parts.
            let ping = message(PING, b"early");
            for cut in [1, 5, ping.len()] {
                let mut socket = Raw::upgraded(behind(&ping[..cut]));
                socket.write(&ping[cut..]);
                assert_eq!(socket.pong(), b"early", "{path}");
            }
            // A close, and what breaks the protocol.
            let mut socket = Raw::upgraded(behind(&message(CLOSE, &wire::close_payload(1001, b"bye"))));
            assert_eq!(socket.hear(PATIENCE), Heard::Closed(1001, String::new()), "{path}");
            for (bytes, code) in [
                (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], 1002),
                (b"\x16\x03\x01\x02\x00\x01", 1002),
                (b"\x81\x02{}", 1002),
                (&message(TEXT, b"\xff"), 1007),
            ] {
                let mut socket = Raw::upgraded(behind(bytes));
                match socket.hear(PATIENCE) {
                    Heard::Closed(heard, _) => assert_eq!(heard, code, "{path}: {bytes:x?}"),
                    other => panic!("{path}: {bytes:x?}: {other:?}"),
                }
            }
        }
    });
}

#[test]
fn a_head_that_is_too_much_is_431_and_one_that_is_not_upgrades() {
    every_cell(|cell| {
        let relay = cell.start();
        for path in PATHS {
            let head = upgrade_head_at(&relay, path);
            let with = |fields: &str| head.replace("\r\n\r\n", &format!("\r\n{fields}\r\n\r\n"));
            let cookie = |len: usize| with(&format!("Cookie: {}", "c".repeat(len)));
            let fields = |count: usize| with(&vec!["A: b"; count].join("\r\n"));
            let (own, lines) = (head.len(), head.matches("\r\n").count() - 2);
            for (what, status, head) in [
                ("16 KiB", 101, cookie(16 * 1024 - own - 10)),
                ("16 KiB and a byte", 431, cookie(16 * 1024 - own - 9)),
                ("64 KiB", 431, cookie(64 * 1024)),
                ("a mebibyte", 431, cookie(1 << 20)),
                ("a target of 64 KiB", 431, head.replace(path, &format!("{path}?{}", "q".repeat(64 * 1024)))),
                ("100 fields", 101, fields(100 - lines)),
                ("101 fields", 431, fields(101 - lines)),
                ("1000 fields", 431, fields(1000)),
            ] {
                let (response, _) = ask(&relay, head.as_bytes());
                assert_eq!(response.status, status, "{path}: {what}");
            }
        }
    });
}

/// Reads a close frame with this code.
fn assert_close(stream: &mut std::net::TcpStream, mut bytes: Vec<u8>, code: u16) {
    use std::io::Read;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
    while bytes.len() < 4 {
        let mut chunk = [0; 256];
        let n = stream.read(&mut chunk).expect("a close frame comes");
        assert!(n > 0, "the stream ended before a close frame");
        bytes.extend_from_slice(&chunk[..n]);
    }
    assert_eq!((bytes[0], &bytes[2..4]), (FIN | CLOSE, &code.to_be_bytes()[..]));
}
