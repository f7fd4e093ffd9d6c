//! That a payload comes out as it went in, in order, once, to the right peer, and that a peer which does not
//! read costs nobody else anything.
//!
//! | pair.md | shown by |
//! |---|---|
//! | 2: `relay` with `from` and `payload` unchanged | the `payloads` tests, and the one of escapes |
//! | 2: text and binary | `payloads_of_every_size_arrive_unchanged_both_ways` |
//! | 3: the other end gets `peer-disconnected` | `what_was_sent_before_the_end_arrives_before_the_news_of_it` |
//! | 3: inference payloads up to 1 MiB | `ten_megabytes_each_way_at_once_arrive_unchanged` |
//! | 3: sessions apart from each other | `payloads_of_many_sessions_never_mix` |
//! | back-pressure and bounds | the `reader` tests, `half_sent_messages_of_many_stay_within_the_budget`, the last one |

mod support;

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use support::{
    End, Heard, PATIENCE, Peer, Raw, Relay, assert_within, bulk, eventually, every_cell, every_cell_in_turn,
    pair::{Pair, check_open, expect_disconnected, expect_refused, relay_message, relayed},
    relay::PAIR_PATH,
    wire,
};

const MIB: usize = 1 << 20;

/// A payload as clients send it: base64 of something random, of this length in the message.
fn payload(random: &mut ChaCha8Rng, len: usize) -> String {
    let mut text = BASE64.encode(bulk::content(random, len / 4 * 3 + 3));
    text.truncate(len);
    text
}

#[test]
fn payloads_of_every_size_arrive_unchanged_both_ways() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        let mut random = bulk::seeded("sizes");
        let empty = relay_message(&pair.id, "").len();
        let around: [usize; 9] = [125, 126, 4096, 16_384, 32_768, 65_535, 65_536, 131_072, 262_144];
        let sizes: Vec<usize> = around
            .iter()
            .flat_map(|size| [size - 1, *size, size + 1])
            // The message is one of these sizes on the way in, or on the way out.
            .flat_map(|size| [size.saturating_sub(empty), size - 43])
            .chain([0, 1, 2, MIB - empty - 1, MIB - empty])
            .collect();
        for size in sizes {
            let payload = payload(&mut random, size);
            let message = relay_message(&pair.id, &payload);
            // The payload first: there is less room in front of it than the relay's own words need.
            let turned = format!(r#"{{"payload":"{payload}","sessionId":"{}","type":"relay"}}"#, pair.id);
            for from_source in [true, false] {
                let (sender, receiver, from) = if from_source {
                    (&mut pair.source, &mut pair.target, "source")
                } else {
                    (&mut pair.target, &mut pair.source, "target")
                };
                thread::scope(|scope| {
                    scope.spawn(|| {
                        sender.say(&message);
                        sender.send_binary(message.as_bytes());
                        sender.say(&turned);
                    });
                    for _ in 0..3 {
                        let same = receiver.expect("relay") == relayed(from, &payload);
                        assert!(same, "{size} bytes arrived changed");
                    }
                });
            }
        }
    });
}

#[test]
fn escapes_in_a_payload_are_passed_on_as_written() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        let long = "\\u0041".repeat(100_000);
        for written in [
            r"plain",
            r"\u0041\u00e4\u20ac",
            r"\ud83d\ude00 \uD83D\uDE00",
            // Half a surrogate pair is no character, and still a JavaScript string.
            r"\ud800 \udfff\ud800",
            r#"\"\\\/\b\f\n\r\t"#,
            r#"\\\\\\\" ,\"type\":\"ping\" "#,
            r"\u0000\u001f\u007f\u2028\ufeff",
            "gr\u{fc}n \u{2028} \u{1f600} \u{10ffff} \u{7f}",
            r#"{\"payload\":\"x\"}"#,
            &long,
        ] {
            for message in [
                format!(r#"{{"type":"relay","sessionId":"{}","payload":"{written}"}}"#, pair.id),
                format!(
                    "\r\n\t {{ \"payload\" :\t\"{written}\" ,\n\"x\":[\"payload\"], \"sessionId\" : \"{}\" , \
                     \"type\":\"re\\u006cay\" }} ",
                    pair.id
                ),
            ] {
                pair.source.say(&message);
                match pair.target.hear(PATIENCE) {
                    Heard::Text(text) => {
                        let expected = format!(r#"{{"type":"relay","from":"source","payload":"{written}"}}"#);
                        assert!(text == expected, "{text:.200} is not {expected:.200}");
                    }
                    other => panic!("{written:.60} was answered {other:?}"),
                }
            }
        }
        pair.check();
    });
}

