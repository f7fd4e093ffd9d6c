//! The links of this shard, from their introduction until both ends are closed.
//!
//! Holds one record a link, found by slot or by id. Promises that a slot's old name finds nothing after the
//! record is gone, and that a closed link is not found by its id. Records live on while bytes of a closed
//! link are being delivered.

use std::{collections::HashMap, mem::size_of, num::NonZeroU64};

use super::id::LinkId;
use crate::{
    dialect::{Kind, SpliceId, place::TableHasher},
    id::{ConnId, Remote},
    pacing::{Ledger, Leg},
    tables::{Key, Table},
    time::Time,
    timers::TimerId,
};

/// A link's record: its slot, and the slot's generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl From<LinkKey> for SpliceId {
    fn from(key: LinkKey) -> SpliceId {
        SpliceId { kind: Kind::Link, index: key.index, generation: key.generation }
    }
}

impl From<SpliceId> for LinkKey {
    fn from(splice: SpliceId) -> LinkKey {
        LinkKey { index: splice.index, generation: splice.generation }
    }
}

impl From<LinkKey> for Key {
    fn from(key: LinkKey) -> Key {
        Key { index: key.index, generation: key.generation }
    }
}

impl From<Key> for LinkKey {
    fn from(key: Key) -> LinkKey {
        LinkKey { index: key.index, generation: key.generation }
    }
}

/// How far a link has come (link.md section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    /// The client has its id.
    Introduced,
    /// The host has been asked to dial back.
    Pending,
    /// Both ends are joined.
    Relaying,
    /// An end is gone. What was received is still being delivered.
    Closed,
}

impl State {
    /// Its name in `/v1/stats`.
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Introduced => "introduced",
            State::Pending => "pending",
            State::Relaying => "relaying",
            State::Closed => "closed",
        }
    }
}

/// One link.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: LinkId,
    pub(super) ledger: Ledger,
    /// The connections that are not closed yet, by [`Leg`].
    pub(super) ends: [Option<ConnId>; 2],
    /// The control socket that it was introduced to, while that is open and the link is.
    pub(super) host: Option<Remote>,
    /// Where the registry's list of that host has it.
    pub(super) host_place: u32,
    pub(super) state: State,
    pub(super) idle_timer: Option<TimerId>,
    /// Armed while news of its usage wait for their second.
    pub(super) usage_timer: Option<TimerId>,
    /// When the host may next be told of its usage.
    pub(super) usage_from: Time,
    /// Wall clock, milliseconds, at the introduction and at the join.
    pub(super) started_unix_ms: u64,
    pub(super) relaying_unix_ms: Option<NonZeroU64>,
}

impl Record {
    pub(super) fn client(&self) -> Option<ConnId> {
        self.ends[Leg::Client as usize]
    }

    pub(super) fn is_relaying(&self) -> bool {
        self.state == State::Relaying
    }
}

// A hundred thousand links of a shard are to cost twenty megabytes, not two hundred.
const _: () = assert!(size_of::<(u32, Record)>() <= 200);

/// All links of a shard, each under a generation of its own.
#[derive(Debug)]
pub(super) struct Links {
    records: Table<Record>,
    by_id: HashMap<LinkId, u32, TableHasher>,
}

impl Links {
    pub(super) fn new(hasher: TableHasher) -> Links {
        Links { records: Table::new(), by_id: HashMap::with_hasher(hasher) }
    }

    /// Adds a link.
    pub(super) fn insert(&mut self, record: Record) -> LinkKey {
        let id = record.id;
        let key = self.records.insert(record);
        self.by_id.insert(id, key.index);
        key.into()
    }

    pub(super) fn get_mut(&mut self, key: LinkKey) -> Option<&mut Record> {
        self.records.get_mut(key.into())
    }

    pub(super) fn get(&self, key: LinkKey) -> Option<&Record> {
        self.records.get(key.into())
    }

    /// The current key of a slot that holds a record.
    pub(super) fn key(&self, index: u32) -> LinkKey {
        self.records.key(index).expect("the slot holds a record").into()
    }

    /// The open link of an id.
    pub(super) fn find(&self, id: LinkId) -> Option<LinkKey> {
        self.by_id.get(&id).map(|index| self.key(*index))
    }

    /// Takes a link's id out of use.
    pub(super) fn unname(&mut self, id: LinkId) {
        self.by_id.remove(&id);
    }

    /// Removes a record whose id is out of use.
    pub(super) fn remove(&mut self, key: LinkKey) -> Option<Record> {
        self.records.remove(key.into())
    }

    /// All records, also those of closed links.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|(_, record)| record)
    }

    /// Whether there is no record and no id.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.records.is_empty()
    }
}
