//! A relay without sockets: one shard of the workspace dialect, with its actions and timers carried out as the engine
//! does it, in virtual time.
//!
//! Holds every connection's side of the conversation and every entry of the log. Checks with every action that the
//! dialect keeps its contract with the shard: nothing is sent to a connection that is closed, and the place of each
//! connection is given back once.

use std::{cell::RefCell, collections::HashMap, net::IpAddr, time::Duration};

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use serde_json::{Value, json};

use super::super::{
    Answer, Ask, Claims, Metric, Note, Profile, Request, Role, Scope, Ticket, Workspace, WorkspaceConfig,
};
use crate::{
    dialect::{Action, Alarm, Cx, Dialect, Event, NoPlace, Opening, Place, Policy},
    id::ConnId,
    reason::Reason,
    time::{Now, Time},
    timers::{self, Wheel},
};

/// The workspace and the runtime target of most tests.
pub(super) const W: &str = "w1";
pub(super) const T: &str = "rt1";

/// The relay.
pub(super) struct Net {
    pub(super) now: Now,
    pub(super) workspace: Workspace,
    pub(super) notes: Vec<Note>,
    pub(super) asked: Vec<(ConnId, Ask)>,
    places: Places,
    timers: Wheel,
    random: ChaCha12Rng,
    sockets: HashMap<ConnId, Socket>,
    opened: u32,
}

#[derive(Debug, Default)]
struct Socket {
    heard: Vec<Vec<u8>>,
    closed: Option<Reason>,
    gone: bool,
    settled: bool,
}

/// The places that were given back, by address and role.
#[derive(Default)]
struct Places(RefCell<Vec<(String, Role)>>);

impl Policy for Places {
    fn charge_request(&self, _: IpAddr, _: Now) -> bool {
        unreachable!("another dialect's")
    }
    fn charge_unknown_accept(&self, _: IpAddr, _: Now) -> bool {
        unreachable!("another dialect's")
    }
    fn may_register(&self, _: &str) -> bool {
        unreachable!("another dialect's")
    }
    fn charge_session(&self, _: IpAddr, _: Now) -> bool {
        unreachable!("another dialect's")
    }
    fn take_session_place(&self, _: IpAddr) -> Result<(), NoPlace> {
        unreachable!("another dialect's")
    }
    fn leave_session_place(&self, _: IpAddr) {
        unreachable!("another dialect's")
    }
    fn take_address_place(&self, _: IpAddr) -> Result<(), NoPlace> {
        unreachable!("another dialect's")
    }
    fn hand_over_address_place(&self, _: IpAddr, _: IpAddr) -> Result<(), NoPlace> {
        unreachable!("another dialect's")
    }
    fn leave_address_place(&self, _: IpAddr) {
        unreachable!("another dialect's")
    }
    fn leave_workspace_place(&self, ip: &str, role: Role) {
        self.0.borrow_mut().push((ip.to_owned(), role));
    }
}

