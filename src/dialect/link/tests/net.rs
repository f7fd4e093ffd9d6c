//! A relay without sockets: several shards of the link dialect, with their letters, moves, timers and splices
//! carried out as the engine does it, in virtual time.
//!
//! Holds every connection's side of the conversation. Checks with every action that the dialect keeps its
//! contract with the shard: nothing is sent to a connection after its close, nothing moves that has a role,
//! holds are resumed.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use serde_json::Value;

use super::super::{Gauges, Link, LinkConfig, Place, StatsPart, stats_json};
use crate::{
    admission::{AllowList, SharedPolicy},
    dialect::{Action, Cx, Dialect, Event, Letter, Opening, SpliceId},
    id::{ConnId, Remote},
    pacing::{Ledger, Rates},
    reason::Reason,
    time::{Now, Time},
    timers::{self, Wheel},
};

/// The origin that sockets of the tests are upgraded under.
pub(super) const HOST: &str = "relay.example:8080";
/// The relay's number in the tests.
pub(super) const RELAY: u16 = 7;

/// One connection, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sock(usize);

#[derive(Debug)]
struct Socket {
    at: Option<Remote>,
    opening: Opening,
    heard: VecDeque<String>,
    closed: Option<Reason>,
    held: bool,
    settled: bool,
    waiting: VecDeque<(bool, Vec<u8>)>,
    splice: Option<(Sock, SpliceId)>,
}

struct Shard {
    link: Link,
    timers: Wheel,
    random: ChaCha12Rng,
    slots: Vec<(u32, Option<Sock>)>,
}

/// The relay.
pub(super) struct Net {
    pub(super) now: Now,
    pub(super) policy: SharedPolicy,
    /// Keeps letters between shards under way until it is cleared, to see what happens meanwhile.
    pub(super) letters_wait: bool,
    /// Keeps closing connections from being gone, as while their last bytes are delivered.
    pub(super) closes_wait: bool,
    /// How often a connection moved, and how many letters passed between shards.
    pub(super) moves: usize,
    pub(super) letters: usize,
    shards: Vec<Shard>,
    sockets: Vec<Socket>,
    /// By sender, then receiver: letters of one pair of shards stay in order, those of two may overtake each
    /// other.
    mail: Vec<VecDeque<Letter>>,
    closing: VecDeque<Sock>,
    resumed: VecDeque<Sock>,
    next_shard: u16,
    /// Every action, while a test wants them.
    recorded: Option<Vec<Action>>,
}

/// What the tests run with unless they say otherwise: no limits, and the reference's idle time.
pub(super) fn config() -> LinkConfig {
    LinkConfig {
        rates: Rates::default(),
        idle: Duration::from_secs(300),
        origin: None,
        verifications_per_sec: 0,
    }
}

/// Runs a test on a relay of one shard and on one of four, where connections open on the shards in turn.
pub(super) fn on_one_and_four_shards(test: impl Fn(&mut Net)) {
    for shards in [1, 4] {
        let mut net = Net::new(shards, config());
        test(&mut net);
        net.close_all();
        net.assert_nothing_left();
    }
}

impl Net {
    pub(super) fn new(shards: u16, config: LinkConfig) -> Net {
        Net::with_policy(shards, config, SharedPolicy::new(0, AllowList::default()))
    }

    pub(super) fn with_policy(shards: u16, config: LinkConfig, policy: SharedPolicy) -> Net {
        let now = Now { at: Time(5_000_000), unix_ms: 1_700_000_000_000 };
        let place = |shard| Place { shard, shards, relay: RELAY, hash_key: *b"a key for homing" };
        let shard = |number| Shard {
            link: Link::new(config.clone(), place(number)),
            timers: Wheel::new(now.at),
            random: ChaCha12Rng::seed_from_u64(u64::from(number)),
            slots: Vec::new(),
        };
        Net {
            now,
            policy,
            letters_wait: false,
            closes_wait: false,
            moves: 0,
            letters: 0,
            shards: (0..shards).map(shard).collect(),
            sockets: Vec::new(),
            mail: vec![VecDeque::new(); usize::from(shards) * usize::from(shards)],
            closing: VecDeque::new(),
            resumed: VecDeque::new(),
            next_shard: 0,
            recorded: None,
        }
    }

