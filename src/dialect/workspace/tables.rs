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
