//! That what goes in comes out: every size, type, segmentation and mask, both ways, byte for byte.

mod support;

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use support::{
    End, Heard, Host, Link, PATIENCE, Peer, Raw, assert_within, bulk, eventually, every_cell,
    every_cell_in_turn,
    wire::{self, BINARY, CONTINUATION, PING, PONG, TEXT},
};

const FIN: u8 = 0x80;
const MIB: usize = 1 << 20;

#[test]
fn messages_of_every_size_arrive_unchanged_both_ways() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Peer>::new(&relay);
        let mut random = bulk::seeded("sizes");
        let around = [125, 126, 127, 4096, 16_384, 32_768, 65_535, 65_536, 131_072, 262_144];
        let sizes = around.iter().flat_map(|size| [size - 1, *size, size + 1]).chain([0, 1, 2, MIB, MIB + 1]);
        for size in sizes {
            let binary = bulk::content(&mut random, size);
            let text: String = (0..size).map(|_| char::from(random.random_range(b' '..=b'~'))).collect();
            for client_sends in [true, false] {
                let (sender, receiver) = if client_sends {
                    (&mut link.client, &mut link.host)
                } else {
                    (&mut link.host, &mut link.client)
                };
                thread::scope(|scope| {
                    scope.spawn(|| {
                        sender.send_binary(&binary);
                        sender.say(&text);
                    });
                    let same = receiver.hear(PATIENCE) == Heard::Binary(binary.clone());
                    assert!(same, "{size} binary bytes arrived changed");
                    let same = receiver.hear(PATIENCE) == Heard::Text(text.clone());
                    assert!(same, "{size} bytes of text arrived changed");
                });
            }
        }
    });
}

#[test]
fn many_small_messages_arrive_in_order_both_ways_at_once() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, link) = Link::<Raw>::new(&relay);
        let Link { mut client, mut host, .. } = link;
        const COUNT: u32 = 30_000;
        thread::scope(|scope| {
            for end in [&mut client, &mut host] {
                let mut writer = end.writer();
                scope.spawn(move || {
                    let frames: Vec<u8> =
                        (0..COUNT).flat_map(|n| wire::message(BINARY, &n.to_be_bytes())).collect();
                    writer.write_all(&frames).expect("the relay takes it all");
                });
            }
            for end in [&mut client, &mut host] {
                scope.spawn(move || {
                    for n in 0..COUNT {
                        assert_eq!(
                            end.hear(PATIENCE),
                            Heard::Binary(n.to_be_bytes().to_vec()),
                            "message {n}"
                        );
                    }
                });
            }
        });
        let relayed = relay.metrics().sum("longsplice_relayed_messages_total");
        assert_eq!(relayed, f64::from(2 * COUNT));
    });
}

#[test]
fn any_fragmentation_in_any_segmentation_arrives_as_the_same_messages() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut random = bulk::seeded("segmentation");
        for round in 0..6 {
            let link: Link<Raw, Raw> = host.join(&relay);
            let (mut sender, mut receiver) =
                if round % 2 == 0 { (link.client, link.host) } else { (link.host, link.client) };
            let script = Script::random(&mut random);
            let segments = cut(&mut random, &script.bytes);
            let mut writer = sender.writer();
            let writing = thread::spawn(move || {
                for (segment, pause) in segments {
                    writer.write_all(&segment).expect("the relay takes it all");
                    if let Some(pause) = pause {
                        thread::sleep(pause);
                    }
                }
            });
            for (n, expected) in script.messages.iter().enumerate() {
                let heard = receiver.hear(PATIENCE);
                assert!(heard == *expected, "message {n} of {} arrived changed", script.messages.len());
            }
            writing.join().expect("the writer does not panic");
            drop(sender);
            receiver.expect_closed(4003);
        }
    });
}

/// Messages, and the bytes of one way to send them.
struct Script {
    messages: Vec<Heard>,
    bytes: Vec<u8>,
}

impl Script {
    fn random(random: &mut ChaCha8Rng) -> Script {
        let mut script = Script { messages: Vec::new(), bytes: Vec::new() };
        for _ in 0..150 {
            let sizes = [0, 1, 5, 125, 126, 1000, 16_000, 65_535, 65_536, 200_000];
            let size = *sizes.choose(random).expect("not empty");
            let text = random.random_bool(0.5);
            let payload = if text {
                (0..size).map(|_| random.random_range(b' '..=b'~')).collect()
            } else {
                bulk::content(random, size)
            };
            script.send(random, if text { TEXT } else { BINARY }, &payload);
            script.messages.push(match text {
                true => Heard::Text(String::from_utf8(payload).expect("ASCII")),
                false => Heard::Binary(payload),
            });
        }
        script
    }

