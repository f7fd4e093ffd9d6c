//! What a message may be made of: opcodes, sizes, encodings, JSON at its edges, and what a hostile peer sends.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 0, 6: JSON as ECMAScript reads it | `json_that_ecmascript_accepts_is_forwarded_unchanged` |
//! | 6: binary | the `binary` tests |
//! | 6: size | the `longest` tests |
//! | 6, 16: protocol errors | `broken_frames_close_their_own_socket_alone` |
//! | 26, O1 | `the_relay_survives_what_killed_its_predecessor` |
//! | 26, O8 | `workspace_routing.rs` |

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    Heard, PATIENCE, Raw, Relay,
    end::End,
    every_cell,
    http::Http,
    platform::Answer,
    wire,
    workspace::{
        Caller, Session, TARGET, agree, expect_policy, passes, say, setup, start, status, until_counted,
        until_daemon,
    },
};

const MIB: usize = 1 << 20;

/// An envelope whose text has this length.
fn envelope_of(session: &str, length: usize) -> String {
    let mut message = say::envelope(session, 1);
    message["ciphertext"] = json!("x");
    let padding = length - message.to_string().len() + 1;
    message["ciphertext"] = "x".repeat(padding).into();
    let text = message.to_string();
    assert_eq!(text.len(), length);
    text
}