impl Net {
    pub(super) fn new() -> Net {
        Net::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut WorkspaceConfig)) -> Net {
        let mut config = WorkspaceConfig::default();
        change(&mut config);
        let place = Place { shard: 0, shards: 1, relay: 0, hash_key: *b"a key for tables" };
        let now = Now { at: Time(5_000_000), unix_ms: 1_700_000_000_000 };
        Net {
            now,
            workspace: Workspace::new(config, place),
            notes: Vec::new(),
            asked: Vec::new(),
            places: Places::default(),
            timers: Wheel::new(now.at),
            random: ChaCha12Rng::seed_from_u64(1),
            sockets: HashMap::new(),
            opened: 0,
        }
    }

    /// A connection that the platform has admitted.
    pub(super) fn open(&mut self, who: Who) -> ConnId {
        // Slots are used again, as a driver uses them.
        let taken =
            |index: u32| self.sockets.iter().any(|(conn, socket)| conn.index == index && !socket.gone);
        let index = (0..).find(|index| !taken(*index)).expect("there are slots enough");
        let conn = ConnId { index, generation: self.opened };
        self.opened += 1;
        self.sockets.insert(conn, Socket::default());
        let opening = Opening {
            ip: IpAddr::from([192, 0, 2, 1]),
            host: "".into(),
            origin: None,
            ticket: Some(Box::new(Ticket { request: who.request, claims: who.claims, ip: who.ip })),
            moves: 0,
        };
        self.event(Event::Opened { conn, opening }, None);
        conn
    }

    /// One that has to be let in, with everything forgotten that was said about it.
    pub(super) fn join(&mut self, who: Who) -> ConnId {
        let conn = self.open(who);
        assert_eq!(self.closed(conn), None);
        assert!(self.heard_bytes(conn).is_empty(), "nothing is sent on connect");
        assert!(self.sockets[&conn].settled);
        self.notes.clear();
        conn
    }

    pub(super) fn say(&mut self, conn: ConnId, message: &Value) {
        self.say_bytes(conn, message.to_string().as_bytes());
    }

    pub(super) fn say_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        assert!(!self.sockets[&conn].gone, "it is closed: {:?}", self.sockets[&conn].closed);
        self.event(Event::Message { conn, text: true, bytes, moved: false }, Some(bytes));
    }

    /// What the peer has been sent since it was last asked.
    pub(super) fn heard_bytes(&mut self, conn: ConnId) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sockets.get_mut(&conn).expect("it was opened").heard)
    }

    pub(super) fn heard(&mut self, conn: ConnId) -> Vec<String> {
        let text = |bytes| String::from_utf8(bytes).expect("messages are text");
        self.heard_bytes(conn).into_iter().map(text).collect()
    }

    /// Why the relay closed the connection, if it did.
    pub(super) fn closed(&self, conn: ConnId) -> Option<Reason> {
        self.sockets[&conn].closed
    }

    /// The entries of the log since they were last asked for: event and reason.
    pub(super) fn logged(&mut self) -> Vec<(&'static str, Option<&'static str>)> {
        self.notes.drain(..).map(|note| (note.event, note.details.reason)).collect()
    }

    pub(super) fn count(&self, metric: Metric) -> u64 {
        self.workspace.counters().value(metric)
    }

    /// The connection ends, for a reason that is not the dialect's.
    pub(super) fn close(&mut self, conn: ConnId) {
        self.close_for(conn, Reason::PeerClosed);
    }

    pub(super) fn close_for(&mut self, conn: ConnId, reason: Reason) {
        let socket = self.sockets.get_mut(&conn).expect("it was opened");
        if !std::mem::replace(&mut socket.gone, true) {
            self.event(Event::Closed { conn, reason }, None);
        }
    }

    pub(super) fn answer(&mut self, conn: ConnId, answer: Answer) {
        self.event(Event::Answer { conn, answer }, None);
    }

    /// Time passes; timers fire when they are due.
    pub(super) fn advance(&mut self, span: Duration) {
        let until = self.now.at + span;
        while let Some(at) = self.timers.next_deadline().filter(|at| *at <= until) {
            self.set_time(at.max(self.now.at));
            while let Some(alarm) = self.timers.pop(self.now.at) {
                let timers::Alarm::Dialect(alarm @ Alarm::Workspace(_)) = alarm else { panic!("{alarm:?}") };
                self.event(Event::Alarm(alarm), None);
            }
        }
        self.set_time(until);
    }

    fn set_time(&mut self, at: Time) {
        let start = self.now.unix_ms - self.now.at.0 / 1000;
        self.now = Now { at, unix_ms: start + at.0 / 1000 };
    }

    pub(super) fn close_all(&mut self) {
        let mut conns: Vec<_> = self.sockets.keys().copied().collect();
        conns.sort_unstable();
        conns.into_iter().for_each(|conn| self.close(conn));
    }

    /// Once everyone has left and all time is over, nothing may be kept.
    pub(super) fn assert_nothing_left(&mut self) {
        self.close_all();
        let conns = self.sockets.len();
        self.advance(Duration::from_secs(3600));
        assert!(self.workspace.is_empty() && self.timers.is_empty());
        assert_eq!(self.places.0.borrow().len(), conns, "each gave its place back once");
        let opened = self.count(Metric::WsConnectionsOpened);
        assert_eq!(opened, self.count(Metric::WsConnectionsClosed));
        assert_eq!(opened + self.count(Metric::WsConnectionsRejected), conns as u64);
        let gauges = self.workspace.gauges(self.now.at).expect("there was something");
        assert_eq!((gauges.connections, gauges.workspaces), (0, 0));
    }

    fn event(&mut self, event: Event<'_>, given: Option<&[u8]>) {
        let mut actions = Vec::new();
        let mut cx = Cx {
            now: self.now,
            random: &mut self.random,
            policy: &self.places,
            timers: &mut self.timers,
            actions: &mut actions,
        };
        self.workspace.handle(&mut cx, event);
        for action in actions {
            self.carry_out(action, given);
        }
    }

    fn carry_out(&mut self, action: Action, given: Option<&[u8]>) {
        match action {
            Action::Send { conn, text } => self.deliver(conn, text.into_bytes()),
            Action::Forward { to, head, body, tail } => {
                let given = given.expect("only a message can be forwarded");
                self.deliver(to, [head.as_bytes(), &given[body], tail.as_bytes()].concat());
            }
            Action::FanOut { to, text } => {
                for conn in to {
                    self.deliver(conn, text.to_vec());
                }
            }
            Action::Close { conn, reason } => {
                let socket = self.open_socket(conn);
                assert_eq!(socket.closed.replace(reason), None, "closed once");
                socket.gone = true;
                self.event(Event::Closed { conn, reason }, None);
            }
            Action::Settle { conn } => self.open_socket(conn).settled = true,
            Action::Ask { conn, ask } => {
                self.open_socket(conn);
                self.asked.push((conn, ask));
            }
            Action::Note(note) => {
                super::notes::check(&note);
                self.notes.push(*note);
            }
            other => panic!("the workspace dialect never asks for {other:?}"),
        }
    }

    fn deliver(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.open_socket(conn).heard.push(bytes);
    }

    fn open_socket(&mut self, conn: ConnId) -> &mut Socket {
        let socket = self.sockets.get_mut(&conn).expect("it was opened");
        assert!(!socket.gone, "nothing is done to a connection that is closed");
        socket
    }
}

