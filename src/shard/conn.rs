//! One connection as the shard sees it, and the table of them.
//!
//! Plain data without a pointer into the driver's memory, so that a connection can travel to another shard
//! (and, one day, to another process). Small, because there are very many: what only some need is boxed.

use std::net::IpAddr;

use super::{http::Answer, knock::Visit, progress::Watch};
use crate::{
    dialect::{Kind, Opening, SpliceId},
    driver::HEADROOM,
    id::ConnId,
    pacing::Leg,
    proto::ws::{Control, Gathered, Inbound},
    reason::Reason,
    tables::Chunks,
    time::Time,
    timers::TimerId,
};

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Before the upgrade: a request head is awaited.
    Head,
    /// Its upgrade waits for the platform, or is on its way to the shard that asks it.
    Admitting,
    /// A plain request waits for answers of other shards.
    Answering,
    /// The last response is out, our side is shut; what the peer still sends is read and dropped.
    Lingering,
    /// Upgraded: messages go to the dialect.
    Open,
    /// Joined to its partner: frames go there.
    Spliced,
    /// Our close frame is queued or sent; the dialect has been told.
    Closing,
}

/// What the connection's own timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// The request head must be complete.
    Head,
    /// The upgrade must be admitted.
    Admission,
    /// The next ping, or the end of the time without a role.
    Alive,
    /// The close handshake, or lingering, must be over.
    Close,
}

/// How the source of a splice moves large zero-mask frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Splicing {
    /// Through buffers.
    No,
    /// Receiving is being turned off; what it had taken still goes through buffers.
    Stopping,
    /// Through pipes, until the frame ends.
    Yes,
    /// A frame has ended in a pipe, and the next is likely to be as large: its header is received by itself, so that
    /// nothing of its payload has to go through buffers.
    Expecting,
}

/// How the driver reads the connection at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Not.
    Off,
    /// One receive.
    Once,
    /// Without end.
    Stream,
    /// It watches for something to read.
    Readiness,
    /// It was told to stop and has not said `Stopped`: nothing else can be asked until then.
    Stopping,
}

/// What a connection is counted as among those of all shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing yet.
    New,
    /// One that has a place.
    Placed,
    /// One that is only told that it is refused.
    Refused,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) due: Due,
    pub(super) kind: Kind,
    pub(super) leg: Leg,
    pub(super) splicing: Splicing,
    /// What the driver was last told, `Off` once a `Once` is over.
    pub(super) mode: Mode,
    /// The peer is being read, so its pongs count; stays true between two receives.
    pub(super) reading: bool,
    /// Ping times since the oldest ping that is out and not answered; none is, while it is zero.
    pub(super) unanswered: u8,
    /// The dialect waits for another shard: messages stay unread.
    pub(super) held: bool,
    /// The role is fixed: no role deadline, no moves.
    pub(super) settled: bool,
    /// The kernel did not take all that was queued at the last attempt.
    pub(super) blocked: bool,
    /// Not read because the partner, or a receiver, has too much waiting for it.
    pub(super) stalled: bool,
    /// A message of it is to begin and there is no room for it.
    pub(super) awaits_room: bool,
    /// The peer's close frame has come.
    pub(super) close_received: bool,
    /// Input is dropped without a look at it.
    pub(super) deaf: bool,
    /// The dialect does not know it any more (a move that failed).
    pub(super) forgotten: bool,
    /// Counted in the per-IP table.
    pub(super) counted: bool,
    /// What it is counted as.
    pub(super) standing: Standing,
    /// Its first request head is not whole yet, and it is counted as such.
    pub(super) greeting: bool,
    /// The driver found the end of the stream; unread bytes may be left.
    pub(super) ended: Option<Reason>,
    /// Why it is closing.
    pub(super) reason: Option<Reason>,
    /// While `Answering`.
    pub(super) answer: Answer,
    pub(super) ip: IpAddr,
    pub(super) inbound: Inbound,
    /// The other end; meaningful while `splice` is set.
    pub(super) partner: ConnId,
    pub(super) splice: Option<SpliceId>,
    pub(super) timer: Option<TimerId>,
    /// Armed while paced bytes of this source wait.
    pub(super) pace_timer: Option<TimerId>,
    /// How it takes what waits for it, while that is looked at.
    pub(super) watch: Option<Box<Watch>>,
    pub(super) ping_at: Time,
    /// When its last message or pong came. Kept where its dialect asks for it.
    pub(super) active_at: Time,
    /// Bytes that the kernel took.
    pub(super) sent: u64,
    /// The newest ping's answer, while the connection cannot take it.
    pub(super) pong: Option<Box<Control>>,
    pub(super) unread: Option<Box<Unread>>,
    pub(super) gathered: Option<Box<Gathered>>,
    pub(super) guest: Option<Box<Guest>>,
}

/// What is only needed until the role is fixed.
#[derive(Debug, Clone)]
pub struct Guest {
    /// What the dialect was told.
    pub(super) opening: Opening,
    /// When it was upgraded.
    pub(super) opened_at: Time,
    /// The shard it is about to move to, and what for.
    pub(super) moving: Option<Moving>,
    /// While `Admitting`.
    pub(super) visit: Option<Box<Visit>>,
}

/// A decided move.
#[derive(Debug, Clone)]
pub struct Moving {
    pub(super) shard: u16,
    pub(super) errand: Errand,
}

