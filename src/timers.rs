//! The timer wheel: many deadlines, most of them never reached.
//!
//! Pure: told the time, never reads it. Hierarchical, one millisecond a tick; arming and cancelling are
//! O(1), a turn without a due timer costs a comparison. A timer moves down at most once per level, so a 30
//! s timer is touched three times in all, and nothing wakes the shard in between.
//!
//! Promises that no timer fires early. A deadline is rounded up to a whole millisecond, so one may fire up
//! to a millisecond late, and later by the turns it takes where very many timers stand in one list: a turn
//! moves at most `MOVES_PER_TURN` of them down. Never goes back: the times given to [`Wheel::pop`] may stand
//! still but not decrease.

use std::{fmt, num::NonZeroU32};

use crate::{dialect, id::ConnId, tables::Chunks, time::Time};

/// Why a timer was armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// A connection's own deadline: handshake, role, ping, close.
    Conn(ConnId),
    /// Paced bytes of the link whose client is this connection may be due.
    Pace(ConnId),
    /// Progress of a destination that bytes wait for.
    Progress(ConnId),
    /// A dialect's.
    Dialect(dialect::Alarm),
    /// The shard's own housekeeping, by number.
    Shard(u32),
}

/// An armed timer: slot and generation, so that cancelling a fired timer does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

/// The wheel.
///
/// Level `l` holds timers whose tick first differs from `elapsed` in its `l`-th group of six bits, in the
/// list of that group's value.
///
/// Invariant: every armed timer's tick is above `elapsed`, except in the lists `DUE` and `FALLING`; hence on
/// every level only lists above `elapsed`'s own group are occupied, and the lowest list of the lowest level is
/// the next to come. It is only looked for when both of those are empty.
pub struct Wheel {
    /// The tick up to which lists were emptied.
    elapsed: u64,
    /// The time of the last `pop`.
    told: Time,
    /// First entry of every list, or `NONE`. The lists are circular.
    heads: Box<[u32; LISTS]>,
    /// Which lists of a level are occupied.
    occupied: [u64; LEVELS],
    /// Which levels are occupied.
    levels: u16,
    entries: Chunks<Entry>,
    /// The number of the list that falls, or `FREE`.
    falling: u16,
    /// How many timers may still be moved down before the turn ends.
    moves_left: usize,
    /// First free entry, chained by `next`.
    free: u32,
    armed: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The tick at which it is due, and the list it is in, or `FREE`.
    place: Place,
    alarm: Alarm,
    generation: NonZeroU32,
    next: u32,
    prev: u32,
}

/// A tick, of which 48 bits are kept, and a list: together 8 bytes.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    fn new(tick: u64, list: u16) -> Place {
        debug_assert!(tick <= TICK_MAX);
        Place(tick << u16::BITS | u64::from(list))
    }

    fn tick(self) -> u64 {
        self.0 >> u16::BITS
    }

    fn list(self) -> u16 {
        (self.0 & u64::from(u16::MAX)) as u16
    }
}

impl Wheel {
    /// A wheel without timers that starts at `now`.
    pub fn new(now: Time) -> Wheel {
        Wheel {
            elapsed: now.0 / TICK_US,
            told: now,
            heads: Box::new([NONE; LISTS]),
            occupied: [0; LEVELS],
            levels: 0,
            entries: Chunks::new(),
            falling: FREE,
            moves_left: MOVES_PER_TURN,
            free: NONE,
            armed: 0,
        }
    }

    /// Arms a timer; one that is not after the last `pop` is due at the next.
    pub fn arm(&mut self, at: Time, alarm: Alarm) -> TimerId {
        let tick = at.0.div_ceil(TICK_US).min(TICK_MAX);
        let index = self.take_free();
        let list = if at <= self.told { DUE } else { self.list_of(tick) };
        let entry = &mut self.entries[index as usize];
        entry.place = Place::new(tick, FREE);
        entry.alarm = alarm;
        let generation = entry.generation;
        self.link(index, list);
        self.armed += 1;
        TimerId { index, generation }
    }

