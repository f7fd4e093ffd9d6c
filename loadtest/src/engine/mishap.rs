//! What is made to happen to links in a soak, when, and what a relay has to make of it.

use rand_chacha::{ChaCha8Rng, rand_core::Rng};

use super::wire::Refusal;
use crate::dialect::Dialect;

/// Something that happens to a link. The end that it happens to is the client's (the source's), or the host's (the
/// target's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// An end's connection is reset (`SO_LINGER` of 0), in whatever state it is.
    Reset { of_host: bool },
    /// An end's connection is closed without a word.
    End { of_host: bool },
    /// An end sends a frame that RFC 6455 forbids.
    BadFrame { of_host: bool },
    /// An end does not read for a while, and then goes on.
    Stall { of_host: bool },
    /// An end neither reads nor answers any more, as if its machine had vanished.
    Vanish { of_host: bool },
    /// The host does not dial back.
    NoDialBack,
}

impl Mishap {
    /// Draws one for a link of this dialect, and when it happens, in nanoseconds from the session's begin on: within
    /// the handshakes as often as long after them.
    pub fn draw(random: &mut ChaCha8Rng, dialect: Dialect) -> (Mishap, u64) {
        let of_host = random.next_u32() & 1 == 1;
        let mishap = match (random.next_u32() % 200, dialect) {
            (0..60, _) => Mishap::Reset { of_host },
            (60..100, _) => Mishap::End { of_host },
            (100..140, _) => Mishap::BadFrame { of_host },
            (140..141, _) => Mishap::Vanish { of_host },
            (141..160, Dialect::Link) => Mishap::NoDialBack,
            _ => Mishap::Stall { of_host },
        };
        let after = match mishap {
            Mishap::NoDialBack => between(random, NOT_DIALLED_BACK),
            _ => log_between(random, AFTER),
        };
        (mishap, after)
    }

    /// What it is counted as.
    pub fn name(self) -> &'static str {
        match self {
            Mishap::Reset { of_host: false } => "client reset",
            Mishap::Reset { of_host: true } => "host reset",
            Mishap::End { of_host: false } => "client ended without a close",
            Mishap::End { of_host: true } => "host ended without a close",
            Mishap::BadFrame { of_host: false } => "bad frame of a client",
            Mishap::BadFrame { of_host: true } => "bad frame of a host",
            Mishap::Stall { of_host: false } => "client stopped reading for a while",
            Mishap::Stall { of_host: true } => "host stopped reading for a while",
            Mishap::Vanish { of_host: false } => "client vanished",
            Mishap::Vanish { of_host: true } => "host vanished",
            Mishap::NoDialBack => "host did not dial back",
        }
    }

    /// Whether the host's end is the one it happens to.
    pub fn is_of_host(self) -> bool {
        match self {
            Mishap::Reset { of_host }
            | Mishap::End { of_host }
            | Mishap::BadFrame { of_host }
            | Mishap::Stall { of_host }
            | Mishap::Vanish { of_host } => of_host,
            Mishap::NoDialBack => true,
        }
    }

    /// How long the relay may take until it has closed what is left of the link, in nanoseconds. A peer that vanished
    /// is found out by its second ping, or by what it does not take.
    pub fn patience(self, otherwise: u64) -> u64 {
        match self {
            Mishap::Vanish { .. } => VANISHED_PATIENCE,
            _ => otherwise,
        }
    }

    /// Whether an end of the link may be told this, or end like this without having been told: `is_actor` is the one it
    /// happened to, `was_up` says that payload could flow.
    pub fn allows(self, is_actor: bool, was_up: bool, told: &Refusal) -> bool {
        let code = if let Refusal::Closed(code, _) = told { *code } else { None };
        match (self, is_actor) {
            (Mishap::Vanish { .. }, true) => true,
            (Mishap::BadFrame { .. }, true) => code == Some(PROTOCOL_ERROR),
            (Mishap::Vanish { .. }, false) if code == Some(SLOW_PEER) => true,
            // The relay had given the link up before this end had its answer.
            _ if matches!(told, Refusal::Error(error) if error == "unknown_link") => !was_up,
            _ => code == Some(PEER_GONE) || *told == Refusal::PeerGone,
        }
    }
}

/// A number between two.
pub fn between(random: &mut ChaCha8Rng, (least, most): (u64, u64)) -> u64 {
    least + random.next_u64() % (most - least)
}

/// A number between two, each order of magnitude as likely as any other.
fn log_between(random: &mut ChaCha8Rng, (least, most): (u64, u64)) -> u64 {
    let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
    (least as f64 * (most as f64 / least as f64).powf(share)) as u64
}

const PROTOCOL_ERROR: u16 = 1002;
const PEER_GONE: u16 = 4003;
const SLOW_PEER: u16 = 4006;
/// From within the first handshake to long after the last.
const AFTER: (u64, u64) = (100_000, 20_000_000_000);
const NOT_DIALLED_BACK: (u64, u64) = (50_000_000, 3_000_000_000);
/// Shorter than any relay waits for a slow peer.
pub const STALL: (u64, u64) = (50_000_000, 5_000_000_000);
/// Two pings of 30 s each, the time until the first, and reserve.
const VANISHED_PATIENCE: u64 = 150_000_000_000;

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn every_mishap_is_drawn_and_meets_every_state() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<_> = (0..20_000).map(|_| Mishap::draw(&mut random, Dialect::Link)).collect();
        let names: std::collections::BTreeSet<_> = drawn.iter().map(|(mishap, _)| mishap.name()).collect();
        assert_eq!(names.len(), 11, "{names:?}");
        let within = |least, most| drawn.iter().filter(|(_, after)| (least..most).contains(after)).count();
        for power in 5..10 {
            let (least, most) = (10_u64.pow(power), 10_u64.pow(power + 1));
            assert!(within(least, most) > 2000, "from {least} to {most} ns: {}", within(least, most));
        }
        let paired = (0..20_000).map(|_| Mishap::draw(&mut random, Dialect::Pair).0);
        assert!(paired.into_iter().all(|mishap| mishap != Mishap::NoDialBack), "nobody dials back there");
    }

    #[test]
    fn only_what_follows_from_it_is_excused() {
        let closed = |code| Refusal::Closed(Some(code), String::new());
        let reset = Mishap::Reset { of_host: false };
        assert!(reset.allows(false, true, &closed(4003)) && reset.allows(false, true, &Refusal::PeerGone));
        let unknown = Refusal::Error("unknown_link".to_owned());
        assert!(reset.allows(false, false, &unknown) && !reset.allows(false, true, &unknown));
        for other in [closed(1011), closed(4006), closed(1002), Refusal::Ended, Refusal::TimedOut] {
            assert!(!reset.allows(false, true, &other), "{other:?}");
        }
        let bad = Mishap::BadFrame { of_host: true };
        assert!(bad.allows(true, true, &closed(1002)) && !bad.allows(true, true, &closed(4003)));
        assert!(bad.allows(false, true, &closed(4003)) && !bad.allows(false, true, &closed(1002)));
        let vanished = Mishap::Vanish { of_host: true };
        assert!(vanished.allows(false, true, &closed(4006)) && vanished.allows(true, true, &Refusal::Ended));
        assert!(!vanished.allows(false, true, &Refusal::Ended));
    }
}