    pub(super) fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// A new connection, on the next shard in turn.
    pub(super) fn open(&mut self) -> Sock {
        let shard = self.next_shard;
        self.next_shard = (shard + 1) % self.shards();
        self.open_on(shard)
    }

    pub(super) fn open_on(&mut self, shard: u16) -> Sock {
        self.open_as(shard, "192.0.2.1", HOST)
    }

    pub(super) fn open_as(&mut self, shard: u16, ip: &str, host: &str) -> Sock {
        let ip: IpAddr = ip.parse().expect("tests write addresses");
        self.sockets.push(Socket {
            at: None,
            opening: Opening { ip, host: host.into(), origin: None, ticket: None, moves: 0 },
            heard: VecDeque::new(),
            closed: None,
            held: false,
            settled: false,
            waiting: VecDeque::new(),
            splice: None,
        });
        let sock = Sock(self.sockets.len() - 1);
        self.seat(sock, shard);
        self.settle();
        sock
    }

    /// The peer sends a text message.
    pub(super) fn say(&mut self, sock: Sock, message: &Value) {
        self.say_text(sock, &message.to_string());
    }

    pub(super) fn say_text(&mut self, sock: Sock, text: &str) {
        self.message(sock, true, text.as_bytes().to_vec());
    }

    /// A text message of any bytes.
    pub(super) fn say_bytes_as_text(&mut self, sock: Sock, bytes: &[u8]) {
        self.message(sock, true, bytes.to_vec());
    }

    pub(super) fn say_binary(&mut self, sock: Sock, bytes: &[u8]) {
        self.message(sock, false, bytes.to_vec());
    }

    /// What the dialect answers to a message, carried out as well.
    pub(super) fn actions_of(&mut self, sock: Sock, message: &Value) -> Vec<Action> {
        self.recorded = Some(Vec::new());
        self.say(sock, message);
        self.recorded.take().expect("it was just set")
    }

    /// The shard that an address is at home on.
    pub(super) fn home_of(&self, address: &[u8]) -> u16 {
        self.shards[0].link.place.home_of(address)
    }

    /// The name of a connection on its shard.
    pub(super) fn conn(&self, sock: Sock) -> ConnId {
        self.sockets[sock.0].at.expect("the connection is open").conn
    }

    /// What the peer has been sent since it was last asked.
    pub(super) fn heard(&mut self, sock: Sock) -> Vec<Value> {
        let heard = self.sockets[sock.0].heard.drain(..);
        heard.map(|text| serde_json::from_str(&text).expect("answers are JSON")).collect()
    }

    /// Why the relay closed the connection, if it did.
    pub(super) fn closed(&self, sock: Sock) -> Option<Reason> {
        self.sockets[sock.0].closed
    }

    pub(super) fn is_held(&self, sock: Sock) -> bool {
        self.sockets[sock.0].held
    }

    pub(super) fn is_settled(&self, sock: Sock) -> bool {
        self.sockets[sock.0].settled
    }

    pub(super) fn is_open(&self, sock: Sock) -> bool {
        self.sockets[sock.0].at.is_some() && self.sockets[sock.0].closed.is_none()
    }

    pub(super) fn shard_of(&self, sock: Sock) -> u16 {
        self.sockets[sock.0].at.expect("the connection is open").shard
    }

    /// The other end of a connection's splice.
    pub(super) fn spliced_to(&self, sock: Sock) -> Option<Sock> {
        self.sockets[sock.0].splice.map(|(other, _)| other)
    }

    /// A spliced connection's account.
    pub(super) fn ledger(&mut self, sock: Sock) -> Option<&mut Ledger> {
        let (_, splice) = self.sockets[sock.0].splice?;
        let shard = self.sockets[sock.0].at?.shard;
        self.shards[usize::from(shard)].link.ledger(splice).map(|(ledger, _)| ledger)
    }

