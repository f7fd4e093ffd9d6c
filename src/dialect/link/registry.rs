//! Who holds which address, for the addresses whose home is this shard.
//!
//! Holds registrations, and for each host (the control socket behind them, on whatever shard) what depends on
//! it here: its addresses and the links that were introduced to it. Promises that forgetting a host forgets
//! all of that, and nothing of another host. Never sends anything.

use std::collections::{HashMap, hash_map::Entry};

use crate::{dialect::place::TableHasher, id::Remote};

/// An address: the SHA-256 of a public key. On the wire, base64url.
pub type Address = [u8; 32];

/// What a host claims, verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The address.
    pub address: Address,
    /// The key that the address commits to.
    pub public_key: [u8; 32],
    /// The signed time stamp, milliseconds since the Unix epoch.
    pub timestamp: i64,
}

/// What the registry says to a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The address is the claimant's.
    Granted,
    /// The address is pinned to another key.
    Pinned,
    /// Its holder has shown this time stamp or a later one.
    Stale,
}

#[derive(Debug)]
struct Registration {
    host: Remote,
    public_key: [u8; 32],
    timestamp: i64,
}

#[derive(Debug, Default)]
struct Host {
    addresses: Vec<Address>,
    links: Vec<u32>,
}

/// The table. Invariant: an address is listed by exactly the host that its registration names; no host is
/// empty.
#[derive(Debug)]
pub struct Registry {
    registrations: HashMap<Address, Registration, TableHasher>,
    hosts: HashMap<Remote, Host, TableHasher>,
}

impl Registry {
    /// Without registrations.
    pub fn new(hasher: TableHasher) -> Registry {
        Registry { registrations: HashMap::with_hasher(hasher.clone()), hosts: HashMap::with_hasher(hasher) }
    }

    /// How many addresses are registered.
    pub fn len(&self) -> usize {
        self.registrations.len()
    }

    /// The host that holds an address.
    pub fn holder(&self, address: &Address) -> Option<Remote> {
        self.registrations.get(address).map(|registration| registration.host)
    }

    /// Judges a claim and takes it over if it is granted; also says whom it replaced. Other verdicts change
    /// nothing.
    pub fn register(&mut self, host: Remote, claim: Claim) -> (Verdict, Option<Remote>) {
        let fresh = Registration { host, public_key: claim.public_key, timestamp: claim.timestamp };
        let replaced = match self.registrations.entry(claim.address) {
            Entry::Vacant(entry) => {
                entry.insert(fresh);
                None
            }
            Entry::Occupied(mut entry) => {
                let held = entry.get_mut();
                if held.public_key != claim.public_key {
                    return (Verdict::Pinned, None);
                }
                if held.timestamp >= claim.timestamp {
                    return (Verdict::Stale, None);
                }
                let before = std::mem::replace(held, fresh).host;
                if before == host {
                    return (Verdict::Granted, None);
                }
                Some(before)
            }
        };
        self.hosts.entry(host).or_default().addresses.push(claim.address);
        if let Some(before) = replaced {
            let dependants = self.hosts.get_mut(&before).expect("a registration's host lists it");
            dependants.addresses.retain(|address| *address != claim.address);
            self.drop_if_empty(before);
        }
        (Verdict::Granted, replaced)
    }

    /// Notes that the link in slot `link` depends on `host`; returns its place in the host's list.
    pub(super) fn add_link(&mut self, host: Remote, link: u32) -> u32 {
        let links = &mut self.hosts.entry(host).or_default().links;
        links.push(link);
        u32::try_from(links.len() - 1).expect("a shard has fewer links than slots")
    }

    /// Takes the link at `place` off a host's list; returns the slot of the link that has this place now.
    pub(super) fn remove_link(&mut self, host: Remote, place: u32) -> Option<u32> {
        let links = &mut self.hosts.get_mut(&host)?.links;
        links.swap_remove(place as usize);
        let moved = links.get(place as usize).copied();
        self.drop_if_empty(host);
        moved
    }