#[test]
fn any_fragmentation_in_any_segmentation_arrives_as_the_same_messages() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut random = bulk::seeded("segmentation");
        for round in 0..4 {
            let Pair { id, source, target, .. } = Pair::<Raw>::new(&relay);
            let (mut sender, mut receiver, from) =
                if round % 2 == 0 { (source, target, "source") } else { (target, source, "target") };
            let sizes = [0, 1, 50, 125, 1000, 16_000, 65_536, 200_000, 900_000];
            let payloads: Vec<String> = (0..60)
                .map(|_| {
                    let size = *sizes.choose(&mut random).expect("not empty");
                    payload(&mut random, size)
                })
                .collect();
            let mut bytes = Vec::new();
            for payload in &payloads {
                fragments(&mut random, relay_message(&id, payload).as_bytes(), &mut bytes);
            }
            let segments = cut(&mut random, &bytes);
            let mut writer = sender.writer();
            let writing = thread::spawn(move || {
                for segment in segments {
                    writer.write_all(&segment).expect("the relay takes it all");
                }
            });
            for (n, payload) in payloads.iter().enumerate() {
                assert!(receiver.expect("relay") == relayed(from, payload), "message {n} arrived changed");
            }
            writing.join().expect("the writer does not panic");
            drop(sender);
            expect_disconnected(&mut receiver);
        }
    });
}

/// Cuts bytes into segments, some of them tiny.
fn cut(random: &mut ChaCha8Rng, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = *[1, 2, 7, 500, 10_000, 300_000].choose(random).expect("not empty");
        let (segment, behind) = rest.split_at(random.random_range(1..=size).min(rest.len()));
        segments.push(segment.to_vec());
        rest = behind;
    }
    segments
}

/// Writes a message as one frame or several, with control frames between them.
fn fragments(random: &mut ChaCha8Rng, message: &[u8], out: &mut Vec<u8>) {
    let count = if random.random_bool(0.5) { random.random_range(2..6) } else { 1 };
    let mut cuts: Vec<usize> = (1..count).map(|_| random.random_range(0..=message.len())).collect();
    cuts.sort_unstable();
    cuts.insert(0, 0);
    cuts.push(message.len());
    let opcode = if random.random_bool(0.5) { wire::TEXT } else { wire::BINARY };
    for (n, ends) in cuts.windows(2).enumerate() {
        if random.random_bool(0.2) {
            out.extend(wire::client_frame(0x80 | wire::PING, random.random(), b"between"));
        }
        let first = if n == 0 { opcode } else { wire::CONTINUATION };
        let fin = if n + 1 == count { 0x80 } else { 0 };
        let mask = if random.random_bool(0.3) { [0; 4] } else { random.random() };
        out.extend(wire::client_frame(fin | first, mask, &message[ends[0]..ends[1]]));
    }
}

#[test]
fn many_small_payloads_arrive_in_order_both_ways_at_once() {
    every_cell(|cell| {
        let relay = cell.start();
        const COUNT: usize = 10_000;
        let Pair { id, mut source, mut target, .. } = Pair::<Raw>::new(&relay);
        thread::scope(|scope| {
            for end in [&mut source, &mut target] {
                let mut writer = end.writer();
                let id = &id;
                scope.spawn(move || {
                    let frames: Vec<u8> = (0..COUNT)
                        .flat_map(|n| wire::message(wire::TEXT, relay_message(id, &n.to_string()).as_bytes()))
                        .collect();
                    writer.write_all(&frames).expect("the relay takes it all");
                });
            }
            for (end, from) in [(&mut source, "target"), (&mut target, "source")] {
                scope.spawn(move || {
                    for n in 0..COUNT {
                        assert_eq!(end.expect("relay"), relayed(from, &n.to_string()));
                    }
                });
            }
        });
    });
}

