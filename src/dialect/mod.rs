//! The dialects: what messages mean. Pure functions of events, time and bytes.
//!
//! The shard turns bytes into messages and tells a dialect what happened as an [`Event`]; the dialect answers
//! with [`Action`]s, pushed to [`Cx::actions`], which the shard carries out in order before the next event. A
//! dialect sees no socket, no clock, no thread; it keeps one state per connection under its [`ConnId`] and
//! knows the other shards only by number.
//!
//! Homing: a dialect whose message names a key of another shard answers `Move` (while the connection has no
//! role), and the same message comes again at that shard as `Event::Message` with `moved` set; a connection
//! with a role never moves, its dialect sends a [`Letter`] to the key's home instead, and holds the
//! connection until the answer is back.

mod json;
pub mod kick;
pub mod link;
mod manners;
pub mod overview;
pub mod pages;
pub mod pair;
mod place;
mod text;
pub mod workspace;

use std::{net::IpAddr, ops::Range};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;

pub use self::{
    manners::{Backlog, Liveness, Manners},
    place::{Place, TableHasher},
};
use crate::{
    id::ConnId,
    pacing::{Ledger, Leg, Rates},
    reason::Reason,
    time::{Now, Time},
    timers::Wheel,
};

/// Which dialect a connection speaks: fixed by its upgrade path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `/v1/link`.
    Link,
    /// `/pair`.
    Pair,
    /// `/ws`.
    Workspace,
}

impl Kind {
    /// Every dialect, in the order of their numbers.
    pub const ALL: [Kind; 3] = [Kind::Link, Kind::Pair, Kind::Workspace];

    /// What the options call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Link => "link",
            Kind::Pair => "pair",
            Kind::Workspace => "workspace",
        }
    }

    /// Its upgrade path.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Link => link::PATH,
            Kind::Pair => pair::PATH,
            Kind::Workspace => workspace::PATH,
        }
    }
}

/// What a dialect may know about a connection when it opens (or arrives from another shard).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The peer's address, after trust-proxy.
    pub ip: IpAddr,
    /// The upgrade's `Host` header, lower-cased and trimmed.
    pub host: Box<str>,
    /// The upgrade's `Origin` header as sent, where the dialect's [`Manners`] ask for it.
    pub origin: Option<Box<str>>,
    /// What a connection of the workspace dialect was admitted with.
    pub ticket: Option<Box<workspace::Ticket>>,
    /// How often the connection has moved between shards.
    pub moves: u8,
}

/// What happened.
#[derive(Debug)]
#[allow(missing_docs)] // Each variant names its fields.
pub enum Event<'a> {
    /// A connection was upgraded, or arrived from another shard; it has no role.
    Opened { conn: ConnId, opening: Opening },
    /// A whole message on a connection that is not spliced. Text is valid UTF-8. `moved`: this message
    /// brought the connection here; what was charged for it is charged already.
    Message { conn: ConnId, text: bool, bytes: &'a [u8], moved: bool },
    /// The connection is gone, or going: nothing can be sent on it any more. Comes exactly once for every
    /// `Opened`, also after `Action::Close`; not after `Action::Move`.
    Closed { conn: ConnId, reason: Reason },
    /// A timer that the dialect armed is due.
    Alarm(Alarm),
    /// A letter from another shard, or from this one.
    Letter { from: u16, letter: Letter },
    /// `pacing::Budget::charge` said that the host should hear of this splice's usage.
    Usage { splice: SpliceId },
    /// The platform's answer to an `Action::Ask` of this connection.
    Answer { conn: ConnId, answer: workspace::Answer },
    /// The allow-list changed (SIGHUP).
    PolicyChanged,
}

