//! A slab with generations, in chunks.

use slab::Slab;

use super::CHUNK_ENTRIES;

/// The name of an entry: its place, and which of the place's entries it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The place, dense from zero.
    pub index: u32,
    /// Different for every entry of a table until 2^32 were made.
    pub generation: u32,
}

/// A table that names its entries. Promises that a name finds its own entry or nothing.
#[derive(Debug)]
pub struct Table<T> {
    chunks: Vec<Slab<(u32, T)>>,
    /// Chunks with a vacant place; the last is filled first.
    roomy: Vec<u32>,
    len: usize,
    /// The generation of the next entry.
    next: u32,
}

impl<T> Table<T> {
    /// An empty one, without memory of its own.
    pub fn new() -> Table<T> {
        Table { chunks: Vec::new(), roomy: Vec::new(), len: 0, next: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry.
    pub fn insert(&mut self, entry: T) -> Key {
        let chunk = match self.roomy.last() {
            Some(chunk) => *chunk as usize,
            None => {
                self.roomy
                    .push(u32::try_from(self.chunks.len()).expect("a table has far fewer than 2^32 entries"));
                self.chunks.push(Slab::with_capacity(CHUNK_ENTRIES));
                self.chunks.len() - 1
            }
        };
        let slab = &mut self.chunks[chunk];
        let generation = self.next;
        let place = slab.insert((generation, entry));
        if slab.len() == CHUNK_ENTRIES {
            self.roomy.pop();
        }
        self.len += 1;
        self.next = self.next.wrapping_add(1);
        let index =
            u32::try_from(chunk * CHUNK_ENTRIES + place).expect("a table has far fewer than 2^32 entries");
        Key { index, generation }
    }

    /// The entry, unless the name is stale.
    pub fn get(&self, key: Key) -> Option<&T> {
        let (generation, entry) = self.place(key.index)?;
        (*generation == key.generation).then_some(entry)
    }

    /// The entry, unless the name is stale.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let index = key.index as usize;
        let (generation, entry) =
            self.chunks.get_mut(index / CHUNK_ENTRIES)?.get_mut(index % CHUNK_ENTRIES)?;
        (*generation == key.generation).then_some(entry)
    }

    /// Takes the entry out, unless the name is stale.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let chunk = key.index as usize / CHUNK_ENTRIES;
        let slab = &mut self.chunks[chunk];
        if slab.len() == CHUNK_ENTRIES {
            self.roomy.push(u32::try_from(chunk).expect("it has a u32 for an index"));
        }
        self.len -= 1;
        Some(slab.remove(key.index as usize % CHUNK_ENTRIES).1)
    }

    /// The present name of the entry at a place, if there is one.
    pub fn key(&self, index: u32) -> Option<Key> {
        self.place(index).map(|(generation, _)| Key { index, generation: *generation })
    }

    /// How many places there are, vacant ones among them.
    pub fn places(&self) -> usize {
        self.chunks.len() * CHUNK_ENTRIES
    }

    /// All entries with their names, in order of places.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.chunks.iter().enumerate().flat_map(|(chunk, slab)| {
            slab.iter().map(move |(place, (generation, entry))| {
                let index = u32::try_from(chunk * CHUNK_ENTRIES + place).expect("it was given out as a u32");
                (Key { index, generation: *generation }, entry)
            })
        })
    }

    fn place(&self, index: u32) -> Option<&(u32, T)> {
        self.chunks.get(index as usize / CHUNK_ENTRIES)?.get(index as usize % CHUNK_ENTRIES)
    }
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_former_entry_finds_nothing() {
        let mut table = Table::new();
        let first = table.insert('a');
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b');
        assert_eq!(second.index, first.index, "the place is used again");
        assert!(
            table.get(first).is_none() && table.get_mut(first).is_none() && table.remove(first).is_none()
        );
        assert_eq!((table.get(second), table.key(second.index)), (Some(&'b'), Some(second)));
        assert_eq!((table.len(), table.iter().collect::<Vec<_>>()), (1, vec![(second, &'b')]));
        assert_eq!(table.key(1), None);
        assert_eq!(table.get(Key { index: 5000, generation: 1 }), None);
    }

    #[test]
    fn places_are_filled_before_a_chunk_is_added_and_none_is_given_twice() {
        let mut table = Table::new();
        let keys: Vec<Key> = (0..3 * CHUNK_ENTRIES).map(|number| table.insert(number)).collect();
        assert!(keys.iter().enumerate().all(|(number, key)| key.index as usize == number), "dense from zero");
        for key in keys.iter().skip(1).step_by(2) {
            assert_eq!(table.remove(*key), Some(key.index as usize));
        }
        for number in 0..3 * CHUNK_ENTRIES / 2 {
            let key = table.insert(number);
            assert_eq!((key.index % 2, table.get(key)), (1, Some(&number)));
        }
        assert_eq!((table.len(), table.places()), (3 * CHUNK_ENTRIES, 3 * CHUNK_ENTRIES));
        assert!(!table.is_empty());
        assert!(
            table.iter().all(|(key, number)| table.get(key) == Some(number)),
            "each is listed by its name"
        );
        table.insert(0);
        assert_eq!(table.places(), 4 * CHUNK_ENTRIES);
    }
}