#[test]
fn json_that_ecmascript_accepts_is_forwarded_unchanged() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let Session { mut daemon, mut client } = Session::new(&relay, "w1", "s1");
        let fields = [
            r#""type":"e2ee","version":2,"profile":"noise-ik","sessionId":"s1","epoch":1,"seq":1,"#,
            r#""iv":"i","tag":"t""#,
        ]
        .concat();
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
        for text in [
            format!(r#"{{{fields},"ciphertext":"\ud800 \uDFFF"}}"#),
            format!(r#"{{"version":7,"seq":"x",{fields},"ciphertext":"c"}}"#),
            format!(r#"{{{fields},"ciphertext":"c","type":"other","type":"e2ee"}}"#),
            format!(r#"{{{fields},"ciphertext":"c","version":2.0,"epoch":3e0,"seq":1e20}}"#),
            format!(r#"{{{fields},"ciphertext":"c","version":20e-1,"seq":1E+2}}"#),
            format!(r#"{{{fields},"ciphertext":"c","x":[1e400,-1e400,-0,1e-400]}}"#),
            format!(r#"{{{fields},"ciphertext":"c","x":{deep}}}"#),
            format!(r#"{{{fields},"ciphertext":"c","x":{deep_objects}}}"#),
            format!("\r\n\t {{{fields},\"ciphertext\":\"c\"}}\n "),
            format!("{{{fields},\"ciphertext\":\"\u{7f}\u{2028}\u{1f600}\"}}"),
            format!(r#"{{{fields},"ciphert\u0065xt":"\u0063"}}"#),
            format!(r#"{{{fields},"ciphertext":"c","":{{"type":"no"}},"__proto__":{{"type":"no"}}}}"#),
        ] {
            client.say(&text);
            daemon.expect_text(&text);
            daemon.say(&text);
            client.expect_text(&text);
        }
        for text in [
            format!("\u{feff}{{{fields},\"ciphertext\":\"c\"}}"),
            format!(r#"{{{fields},"ciphertext":"c","type":"other"}}"#),
            format!(r#"{{{fields},"ciphertext":"c","seq":1e400}}"#),
            format!("{{{fields},\"ciphertext\":\"\u{1}\"}}"),
            format!(r#"{{{fields},"ciphertext":"\x41"}}"#),
            format!(r#"{{{fields},"ciphertext":"c","x":01}}"#),
            format!(r#"{{{fields},"ciphertext":"c","x":+1}}"#),
            format!(r#"{{{fields},"ciphertext":"c"}} {{}}"#),
            format!(r#"{{{fields},"ciphertext":"c","x":{deep}"#),
            format!("{{{fields},\"ciphertext\":\"c\"\u{a0}}}"),
        ] {
            client.say(&text);
            client.expect_text(&status::invalid_frame("w1"));
        }
    });
}

#[test]
fn binary_messages_are_forwarded_as_text() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let message = say::init("gr\u{fc}n").to_string();
        client.send_binary(message.as_bytes());
        daemon.expect_text(&message);
        let answer = say::response("gr\u{fc}n", "s1").to_string();
        daemon.send_binary(answer.as_bytes());
        client.expect_text(&answer);
    });
}

#[test]
fn binary_that_is_no_utf8_becomes_replacement_characters() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let mut bytes = say::init("r1").to_string().into_bytes();
        let end = bytes.len() - 1;
        bytes.splice(end..end, *b",\"x\":\"\xff\xe2\x82 \xc3\"");
        client.send_binary(&bytes);
        let replaced = String::from_utf8_lossy(&bytes).into_owned();
        daemon.expect_text(&replaced);
        // One that grows over the limit by that is closed with a reason.
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        client.send_binary(&vec![0xFF; 400_000]);
        match client.hear(PATIENCE) {
            Heard::Closed(code, reason) => assert_eq!((code, reason.as_str()), (1009, "frame too large")),
            other => panic!("{other:?}"),
        }
        until_counted(&relay, "relay_ws_frame_too_large_total", 1);
    });
}

/// Sends a text of this length and hears what becomes of it.
fn too_long(relay: &Relay, caller: &Caller, frames: &[Vec<u8>]) {
    let mut raw = caller.call_raw(relay);
    for frame in frames {
        raw.write(frame);
    }
    match raw.hear(PATIENCE) {
        Heard::Closed(code, reason) => assert_eq!((code, reason.as_str()), (1009, ""), "{caller:?}"),
        // Unread bytes make the kernel reset the connection, and a reset may overtake the close frame.
        Heard::Dropped => {}
        other => panic!("{caller:?}: {other:?}"),
    }
}

#[test]
fn the_longest_message_passes_and_one_byte_more_closes() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let Session { mut daemon, mut client } = Session::new(&relay, "w1", "s1");
        for length in [MIB - 1, MIB] {
            let text = envelope_of("s1", length);
            client.say(&text);
            daemon.expect_text(&text);
            daemon.say(&text);
            client.expect_text(&text);
        }
        let whole = wire::message(wire::TEXT, envelope_of("s1", MIB + 1).as_bytes());
        let half = vec![b' '; MIB / 2];
        let fragments = [
            wire::client_frame(wire::TEXT, [1, 2, 3, 4], &half),
            wire::client_frame(wire::CONTINUATION, [1, 2, 3, 4], &half),
            wire::client_frame(0x80 | wire::CONTINUATION, [1, 2, 3, 4], b"x"),
        ];
        for caller in [
            Caller::client("w2", TARGET, "c1"),
            Caller::daemon("w2", TARGET),
            Caller::worker("w2", "e1"),
            Caller::viewer("w2", TARGET, "c1", &[]),
        ] {
            too_long(&relay, &caller, std::slice::from_ref(&whole));
            too_long(&relay, &caller, &fragments);
            too_long(&relay, &caller, &[wire::client_header(0x82, [0; 4], 1 << 40)]);
        }
        passes(&mut client, &say::envelope("s1", 2), &mut daemon);
    });
}

#[test]
fn the_longest_message_is_an_option() {
    every_cell(|cell| {
        let platform = support::platform::Platform::start();
        let relay = setup(cell, &platform).env("RELAY_MAX_FRAME_BYTES", "1000").start();
        let Session { mut daemon, mut client } = Session::new(&relay, "w1", "s1");
        let text = envelope_of("s1", 1000);
        client.say(&text);
        daemon.expect_text(&text);
        too_long(&relay, &Caller::client("w1", TARGET, "c2"), &[wire::message(wire::TEXT, &[b' '; 1001])]);
    });
}

#[test]
fn fragments_and_pings_between_them_make_one_message() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call_raw(&relay);
        let text = say::init(&"r".repeat(5000)).to_string();
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(700).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let opcode = if at == 0 { wire::TEXT } else { wire::CONTINUATION };
            let fin = if at + 1 == pieces.len() { 0x80 } else { 0 };
            client.write(&wire::client_frame(fin | opcode, [at as u8; 4], piece));
            assert_eq!(client.ping(&[at as u8], PATIENCE), 0);
        }
        daemon.expect_text(&text);
    });
}

/// A broken frame and the close code it earns.
fn broken() -> Vec<(Vec<u8>, u16)> {
    vec![
        // Unmasked, a reserved bit, a reserved opcode, a continuation of nothing, a long and a cut ping.
        (b"\x81\x02{}".to_vec(), 1002),
        (wire::client_frame(0xC1, [1; 4], b"{}"), 1002),
        (wire::client_frame(0x83, [1; 4], b"{}"), 1002),
        (wire::client_frame(0x80, [1; 4], b"{}"), 1002),
        (wire::client_frame(0x89, [1; 4], &[0; 126]), 1002),
        (wire::client_frame(0x09, [1; 4], b""), 1002),
        (wire::message(wire::CLOSE, b"\x03"), 1002),
        (wire::message(wire::TEXT, b"{\"a\":\"\xff\"}"), 1007),
        (wire::message(wire::TEXT, b"\xed\xa0\x80"), 1007),
    ]
}

#[test]
fn broken_frames_close_their_own_socket_alone() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let Session { mut daemon, mut client } = Session::new(&relay, "w1", "s1");
        for (bytes, code) in broken() {
            for caller in
                [Caller::client("w1", TARGET, "c2"), Caller::daemon("w2", TARGET), Caller::worker("w1", "e1")]
            {
                let mut raw = caller.call_raw(&relay);
                raw.write(&bytes);
                assert_eq!(
                    raw.hear(PATIENCE),
                    Heard::Closed(code, String::new()),
                    "{bytes:x?} of {caller:?}"
                );
                if caller.path().contains("workspace-daemon") {
                    until_daemon(&relay, "w2", false);
                }
            }
        }
        passes(&mut client, &say::envelope("s1", 1), &mut daemon);
    });
}