/// What a connection moves for.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The variant names its fields.
pub enum Errand {
    /// A message that names a key of the other shard.
    Message { text: bool, bytes: Vec<u8> },
    /// An upgrade to a workspace of the other shard.
    Upgrade,
}

impl Conn {
    /// A connection just accepted.
    pub(super) fn new(id: ConnId, ip: IpAddr, now: Time) -> Conn {
        Conn {
            generation: id.generation,
            state: State::Head,
            due: Due::Head,
            kind: Kind::Link,
            leg: Leg::Client,
            splicing: Splicing::No,
            mode: Mode::Off,
            reading: false,
            unanswered: 0,
            held: false,
            settled: false,
            blocked: false,
            stalled: false,
            awaits_room: false,
            close_received: false,
            deaf: false,
            forgotten: false,
            counted: false,
            standing: Standing::New,
            greeting: false,
            ended: None,
            reason: None,
            answer: Answer::default(),
            ip,
            inbound: Inbound::new(),
            partner: id,
            splice: None,
            timer: None,
            pace_timer: None,
            watch: None,
            ping_at: now,
            active_at: now,
            sent: 0,
            pong: None,
            unread: None,
            gathered: None,
            guest: None,
        }
    }

    /// Bytes taken from the socket and not yet understood or forwarded.
    pub(super) fn unread_len(&self) -> usize {
        self.unread.as_ref().map_or(0, |unread| unread.len())
    }

    /// Whether its messages have to wait: for another shard, for its own journey, for a receiver, or for room.
    pub(super) fn waits(&self) -> bool {
        self.held || self.stalled || self.awaits_room || self.is_moving()
    }

    /// The upgrade that waits for its 101.
    pub(super) fn visit(&self) -> Option<&Visit> {
        self.guest.as_ref()?.visit.as_deref()
    }

    /// The upgrade that waits for its 101.
    pub(super) fn visit_mut(&mut self) -> Option<&mut Visit> {
        self.guest.as_mut()?.visit.as_deref_mut()
    }

    /// Whether a move to another shard is decided.
    pub(super) fn is_moving(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.moving.is_some())
    }
}

/// Bytes received and not yet processed, with writable room in front.
///
/// Invariant: `HEADROOM <= start <= bytes.len()`.
#[derive(Debug, Default, Clone)]
pub struct Unread {
    bytes: Vec<u8>,
    start: usize,
}

impl Unread {
    /// Adds bytes at the end.
    pub(super) fn append(&mut self, more: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.bytes.resize(HEADROOM, 0);
            self.start = HEADROOM;
        } else if self.bytes.len() + more.len() > self.bytes.capacity() && self.start > self.len() {
            // More room is free in front than is in use: move down instead of growing.
            self.bytes.copy_within(self.start.., HEADROOM);
            self.bytes.truncate(HEADROOM + self.len());
            self.start = HEADROOM;
        }
        self.bytes.extend_from_slice(more);
    }

    /// How many bytes are unread.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The whole buffer, and where the unread bytes start in it.
    pub(super) fn parts(&mut self) -> (&mut [u8], usize) {
        (&mut self.bytes, self.start)
    }

    /// The unread bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Marks everything before `position` in the buffer as processed.
    pub(super) fn advance_to(&mut self, position: usize) {
        debug_assert!(self.start <= position && position <= self.bytes.len());
        self.start = position;
    }
}

/// The shard's connections, by the driver's slots.
#[derive(Debug, Default)]
pub struct Conns {
    slots: Chunks<Option<Conn>>,
    live: usize,
}

impl Conns {
    /// Puts a connection in its slot.
    pub(super) fn insert(&mut self, id: ConnId, conn: Conn) {
        let slot = self.slots.reach(id.index as usize, || None);
        debug_assert!(slot.is_none(), "{id:?} is in use");
        *slot = Some(conn);
        self.live += 1;
    }

    /// The connection, unless the name is stale.
    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.slots.get(id.index as usize)?.as_ref().filter(|conn| conn.generation == id.generation)
    }

    /// The connection, unless the name is stale.
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots.get_mut(id.index as usize)?.as_mut().filter(|conn| conn.generation == id.generation)
    }

    /// Takes the connection out.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        self.live -= 1;
        self.slots.get_mut(id.index as usize)?.take()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The names of all, in order of slots.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let named = |(index, slot): (usize, &Option<Conn>)| {
            let generation = slot.as_ref()?.generation;
            Some(ConnId { index: index as u32, generation })
        };
        self.slots.iter().enumerate().filter_map(named).collect()
    }
}

/// A connection costs its share of the memory that a box of sessions is bought for (DESIGN section 6: 512 B
/// all in).
const _: () = assert!(size_of::<Option<Conn>>() <= 192);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_former_connection_finds_nothing() {
        let (first, second) = (ConnId { index: 3, generation: 1 }, ConnId { index: 3, generation: 2 });
        let ip = IpAddr::from([192, 0, 2, 1]);
        let mut conns = Conns::default();
        conns.insert(first, Conn::new(first, ip, Time(1)));
        assert_eq!(conns.remove(first).map(|conn| conn.generation), Some(1));
        conns.insert(second, Conn::new(second, ip, Time(2)));
        assert!(
            conns.get(first).is_none() && conns.get_mut(first).is_none() && conns.remove(first).is_none()
        );
        assert!(conns.get(second).is_some() && conns.get_mut(second).is_some());
        assert_eq!((conns.len(), conns.ids()), (1, vec![second]));
        assert!(conns.get(ConnId { index: 4, generation: 2 }).is_none());
    }
}
