//! One member of a workspace: connects, is let in or not, asks and answers, leaves, comes back.
//!
//! Everything that a member says names its workspace and itself, so that what is heard tells where it came from. A
//! daemon echoes its clients' envelopes; in a session neither of the two may miss one or hear one twice. A worker's
//! requests are answered with their paths.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    dialect::workspace::PATH,
    sim::{
        dice::Dice,
        manners::Scene,
        wire::{Incoming, Wire},
    },
    time::Time,
};

/// What it is in its workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Daemon,
    Client,
    Worker,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Not connected until then.
    Away(Time),
    /// The upgrade is to be answered.
    Knocking,
    Inside,
    /// A close frame is out, or came, or it was turned away.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Member {
    workspace: usize,
    index: usize,
    part: Part,
    peer: SocketAddr,
    stage: Stage,
    wire: Option<Wire>,
    /// How often it has connected.
    connections: u64,
    text: Vec<u8>,
    /// Something was heard on this connection.
    heard_any: bool,
    /// Key exchanges and requests of a worker, ever.
    epoch: u64,
    /// The client has its session.
    has_session: bool,
    /// Envelopes said in this session, and the last one that came back.
    said: u64,
    heard: u64,
    /// The sessions that a daemon made on this connection, with the last envelope of each.
    sessions: BTreeMap<String, u64>,
    /// The paths of a worker's requests by their ids.
    asked: BTreeMap<String, String>,
    paused_until: Time,
    next_at: Time,
    pub(super) answered: u64,
    answered_in_calm: u64,
    calm: bool,
    retired: bool,
}

impl Member {
    pub(super) fn new(workspace: usize, index: usize, part: Part, peer: SocketAddr) -> Member {
        Member {
            workspace,
            index,
            part,
            peer,
            stage: Stage::Away(Time(0)),
            wire: None,
            connections: 0,
            text: Vec::new(),
            heard_any: false,
            epoch: 0,
            has_session: false,
            said: 0,
            heard: 0,
            sessions: BTreeMap::new(),
            asked: BTreeMap::new(),
            paused_until: Time(0),
            next_at: Time(0),
            answered: 0,
            answered_in_calm: 0,
            calm: false,
            retired: false,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.wire.is_none()
    }

    pub(super) fn is_content(&self) -> bool {
        self.part == Part::Daemon || self.answered_in_calm >= CONTENT
    }

    pub(super) fn wakes_at(&self) -> Option<Time> {
        match self.stage {
            Stage::Away(at) => (!self.retired).then_some(at),
            Stage::Inside if self.part != Part::Daemon => Some(self.next_at.max(self.paused_until)),
            _ => (self.paused_until > Time(0)).then_some(self.paused_until),
        }
    }

    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.paused_until = Time(0);
    }

    pub(super) fn retire(&mut self, scene: &mut Scene<'_>) {
        self.retired = true;
        self.paused_until = Time(0);
        match self.stage {
            Stage::Knocking => self.drop_wire(scene, true),
            _ => self.leave(scene),
        }
    }

    pub(super) fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        let mut moved = false;
        if let Some(wire) = &mut self.wire
            && scene.at() >= self.paused_until
        {
            let most = if scene.dice.chance(scene.manners.sip) { scene.dice.size(1000) } else { usize::MAX };
            let incoming = wire.receive(scene.network, most, scene.dice);
            moved |= !incoming.is_empty();
            for incoming in incoming {
                self.take(incoming, scene);
            }
        }
        self.act(scene);
        moved | self.wire.as_mut().is_some_and(|wire| wire.flush(scene.network, scene.dice))
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        match self.stage {
            Stage::Away(at) if at <= scene.at() && !self.retired => self.connect(scene),
            Stage::Knocking if scene.dice.chance(IMPATIENCE * scene.manners.reset) => {
                self.drop_wire(scene, true);
                // It knocks again while the platform still has the question of before.
                self.stage = Stage::Away(scene.at() + Duration::from_millis(scene.dice.size(100) as u64));
            }
            Stage::Inside if scene.dice.chance(scene.manners.close) => self.leave(scene),
            Stage::Inside if scene.dice.chance(scene.manners.reset) => self.drop_wire(scene, true),
            // Unlike a link's peers it is not waited for: the relay closes it for what it does not take.
            Stage::Inside if scene.dice.chance(4 * scene.manners.pause) => {
                self.paused_until = scene.at() + Duration::from_millis(scene.dice.between(1, 5_000) as u64);
            }
            Stage::Inside if scene.at() >= self.next_at => self.talk(scene),
            _ => (),
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        let Some(stream) = scene.network.connect(self.peer) else {
            self.stage = Stage::Away(scene.at() + Duration::from_millis(500));
            return;
        };
        let role = match self.part {
            Part::Daemon => "workspace-daemon",
            Part::Client => "client",
            Part::Worker => "worker",
        };
        self.connections += 1;
        let workspace = self.workspace;
        let path =
            format!("{PATH}?role={role}&workspaceId=w{workspace}&runtimeTargetId=t&token={}", self.token());
        let mut wire = Wire::new(stream, &path, scene.manners.zero_mask);
        self.text.clear();
        self.heard_any = false;
        self.has_session = false;
        self.sessions.clear();
        self.asked.clear();
        self.next_at = scene.at();
        self.stage = Stage::Knocking;
        if self.part == Part::Client && scene.dice.chance(500_000) {
            // Said before it is let in: processed after that, in order.
            self.exchange_keys(&mut wire, scene);
        }
        self.wire = Some(wire);
    }