// --- Who comes ---

/// Somebody on the way in.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) request: Request,
    pub(super) claims: Claims,
    pub(super) ip: Box<str>,
}

impl Who {
    fn new(role: Role, workspace_id: &str) -> Who {
        Who {
            request: Request { role, workspace_id: workspace_id.into(), runtime_target_id: None },
            claims: Claims { workspace_id: Some(workspace_id.into()), ..Claims::default() },
            ip: "192.0.2.1".into(),
        }
    }

    pub(super) fn daemon() -> Who {
        Who::new(Role::Daemon, W).target(T)
    }

    pub(super) fn client(scope: Scope, client_id: &str) -> Who {
        let mut who = Who::new(Role::Client, W).target(T);
        who.claims.scope = Some(scope);
        who.claims.client_id = Some(client_id.into());
        who
    }

    /// A client for session events with these channels.
    pub(super) fn viewer(client_id: &str, channels: &[&str]) -> Who {
        let mut who = Who::client(Scope::SessionEvents, client_id);
        who.claims.session_channels = channels.iter().map(|channel| Box::from(*channel)).collect();
        who
    }

    pub(super) fn worker(executor_id: &str) -> Who {
        let mut who = Who::new(Role::Worker, W);
        who.claims.managed_executor_id = Some(executor_id.into());
        who
    }

    pub(super) fn workspace(mut self, workspace_id: &str) -> Who {
        self.request.workspace_id = workspace_id.into();
        self.claims.workspace_id = Some(workspace_id.into());
        self
    }

    pub(super) fn target(mut self, runtime_target_id: &str) -> Who {
        self.request.runtime_target_id = Some(runtime_target_id.into());
        self.claims.runtime_target_id = Some(runtime_target_id.into());
        self
    }

    pub(super) fn no_target(mut self) -> Who {
        self.request.runtime_target_id = None;
        self.claims.runtime_target_id = None;
        self
    }

    pub(super) fn machine(mut self, machine_id: &str) -> Who {
        self.claims.machine_id = Some(machine_id.into());
        self
    }

    pub(super) fn generation(mut self, generation: u64) -> Who {
        self.claims.daemon_issue_generation = Some(generation);
        self
    }

