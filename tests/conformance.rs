//! Generated traffic through the relay, beside what `tungstenite` and npm `ws` conclude from the same bytes.
//!
//! Both judge what the sender sent as the server that it believes it speaks to, and what the relay sent as its
//! client. The peer behind the relay has to be told what a direct peer would have understood, and the sender what a
//! direct peer would have said; where the judges differ from the relay, `support/violations.rs` says how.
//!
//! `WS_SEQUENCES=n` runs n sequences of each kind, `WS_SEQUENCE=seed` one that failed.

mod support;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use support::{
    Cell, End, Heard, Host, Link, PATIENCE, Raw, Relay, bulk,
    direct::Direct,
    every_cell,
    pair::{Pair, relay_message, relayed},
    relay::{LINK_PATH, PAIR_PATH},
    sequence::{self, Sequence, Traffic, converse, listen},
    verdict::{self, Message, Text, Ws},
    violations::{self, Violation},
    wire::{self, BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, client_frame},
    workspace::{self, Caller, say, status},
};
use tungstenite::protocol::Role;

#[test]
fn others_judge_each_violation_as_stated() {
    let ws = Ws::start();
    let relayed = Violation::new("text that is not UTF-8", 1007, wire::message(TEXT, b"\xFF"));
    let bad_gateway = wire::message(CLOSE, &wire::close_payload(1014, b""));
    let registered = Violation {
        tungstenite: verdict::End::Fault(1002),
        ws: verdict::End::Closed(Some(1014)),
        ..Violation::new("close code 1014", 1014, bad_gateway)
    };
    let others = [relayed, registered, violations::too_long()];
    let all = [&violations::violations()[..], &violations::text_violations(), &others].concat();
    for Violation { what, bytes, tungstenite, ws: other, .. } in all {
        assert_eq!(
            verdict::tungstenite(&bytes, Role::Server).end,
            tungstenite,
            "tungstenite: {what}: {bytes:x?}"
        );
        assert_eq!(ws.judge(&bytes, Role::Server, Text::Checked).end, other, "ws: {what}: {bytes:x?}");
    }
}

#[test]
fn a_relayed_peer_understands_what_a_direct_one_would() {
    let message = |random: &mut ChaCha8Rng| {
        let len = sequence::length(random, usize::MAX);
        if random.random_bool(0.5) {
            return (BINARY, bulk::content(random, len));
        }
        let mut text = sequence::text(random, len).into_bytes();
        if random.random_bool(0.1) {
            // The relay looks into no payload; whether this is text is for the peer to say.
            text.extend(b"\xE2\x82");
        }
        (TEXT, text)
    };
    let mut violations = violations::violations();
    violations.push(violations::too_long());
    let traffic = Traffic { message: &message, violations: &violations, may_be_gone: true };
    let ws = Ws::start();
    let mut sequences: Vec<Sequence> =
        seeds("relayed", 150).into_iter().map(|seed| Sequence::of(seed, &traffic)).collect();
    if sequences.len() > 1 {
        let mut random = bulk::seeded("16 MiB");
        let long = bulk::content(&mut random, verdict::MESSAGE_MAX);
        // An even seed sends from the client, an odd one from the host.
        sequences.extend([2, 3].map(|seed| Sequence::of_message(seed, BINARY, &long)));
    }
    let direct: Vec<Direct> =
        sequences.into_iter().map(|sequence| Direct::of(sequence, Text::Opaque, &ws)).collect();
    every_cell(|cell| {
        let relay = cell.start();
        each(cell, &direct, |direct| {
            let Link { client, host, .. } = Host::register(&relay).join::<Raw, Raw>(&relay);
            let (mut sender, mut receiver) =
                if direct.sequence.seed.is_multiple_of(2) { (client, host) } else { (host, client) };
            let (back, there) = thread::scope(|scope| {
                let receiver = receiver.writer();
                let there = scope.spawn(move || listen(receiver, |frame| frame.opcode == CLOSE));
                (converse(&mut sender, &direct.sequence), there.join().expect("it listens to the end"))
            });
            direct.check_back(&ws, &back, &[]);
            direct.check_there(&ws, &there);
        });
    });
}

