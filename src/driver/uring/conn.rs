//! One connection of the io_uring driver: what is wanted of it, and what is in flight.

use std::os::fd::OwnedFd;

use super::park::Parking;
use crate::driver::{Read, outbox::Outbox};

/// The receiving operation in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiving {
    /// None.
    Nothing,
    /// A multishot receive.
    Stream,
    /// A single receive.
    Once,
    /// A single receive that does not wait, for a connection that stays parked.
    Fetch,
    /// A poll: for `Read::Readiness`, or because buffers are scarce.
    Readiness,
}

/// The sending operation in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sending {
    /// None.
    Nothing,
    /// A send that never waits, possibly from receive buffers.
    Attempt,
    /// A send that waits for room, from the heap.
    Waiting,
    /// A poll for room, before a pipe is spliced.
    Room,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) socket: OwnedFd,
    /// What is queued; `None` when nothing is.
    pub(super) outbox: Option<Box<Outbox>>,
    /// How it is read.
    pub(super) want: Read,
    /// The errno that was taken from the socket, which it reports only once; 0 for none.
    pub(super) broken: i32,
    pub(super) receiving: Receiving,
    pub(super) sending: Sending,
    pub(super) parking: Parking,
    /// It received something since the hand of the parking last came by.
    pub(super) active: bool,
    /// A poll for errors and hang-ups is in flight.
    pub(super) watching: bool,
    /// The receiving operation was told to end.
    pub(super) receive_cancelled: bool,
    /// `Stopped` is owed once nothing is being received.
    pub(super) stop_owed: bool,
    /// It found no buffer and waits in the list for a direct read.
    pub(super) starved: bool,
    /// It stands in that list, possibly without being starved any more.
    pub(super) listed: bool,
    /// It stands in the list of those to be settled.
    pub(super) changed: bool,
    /// The peer is slow: what is queued goes to the heap at once.
    pub(super) stalled: bool,
    /// The last receive filled a buffer.
    pub(super) bulk: bool,
    /// Sending broke: what is queued later is discarded.
    pub(super) send_failed: bool,
    /// FIN follows what is queued.
    pub(super) finishing: bool,
    /// It was handed to another shard: nothing is reported any more.
    pub(super) posted: bool,
    /// It was closed: its slot waits for the last completion.
    pub(super) closing: bool,
}

impl Conn {
    pub(super) fn new(socket: OwnedFd) -> Conn {
        Conn {
            socket,
            outbox: None,
            want: Read::Off,
            broken: 0,
            receiving: Receiving::Nothing,
            sending: Sending::Nothing,
            parking: Parking::No,
            active: true,
            watching: false,
            receive_cancelled: false,
            stop_owed: false,
            starved: false,
            listed: false,
            changed: false,
            stalled: false,
            bulk: false,
            send_failed: false,
            finishing: false,
            posted: false,
            closing: false,
        }
    }

    /// Whether anything is to be reported about it.
    pub(super) fn is_open(&self) -> bool {
        !self.closing && !self.posted
    }

    /// Whether the kernel still works on it.
    pub(super) fn is_in_flight(&self) -> bool {
        self.receiving != Receiving::Nothing || self.sending != Sending::Nothing || self.watching
    }

    /// The errno for the end of a connection: the one that was taken before, if any.
    pub(super) fn known_error(&self) -> Option<i32> {
        (self.broken != 0).then_some(self.broken)
    }
}

/// An idle connection costs no more than this in the driver, beside its slot's generation.
const _: () = assert!(size_of::<Conn>() <= 40);