    /// Cancels a timer; a stale id does nothing.
    pub fn cancel(&mut self, timer: TimerId) {
        let known = self.entries.get(timer.index as usize);
        if known.is_some_and(|entry| entry.generation == timer.generation && entry.place.list() != FREE) {
            self.unlink(timer.index);
            self.give_back(timer.index);
        }
    }

    /// A time at or before the earliest deadline (never later than it, rounded up to a tick, and always
    /// moving on when turns are taken at it); the time last told for timers that are due already; `None`
    /// without timers.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.heads[DUE as usize] != NONE || self.heads[FALLING as usize] != NONE {
            return Some(self.told);
        }
        self.next_list().map(|(_, start)| Time(start.saturating_mul(TICK_US)))
    }

    /// Takes one timer that is due at `now`; never before its deadline. `None` ends the turn.
    pub fn pop(&mut self, now: Time) -> Option<Alarm> {
        debug_assert!(now >= self.told, "time went back from {:?} to {now:?}", self.told);
        self.told = self.told.max(now);
        let target = self.told.0 / TICK_US;
        loop {
            let first = self.heads[DUE as usize];
            if first != NONE {
                self.unlink(first);
                self.give_back(first);
                return Some(self.entries[first as usize].alarm);
            }
            if self.heads[FALLING as usize] != NONE {
                if self.moves_left == 0 {
                    break;
                }
                self.fall();
                continue;
            }
            match self.next_list() {
                Some((list, start)) if start <= target => {
                    self.elapsed = start;
                    self.let_fall(list);
                }
                _ => {
                    // No list starts in between, so no timer's level changes by this.
                    self.elapsed = target;
                    break;
                }
            }
        }
        self.moves_left = MOVES_PER_TURN;
        None
    }

    /// How many timers are armed, due ones among them.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// The occupied list that comes next, and the tick at which it starts.
    fn next_list(&self) -> Option<(u16, u64)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros();
        let slot = self.occupied[level as usize].trailing_zeros();
        let shift = level * SLOT_BITS;
        let above = (self.elapsed >> shift >> SLOT_BITS) << SLOT_BITS << shift;
        Some(((level * SLOTS + slot) as u16, above | u64::from(slot) << shift))
    }

    /// Has all of a list whose start was reached moved down. Its timers keep its number until they move: no
    /// other can come to stand in it before.
    fn let_fall(&mut self, list: u16) {
        debug_assert_eq!(self.heads[FALLING as usize], NONE, "one list falls at a time");
        self.heads[FALLING as usize] = self.heads[usize::from(list)];
        self.falling = list;
        self.set_head(list, NONE);
    }

    /// Spreads what falls over the levels below, in the order in which it was filled, as far as this turn may.
    fn fall(&mut self) {
        let mut index = self.heads[FALLING as usize];
        let last = self.entries[index as usize].prev;
        while self.moves_left > 0 {
            self.moves_left -= 1;
            let Entry { place, next, .. } = self.entries[index as usize];
            let list = if place.tick() <= self.elapsed { DUE } else { self.list_of(place.tick()) };
            self.link(index, list);
            if index == last {
                self.set_head(FALLING, NONE);
                return;
            }
            index = next;
        }
        self.heads[FALLING as usize] = index;
        self.entries[index as usize].prev = last;
        self.entries[last as usize].next = index;
    }

    /// The list for a tick above `elapsed`.
    fn list_of(&self, tick: u64) -> u16 {
        debug_assert!(tick > self.elapsed);
        let level = (tick ^ self.elapsed).ilog2() / SLOT_BITS;
        let slot = tick >> (level * SLOT_BITS) & u64::from(SLOTS - 1);
        (level * SLOTS + slot as u32) as u16
    }

    /// Appends an entry to a list.
    fn link(&mut self, index: u32, list: u16) {
        let head = self.heads[usize::from(list)];
        let (next, prev) = if head == NONE {
            self.set_head(list, index);
            (index, index)
        } else {
            let last = self.entries[head as usize].prev;
            self.entries[head as usize].prev = index;
            self.entries[last as usize].next = index;
            (head, last)
        };
        let entry = &mut self.entries[index as usize];
        entry.next = next;
        entry.prev = prev;
        entry.place = Place::new(entry.place.tick(), list);
    }

    /// Takes an entry out of its list.
    fn unlink(&mut self, index: u32) {
        let Entry { next, prev, place, .. } = self.entries[index as usize];
        let list = if place.list() == self.falling { FALLING } else { place.list() };
        if next == index {
            self.set_head(list, NONE);
            return;
        }
        self.entries[next as usize].prev = prev;
        self.entries[prev as usize].next = next;
        if self.heads[usize::from(list)] == index {
            self.heads[usize::from(list)] = next;
        }
    }

    /// Sets a list's first entry where the list becomes empty or stops being so, and keeps the bitmaps true.
    fn set_head(&mut self, list: u16, head: u32) {
        self.heads[usize::from(list)] = head;
        if list == FALLING {
            self.falling = FREE;
        }
        if list == DUE || list == FALLING {
            return;
        }
        let (level, slot) = (usize::from(list) / SLOTS as usize, u32::from(list) % SLOTS);
        if head == NONE {
            self.occupied[level] &= !(1 << slot);
        } else {
            self.occupied[level] |= 1 << slot;
        }
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        } else {
            self.levels |= 1 << level;
        }
    }

    fn take_free(&mut self) -> u32 {
        if self.free != NONE {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            return index;
        }
        let index = u32::try_from(self.entries.len()).expect("a shard has far fewer than 2^32 timers");
        self.entries.push(Entry {
            place: Place::new(0, FREE),
            alarm: Alarm::Shard(0),
            generation: NonZeroU32::MIN,
            next: NONE,
            prev: NONE,
        });
        index
    }

    /// Frees an unlinked entry; ids of it are stale from now on.
    fn give_back(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        entry.place = Place::new(0, FREE);
        entry.next = self.free;
        self.free = index;
        self.armed -= 1;
    }
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel::new(Time::default())
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel").field("told", &self.told).field("armed", &self.armed).finish_non_exhaustive()
    }
}

