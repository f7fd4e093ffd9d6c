//! What a link and the pump that moves its bytes both know about it.

use super::budget::{Budget, Rates};
use crate::time::Time;

/// Which end of a link a byte comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Leg {
    /// The end that resolved the address.
    Client = 0,
    /// The end that dialled back.
    Host = 1,
}

impl Leg {
    /// The opposite end.
    pub fn other(self) -> Leg {
        match self {
            Leg::Client => Leg::Host,
            Leg::Host => Leg::Client,
        }
    }
}

/// The account of one link: kept in the dialect's record of the link, charged by the pump.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    /// What may still go.
    pub budget: Budget,
    /// Payload bytes forwarded, by the leg they came from.
    pub bytes: [u64; 2],
    /// When the link last had traffic; for bytes held by pacing, when they are due.
    pub active_at: Time,
    /// The leg that was charged last: with both waiting, the other one goes first.
    pub last: Leg,
}

impl Ledger {
    /// An account without traffic.
    pub fn new(rates: &Rates, now: Time) -> Ledger {
        Ledger { budget: Budget::new(rates, now), bytes: [0; 2], active_at: now, last: Leg::Host }
    }

    /// Charges `payload` bytes that came from one leg and went to the other. Returns what [`Budget::charge`]
    /// does.
    pub fn charge(&mut self, rates: &Rates, now: Time, from: Leg, payload: u64) -> bool {
        self.bytes[from as usize] += payload;
        self.active_at = self.active_at.max(now);
        self.last = from;
        self.budget.charge(rates, payload)
    }
}
