//! Whether a peer takes what waits for it (link.md section 7, "Slow peer").
//!
//! Progress is a byte that the peer's TCP acknowledged, looked at by timer and only while bytes wait; a send that
//! completed proves nothing, and a reader that drains slowly but keeps draining is never cut.

use std::time::Duration;

use super::{Shard, conn::State};
use crate::{
    driver::Driver,
    id::ConnId,
    reason::Reason,
    time::Time,
    timers::{Alarm, TimerId},
};

/// What is remembered of a peer that bytes wait for. Most connections have none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Bytes acknowledged at the last look.
    acked: u64,
    /// When they were seen to become more.
    pub(super) progress_at: Time,
    /// The next look, while bytes wait.
    pub(super) timer: Option<TimerId>,
}

/// What a look at a connection's acknowledgements tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Acks {
    /// Bytes that the kernel took are not acknowledged.
    pub(super) outstanding: bool,
    /// How long none has been acknowledged, as far as was looked.
    pub(super) still: Duration,
}

impl<D: Driver> Shard<D> {
    /// How far the peer's TCP has come since the last look; the first look counts as progress. `None` where the
    /// kernel does not tell.
    pub(super) fn look_at_acks(&mut self, id: ConnId) -> Option<Acks> {
        let now = self.now.at;
        let acked = self.driver.acked_bytes(id)?;
        let conn = self.conns.get_mut(id)?;
        let outstanding = conn.sent > acked + SYN_BYTES;
        let first = Watch { acked, progress_at: now, timer: None };
        let watch = conn.watch.get_or_insert_with(|| Box::new(first));
        if acked > watch.acked {
            (watch.acked, watch.progress_at) = (acked, now);
        }
        Some(Acks { outstanding, still: now.since(watch.progress_at) })
    }

    /// Starts to watch, unless it does.
    pub(super) fn watch_progress(&mut self, id: ConnId) {
        let watched =
            |conn: &super::conn::Conn| conn.watch.as_ref().is_some_and(|watch| watch.timer.is_some());
        if self.conns.get(id).is_none_or(watched) {
            return;
        }
        if let Some(conn) = self.conns.get_mut(id) {
            // What was seen before there was anything to wait for does not count against the peer.
            conn.watch = None;
        }
        self.look_at_acks(id);
        self.look_again(id, self.progress_interval());
    }

    pub(super) fn on_progress_due(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(watch) = &mut conn.watch {
            watch.timer = None;
        }
        let closing = conn.state == State::Closing;
        if self.driver.queued(id) == 0 {
            if closing {
                self.finish_when_sent(id);
            } else {
                conn.watch = None;
            }
            return;
        }
        let limit = self.shared.settings.slow_peer;
        let still = self.look_at_acks(id).map_or(Duration::ZERO, |acks| acks.still);
        if still < limit {
            self.look_again(id, self.progress_interval().min(limit - still));
        } else if closing {
            self.finish(id, Reason::SlowPeer, true);
        } else if self.holds_up_senders(id) {
            self.close(id, Reason::SlowPeer);
        } else {
            // It would not take the close frame either.
            self.drop_gone(id, Reason::PingTimeout);
        }
    }

    fn look_again(&mut self, id: ConnId, span: Duration) {
        let now = self.now.at;
        let Some(conn) = self.conns.get_mut(id) else { return };
        // Where the kernel does not tell, only the queue is looked at.
        let blind = Watch { acked: 0, progress_at: now, timer: None };
        let watch = conn.watch.get_or_insert_with(|| Box::new(blind));
        watch.timer = Some(self.timers.arm(now + span, Alarm::Progress(id)));
    }

    fn progress_interval(&self) -> Duration {
        self.shared.settings.slow_peer / 4
    }
}

/// `tcpi_bytes_acked` counts the handshake's SYN on some kernels: one byte that we never sent.
const SYN_BYTES: u64 = 1;
