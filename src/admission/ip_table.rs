//! What each IP did in its current minute.
//!
//! Holds one counter per IPv4 address and per IPv6 /64, each with a window of one minute that starts with its
//! first charge. Promises that an IP is granted at most `per_minute` charges a window while its window is
//! remembered, and that at most [`IP_TABLE_ENTRIES_MAX`] windows are; past that the oldest is forgotten (its
//! IP starts anew) and counted. Charging is O(1).

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    time::Duration,
};

use crate::{limits::IP_TABLE_ENTRIES_MAX, time::Time};

/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(60);
/// Old windows dropped with each charge: more than one, so that they go faster than they come.
const DROPS_PER_CHARGE: usize = 4;

/// Who is counted as one: an IPv4 address, or an IPv6 /64 (one subscriber holds at least that much).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IpKey {
    /// The whole address; an IPv4-mapped IPv6 address is one of these.
    V4([u8; 4]),
    /// The first 64 bits.
    V6([u8; 8]),
}

impl From<IpAddr> for IpKey {
    fn from(ip: IpAddr) -> IpKey {
        match ip.to_canonical() {
            IpAddr::V4(ip) => IpKey::V4(ip.octets()),
            IpAddr::V6(ip) => IpKey::V6(*ip.octets().first_chunk().expect("an IPv6 address has 16 octets")),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    start: Time,
    count: u32,
}

/// The table. Invariant: every key of `windows` has an entry in `order` with its window's start, so
/// `windows.len() <= order.len() <= entries_max`.
#[derive(Debug)]
pub struct IpTable {
    per_minute: u32,
    entries_max: usize,
    windows: HashMap<IpKey, Window>,
    /// Windows in the order of their beginning; also ones that their IP has begun anew since.
    order: VecDeque<(Time, IpKey)>,
    evicted: u64,
}

impl IpTable {
    /// An empty table; `per_minute` 0 grants everything and remembers nothing.
    pub fn new(per_minute: u32) -> IpTable {
        IpTable::with_bound(per_minute, IP_TABLE_ENTRIES_MAX)
    }

    pub(super) fn with_bound(per_minute: u32, entries_max: usize) -> IpTable {
        IpTable { per_minute, entries_max, windows: HashMap::new(), order: VecDeque::new(), evicted: 0 }
    }

    /// Charges one; `false` is over the budget (and charges nothing).
    pub fn charge(&mut self, ip: IpAddr, now: Time) -> bool {
        if self.per_minute == 0 {
            return true;
        }
        self.drop_old(now);
        let key = IpKey::from(ip);
        match self.windows.entry(key) {
            Entry::Occupied(mut entry) if now.since(entry.get().start) < WINDOW => {
                let window = entry.get_mut();
                let granted = window.count < self.per_minute;
                window.count += u32::from(granted);
                return granted;
            }
            Entry::Occupied(mut entry) => *entry.get_mut() = Window { start: now, count: 1 },
            Entry::Vacant(entry) => {
                entry.insert(Window { start: now, count: 1 });
            }
        }
        self.order.push_back((now, key));
        if self.order.len() > self.entries_max {
            let live = self.forget_oldest(now);
            self.evicted += u64::from(live);
        }
        true
    }

    /// Windows that were forgotten before their minute was over: above zero, the budget is not exact.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn drop_old(&mut self, now: Time) {
        for _ in 0..DROPS_PER_CHARGE {
            match self.order.front() {
                Some((start, _)) if now.since(*start) >= WINDOW => self.forget_oldest(now),
                _ => return,
            };
        }
    }

    /// Drops the oldest entry of `order`, and its window unless its IP has begun a new one; returns whether
    /// that window was still running.
    fn forget_oldest(&mut self, now: Time) -> bool {
        let Some((start, key)) = self.order.pop_front() else { return false };
        match self.windows.entry(key) {
            Entry::Occupied(entry) if entry.get().start == start => {
                entry.remove();
                now.since(start) < WINDOW
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("tests write addresses")
    }

    fn numbered(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn invariants(table: &IpTable) {
        assert!(table.windows.len() <= table.order.len() && table.order.len() <= table.entries_max);
        for (key, window) in &table.windows {
            assert!(table.order.contains(&(window.start, *key)));
        }
    }

    #[test]
    fn a_window_grants_its_number_and_the_next_one_again() {
        let mut table = IpTable::new(2);
        let start = Time(7);
        let charge = |table: &mut IpTable, after_ms: u64| {
            table.charge(ip("192.0.2.1"), start + Duration::from_millis(after_ms))
        };
        let granted: Vec<bool> =
            [0, 1, 2, 59_999, 60_000, 60_001, 119_999, 120_000].map(|ms| charge(&mut table, ms)).into();
        assert_eq!(granted, [true, true, false, false, true, true, false, true]);
    }

    #[test]
    fn addresses_count_apart_and_networks_of_ipv6_together() {
        let mut table = IpTable::new(1);
        for (address, granted) in [
            ("192.0.2.1", true),
            ("192.0.2.2", true),
            ("::ffff:192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db8::ffff:ffff:ffff:ffff", false),
            ("2001:db8:0:1::1", true),
        ] {
            assert_eq!(table.charge(ip(address), Time(0)), granted, "{address}");
        }
    }

    #[test]
    fn a_budget_of_zero_is_none() {
        let mut table = IpTable::new(0);
        assert!((0..1000).all(|_| table.charge(ip("192.0.2.1"), Time(0))));
        assert_eq!(table.windows.len(), 0);
    }

    #[test]
    fn at_the_bound_the_oldest_window_is_forgotten_and_counted() {
        let mut table = IpTable::with_bound(1, 3);
        for number in 0..4 {
            assert!(table.charge(numbered(number), Time(u64::from(number))));
            invariants(&table);
        }
        assert_eq!((table.windows.len(), table.evicted()), (3, 1));
        // The forgotten one starts anew, the youngest is still remembered.
        assert!(table.charge(numbered(0), Time(5)));
        assert!(!table.charge(numbered(3), Time(6)));
    }

    #[test]
    fn old_windows_go_as_new_ones_come() {
        let mut table = IpTable::with_bound(1, 1000);
        for number in 0..900 {
            table.charge(numbered(number), Time(0));
        }
        let later = Time(0) + WINDOW;
        for number in 0..300 {
            // Among them ones that are remembered from before, and new ones.
            assert!(table.charge(numbered(number * 7), later));
            invariants(&table);
        }
        assert_eq!((table.windows.len(), table.order.len(), table.evicted()), (300, 300, 0));
    }
}
