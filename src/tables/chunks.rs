//! A vector in chunks.

use std::ops::{Index, IndexMut};

use super::CHUNK_ENTRIES;

/// A vector that grows without moving anything.
///
/// Invariant: every chunk but the last holds `CHUNK_ENTRIES` entries.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    /// An empty one, without memory of its own.
    pub fn new() -> Chunks<T> {
        Chunks { chunks: Vec::new() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK_ENTRIES + last.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: T) {
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK_ENTRIES) {
            self.chunks.push(Vec::with_capacity(CHUNK_ENTRIES));
        }
        self.chunks.last_mut().expect("just pushed, if there was none").push(entry);
    }

    /// The entry, if there are that many.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK_ENTRIES)?.get(index % CHUNK_ENTRIES)
    }

    /// The entry, if there are that many.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index / CHUNK_ENTRIES)?.get_mut(index % CHUNK_ENTRIES)
    }

    /// The entry, for which room is made with what `vacant` returns.
    pub fn reach(&mut self, index: usize, vacant: impl Fn() -> T) -> &mut T {
        while self.len() <= index {
            self.push(vacant());
        }
        &mut self[index]
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Chunks<T> {
        Chunks::new()
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;
    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK_ENTRIES][index % CHUNK_ENTRIES]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / CHUNK_ENTRIES][index % CHUNK_ENTRIES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_are_while_it_grows() {
        let mut chunks = Chunks::new();
        assert!(chunks.is_empty() && chunks.get(0).is_none());
        chunks.push(0);
        let first: *const usize = &raw const chunks[0];
        assert!(!chunks.is_empty());
        *chunks.reach(3 * CHUNK_ENTRIES, || 7) += 1;
        assert_eq!((chunks.len(), chunks.chunks.len()), (3 * CHUNK_ENTRIES + 1, 4));
        assert_eq!((chunks[0], chunks[CHUNK_ENTRIES], chunks[3 * CHUNK_ENTRIES]), (0, 7, 8));
        assert_eq!(first, &raw const chunks[0]);
        assert!(chunks.get_mut(3 * CHUNK_ENTRIES + 1).is_none());
        assert_eq!(chunks.iter().sum::<usize>(), 7 * (3 * CHUNK_ENTRIES - 1) + 8);
        assert!(
            chunks.chunks.iter().all(|chunk| chunk.capacity() == CHUNK_ENTRIES),
            "none was allocated twice"
        );
    }
}