    /// What the pump does with bytes of a spliced connection: charges them, and says so when that is news.
    pub(super) fn relay_bytes(&mut self, sock: Sock, leg: crate::pacing::Leg, bytes: u64) {
        let (_, splice) = self.sockets[sock.0].splice.expect("the connection is spliced");
        let shard = self.shard_of(sock);
        let at = self.now.at;
        let link = &mut self.shards[usize::from(shard)].link;
        let (ledger, rates) = link.ledger(splice).expect("the link is there");
        let _ = ledger.budget.allow(rates, at, bytes);
        if link.charge_splice(splice, at, leg, bytes) {
            self.event(shard, Event::Usage { splice }, None);
            self.settle();
        }
    }

    /// The connection closes, for a reason that is not the dialect's.
    pub(super) fn close(&mut self, sock: Sock, reason: Reason) {
        self.gone(sock, reason);
        self.settle();
    }

    pub(super) fn close_all(&mut self) {
        self.letters_wait = false;
        self.closes_wait = false;
        self.settle();
        for number in 0..self.sockets.len() {
            self.close(Sock(number), Reason::PeerClosed);
        }
    }

    /// Time passes; timers fire when they are due.
    pub(super) fn advance(&mut self, span: Duration) {
        let until = self.now.at + span;
        while let Some(at) = self.next_deadline().filter(|at| *at <= until) {
            self.set_time(at.max(self.now.at));
            for shard in 0..self.shards() {
                while let Some(alarm) = self.shards[usize::from(shard)].timers.pop(self.now.at) {
                    let timers::Alarm::Dialect(alarm) = alarm else { unreachable!("nobody else arms any") };
                    self.event(shard, Event::Alarm(alarm), None);
                    self.settle();
                }
            }
        }
        self.set_time(until);
    }

    /// The allow-list is another one from now on.
    pub(super) fn allow(&mut self, list: &str) {
        self.policy.replace_allow_list(AllowList::parse([list]));
        for shard in 0..self.shards() {
            self.event(shard, Event::PolicyChanged, None);
            self.settle();
        }
    }

    /// Delivers one letter that waits, of the `choice`-th pair of shards that has some.
    pub(super) fn deliver_one(&mut self, choice: usize) -> bool {
        let pairs: Vec<usize> = (0..self.mail.len()).filter(|pair| !self.mail[*pair].is_empty()).collect();
        if pairs.is_empty() {
            return false;
        }
        let pair = pairs[choice % pairs.len()];
        let letter = self.mail[pair].pop_front().expect("the pair has letters");
        let (from, to) = (pair / self.shards.len(), pair % self.shards.len());
        self.event(to as u16, Event::Letter { from: from as u16, letter }, None);
        true
    }

    /// Delivers a letter that nobody wrote.
    pub(super) fn deliver(&mut self, from: u16, to: u16, letter: Letter) {
        self.event(to, Event::Letter { from, letter }, None);
        self.settle();
    }

    /// Lets connections that are being closed be gone.
    pub(super) fn finish_closes(&mut self) {
        while let Some(sock) = self.closing.pop_front() {
            self.gone(sock, self.sockets[sock.0].closed.expect("it is being closed"));
        }
        self.settle();
    }

    pub(super) fn gauges(&self) -> Vec<Gauges> {
        self.shards.iter().map(|shard| shard.link.gauges()).collect()
    }

    pub(super) fn stats_parts(&mut self) -> Vec<StatsPart> {
        let now = self.now;
        self.shards.iter_mut().map(|shard| shard.link.stats_part(now)).collect()
    }

    pub(super) fn stats(&mut self) -> Value {
        let parts = self.stats_parts();
        serde_json::from_str(&stats_json(parts, &[], self.now, Time(0))).expect("stats are JSON")
    }

    /// Of a shard: nobody is there, nothing is registered, no link is kept, and nothing at all.
    pub(super) fn is_empty(&self, shard: u16) -> [bool; 4] {
        let link = &self.shards[usize::from(shard)].link;
        [link.seats.is_empty(), link.registry.is_empty(), link.links.is_empty(), link.is_empty()]
    }