#[test]
fn ten_megabytes_each_way_at_once_arrive_unchanged() {
    every_cell_in_turn(|cell| {
        let relay = cell.start();
        let Pair { id, mut source, mut target, .. } = Pair::<Raw>::new(&relay);
        let mut random = bulk::seeded("ten megabytes");
        let mut payloads = || -> Vec<String> { (0..16).map(|_| payload(&mut random, 700_000)).collect() };
        let (up, down) = (payloads(), payloads());
        thread::scope(|scope| {
            for (end, payloads) in [(&mut source, &up), (&mut target, &down)] {
                let (mut writer, id) = (end.writer(), &id);
                scope.spawn(move || {
                    for payload in payloads {
                        let message = relay_message(id, payload);
                        writer
                            .write_all(&wire::message(wire::TEXT, message.as_bytes()))
                            .expect("the relay takes it all");
                    }
                });
            }
            for (end, payloads, from) in [(&mut source, &down, "target"), (&mut target, &up, "source")] {
                scope.spawn(move || {
                    let hash = |text: &str| bulk::hash(text.as_bytes());
                    for (n, payload) in payloads.iter().enumerate() {
                        let heard = end.expect("relay");
                        assert_eq!(heard["from"], from);
                        let same = heard["payload"].as_str().map(hash) == Some(hash(payload));
                        assert!(same, "payload {n} from the {from} arrived changed");
                    }
                });
            }
        });
    });
}

#[test]
fn payloads_of_many_sessions_never_mix() {
    every_cell_in_turn(|cell| {
        let relay = cell.start();
        let mut pairs: Vec<Pair> = (0..60).map(|_| Pair::new(&relay)).collect();
        for round in 0..4 {
            for (n, pair) in pairs.iter_mut().enumerate() {
                pair.source.say(&relay_message(&pair.id, &format!("{round} {n} up")));
                pair.target.say(&relay_message(&pair.id, &format!("{round} {n} down")));
            }
            for (n, pair) in pairs.iter_mut().enumerate() {
                assert_eq!(pair.target.expect("relay"), relayed("source", &format!("{round} {n} up")));
                assert_eq!(pair.source.expect("relay"), relayed("target", &format!("{round} {n} down")));
            }
        }
    });
}

#[test]
fn what_was_sent_before_the_end_arrives_before_the_news_of_it() {
    every_cell(|cell| {
        let relay = cell.start();
        for round in 0..8 {
            let Pair { id, mut source, mut target, .. } = Pair::<Raw, Peer>::new(&relay);
            let payload = "x".repeat(100_000);
            let frame = wire::message(wire::TEXT, relay_message(&id, &payload).as_bytes());
            let mut bytes = frame.repeat(10);
            match round % 2 {
                0 => bytes.extend(wire::message(wire::CLOSE, &wire::close_payload(1000, b""))),
                _ => bytes.extend(wire::message(wire::TEXT, b"nonsense")),
            }
            source.write(&bytes);
            for _ in 0..10 {
                assert!(target.expect("relay") == relayed("source", &payload));
            }
            expect_disconnected(&mut target);
            match round % 2 {
                0 => assert_eq!(source.hear(PATIENCE), Heard::Closed(1000, String::new())),
                _ => expect_refused(&mut source, "malformed_json", 1008),
            }
        }
    });
}

/// A relay whose kernel buffers are small, so that a peer that stalls is felt soon.
fn narrow(cell: support::Cell) -> Relay {
    cell.setup().flag("--send-buffer", "64KiB").flag("--receive-buffer", "64KiB").start()
}

