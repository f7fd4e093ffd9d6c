//! Link ids: what a client is given, and whoever dials back has to show.
//!
//! 128 bits in the shape of a version 4 UUID: 96 random ones, 16 for the relay's number, 10 for the shard's,
//! in the bits that a UUIDv4 leaves free. So the shard that holds a link is read from its id, and an id
//! cannot be guessed.
//!
//! ```text
//! rrrrrrrr-rrrr-4ssr-vrrr-rrrrrrrrllll
//! r random, s shard (10 bits, then 2 random), l relay, v variant (and 2 random)
//! ```

use std::fmt;

use rand_chacha::rand_core::Rng;

use crate::limits::SHARDS_MAX;

/// A link's name on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(u128);

const VERSION: u128 = 0x4 << 76;
const VERSION_MASK: u128 = 0xf << 76;
const VARIANT: u128 = 0b10 << 62;
const VARIANT_MASK: u128 = 0b11 << 62;
const SHARD_SHIFT: u32 = 66;
const SHARD_MASK: u128 = (SHARDS_MAX as u128 - 1) << SHARD_SHIFT;
const RELAY_MASK: u128 = 0xffff;
const FIXED_MASK: u128 = VERSION_MASK | VARIANT_MASK | SHARD_MASK | RELAY_MASK;

// The contract asks for at least 96 unguessable bits, and a shard number has ten.
const _: () = assert!(FIXED_MASK.count_zeros() == 96);
const _: () = assert!(SHARDS_MAX == 1 << 10);

/// Characters of the text form, and where its hyphens are.
const TEXT_LEN: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl LinkId {
    /// A new id for a link that lives on `shard` of `relay`.
    pub fn make(random: &mut impl Rng, relay: u16, shard: u16) -> LinkId {
        debug_assert!(usize::from(shard) < SHARDS_MAX);
        let random = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        LinkId(
            random & !FIXED_MASK
                | VERSION
                | VARIANT
                | (u128::from(shard) << SHARD_SHIFT) & SHARD_MASK
                | u128::from(relay),
        )
    }

    /// Reads the text form exactly as we write it: any other spelling of the number is not a key of ours.
    pub fn parse(text: &[u8]) -> Option<LinkId> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let mut bits = 0u128;
        for (position, byte) in text.iter().enumerate() {
            if HYPHENS.contains(&position) {
                if *byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            bits = bits << 4 | u128::from(digit);
        }
        (bits & VERSION_MASK == VERSION && bits & VARIANT_MASK == VARIANT).then_some(LinkId(bits))
    }

    /// The number of the relay that made it: a claim, until compared with numbers that are known.
    pub fn relay(self) -> u16 {
        (self.0 & RELAY_MASK) as u16
    }

    /// The number of the shard that holds it: a claim as well, never an index before it is compared.
    pub fn shard(self) -> u16 {
        ((self.0 & SHARD_MASK) >> SHARD_SHIFT) as u16
    }

    /// The first eight characters: enough to tell links apart in logs, useless to whoever would accept one.
    pub fn short(self) -> String {
        format!("{:08x}", self.0 >> 96)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
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
            let id = LinkId::make(&mut random, relay, shard);
            let text = id.to_string();
            assert_eq!(LinkId::parse(text.as_bytes()), Some(id));
            assert_eq!((id.relay(), id.shard()), (relay, shard));
            assert_eq!(id.short(), text[..8]);
        }
    }

    #[test]
    fn the_text_has_the_shape_of_a_version_4_uuid() {
        let mut random = ChaCha12Rng::seed_from_u64(2);
        for _ in 0..1000 {
            let text = LinkId::make(&mut random, 0xabcd, 1023).to_string();
            let groups: Vec<&str> = text.split('-').collect();
            assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(groups[2].starts_with('4') && groups[3].starts_with(['8', '9', 'a', 'b']), "{text}");
            assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{text}");
        }
    }

    #[test]
    fn every_one_of_the_96_free_bits_is_random() {
        let mut random = ChaCha12Rng::seed_from_u64(3);
        let (mut set, mut clear) = (0u128, 0u128);
        for _ in 0..200 {
            let id = LinkId::make(&mut random, 0, 0);
            set |= id.0;
            clear |= !id.0;
        }
        assert_eq!((set & clear).count_ones(), 96);
    }

    #[test]
    fn what_is_not_our_spelling_is_not_an_id() {
        let id = LinkId::make(&mut ChaCha12Rng::seed_from_u64(4), 0, 0).to_string();
        let upper = "0000000A-0000-4000-8000-00000000000A";
        let version = id.replacen("-4", "-1", 1);
        let moved = format!("{}-{}", &id[..7], &id[7..].replacen('-', "", 1));
        for text in ["", "x", upper, &version, &moved, &id[..35], &format!("{id}0"), "é".repeat(18).as_str()]
        {
            assert_eq!(LinkId::parse(text.as_bytes()), None, "{text}");
        }
        // Every single character that changes to something no id has there.
        for position in 0..TEXT_LEN {
            let mut bytes = id.clone().into_bytes();
            bytes[position] = b'g';
            assert_eq!(LinkId::parse(&bytes), None);
        }
    }
}