    pub(super) fn timers_armed(&self) -> usize {
        self.shards.iter().map(|shard| shard.timers.len()).sum()
    }

    /// With every connection gone, nothing of any is left.
    pub(super) fn assert_nothing_left(&self) {
        assert!(self.sockets.iter().all(|socket| socket.at.is_none()), "a connection is open");
        assert!(self.mail.iter().all(|pair| pair.is_empty()), "a letter is under way");
        assert_eq!(self.policy.addresses(), 0, "places of addresses left");
        for shard in &self.shards {
            let link = &shard.link;
            assert!(link.seats.is_empty(), "seats left: {:?}", link.seats);
            assert!(link.registry.is_empty(), "registrations left: {:?}", link.registry);
            assert!(link.links.is_empty(), "links left: {:?}", link.links);
            assert!(link.is_empty());
            let Gauges { addresses, introduced, pending, relaying, .. } = link.gauges();
            assert_eq!([addresses, introduced, pending, relaying], [0; 4]);
            assert_eq!(shard.timers.len(), 0, "timers left");
        }
    }

    /// What must hold whenever no letter is under way: a control socket waits for exactly the dial-backs of
    /// its pending links, and nobody is held.
    pub(super) fn assert_quiet(&self) {
        let waiting: usize = self
            .shards
            .iter()
            .map(|shard| shard.link.seats.controls())
            .fold(0, |sum, all| sum + all.map(|(_, control)| control.dial_backs.len()).sum::<usize>());
        let pending: u64 = self.gauges().iter().map(|gauges| gauges.pending).sum();
        assert_eq!(waiting as u64, pending, "dial-backs that hosts owe, and links that wait for one");
        let mut held = self.sockets.iter().filter(|socket| socket.held && socket.closed.is_none());
        assert!(held.all(|socket| socket.at.is_none()), "held for ever");
    }

    fn next_deadline(&self) -> Option<Time> {
        self.shards.iter().filter_map(|shard| shard.timers.next_deadline()).min()
    }

    fn set_time(&mut self, at: Time) {
        self.now.unix_ms = 1_700_000_000_000 + (at.0 - 5_000_000) / 1000;
        self.now.at = at;
    }

    fn message(&mut self, sock: Sock, text: bool, bytes: Vec<u8>) {
        self.sockets[sock.0].waiting.push_back((text, bytes));
        self.resumed.push_back(sock);
        self.settle();
    }

    /// Carries on until nothing moves any more.
    pub(super) fn settle(&mut self) {
        loop {
            if let Some(sock) = self.resumed.pop_front() {
                self.read(sock);
            } else if !self.closes_wait
                && let Some(sock) = self.closing.pop_front()
            {
                self.gone(sock, self.sockets[sock.0].closed.expect("it is being closed"));
            } else if self.letters_wait || !self.deliver_one(0) {
                return;
            }
        }
    }

    /// Gives a connection's messages to its shard while it is read.
    fn read(&mut self, sock: Sock) {
        while let Socket { at: Some(at), held: false, closed: None, splice: None, .. } = self.sockets[sock.0]
        {
            let Some((text, bytes)) = self.sockets[sock.0].waiting.pop_front() else { return };
            let event = Event::Message { conn: at.conn, text, bytes: &bytes, moved: false };
            self.event(at.shard, event, Some((text, &bytes)));
        }
    }

    fn seat(&mut self, sock: Sock, shard: u16) {
        let slots = &mut self.shards[usize::from(shard)].slots;
        let index = slots.iter().position(|(_, taken)| taken.is_none()).unwrap_or_else(|| {
            slots.push((0, None));
            slots.len() - 1
        });
        let (generation, taken) = &mut slots[index];
        *generation += 1;
        *taken = Some(sock);
        let conn = ConnId { index: index as u32, generation: *generation };
        self.sockets[sock.0].at = Some(Remote { shard, conn });
        let opening = self.sockets[sock.0].opening.clone();
        self.event(shard, Event::Opened { conn, opening }, None);
    }