#[test]
fn a_peer_that_broke_the_protocol_is_not_waited_for() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut raw = Caller::client("w1", TARGET, "c1").call_raw(&relay);
        raw.write(b"\x81\x02{}");
        // Its answer to the close could not be understood. Ours has half a minute for those that can.
        raw.expect_closed_somehow(1002);
        let closed = Instant::now();
        raw.expect_lost();
        assert!(closed.elapsed() < PATIENCE / 2, "it was waited for {:?}", closed.elapsed());
    });
}

#[test]
fn the_relay_survives_what_killed_its_predecessor() {
    every_cell(|cell| {
        let (platform, relay) = start(cell);
        let Session { mut daemon, mut client } = Session::new(&relay, "w1", "s1");
        // Broken, oversize and undecodable frames on sockets that have just been refused.
        let rejected = Caller::client("w1", TARGET, "c2").claim("workspaceId", "other");
        for (bytes, _) in broken() {
            for late in [false, true] {
                let mut raw = rejected.call_raw(&relay);
                if late {
                    expect_policy(&mut raw, "workspace claim mismatch");
                }
                raw.write(&bytes);
                raw.write(&wire::client_header(0x82, [0; 4], 1 << 40));
            }
        }
        // A reset, or an end, while the platform is asked.
        for n in 0..20 {
            let caller = Caller::client("w1", TARGET, "c2");
            platform.rig(&caller.token(), Answer::Held);
            let asked = caller.ask(&relay);
            platform.until_asked(&caller.token());
            let (stream, _) = asked.into_parts();
            if n % 2 == 0 {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP stream");
            }
            drop(stream);
            platform.release(&caller.token());
        }
        // Targets and hosts that are no URL, as upgrades and not.
        for head in [
            "GET // HTTP/1.1\r\nHost: x\r\n",
            "GET /ws HTTP/1.1\r\nHost: a b\r\n",
            "GET http:// HTTP/1.1\r\nHost: [\r\n",
        ] {
            for upgrade in ["", "Connection: Upgrade\r\nUpgrade: websocket\r\n"] {
                let mut http = Http::over(relay.dial());
                http.write(format!("{head}{upgrade}\r\n").as_bytes());
                while http.response().is_some() {}
            }
        }
        // Resets of every kind of live socket, also in the middle of a frame.
        for caller in
            [Caller::client("w1", TARGET, "c3"), Caller::worker("w1", "e1"), Caller::daemon("w2", TARGET)]
        {
            let mut raw = caller.call_raw(&relay);
            raw.write(&wire::client_header(0x81, [0; 4], 1000));
            raw.reset();
        }
        passes(&mut client, &say::envelope("s1", 1), &mut daemon);
        passes(&mut daemon, &say::envelope("s1", 1), &mut client);
        support::eventually("only the session is left", || relay.connections() == 2);
        let mut fresh = Caller::client("w1", TARGET, "c4").call(&relay);
        agree(&mut fresh, &mut daemon, "s2");
    });
}