/// What the shard shall do. Carried out in order.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // Each variant names its fields.
pub enum Action {
    /// Send a text message.
    Send { conn: ConnId, text: String },
    /// Send a text message made of `head`, the bytes `body` of the message just given, and `tail`. Only
    /// while a message is given, and once for each: its bytes may be sent from where they lie. While more
    /// waits for `to` than may, the connection that sent the message is not read.
    Forward { to: ConnId, head: &'static str, body: Range<usize>, tail: &'static str },
    /// Send the same text message to several. Its bytes are shared, not copied; nobody is stopped for a slow one.
    FanOut { to: Vec<ConnId>, text: Bytes },
    /// Ask the platform; `Event::Answer` follows unless the connection is gone by then. Where too many questions are
    /// open the answer is a failure, at once.
    Ask { conn: ConnId, ask: workspace::Ask },
    /// Write an entry to the log.
    Note(Box<workspace::Note>),
    /// Close with the reason's code. A patient reason waits until the bytes already received for `conn` are
    /// delivered; a second `Close`, always with an impatient reason, ends that wait.
    Close { conn: ConnId, reason: Reason },
    /// The message just given belongs to another shard: move the connection there with this message and
    /// everything unread. The dialect has already forgotten the connection.
    Move { conn: ConnId, shard: u16 },
    /// Join two connections: from now on every frame of one goes to the other, accounted in `splice`'s
    /// ledger.
    Splice { client: ConnId, host: ConnId, splice: SpliceId },
    /// Process no further message of `conn` until `Resume`.
    Hold { conn: ConnId },
    /// Go on with `conn`.
    Resume { conn: ConnId },
    /// Send a letter to the dialect on another shard. Letters between two shards arrive in order and are not
    /// lost.
    Post { shard: u16, letter: Letter },
    /// The dialect fixed the connection's role: it will never move, and the role deadline is off.
    Settle { conn: ConnId },
}

/// A link's record in its dialect: slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpliceId {
    /// Which dialect's.
    pub kind: Kind,
    /// The record's slot.
    pub index: u32,
    /// The slot's generation.
    pub generation: u32,
}

/// A dialect's timer, given back as it was armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// The link dialect's.
    Link(link::Alarm),
    /// The pair dialect's.
    Pair(pair::Alarm),
    /// The workspace dialect's.
    Workspace(workspace::Alarm),
}

/// A dialect's message to itself on another shard.
#[derive(Clone, PartialEq, Debug)]
pub enum Letter {
    /// The link dialect's.
    Link(link::Letter),
}

/// Decisions that need what all shards share: asked by the dialects, answered by `crate::admission`.
pub trait Policy {
    /// Charges one `register` or `resolve` to the IP's budget of this minute; `false` is over it (link.md
    /// section 9, `LINK_IP_RATE_PER_MIN`).
    fn charge_request(&self, ip: IpAddr, now: Now) -> bool;
    /// Charges one `accept` of an unknown link; `false` is over the bound.
    fn charge_unknown_accept(&self, ip: IpAddr, now: Now) -> bool;
    /// Whether a verified public key (base64url) may register (closed mode).
    fn may_register(&self, public_key: &str) -> bool;
    /// Charges one new pairing session to the IP's budget of this minute; `false` is over it (pair.md section 3,
    /// `PAIR_IP_RATE_PER_MIN`).
    fn charge_session(&self, ip: IpAddr, now: Now) -> bool;
    /// Takes one of the places that all shards together have for pairing sessions. Each that was taken is given back
    /// by [`Policy::leave_session_place`].
    fn take_session_place(&self, ip: IpAddr) -> Result<(), NoPlace>;
    /// Gives a place back that was taken for this IP.
    fn leave_session_place(&self, ip: IpAddr);
    /// Takes one of the places that all shards together have for registered addresses. Each that was taken is given
    /// back by [`Policy::leave_address_place`].
    fn take_address_place(&self, ip: IpAddr) -> Result<(), NoPlace>;
    /// Lets an address's place be another IP's, whose host holds the address now.
    fn hand_over_address_place(&self, from: IpAddr, to: IpAddr) -> Result<(), NoPlace>;
    /// Gives a place back that is this IP's.
    fn leave_address_place(&self, ip: IpAddr);
    /// Gives back the place that the upgrade of a workspace connection took for its address (workspace.md section
    /// 3.1, checks 3 and 4). The dialect says so exactly once for every connection that it was told to be open.
    fn leave_workspace_place(&self, ip: &str, role: workspace::Role);
}

