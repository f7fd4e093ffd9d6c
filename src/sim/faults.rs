//! What may go wrong in a run, and how often.
//!
//! Each seed enables its own subset of the faults at its own rates: a run with everything at once hides what
//! a run with one fault shows. Rates are in millionths, drawn once per run; [`Faults::calm`] turns everything
//! off for the end of a run, where whatever is still open has to move again.

use super::dice::Dice;

/// The rates of the faults of a run, in millionths per occasion.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A receive takes a part of what is there, down to one byte.
    pub short_receive: u32,
    /// A receive is spread over more buffers than it needs.
    pub split_receive: u32,
    /// A receive takes place some turns later than it could.
    pub late_receive: u32,
    /// The kernel takes a part of a send, down to nothing.
    pub partial_send: u32,
    /// The completion of a send comes some turns later, and with it the buffers that were sent.
    pub late_sent: u32,
    /// `Read::Off` takes some turns, and bytes may arrive meanwhile.
    pub late_stop: u32,
    /// The network resets a connection; per connection and step.
    pub reset: u32,
    /// A window stays shut for a while; per connection and step.
    pub stall: u32,
    /// The other shard's post is full.
    pub post_full: u32,
    /// The other shard's descriptor table is full when a posted connection arrives.
    pub post_lost: u32,
    /// A posted connection or a wake-up takes its time.
    pub late_post: u32,
    /// Accepting fails for want of descriptors.
    pub accept_failure: u32,
    /// The monotonic clock jumps forward by up to a minute; per step.
    pub clock_jump: u32,
    /// The wall clock jumps by up to an hour, either way; per step.
    pub wall_jump: u32,
    /// A turn is taken although nothing happened.
    pub idle_turn: u32,
    /// A shard that has work sits a step out.
    pub slow_shard: u32,
}

/// What does not change during a run: the shape of the drivers and of the network.
#[derive(Clone, Debug)]
pub struct Terrain {
    /// Whether sends are written when they are asked for and receives taken when they are delivered, as
    /// readiness drivers do, or both at the next wait, as completion drivers do.
    pub eager: bool,
    /// Receive buffers of a shard.
    pub buffers: usize,
    /// Bytes of a receive buffer.
    pub buffer_bytes: usize,
    /// Pipes of a shard; zero never splices.
    pub pipes: usize,
    /// Bytes that a connection's network holds in one direction.
    pub window: usize,
}

impl Faults {
    /// The faults of a run.
    pub fn draw(dice: &mut Dice) -> Faults {
        // Half of the faults are off in any run. Those that can end a connection by themselves are off more
        // often: without them every close has to be explained.
        let rate =
            |most: usize, dice: &mut Dice| if dice.chance(500_000) { 0 } else { dice.size(most) as u32 };
        let rare =
            |most: usize, dice: &mut Dice| if dice.chance(800_000) { 0 } else { dice.size(most) as u32 };
        Faults {
            short_receive: rate(900_000, dice),
            split_receive: rate(900_000, dice),
            late_receive: rate(500_000, dice),
            partial_send: rate(900_000, dice),
            late_sent: rate(900_000, dice),
            late_stop: rate(900_000, dice),
            reset: rare(300, dice),
            stall: rare(10_000, dice),
            post_full: rate(300_000, dice),
            post_lost: rate(200_000, dice),
            late_post: rate(900_000, dice),
            accept_failure: rate(300_000, dice),
            clock_jump: rare(2_000, dice),
            wall_jump: rate(5_000, dice),
            idle_turn: rate(100_000, dice),
            slow_shard: rate(500_000, dice),
        }
    }

    /// Nothing goes wrong any more.
    pub fn calm() -> Faults {
        Faults::default()
    }

    /// Whether the run can end a connection without a peer's doing.
    pub fn break_connections(&self) -> bool {
        self.reset > 0 || self.clock_jump > 0
    }
}

impl Terrain {
    /// The terrain of a run.
    pub fn draw(dice: &mut Dice) -> Terrain {
        let eager = dice.chance(400_000);
        Terrain {
            eager,
            // A readiness driver has one buffer, used for every read.
            buffers: if eager { 1 } else { dice.between(2, 32) },
            buffer_bytes: dice.between(64, 512) << dice.below(6),
            pipes: if dice.chance(750_000) { dice.between(1, 4) } else { 0 },
            window: dice.between(256, 2048) << dice.below(7),
        }
    }
}
