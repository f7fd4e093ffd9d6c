//! RFC 6455 as the relay keeps it: on sockets that it reads itself, and on relayed ones that it only passes
//! on.

mod support;

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    End, Heard, Host, Link, PATIENCE, Peer, Raw, bulk, eventually, every_cell,
    violations::{Violation, violations},
    wire::{
        self, BINARY, CLOSE, CONTINUATION, FIN, Frame, MASK, PING, PONG, TEXT, client_frame, client_header,
        message,
    },
};

const MESSAGE_MAX: usize = 16 * 1024 * 1024;

#[test]
fn a_violation_closes_a_socket_without_a_role() {
    every_cell(|cell| {
        let relay = cell.start();
        // All at once, because a fault's close handshake may take its two seconds.
        let mut guilty = Vec::new();
        for Violation { what, code, bytes, .. } in violations() {
            let mut socket = Raw::open(&relay);
            socket.write(&bytes);
            guilty.push((what, code, socket));
            // And in the worst segmentation, which the header's parts have to survive.
            let mut socket = Raw::open(&relay);
            let (first, rest) = bytes.split_at(bytes.len().min(16));
            first.iter().for_each(|byte| socket.write(&[*byte]));
            socket.write(rest);
            guilty.push((what, code, socket));
        }
        let expected = guilty.iter().filter(|(_, code, _)| *code == 1002).count();
        for (what, code, socket) in &mut guilty {
            closed(socket, what, *code);
        }
        eventually("each is counted", || {
            let counted = relay.metrics().sum_of("longsplice_closed_total", &[("reason", "protocol_error")]);
            counted == expected as f64
        });
    });
}

#[test]
fn a_violation_on_a_relayed_link_closes_both_ends_each_with_its_code() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut links = Vec::new();
        for (n, Violation { what, code, bytes, .. }) in violations().into_iter().enumerate() {
            let Link { client, host, .. } = host.join::<Raw, Raw>(&relay);
            let (mut guilty, other) = if n % 2 == 0 { (client, host) } else { (host, client) };
            guilty.write(&[message(BINARY, b"before"), bytes].concat());
            links.push((what, code, guilty, other));
        }
        for (what, code, guilty, other) in &mut links {
            assert_eq!(other.hear(PATIENCE), Heard::Binary(b"before".to_vec()), "{what}");
            closed(guilty, what, *code);
            // What came before the fault within its message may have been passed on.
            loop {
                let frame = other.frame();
                if frame.opcode == CLOSE {
                    assert_eq!(frame.payload[..2], 4003_u16.to_be_bytes(), "{what}: the other end");
                    break;
                }
                assert!(!frame.fin && frame.payload.len() <= 1, "{what}: passed on {frame:?}");
            }
        }
    });
}

#[test]
fn a_fault_stops_what_follows_it() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let bytes =
            [message(TEXT, b"fine"), client_frame(FIN | 3, MASK, b"fault"), message(TEXT, b"too late")]
                .concat();
        link.client.write(&bytes);
        link.host.expect_text("fine");
        link.host.expect_closed(4003);
        link.client.expect_closed(1002);
    });
}