#[test]
fn a_slow_reader_stops_its_sender_and_loses_nothing() {
    every_cell_in_turn(|cell| {
        let relay = narrow(cell);
        let mut bystander = Pair::<Peer>::new(&relay);
        let mut pair = Pair::<Raw>::over(
            Raw::at(relay.dial_narrow(), &relay, PAIR_PATH),
            Raw::at(relay.dial_narrow(), &relay, PAIR_PATH),
        );
        let mut random = bulk::seeded("a slow reader");
        let payloads: Vec<String> = (0..48).map(|_| payload(&mut random, 700_000)).collect();
        let message = |payload: &String| relay_message(&pair.id, payload);
        let bytes: Vec<u8> = payloads
            .iter()
            .flat_map(|payload| wire::message(wire::TEXT, message(payload).as_bytes()))
            .collect();
        let before = relay.rss();
        let taken = pair.source.write_until_blocked(&bytes, Duration::from_millis(500));
        // A message or two in the relay, and what the socket buffers hold; of 33 MB.
        assert_within("taken for a reader that stalls", taken, 1..=6 * MIB);
        assert_within("memory grew by", relay.rss().saturating_sub(before), 0..=12 * MIB as u64);
        // The other direction and the others are none the worse for it.
        let mut writer = pair.target.writer();
        writer
            .write_all(&wire::message(wire::TEXT, relay_message(&pair.id, "back").as_bytes()))
            .expect("the relay takes it");
        assert_eq!(pair.source.expect("relay"), relayed("target", "back"));
        bystander.check();
        // When it reads again, everything is there.
        let mut writer = pair.source.writer();
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&bytes[taken..]).expect("the relay takes the rest"));
            for (n, payload) in payloads.iter().enumerate() {
                assert!(
                    pair.target.expect("relay") == relayed("source", payload),
                    "payload {n} arrived changed"
                );
            }
        });
        pair.check();
    });
}

#[test]
fn fifty_readers_that_stall_cost_little_and_hold_nobody_up() {
    every_cell_in_turn(|cell| {
        let relay = narrow(cell);
        let mut quick = Pair::<Peer>::new(&relay);
        let dial = || Raw::at(relay.dial_narrow(), &relay, PAIR_PATH);
        let mut stalled: Vec<Pair<Raw>> = (0..50).map(|_| Pair::over(dial(), dial())).collect();
        quick.check();
        let alone = median_round(&mut quick);
        let before = relay.rss();
        let payload = "x".repeat(200_000);
        thread::scope(|scope| {
            for pairs in stalled.chunks_mut(4) {
                let payload = &payload;
                scope.spawn(move || {
                    for pair in pairs {
                        let frame = wire::message(wire::TEXT, relay_message(&pair.id, payload).as_bytes());
                        pair.source.write_until_blocked(&frame.repeat(10), Duration::from_millis(150));
                    }
                });
            }
        });
        let grown = relay.rss().saturating_sub(before);
        assert_within("memory grew by", grown, 0..=70 * MIB as u64);
        let beside = median_round(&mut quick);
        let bound = 20 * alone + Duration::from_millis(200);
        assert_within("a round beside stalled readers", beside, Duration::ZERO..=bound);
        Pair::<Peer>::new(&relay).check();
        drop(stalled);
        eventually("what was held is let go", || relay.metrics().sum("longsplice_held_bytes") == 0.0);
        quick.check();
    });
}

fn median_round(pair: &mut Pair) -> Duration {
    let mut rounds: Vec<Duration> = (0..51)
        .map(|_| {
            let asked = Instant::now();
            pair.check();
            asked.elapsed()
        })
        .collect();
    rounds.sort();
    rounds[25]
}

