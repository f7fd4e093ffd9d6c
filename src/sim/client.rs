//! A simulated Link client: resolves an address, asks for the relay, then is one end of the link.
//!
//! Promises that every answer of the relay is one that link.md allows at that point. Comes back for as many
//! introductions as it was told.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::{
    leg::{CLIENT, Leg},
    manners::Scene,
    truth::Excuse,
    wire::{Incoming, Wire},
};
use crate::{dialect::link::PATH, time::Time};

/// How far the introduction is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Not connected until then.
    Away(Time),
    /// The upgrade, and perhaps the address, is asked for.
    Resolving,
    /// The address was unknown; asked for again then.
    Waiting(Time),
    /// The link is known; the dial-back is asked for.
    Introduced(String),
    /// A close frame is out, or came.
    Leaving,
    /// The socket is a leg.
    Linked,
    Gone,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    peer: SocketAddr,
    stage: Stage,
    wire: Option<Wire>,
    leg: Option<Leg>,
    text: Vec<u8>,
    /// When the address was last asked for.
    asked_at: Time,
    /// Introductions that it will still ask for.
    rounds: u32,
    /// A code may end this socket that only its own doing explains.
    at_fault: bool,
    /// Links that it saw relaying.
    pub linked: u64,
}

impl Client {
    /// A client that asks for `rounds` introductions.
    pub fn new(peer: SocketAddr, rounds: u32) -> Client {
        Client {
            peer,
            stage: Stage::Away(Time(0)),
            wire: None,
            leg: None,
            text: Vec::new(),
            asked_at: Time(0),
            rounds,
            at_fault: false,
            linked: 0,
        }
    }

    /// Whether it has no connection and will make none.
    pub fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Its end of a link.
    pub fn leg(&self) -> Option<&Leg> {
        self.leg.as_ref()
    }

    /// When it goes on by itself.
    pub fn wakes_at(&self) -> Option<Time> {
        match self.stage {
            Stage::Away(at) | Stage::Waiting(at) => Some(at),
            _ => self.leg.as_ref().and_then(Leg::wakes_at),
        }
    }

    /// See [`Leg::notice`].
    pub fn notice(&mut self, scene: &mut Scene<'_>) {
        if let Some(leg) = &mut self.leg {
            leg.notice(scene);
        }
    }

    /// See [`Leg::wake_up`].
    pub fn wake_up(&mut self) {
        if let Some(leg) = &mut self.leg {
            leg.wake_up();
        }
    }

    /// Does not come back once its link has ended.
    pub fn ask_no_more(&mut self) {
        self.rounds = 0;
    }

    /// Leaves, and does not come back.
    pub fn retire(&mut self, scene: &mut Scene<'_>) {
        self.rounds = 0;
        if let Some(leg) = &mut self.leg {
            leg.leave(scene);
        } else if self.wire.is_some() {
            self.leave(scene);
        } else {
            self.stage = Stage::Gone;
        }
    }