    /// What the platform knows this connection of it by.
    fn token(&self) -> String {
        format!("token-of-member-{}-{}-{}", self.workspace, self.index, self.connections)
    }

    fn exchange_keys(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) {
        self.epoch += 1;
        (self.said, self.heard, self.has_session) = (0, 0, false);
        let init = json!({
            "type": "relay_key_exchange_init", "version": 2, "profile": "noise-ik", "requestId": self.session(),
            "clientPublicKey": "k", "clientNonce": "n", "clientProof": "p",
        });
        wire.send_message(init.to_string().as_bytes(), scene.manners.fragment, scene.dice);
    }

    /// What the present key exchange and the session that comes of it are called.
    fn session(&self) -> String {
        format!("w{}/{}/{}", self.workspace, self.index, self.epoch)
    }

    fn talk(&mut self, scene: &mut Scene<'_>) {
        let Some(mut wire) = self.wire.take() else { return };
        // One that is content waits with the others for those that are not, and keeps the network free for them.
        let rest = match self.calm {
            true if self.answered_in_calm >= CONTENT => 30_000,
            true => 100,
            false => scene.dice.size(2_000) as u64,
        };
        self.next_at = scene.at() + Duration::from_millis(rest);
        if wire.backlog() <= scene.manners.backlog_bytes {
            match self.part {
                Part::Daemon => (),
                Part::Client if !self.has_session || self.said > self.heard + OWED_MAX => {
                    // The daemon was not there, or has forgotten the session.
                    self.exchange_keys(&mut wire, scene);
                    self.next_at = scene.at() + PATIENCE;
                }
                Part::Client => {
                    self.said += 1;
                    let message = envelope(&self.session(), self.said);
                    wire.send_message(message.as_bytes(), scene.manners.fragment, scene.dice);
                }
                Part::Worker => self.ask(&mut wire, scene),
            }
        }
        self.wire = Some(wire);
    }

    fn ask(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) {
        if self.asked.len() >= ASKED_MAX {
            return;
        }
        self.epoch += 1;
        let id = self.session();
        let path = format!(
            "/api/runtime/workspaces/w{}/managed-executors/{}/{}",
            self.workspace,
            self.token(),
            self.epoch
        );
        let request = json!({
            "type": "viewport.worker_transport.request/v1", "requestId": id, "method": "GET", "path": path,
        });
        wire.send_message(request.to_string().as_bytes(), scene.manners.fragment, scene.dice);
        self.asked.insert(id, path);
    }

    fn take(&mut self, incoming: Incoming, scene: &mut Scene<'_>) {
        match incoming {
            Incoming::Upgraded => self.stage = Stage::Inside,
            // A close of ours may cross anything.
            Incoming::Data { .. } if self.stage == Stage::Leaving => (),
            Incoming::Data { text, payload, last } => {
                assert!(text, "the relay sends text");
                self.heard_any = true;
                self.text.extend(payload);
                if last {
                    let text = std::mem::take(&mut self.text);
                    self.understand(&text, scene);
                }
            }
            Incoming::Close(code) => self.dismissed(code, scene),
            Incoming::Refused(status) => {
                assert!(matches!(status, 401 | 503), "an upgrade is refused with {status}");
                assert!(status == 401 || scene.stopping || scene.may_overload, "refused with {status}");
                self.stage = Stage::Leaving;
            }
            Incoming::Ended | Incoming::Reset => {
                let explained = self.stage == Stage::Leaving || scene.stopping || !scene.strict;
                assert!(explained, "{incoming:?} in {:?}", self.stage);
                self.drop_wire(scene, false);
            }
        }
    }

