//! One connection of the epoll driver.

use std::os::fd::OwnedFd;

use crate::driver::{Read, outbox::Outbox};

/// Edge-triggered: `readable` and `writable` hold what the last edge and the last call on the socket said.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) socket: OwnedFd,
    /// How it is read.
    pub(super) want: Read,
    /// A read may find something.
    pub(super) readable: bool,
    /// A write may be taken.
    pub(super) writable: bool,
    /// The peer's end or an error was announced, possibly behind bytes: a short read does not mean that all
    /// was read.
    pub(super) ending: bool,
    /// An error was announced and nobody has been told.
    pub(super) failing: bool,
    /// It stands in the list of those to be visited.
    pub(super) listed: bool,
    /// It stands in the list of those with bytes to be sent when the turn ends.
    pub(super) unsent: bool,
    /// Sending broke: what is queued later is discarded.
    pub(super) send_failed: bool,
    /// FIN follows what is queued.
    pub(super) finishing: bool,
    /// It was handed to another shard: nothing is reported any more.
    pub(super) posted: bool,
    /// It came by the post, so that its sender may still have a descriptor of the same open file.
    pub(super) shared: bool,
    /// The errno that was taken from the socket, which it reports only once; 0 for none.
    pub(super) broken: i32,
    /// What is queued; `None` when nothing is.
    pub(super) outbox: Option<Box<Outbox>>,
}

impl Conn {
    pub(super) fn new(socket: OwnedFd) -> Conn {
        Conn {
            socket,
            want: Read::Off,
            readable: false,
            writable: true,
            ending: false,
            failing: false,
            listed: false,
            unsent: false,
            send_failed: false,
            finishing: false,
            posted: false,
            shared: false,
            broken: 0,
            outbox: None,
        }
    }
}
