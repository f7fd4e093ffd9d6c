//! How a load is dealt out to threads: by cores, by descriptors, and by the addresses they connect from.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
};

use crate::{run::Error, scenario::Scenario, target::Target};

/// One thread's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub first_link: u32,
    pub links: u32,
    pub first_host: u32,
    pub hosts: u32,
    /// Empty leaves it to the kernel.
    pub sources: Vec<IpAddr>,
}

/// All threads' parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub parts: Vec<Part>,
    /// One descriptor table would not hold them all.
    pub needs_own_tables: bool,
}

impl Plan {
    /// Deals a scenario out, where one table holds `descriptors`.
    pub fn new(scenario: &Scenario, target: &Target, descriptors: u64) -> Result<Plan, Error> {
        let per_table = descriptors.saturating_sub(DESCRIPTORS_RESERVED);
        let links_per_table = links_that_fit(per_table, scenario);
        if links_per_table == 0 {
            return Err(Error::Machine(format!(
                "a thread may hold {descriptors} descriptors, too few for a link: raise ulimit -n"
            )));
        }
        let wanted = scenario.threads.unwrap_or_else(|| default_threads(target)).min(scenario.links);
        let needed = scenario.links.div_ceil(links_per_table);
        let threads = wanted.max(needed);
        let mut sources = Sources::new(scenario, target);
        let mut parts: Vec<Part> = Vec::new();
        for number in 0..threads {
            let links = scenario.links / threads + u32::from(number < scenario.links % threads);
            let hosts = scenario.hosts(links);
            let (first_link, first_host) = parts
                .last()
                .map_or((0, 0), |last| (last.first_link + last.links, last.first_host + last.hosts));
            parts.push(Part {
                first_link,
                links,
                first_host,
                hosts,
                sources: sources.take(2 * links + hosts),
            });
        }
        let sockets: u64 = parts.iter().map(|part| u64::from(2 * part.links + part.hosts)).sum();
        Ok(Plan { parts, needs_own_tables: sockets > per_table })
    }

    pub fn threads(&self) -> usize {
        self.parts.len()
    }

    pub fn hosts(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.hosts)).sum()
    }
}

/// The most links whose sockets, with those of their hosts, are at most `descriptors`.
fn links_that_fit(descriptors: u64, scenario: &Scenario) -> u32 {
    let mut links = (descriptors / 2).min(u64::from(u32::MAX / 4)) as u32;
    while 2 * u64::from(links) + u64::from(scenario.hosts(links)) > descriptors {
        links -= 1;
    }
    links
}

/// A relay on this machine needs cores, too.
fn default_threads(target: &Target) -> u32 {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    match target.address.ip().is_loopback() {
        true => (cores / 2).max(1),
        false => cores,
    }
}

/// Gives each thread the addresses it connects from.
struct Sources {
    given: Vec<IpAddr>,
    /// The next address of 127.0.0.0/8, where they are needed.
    loopback: Option<u32>,
    least: u32,
}

impl Sources {
    fn new(scenario: &Scenario, target: &Target) -> Sources {
        let sockets = 2 * u64::from(scenario.links) + u64::from(scenario.hosts(scenario.links));
        let is_churn = scenario.churns();
        let is_loopback = matches!(target.address.ip(), IpAddr::V4(address) if address.is_loopback());
        let needed = sockets > u64::from(CONNECTIONS_PER_SOURCE) || is_churn;
        // Sessions that come and go leave their ports unusable for a while.
        let least = if is_churn { CHURN_SOURCES } else { 1 };
        let loopback = (scenario.sources.is_empty() && is_loopback && needed).then_some(0);
        Sources { given: scenario.sources.clone(), loopback, least }
    }

    fn take(&mut self, connections: u32) -> Vec<IpAddr> {
        let Some(next) = &mut self.loopback else { return self.given.clone() };
        let count = connections.div_ceil(CONNECTIONS_PER_SOURCE).max(self.least);
        let addresses = (*next..*next + count).map(|number| {
            IpAddr::V4(Ipv4Addr::new(
                127,
                (number / 62_500) as u8,
                (number / 250 % 250) as u8,
                (number % 250 + 1) as u8,
            ))
        });
        let addresses = addresses.collect();
        *next += count;
        addresses
    }
}

/// Beside connections: standard streams, the epoll set, what the program opened before it began.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Well below half of the 28,232 ports that Linux gives by default: it looks for a free one among the even ones first,
/// and the fuller they are the longer.
const CONNECTIONS_PER_SOURCE: u32 = 10_000;
const CHURN_SOURCES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dialect::Dialect, scenario::Kind, settings::Settings};

    fn plan(links: u32, threads: u32, descriptors: u64, target: &str) -> Plan {
        let settings = Settings { links: Some(links), threads: Some(threads), ..Settings::default() };
        plan_of(Kind::Hold, settings, descriptors, target)
    }

    fn plan_of(kind: Kind, settings: Settings, descriptors: u64, target: &str) -> Plan {
        let scenario = Scenario::new(kind, None, &settings).expect("good settings");
        let target = Target::new(target, None, Dialect::Link).expect("a good URL");
        Plan::new(&scenario, &target, descriptors).expect("it fits")
    }

    #[test]
    fn a_small_load_is_left_alone() {
        let plan = plan(1000, 1, 20_000, "ws://127.0.0.1:8080");
        assert_eq!(
            plan.parts,
            [Part { first_link: 0, links: 1000, first_host: 0, hosts: 10, sources: vec![] }]
        );
        assert!(!plan.needs_own_tables);
    }

    #[test]
    fn paired_devices_have_no_hosts() {
        let settings = Settings { links: Some(5000), threads: Some(1), ..Settings::default() };
        let plan = plan_of(Kind::Pair, settings, 10_064, "ws://127.0.0.1:8080");
        assert_eq!((plan.threads(), plan.hosts(), plan.parts[0].links), (1, 0, 5000));
    }

    #[test]
    fn descriptors_make_threads_and_ports_make_addresses() {
        let plan = plan(200_000, 2, 20_000, "ws://127.0.0.1:8080");
        assert!(plan.needs_own_tables && plan.threads() >= 21, "{}", plan.threads());
        let mut seen = std::collections::BTreeSet::new();
        let mut next = (0, 0);
        for part in &plan.parts {
            assert_eq!((part.first_link, part.first_host), next);
            next = (part.first_link + part.links, part.first_host + part.hosts);
            let sockets = 2 * part.links + part.hosts;
            assert!(u64::from(sockets) + DESCRIPTORS_RESERVED <= 20_000, "{sockets}");
            assert!(sockets <= CONNECTIONS_PER_SOURCE * part.sources.len() as u32);
            assert!(part.sources.iter().all(|source| source.is_loopback() && seen.insert(*source)));
        }
        assert_eq!(next.0, 200_000);
    }

    #[test]
    fn one_table_may_hold_all_and_need_many_addresses() {
        let plan = plan(100_000, 1, 1_000_000, "ws://127.0.0.1:8080");
        assert_eq!((plan.threads(), plan.parts[0].sources.len()), (1, 21));
        assert!(!plan.needs_own_tables);
    }

    #[test]
    fn a_relay_elsewhere_is_reached_from_the_kernels_address() {
        assert!(plan(100_000, 1, 1_000_000, "ws://192.0.2.1:8080").parts[0].sources.is_empty());
    }
}
