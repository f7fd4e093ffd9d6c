//! The pure parts of the hot path by themselves: unmasking, translating frames, routing paired devices' messages, the timer
//! wheel.
//!
//! Each checks its result once before it is measured, so that a fast wrong answer is no answer. Run without
//! `--bench` (`cargo test --benches`) every body runs once.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use longsplice::{
    admission::{AllowList, SharedPolicy},
    dialect::{
        Action, Cx, Dialects, Event, Kind, Opening, Place,
        pair::{Pair, PairConfig},
    },
    driver::HEADROOM,
    id::ConnId,
    proto::ws::{Cursor, Inbound, Opcode, Step, outbound::client_frame, unmask},
    time::{Now, Time},
    timers::{Alarm, Wheel},
};
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use serde_json::{Value, json};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Against the loop of RFC 6455 section 5.3, which a compiler may vectorise too.
fn masking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for len in [128, 16_384] {
        let mut bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut naive = bytes.clone();
        unmask(&mut bytes, KEY);
        unmask_naive(&mut naive, KEY);
        assert_eq!(bytes, naive);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} B"), |bencher| {
            bencher.iter(|| unmask(black_box(&mut bytes), KEY));
        });
        group.bench_function(format!("{len} B, naive"), |bencher| {
            bencher.iter(|| unmask_naive(black_box(&mut naive), KEY));
        });
    }
}

fn unmask_naive(bytes: &mut [u8], mask: [u8; 4]) {
    bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i % 4]);
}

/// A receive buffer is refilled with the client's bytes before each round; `copy` is what that costs.
fn translating(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay");
    for (name, count, len, mask) in [
        ("64 x 128 B", 64, 128, KEY),
        ("1 x 64 KiB", 1, 65_536, KEY),
        ("1 x 64 KiB, zero mask", 1, 65_536, [0; 4]),
    ] {
        let mut wire = vec![0; HEADROOM];
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        (0..count).for_each(|_| client_frame(&mut wire, true, Opcode::Binary, mask, &payload));
        let mut buf = wire.clone();
        let run = relay(&mut buf);
        assert_eq!((run.payload, run.messages), (count * len, count));
        assert!(buf[run.out].ends_with(&payload));
        group.throughput(Throughput::Bytes((count * len) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                buf.copy_from_slice(&wire);
                relay(black_box(&mut buf))
            });
        });
        group.bench_function(format!("{name}, copy"), |bencher| {
            bencher.iter(|| black_box(&mut buf).copy_from_slice(&wire));
        });
    }
}

fn relay(buf: &mut [u8]) -> Cursor {
    let mut inbound = Inbound::new();
    let mut cursor = Cursor::at(HEADROOM);
    assert_eq!(inbound.relay(buf, &mut cursor, 0, usize::MAX, 0), Step::Empty);
    cursor
}

/// What a `relay` message costs beyond its bytes' way through the driver: finding its session and its payload in the JSON.
/// Beside it, what a relay pays that parses the message and writes another.
fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair relay");
    let mut devices = Devices::paired();
    for len in [128, 65_536, 1 << 20] {
        let payload: String = (0..len).map(|i| char::from(b'A' + (i % 26) as u8)).collect();
        let message =
            json!({ "type": "relay", "sessionId": devices.session, "payload": payload }).to_string();
        let rebuilt = reparse(message.as_bytes());
        assert_eq!(devices.relay(message.as_bytes()), rebuilt);
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(format!("{len} B"), |bencher| {
            bencher.iter(|| devices.route(black_box(message.as_bytes())));
        });
        group.bench_function(format!("{len} B, parsed and rebuilt"), |bencher| {
            bencher.iter(|| reparse(black_box(message.as_bytes())));
        });
    }
}