    /// One step. Returns whether anything moved.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        let mut moved = false;
        if let Some(wire) = &mut self.wire {
            let incoming = wire.receive(scene.network, usize::MAX, scene.dice);
            moved |= !incoming.is_empty();
            for incoming in incoming {
                match &mut self.leg {
                    Some(leg) => leg.take(incoming, scene),
                    None => self.take(incoming, scene),
                }
            }
        }
        if let Some(leg) = &mut self.leg {
            moved |= leg.step(scene);
            if leg.is_gone() {
                self.leg = None;
                self.rest(scene);
            }
        }
        self.act(scene);
        if let Some(wire) = &mut self.wire {
            moved |= wire.flush(scene.network, scene.dice);
        }
        moved
    }

    /// What it does by itself before it is linked.
    fn act(&mut self, scene: &mut Scene<'_>) {
        match self.stage {
            Stage::Away(at) if at <= scene.at() => self.connect(scene),
            Stage::Waiting(at) if at <= scene.at() => self.resolve(scene),
            Stage::Resolving | Stage::Waiting(_) | Stage::Introduced(_) => {
                let waited = scene.at().since(self.asked_at);
                let overdue = self.stage == Stage::Resolving && waited > ANSWERED && scene.strict;
                assert!(!overdue, "resolve is not answered in {waited:?}");
                if scene.dice.chance(scene.manners.close) {
                    self.leave(scene);
                } else if scene.dice.chance(scene.manners.reset) {
                    self.drop_wire(scene, true);
                } else if scene.dice.chance(scene.manners.misbehave) {
                    self.misbehave(scene);
                }
            }
            _ => (),
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        let stream = match self.rounds.checked_sub(1) {
            Some(left) => {
                self.rounds = left;
                scene.network.connect(self.peer)
            }
            None => None,
        };
        let Some(stream) = stream else {
            self.stage = Stage::Gone;
            return;
        };
        self.wire = Some(Wire::new(stream, PATH, scene.manners.zero_mask));
        self.text.clear();
        self.at_fault = false;
        // The request may follow the upgrade at once, in the same segment.
        self.stage = Stage::Resolving;
        if scene.dice.chance(300_000) {
            self.resolve(scene);
        } else {
            self.stage = Stage::Waiting(scene.at() + Duration::from_millis(1));
        }
    }

    fn resolve(&mut self, scene: &mut Scene<'_>) {
        let address = match scene.dice.chance(100_000) {
            true => "nobody-has-this-address".to_owned(),
            false => scene.addresses[scene.dice.below(scene.addresses.len())].clone(),
        };
        self.say(json!({"type": "resolve", "address": address}), scene);
        // What follows travels with the message.
        if let Some(wire) = &mut self.wire
            && scene.dice.chance(scene.manners.ping)
        {
            wire.send_ping(scene.dice);
        }
        self.asked_at = scene.at();
        self.stage = Stage::Resolving;
    }

    fn take(&mut self, incoming: Incoming, scene: &mut Scene<'_>) {
        match incoming {
            Incoming::Upgraded => (),
            // A close of ours may cross anything, payload too.
            Incoming::Data { .. } if self.stage == Stage::Leaving => (),
            Incoming::Data { text, payload, last } => {
                assert!(text, "a control message is text");
                self.text.extend(payload);
                if last {
                    let message = serde_json::from_slice(&self.text).expect("a control message is JSON");
                    self.text.clear();
                    self.understand(&message, scene);
                }
            }
            Incoming::Close(code) => self.dismissed(code, scene),
            // An upgrade is refused while the relay stops; other ends are the network's doing or ours.
            Incoming::Refused(status) => {
                assert!(status == 503 && scene.stopping || self.at_fault, "upgrade refused with {status}");
                self.drop_wire(scene, false);
            }
            Incoming::Ended | Incoming::Reset => {
                let explained =
                    self.stage == Stage::Leaving || self.at_fault || scene.stopping || !scene.strict;
                assert!(explained, "{incoming:?} in {:?}", self.stage);
                self.drop_wire(scene, false);
            }
        }
    }

    fn understand(&mut self, message: &Value, scene: &mut Scene<'_>) {
        let link = message["linkId"].as_str().map(str::to_owned);
        match (message["type"].as_str(), &self.stage, link) {
            (Some("error"), Stage::Resolving, _) => {
                assert_eq!(message["error"], "unknown_address");
                let later = Duration::from_millis(scene.dice.size(2_000) as u64);
                self.stage = Stage::Waiting(scene.at() + later);
            }
            (Some("found"), Stage::Resolving, Some(link)) => {
                if !scene.strict {
                    scene.excuse(&link, Excuse::Broken);
                }
                self.say(json!({"type": "relay", "linkId": link}), scene);
                self.stage = Stage::Introduced(link);
            }
            (Some("relaying"), Stage::Introduced(expected), Some(link)) => {
                assert_eq!(*expected, link);
                let wire = self.wire.take().expect("a message came on it");
                self.leg = Some(Leg::new(wire, link, CLIENT, scene));
                self.stage = Stage::Linked;
                self.linked += 1;
            }
            (kind, stage, _) => panic!("{kind:?} in {stage:?}"),
        }
    }

    /// The relay closes a client that is not linked: its host went, or took its time, or the client broke the
    /// rules.
    fn dismissed(&mut self, code: Option<u16>, scene: &mut Scene<'_>) {
        let explained = match (code, &self.stage) {
            (Some(1001), _) => scene.stopping,
            (Some(1000), stage) => *stage == Stage::Leaving,
            (Some(4003 | 4004), stage) => matches!(stage, Stage::Introduced(_) | Stage::Leaving),
            // No role in time is for those who were answered, and answered again, that no one is there.
            (Some(4000), Stage::Resolving) => scene.at().since(self.asked_at) < ANSWERED || !scene.strict,
            // Over the budget: a matter of the run's settings.
            (Some(4000 | 4002), _) => true,
            (Some(1013), _) => scene.may_overload,
            (Some(1002), _) => self.at_fault,
            _ => false,
        };
        assert!(explained, "close {code:?} in {:?}", self.stage);
        if let Some(wire) = &mut self.wire
            && self.stage != Stage::Leaving
        {
            wire.send_close(code.unwrap_or(1000), scene.dice);
        }
        self.stage = Stage::Leaving;
    }

    /// Its link, if it is known, ends by our doing.
    fn excuse(&self, excuse: Excuse, scene: &mut Scene<'_>) {
        if let Stage::Introduced(link) = &self.stage {
            scene.excuse(link, excuse);
        }
    }

    fn leave(&mut self, scene: &mut Scene<'_>) {
        self.excuse(Excuse::Closed, scene);
        if let Some(wire) = &mut self.wire
            && self.stage != Stage::Leaving
        {
            wire.send_close(1000, scene.dice);
            self.stage = Stage::Leaving;
        }
    }

    fn misbehave(&mut self, scene: &mut Scene<'_>) {
        self.at_fault = true;
        self.excuse(Excuse::Broken, scene);
        let Some(wire) = &mut self.wire else { return };
        // While a dial-back is under way, `relaying` may cross a text, which then is payload.
        let texts_are_control = !matches!(self.stage, Stage::Introduced(_));
        match if texts_are_control { scene.dice.below(4) } else { 2 } {
            0 => wire.send_text("{\"type\":", scene.dice),
            1 => wire.send_text(&"x".repeat(5000), scene.dice),
            2 => wire.send_raw(&[0x82, 0x01, 0x00]),
            _ => wire.send_text("{\"type\":\"getUsage\"}", scene.dice),
        }
        self.stage = Stage::Leaving;
    }

    fn say(&mut self, message: Value, scene: &mut Scene<'_>) {
        if let Some(wire) = &mut self.wire {
            wire.send_text(&message.to_string(), scene.dice);
        }
    }

    fn drop_wire(&mut self, scene: &mut Scene<'_>, reset: bool) {
        self.excuse(Excuse::Broken, scene);
        if let Some(wire) = self.wire.take() {
            scene.network.peer_close(wire.stream, reset);
        }
        self.rest(scene);
    }

    /// Before the next introduction.
    fn rest(&mut self, scene: &mut Scene<'_>) {
        self.stage = match self.rounds {
            0 => Stage::Gone,
            _ => Stage::Away(scene.at() + Duration::from_millis(scene.dice.size(1_000) as u64)),
        };
    }
}

/// How long an answer may take where nothing breaks.
pub(super) const ANSWERED: Duration = Duration::from_secs(10);
