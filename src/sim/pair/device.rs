//! One device: connects, asks for its place, says numbered messages, leaves, comes back.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::couple::Bond;
use crate::{
    dialect::pair::PATH,
    sim::{
        dice::Dice,
        manners::Scene,
        wire::{Incoming, Wire},
    },
    time::Time,
};

/// Messages that a device says after each introduction before it is content.
const CONTENT: u64 = 5;
/// The largest filler of a payload.
const FILLER_MAX: usize = 40_000;
/// Relayed messages must be smaller than this: what the simulated relay takes.
pub(in crate::sim) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// How late a device may hear that a session is over: it reads nothing for five seconds at most.
const LATE_MAX: Duration = Duration::from_secs(15);

/// Which end it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Source,
    Target,
}

impl Role {
    fn name(self) -> &'static str {
        if self == Role::Source { "source" } else { "target" }
    }

    fn other(self) -> Role {
        if self == Role::Source { Role::Target } else { Role::Source }
    }
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Not connected until then.
    Away(Time),
    /// Has asked for a session that is to be answered.
    Asking,
    /// Has its place, as far as it knows.
    Seated,
    /// A close frame is out, or came.
    Leaving,
}

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    role: Role,
    peer: SocketAddr,
    stage: Stage,
    wire: Option<Wire>,
    text: Vec<u8>,
    /// The session that it asked for or was given.
    session: Option<String>,
    /// How often it has connected; part of what it says.
    epoch: u64,
    /// Messages said, ever.
    said: u64,
    /// The last message heard on this connection: its epoch and number.
    last: Option<(u64, u64)>,
    /// Since the last introduction, if the other end is there.
    introduced: Option<Exchanged>,
    paused_until: Time,
    next_at: Time,
    pub(super) heard_total: u64,
    pub(super) resumed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Exchanged {
    said: u64,
    heard: u64,
}

