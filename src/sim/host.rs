//! A simulated Link host: registers an address, dials back for every client that asks, and is the other end
//! of the links.
//!
//! Holds the control socket and one socket per dial-back. Promises that every answer of the relay is one that
//! link.md allows at that point. Comes back when its control socket is gone.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    dial_back::DialBack,
    leg::Leg,
    manners::Scene,
    wire::{self, Incoming, Wire},
};
use crate::{dialect::link::PATH, time::Time};

/// A key and the address that commits to it.
#[derive(Debug)]
pub struct Identity {
    key: SigningKey,
    /// The address.
    pub address: String,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    peer: SocketAddr,
    identities: Vec<Identity>,
    /// The newest control socket, and ones that it took the addresses from.
    controls: Vec<Control>,
    dial_backs: Vec<DialBack>,
    back_at: Time,
    retired: bool,
}

/// A control socket.
#[derive(Debug)]
struct Control {
    wire: Wire,
    text: Vec<u8>,
    /// The next identity to register.
    next: usize,
    /// The time stamp of the last register.
    stamp: u64,
    /// A register came too late.
    stale: bool,
    leaving: bool,
    /// Another socket of ours takes its addresses over.
    superseded: bool,
    at_fault: bool,
    over: bool,
}

impl Identity {
    /// A random one.
    pub fn new(dice: &mut super::dice::Dice) -> Identity {
        let mut secret = [0; 32];
        dice.fill(&mut secret);
        let key = SigningKey::from_bytes(&secret);
        let address = URL_SAFE_NO_PAD.encode(Sha256::digest(key.verifying_key().to_bytes()));
        Identity { key, address }
    }

    /// The `register` message (link.md section 4).
    pub(super) fn register(&self, stamp: u64, nonce: &str) -> Value {
        let mut message = b"frontier-link-register-v1".to_vec();
        for field in [self.address.as_str(), &stamp.to_string(), nonce, wire::HOST] {
            message.extend((field.len() as u32).to_be_bytes());
            message.extend(field.as_bytes());
        }
        json!({
            "type": "register",
            "address": self.address,
            "auth": {
                "alg": "ed25519",
                "pub": URL_SAFE_NO_PAD.encode(self.key.verifying_key().to_bytes()),
                "ts": stamp,
                "nonce": nonce,
                "sig": URL_SAFE_NO_PAD.encode(self.key.sign(&message).to_bytes()),
            },
        })
    }
}

impl Host {
    /// A host with these identities.
    pub fn new(peer: SocketAddr, identities: Vec<Identity>) -> Host {
        Host {
            peer,
            identities,
            controls: Vec::new(),
            dial_backs: Vec::new(),
            back_at: Time(0),
            retired: false,
        }
    }

    /// Whether it has no connection and will make none.
    pub fn is_gone(&self) -> bool {
        self.retired && self.controls.is_empty() && self.dial_backs.is_empty()
    }

    /// Its ends of links.
    pub fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.dial_backs.iter().filter_map(|dial_back| dial_back.leg.as_ref())
    }

    /// When it goes on by itself.
    pub fn wakes_at(&self) -> Option<Time> {
        let back = (self.controls.is_empty() && !self.retired).then_some(self.back_at);
        self.legs().filter_map(Leg::wakes_at).chain(back).min()
    }

    /// See [`Leg::notice`].
    pub fn notice(&mut self, scene: &mut Scene<'_>) {
        for leg in self.dial_backs.iter_mut().filter_map(|dial_back| dial_back.leg.as_mut()) {
            leg.notice(scene);
        }
    }

    /// See [`Leg::wake_up`].
    pub fn wake_up(&mut self) {
        for leg in self.dial_backs.iter_mut().filter_map(|dial_back| dial_back.leg.as_mut()) {
            leg.wake_up();
        }
    }

    /// Leaves, and does not come back.
    pub fn retire(&mut self, scene: &mut Scene<'_>) {
        self.retired = true;
        for control in &mut self.controls {
            control.leave(scene);
        }
        for dial_back in &mut self.dial_backs {
            dial_back.leave(scene);
        }
    }

    /// One step. Returns whether anything moved.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        let mut moved = false;
        if self.controls.is_empty() && !self.retired && scene.at() >= self.back_at {
            moved |= self.connect(scene);
        }
        let mut calls = Vec::new();
        for control in &mut self.controls {
            moved |= control.step(&self.identities, scene, &mut calls);
        }
        for link in calls {
            // A host may be too busy to answer.
            if !scene.dice.chance(scene.manners.vanish) && !self.retired {
                self.dial_backs.extend(DialBack::new(self.peer, link, scene));
            }
        }
        if self.controls.iter().any(|control| control.over) {
            self.controls.retain(|control| !control.over);
            self.back_at = scene.at() + Duration::from_millis(scene.dice.size(3_000) as u64);
        }
        if self.controls.len() == 1 && !self.retired && scene.dice.chance(scene.manners.take_over) {
            self.controls[0].superseded = true;
            moved |= self.connect(scene);
        }
        for dial_back in &mut self.dial_backs {
            moved |= dial_back.step(scene);
        }
        self.dial_backs.retain(|dial_back| !dial_back.is_gone());
        moved
    }

    fn connect(&mut self, scene: &mut Scene<'_>) -> bool {
        let Some(stream) = scene.network.connect(self.peer) else {
            self.retired = true;
            return false;
        };
        // A newer time stamp than that of every socket before.
        let stamp = self.controls.iter().map(|control| control.stamp).max().unwrap_or(0);
        self.controls.push(Control {
            wire: Wire::new(stream, PATH, scene.manners.zero_mask),
            text: Vec::new(),
            next: 0,
            stamp,
            stale: false,
            leaving: false,
            superseded: false,
            at_fault: false,
            over: false,
        });
        true
    }
}