    pub(super) fn profile(mut self, profile: Profile) -> Who {
        self.claims.e2ee_profile = Some(profile);
        self
    }

    pub(super) fn ip(mut self, ip: &str) -> Who {
        self.ip = ip.into();
        self
    }

    pub(super) fn claims(mut self, change: impl FnOnce(&mut Claims)) -> Who {
        change(&mut self.claims);
        self
    }

    pub(super) fn request(mut self, change: impl FnOnce(&mut Request)) -> Who {
        change(&mut self.request);
        self
    }
}

// --- What they say ---

pub(super) fn envelope(session_id: &str) -> Value {
    json!({
        "type": "e2ee", "version": 2, "profile": "noise-ik", "sessionId": session_id,
        "epoch": 1, "seq": 1, "iv": "iv", "tag": "tag", "ciphertext": "sealed",
    })
}

pub(super) fn init(request_id: &str) -> Value {
    json!({
        "type": "relay_key_exchange_init", "version": 3, "profile": "noise-ik", "requestId": request_id,
        "clientEphemeralPublicKey": "key", "encryptedClientStatic": "sealed",
    })
}

pub(super) fn response(request_id: &str, session_id: &str) -> Value {
    json!({
        "type": "relay_key_exchange_response", "version": 3, "profile": "noise-ik", "requestId": request_id,
        "daemonPublicKey": "key", "daemonEphemeralPublicKey": "key", "encryptedMetadata": "sealed",
        "sessionId": session_id, "epoch": 1, "proof": "proof",
    })
}

pub(super) fn key_update(session_id: &str) -> Value {
    json!({
        "type": "relay_key_update_required", "sessionId": session_id, "nextEpoch": 2,
        "reason": "message_threshold",
    })
}

pub(super) fn offer(request_id: &str) -> Value {
    json!({ "type": "relay_pairing_offer_request", "requestId": request_id, "clientChannelPublicKey": "key" })
}

pub(super) fn offer_response(request_id: &str) -> Value {
    json!({
        "type": "relay_pairing_offer_response", "requestId": request_id, "ok": true,
        "daemonChannelPublicKey": "key", "encIv": "iv", "encTag": "tag", "encCiphertext": "sealed",
    })
}

pub(super) fn redeem(request_id: &str) -> Value {
    json!({
        "type": "relay_pairing_redeem_request", "requestId": request_id, "offerId": "offer",
        "encIv": "iv", "encTag": "tag", "encCiphertext": "sealed",
    })
}

pub(super) fn redeem_response(request_id: &str) -> Value {
    json!({ "type": "relay_pairing_redeem_response", "requestId": request_id, "ok": true })
}

pub(super) fn subscribe(channel: &str) -> Value {
    json!({ "type": "viewport.session_events.subscribe/v1", "channel": channel })
}

pub(super) fn unsubscribe(channel: &str) -> Value {
    json!({ "type": "viewport.session_events.unsubscribe/v1", "channel": channel })
}

pub(super) fn presence(channel: &str) -> Value {
    json!({
        "type": "viewport.session_viewer_presence/v1", "channel": channel, "action": "joined",
        "userId": "u1",
    })
}

impl Net {
    /// `from` says something that reaches `to` as it was said, and nobody else hears of it.
    pub(super) fn pass(&mut self, from: ConnId, message: &Value, to: ConnId) {
        self.say(from, message);
        assert_eq!(self.heard(to), [message.to_string()]);
        self.assert_silence();
    }

    /// `from` says something that reaches nobody.
    pub(super) fn lose(&mut self, from: ConnId, message: &Value) {
        self.say(from, message);
        self.assert_silence();
    }

    pub(super) fn assert_silence(&self) {
        for (conn, socket) in &self.sockets {
            assert!(socket.heard.is_empty(), "{conn:?} was sent something");
        }
    }

    /// A client asks for a session, and the daemon grants it.
    pub(super) fn exchange_keys(&mut self, client: ConnId, daemon: ConnId, session_id: &str) {
        let request_id = format!("for {session_id}");
        self.pass(client, &init(&request_id), daemon);
        self.pass(daemon, &response(&request_id, session_id), client);
    }
}