impl Device {
    pub(super) fn new(role: Role, peer: SocketAddr) -> Device {
        Device {
            role,
            peer,
            stage: Stage::Away(Time(0)),
            wire: None,
            text: Vec::new(),
            session: None,
            epoch: 0,
            said: 0,
            last: None,
            introduced: None,
            paused_until: Time(0),
            next_at: Time(0),
            heard_total: 0,
            resumed: 0,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.wire.is_none()
    }

    pub(super) fn is_content(&self) -> bool {
        self.introduced.is_some_and(|since| since.said >= CONTENT && since.heard >= CONTENT)
    }

    pub(super) fn wakes_at(&self) -> Option<Time> {
        match self.stage {
            Stage::Away(at) => Some(at),
            Stage::Seated => Some(self.next_at.max(self.paused_until)),
            _ => (self.paused_until > Time(0)).then_some(self.paused_until),
        }
    }

    pub(super) fn wake_up(&mut self) {
        self.paused_until = Time(0);
    }

    pub(super) fn leave(&mut self, scene: &mut Scene<'_>) {
        if let Some(wire) = &mut self.wire
            && self.stage != Stage::Leaving
        {
            wire.send_close(1000, scene.dice);
            self.stage = Stage::Leaving;
            self.paused_until = Time(0);
        }
    }

    pub(super) fn step(&mut self, bond: &mut Bond, scene: &mut Scene<'_>) -> bool {
        let mut moved = false;
        let paused = scene.at() < self.paused_until;
        if let Some(wire) = &mut self.wire
            && !paused
        {
            let sips = scene.dice.chance(scene.manners.sip);
            let most = if sips { scene.dice.size(1000) } else { usize::MAX };
            let incoming = wire.receive(scene.network, most, scene.dice);
            moved |= !incoming.is_empty();
            for incoming in incoming {
                self.take(incoming, bond, scene);
            }
        }
        self.act(bond, scene);
        if let Some(wire) = &mut self.wire
            && wire.flush(scene.network, scene.dice)
        {
            bond.wrote_at = scene.at();
            moved = true;
        }
        let silent = scene.at().since(bond.wrote_at);
        let is_over = self.stage == Stage::Seated && silent > bond.ttl + LATE_MAX;
        assert!(!is_over || !scene.strict, "a session is there after {silent:?} of {:?}", bond.ttl);
        moved
    }

    fn act(&mut self, bond: &mut Bond, scene: &mut Scene<'_>) {
        match self.stage {
            Stage::Away(at) if at <= scene.at() => self.connect(bond, scene),
            Stage::Seated if scene.at() >= self.next_at => self.talk(bond, scene),
            Stage::Asking | Stage::Seated if scene.dice.chance(scene.manners.close) => self.leave(scene),
            Stage::Asking | Stage::Seated if scene.dice.chance(scene.manners.reset) => {
                self.drop_wire(scene, true);
            }
            Stage::Seated if scene.dice.chance(scene.manners.pause) => {
                let span = Duration::from_millis(scene.dice.size(5_000) as u64);
                self.paused_until = scene.at() + span;
            }
            _ => (),
        }
    }

    fn connect(&mut self, bond: &mut Bond, scene: &mut Scene<'_>) {
        let later = scene.at() + Duration::from_millis(500);
        // A target has nothing to say before the source has shown it something.
        if bond.retired || self.role == Role::Target && bond.session.is_none() {
            self.stage = Stage::Away(later);
            return;
        }
        let Some(stream) = scene.network.connect(self.peer) else {
            self.stage = Stage::Away(later);
            return;
        };
        let mut wire = Wire::new(stream, PATH, scene.manners.zero_mask);
        self.session = bond.session.clone();
        self.epoch += 1;
        self.last = None;
        self.introduced = None;
        self.text.clear();
        let mut message = json!({
            "type": format!("pair-{}", self.role.name()),
            "deviceId": name(bond.number, self.role),
            "deviceName": "\u{1f4f1}",
            "capability": { "score": 1 },
            "ephemeralPubKey": format!("key of {}", name(bond.number, self.role)),
        });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        wire.send_text(&message.to_string(), scene.dice);
        // Whether a target was seated is told by what follows.
        self.stage = if self.role == Role::Source { Stage::Asking } else { Stage::Seated };
        self.next_at = scene.at();
        self.wire = Some(wire);
    }

    fn talk(&mut self, bond: &mut Bond, scene: &mut Scene<'_>) {
        if self.session != bond.session {
            // The source has another session by now: here nobody comes back.
            return self.leave(scene);
        }
        let Some(wire) = &mut self.wire else { return };
        if wire.backlog() > scene.manners.backlog_bytes {
            return;
        }
        let is_content = self.introduced.is_some_and(|since| since.said >= CONTENT);
        let rest = if is_content || bond.calm && self.introduced.is_none() {
            bond.ttl / 3
        } else {
            Duration::from_millis(scene.dice.size(200) as u64)
        };
        self.next_at = scene.at() + rest;
        if is_content && !bond.calm && scene.dice.chance(300_000) {
            // Says nothing for so long that the session ends.
            self.next_at = scene.at() + 2 * bond.ttl;
            return;
        }
        if scene.dice.chance(scene.manners.ping) {
            wire.send_ping(scene.dice);
            wire.send_text("{\"type\":\"ping\"}", scene.dice);
        }
        // Nobody there to hear it is an answer too, but not one to be asked for all the time.
        if self.introduced.is_none() && !scene.dice.chance(100_000) {
            return;
        }
        self.said += 1;
        if let Some(since) = &mut self.introduced {
            since.said += 1;
        }
        let payload = payload(bond.number, self.role, self.epoch, self.said, scene.at());
        let session = self.session.as_deref().unwrap_or_default();
        let message = json!({ "type": "relay", "sessionId": session, "payload": payload }).to_string();
        wire.send_message(message.as_bytes(), scene.manners.fragment, scene.dice);
    }

    fn take(&mut self, incoming: Incoming, bond: &mut Bond, scene: &mut Scene<'_>) {
        match incoming {
            Incoming::Upgraded => (),
            // A close of ours may cross anything.
            Incoming::Data { .. } if self.stage == Stage::Leaving => (),
            Incoming::Data { text, payload, last } => {
                assert!(text, "the relay answers in text");
                self.text.extend(payload);
                if last {
                    let message = serde_json::from_slice(&std::mem::take(&mut self.text)).expect("JSON");
                    self.understand(&message, bond, scene);
                }
            }
            Incoming::Close(code) => self.dismissed(code, bond, scene),
            Incoming::Refused(status) => {
                assert!(status == 503 && scene.stopping, "upgrade refused with {status}");
                self.drop_wire(scene, false);
            }
            Incoming::Ended | Incoming::Reset => {
                let explained = self.stage == Stage::Leaving || scene.stopping || !scene.strict;
                assert!(explained, "{incoming:?} in {:?}", self.stage);
                self.drop_wire(scene, false);
            }
        }
    }

    fn understand(&mut self, message: &Value, bond: &mut Bond, scene: &mut Scene<'_>) {
        match message["type"].as_str().expect("a type") {
            "session-created" => {
                assert_eq!((self.role, self.stage), (Role::Source, Stage::Asking));
                let session = message["sessionId"].as_str().expect("an id").to_owned();
                match &self.session {
                    Some(asked) => {
                        assert_eq!(*asked, session, "another session than the one that was asked for");
                        self.resumed += 1;
                    }
                    None => bond.active_at = Time(0),
                }
                self.session = Some(session.clone());
                bond.session = Some(session);
                self.stage = Stage::Seated;
            }
            "peer-connected" => {
                assert_eq!(self.stage, Stage::Seated);
                assert_eq!(message["peerDeviceId"], name(bond.number, self.role.other()).as_str());
                self.introduced = Some(Exchanged::default());
            }
            "peer-disconnected" => self.introduced = None,
            "relay" => {
                assert_eq!(message["from"], self.role.other().name());
                self.hear(message["payload"].as_str().expect("a payload"), bond);
            }
            "pong" => (),
            "error" => match message["code"].as_str().expect("a code") {
                "peer_not_connected" => {}
                // Its time was over, or the relay has not seen yet that the former socket is gone.
                "session_join_failed" => {
                    assert!(self.session.is_some());
                    if scene.dice.chance(300_000) && self.role == Role::Source {
                        bond.session = None;
                    }
                }
                other => panic!("error {other}"),
            },
            other => panic!("{other} in {:?}", self.stage),
        }
    }

    /// What arrives is what the other one said, in its order and without a gap.
    fn hear(&mut self, heard: &str, bond: &mut Bond) {
        let mut parts = heard.splitn(5, '/');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).expect("a number");
        let (couple, epoch, count, said_at) = (number(), number(), number(), number());
        assert_eq!(couple, bond.number as u64, "a message of another couple");
        let want = payload(bond.number, self.role.other(), epoch, count, Time(said_at));
        assert!(heard == want, "a payload is not what was said");
        if let Some((last_epoch, last)) = self.last {
            assert!(epoch >= last_epoch, "a message of a former connection");
            assert!(epoch > last_epoch || count == last + 1, "message {count} follows {last}");
        }
        self.last = Some((epoch, count));
        self.heard_total += 1;
        if let Some(since) = &mut self.introduced {
            since.heard += 1;
        }
        bond.active_at = bond.active_at.max(Time(said_at));
    }