/// Why there is no place for one more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPlace {
    /// All are taken.
    InAll,
    /// Its IP has as many as one may have.
    OfIp,
}

/// What a dialect works with during one event.
pub struct Cx<'a> {
    /// What time it is.
    pub now: Now,
    /// A cryptographic generator.
    pub random: &'a mut ChaCha12Rng,
    /// The shared policy.
    pub policy: &'a dyn Policy,
    /// The shard's timers.
    pub timers: &'a mut Wheel,
    /// What the shard shall do.
    pub actions: &'a mut Vec<Action>,
}

/// What a dialect is to the shard.
trait Dialect {
    /// Takes an event. Never one of another dialect's connections, letters or alarms.
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event<'_>);
}

/// The dialects that this shard serves.
#[derive(Default)]
pub struct Dialects {
    /// The link dialect, if served.
    pub link: Option<link::Link>,
    /// The pair dialect, if served.
    pub pair: Option<pair::Pair>,
    /// The workspace dialect, if served.
    pub workspace: Option<workspace::Workspace>,
}

impl Dialects {
    /// Whether a dialect is served.
    pub fn serves(&self, kind: Kind) -> bool {
        match kind {
            Kind::Link => self.link.is_some(),
            Kind::Pair => self.pair.is_some(),
            Kind::Workspace => self.workspace.is_some(),
        }
    }

    /// Which dialect an upgrade path (without its query) belongs to.
    pub fn of_path(&self, path: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| path == kind.path() && self.serves(*kind))
    }

    /// Tells the dialect of a connection what happened to it.
    pub fn handle(&mut self, cx: &mut Cx<'_>, kind: Kind, event: Event<'_>) {
        let dialect: Option<&mut dyn Dialect> = match kind {
            Kind::Link => self.link.as_mut().map(|link| link as &mut dyn Dialect),
            Kind::Pair => self.pair.as_mut().map(|pair| pair as &mut dyn Dialect),
            Kind::Workspace => self.workspace.as_mut().map(|workspace| workspace as &mut dyn Dialect),
        };
        dialect.expect("only dialects that are served have connections").handle(cx, event);
    }

    // --- Splices: only the link dialect joins connections frame by frame ---

    /// A splice's account with the rates that hold for it; `None` for a stale id.
    pub fn ledger(&mut self, splice: SpliceId) -> Option<(&mut Ledger, &Rates)> {
        self.link.as_mut()?.ledger(splice)
    }

    /// Charges a splice; returns whether the dialect wants [`Event::Usage`].
    pub fn charge(&mut self, splice: SpliceId, now: Time, from: Leg, payload: u64) -> bool {
        self.link.as_mut().is_some_and(|link| link.charge_splice(splice, now, from, payload))
    }

    /// The shortened name under which a splice appears in logs.
    pub fn splice_name(&self, splice: SpliceId) -> String {
        self.link.as_ref().map(|link| link.splice_name(splice)).unwrap_or_default()
    }
}

impl Letter {
    /// The dialect that wrote it and shall read it.
    pub fn kind(&self) -> Kind {
        match self {
            Letter::Link(_) => Kind::Link,
        }
    }
}

impl Alarm {
    /// The dialect that armed it.
    pub fn kind(&self) -> Kind {
        match self {
            Alarm::Link(_) => Kind::Link,
            Alarm::Pair(_) => Kind::Pair,
            Alarm::Workspace(_) => Kind::Workspace,
        }
    }
}
