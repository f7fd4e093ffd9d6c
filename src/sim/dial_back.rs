//! A simulated host's dial-back: a fresh socket that accepts one link and becomes its host's end.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    client::ANSWERED,
    leg::{HOST, Leg},
    manners::Scene,
    truth::Excuse,
    wire::{Incoming, Wire},
};
use crate::{dialect::link::PATH, time::Time};

/// A socket that answers one client.
#[derive(Debug)]
pub(super) struct DialBack {
    link: String,
    wire: Option<Wire>,
    pub(super) leg: Option<Leg>,
    text: Vec<u8>,
    dismissed: bool,
    asked_at: Time,
}

impl DialBack {
    pub(super) fn new(peer: SocketAddr, link: String, scene: &mut Scene<'_>) -> Option<DialBack> {
        let mut wire = Wire::new(scene.network.connect(peer)?, PATH, scene.manners.zero_mask);
        wire.send_text(&json!({"type": "accept", "linkId": link}).to_string(), scene.dice);
        if scene.dice.chance(scene.manners.ping) {
            wire.send_ping(scene.dice);
        }
        Some(DialBack {
            link,
            wire: Some(wire),
            leg: None,
            text: Vec::new(),
            dismissed: false,
            asked_at: scene.at(),
        })
    }

    /// Whether it has no socket any more.
    pub(super) fn is_gone(&self) -> bool {
        self.wire.is_none() && self.leg.is_none()
    }

    pub(super) fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        let mut moved = false;
        let waited = scene.at().since(self.asked_at);
        let overdue = self.leg.is_none() && !self.dismissed && waited > ANSWERED && scene.strict;
        assert!(!overdue, "accept is not answered in {waited:?}");
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
        if let Some(wire) = &mut self.wire {
            moved |= wire.flush(scene.network, scene.dice);
        }
        if let Some(leg) = &mut self.leg {
            moved |= leg.step(scene);
            if leg.is_gone() {
                self.leg = None;
            }
        }
        moved
    }

    fn take(&mut self, incoming: Incoming, scene: &mut Scene<'_>) {
        match incoming {
            Incoming::Upgraded => (),
            // A close of ours may cross anything, payload too.
            Incoming::Data { .. } if self.dismissed => (),
            Incoming::Data { payload, last, .. } => {
                self.text.extend(payload);
                if !last {
                    return;
                }
                let message: Value = serde_json::from_slice(&self.text).expect("a control message is JSON");
                match message["type"].as_str() {
                    Some("relaying") => {
                        assert_eq!(message["linkId"], self.link);
                        let wire = self.wire.take().expect("a message came on it");
                        self.leg = Some(Leg::new(wire, self.link.clone(), HOST, scene));
                    }
                    Some("error") => {
                        // The client did not wait.
                        assert_eq!(message["error"], "unknown_link");
                        self.leave(scene);
                    }
                    other => panic!("{other:?} on a dial-back"),
                }
            }
            Incoming::Close(code) => {
                let explained = match code {
                    Some(4000) => !scene.strict,
                    Some(4002..=4004) => true,
                    Some(1013) => scene.may_overload,
                    _ => scene.stopping || self.dismissed,
                };
                assert!(explained, "close {code:?} on a dial-back");
                self.leave(scene);
            }
            Incoming::Refused(status) => {
                assert!(status == 503 && scene.stopping, "upgrade refused with {status}");
                self.finish(scene);
            }
            Incoming::Ended | Incoming::Reset => {
                let explained = self.dismissed || scene.stopping || !scene.strict;
                assert!(explained, "{incoming:?} on a dial-back");
                self.finish(scene);
            }
        }
    }

    pub(super) fn leave(&mut self, scene: &mut Scene<'_>) {
        if let Some(leg) = &mut self.leg {
            leg.leave(scene);
        } else if let Some(wire) = &mut self.wire
            && !self.dismissed
        {
            self.dismissed = true;
            scene.excuse(&self.link, Excuse::Closed);
            wire.send_close(1000, scene.dice);
        }
    }

    fn finish(&mut self, scene: &mut Scene<'_>) {
        if let Some(wire) = self.wire.take() {
            scene.excuse(&self.link, Excuse::Broken);
            scene.network.peer_close(wire.stream, false);
        }
    }
}
