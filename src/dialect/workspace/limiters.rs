//! How often something may happen, by key (workspace.md section 13): fixed windows and token buckets.
//!
//! Holds at most as many keys as the operator wants; above that the one least recently asked for is forgotten, and
//! starts anew when it comes again. Integer arithmetic, so nothing is lost or won by asking often. Never reads a clock.

use std::time::Duration;

use hashlink::LinkedHashMap;

use super::{Limit, WorkspaceConfig};
use crate::{dialect::place::TableHasher, time::Time};

/// A window that starts with the key's first event, allows as many as a minute has, and begins anew with the first one
/// after its end. What it refuses does not count.
pub(super) type Windows = Limiter<Window>;

/// A bucket that starts full, holds what a minute allows and fills at that pace. What it refuses costs nothing.
pub(super) type Buckets = Limiter<Bucket>;

/// The limiters of a shard. All connections of a workspace are on its home shard, so nothing is shared.
#[derive(Debug)]
pub(super) struct Limiters {
    pub(super) key_exchanges: Windows,
    pub(super) pairings: Windows,
    runtime_per_client: Buckets,
    runtime_per_workspace: Buckets,
    /// Messages of daemons and workers, by workspace.
    pub(super) daemons: Buckets,
}

impl Limiters {
    pub(super) fn new(config: &WorkspaceConfig, hasher: &TableHasher) -> Limiters {
        Limiters {
            key_exchanges: Limiter::new(config.kex, hasher.clone()),
            pairings: Limiter::new(config.pairing, hasher.clone()),
            runtime_per_client: Limiter::new(config.runtime_per_client, hasher.clone()),
            runtime_per_workspace: Limiter::new(config.runtime_per_workspace, hasher.clone()),
            daemons: Limiter::new(config.daemon, hasher.clone()),
        }
    }

    /// Whether a client may send one more envelope or word of its presence: by its own bucket, and then by that of its
    /// workspace.
    pub(super) fn take_runtime(&mut self, client: &str, workspace: &str, now: Time) -> bool {
        self.runtime_per_client.take(client, now) && self.runtime_per_workspace.take(workspace, now)
    }

    /// Forgets what nobody has asked for in two windows.
    pub(super) fn sweep(&mut self, now: Time) {
        self.key_exchanges.sweep(now);
        self.pairings.sweep(now);
        self.runtime_per_client.sweep(now);
        self.runtime_per_workspace.sweep(now);
        self.daemons.sweep(now);
    }

    /// Whether no key is remembered.
    pub(super) fn is_empty(&self) -> bool {
        let lens = [
            self.key_exchanges.len(),
            self.pairings.len(),
            self.runtime_per_client.len(),
            self.runtime_per_workspace.len(),
            self.daemons.len(),
        ];
        lens == [0; 5]
    }
}

/// A limiter of many keys.
#[derive(Debug)]
pub(super) struct Limiter<M> {
    limit: Limit,
    /// By the time at which they were last asked for.
    keys: LinkedHashMap<Box<str>, Asked<M>, TableHasher>,
}

#[derive(Debug)]
struct Asked<M> {
    meter: M,
    at: Time,
}

/// What is kept of one key.
pub(super) trait Meter {
    fn new(now: Time, per_minute: u32) -> Self;
    /// Whether one more may happen now; if so it did.
    fn take(&mut self, now: Time, per_minute: u32) -> bool;
}

impl<M: Meter> Limiter<M> {
    pub(super) fn new(limit: Limit, hasher: TableHasher) -> Limiter<M> {
        Limiter { limit, keys: LinkedHashMap::with_hasher(hasher) }
    }

    /// Whether one more may happen under `key` now; if so it did.
    pub(super) fn take(&mut self, key: &str, now: Time) -> bool {
        let Limit { per_minute, keys_max } = self.limit;
        if let Some(asked) = self.keys.to_back(key) {
            asked.at = now;
            return asked.meter.take(now, per_minute);
        }
        let mut meter = M::new(now, per_minute);
        let may = meter.take(now, per_minute);
        self.keys.insert(key.into(), Asked { meter, at: now });
        while self.keys.len() > keys_max {
            self.keys.pop_front();
        }
        may
    }

    /// Forgets what nobody has asked for in two windows.
    pub(super) fn sweep(&mut self, now: Time) {
        while self.keys.front().is_some_and(|(_, asked)| now.since(asked.at) > 2 * WINDOW) {
            self.keys.pop_front();
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// See [`Windows`].
#[derive(Debug)]
pub(super) struct Window {
    start: Time,
    count: u32,
}

impl Meter for Window {
    fn new(now: Time, _per_minute: u32) -> Window {
        Window { start: now, count: 0 }
    }

    fn take(&mut self, now: Time, per_minute: u32) -> bool {
        if now.since(self.start) >= WINDOW {
            *self = Window { start: now, count: 0 };
        }
        let may = self.count < per_minute;
        self.count += u32::from(may);
        may
    }
}

/// See [`Buckets`].
///
/// Invariant: `level <= per_minute * TOKEN`.
#[derive(Debug)]
pub(super) struct Bucket {
    /// In parts of a token of which as many flow in each microsecond as there are tokens a minute.
    level: u64,
    counted_at: Time,
}

impl Meter for Bucket {
    fn new(now: Time, per_minute: u32) -> Bucket {
        Bucket { level: u64::from(per_minute) * TOKEN, counted_at: now }
    }

    fn take(&mut self, now: Time, per_minute: u32) -> bool {
        let (rate, elapsed) = (u64::from(per_minute), now.0.saturating_sub(self.counted_at.0));
        self.level = self.level.saturating_add(rate.saturating_mul(elapsed)).min(rate * TOKEN);
        self.counted_at = self.counted_at.max(now);
        let may = self.level >= TOKEN;
        if may {
            self.level -= TOKEN;
        }
        may
    }
}

/// What every limit is counted over.
const WINDOW: Duration = Duration::from_secs(60);
/// A token, in parts.
const TOKEN: u64 = 60_000_000;

const _: () = assert!(TOKEN as u128 == WINDOW.as_micros());
const _: () = assert!(TOKEN.checked_mul(u32::MAX as u64).is_some());
