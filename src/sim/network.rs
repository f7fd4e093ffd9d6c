//! The virtual network: streams of bytes between peers and shards, and the virtual clock.
//!
//! Holds every stream, the shards' accept queues, posts and wake-ups, both clocks, and the dice of the
//! faults. A stream behaves as TCP does for the two who hold its ends: ordered, bounded by a window, ended by
//! a FIN behind the last byte, or reset. It never looks at the bytes. One network is shared by all drivers
//! and peers of one run, on one thread.

use std::{cell::RefCell, collections::VecDeque, net::SocketAddr, rc::Rc, time::Duration};

pub use super::stream::{Found, StreamId};
use super::{
    dice::Dice,
    faults::{Faults, Terrain},
    stream::{Flow, Stream},
};
use crate::time::{Now, Time};

/// The network as the drivers and the peers of one run share it.
pub type Shared = Rc<RefCell<Network>>;

#[derive(Debug)]
struct Post {
    stream: StreamId,
    tag: u64,
    due: Time,
}

/// What the network keeps for one shard.
#[derive(Debug, Default)]
struct Place {
    listening: bool,
    queue: VecDeque<StreamId>,
    posts: VecDeque<Post>,
    woken: Option<Time>,
}

/// The network of one run.
#[derive(Debug)]
pub struct Network {
    /// What goes wrong from now on.
    pub faults: Faults,
    /// Nothing does, and windows are as wide as the terrain has them.
    is_calm: bool,
    /// What the run is made on.
    pub terrain: Terrain,
    /// The dice of the network and of the drivers.
    pub dice: Dice,
    /// Print what happens.
    pub trace: bool,
    now: Now,
    streams: Vec<Stream>,
    places: Vec<Place>,
}

/// Connections that a post holds before it is full; a socket pair holds about as many datagrams.
const POSTS_MAX: usize = 10;

impl Network {
    /// A network for `shards` shards, all of them listening.
    pub fn new(shards: u16, terrain: Terrain, faults: Faults, dice: Dice) -> Shared {
        let place = || Place { listening: true, ..Place::default() };
        Rc::new(RefCell::new(Network {
            faults,
            is_calm: false,
            terrain,
            dice,
            trace: false,
            now: Now { at: Time(1_000_000), unix_ms: 1_800_000_000_000 },
            streams: Vec::new(),
            places: (0..shards).map(|_| place()).collect(),
        }))
    }

