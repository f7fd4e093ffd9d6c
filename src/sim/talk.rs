//! Messages of any text for one shard's dialects, without sockets, as the fuzzers say them.

use std::net::{IpAddr, Ipv4Addr};

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use super::{dice::Dice, settings::Plan};
use crate::{
    admission::{AllowList, SharedPolicy},
    dialect::{
        Action, Cx, Dialects, Event, Kind, Opening, Place,
        workspace::{
            Answer, Ask, Claims, Request, Response, Role, Scope, Ticket, Workspace, WorkspaceConfig,
        },
    },
    id::ConnId,
    reason::Reason,
    time::{Now, Time},
    timers::{Alarm, Wheel},
};

/// One shard's dialects, with connections that have just come.
pub struct Talk {
    dialects: Dialects,
    policy: SharedPolicy,
    random: ChaCha12Rng,
    timers: Wheel,
    now: Now,
    /// By the index of the connection: whether it is still open.
    open: Vec<(Kind, bool)>,
}

impl Talk {
    /// Two links and two devices, one after the other.
    pub fn of_links_and_devices() -> Talk {
        let mut talk = Talk::new(Plan::draw(&mut Dice::new(0)).dialects(0));
        for kind in [Kind::Link, Kind::Pair, Kind::Link, Kind::Pair] {
            talk.open(kind, None);
        }
        talk
    }

    /// A workspace with a daemon, a client of each scope and two workers.
    pub fn of_a_workspace() -> Talk {
        let place = Place { shard: 0, shards: 1, relay: 0, hash_key: [7; 16] };
        let workspace = Workspace::new(WorkspaceConfig::default(), place);
        let mut talk = Talk::new(Dialects { link: None, pair: None, workspace: Some(workspace) });
        let scopes =
            [Scope::Runtime, Scope::SessionEvents, Scope::Pairing].map(|scope| (Role::Client, Some(scope)));
        for (role, scope) in [(Role::Daemon, None)].into_iter().chain(scopes).chain([(Role::Worker, None); 2])
        {
            let ticket = ticket(role, scope);
            talk.policy.workspace_gate().enter(&ticket.ip, role).expect("there is room");
            talk.open(Kind::Workspace, Some(Box::new(ticket)));
        }
        talk
    }

    fn new(dialects: Dialects) -> Talk {
        let now = Now { at: Time(0), unix_ms: 1_700_000_000_000 };
        Talk {
            dialects,
            policy: SharedPolicy::new(0, AllowList::default()),
            random: ChaCha12Rng::seed_from_u64(0),
            timers: Wheel::new(now.at),
            now,
            open: Vec::new(),
        }
    }

    fn open(&mut self, kind: Kind, ticket: Option<Box<Ticket>>) {
        let conn = conn(self.open.len());
        self.open.push((kind, true));
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let opening = Opening { ip, host: "relay.test".into(), origin: None, ticket, moves: 0 };
        self.tell(kind, Event::Opened { conn, opening }, b"");
        assert!(self.open[conn.index as usize].1, "{kind:?} {conn:?} is let in");
    }

    /// How many connections there were.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// A connection says something, if it is still there and text is text.
    pub fn say(&mut self, place: usize, text: bool, bytes: &[u8]) {
        let (kind, is_open) = self.open[place];
        if is_open && !(text && std::str::from_utf8(bytes).is_err()) {
            self.tell(kind, Event::Message { conn: conn(place), text, bytes, moved: false }, bytes);
        }
    }

    /// Seconds pass, and what is due by then happens.
    pub fn wait(&mut self, seconds: u64) {
        let until = self.now.at.0 + seconds * 1_000_000;
        while let Some(at) = self.timers.next_deadline().filter(|at| at.0 <= until) {
            self.set_time(at.0.max(self.now.at.0));
            while let Some(alarm) = self.timers.pop(self.now.at) {
                let Alarm::Dialect(alarm) = alarm else { continue };
                self.tell(alarm.kind(), Event::Alarm(alarm), b"");
            }
        }
        self.set_time(until);
    }