    fn dismissed(&mut self, code: Option<u16>, bond: &mut Bond, scene: &mut Scene<'_>) {
        let explained = match code {
            Some(1000) if self.stage == Stage::Leaving => true,
            Some(1000) => {
                let lasted = scene.at().since(bond.active_at);
                assert!(lasted >= bond.ttl, "a session ended after {lasted:?} of {:?}", bond.ttl);
                true
            }
            Some(1001) => scene.stopping,
            Some(1008) => true,
            Some(1013) => scene.may_overload || !scene.strict,
            Some(4000 | 4006) => !scene.strict,
            _ => false,
        };
        assert!(explained, "close {code:?} in {:?}", self.stage);
        if code == Some(1000) && self.stage != Stage::Leaving && bond.session == self.session {
            bond.session = None;
        }
        if let Some(wire) = &mut self.wire
            && self.stage != Stage::Leaving
        {
            wire.send_close(code.unwrap_or(1000), scene.dice);
        }
        self.introduced = None;
        self.stage = Stage::Leaving;
        self.paused_until = Time(0);
    }

    fn drop_wire(&mut self, scene: &mut Scene<'_>, reset: bool) {
        if let Some(wire) = self.wire.take() {
            scene.network.peer_close(wire.stream, reset);
        }
        self.introduced = None;
        self.paused_until = Time(0);
        self.stage = Stage::Away(scene.at() + Duration::from_millis(scene.dice.size(3_000) as u64));
    }
}

fn name(couple: usize, role: Role) -> String {
    format!("{couple}-{}", role.name())
}

/// What a device says: who, which, when, and a filler that only this message has.
fn payload(couple: usize, role: Role, epoch: u64, count: u64, at: Time) -> String {
    let mut dice = Dice::new((couple as u64) << 48 | epoch << 24 | count << 1 | role as u64);
    let mut filler = vec![0; dice.size(FILLER_MAX)];
    dice.fill(&mut filler);
    let filler: String = filler.iter().map(|byte| char::from(b'0' + byte % 75)).collect();
    format!("{couple}/{epoch}/{count}/{}/{filler}", at.0)
}
