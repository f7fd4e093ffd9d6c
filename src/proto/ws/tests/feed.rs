//! The simulator's cutter, by seeds.

pub use crate::sim::feed::{Cut, Seen, WHOLE};
use crate::{
    proto::ws::Inbound,
    sim::{dice::Dice, feed},
};

/// Relays `input` in receives of the seed's lengths.
pub fn relay(inbound: &mut Inbound, input: &[u8], cut: Cut, seed: u64) -> Seen {
    feed::relay(inbound, input, cut, &mut Dice::new(seed))
}

/// Collects `input` in chunks of the seed's lengths.
pub fn collect(inbound: &mut Inbound, input: &[u8], cut: Cut, message_max: usize, seed: u64) -> Seen {
    feed::collect(inbound, input, cut, message_max, &mut Dice::new(seed))
}