    fn understand(&mut self, text: &[u8], scene: &mut Scene<'_>) {
        let message: Value = serde_json::from_slice(text).expect("JSON");
        let own = format!("w{}/", self.workspace);
        let field = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        match (self.part, &*field("type")) {
            (_, "relay_status") => {
                assert_eq!(message["code"], "DAEMON_UNAVAILABLE", "{message}");
                assert_eq!(message["machineId"], self.token(), "admitted as someone else");
            }
            (Part::Daemon, "relay_key_exchange_init") => {
                let request = field("requestId");
                assert!(request.starts_with(&own), "{request} reached the daemon of {own}");
                let answer = json!({
                    "type": "relay_key_exchange_response", "version": 2, "profile": "noise-ik",
                    "requestId": request, "daemonNonce": "n", "sessionId": request, "epoch": 1, "proof": "p",
                });
                self.say(answer.to_string().as_bytes(), scene);
                self.sessions.insert(request, 0);
            }
            (Part::Daemon, "e2ee") => {
                let session = field("sessionId");
                assert!(session.starts_with(&own), "{session} reached the daemon of {own}");
                // Sessions of the daemon before are none of this one's.
                if let Some(last) = self.sessions.get_mut(&session) {
                    *last += 1;
                    assert_eq!(message["seq"], *last, "the envelope of {session} that its daemon hears");
                }
                self.say(text, scene);
            }
            (Part::Client, "relay_key_exchange_response") => {
                let of_member = format!("{own}{}/", self.index);
                assert!(field("requestId").starts_with(&of_member), "{message} reached {of_member}");
                // The answer to an exchange that it gave up says nothing about the present one: to begin anew for
                // it would give that one up as well, and so on for ever.
                if field("requestId") == self.session() {
                    self.has_session = true;
                    self.next_at = scene.at();
                }
            }
            (Part::Client, "e2ee") => {
                let session = field("sessionId");
                let of_member = format!("{own}{}/", self.index);
                assert!(session.starts_with(&of_member), "{session} reached {of_member}");
                let seq = message["seq"].as_u64().expect("a number");
                assert!(text == envelope(&session, seq).as_bytes(), "an envelope is not what was said");
                if session == self.session() {
                    assert_eq!(seq, self.heard + 1, "the echo that {session} hears");
                    self.heard = seq;
                    self.count();
                }
            }
            (Part::Worker, "viewport.worker_transport.response/v1") => {
                let path = self
                    .asked
                    .remove(&field("requestId"))
                    .expect("an answer to a request of this connection");
                match message["status"].as_u64() {
                    Some(200) => assert_eq!(message["body"], path.as_str()),
                    status => assert_eq!(status, Some(502)),
                }
                self.count();
            }
            (part, other) => panic!("{part:?} hears {other:?}: {message}"),
        }
    }

    fn count(&mut self) {
        self.answered += 1;
        self.answered_in_calm += u64::from(self.calm);
    }

    fn say(&mut self, message: &[u8], scene: &mut Scene<'_>) {
        if let Some(wire) = &mut self.wire {
            wire.send_message(message, scene.manners.fragment, scene.dice);
        }
    }

    fn dismissed(&mut self, code: Option<u16>, scene: &mut Scene<'_>) {
        let explained = match code {
            Some(1000) => self.stage == Stage::Leaving,
            Some(1001) => scene.stopping,
            Some(1013) => scene.may_overload || !scene.strict,
            // Claims that are not ours, a daemon that is there already, or too slow for what it was sent.
            Some(4008) => scene.claims_may_err || self.part == Part::Daemon || self.heard_any,
            _ => false,
        };
        assert!(explained, "close {code:?} in {:?}", self.stage);
        if let Some(wire) = &mut self.wire
            && self.stage != Stage::Leaving
        {
            wire.send_close(code.unwrap_or(1000), scene.dice);
        }
        self.stage = Stage::Leaving;
        self.paused_until = Time(0);
    }

    fn leave(&mut self, scene: &mut Scene<'_>) {
        if let Some(wire) = &mut self.wire
            && self.stage != Stage::Leaving
        {
            wire.send_close(1000, scene.dice);
            self.stage = Stage::Leaving;
            self.paused_until = Time(0);
        }
    }

    fn drop_wire(&mut self, scene: &mut Scene<'_>, reset: bool) {
        if let Some(wire) = self.wire.take() {
            scene.network.peer_close(wire.stream, reset);
        }
        self.paused_until = Time(0);
        self.stage = Stage::Away(scene.at() + Duration::from_millis(scene.dice.size(3_000) as u64));
    }
}

/// A client's envelope, with a filler that only this one has.
fn envelope(session: &str, seq: u64) -> String {
    let seed = session.bytes().fold(seq, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut dice = Dice::new(seed);
    let mut filler = vec![0; dice.size(FILLER_MAX)];
    dice.fill(&mut filler);
    let filler: String = filler.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    let head =
        format!(r#"{{"type":"e2ee","version":2,"profile":"noise-ik","sessionId":"{session}","epoch":1,"#);
    format!(r#"{head}"seq":{seq},"iv":"i","tag":"t","ciphertext":"{filler}"}}"#)
}

/// Answers that a member needs to hear in calm before it is content.
const CONTENT: u64 = 5;
/// Envelopes without an echo after which a client takes its session for lost.
const OWED_MAX: u64 = 4;
/// How long a client waits for the answer to a key exchange.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much more often one hangs up whose upgrade is not answered yet.
const IMPATIENCE: u32 = 20;
/// Requests of a worker that are open at once.
const ASKED_MAX: usize = 3;
const FILLER_MAX: usize = 6_000;
/// Messages of workspaces must be smaller than this: what the simulated relay takes.
pub(in crate::sim) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