/// The whole of a message as a document, and another document's text.
fn reparse(message: &[u8]) -> String {
    let message: Value = serde_json::from_slice(message).expect("it is JSON");
    assert_eq!(message["type"], "relay");
    let payload = message["payload"].as_str().expect("it is a string");
    format!(r#"{{"type":"relay","from":"source","payload":{}}}"#, json!(payload))
}

/// The pair dialect with a session.
struct Devices {
    dialects: Dialects,
    policy: SharedPolicy,
    timers: Wheel,
    random: ChaCha12Rng,
    actions: Vec<Action>,
    session: String,
}

const SOURCE: ConnId = ConnId { index: 0, generation: 0 };
const TARGET: ConnId = ConnId { index: 1, generation: 0 };

impl Devices {
    fn paired() -> Devices {
        let config = PairConfig {
            rendezvous_url: "wss://relay.example".into(),
            ttl: Duration::from_secs(60),
            origins: None,
            message_bytes_max: 2 << 20,
        };
        let place = Place { shard: 0, shards: 1, relay: 0, hash_key: [0; 16] };
        let mut devices = Devices {
            dialects: Dialects { link: None, pair: Some(Pair::new(config, place)) },
            policy: SharedPolicy::new(0, AllowList::default()),
            timers: Wheel::new(Time(0)),
            random: ChaCha12Rng::seed_from_u64(0),
            actions: Vec::new(),
            session: String::new(),
        };
        for conn in [SOURCE, TARGET] {
            let ip = [192, 0, 2, 1].into();
            let opening = Opening { ip, host: Box::default(), origin: None, moves: 0 };
            devices.handle(Event::Opened { conn, opening });
        }
        let mut card =
            json!({ "deviceId": "d", "deviceName": "n", "capability": {}, "ephemeralPubKey": "k" });
        card["type"] = "pair-source".into();
        devices.say(SOURCE, &card.to_string());
        let created = devices.actions.drain(..).find_map(|action| match action {
            Action::Send { text, .. } => serde_json::from_str::<Value>(&text).ok(),
            _ => None,
        });
        devices.session = created.expect("a session")["sessionId"].as_str().expect("an id").to_owned();
        card["type"] = "pair-target".into();
        card["sessionId"] = devices.session.as_str().into();
        devices.say(TARGET, &card.to_string());
        devices.actions.clear();
        devices
    }

    fn handle(&mut self, event: Event<'_>) {
        let Devices { dialects, policy, timers, random, actions, .. } = self;
        dialects.handle(&mut Cx { now: Now::default(), random, policy, timers, actions }, Kind::Pair, event);
    }

    fn say(&mut self, conn: ConnId, text: &str) {
        self.handle(Event::Message { conn, text: true, bytes: text.as_bytes(), moved: false });
    }

    /// Routes a message of the source; returns how many bytes of it go on.
    fn route(&mut self, message: &[u8]) -> usize {
        self.handle(Event::Message { conn: SOURCE, text: true, bytes: message, moved: false });
        match self.actions.pop() {
            Some(Action::Forward { to: TARGET, body, .. }) => body.len(),
            other => panic!("{other:?}"),
        }
    }

    /// What the target gets for it.
    fn relay(&mut self, message: &[u8]) -> String {
        self.handle(Event::Message { conn: SOURCE, text: true, bytes: message, moved: false });
        let Some(Action::Forward { head, body, tail, .. }) = self.actions.pop() else {
            panic!("not forwarded")
        };
        let text = [head.as_bytes(), &message[body], tail.as_bytes()].concat();
        String::from_utf8(text).expect("it is text")
    }
}

const TIMERS: u32 = 1_000_000;

/// A million armed timers, as on a shard with half a million connections.
fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel of 1M");
    group.sample_size(10);
    let (mut wheel, fired) = (full_wheel(), Time(31_000_000));
    assert_eq!(std::iter::from_fn(|| wheel.pop(fired)).count(), TIMERS as usize);

    let mut wheel = full_wheel();
    group.bench_function("arm and cancel", |bencher| {
        bencher.iter(|| {
            let timer = wheel.arm(Time(30_000_000), Alarm::Shard(0));
            wheel.cancel(black_box(timer));
        });
    });
    group.bench_function("a turn without a due timer", |bencher| {
        bencher.iter(|| (wheel.pop(black_box(Time(0))), wheel.next_deadline()));
    });
    group.throughput(Throughput::Elements(u64::from(TIMERS)));
    group.bench_function("fire all, turn by turn", |bencher| {
        bencher.iter_batched_ref(
            full_wheel,
            |wheel| {
                while let Some(now) = wheel.next_deadline() {
                    while wheel.pop(now).is_some() {}
                }
            },
            BatchSize::PerIteration,
        );
    });
}

/// Deadlines spread over the 30 s between two pings.
fn full_wheel() -> Wheel {
    let mut wheel = Wheel::new(Time(0));
    for number in 0..TIMERS {
        wheel.arm(Time(1_000 + u64::from(number) * 7_919 % 30_000_000), Alarm::Shard(number));
    }
    wheel
}

criterion_group! {
    name = components;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = masking, translating, routing, timers
}
criterion_main!(components);