    fn set_time(&mut self, micros: u64) {
        self.now.unix_ms += micros / 1000 - self.now.at.0 / 1000;
        self.now.at = Time(micros);
    }

    /// Everybody leaves; a day later nothing may be left of them.
    pub fn end(mut self) {
        for place in 0..self.open.len() {
            self.leave(place);
        }
        self.wait(86_400);
        assert!(self.timers.is_empty(), "no timer is left");
        assert_eq!(self.policy.workspace_gate().taken(), (0, 0), "every place was given back");
        let Dialects { link, pair, workspace } = &self.dialects;
        assert!(link.as_ref().is_none_or(|link| link.is_empty()), "no link is left");
        assert!(pair.as_ref().is_none_or(|pair| pair.is_empty()), "no session is left");
        assert!(workspace.as_ref().is_none_or(Workspace::is_empty), "no workspace is left");
    }

    fn leave(&mut self, place: usize) {
        let (kind, is_open) = &mut self.open[place];
        if std::mem::replace(is_open, false) {
            let kind = *kind;
            self.tell(kind, Event::Closed { conn: conn(place), reason: Reason::PeerEnded }, b"");
        }
    }

    fn tell(&mut self, kind: Kind, event: Event<'_>, given: &[u8]) {
        let mut actions = Vec::new();
        let Talk { dialects, policy, random, timers, now, .. } = self;
        dialects.handle(&mut Cx { now: *now, random, policy, timers, actions: &mut actions }, kind, event);
        for action in actions {
            self.carry_out(kind, action, given);
        }
    }

    fn carry_out(&mut self, kind: Kind, action: Action, given: &[u8]) {
        match action {
            Action::Send { conn, .. } | Action::Settle { conn } => self.assert_open(conn),
            Action::Forward { to, body, .. } => {
                self.assert_open(to);
                assert!(std::str::from_utf8(&given[body]).is_ok(), "what is forwarded is text");
            }
            Action::FanOut { to, .. } => to.into_iter().for_each(|conn| self.assert_open(conn)),
            Action::Close { conn, reason } => {
                self.assert_open(conn);
                self.open[conn.index as usize].1 = false;
                self.tell(kind, Event::Closed { conn, reason }, b"");
            }
            // It has been forgotten here.
            Action::Move { conn, .. } => self.open[conn.index as usize].1 = false,
            Action::Ask { conn, ask } => {
                self.assert_open(conn);
                let answer = answer(ask);
                self.tell(kind, Event::Answer { conn, answer }, b"");
            }
            _ => {}
        }
    }

    fn assert_open(&self, conn: ConnId) {
        assert!(self.open[conn.index as usize].1, "nothing is done to {conn:?}, which is closed");
    }
}

fn conn(place: usize) -> ConnId {
    ConnId { index: place as u32, generation: 1 }
}

fn ticket(role: Role, scope: Option<Scope>) -> Ticket {
    let target = (role != Role::Worker).then(|| Box::from("t"));
    Ticket {
        request: Request { role, workspace_id: "w".into(), runtime_target_id: target.clone() },
        claims: Claims {
            workspace_id: Some("w".into()),
            runtime_target_id: target,
            scope,
            client_id: scope.map(|scope| format!("{scope:?}").into()),
            managed_executor_id: (role == Role::Worker).then(|| "e".into()),
            session_channels: vec!["c".into()],
            ..Claims::default()
        },
        ip: "192.0.2.1".into(),
    }
}

/// A platform that says back what it was sent; what has no body fails.
fn answer(ask: Ask) -> Answer {
    match ask {
        Ask::Forward { request_id, headers, body: Some(body), .. } => {
            Answer::Forwarded { request_id, outcome: Ok(Response { status: 200, headers, body }) }
        }
        ask => ask.unanswered("it is not there"),
    }
}