#[test]
fn a_reader_that_stalls_and_goes_frees_its_sender() {
    every_cell(|cell| {
        let relay = narrow(cell);
        let Pair { id, mut source, target, .. } = Pair::<Raw>::over(
            Raw::at(relay.dial_narrow(), &relay, PAIR_PATH),
            Raw::at(relay.dial_narrow(), &relay, PAIR_PATH),
        );
        let frame = |payload: &str| wire::message(wire::TEXT, relay_message(&id, payload).as_bytes());
        let bytes = frame(&"x".repeat(500_000)).repeat(40);
        let taken = source.write_until_blocked(&bytes, Duration::from_millis(300));
        assert!(taken < bytes.len());
        target.reset();
        // The sender is read again. It learns that its peer went, and what it sends then is refused.
        let mut writer = source.writer();
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&bytes[taken..]).expect("the relay takes the rest");
                writer.write_all(&wire::message(wire::TEXT, b"{\"type\":\"ping\"}")).expect("and this");
            });
            let mut told = 0;
            loop {
                let answer: Value = source.expect_any(&["peer-disconnected", "error", "pong"]);
                match answer["type"].as_str() {
                    Some("pong") => break,
                    Some("error") => assert_eq!(answer["code"], "peer_not_connected"),
                    _ => told += 1,
                }
            }
            assert_eq!(told, 1);
        });
    });
}

#[test]
fn half_sent_messages_of_many_stay_within_the_budget() {
    every_cell_in_turn(|cell| {
        // Those without a role have a quarter of it.
        let relay = cell.setup().flag("--message-budget", "32MiB").start();
        let mut bystander = Pair::<Peer>::new(&relay);
        bystander.check();
        let before = relay.rss();
        // 100 MB, no message of it whole.
        let half = wire::client_header(0x80 | wire::TEXT, [0; 4], MIB as u64);
        let half = [&half[..], &vec![b' '; MIB - 1]].concat();
        let mut sockets: Vec<Raw> = (0..100).map(|_| Raw::open_at(&relay, PAIR_PATH)).collect();
        thread::scope(|scope| {
            for sockets in sockets.chunks_mut(10) {
                let half = &half;
                scope.spawn(move || {
                    for socket in sockets {
                        socket.write_until_blocked(half, Duration::from_millis(200));
                    }
                });
            }
        });
        let budget = usize::from(cell.shards) * 8 * MIB;
        let held = relay.metrics().sum("longsplice_message_bytes") as usize;
        assert_within("reserved for half messages", held, 8 * MIB..=budget);
        let grown = || relay.rss().saturating_sub(before) as usize;
        eventually("half messages are in memory", || grown() >= 4 * MIB);
        assert_within("memory grew by", grown(), 4 * MIB..=budget + 24 * MIB);
        // Messages that come at once need nothing of it.
        bystander.check();
        check_open(&mut support::pair::open(&relay));
        drop(sockets);
        eventually("what was held is let go", || relay.metrics().sum("longsplice_message_bytes") == 0.0);
        bystander.tell_target(&"x".repeat(900_000));
    });
}

#[test]
fn messages_that_strangers_began_keep_no_session_waiting() {
    every_cell(|cell| {
        // Nobody is slow enough to be dropped for it.
        let setup = cell.setup().flag("--message-budget", "8MiB").env("LINK_SLOW_PEER_SEC", 600);
        let relay = setup.flag("--tcp-user-timeout", 0).start();
        let mut pairs: Vec<Pair<Peer>> = (0..4).map(|_| Pair::new(&relay)).collect();
        let begun = wire::client_frame(wire::TEXT, [0; 4], b"{");
        let crowd: Vec<Raw> = (0..100)
            .map(|_| {
                let mut stranger = Raw::open_at(&relay, PAIR_PATH);
                stranger.write(&begun);
                stranger
            })
            .collect();
        let waits = || relay.metrics().sum("longsplice_message_budget_waits_total");
        eventually("their part of the budget is used up", || waits() >= 50.0);
        for pair in &mut pairs {
            pair.tell_target(&"x".repeat(900_000));
            pair.tell_source(&"y".repeat(900_000));
        }
        // Nor do strangers wait for each other as long as members would have to.
        let closed = || relay.metrics().sum_of("longsplice_closed_total", &[("reason", "overloaded")]);
        eventually("who does not go on makes room", || closed() >= 1.0);
        drop(crowd);
        eventually("what was held is let go", || relay.metrics().sum("longsplice_message_bytes") == 0.0);
    });
}