/// Microseconds in a tick.
const TICK_US: u64 = 1000;
/// Bits of a tick that one level tells apart, so that a level's occupied lists are one word.
const SLOT_BITS: u32 = 6;
const SLOTS: u32 = 1 << SLOT_BITS;
/// Later deadlines count as this one: 8900 years.
const TICK_MAX: u64 = (1 << (LEVELS as u32 * SLOT_BITS)) - 1;
const LEVELS: usize = 8;
/// Timers moved to lower levels in one turn. A list of the third level holds what is due within four seconds: forty
/// thousand pings of a shard with 300,000 connections. With this bound the longest turn of a million timers takes about
/// as long as the longest of 50,000 links that wait for their rate (docs/BENCHMARKS.md, "Components").
const MOVES_PER_TURN: usize = 8192;
/// The lists of all levels, the list of what is due, and the one that is being moved down.
const LISTS: usize = LEVELS * SLOTS as usize + 2;
const DUE: u16 = LISTS as u16 - 2;
const FALLING: u16 = LISTS as u16 - 1;
/// Not in a list.
const FREE: u16 = u16::MAX;
/// No entry.
const NONE: u32 = u32::MAX;

const _: () = assert!(TICK_MAX <= u64::MAX >> u16::BITS);
const _: () = assert!(LEVELS <= u16::BITS as usize);
// Every connection keeps one or two entries for as long as it lives.
const _: () = assert!(size_of::<Entry>() <= 40);
const _: () = assert!(size_of::<Option<TimerId>>() == 8);

#[cfg(test)]
mod tests;
