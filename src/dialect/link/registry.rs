//! Who holds which address, for the addresses whose home is this shard.
//!
//! Holds registrations, and for each host (the control socket behind them, on whatever shard) what depends on
//! it here: its addresses and the links that were introduced to it. Promises that forgetting a host forgets
//! all of that, and nothing of another host, and that each address has a place of the policy as long as it is
//! registered, counted for the IP of its host. Never sends anything.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};

use crate::{
    dialect::{NoPlace, Policy, place::TableHasher},
    id::Remote,
};

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
    /// There are as many addresses as there may be.
    Full(NoPlace),
}

#[derive(Debug)]
struct Registration {
    host: Remote,
    /// The host's.
    ip: IpAddr,
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

    /// Judges a claim of a host at `ip` and takes it over if it is granted; also says whom it replaced. Other
    /// verdicts change nothing.
    pub fn register(
        &mut self,
        policy: &dyn Policy,
        host: Remote,
        ip: IpAddr,
        claim: Claim,
    ) -> (Verdict, Option<Remote>) {
        let fresh = Registration { host, ip, public_key: claim.public_key, timestamp: claim.timestamp };
        let replaced = match self.registrations.entry(claim.address) {
            Entry::Vacant(entry) => {
                if let Err(full) = policy.take_address_place(ip) {
                    return (Verdict::Full(full), None);
                }
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
                if let Err(full) = policy.hand_over_address_place(held.ip, ip) {
                    return (Verdict::Full(full), None);
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
    pub fn forget(&mut self, policy: &dyn Policy, host: Remote) -> Vec<u32> {
        let Some(dependants) = self.hosts.remove(&host) else { return Vec::new() };
        for address in &dependants.addresses {
            if let Some(registration) = self.registrations.remove(address) {
                policy.leave_address_place(registration.ip);
            }
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
    use crate::{
        admission::{AllowList, PlaceBounds, SharedPolicy},
        dialect::link::Place,
        id::ConnId,
    };

    /// A registry with its policy. Promises that an empty one has given every place back.
    struct Rig {
        registry: Registry,
        policy: SharedPolicy,
    }

    impl Rig {
        fn new(bounds: PlaceBounds) -> Rig {
            let place = Place { shard: 0, shards: 1, relay: 0, hash_key: [0; 16] };
            let policy = SharedPolicy::new(0, AllowList::default()).with_addresses(bounds);
            Rig { registry: Registry::new(place.table_hasher()), policy }
        }

        fn register(&mut self, host: Remote, claim: Claim) -> (Verdict, Option<Remote>) {
            self.register_from(1, host, claim)
        }

        fn register_from(&mut self, ip: u8, host: Remote, claim: Claim) -> (Verdict, Option<Remote>) {
            let ip = IpAddr::from([192, 0, 2, ip]);
            let registered = self.registry.register(&self.policy, host, ip, claim);
            assert_eq!(self.policy.addresses(), self.registry.len(), "an address has a place");
            registered
        }

        fn forget(&mut self, host: Remote) -> Vec<u32> {
            let links = self.registry.forget(&self.policy, host);
            assert_eq!(self.policy.addresses(), self.registry.len(), "an address has a place");
            links
        }
    }

    fn host(index: u32) -> Remote {
        Remote { shard: 0, conn: ConnId { index, generation: 1 } }
    }

    fn claim(address: u8, key: u8, timestamp: i64) -> Claim {
        Claim { address: [address; 32], public_key: [key; 32], timestamp }
    }

    #[test]
    fn an_address_is_pinned_to_its_first_key() {
        let mut rig = Rig::new(PlaceBounds::default());
        assert_eq!(rig.register(host(1), claim(1, 1, 10)), (Verdict::Granted, None));
        // The pin is judged before the time stamp, and neither verdict touches the holder.
        for timestamp in [9, 10, 11] {
            assert_eq!(rig.register(host(2), claim(1, 2, timestamp)), (Verdict::Pinned, None));
        }
        assert_eq!(rig.registry.holder(&[1; 32]), Some(host(1)));
        // With the holder the pin is forgotten.
        rig.forget(host(1));
        assert_eq!(rig.register(host(2), claim(1, 2, 1)), (Verdict::Granted, None));
    }

    #[test]
    fn a_claim_must_be_strictly_newer() {
        let mut rig = Rig::new(PlaceBounds::default());
        rig.register(host(1), claim(1, 1, 10));
        assert_eq!(rig.register(host(2), claim(1, 1, 9)), (Verdict::Stale, None));
        assert_eq!(rig.register(host(2), claim(1, 1, 10)), (Verdict::Stale, None));
        assert_eq!(rig.register(host(2), claim(1, 1, 11)), (Verdict::Granted, Some(host(1))));
        assert_eq!(rig.register(host(2), claim(1, 1, 12)), (Verdict::Granted, None));
        assert_eq!(rig.register(host(1), claim(1, 1, 12)), (Verdict::Stale, None));
    }

    #[test]
    fn forgetting_a_host_takes_all_that_is_its_own_and_nothing_else() {
        let mut rig = Rig::new(PlaceBounds::default());
        rig.register(host(1), claim(1, 1, 1));
        rig.register(host(1), claim(2, 2, 1));
        rig.register(host(2), claim(3, 3, 1));
        rig.register(host(2), claim(1, 1, 2));
        let places: Vec<u32> = (10..13).map(|link| rig.registry.add_link(host(1), link)).collect();
        assert_eq!(rig.registry.remove_link(host(1), places[0]), Some(12));
        assert_eq!(rig.forget(host(1)), [12, 11]);
        assert_eq!(rig.registry.holder(&[1; 32]), Some(host(2)));
        assert_eq!(rig.registry.holder(&[2; 32]), None);
        assert_eq!(rig.registry.len(), 2);
        rig.forget(host(2));
        assert!(rig.registry.is_empty());
    }

    #[test]
    fn a_host_of_nothing_is_not_remembered() {
        let mut rig = Rig::new(PlaceBounds::default());
        rig.register(host(1), claim(1, 1, 1));
        rig.register(host(2), claim(1, 1, 2));
        let place = rig.registry.add_link(host(3), 7);
        assert_eq!(rig.registry.remove_link(host(3), place), None);
        rig.forget(host(2));
        assert!(rig.registry.is_empty());
    }

    #[test]
    fn a_full_registry_refuses_new_addresses_and_keeps_those_it_has() {
        let mut rig = Rig::new(PlaceBounds { all: Some(2), per_ip: None });
        rig.register(host(1), claim(1, 1, 1));
        rig.register(host(1), claim(2, 2, 1));
        assert_eq!(rig.register(host(2), claim(3, 3, 1)), (Verdict::Full(NoPlace::InAll), None));
        assert_eq!(rig.registry.holder(&[3; 32]), None);
        // Who comes back for an address needs no other place, whoever holds it now.
        assert_eq!(rig.register(host(1), claim(1, 1, 2)), (Verdict::Granted, None));
        assert_eq!(rig.register(host(2), claim(1, 1, 3)), (Verdict::Granted, Some(host(1))));
        rig.forget(host(1));
        assert_eq!(rig.register(host(2), claim(3, 3, 1)), (Verdict::Granted, None));
        rig.forget(host(2));
        assert!(rig.registry.is_empty());
    }

    #[test]
    fn an_address_counts_for_the_ip_of_whoever_holds_it() {
        let mut rig = Rig::new(PlaceBounds { all: None, per_ip: Some(1) });
        rig.register_from(1, host(1), claim(1, 1, 1));
        assert_eq!(rig.register_from(1, host(1), claim(2, 2, 1)), (Verdict::Full(NoPlace::OfIp), None));
        assert_eq!(rig.register_from(2, host(2), claim(2, 2, 1)), (Verdict::Granted, None));
        // The same address from an IP that has its own already, and from one that has none.
        assert_eq!(rig.register_from(2, host(3), claim(1, 1, 2)), (Verdict::Full(NoPlace::OfIp), None));
        assert_eq!(rig.registry.holder(&[1; 32]), Some(host(1)), "a refusal leaves the holder alone");
        assert_eq!(rig.register_from(3, host(3), claim(1, 1, 2)), (Verdict::Granted, Some(host(1))));
        assert_eq!(rig.register_from(1, host(4), claim(4, 4, 1)), (Verdict::Granted, None));
        for host in [host(2), host(3), host(4)] {
            rig.forget(host);
        }
        assert!(rig.registry.is_empty());
    }
}
