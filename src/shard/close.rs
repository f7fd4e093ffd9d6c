//! Every way out of a connection.
//!
//! - [`Shard::close`]: we want it closed: close frame, the peer's answer or two seconds, then the socket.
//! - [`Shard::finish`]: it is over: the socket goes now.
//! - `on_ended`, `on_broken`: the peer's doing.
//!
//! A dialect hears of the end exactly once, at the first moment at which nothing can be sent on the
//! connection any more.

use super::{
    Shard, Stage,
    conn::{Conn, Due, State},
};
use crate::{
    dialect::{Event, Kind},
    driver::{Chunk, Driver, HEADROOM},
    id::ConnId,
    limits::CLOSE_TIMEOUT,
    proto::ws::{Cursor, Step, outbound},
    reason::Reason,
};

impl<D: Driver> Shard<D> {
    /// Closes with the reason's code; drops the connection where the reason has none.
    pub(super) fn close(&mut self, id: ConnId, reason: Reason) {
        let Some(conn) = self.conns.get(id) else { return };
        match conn.state {
            State::Open | State::Spliced => match reason.close_code() {
                Some(code) => {
                    let of_workspace = conn.kind == Kind::Workspace;
                    let text = if of_workspace { reason.workspace_close_text() } else { reason.close_text() };
                    self.begin_close(id, reason, Some(code), text);
                }
                None => self.finish(id, reason, true),
            },
            State::Head | State::Answering => self.finish(id, reason, false),
            State::Admitting => self.close_admitting(id, reason),
            State::Closing => self.hurry(id, reason),
            State::Lingering => {}
        }
    }

    /// A patient close is cut short: the ordinary time of a close handshake is left to it.
    fn hurry(&mut self, id: ConnId, reason: Reason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if reason.is_patient() || !conn.reason.is_some_and(Reason::is_patient) {
            return;
        }
        conn.reason = Some(reason);
        if let Some(timer) = conn.watch.as_mut().and_then(|watch| watch.timer.take()) {
            self.timers.cancel(timer);
        }
        self.arm(id, Due::Close, CLOSE_TIMEOUT);
    }

    /// Closes a connection that its dialect has already forgotten.
    pub(super) fn close_forgotten(&mut self, id: ConnId, reason: Reason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.state != State::Admitting {
            conn.guest = None;
        }
        conn.forgotten = true;
        self.close(id, reason);
    }

    /// The peer's close frame came: it is echoed, and the connection ends when the echo is out.
    pub(super) fn on_close_frame(&mut self, id: ConnId, code: Option<u16>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.close_received = true;
        match conn.state {
            State::Closing => self.finish_when_sent(id),
            _ => {
                self.begin_close(id, Reason::PeerClosed, code, "");
                self.finish_when_sent(id);
            }
        }
    }

