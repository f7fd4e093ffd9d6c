//! A relay without sockets: several shards of the pair dialect, with their moves and timers carried out as
//! the engine does it, in virtual time.
//!
//! Holds every connection's side of the conversation. Checks with every action that the dialect keeps its
//! contract with the shard: nothing is sent to a connection after its close, nothing moves that is settled.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use serde_json::{Value, json};

use super::super::{Counters, Pair, PairConfig};
use crate::{
    admission::{AllowList, SharedPolicy},
    dialect::{Action, Alarm, Cx, Dialect, Event, Opening, Place},
    id::{ConnId, Remote},
    reason::Reason,
    time::{Now, Time},
    timers::{self, Wheel},
};

/// The relay's number in the tests.
pub(super) const RELAY: u16 = 7;
/// How long sessions last in the tests.
pub(super) const TTL: Duration = Duration::from_secs(60);

/// One connection, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sock(usize);

#[derive(Debug)]
struct Socket {
    at: Option<Remote>,
    opening: Opening,
    heard: VecDeque<Vec<u8>>,
    closed: Option<Reason>,
    settled: bool,
}

struct Shard {
    pair: Pair,
    timers: Wheel,
    random: ChaCha12Rng,
    slots: Vec<Option<Sock>>,
}

/// The relay.
pub(super) struct Net {
    pub(super) now: Now,
    pub(super) policy: SharedPolicy,
    pub(super) moves: usize,
    shards: Vec<Shard>,
    sockets: Vec<Socket>,
}

pub(super) fn config() -> PairConfig {
    PairConfig {
        rendezvous_url: "wss://relay.example".into(),
        ttl: TTL,
        origins: None,
        message_bytes_max: 1 << 20,
    }
}

/// Runs a test on a relay of one shard and on one of four.
pub(super) fn on_one_and_four_shards(test: impl Fn(&mut Net)) {
    for shards in [1, 4] {
        let mut net = Net::new(shards, config());
        test(&mut net);
        net.assert_nothing_left();
    }
}

impl Net {
    pub(super) fn new(shards: u16, config: PairConfig) -> Net {
        Net::with_policy(shards, config, SharedPolicy::new(0, AllowList::default()))
    }

    pub(super) fn with_policy(shards: u16, config: PairConfig, policy: SharedPolicy) -> Net {
        let now = Now { at: Time(5_000_000), unix_ms: 1_700_000_000_000 };
        let place = |shard| Place { shard, shards, relay: RELAY, hash_key: *b"a key for tables" };
        let shard = |number| Shard {
            pair: Pair::new(config.clone(), place(number)),
            timers: Wheel::new(now.at),
            random: ChaCha12Rng::seed_from_u64(u64::from(number)),
            slots: Vec::new(),
        };
        Net { now, policy, moves: 0, shards: (0..shards).map(shard).collect(), sockets: Vec::new() }
    }

    pub(super) fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// A new connection, on the next shard in turn.
    pub(super) fn open(&mut self) -> Sock {
        self.open_from("192.0.2.1", None)
    }

    pub(super) fn open_from(&mut self, ip: &str, origin: Option<&str>) -> Sock {
        let ip: IpAddr = ip.parse().expect("tests write addresses");
        let opening = Opening { ip, host: "".into(), origin: origin.map(Box::from), ticket: None, moves: 0 };
        let shard = (self.sockets.len() % self.shards.len()) as u16;
        let sock = Sock(self.sockets.len());
        self.sockets.push(Socket { at: None, opening, heard: VecDeque::new(), closed: None, settled: false });
        self.seat(sock, shard);
        sock
    }

    /// The peer sends a message; whether it is text makes no difference.
    pub(super) fn say(&mut self, sock: Sock, message: &Value) {
        self.say_bytes(sock, message.to_string().as_bytes());
    }

    pub(super) fn say_bytes(&mut self, sock: Sock, bytes: &[u8]) {
        self.give(sock, bytes, false);
    }

    /// What the peer has been sent since it was last asked.
    pub(super) fn heard(&mut self, sock: Sock) -> Vec<Value> {
        let heard = self.heard_bytes(sock);
        heard.iter().map(|bytes| serde_json::from_slice(bytes).expect("answers are JSON")).collect()
    }

