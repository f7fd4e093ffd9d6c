//! Which socket gets an answer: a table in order of insertion, bounded in number and time (workspace.md section 12).
//!
//! Promises that what is over its time is never found, also before it is removed, and that an entry costs the same
//! however long its key is.

use std::{borrow::Cow, time::Duration};

use hashlink::LinkedHashMap;
use sha2::{Digest, Sha256};

use crate::{dialect::place::TableHasher, id::ConnId, time::Time};

/// Owners of requests or sessions, by trimmed id.
#[derive(Debug)]
pub(super) struct Owners {
    entries: LinkedHashMap<Box<[u8]>, Entry, TableHasher>,
    entries_max: usize,
    lifetime: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owner: ConnId,
    at: Time,
}

impl Owners {
    pub(super) fn new(entries_max: usize, lifetime: Duration, hasher: TableHasher) -> Owners {
        Owners { entries: LinkedHashMap::with_hasher(hasher), entries_max, lifetime }
    }

    /// Enters an owner. A key that is there keeps its place in the order and gets a new owner and time; a full table
    /// loses what was inserted first, even then.
    pub(super) fn insert(&mut self, key: &[u8], owner: ConnId, now: Time) {
        if self.entries.len() >= self.entries_max {
            self.prune(now);
        }
        while self.entries.len() >= self.entries_max && self.entries.pop_front().is_some() {}
        self.entries.replace(short(key).into(), Entry { owner, at: now });
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, key: &[u8], now: Time) -> Option<ConnId> {
        let entry = self.entries.remove(&*short(key))?;
        self.is_alive(&entry, now).then_some(entry.owner)
    }

    /// The owner, whose time begins anew.
    pub(super) fn refresh(&mut self, key: &[u8], now: Time) -> Option<ConnId> {
        let key = short(key);
        let entry = *self.entries.get(&*key)?;
        if !self.is_alive(&entry, now) {
            self.entries.remove(&*key);
            return None;
        }
        self.entries.get_mut(&*key)?.at = now;
        Some(entry.owner)
    }

    /// Forgets everything of an owner.
    pub(super) fn forget(&mut self, owner: ConnId) {
        self.entries.retain(|_, entry| entry.owner != owner);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Forgets what is over its time.
    pub(super) fn prune(&mut self, now: Time) {
        let lifetime = self.lifetime;
        self.entries.retain(|_, entry| now.since(entry.at) <= lifetime);
    }

    /// How many entries there are, those that are over among them.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn is_alive(&self, entry: &Entry, now: Time) -> bool {
        now.since(entry.at) <= self.lifetime
    }
}

/// What is kept of a key: a peer chooses its length, up to that of a message.
fn short(key: &[u8]) -> Cow<'_, [u8]> {
    if key.len() <= KEY_BYTES_MAX {
        return Cow::Borrowed(key);
    }
    // No text holds this byte, so no key reads like another's digest.
    let mut digest = vec![0xff];
    digest.extend_from_slice(&Sha256::digest(key));
    Cow::Owned(digest)
}

/// Longer keys are kept as digests. Those of real peers have about thirty bytes.
const KEY_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::place::Place;

    const LIFETIME: Duration = Duration::from_secs(10);

    fn owners(entries_max: usize) -> Owners {
        let place = Place { shard: 0, shards: 1, relay: 0, hash_key: [7; 16] };
        Owners::new(entries_max, LIFETIME, place.table_hasher())
    }

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 0 }
    }

    #[test]
    fn a_full_table_loses_what_is_over_before_what_came_first() {
        let mut owners = owners(2);
        owners.insert(b"first", conn(1), Time(0));
        owners.insert(b"second", conn(2), Time(0));
        let end = Time(0) + LIFETIME;
        assert_eq!(owners.refresh(b"first", end), Some(conn(1)));
        let later = end + Duration::from_micros(1);
        owners.insert(b"third", conn(3), later);
        assert_eq!(owners.refresh(b"first", later), Some(conn(1)));
        assert_eq!(owners.take(b"second", later), None);
        // Now both live on, and the older one goes.
        owners.insert(b"fourth", conn(4), later);
        assert_eq!(owners.take(b"first", later), None);
        assert_eq!(
            (owners.take(b"third", later), owners.take(b"fourth", later)),
            (Some(conn(3)), Some(conn(4)))
        );
    }

    #[test]
    fn what_is_over_its_time_takes_no_memory_once_it_is_pruned() {
        let mut owners = owners(9);
        owners.insert(b"a", conn(1), Time(0));
        owners.insert(b"b", conn(2), Time(1));
        owners.prune(Time(1) + LIFETIME);
        assert_eq!(owners.len(), 1);
        assert_eq!(owners.take(b"b", Time(1) + LIFETIME), Some(conn(2)));
    }

    #[test]
    fn a_key_takes_a_bounded_place_and_long_ones_are_told_apart() {
        let (longest, longer) = ([b'k'; KEY_BYTES_MAX], [b'k'; KEY_BYTES_MAX + 1]);
        assert!(matches!(short(&longest), Cow::Borrowed(key) if key == longest));
        assert_eq!(short(&longer).len(), 33);
        let mut other = longer;
        other[KEY_BYTES_MAX] = b'x';
        assert_ne!(short(&longer), short(&other));
    }
}