    fn send(&mut self, random: &mut ChaCha8Rng, opcode: u8, payload: &[u8]) {
        let fragments = if random.random_bool(0.4) { random.random_range(2..6) } else { 1 };
        let mut cuts: Vec<usize> = (1..fragments).map(|_| random.random_range(0..=payload.len())).collect();
        cuts.sort_unstable();
        cuts.insert(0, 0);
        cuts.push(payload.len());
        for (n, ends) in cuts.windows(2).enumerate() {
            if random.random_bool(0.2) {
                let control = if random.random_bool(0.5) { PING } else { PONG };
                let len = random.random_range(0..=125);
                let payload = bulk::content(random, len);
                self.bytes.extend(wire::client_frame(FIN | control, mask(random), &payload));
            }
            let first = if n == 0 { opcode } else { CONTINUATION } | if n + 1 == fragments { FIN } else { 0 };
            self.bytes.extend(wire::client_frame(first, mask(random), &payload[ends[0]..ends[1]]));
        }
    }
}

fn mask(random: &mut ChaCha8Rng) -> [u8; 4] {
    if random.random_bool(0.3) { [0; 4] } else { random.random() }
}

/// Cuts bytes into segments, some of them tiny and with a pause behind them.
fn cut(random: &mut ChaCha8Rng, bytes: &[u8]) -> Vec<(Vec<u8>, Option<Duration>)> {
    let mut segments = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = *[1, 2, 7, 13, 500, 10_000, 100_000].choose(random).expect("not empty");
        let (segment, behind) = rest.split_at(random.random_range(1..=size).min(rest.len()));
        let pause = random.random_bool(0.15).then(|| Duration::from_micros(random.random_range(0..2000)));
        segments.push((segment.to_vec(), pause));
        rest = behind;
    }
    segments
}

#[test]
fn large_frames_with_a_zero_mask_arrive_unchanged_whether_spliced_or_not() {
    every_cell(|cell| {
        for splice_min in ["0", "64KiB", "1MiB"] {
            let relay = cell.setup().flag("--splice-min", splice_min).start();
            let (_host, link) = Link::<Raw>::new(&relay);
            let Link { mut client, mut host, .. } = link;
            let mut random = bulk::seeded("zero masks");
            // Large ones among small ones and fragments, so that both paths follow each other.
            let sizes = [100, 16 * MIB, 5, 3 * MIB + 1, 70_000, 0, 2 * MIB, 1, 8 * MIB - 3, 1000];
            let payloads: Vec<Vec<u8>> = sizes.map(|size| bulk::content(&mut random, size)).to_vec();
            let hashes: Vec<_> = payloads.iter().map(|payload| bulk::hash(payload)).collect();
            let mut writer = client.writer();
            let sender = thread::spawn(move || {
                for (n, payload) in payloads.iter().enumerate() {
                    let half = payload.len() / 2;
                    let frames = if n % 3 == 0 {
                        wire::client_frame(FIN | BINARY, [0; 4], payload)
                    } else {
                        [
                            wire::client_frame(BINARY, [0; 4], &payload[..half]),
                            wire::message(PING, b"between"),
                            wire::client_frame(FIN | CONTINUATION, [0; 4], &payload[half..]),
                        ]
                        .concat()
                    };
                    writer.write_all(&frames).expect("the relay takes it all");
                }
            });
            for (n, hash) in hashes.iter().enumerate() {
                let Heard::Binary(arrived) = host.hear(PATIENCE) else { panic!("message {n} is not one") };
                assert_eq!(arrived.len(), sizes[n], "message {n}");
                assert_eq!(bulk::hash(&arrived), *hash, "message {n} of {} bytes arrived changed", sizes[n]);
            }
            sender.join().expect("no panic");
            let spliced = relay.metrics().sum("longsplice_spliced_bytes_total");
            if splice_min == "0" {
                assert_eq!(spliced, 0.0);
            } else {
                assert!(spliced > (8 * MIB) as f64, "only {spliced} bytes were spliced");
            }
            let counted = relay.metrics().sum_of("longsplice_relayed_bytes_total", &[("from", "client")]);
            assert_eq!(counted, sizes.iter().sum::<usize>() as f64);
        }
    });
}

