//! The table of a driver's connections, by slot and generation.
//!
//! Promises that an id given out once never names another connection: a slot's generation grows when it is
//! vacated. Never shrinks; a vacant slot costs what an occupied one does.

use crate::id::ConnId;

/// Most slots of any table: an index has to fit the 24 bits it gets in a kernel operation's `user_data`.
pub(super) const SLOTS_MAX: usize = 1 << 24;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A slab with generations.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    vacant: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Slots<T> {
        Slots { slots: Vec::new(), vacant: Vec::new() }
    }

    /// How many slots are occupied.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// Takes a slot, or gives the value back when [`SLOTS_MAX`] are occupied.
    pub(super) fn insert(&mut self, value: T) -> Result<ConnId, T> {
        if let Some(index) = self.vacant.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Ok(ConnId { index, generation: slot.generation });
        }
        if self.slots.len() >= SLOTS_MAX {
            return Err(value);
        }
        let index = u32::try_from(self.slots.len()).expect("bounded by SLOTS_MAX");
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Ok(ConnId { index, generation: 0 })
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&T> {
        let slot = self.slots.get(conn.index as usize)?;
        if slot.generation == conn.generation { slot.value.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation == conn.generation { slot.value.as_mut() } else { None }
    }

    /// Vacates the slot.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<T> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation != conn.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(conn.index);
        Some(value)
    }

    /// The ids of everything in the table.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let occupied = self.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some());
        occupied
            .map(|(index, slot)| ConnId {
                index: u32::try_from(index).expect("bounded by SLOTS_MAX"),
                generation: slot.generation,
            })
            .collect()
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
