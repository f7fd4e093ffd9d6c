//! How many pairing sessions all shards together may have (pair.md, `MAX_SESSIONS`).

use std::sync::atomic::{AtomicUsize, Ordering};

/// The places for sessions. Promises that never more than `max` are taken, whichever shards take them at once.
#[derive(Debug)]
pub struct SessionPlaces {
    taken: AtomicUsize,
    max: usize,
}

impl SessionPlaces {
    /// `max` places, all free.
    pub fn new(max: usize) -> SessionPlaces {
        SessionPlaces { taken: AtomicUsize::new(0), max }
    }

    /// Takes a place; `false` when none is left.
    pub fn take(&self) -> bool {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Gives back a place that was taken.
    pub fn leave(&self) {
        let before = self.taken.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "only what was taken is given back");
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn many_takers_at_once_never_get_more_than_there_are() {
        let places = SessionPlaces::new(1000);
        let taken: usize = thread::scope(|scope| {
            let takers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..500).filter(|_| places.take()).count())).collect();
            takers.into_iter().map(|taker| taker.join().expect("takers do not panic")).sum()
        });
        assert_eq!((taken, places.taken()), (1000, 1000));
        assert!(!places.take());
        places.leave();
        assert!(places.take());
    }
}