#[test]
fn a_zero_mask_frame_survives_a_receiver_that_pauses_and_a_sender_that_vanishes() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--splice-min", "64KiB").start();
        let mut host = Host::register(&relay);
        let mut random = bulk::seeded("a pause");
        let mut link: Link<Raw> = host.join_ends(Raw::open(&relay), Raw::narrow(&relay));
        let payload = bulk::content(&mut random, 6 * MIB);
        let frame = wire::client_frame(FIN | BINARY, [0; 4], &payload);
        let mut writer = link.client.writer();
        let sender = thread::spawn(move || writer.write_all(&frame));
        for _ in 0..5 {
            link.host.read_some(PATIENCE);
            thread::sleep(Duration::from_millis(100));
        }
        let Heard::Binary(arrived) = link.host.hear(PATIENCE) else { panic!("not the message") };
        assert!(bulk::hash(&arrived) == bulk::hash(&payload), "arrived changed");
        sender.join().expect("no panic").expect("the relay took it");
        link.check();

        // Half a frame, and then nobody.
        let frame = wire::client_frame(FIN | BINARY, [0; 4], &payload);
        link.client.write(&frame[..3 * MIB]);
        drop(link.client);
        let mut arrived = Vec::new();
        loop {
            let frame = link.host.frame();
            if frame.opcode == wire::CLOSE {
                assert_eq!(frame.payload[..2], 4003_u16.to_be_bytes());
                break;
            }
            assert!(!frame.fin, "a message that did not end");
            arrived.extend(frame.payload);
        }
        assert_eq!(arrived.len(), 3 * MIB - 14, "what came before the end is delivered");
        assert!(arrived == payload[..arrived.len()], "arrived changed");
    });
}

#[test]
fn bulk_streams_both_ways_at_once_arrive_whole() {
    every_cell_in_turn(|cell| {
        let relay = cell.start();
        let (_host, link) = Link::<Raw>::new(&relay);
        let Link { mut client, mut host, .. } = link;
        let started = Instant::now();
        const MESSAGES: u8 = 128;
        const LEN: usize = MIB / 2;
        thread::scope(|scope| {
            for end in [&mut client, &mut host] {
                let mut writer = end.writer();
                scope.spawn(move || {
                    for n in 0..MESSAGES {
                        writer
                            .write_all(&wire::message(BINARY, &vec![n; LEN]))
                            .expect("the relay takes it all");
                    }
                });
            }
            for end in [&mut client, &mut host] {
                scope.spawn(move || {
                    for n in 0..MESSAGES {
                        let Heard::Binary(arrived) = end.hear(PATIENCE) else {
                            panic!("message {n} is not one")
                        };
                        assert_eq!(arrived.len(), LEN);
                        assert!(arrived.iter().all(|byte| *byte == n), "message {n} arrived changed");
                    }
                });
            }
        });
        assert_within("took", started.elapsed(), Duration::ZERO..=Duration::from_secs(30));
        let stats = relay.stats();
        let bytes = u64::from(MESSAGES) * LEN as u64;
        assert_eq!(stats["bytesRelayed"]["fromClient"], bytes);
        assert_eq!(stats["bytesRelayed"]["fromHost"], bytes);
    });
}

#[test]
fn a_receiver_that_pauses_stops_its_sender_and_loses_nothing() {
    every_cell(|cell| {
        // Left to itself the kernel lets socket buffers grow to many megabytes.
        let relay = cell.setup().flag("--send-buffer", "64KiB").flag("--receive-buffer", "64KiB").start();
        let mut host = Host::register(&relay);
        let mut random = bulk::seeded("back-pressure");
        let mut link: Link<Raw> = host.join_ends(Raw::narrow(&relay), Raw::narrow(&relay));
        let payload = bulk::content(&mut random, 12 * MIB);
        let frames = wire::message(BINARY, &payload);
        let taken = link.client.write_until_blocked(&frames, Duration::from_secs(1));
        // Small socket buffers at four places, and what the relay holds itself.
        assert_within("taken of a sender whose receiver pauses", taken, 64 << 10..=3 * MIB);
        let mut writer = link.client.writer();
        let rest = frames[taken..].to_vec();
        let sender = thread::spawn(move || writer.write_all(&rest));
        let Heard::Binary(arrived) = link.host.hear(PATIENCE) else { panic!("not the message") };
        assert!(bulk::hash(&arrived) == bulk::hash(&payload), "arrived changed");
        sender.join().expect("no panic").expect("the relay took it");
        eventually("nothing is held any more", || relay.metrics().sum("longsplice_held_bytes") == 0.0);
        link.check();
    });
}
