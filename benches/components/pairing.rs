//! Messages of paired devices: what routing them costs.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use longsplice::{
    admission::{AllowList, SharedPolicy},
    dialect::{
        Action, Cx, Dialects, Event, Kind, Opening, Place,
        pair::{Pair, PairConfig},
    },
    id::ConnId,
    time::{Now, Time},
    timers::Wheel,
};
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use serde_json::{Value, json};

/// What a `relay` message costs beyond its bytes' way through the driver: finding its session and its payload
/// in the JSON. Beside it, what a relay pays that parses the message and writes another.
pub fn routing(criterion: &mut Criterion) {
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
            dialects: Dialects { link: None, pair: Some(Pair::new(config, place)), workspace: None },
            policy: SharedPolicy::new(0, AllowList::default()),
            timers: Wheel::new(Time(0)),
            random: ChaCha12Rng::seed_from_u64(0),
            actions: Vec::new(),
            session: String::new(),
        };
        for conn in [SOURCE, TARGET] {
            let ip = [192, 0, 2, 1].into();
            let opening = Opening { ip, host: Box::default(), origin: None, ticket: None, moves: 0 };
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
