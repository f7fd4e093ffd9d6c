//! The table of a driver's connections, by slot and generation.
//!
//! A slab that hands out a new generation with every connection, so that an id given out once never names another.
//! Never shrinks; a vacant slot costs what an occupied one does.

use slab::Slab;

use crate::id::ConnId;

/// Most slots of any table: an index has to fit the 24 bits it gets in a kernel operation's `user_data`.
pub(super) const SLOTS_MAX: usize = 1 << 24;

/// A slab with generations.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slab: Slab<(u32, T)>,
    /// The generation of the next connection.
    next: u32,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Slots<T> {
        Slots { slab: Slab::new(), next: 0 }
    }

    /// How many slots are occupied.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Takes a slot, or gives the value back when [`SLOTS_MAX`] are occupied.
    pub(super) fn insert(&mut self, value: T) -> Result<ConnId, T> {
        if self.slab.len() >= SLOTS_MAX {
            return Err(value);
        }
        let generation = self.next;
        self.next = self.next.wrapping_add(1);
        let index = self.slab.insert((generation, value));
        Ok(ConnId { index: u32::try_from(index).expect("bounded by SLOTS_MAX"), generation })
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&T> {
        let (generation, value) = self.slab.get(conn.index as usize)?;
        (*generation == conn.generation).then_some(value)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        let (generation, value) = self.slab.get_mut(conn.index as usize)?;
        (*generation == conn.generation).then_some(value)
    }

    /// Vacates the slot.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<T> {
        self.get(conn)?;
        Some(self.slab.remove(conn.index as usize).1)
    }

    /// The ids of everything in the table.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let id = |(index, (generation, _)): (usize, &(u32, T))| ConnId {
            index: u32::try_from(index).expect("bounded by SLOTS_MAX"),
            generation: *generation,
        };
        self.slab.iter().map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_stale_once_its_slot_was_vacated() {
        let mut slots = Slots::new();
        let first = slots.insert('a').unwrap();
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b').unwrap();
        assert_eq!(second.index, first.index, "the slot is used again");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
        assert_eq!((slots.len(), slots.ids()), (1, vec![second]));
    }
}