impl Control {
    /// `calls` gathers the links that ask for a dial-back.
    fn step(&mut self, identities: &[Identity], scene: &mut Scene<'_>, calls: &mut Vec<String>) -> bool {
        let incoming = self.wire.receive(scene.network, usize::MAX, scene.dice);
        let mut moved = !incoming.is_empty();
        for incoming in incoming {
            self.take(incoming, identities, scene, calls);
        }
        if self.over {
            return true;
        }
        if !self.leaving && !self.superseded && self.next >= identities.len() {
            if scene.dice.chance(scene.manners.ask) {
                match scene.dice.chance(500_000) {
                    true => self.wire.send_text("{\"type\":\"getUsage\"}", scene.dice),
                    false => self.register(&identities[scene.dice.below(identities.len())], scene),
                }
            }
            if scene.dice.chance(scene.manners.ping) {
                self.wire.send_ping(scene.dice);
            }
            if scene.dice.chance(scene.manners.close) {
                self.leave(scene);
            } else if scene.dice.chance(scene.manners.reset) {
                scene.network.peer_close(self.wire.stream, true);
                self.over = true;
                return true;
            } else if scene.dice.chance(scene.manners.misbehave) {
                self.at_fault = true;
                self.wire.send_text("[]", scene.dice);
            }
        }
        moved |= self.wire.flush(scene.network, scene.dice);
        moved
    }

    fn take(
        &mut self,
        incoming: Incoming,
        identities: &[Identity],
        scene: &mut Scene<'_>,
        calls: &mut Vec<String>,
    ) {
        match incoming {
            // Upgraded so late, it would take the addresses back.
            Incoming::Upgraded if self.superseded => self.leave(scene),
            Incoming::Upgraded => self.register(&identities[0], scene),
            Incoming::Data { text, payload, last } => {
                assert!(text, "a control message is text");
                self.text.extend(payload);
                if last {
                    let message: Value =
                        serde_json::from_slice(&self.text).expect("a control message is JSON");
                    self.text.clear();
                    self.understand(&message, identities, scene, calls);
                }
            }
            Incoming::Close(code) => {
                let explained = match code {
                    Some(1000) => self.leaving,
                    Some(1001) => scene.stopping,
                    Some(4005) => self.superseded,
                    // A socket whose only register came too late has no role, and not for long.
                    Some(4000) => self.at_fault || self.stale || self.superseded || !scene.strict,
                    // Over the budget; a wall clock that jumped.
                    Some(4002 | 4007) => true,
                    Some(1013) => scene.may_overload,
                    _ => false,
                };
                assert!(explained, "close {code:?} on a control socket");
                if !self.leaving {
                    self.wire.send_close(code.unwrap_or(1000), scene.dice);
                }
                self.leaving = true;
            }
            Incoming::Refused(status) => {
                assert!(status == 503 && scene.stopping, "upgrade refused with {status}");
                self.finish(scene);
            }
            Incoming::Ended | Incoming::Reset => {
                let explained = self.leaving || scene.stopping || !scene.strict;
                assert!(explained, "{incoming:?} on a control socket");
                self.finish(scene);
            }
        }
    }

    fn understand(
        &mut self,
        message: &Value,
        identities: &[Identity],
        scene: &mut Scene<'_>,
        calls: &mut Vec<String>,
    ) {
        match message["type"].as_str() {
            Some("registered") => {
                assert!(identities.iter().any(|identity| message["address"] == identity.address));
                self.next += 1;
                if self.next < identities.len() && !self.leaving && !self.superseded {
                    self.register(&identities[self.next], scene);
                }
            }
            Some("relay") => calls.push(message["linkId"].as_str().expect("a link id").to_owned()),
            Some("arrived") => {
                assert!(identities.iter().any(|identity| message["address"] == identity.address));
            }
            Some("usage") => assert!(message["connections"].is_array()),
            // A socket that is being superseded may ask after the one that supersedes it.
            Some("error") if message["error"] == "register_stale" => {
                self.next += 1;
                self.stale = true;
            }
            other => panic!("{other:?} on a control socket"),
        }
    }

    fn register(&mut self, identity: &Identity, scene: &mut Scene<'_>) {
        self.stamp = scene.network.now().unix_ms.max(self.stamp + 1);
        let nonce = format!("{:x}", scene.dice.bits());
        self.wire.send_text(&identity.register(self.stamp, &nonce).to_string(), scene.dice);
    }

    fn leave(&mut self, scene: &mut Scene<'_>) {
        if !self.leaving {
            self.wire.send_close(1000, scene.dice);
            self.leaving = true;
        }
    }

    fn finish(&mut self, scene: &mut Scene<'_>) {
        scene.network.peer_close(self.wire.stream, false);
        self.over = true;
    }
}