    pub(super) fn heard_bytes(&mut self, sock: Sock) -> Vec<Vec<u8>> {
        self.sockets[sock.0].heard.drain(..).collect()
    }

    /// Why the relay closed the connection, if it did.
    pub(super) fn closed(&self, sock: Sock) -> Option<Reason> {
        self.sockets[sock.0].closed
    }

    /// What an error answered, and why the connection was closed for it.
    pub(super) fn error(&mut self, sock: Sock) -> (String, Option<Reason>) {
        let heard = self.heard(sock);
        let [error] = &heard[..] else { panic!("one error was expected, not {heard:?}") };
        assert_eq!(error["type"], "error");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        (error["code"].as_str().expect("a code").to_owned(), self.closed(sock))
    }

    pub(super) fn shard_of(&self, sock: Sock) -> u16 {
        self.sockets[sock.0].at.expect("the connection is open").shard
    }

    /// The connection closes, for a reason that is not the dialect's.
    pub(super) fn close(&mut self, sock: Sock) {
        if let Some(Remote { shard, conn }) = self.sockets[sock.0].at.take() {
            self.shards[usize::from(shard)].slots[conn.index as usize] = None;
            self.event(shard, Event::Closed { conn, reason: Reason::PeerClosed }, None);
        }
    }

    /// Time passes; timers fire when they are due.
    pub(super) fn advance(&mut self, span: Duration) {
        let until = self.now.at + span;
        loop {
            let next = self.shards.iter().filter_map(|shard| shard.timers.next_deadline()).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            self.set_time(at.max(self.now.at));
            for number in 0..self.shards.len() {
                while let Some(alarm) = self.shards[number].timers.pop(self.now.at) {
                    let timers::Alarm::Dialect(alarm @ Alarm::Pair(_)) = alarm else { panic!("{alarm:?}") };
                    self.event(number as u16, Event::Alarm(alarm), None);
                }
            }
        }
        self.set_time(until);
    }

    fn set_time(&mut self, at: Time) {
        self.now.unix_ms += at.since(self.now.at).as_millis() as u64;
        self.now.at = at;
    }

    /// What all shards counted together.
    pub(super) fn sum(&self, count: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(|shard| count(&shard.pair.counters())).sum()
    }

    /// Once everyone has left and every session is over, nothing may be kept.
    pub(super) fn assert_nothing_left(&mut self) {
        for shard in &self.shards {
            assert!(
                shard.slots.iter().all(Option::is_none) || !shard.pair.is_empty(),
                "who is here is noticed"
            );
        }
        assert_eq!(self.sum(|counters| counters.sessions), self.policy.sessions() as u64);
        for number in 0..self.sockets.len() {
            self.close(Sock(number));
        }
        self.advance(2 * TTL);
        assert!(self.shards.iter().all(|shard| shard.pair.is_empty() && shard.timers.is_empty()));
        assert_eq!(self.policy.sessions(), 0);
        assert_eq!(self.sum(|counters| counters.created), self.sum(|counters| counters.expired));
    }

    fn seat(&mut self, sock: Sock, shard: u16) {
        let slots = &mut self.shards[usize::from(shard)].slots;
        let index = slots.iter().position(Option::is_none).unwrap_or(slots.len());
        slots.resize(slots.len().max(index + 1), None);
        slots[index] = Some(sock);
        let conn = ConnId { index: index as u32, generation: sock.0 as u32 };
        self.sockets[sock.0].at = Some(Remote { shard, conn });
        let opening = self.sockets[sock.0].opening.clone();
        self.event(shard, Event::Opened { conn, opening }, None);
    }

    fn give(&mut self, sock: Sock, bytes: &[u8], moved: bool) {
        let Some(Remote { shard, conn }) = self.sockets[sock.0].at else { return };
        self.event(shard, Event::Message { conn, text: true, bytes, moved }, Some(bytes));
    }

    fn event(&mut self, shard: u16, event: Event<'_>, given: Option<&[u8]>) {
        let mut actions = Vec::new();
        let at = &mut self.shards[usize::from(shard)];
        let mut cx = Cx {
            now: self.now,
            random: &mut at.random,
            policy: &self.policy,
            timers: &mut at.timers,
            actions: &mut actions,
        };
        at.pair.handle(&mut cx, event);
        for action in actions {
            self.carry_out(shard, action, given);
        }
    }