    /// The slots of a host's links, in no particular order.
    pub(super) fn links_of(&self, host: Remote) -> &[u32] {
        self.hosts.get(&host).map_or(&[], |host| &host.links)
    }

    /// Forgets a host with all its addresses; returns the slots of its links, which are the caller's to end.
    pub fn forget(&mut self, host: Remote) -> Vec<u32> {
        let Some(dependants) = self.hosts.remove(&host) else { return Vec::new() };
        for address in &dependants.addresses {
            self.registrations.remove(address);
        }
        dependants.links
    }

    fn drop_if_empty(&mut self, host: Remote) {
        if self.hosts.get(&host).is_some_and(|host| host.addresses.is_empty() && host.links.is_empty()) {
            self.hosts.remove(&host);
        }
    }

    /// Whether nobody is registered and nothing depends on anybody.
    pub fn is_empty(&self) -> bool {
        self.registrations.is_empty() && self.hosts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dialect::link::Place, id::ConnId};

    fn registry() -> Registry {
        Registry::new(Place { shard: 0, shards: 1, relay: 0, hash_key: [0; 16] }.table_hasher())
    }

    fn host(index: u32) -> Remote {
        Remote { shard: 0, conn: ConnId { index, generation: 1 } }
    }

    fn claim(address: u8, key: u8, timestamp: i64) -> Claim {
        Claim { address: [address; 32], public_key: [key; 32], timestamp }
    }

    #[test]
    fn an_address_is_pinned_to_its_first_key() {
        let mut registry = registry();
        assert_eq!(registry.register(host(1), claim(1, 1, 10)), (Verdict::Granted, None));
        // The pin is judged before the time stamp, and neither verdict touches the holder.
        for timestamp in [9, 10, 11] {
            assert_eq!(registry.register(host(2), claim(1, 2, timestamp)), (Verdict::Pinned, None));
        }
        assert_eq!(registry.holder(&[1; 32]), Some(host(1)));
        // With the holder the pin is forgotten.
        registry.forget(host(1));
        assert_eq!(registry.register(host(2), claim(1, 2, 1)), (Verdict::Granted, None));
    }

    #[test]
    fn a_claim_must_be_strictly_newer() {
        let mut registry = registry();
        registry.register(host(1), claim(1, 1, 10));
        assert_eq!(registry.register(host(2), claim(1, 1, 9)), (Verdict::Stale, None));
        assert_eq!(registry.register(host(2), claim(1, 1, 10)), (Verdict::Stale, None));
        assert_eq!(registry.register(host(2), claim(1, 1, 11)), (Verdict::Granted, Some(host(1))));
        assert_eq!(registry.register(host(2), claim(1, 1, 12)), (Verdict::Granted, None));
        assert_eq!(registry.register(host(1), claim(1, 1, 12)), (Verdict::Stale, None));
    }

    #[test]
    fn forgetting_a_host_takes_all_that_is_its_own_and_nothing_else() {
        let mut registry = registry();
        registry.register(host(1), claim(1, 1, 1));
        registry.register(host(1), claim(2, 2, 1));
        registry.register(host(2), claim(3, 3, 1));
        registry.register(host(2), claim(1, 1, 2));
        let places: Vec<u32> = (10..13).map(|link| registry.add_link(host(1), link)).collect();
        assert_eq!(registry.remove_link(host(1), places[0]), Some(12));
        assert_eq!(registry.forget(host(1)), [12, 11]);
        assert_eq!(registry.holder(&[1; 32]), Some(host(2)));
        assert_eq!(registry.holder(&[2; 32]), None);
        assert_eq!(registry.len(), 2);
        registry.forget(host(2));
        assert!(registry.is_empty());
    }

    #[test]
    fn a_host_of_nothing_is_not_remembered() {
        let mut registry = registry();
        registry.register(host(1), claim(1, 1, 1));
        registry.register(host(2), claim(1, 1, 2));
        let place = registry.add_link(host(3), 7);
        assert_eq!(registry.remove_link(host(3), place), None);
        registry.forget(host(2));
        assert!(registry.is_empty());
    }
}