    fn unseat(&mut self, sock: Sock) -> Option<Remote> {
        let at = self.sockets[sock.0].at.take()?;
        self.shards[usize::from(at.shard)].slots[at.conn.index as usize].1 = None;
        Some(at)
    }

    fn gone(&mut self, sock: Sock, reason: Reason) {
        self.closing.retain(|other| *other != sock);
        if let Some(at) = self.unseat(sock) {
            self.event(at.shard, Event::Closed { conn: at.conn, reason }, None);
        }
    }

    fn event(&mut self, shard: u16, event: Event<'_>, message: Option<(bool, &[u8])>) {
        let Shard { link, timers, random, .. } = &mut self.shards[usize::from(shard)];
        let mut actions = Vec::new();
        let mut cx = Cx { now: self.now, random, policy: &self.policy, timers, actions: &mut actions };
        link.handle(&mut cx, event);
        for action in actions {
            if let Some(recorded) = &mut self.recorded {
                recorded.push(action.clone());
            }
            self.carry_out(shard, action, message);
        }
    }

    fn named(&mut self, shard: u16, conn: ConnId) -> (Sock, &mut Socket) {
        let (generation, sock) = self.shards[usize::from(shard)].slots[conn.index as usize];
        assert_eq!(generation, conn.generation, "an action names a former connection");
        let sock = sock.expect("an action names a connection that is gone");
        (sock, &mut self.sockets[sock.0])
    }

    fn carry_out(&mut self, shard: u16, action: Action, message: Option<(bool, &[u8])>) {
        match action {
            Action::Forward { .. } | Action::FanOut { .. } | Action::Ask { .. } | Action::Note(_) => {
                panic!("the link dialect does none of this")
            }
            Action::Send { conn, text } => {
                let (_, socket) = self.named(shard, conn);
                assert_eq!(socket.closed, None, "sent after its close: {text}");
                assert_eq!(socket.splice, None, "sent into its splice: {text}");
                socket.heard.push_back(text);
            }
            Action::Close { conn, reason } => {
                let (sock, socket) = self.named(shard, conn);
                let before = socket.closed.replace(reason);
                assert!(
                    before.is_none_or(|before| before.is_patient() && !reason.is_patient()),
                    "closed for {before:?}, then for {reason:?}"
                );
                if before.is_none() {
                    self.closing.push_back(sock);
                }
            }
            Action::Move { conn, shard: to } => {
                assert_ne!(to, shard, "moved to where it is");
                let (text, bytes) = message.expect("only a message moves a connection");
                let (sock, socket) = self.named(shard, conn);
                assert!(!socket.settled, "moved with a role");
                socket.opening.moves += 1;
                self.moves += 1;
                self.unseat(sock);
                self.seat(sock, to);
                let conn = self.sockets[sock.0].at.expect("it was just seated").conn;
                self.event(to, Event::Message { conn, text, bytes, moved: true }, message);
            }
            Action::Splice { client, host, splice } => {
                let (client, _) = self.named(shard, client);
                let (host, _) = self.named(shard, host);
                for (end, other) in [(client, host), (host, client)] {
                    let socket = &mut self.sockets[end.0];
                    assert!(socket.settled && socket.splice.is_none());
                    socket.splice = Some((other, splice));
                }
            }
            Action::Hold { conn } => {
                let (_, socket) = self.named(shard, conn);
                assert!(!std::mem::replace(&mut socket.held, true), "held twice");
            }
            Action::Resume { conn } => {
                let (sock, socket) = self.named(shard, conn);
                assert!(std::mem::replace(&mut socket.held, false), "resumed without a hold");
                self.resumed.push_back(sock);
            }
            Action::Post { shard: to, letter } => {
                assert_ne!(to, shard, "a letter to its own shard");
                self.letters += 1;
                self.mail[usize::from(shard) * self.shards.len() + usize::from(to)].push_back(letter);
            }
            Action::Settle { conn } => {
                let (_, socket) = self.named(shard, conn);
                assert!(!std::mem::replace(&mut socket.settled, true), "settled twice");
            }
        }
    }
}
