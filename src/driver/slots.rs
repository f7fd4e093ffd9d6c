//! The table of a driver's connections, by slot and generation.

use crate::{
    id::ConnId,
    tables::{Key, Table},
};

/// Most slots of any table: an index has to fit the 24 bits it gets in a kernel operation's `user_data`.
pub(super) const SLOTS_MAX: usize = 1 << 24;

/// Connections under the names that everybody above the driver uses for them.
#[derive(Debug)]
pub(super) struct Slots<T> {
    table: Table<T>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Slots<T> {
        Slots { table: Table::new() }
    }

    /// How many slots are occupied.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Takes a slot, or gives the value back when [`SLOTS_MAX`] are occupied.
    pub(super) fn insert(&mut self, value: T) -> Result<ConnId, T> {
        if self.table.len() >= SLOTS_MAX { Err(value) } else { Ok(named(self.table.insert(value))) }
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&T> {
        self.table.get(key(conn))
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        self.table.get_mut(key(conn))
    }

    /// Vacates the slot.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<T> {
        self.table.remove(key(conn))
    }

    /// How many slots there are, vacant ones among them.
    pub(super) fn places(&self) -> usize {
        self.table.places()
    }

    /// The id of what is in a slot.
    pub(super) fn at(&self, index: u32) -> Option<ConnId> {
        self.table.key(index).map(named)
    }

    /// The ids of everything in the table.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.table.iter().map(|(key, _)| named(key)).collect()
    }
}

fn key(conn: ConnId) -> Key {
    Key { index: conn.index, generation: conn.generation }
}

fn named(key: Key) -> ConnId {
    ConnId { index: key.index, generation: key.generation }
}