#[test]
fn a_link_control_socket_understands_what_another_server_would() {
    let message =
        |random: &mut ChaCha8Rng| (TEXT, padded(random, r#"{"type":"resolve","address":"nowhere""#, 4096));
    let answer = r#"{"type":"error","error":"unknown_address"}"#;
    each_answers("link control", &message, answer, |cell| {
        let relay = cell.start();
        let open = |relay: &Relay| Raw::open_at(relay, LINK_PATH);
        (relay, Box::new(open))
    });
}

#[test]
fn a_pair_socket_understands_what_another_server_would() {
    let message = |random: &mut ChaCha8Rng| {
        (if random.random() { TEXT } else { BINARY }, padded(random, r#"{"type":"ping""#, 8192))
    };
    let answer = r#"{"type":"pong"}"#;
    each_answers("pair", &message, answer, |cell| {
        let relay = cell.start();
        let open = |relay: &Relay| Raw::open_at(relay, PAIR_PATH);
        (relay, Box::new(open))
    });
}

#[test]
fn a_workspace_socket_understands_what_another_server_would() {
    let message = |random: &mut ChaCha8Rng| {
        let subscribe = say::subscribe("agent-session:1").to_string();
        let subscribe = subscribe.strip_suffix('}').expect("an object");
        (if random.random() { TEXT } else { BINARY }, padded(random, subscribe, 200_000))
    };
    let answer = status::subscribed("agent-session:1", 0);
    each_answers("workspace", &message, &answer, |cell| {
        let (platform, relay) = workspace::start(cell);
        let viewer = Caller::viewer("w1", workspace::TARGET, "c1", &["agent-session:1"]);
        let open = move |relay: &Relay| {
            let _asked = &platform;
            viewer.call_raw(relay)
        };
        (relay, Box::new(open))
    });
}

#[test]
fn a_paired_device_gets_the_messages_that_a_server_would_have_understood() {
    let ws = Ws::start();
    let violations = [violations::violations(), violations::text_violations()].concat();
    let seeds = seeds("pair", 20);
    every_cell(|cell| {
        let relay = cell.start();
        for &seed in &seeds {
            let Pair { id, source, target, .. } = Pair::<Raw>::new(&relay);
            let (mut sender, mut receiver, from) =
                if seed.is_multiple_of(2) { (source, target, "source") } else { (target, source, "target") };
            let message = |random: &mut ChaCha8Rng| {
                let len = sequence::length(random, usize::MAX);
                let payload = sequence::text(random, len);
                let opcode = if random.random() { TEXT } else { BINARY };
                (opcode, relay_message(&id, &payload).into_bytes())
            };
            let traffic = Traffic { message: &message, violations: &violations, may_be_gone: true };
            let direct = Direct::of(Sequence::of(seed, &traffic), Text::Checked, &ws);
            let back = converse(&mut sender, &direct.sequence);
            drop(sender);
            direct.check_back(&ws, &back, &[]);
            let mut heard = 0;
            loop {
                let message = receiver.expect_any(&["relay", "peer-disconnected"]);
                if message["type"] != "relay" {
                    break;
                }
                let payload = message["payload"].as_str().expect("a string");
                assert_eq!(message, relayed(from, payload), "WS_SEQUENCE={seed}");
                let sent = relay_message(&id, payload);
                let expected = &direct.strict.messages[heard];
                assert_eq!(Message::new(expected.text, sent.as_bytes()), *expected, "WS_SEQUENCE={seed}");
                heard += 1;
            }
            assert_eq!(heard, direct.strict.messages.len(), "WS_SEQUENCE={seed}");
        }
    });
}

#[test]
fn a_stream_may_be_cut_at_any_byte() {
    let text = "gr\u{fc}n \u{20ac} ".repeat(18);
    let (one, rest) = text.as_bytes().split_at(3);
    let (two, three) = rest.split_at(126);
    let stream = [
        client_frame(TEXT, wire::MASK, one),
        client_frame(FIN | PING, wire::MASK, b"between"),
        client_frame(CONTINUATION, [0; 4], two),
        client_frame(FIN | PONG, wire::MASK, b""),
        client_frame(CONTINUATION, wire::MASK, b""),
        client_frame(FIN | CONTINUATION, wire::MASK, three),
        client_frame(FIN | BINARY, wire::MASK, b""),
    ]
    .concat();
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        for at in 0..=stream.len() {
            let (one, other) = stream.split_at(at);
            let (sender, receiver) = if at % 2 == 0 {
                (&mut link.client, &mut link.host)
            } else {
                (&mut link.host, &mut link.client)
            };
            sender.write(one);
            thread::sleep(Duration::from_millis(1));
            sender.write(other);
            assert_eq!(receiver.hear(PATIENCE), Heard::Text(text.clone()), "cut at {at}");
            assert_eq!(receiver.hear(PATIENCE), Heard::Binary(Vec::new()), "cut at {at}");
            assert_eq!(sender.pong(), b"between", "cut at {at}");
        }
    });
}

/// Seeds, their first one printed, as many as `WS_SEQUENCES` asks for; or the one of `WS_SEQUENCE`.
fn seeds(what: &str, count: u64) -> Vec<u64> {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse().expect("a number"));
    if let Some(seed) = number("WS_SEQUENCE") {
        return vec![seed];
    }
    let first: u64 = bulk::seeded(what).random_range(0..u64::MAX / 2);
    (first..first + number("WS_SEQUENCES").unwrap_or(count)).collect()
}

/// An object of this beginning, with a field that makes it as long as it comes, up to `most` bytes.
fn padded(random: &mut ChaCha8Rng, beginning: &str, most: usize) -> Vec<u8> {
    let whole = |padding: &str| format!(r#"{beginning},"x":"{padding}"}}"#).into_bytes();
    let len = sequence::length(random, most);
    // Control characters would have to be escaped.
    let padding = sequence::text(random, len.saturating_sub(whole("").len())).replace('\0', "0");
    whole(&padding)
}

/// Runs sequences on a kind of socket that gives each message the same answer.
fn each_answers(
    what: &str,
    message: &(dyn Fn(&mut ChaCha8Rng) -> (u8, Vec<u8>) + Sync),
    answer: &str,
    start: impl Fn(Cell) -> (Relay, Box<dyn Fn(&Relay) -> Raw + Sync>) + Sync,
) {
    let violations = [violations::violations(), violations::text_violations()].concat();
    let traffic = Traffic { message, violations: &violations, may_be_gone: false };
    let ws = Ws::start();
    let answer = Message::new(true, answer.as_bytes());
    let sequences = seeds(what, 80).into_iter().map(|seed| Sequence::of(seed, &traffic));
    let direct: Vec<Direct> = sequences.map(|sequence| Direct::of(sequence, Text::Checked, &ws)).collect();
    every_cell(|cell| {
        let (relay, open) = start(cell);
        each(cell, &direct, |direct| {
            let back = converse(&mut open(&relay), &direct.sequence);
            direct.check_back(&ws, &back, &vec![answer.clone(); direct.strict.messages.len()]);
        });
    });
}

/// Runs a check for each, several at a time.
fn each(cell: Cell, all: &[Direct], check: impl Fn(&Direct) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(direct) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = catch_unwind(AssertUnwindSafe(|| check(direct))) {
                        eprintln!("{cell}: WS_SEQUENCE={}", direct.sequence.seed);
                        resume_unwind(failure);
                    }
                }
            });
        }
    });
}