#[test]
fn control_text_has_to_be_utf_8_and_payload_has_not() {
    every_cell(|cell| {
        let relay = cell.start();
        for text in
            [&b"{\"type\":\"\xFF\"}"[..], b"\xC0\x80", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xE2\x82"]
        {
            let mut socket = Raw::open(&relay);
            socket.write(&message(TEXT, text));
            closed(&mut socket, "text that is not UTF-8", 1007);
        }
        let (_host, mut link) = Link::<Raw>::new(&relay);
        link.client.write(&message(TEXT, b"\xFF\xFE opaque"));
        let frame = link.host.frame();
        assert_eq!(frame, Frame { fin: true, opcode: TEXT, payload: b"\xFF\xFE opaque".to_vec() });
    });
}

#[test]
fn a_character_may_be_cut_by_fragments_of_a_control_message() {
    every_cell(|cell| {
        let relay = cell.start();
        let text = json!({ "type": "resolve", "address": "\u{1f600}\u{20ac}" }).to_string().into_bytes();
        let mut socket = Raw::open(&relay);
        let last = text.len() - 1;
        for (n, byte) in text.iter().enumerate() {
            let first = if n == 0 { TEXT } else { CONTINUATION };
            socket.write(&client_frame(first | if n == last { FIN } else { 0 }, MASK, &[*byte]));
            if n % 7 == 0 {
                socket.write(&client_frame(FIN | PING, MASK, b"between"));
                socket.write(&client_frame(CONTINUATION, MASK, b""));
            }
        }
        socket.expect_error("unknown_address");
    });
}

#[test]
fn a_close_is_echoed_with_its_code() {
    every_cell(|cell| {
        let relay = cell.start();
        let codes =
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
        for code in codes {
            let mut socket = Raw::open(&relay);
            socket.write(&message(CLOSE, &wire::close_payload(code, "gr\u{fc}n".as_bytes())));
            let frame = socket.frame();
            assert_eq!((frame.opcode, &frame.payload[..2]), (CLOSE, &code.to_be_bytes()[..]), "{code}");
            socket.expect_dropped();
        }
        // Without a code, and the longest reason.
        let mut socket = Raw::open(&relay);
        socket.write(&message(CLOSE, b""));
        let frame = socket.frame();
        assert_eq!(frame.opcode, CLOSE);
        assert!(frame.payload.is_empty() || frame.payload == 1000_u16.to_be_bytes(), "{:?}", frame.payload);
        socket.expect_dropped();
        let mut socket = Raw::open(&relay);
        socket.write(&message(CLOSE, &wire::close_payload(1000, &[b'r'; 123])));
        assert_eq!(socket.frame().opcode, CLOSE);
        socket.expect_dropped();
    });
}

#[test]
fn nothing_is_taken_after_a_close() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut socket = Raw::open(&relay);
        let late = json!({ "type": "resolve", "address": "x" }).to_string();
        socket.write(
            &[
                message(CLOSE, &wire::close_payload(1000, b"")),
                message(TEXT, late.as_bytes()),
                message(PING, b"late"),
            ]
            .concat(),
        );
        assert_eq!(socket.frame().opcode, CLOSE);
        socket.expect_dropped();

        let (_host, mut link) = Link::<Raw>::new(&relay);
        link.client.write(&[message(CLOSE, b""), message(TEXT, b"late")].concat());
        link.host.expect_closed(4003);
    });
}

#[test]
fn a_close_that_is_not_answered_is_over_after_two_seconds() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut socket = Raw::open(&relay);
        let started = Instant::now();
        socket.say("nonsense");
        assert_eq!(socket.frame().opcode, CLOSE);
        // We answer nothing, and keep our side open.
        socket.expect_lost();
        let took = started.elapsed();
        support::assert_within("over after", took, Duration::from_millis(1500)..=Duration::from_secs(15));
        relay.until_empty();
    });
}

#[test]
fn a_message_may_have_16_mib_and_no_byte_more() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut link: Link<Raw> = host.join(&relay);
        let payload = bulk::content(&mut bulk::seeded("16 MiB"), MESSAGE_MAX);
        let whole = message(BINARY, &payload);
        let fragmented = [
            client_frame(BINARY, MASK, &payload[..MESSAGE_MAX - 1000]),
            client_frame(FIN | CONTINUATION, MASK, &payload[MESSAGE_MAX - 1000..]),
        ]
        .concat();
        for bytes in [whole, fragmented] {
            let mut writer = link.client.writer();
            let sender = thread::spawn(move || writer.write_all(&bytes));
            let Heard::Binary(arrived) = link.host.hear(PATIENCE) else { panic!("not the message") };
            assert_eq!(arrived.len(), MESSAGE_MAX);
            assert_eq!(bulk::hash(&arrived), bulk::hash(&payload));
            sender.join().expect("no panic").expect("the relay took it");
        }
        // The count starts anew with each message: a third would be over otherwise. Now one byte more, by
        // header alone.
        for too_big in [
            client_header(FIN | BINARY, MASK, MESSAGE_MAX as u64 + 1),
            client_header(BINARY, MASK, u64::MAX >> 1),
            [client_frame(TEXT, MASK, b"x"), client_header(FIN, MASK, MESSAGE_MAX as u64)].concat(),
        ] {
            let mut link: Link<Raw> = host.join(&relay);
            link.host.write(&too_big);
            closed(&mut link.host, "16 MiB and a byte", 1009);
            loop {
                let frame = link.client.frame();
                if frame.opcode == CLOSE {
                    assert_eq!(frame.payload[..2], 4003_u16.to_be_bytes());
                    break;
                }
                assert_eq!(
                    (frame.fin, frame.payload.len()),
                    (false, 1),
                    "only what was allowed is passed on"
                );
            }
        }
    });
}

