//! Where keys live: which shard of which relay this is, and which shard an address belongs to.
//!
//! Holds two numbers and a secret. Promises that all shards with the same secret agree, and that whoever does
//! not know it cannot choose addresses that all fall on one shard. Never draws a random number itself.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Which shard of which relay this is.
#[derive(Clone, Debug)]
pub struct Place {
    /// This shard's number.
    pub shard: u16,
    /// How many shards the relay has.
    pub shards: u16,
    /// The relay's number in its cluster.
    pub relay: u16,
    /// The key of the hash that homes addresses; the same on all shards, secret.
    pub hash_key: [u8; 16],
}

impl Place {
    /// The shard whose registry holds `address`.
    pub fn home_of(&self, address: &[u8]) -> u16 {
        let hash = SipHasher13::new_with_key(&self.hash_key).hash(address);
        u16::try_from(hash % u64::from(self.shards.max(1))).expect("a remainder is below its u16 divisor")
    }

    /// Hashing for this shard's tables: keyed like the homes, so that a run with the same key repeats
    /// exactly.
    pub fn table_hasher(&self) -> TableHasher {
        TableHasher(SipHasher13::new_with_key(&self.hash_key))
    }
}

/// Builds the hashers of the tables of one shard.
#[derive(Clone, Debug)]
pub struct TableHasher(SipHasher13);

impl BuildHasher for TableHasher {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(shards: u16, key: u8) -> Place {
        Place { shard: 0, shards, relay: 0, hash_key: [key; 16] }
    }

    #[test]
    fn addresses_spread_over_all_shards_and_depend_on_the_key() {
        let mut seen = [0u32; 7];
        let mut elsewhere = 0;
        for number in 0..7000u32 {
            let address = number.to_be_bytes();
            let home = place(7, 1).home_of(&address);
            seen[usize::from(home)] += 1;
            elsewhere += u32::from(home != place(7, 2).home_of(&address));
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert!((5700..6300).contains(&elsewhere), "{elsewhere}");
    }

    #[test]
    fn a_peer_that_chooses_keys_cannot_know_where_a_table_puts_them() {
        let hash = |key| place(1, key).table_hasher().hash_one("w1");
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
        assert_ne!(hash(1), TableHasher(SipHasher13::new()).hash_one("w1"));
    }
}
