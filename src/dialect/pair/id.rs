//! Session ids: what the source shows in its QR code, and what the target has to name.
//!
//! 16 bytes, base64url without padding on the wire: 96 random bits, 16 for the relay's number, 10 for the
//! shard's, and 6 random ones. So the shard that holds a session is read from its id, and an id cannot be
//! guessed.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand_chacha::rand_core::Rng;

use crate::limits::SHARDS_MAX;

/// A pairing session's name on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

/// Bits of the last two bytes that the shard's number takes.
const SHARD_SHIFT: u32 = 6;

// The contract asks for 16 random bytes; what routing takes of them leaves 102 bits.
const _: () = assert!(SHARDS_MAX == 1 << (u16::BITS - SHARD_SHIFT));

/// Characters of the text form.
const TEXT_LEN: usize = 22;

impl SessionId {
    /// A new id for a session that lives on `shard` of `relay`.
    pub fn make(random: &mut impl Rng, relay: u16, shard: u16) -> SessionId {
        debug_assert!(usize::from(shard) < SHARDS_MAX);
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        let spare = u16::from_be_bytes([bytes[14], bytes[15]]) & ((1 << SHARD_SHIFT) - 1);
        bytes[12..14].copy_from_slice(&relay.to_be_bytes());
        bytes[14..].copy_from_slice(&(shard << SHARD_SHIFT | spare).to_be_bytes());
        SessionId(bytes)
    }

    /// Reads the text form exactly as we write it: any other spelling is no session of ours.
    pub fn parse(text: &[u8]) -> Option<SessionId> {
        let mut bytes = [0; 16];
        let whole = text.len() == TEXT_LEN && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(16);
        whole.then_some(SessionId(bytes))
    }

    /// The number of the relay that made it: a claim, until compared with numbers that are known.
    pub fn relay(self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }

    /// The number of the shard that holds it: a claim as well, never an index before it is compared.
    pub fn shard(self) -> u16 {
        u16::from_be_bytes([self.0[14], self.0[15]]) >> SHARD_SHIFT
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_LEN];
        URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).expect("16 bytes are 22 characters");
        f.write_str(std::str::from_utf8(&text).expect("base64url is ASCII"))
    }
}

/// Whoever knows an id can join: only its first characters are for logs and traces.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string()[..6])
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

    use super::*;

    #[test]
    fn an_id_carries_its_relay_and_shard_through_its_text() {
        let mut random = ChaCha12Rng::seed_from_u64(1);
        for (relay, shard) in [(0, 0), (0, 3), (65_535, 1023), (258, 513)] {
            let id = SessionId::make(&mut random, relay, shard);
            let text = id.to_string();
            assert_eq!(text.len(), 22);
            assert_eq!(SessionId::parse(text.as_bytes()), Some(id));
            assert_eq!((id.relay(), id.shard()), (relay, shard));
        }
    }

    #[test]
    fn only_the_exact_text_is_an_id() {
        let text = SessionId::make(&mut ChaCha12Rng::seed_from_u64(2), 0, 0).to_string();
        let cut = &text[..21];
        for other in
            ["", cut, &format!("{text}="), &format!("{cut}*"), &format!("{cut}+"), &format!("{text}A")]
        {
            assert_eq!(SessionId::parse(other.as_bytes()), None, "{other}");
        }
        // The last character carries two bits; others of the same two bits are another spelling.
        let spellings = (b'A'..=b'Z').filter(|last| {
            let spelled = [cut.as_bytes(), &[*last]].concat();
            SessionId::parse(&spelled).is_some()
        });
        assert!(spellings.count() <= 2);
    }

    #[test]
    fn ids_do_not_repeat_their_random_bits() {
        let mut random = ChaCha12Rng::seed_from_u64(3);
        let ids: std::collections::HashSet<_> =
            (0..1000).map(|_| SessionId::make(&mut random, 1, 2).0).collect();
        assert_eq!(ids.len(), 1000);
        let ones: u32 = ids.iter().flat_map(|id| id[..12].iter()).map(|byte| byte.count_ones()).sum();
        assert!((46_000..50_000).contains(&ones), "{ones} of 96,000");
    }
}