    /// Tells the reader of a trace what happens.
    pub fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>12} us  {}", self.now.at.0, what());
        }
    }

    /// No more faults, and those under way are over.
    pub fn calm_down(&mut self) {
        self.faults = Faults::calm();
        self.is_calm = true;
        for stream in &mut self.streams {
            stream.to_relay.shut_until = Time(0);
            stream.to_peer.shut_until = Time(0);
            stream.window = stream.window.max(self.terrain.window);
        }
    }

    // The clock.

    /// Both clocks.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Lets `span` pass, with what the faults make of it.
    pub fn advance(&mut self, mut span: Duration) {
        if self.dice.chance(self.faults.clock_jump) {
            span += Duration::from_millis(self.dice.size(60_000) as u64);
        }
        // The wall clock counts the microseconds that the monotonic one counts.
        let before = self.now.at.0 / 1000;
        self.now.at = self.now.at + span;
        self.now.unix_ms += self.now.at.0 / 1000 - before;
        if self.dice.chance(self.faults.wall_jump) {
            let by = self.dice.size(3_600_000) as u64;
            let back = self.dice.chance(500_000);
            self.now.unix_ms = if back { self.now.unix_ms - by } else { self.now.unix_ms + by };
        }
        self.disturb();
    }

    /// Resets and stalls, per step.
    fn disturb(&mut self) {
        if self.faults.reset == 0 && self.faults.stall == 0 {
            return;
        }
        for stream in &mut self.streams {
            if stream.reset || !stream.peer_open || stream.relay_ends == 0 {
                continue;
            }
            if self.dice.chance(self.faults.reset) {
                stream.reset = true;
                stream.by_fault = true;
            }
            if self.dice.chance(self.faults.stall) {
                let until = self.now.at + Duration::from_millis(self.dice.size(20_000) as u64);
                let flow = if self.dice.chance(500_000) { &mut stream.to_peer } else { &mut stream.to_relay };
                flow.shut_until = until;
            }
        }
    }

    /// When something that was delayed is due next.
    pub fn next_due(&self) -> Option<Time> {
        let posts = self.places.iter().flat_map(|place| place.posts.iter().map(|post| post.due));
        let wakes = self.places.iter().filter_map(|place| place.woken);
        let windows = self
            .streams
            .iter()
            .filter(|stream| stream.peer_open && stream.relay_ends > 0)
            .flat_map(|stream| [stream.to_peer.shut_until, stream.to_relay.shut_until]);
        posts.chain(wakes).chain(windows).filter(|due| *due > self.now.at).min()
    }

    fn delay(&mut self, rate: u32) -> Time {
        let late = if self.dice.chance(rate) { self.dice.size(200_000) as u64 } else { 0 };
        self.now.at + Duration::from_micros(late)
    }

    // The peers' side.

    /// Connects to a shard that the network picks; `None` is refused.
    pub fn connect(&mut self, peer: SocketAddr) -> Option<StreamId> {
        let open: Vec<usize> = (0..self.places.len()).filter(|shard| self.places[*shard].listening).collect();
        if open.is_empty() {
            return None;
        }
        let shard = open[self.dice.below(open.len())];
        let id = StreamId(self.streams.len());
        self.streams.push(Stream {
            peer,
            to_relay: Flow::default(),
            to_peer: Flow::default(),
            window: if self.is_calm {
                self.terrain.window
            } else {
                self.dice.size(self.terrain.window).max(64)
            },
            relay_ends: 1,
            peer_open: true,
            reset: false,
            by_fault: false,
        });
        self.places[shard].queue.push_back(id);
        Some(id)
    }

    /// Sends what fits the window, from the peer.
    pub fn peer_send(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, Found> {
        let now = self.now.at;
        let stream = &mut self.streams[id.0];
        if stream.reset {
            return Err(Found::Reset);
        }
        if stream.relay_ends == 0 {
            // What reaches a closed socket is answered with a reset.
            stream.reset = true;
            return Err(Found::Reset);
        }
        Ok(stream.to_relay.push(bytes, stream.window, now))
    }

    /// Takes up to `bytes_max` bytes at the peer.
    pub fn peer_receive(&mut self, id: StreamId, into: &mut Vec<u8>, bytes_max: usize) -> Found {
        let stream = &mut self.streams[id.0];
        let count = bytes_max.min(stream.to_peer.bytes.len());
        if count > 0 {
            into.extend(stream.to_peer.take(count));
            return Found::Bytes(count);
        }
        match stream {
            Stream { reset: true, .. } => Found::Reset,
            Stream { to_peer: Flow { ended: true, .. }, .. } if bytes_max > 0 => Found::End,
            _ => Found::Nothing,
        }
    }

    /// The peer's FIN.
    pub fn peer_shut_down(&mut self, id: StreamId) {
        self.streams[id.0].to_relay.ended = true;
    }

    /// The peer lets go of its end: orderly, or with a reset.
    pub fn peer_close(&mut self, id: StreamId, reset: bool) {
        let stream = &mut self.streams[id.0];
        stream.peer_open = false;
        stream.to_relay.ended = true;
        if reset || !stream.to_peer.bytes.is_empty() {
            stream.reset = true;
        }
    }

    /// Whether the relay has let go of the stream.
    pub fn is_abandoned(&self, id: StreamId) -> bool {
        self.streams[id.0].relay_ends == 0
    }

    /// Whether the network, not one of its ends, reset the stream.
    pub fn broken_by_fault(&self, id: StreamId) -> bool {
        self.streams[id.0].by_fault
    }

    // The drivers' side.

    /// The next stream of a shard's accept queue.
    pub(super) fn accept(&mut self, shard: u16) -> Option<(StreamId, SocketAddr)> {
        let id = self.places[usize::from(shard)].queue.pop_front()?;
        Some((id, self.streams[id.0].peer))
    }

    /// Whether a stream waits to be accepted.
    pub(super) fn has_waiting(&self, shard: u16) -> bool {
        !self.places[usize::from(shard)].queue.is_empty()
    }

    /// Closes a shard's listener; whoever still waits is reset.
    pub(super) fn stop_listening(&mut self, shard: u16) {
        let place = &mut self.places[usize::from(shard)];
        place.listening = false;
        for id in std::mem::take(&mut place.queue) {
            self.let_go(id, true);
        }
    }

    /// What a receive would find now; bytes come before the end even of a reset stream.
    pub(super) fn readable(&self, id: StreamId) -> Found {
        match &self.streams[id.0] {
            Stream { to_relay, .. } if !to_relay.bytes.is_empty() => Found::Bytes(to_relay.bytes.len()),
            Stream { reset: true, .. } => Found::Reset,
            Stream { to_relay, .. } if to_relay.ended => Found::End,
            _ => Found::Nothing,
        }
    }

    /// How many of `there` bytes a receive takes.
    pub(super) fn receive_size(&mut self, there: usize) -> usize {
        if self.dice.chance(self.faults.short_receive) { self.dice.size(there) } else { there }
    }

    /// Takes `into.len()` bytes, which `readable` has shown to be there.
    pub(super) fn receive(&mut self, id: StreamId, into: &mut [u8]) {
        let from = self.streams[id.0].to_relay.take(into.len());
        for (place, byte) in into.iter_mut().zip(from) {
            *place = byte;
        }
    }

    /// Sends what fits the window, from the relay.
    pub(super) fn send(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, i32> {
        let now = self.now.at;
        let stream = &mut self.streams[id.0];
        if stream.reset {
            return Err(libc::ECONNRESET);
        }
        if !stream.peer_open {
            // The peer's kernel takes it, and answers with a reset.
            stream.reset = true;
            return Ok(bytes.len());
        }
        Ok(stream.to_peer.push(bytes, stream.window, now))
    }

    /// Whether the stream was reset.
    pub(super) fn is_reset(&self, id: StreamId) -> bool {
        self.streams[id.0].reset
    }

    /// Bytes from the relay that the peer's TCP has acknowledged: what the peer read and half a window more.
    pub(super) fn acked(&self, id: StreamId) -> u64 {
        let stream = &self.streams[id.0];
        stream.to_peer.delivered + stream.to_peer.bytes.len().min(stream.window / 2) as u64
    }

    /// The relay's FIN.
    pub(super) fn shut_down(&mut self, id: StreamId) {
        self.streams[id.0].to_peer.ended = true;
    }

    /// A shard closes its descriptor; the last one ends the stream. Unread bytes turn the end into a reset,
    /// as TCP has it.
    pub(super) fn let_go(&mut self, id: StreamId, reset: bool) {
        let stream = &mut self.streams[id.0];
        stream.relay_ends -= 1;
        if stream.relay_ends == 0 {
            stream.to_peer.ended = true;
            stream.reset |= reset || !stream.to_relay.bytes.is_empty();
            if stream.reset {
                // What had not reached the peer's side is lost with the send queue.
                stream.to_peer.bytes.truncate(stream.window / 2);
            }
        }
    }

    /// Sends a descriptor to another shard; `false` is a full post.
    pub(super) fn post(&mut self, stream: StreamId, shard: u16, tag: u64) -> bool {
        if self.places[usize::from(shard)].posts.len() >= POSTS_MAX || self.dice.chance(self.faults.post_full)
        {
            return false;
        }
        let place = usize::from(shard);
        let behind = self.places[place].posts.back().map_or(Time(0), |post| post.due);
        let due = self.delay(self.faults.late_post).max(behind);
        self.streams[stream.0].relay_ends += 1;
        self.places[place].posts.push_back(Post { stream, tag, due });
        true
    }

    /// The next descriptor that came for a shard, unless its table is full, and its tag.
    pub(super) fn take_post(&mut self, shard: u16) -> Option<(Option<StreamId>, u64)> {
        let now = self.now.at;
        let posts = &mut self.places[usize::from(shard)].posts;
        let post = posts.pop_front_if(|post| post.due <= now)?;
        if self.dice.chance(self.faults.post_lost) {
            self.let_go(post.stream, false);
            return Some((None, post.tag));
        }
        Some((Some(post.stream), post.tag))
    }

    /// Wakes a shard, sooner or later.
    pub(super) fn wake(&mut self, shard: u16) {
        let due = self.delay(self.faults.late_post);
        let woken = &mut self.places[usize::from(shard)].woken;
        *woken = Some(woken.map_or(due, |earlier| earlier.min(due)));
    }

    /// Whether a wake-up has come for a shard.
    pub(super) fn is_woken(&self, shard: u16) -> bool {
        self.places[usize::from(shard)].woken.is_some_and(|due| due <= self.now.at)
    }

    /// Whether a wake-up has come for a shard or is on its way.
    pub(super) fn will_wake(&self, shard: u16) -> bool {
        self.places[usize::from(shard)].woken.is_some()
    }

    /// Takes the wake-up.
    pub(super) fn take_wake(&mut self, shard: u16) {
        self.places[usize::from(shard)].woken = None;
    }

    /// Streams of which the relay still holds an end.
    pub fn held_by_relay(&self) -> usize {
        self.streams.iter().filter(|stream| stream.relay_ends > 0).count()
    }
}