    /// The peer broke the protocol: nothing more of it is looked at.
    pub(super) fn on_fault(&mut self, id: ConnId, reason: Reason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.deaf = true;
        }
        self.close(id, reason);
    }

    /// Drops what came behind the message that closed the connection, and with it the place in the stream: the answer
    /// to our close frame would not be understood, so it is waited for no longer than for the frame to leave.
    pub(super) fn drop_unread(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.unread.take().is_none() || std::mem::replace(&mut conn.deaf, true) {
            return;
        }
        if conn.due == Due::Close && conn.timer.is_some() && !conn.close_received {
            self.arm(id, Due::Close, CLOSE_TIMEOUT);
        }
    }

    fn begin_close(&mut self, id: ConnId, reason: Reason, code: Option<u16>, text: &str) {
        let waiting = self.driver.queued(id) > 0;
        let frame = outbound::close_frame(code, text);
        self.driver.send_bytes(id, &frame);
        self.log_close(id, reason);
        self.forget_gathered(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (kind, forgotten) = (conn.kind, conn.forgotten);
        conn.state = State::Closing;
        conn.reason = Some(reason);
        if let Some(watch) = &mut conn.watch {
            watch.progress_at = self.now.at;
        }
        conn.stalled = false;
        conn.held = false;
        conn.awaits_room = false;
        conn.pong = None;
        // What was taken and not understood is gone, and with it the place in the stream.
        conn.deaf |= conn.unread.take().is_some_and(|unread| unread.len() > 0);
        conn.splicing = super::conn::Splicing::No;
        if let Some(timer) = conn.pace_timer.take() {
            self.timers.cancel(timer);
        }
        // Bytes received before the other end went are delivered first, at the pace at which the peer takes
        // them: its progress is the deadline then, and the close handshake's own begins when they are out.
        if reason.is_patient() && waiting && conn.blocked {
            if let Some(timer) = conn.timer.take() {
                self.timers.cancel(timer);
            }
            self.watch_progress(id);
        } else {
            // One that is not listened to any more cannot answer: it has the time to take our frame.
            let manners = self.shared.settings.manners(kind);
            let brief = self.stage == Stage::Stopping || conn.deaf;
            let span = if brief { CLOSE_TIMEOUT } else { manners.close_timeout };
            self.arm(id, Due::Close, span);
        }
        self.release_stalled(id);
        if !forgotten {
            self.tell(kind, Event::Closed { conn: id, reason });
        }
        self.rearm(id);
    }

    /// Ends a closing connection once its queue is empty and its peer has answered.
    pub(super) fn finish_when_sent(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if self.driver.queued(id) > 0 {
            return;
        }
        if conn.close_received {
            let reason = conn.reason.unwrap_or(Reason::PeerClosed);
            self.finish(id, reason, false);
        } else if conn.timer.is_none() {
            self.arm(id, Due::Close, CLOSE_TIMEOUT);
        }
    }

    /// The close handshake is over its time. One that is patient goes on while the peer still acknowledges
    /// what was sent before.
    pub(super) fn on_close_due(&mut self, id: ConnId) {
        let acks = self.look_at_acks(id);
        let outstanding = acks.is_some_and(|acks| acks.outstanding);
        let stands_still = acks.is_none_or(|acks| acks.still >= self.shared.settings.slow_peer);
        let Some(conn) = self.conns.get(id) else { return };
        let reason = conn.reason.unwrap_or(Reason::HttpDone);
        if reason.is_patient() && outstanding && !stands_still {
            self.arm(id, Due::Close, CLOSE_TIMEOUT.min(self.shared.settings.slow_peer));
        } else {
            // With everything sent and acknowledged an orderly end loses nothing; else there is no one to be orderly
            // with. Unsent is what waits when the shard stood still for that long: its end would be one inside a frame.
            let unsent = self.driver.queued(id) > 0;
            self.finish(id, reason, outstanding || unsent);
        }
    }

    /// Ends the connection now. `reset` makes the peer see an RST.
    pub(super) fn finish(&mut self, id: ConnId, reason: Reason, reset: bool) {
        if self.conns.get(id).is_some_and(|conn| matches!(conn.state, State::Open | State::Spliced)) {
            self.log_close(id, reason);
        }
        self.forget_gathered(id);
        self.leave_place(id);
        self.end_handshake(id);
        let Some(conn) = self.conns.remove(id) else { return };
        self.cancel_timers(&conn);
        self.release_stalled(id);
        self.driver.close(id, reset);
        if matches!(conn.state, State::Open | State::Spliced | State::Closing) {
            self.counters.websockets -= 1;
        }
        self.give_back(conn.standing, conn.counted.then_some(conn.ip));
        let reason = conn.reason.unwrap_or(reason);
        self.counters.closed.count(reason);
        if matches!(conn.state, State::Open | State::Spliced) && !conn.forgotten {
            self.tell(conn.kind, Event::Closed { conn: id, reason });
        }
        if conn.state == State::Answering {
            self.gathers.forget(id);
        }
    }

    pub(super) fn cancel_timers(&mut self, conn: &Conn) {
        let watch = conn.watch.as_ref().and_then(|watch| watch.timer);
        for timer in [conn.timer, conn.pace_timer, watch].into_iter().flatten() {
            self.timers.cancel(timer);
        }
    }

    pub(super) fn on_ended(&mut self, id: ConnId, error: Option<i32>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.mode = super::conn::Mode::Off;
        let reason = if error.is_some() { Reason::PeerReset } else { Reason::PeerEnded };
        // Bytes that came before an orderly end are still paid for and delivered; a reset discards them.
        if conn.state == State::Spliced && error.is_none() && conn.unread_len() > 0 {
            conn.ended = Some(reason);
            conn.reading = false;
            self.pump_unread(id);
            return;
        }
        // Messages that came before it and wait go to their receiver first.
        if conn.state == State::Open && (conn.stalled || conn.awaits_room) && error.is_none() {
            conn.ended = Some(reason);
            conn.reading = false;
            return;
        }
        self.finish(id, reason, false);
    }

    /// The peer of an open connection has ended; once every message of it is given, the connection ends too.
    pub(super) fn end_open(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id)
            && let Some(reason) = conn.ended
            && !conn.waits()
        {
            self.finish(id, reason, false);
        }
    }

    pub(super) fn on_broken(&mut self, id: ConnId, _error: i32) {
        self.finish(id, Reason::PeerReset, false);
    }

    /// Input of a closing connection: only the peer's close frame matters.
    pub(super) fn read_closing(&mut self, id: ConnId, chunk: Chunk) {
        let len = chunk.len();
        let mut cursor = Cursor::at(HEADROOM);
        let mut closed = false;
        if let Some(conn) = self.conns.get_mut(id) {
            while !conn.deaf && !closed {
                let buf = &mut self.driver.bytes_mut(&chunk)[..HEADROOM + len];
                match conn.inbound.relay(buf, &mut cursor, 0, usize::MAX, 0) {
                    Step::Empty => break,
                    Step::Close(_) => closed = true,
                    Step::Fault(_) => conn.deaf = true,
                    _ => {}
                }
            }
        }
        self.driver.release(chunk);
        if closed {
            self.on_close_frame(id, None);
        }
    }

    /// SIGTERM: everything is closed 1001; what has not yet asked for anything is told 503 or dropped.
    pub(super) fn stop(&mut self) {
        if self.stage == Stage::Stopping {
            return;
        }
        self.stage = Stage::Stopping;
        self.driver.stop_accept();
        for id in self.conns.ids() {
            let Some(conn) = self.conns.get(id) else { continue };
            match conn.state {
                State::Open | State::Spliced if conn.is_moving() => {
                    self.close_forgotten(id, Reason::Draining)
                }
                State::Open | State::Spliced | State::Admitting => self.close(id, Reason::Draining),
                // A request may be on its way: it is answered 503.
                State::Head | State::Answering => self.arm(id, Due::Head, CLOSE_TIMEOUT / 2),
                // A close that was given more time has no more than the relay.
                State::Closing if conn.timer.is_some() && conn.kind == Kind::Workspace => {
                    self.arm(id, Due::Close, CLOSE_TIMEOUT);
                }
                State::Closing | State::Lingering => {}
            }
            self.carry_out();
        }
    }

    /// Closes of relayed links are logged, with the shortened link id and nothing else of it.
    fn log_close(&self, id: ConnId, reason: Reason) {
        if let Some(conn) = self.conns.get(id)
            && let Some(splice) = conn.splice
        {
            tracing::debug!(
                shard = self.number,
                link = self.dialects.splice_name(splice),
                leg = ?conn.leg,
                reason = reason.label(),
                "relayed link closes"
            );
        }
    }
}
