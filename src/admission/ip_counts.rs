//! How many of something each IP has: connections, handshakes, addresses, sessions.
//!
//! Holds a count for every IP that has one, so it is bounded by what is counted. Touched when one begins and when it
//! ends, by any shard; never in between.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};

use parking_lot::Mutex;

use super::IpKey;

/// The counts. Invariant: no count is zero.
#[derive(Debug, Default)]
pub struct IpCounts {
    counts: Mutex<HashMap<IpKey, u32>>,
}

impl IpCounts {
    /// Counts one more for `ip`, unless it has `limit` already.
    pub fn add(&self, ip: IpAddr, limit: u32) -> bool {
        let mut counts = self.counts.lock();
        match counts.entry(IpKey::from(ip)) {
            Entry::Occupied(entry) if *entry.get() >= limit => return false,
            Entry::Vacant(_) if limit == 0 => return false,
            entry => *entry.or_insert(0) += 1,
        }
        true
    }

    /// Counts one less for `ip`, which was counted by `add`.
    pub fn remove(&self, ip: IpAddr) {
        let mut counts = self.counts.lock();
        match counts.entry(IpKey::from(ip)) {
            Entry::Occupied(entry) if *entry.get() <= 1 => {
                entry.remove();
            }
            Entry::Occupied(mut entry) => *entry.get_mut() -= 1,
            Entry::Vacant(_) => debug_assert!(false, "more ended than began"),
        }
    }

    /// IPs that have one.
    pub fn len(&self) -> usize {
        self.counts.lock().len()
    }

    /// Whether no IP has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_is_held_to_its_limit_and_forgotten_with_its_last_one() {
        let table = IpCounts::default();
        let (ip, neighbour): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert!(table.add(ip, 2) && table.add(ip, 2) && !table.add(ip, 2));
        assert!(table.add(neighbour, 2));
        assert_eq!((table.len(), table.is_empty()), (2, false));
        table.remove(ip);
        assert!(table.add(ip, 2));
        for ip in [ip, ip, neighbour] {
            table.remove(ip);
        }
        assert!(table.is_empty());
        // Who gets none leaves nothing behind.
        assert!(!table.add(ip, 0) && table.is_empty());
    }

    #[test]
    fn an_ipv6_network_of_64_bits_counts_as_one() {
        let table = IpCounts::default();
        assert!(table.add("2001:db8::1".parse().unwrap(), 1));
        assert!(!table.add("2001:db8::2".parse().unwrap(), 1));
        assert!(table.add("2001:db8:0:1::1".parse().unwrap(), 1));
    }
}
