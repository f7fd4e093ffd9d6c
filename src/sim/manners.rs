//! How the peers of a run behave, and what every one of them works with.
//!
//! As with the faults, each seed draws its own mix: a run of patient peers with large messages finds other
//! things than one of peers that hang up. Rates are in millionths per step of a peer.

use super::{
    dice::Dice,
    network::Network,
    truth::{Excuse, Truth},
};
use crate::time::Time;

/// The manners of a run's peers.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Largest message of a relayed link.
    pub message_bytes_max: usize,
    /// Payload that an end of a link sends in all.
    pub payload_bytes: usize,
    /// Bytes queued on a socket above which its peer writes no more.
    pub backlog_bytes: usize,
    /// A message is of the largest kind.
    pub large: u32,
    /// A frame's mask is all zeros.
    pub zero_mask: u32,
    /// A message is sent in several frames.
    pub fragment: u32,
    /// A ping is sent.
    pub ping: u32,
    /// An end stops reading for a while.
    pub pause: u32,
    /// Bytes are received in small portions.
    pub sip: u32,
    /// An end leaves as soon as it has said everything; per end.
    pub hang_up: u32,
    /// A close frame is sent.
    pub close: u32,
    /// The stream is ended without one.
    pub end: u32,
    /// The stream is reset.
    pub reset: u32,
    /// The peer is not heard of any more; its socket stays.
    pub vanish: u32,
    /// The rules are broken.
    pub misbehave: u32,
    /// A host takes its address over on a new socket.
    pub take_over: u32,
    /// A host registers again, or asks for its usage.
    pub ask: u32,
}

impl Manners {
    /// The manners of a run.
    pub fn draw(dice: &mut Dice) -> Manners {
        let mut rate = |most: usize| if dice.chance(500_000) { 0 } else { dice.size(most) as u32 };
        let hang_up = rate(900_000);
        let (fragment, ping, pause, sip) = (rate(900_000), rate(300_000), rate(5_000), rate(900_000));
        let (close, end, reset, vanish) = (rate(3_000), rate(3_000), rate(1_000), rate(500));
        let (misbehave, take_over, ask) = (rate(500), rate(1_000), rate(20_000));
        // Few runs have frames so large that they leave by a pipe; those are made of them.
        let bulky = dice.chance(150_000);
        Manners {
            message_bytes_max: if bulky { 200_000 } else { dice.size(100_000) },
            payload_bytes: if bulky { 1_500_000 } else { dice.between(1_000, 150_000) },
            large: if bulky { 400_000 } else { 0 },
            zero_mask: if bulky { 600_000 } else { 200_000 },
            backlog_bytes: dice.size(50_000),
            fragment,
            ping,
            pause,
            sip,
            hang_up,
            close,
            end,
            reset,
            vanish,
            misbehave,
            take_over,
            ask,
        }
    }

    /// Whether messages are large enough to leave by a pipe.
    pub fn are_bulky(&self) -> bool {
        self.large > 0
    }

    /// The same peers, with little to say each, because they are many.
    pub fn of_a_crowd(self) -> Manners {
        Manners {
            message_bytes_max: self.message_bytes_max.min(10_000),
            payload_bytes: self.payload_bytes.min(20_000),
            ..self
        }
    }

    /// The same peers without any wish to leave, to be difficult, or to take their time: to say in small portions what
    /// is left to say was most of a run.
    pub fn calm(&self) -> Manners {
        Manners {
            backlog_bytes: self.backlog_bytes.max(CALM_BACKLOG_BYTES),
            sip: 0,
            ping: 0,
            pause: 0,
            hang_up: 0,
            close: 0,
            end: 0,
            reset: 0,
            vanish: 0,
            misbehave: 0,
            take_over: 0,
            ask: 0,
            ..self.clone()
        }
    }
}

/// What a peer writes ahead at least, once it is calm.
const CALM_BACKLOG_BYTES: usize = 16 * 1024;

/// What a peer works with during one step.
pub struct Scene<'a> {
    /// The network.
    pub network: &'a mut Network,
    /// What really happened.
    pub truth: &'a mut Truth,
    /// The peers' dice.
    pub dice: &'a mut Dice,
    /// How to behave.
    pub manners: &'a Manners,
    /// The addresses of all hosts.
    pub addresses: &'a [String],
    /// Nothing but the peers themselves can end a link: no resets, no stalls, no jumps of the clock.
    pub strict: bool,
    /// Links have a rate: a socket that waits for it is not read, and so not judged.
    pub paced: bool,
    /// A move between shards may fail: the relay turns a client away for it.
    pub may_overload: bool,
    /// The platform may admit a member of a workspace as someone else.
    pub claims_may_err: bool,
    /// The relay has been told to stop.
    pub stopping: bool,
    /// How long a link may be quiet.
    pub idle: std::time::Duration,
}

impl Scene<'_> {
    /// What time it is.
    pub fn at(&self) -> Time {
        self.network.now().at
    }

    /// Notes why a link may end.
    pub fn excuse(&mut self, link: &str, excuse: Excuse) {
        self.truth.link(link).excuse(excuse);
    }
}
