//! Places that all shards share: how many there are in all, and how many of them one IP may have.
//!
//! Pairing sessions (pair.md, `MAX_SESSIONS`) and registered addresses have them.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{IpCounts, IpKey};
use crate::dialect::NoPlace;

/// The places. Promises that never more are taken than there are, in all and by each IP, whichever shards take them at
/// once.
#[derive(Debug)]
pub struct Places {
    bounds: PlaceBounds,
    taken: AtomicUsize,
    per_ip: IpCounts,
}

/// How many places there are. `None` is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlaceBounds {
    /// In all.
    pub all: Option<usize>,
    /// Of one IP.
    pub per_ip: Option<u32>,
}

impl Places {
    /// Places that are all free.
    pub fn new(bounds: PlaceBounds) -> Places {
        Places { bounds, taken: AtomicUsize::new(0), per_ip: IpCounts::default() }
    }

    /// Takes a place for `ip`. Its own bound is asked first: an IP that has all it may have cannot, by asking again and
    /// again, hold for a moment what others are entitled to. Where both refuse, it is told of the one of all.
    pub fn take(&self, ip: IpAddr) -> Result<(), NoPlace> {
        let max = self.bounds.all.unwrap_or(usize::MAX);
        if !self.bounds.per_ip.is_none_or(|max| self.per_ip.add(ip, max)) {
            return Err(if self.taken() >= max { NoPlace::InAll } else { NoPlace::OfIp });
        }
        let one_more = |taken| (taken < max).then_some(taken + 1);
        if self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            self.leave_ip(ip);
            return Err(NoPlace::InAll);
        }
        Ok(())
    }

    /// Gives back a place that was taken for `ip`.
    pub fn leave(&self, ip: IpAddr) {
        let before = self.taken.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "only what was taken is given back");
        self.leave_ip(ip);
    }

    /// Lets the place of one IP be another's from now on, if that may have one more.
    pub fn hand_over(&self, from: IpAddr, to: IpAddr) -> Result<(), NoPlace> {
        let Some(max) = self.bounds.per_ip else { return Ok(()) };
        if IpKey::from(from) == IpKey::from(to) {
            return Ok(());
        }
        if !self.per_ip.add(to, max) {
            return Err(NoPlace::OfIp);
        }
        self.per_ip.remove(from);
        Ok(())
    }

    fn leave_ip(&self, ip: IpAddr) {
        if self.bounds.per_ip.is_some() {
            self.per_ip.remove(ip);
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, atomic::AtomicBool},
        thread,
    };

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn many_takers_at_once_never_get_more_than_there_are() {
        let places = Places::new(PlaceBounds { all: Some(1000), per_ip: Some(600) });
        let take = |last: u8| (0..500).filter(|_| places.take(ip(last)).is_ok()).count();
        let taken: usize = thread::scope(|scope| {
            let takers: Vec<_> = [1, 1, 2, 2].map(|last| scope.spawn(move || take(last))).into();
            takers.into_iter().map(|taker| taker.join().expect("takers do not panic")).sum()
        });
        assert_eq!((taken, places.taken()), (1000, 1000));
        assert_eq!(places.take(ip(3)), Err(NoPlace::InAll));
        places.leave(ip(1));
        assert_eq!(places.take(ip(3)), Ok(()));
    }

    #[test]
    fn an_ip_at_its_bound_that_keeps_asking_never_has_others_refused() {
        let places = Places::new(PlaceBounds { all: Some(2), per_ip: Some(1) });
        assert_eq!(places.take(ip(1)), Ok(()));
        let (is_over, both) = (AtomicBool::new(false), Barrier::new(2));
        let refused = thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                while !is_over.load(Ordering::Relaxed) {
                    assert!(places.take(ip(1)).is_err(), "it has one");
                }
            });
            both.wait();
            let refused =
                (0..100_000).filter(|_| places.take(ip(2)).map(|()| places.leave(ip(2))).is_err()).count();
            is_over.store(true, Ordering::Relaxed);
            refused
        });
        assert_eq!((refused, places.taken()), (0, 1));
    }

    #[test]
    fn who_has_as_many_as_one_ip_may_takes_none_and_is_not_counted() {
        let places = Places::new(PlaceBounds { all: None, per_ip: Some(2) });
        assert_eq!([0; 3].map(|_| places.take(ip(1)).is_ok()), [true, true, false]);
        assert_eq!((places.take(ip(1)), places.taken()), (Err(NoPlace::OfIp), 2));
        assert_eq!(places.take(ip(2)), Ok(()));
        for last in [1, 1, 2] {
            places.leave(ip(last));
        }
        assert_eq!(places.taken(), 0);
        assert!(places.per_ip.is_empty());
    }

    #[test]
    fn a_place_changes_hands_where_the_new_one_has_room() {
        let places = Places::new(PlaceBounds { all: Some(2), per_ip: Some(1) });
        assert_eq!(places.take(ip(1)), Ok(()));
        assert_eq!(places.hand_over(ip(1), ip(1)), Ok(()), "it has one and keeps one");
        assert_eq!(places.hand_over(ip(1), ip(2)), Ok(()));
        assert_eq!(places.take(ip(1)), Ok(()));
        assert_eq!(places.hand_over(ip(1), ip(2)), Err(NoPlace::OfIp));
        places.leave(ip(1));
        places.leave(ip(2));
        assert_eq!(places.taken(), 0);
        assert!(places.per_ip.is_empty());
    }

    #[test]
    fn without_bounds_nobody_is_remembered() {
        let places = Places::new(PlaceBounds::default());
        assert!((0..100).all(|_| places.take(ip(1)).is_ok() && places.hand_over(ip(1), ip(2)).is_ok()));
        assert_eq!(places.taken(), 100);
        assert!(places.per_ip.is_empty());
    }
}