#[test]
fn fragments_keep_their_type_and_control_frames_pass_between_them() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        for opcode in [TEXT, BINARY] {
            let expected = |text: &str| match opcode {
                TEXT => Heard::Text(text.to_owned()),
                _ => Heard::Binary(text.as_bytes().to_vec()),
            };
            link.client.write(&client_frame(opcode, MASK, b"one "));
            link.client.ping(b"between", PATIENCE);
            link.client.write(&client_frame(CONTINUATION, [0; 4], b"two "));
            link.client.write(&client_frame(CONTINUATION, MASK, b""));
            link.client.write(&client_frame(FIN | PONG, MASK, b"unasked"));
            // The other direction goes its own way meanwhile.
            link.host.say("meanwhile");
            link.client.expect_text("meanwhile");
            link.client.write(&client_frame(FIN | CONTINUATION, MASK, b"three"));
            assert_eq!(link.host.hear(PATIENCE), expected("one two three"));
            // Empty messages are messages.
            link.client.write(&client_frame(FIN | opcode, MASK, b""));
            assert_eq!(link.host.hear(PATIENCE), expected(""));
            link.client.write(&[client_frame(opcode, MASK, b""), client_frame(FIN, MASK, b"")].concat());
            assert_eq!(link.host.hear(PATIENCE), expected(""));
        }
    });
}

#[test]
fn a_message_that_begins_before_its_link_relays_arrives_whole() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        // Fragments before and behind, one cut within a frame, and one of which only an empty fragment came.
        let whole = client_frame(FIN | BINARY, MASK, b"first second");
        let fragments = |first: &[u8], second: &[u8]| {
            (client_frame(TEXT, MASK, first), client_frame(FIN | CONTINUATION, MASK, second))
        };
        for (expected, (before, behind)) in [
            (Heard::Text("first second".to_owned()), fragments(b"first ", b"second")),
            (Heard::Text("second".to_owned()), fragments(b"", b"second")),
            (Heard::Text("first ".to_owned()), fragments(b"first ", b"")),
            (Heard::Binary(b"first second".to_vec()), (whole[..9].to_vec(), whole[9..].to_vec())),
            (Heard::Binary(b"first second".to_vec()), (whole[..4].to_vec(), whole[4..].to_vec())),
        ] {
            let (mut client, id) = host.pend::<Raw>(&relay);
            // The pong behind it shows that it was taken.
            let in_frame = expected == Heard::Binary(b"first second".to_vec());
            client.write(&before);
            if in_frame {
                thread::sleep(Duration::from_millis(20));
            } else {
                client.ping(b"taken", PATIENCE);
            }
            let mut dialled_back = Raw::open(&relay);
            support::link::accept(&mut dialled_back, &id);
            client.expect_relaying(&id);
            client.write(&behind);
            assert_eq!(dialled_back.hear(PATIENCE), expected);
            Link { id, client, host: dialled_back }.check();
        }
    });
}

