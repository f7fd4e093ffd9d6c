//! One end of a relayed link: sends patterned messages, checks what the other end's became.
//!
//! Holds the socket from `relaying` on. Promises that every byte, message type, message boundary and close
//! code that arrives is one that the link's truth explains. Never sends a byte without noting it there first.

use std::time::Duration;

use super::{
    manners::Scene,
    truth::Excuse,
    wire::{BINARY, Incoming, TEXT, Wire},
};
use crate::time::Time;

/// Which end, as the index of the direction that it sends in.
pub const CLIENT: usize = 0;
/// The other end.
pub const HOST: usize = 1;

/// What this end is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Talking,
    /// A close frame of ours, or the end of our stream, is out: waiting for the relay's part.
    Leaving,
    /// The relay's close frame came; the end of the stream follows.
    Dismissed,
    /// Neither reads nor writes any more.
    Vanished,
    Gone,
}

/// A message being sent.
#[derive(Debug)]
struct Message {
    text: bool,
    left: usize,
    begun: bool,
}

/// One end of a link.
#[derive(Debug)]
pub struct Leg {
    wire: Wire,
    link: String,
    side: usize,
    mood: Mood,
    message: Option<Message>,
    payload_left: usize,
    paused_until: Time,
    /// We broke the rules: the relay may close us for it.
    at_fault: bool,
    last_written: Time,
    /// When it vanished.
    last_seen: Time,
}

impl Leg {
    /// The `side` of `link`, on a socket that has just been told `relaying`.
    pub fn new(wire: Wire, link: String, side: usize, scene: &mut Scene<'_>) -> Leg {
        let truth = scene.truth.link(&link);
        truth.open_ends += 1;
        if !scene.strict {
            truth.excuse(Excuse::Broken);
        }
        Leg {
            wire,
            link,
            side,
            mood: Mood::Talking,
            message: None,
            payload_left: scene.dice.size(scene.manners.payload_bytes),
            paused_until: Time(0),
            at_fault: false,
            last_written: scene.at(),
            last_seen: scene.at(),
        }
    }

    /// Whether the socket is closed.
    pub fn is_gone(&self) -> bool {
        self.mood == Mood::Gone
    }

    /// Whether the link is as alive as this end can tell.
    pub fn is_talking(&self) -> bool {
        self.mood == Mood::Talking
    }

    /// Its link.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Nothing of ours is left to send or to be answered.
    pub fn has_said_everything(&self) -> bool {
        let sent = self.message.is_none() && self.payload_left == 0 && self.wire.backlog() == 0;
        sent && self.wire.is_answered()
    }

    /// When it goes on by itself.
    pub fn wakes_at(&self) -> Option<Time> {
        (self.mood != Mood::Gone && self.mood != Mood::Vanished).then_some(self.paused_until)
    }

    /// Notes what the network did to the stream, before anyone can see its consequences.
    pub fn notice(&mut self, scene: &mut Scene<'_>) {
        if scene.network.broken_by_fault(self.wire.stream) {
            scene.excuse(&self.link, Excuse::Broken);
        }
    }