    fn carry_out(&mut self, shard: u16, action: Action, given: Option<&[u8]>) {
        match action {
            Action::Send { conn, text } => self.deliver(shard, conn, text.into_bytes()),
            Action::Forward { to, head, body, tail } => {
                let given = given.expect("only a message can be forwarded");
                self.deliver(shard, to, [head.as_bytes(), &given[body], tail.as_bytes()].concat());
            }
            Action::Close { conn, reason } => {
                let sock = self.sock(shard, conn);
                assert_eq!(self.sockets[sock.0].closed.replace(reason), None, "closed once");
                self.sockets[sock.0].at = None;
                self.shards[usize::from(shard)].slots[conn.index as usize] = None;
                self.event(shard, Event::Closed { conn, reason }, None);
            }
            Action::Move { conn, shard: home } => {
                let sock = self.sock(shard, conn);
                assert!(!self.sockets[sock.0].settled, "what is settled stays");
                assert_ne!(shard, home);
                self.moves += 1;
                self.shards[usize::from(shard)].slots[conn.index as usize] = None;
                self.sockets[sock.0].opening.moves += 1;
                self.seat(sock, home);
                self.give(sock, given.expect("a connection moves with its message"), true);
            }
            Action::Settle { conn } => {
                let sock = self.sock(shard, conn);
                self.sockets[sock.0].settled = true;
            }
            other => panic!("the pair dialect never asks for {other:?}"),
        }
    }

    fn deliver(&mut self, shard: u16, conn: ConnId, bytes: Vec<u8>) {
        let sock = self.sock(shard, conn);
        assert_eq!(self.sockets[sock.0].closed, None, "nothing is sent behind a close");
        self.sockets[sock.0].heard.push_back(bytes);
    }

    fn sock(&self, shard: u16, conn: ConnId) -> Sock {
        let sock =
            self.shards[usize::from(shard)].slots[conn.index as usize].expect("a connection that is there");
        assert_eq!(sock.0 as u32, conn.generation);
        sock
    }
}

// --- What devices say ---

/// A device, by a letter.
pub(super) fn device(name: &str) -> Value {
    json!({
        "deviceId": format!("id-{name}"),
        "deviceName": format!("{name}'s phone"),
        "capability": { "score": 5, "ram": 2.5 },
        "ephemeralPubKey": format!("key-{name}"),
    })
}

/// A message of a device: its fields, a type, and perhaps a session.
pub(super) fn message(kind: &str, device: &Value, session: Option<&str>) -> Value {
    let mut message = device.clone();
    message["type"] = kind.into();
    if let Some(session) = session {
        message["sessionId"] = session.into();
    }
    message
}

pub(super) fn relay(session: &str, payload: &str) -> Value {
    json!({ "type": "relay", "sessionId": session, "payload": payload })
}

/// What a device hears of another.
pub(super) fn connected(peer: &Value) -> Value {
    json!({
        "type": "peer-connected",
        "peerEphemeralPubKey": peer["ephemeralPubKey"],
        "peerDeviceId": peer["deviceId"],
        "peerDeviceName": peer["deviceName"],
        "peerCapability": peer["capability"],
    })
}

impl Net {
    /// A source with a new session.
    pub(super) fn source(&mut self, name: &str) -> (Sock, String) {
        let sock = self.open();
        self.say(sock, &message("pair-source", &device(name), None));
        let heard = self.heard(sock);
        let [created] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(created["type"], "session-created", "{created}");
        (sock, created["sessionId"].as_str().expect("an id").to_owned())
    }

    /// A target of that session, from a socket on whatever shard.
    pub(super) fn join(&mut self, name: &str, session: &str) -> Sock {
        let sock = self.open();
        self.say(sock, &message("pair-target", &device(name), Some(session)));
        sock
    }

    /// Two devices that know each other.
    pub(super) fn pair(&mut self) -> (Sock, Sock, String) {
        let (source, session) = self.source("a");
        let target = self.join("b", &session);
        assert_eq!(self.heard(source), [connected(&device("b"))]);
        assert_eq!(self.heard(target), [connected(&device("a"))]);
        (source, target, session)
    }
}
