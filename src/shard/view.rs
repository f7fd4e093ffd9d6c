//! What a shard shows of itself: counters for the operator, and the facts that the simulator's invariants are
//! about.

use super::{Shard, conn::State};
use crate::{
    admin::{Links, Snapshot},
    driver::Driver,
    id::ConnId,
    time::Time,
};

/// Facts about a shard, for invariants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Connections of any state.
    pub connections: usize,
    /// Connections without an armed timer that is their deadline: must be empty.
    pub without_deadline: Vec<ConnId>,
    /// Bytes received and set aside.
    pub unread_bytes: usize,
    /// Moves not finished.
    pub moves_open: usize,
    /// Questions of `/v1/stats` not answered.
    pub gathers_open: usize,
    /// Bytes reserved for messages that are not whole.
    pub reserved_bytes: usize,
    /// Connections whose message has to wait: for room, or for its receiver.
    pub waiting: usize,
    /// Armed timers, the shard's own pulse among them.
    pub timers: usize,
}

impl View {
    /// Whether nothing is left but the shard itself.
    pub fn is_idle(&self) -> bool {
        *self == View { timers: 1, ..View::default() }
    }
}

impl<D: Driver> Shard<D> {
    /// Looks at every connection: for tests.
    pub fn view(&self) -> View {
        let mut view = View {
            connections: self.conns.len(),
            moves_open: self.home.open(),
            gathers_open: self.gathers.len(),
            reserved_bytes: self.assembly.reserved(),
            waiting: self.assembly.waiting() + self.stalls.len(),
            timers: self.timers.len(),
            ..View::default()
        };
        for id in self.conns.ids() {
            let Some(conn) = self.conns.get(id) else { continue };
            view.unread_bytes += conn.unread_len();
            let has_deadline = conn.timer.is_some()
                || (conn.state == State::Closing
                    && conn.watch.as_ref().is_some_and(|watch| watch.timer.is_some()));
            if !has_deadline {
                view.without_deadline.push(id);
            }
        }
        view
    }

    /// Whether a connection is here: for tests.
    pub fn holds(&self, conn: ConnId) -> bool {
        self.conns.get(conn).is_some()
    }

    /// When the shard turns if nothing happens before: for tests.
    pub fn next_deadline(&self) -> Option<Time> {
        self.halt.wait_until(self.timers.next_deadline())
    }

    /// The driver: for tests.
    pub fn driver(&mut self) -> &mut D {
        &mut self.driver
    }

    /// The dialects: for tests.
    pub fn dialects(&self) -> &crate::dialect::Dialects {
        &self.dialects
    }

    /// The shard's counters as of now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.counters.clone();
        snapshot.connections = self.conns.len() as u64;
        snapshot.driver = self.driver.counters();
        if let Some(link) = &self.dialects.link {
            let gauges = link.gauges();
            snapshot.addresses = gauges.addresses;
            snapshot.links = Links {
                introduced: gauges.introduced,
                pending: gauges.pending,
                relaying: gauges.relaying,
                introduced_total: gauges.total,
                relayed_total: gauges.total_relayed,
            };
        }
        if let Some(pair) = &self.dialects.pair {
            snapshot.pair = pair.counters();
        }
        snapshot.workspace = self.dialects.metrics_part(self.now.at);
        snapshot.reserved_bytes = self.assembly.reserved() as u64;
        snapshot
    }
}