#[test]
fn garbage_never_ends_the_relay() {
    every_cell(|cell| {
        use rand::RngExt;
        let (_platform, relay) = start(cell);
        let mut random = support::bulk::seeded("garbage");
        let mut daemon = Caller::daemon("w1", TARGET).call(&relay);
        let mut client = Caller::client("w1", TARGET, "c1").call(&relay);
        let whole = [
            say::envelope("s", 1),
            say::init("r"),
            say::subscribe("agent-session:1"),
            say::transport("r", "GET", "/x"),
        ];
        for n in 0..60 {
            let caller = match n % 4 {
                0 => Caller::client("w1", TARGET, "c2"),
                1 => Caller::pairing("w2", TARGET, "c2"),
                2 => Caller::viewer("w1", TARGET, "c2", &["agent-session:1"]),
                _ => Caller::worker("w1", "e1"),
            };
            let mut raw: Raw = caller.call_raw(&relay);
            for _ in 0..10 {
                let mut bytes = whole[random.random_range(0..whole.len())].to_string().into_bytes();
                for _ in 0..random.random_range(1..4) {
                    let at = random.random_range(0..bytes.len());
                    match random.random_range(0..3) {
                        0 => bytes[at] = random.random(),
                        1 => bytes.truncate(at.max(1)),
                        _ => bytes.insert(at, random.random()),
                    }
                }
                let opcode = if random.random() { wire::TEXT } else { wire::BINARY };
                raw.write(&wire::message(opcode, &bytes));
            }
            raw.write(&bulk_of(&mut random));
        }
        agree(&mut client, &mut daemon_without_noise(&mut daemon), "s1");
    });
}

/// Random bytes where a frame should begin.
fn bulk_of(random: &mut rand_chacha::ChaCha8Rng) -> Vec<u8> {
    support::bulk::content(random, 64)
}

/// A daemon that skips what others sent it.
fn daemon_without_noise(daemon: &mut support::Peer) -> Quiet<'_> {
    Quiet(daemon)
}

/// An end that hears only what belongs to the session `s1`.
struct Quiet<'a>(&'a mut support::Peer);

impl End for Quiet<'_> {
    fn open_at(_: &Relay, _: &str) -> Self {
        unreachable!("it wraps an open end")
    }

    fn say(&mut self, text: &str) {
        self.0.say(text);
    }

    fn hear(&mut self, within: Duration) -> Heard {
        loop {
            match self.0.hear(within) {
                Heard::Text(text) if !text.contains("request of s1") => {
                    assert!(serde_json::from_str::<Value>(&text).is_ok() || !text.is_empty());
                }
                heard => return heard,
            }
        }
    }
}