    /// One step. Returns whether anything moved.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.mood == Mood::Vanished && scene.network.is_abandoned(self.wire.stream) {
            // The relay found out, and in time.
            let took = scene.at().since(self.last_seen);
            assert!(
                took < FOUND_OUT || !scene.strict || scene.paced,
                "{:?} gone for {took:?} without notice",
                self.wire.stream
            );
            self.go(scene, false);
        }
        if matches!(self.mood, Mood::Gone | Mood::Vanished) {
            return false;
        }
        let mut moved = false;
        if scene.at() >= self.paused_until {
            let most = if scene.dice.chance(scene.manners.sip) { scene.dice.size(500) } else { usize::MAX };
            for incoming in self.wire.receive(scene.network, most, scene.dice) {
                moved = true;
                self.take(incoming, scene);
            }
        }
        if self.mood == Mood::Talking {
            moved |= self.talk(scene);
            self.wander(scene);
        }
        if !matches!(self.mood, Mood::Gone | Mood::Vanished) {
            moved |= self.wire.flush(scene.network, scene.dice);
        }
        moved
    }

    /// What the relay sent, whether read by this end or left over from before it was one.
    pub fn take(&mut self, incoming: Incoming, scene: &mut Scene<'_>) {
        match incoming {
            Incoming::Data { text, payload, last } => {
                let link = scene.truth.link(&self.link);
                link.directions[1 - self.side].arrive(text, &payload, last);
            }
            Incoming::Close(code) => {
                self.check_close(code, scene);
                if self.mood == Mood::Talking {
                    self.wire.send_close(code.unwrap_or(1000), scene.dice);
                }
                self.mood = Mood::Dismissed;
            }
            Incoming::Ended | Incoming::Reset => {
                if self.mood == Mood::Talking {
                    let excuse = scene.truth.link(&self.link).excuse;
                    let explained = excuse == Some(Excuse::Broken) || self.at_fault;
                    assert!(explained, "{incoming:?} without a close frame on link {}", self.link);
                }
                self.go(scene, false);
            }
            Incoming::Upgraded | Incoming::Refused(_) => panic!("{incoming:?} on a relayed link"),
        }
    }

    /// Whether the relay may close this end with that code now.
    fn check_close(&self, code: Option<u16>, scene: &mut Scene<'_>) {
        let quiet = scene.at().since(self.last_written);
        let link = scene.truth.link(&self.link);
        let theirs = &link.directions[1 - self.side];
        let explained = match code {
            Some(1001) => scene.stopping,
            Some(1000) => self.mood == Mood::Leaving,
            Some(4003) => {
                if link.excuse == Some(Excuse::Closed) && theirs.sealed {
                    assert!(theirs.is_even(), "{} bytes lost before 4003", theirs.written - theirs.arrived);
                }
                link.excuse.is_some()
            }
            Some(4004) => quiet >= scene.idle,
            Some(4006) => link.excuse == Some(Excuse::Broken),
            Some(1002 | 1007 | 1009) => self.at_fault,
            _ => false,
        };
        assert!(explained, "close {code:?} on link {} is not explained ({:?})", self.link, link.excuse);
    }

    /// Writes frames while there is room. Returns whether it wrote.
    fn talk(&mut self, scene: &mut Scene<'_>) -> bool {
        let mut wrote = false;
        while self.wire.backlog() < scene.manners.backlog_bytes.max(1) {
            if self.message.is_none() {
                if self.payload_left == 0 {
                    break;
                }
                let most = scene.manners.message_bytes_max.min(self.payload_left);
                let large = scene.dice.chance(scene.manners.large);
                // Empty messages are messages.
                let len = if large { most } else { scene.dice.size(most) } - 1;
                self.payload_left -= (len + 1).min(self.payload_left);
                let text = scene.dice.chance(500_000);
                scene.truth.link(&self.link).directions[self.side].begin(text, len as u64);
                self.message = Some(Message { text, left: len, begun: false });
            }
            self.send_fragment(scene);
            wrote = true;
        }
        if wrote {
            self.last_written = scene.at();
        }
        wrote
    }

    fn send_fragment(&mut self, scene: &mut Scene<'_>) {
        let message = self.message.as_mut().expect("the caller began one");
        let fragmented = scene.dice.chance(scene.manners.fragment);
        let count = if fragmented { scene.dice.below(message.left + 1) } else { message.left };
        let last = !fragmented;
        let opcode = match (message.begun, message.text) {
            (true, _) => 0,
            (false, true) => TEXT,
            (false, false) => BINARY,
        };
        message.begun = true;
        message.left -= count;
        if last {
            self.message = None;
        }
        let payload = scene.truth.link(&self.link).directions[self.side].write(count);
        self.wire.send_frame(opcode, last, &payload, scene.dice);
    }

    /// What peers do besides talking.
    fn wander(&mut self, scene: &mut Scene<'_>) {
        let manners = scene.manners;
        if self.wire.backlog() <= manners.backlog_bytes && scene.dice.chance(manners.ping) {
            self.wire.send_ping(scene.dice);
        }
        if scene.dice.chance(manners.pause) {
            self.paused_until = scene.at() + Duration::from_millis(scene.dice.size(60_000) as u64);
            if self.paused_until.since(scene.at()) > PATIENCE {
                scene.excuse(&self.link, Excuse::Broken);
            }
        }
        if scene.dice.chance(manners.close) {
            self.leave(scene);
        } else if scene.dice.chance(manners.end) {
            self.seal(scene);
            self.wire.shut_down(scene.network);
            self.mood = Mood::Leaving;
        } else if scene.dice.chance(manners.reset) {
            scene.excuse(&self.link, Excuse::Broken);
            self.go(scene, true);
        } else if scene.dice.chance(manners.vanish) {
            scene.excuse(&self.link, Excuse::Broken);
            self.last_seen = scene.at();
            self.mood = Mood::Vanished;
        } else if scene.dice.chance(manners.misbehave) {
            self.misbehave(scene);
        }
    }

    /// Leaves with a close frame.
    pub fn leave(&mut self, scene: &mut Scene<'_>) {
        if self.mood == Mood::Talking {
            self.seal(scene);
            self.wire.send_close(1000, scene.dice);
            self.mood = Mood::Leaving;
        }
    }

    /// Ends a pause. Who has vanished stays so: the relay has to find out by itself.
    pub fn wake_up(&mut self) {
        self.paused_until = Time(0);
    }

    fn seal(&mut self, scene: &mut Scene<'_>) {
        let link = scene.truth.link(&self.link);
        link.excuse(Excuse::Closed);
        link.directions[self.side].sealed = true;
    }

    fn misbehave(&mut self, scene: &mut Scene<'_>) {
        self.at_fault = true;
        scene.excuse(&self.link, Excuse::Broken);
        let wrongs: [&[u8]; 5] = [
            // Unmasked; a reserved bit; an unknown opcode; a ping too long; a length that is not minimal.
            &[0x82, 0x01, 0x00],
            &[0xc2, 0x80, 1, 2, 3, 4],
            &[0x83, 0x80, 1, 2, 3, 4],
            &[0x89, 0xfe, 0, 126, 1, 2, 3, 4],
            &[0x82, 0xfe, 0, 1, 1, 2, 3, 4, 5],
        ];
        self.wire.send_raw(wrongs[scene.dice.below(wrongs.len())]);
        // What would follow is not looked at.
        self.payload_left = 0;
        self.message = None;
    }

    fn go(&mut self, scene: &mut Scene<'_>, reset: bool) {
        scene.network.peer_close(self.wire.stream, reset);
        scene.truth.link(&self.link).open_ends -= 1;
        self.mood = Mood::Gone;
    }
}

/// A missed pong takes two intervals, a shut window that keeps the ping waiting the time of a slow peer, a pause of
/// ours before it some more.
const FOUND_OUT: Duration = Duration::from_secs(140);
/// A pause that no deadline of the relay minds: shorter than a ping's.
const PATIENCE: Duration = Duration::from_secs(10);
