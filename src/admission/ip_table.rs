//! What each IP did in its current minute.
//!
//! Holds one counter per IPv4 address and per IPv6 /64, each with a window of one minute that starts with its first
//! charge. Promises that an IP is granted at most `per_minute` charges a window while its window is remembered, and that at most
//! [`IP_TABLE_ENTRIES_MAX`] windows are; past that the oldest is forgotten (its IP starts anew) and counted. Charging is O(1).

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

    fn with_bound(per_minute: u32, entries_max: usize) -> IpTable {
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

    /// Drops the oldest entry of `order`, and its window unless its IP has begun a new one; returns whether that
    /// window was still running.
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