#[test]
fn a_frame_is_passed_on_as_it_comes_and_the_receiver_can_ping_in_the_middle_of_it() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        // A megabyte is announced, a thousand bytes come.
        let payload = vec![0x33; 1 << 20];
        let frame = client_frame(FIN | BINARY, MASK, &payload);
        let (first, rest) = frame.split_at(1014);
        link.client.write(first);
        let mut arrived = Vec::new();
        while arrived.len() < 1000 {
            let part = link.host.frame();
            assert_eq!(
                (part.fin, part.opcode),
                (false, if arrived.is_empty() { BINARY } else { CONTINUATION })
            );
            arrived.extend(part.payload);
        }
        assert_eq!(arrived, payload[..1000]);
        assert_eq!(link.host.ping(b"in the middle", PATIENCE), 0);
        // And its own messages are not held up by the half frame.
        link.host.say("meanwhile");
        link.client.expect_text("meanwhile");
        link.client.write(rest);
        loop {
            let part = link.host.frame();
            assert_eq!(part.opcode, CONTINUATION);
            arrived.extend(part.payload);
            if part.fin {
                break;
            }
        }
        assert!(arrived == payload, "the payload is whole");
        link.check();
    });
}

#[test]
fn a_sender_that_vanishes_within_a_frame_leaves_the_receiver_at_a_frame_boundary() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        for reset in [false, true] {
            let mut link: Link<Raw> = host.join(&relay);
            link.client.write(&client_frame(FIN | BINARY, MASK, &[1; 1 << 20])[..50_000]);
            let mut arrived = 0;
            while arrived < 49_000 {
                arrived += link.host.frame().payload.len();
            }
            if reset {
                link.client.reset();
            } else {
                drop(link.client);
            }
            loop {
                let frame = link.host.frame();
                if frame.opcode == CLOSE {
                    assert_eq!(frame.payload[..2], 4003_u16.to_be_bytes());
                    break;
                }
                assert!(!frame.fin, "a message that did not end");
            }
        }
    });
}

#[test]
fn a_ping_is_answered_while_a_large_message_is_on_its_way_to_the_same_peer() {
    every_cell(|cell| {
        // Paced, the message takes ten seconds.
        let relay = cell.setup().env("LINK_RELAY_MAX_BPS", 200_000).start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let mut writer = link.client.writer();
        let sender = thread::spawn(move || writer.write_all(&message(BINARY, &vec![0; 2_400_000])));
        let started = Instant::now();
        let mut before = link.host.frame().payload.len();
        for n in 0..5_u8 {
            before += link.host.ping(&[n], PATIENCE);
        }
        // The relay was in the middle of the message when it answered all of them.
        assert!(before < 2_000_000, "the pongs came after {before} bytes");
        assert!(started.elapsed() < Duration::from_secs(8), "the machine was too busy to tell");
        drop(link);
        let _ = sender.join().expect("no panic");
    });
}

#[test]
fn the_newest_of_many_pings_is_answered() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let pings: Vec<u8> = (0..200_u8).flat_map(|n| message(PING, &[n])).collect();
        link.client.write(&pings);
        let mut newest = None;
        while newest != Some(199) {
            let pong = link.client.pong();
            let n = *pong.first().expect("no ping was empty");
            assert!(newest.is_none_or(|newest| n > newest), "pongs in order");
            newest = Some(n);
        }
        link.check();
    });
}

#[test]
fn tungstenite_is_content_with_what_it_gets() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Raw, Peer>::new(&relay);
        let text = "gr\u{fc}n \u{1f600} ".repeat(20_000);
        let bytes = text.as_bytes();
        // Fragments of any size, cut in any character.
        let mut frames = Vec::new();
        let mut at = 0_usize;
        for (n, size) in
            [1, 2, 3, 125, 126, 127, 1000, 65_535, 65_536, 0, 7, usize::MAX].into_iter().enumerate()
        {
            let end = at.saturating_add(size).min(bytes.len());
            let first = if n == 0 { TEXT } else { CONTINUATION } | if end == bytes.len() { FIN } else { 0 };
            frames.extend(client_frame(first, MASK, &bytes[at..end]));
            at = end;
        }
        link.client.write(&frames);
        assert!(link.host.hear(PATIENCE) == Heard::Text(text), "the text arrived changed");
        link.check();
    });
}

/// The next frame closes this socket with this code, and then the stream ends.
fn closed(socket: &mut Raw, what: &str, code: u16) {
    let frame = socket.frame();
    assert_eq!(frame.opcode, CLOSE, "{what}: {frame:?}");
    let heard = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
    assert_eq!(heard, code, "{what}: closed {heard}");
    socket.write(&message(CLOSE, &frame.payload));
    socket.expect_dropped();
}
