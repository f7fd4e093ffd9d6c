//! The pump: one direction of a splice, from its source's bytes to its destination's queue.
//!
//! Bytes are forwarded as they come and from where they lie. The only flow control is not to read: while the
//! destination does not take what it has, or while pacing says wait. What had been received by then is set
//! aside with the source (`unread`) in its raw form and goes through the same translation when its time has
//! come.

use super::{
    Shard,
    conn::{Mode, Splicing, State},
    input::Input,
};
use crate::{
    dialect::{Event, SpliceId},
    driver::{Chunk, Driver, Read, SpliceIn},
    id::ConnId,
    limits::DIRECTION_BYTES_HIGH,
    pacing::Leg,
    proto::ws::{Cursor, Step, header::CLIENT_HEADER_BYTES_MAX},
    reason::Reason,
    timers::Alarm,
};

/// What made the pump stop before the end of its input.
enum Stop {
    Close(Option<u16>),
    Fault(Reason),
}

/// How far a run of the translation may go: see `Inbound::relay`.
struct Limits {
    following: usize,
    budget: usize,
    splice_min: usize,
}

/// What a run of the translation over some input came to.
struct Ran {
    cursor: Cursor,
    stop: Option<Stop>,
    spliceable: bool,
}

impl<D: Driver> Shard<D> {
    /// Joins two connections; both may already have bytes unread, and a message begun.
    pub(super) fn splice(&mut self, client: ConnId, host: ConnId, splice: SpliceId) {
        for (id, partner, leg) in [(client, host, Leg::Client), (host, client, Leg::Host)] {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            if conn.state != State::Open {
                continue;
            }
            conn.state = State::Spliced;
            conn.partner = partner;
            conn.leg = leg;
            conn.splice = Some(splice);
        }
        for id in [client, host] {
            self.forward_gathered(id, splice);
            self.go_on(id);
        }
    }

    /// Forwards the beginning of a message that began before the link relayed and ends as payload. It is charged like
    /// any: the buckets of a link are full when it begins.
    fn forward_gathered(&mut self, id: ConnId, splice: SpliceId) {
        let Some(gathered) = self.take_gathered(id) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        let destination = conn.partner;
        let Some(header) = conn.inbound.relay_gathered(&gathered) else { return };
        if self.takes_from(destination, id) {
            self.driver.send_bytes(destination, &[&header, gathered.bytes()].concat());
            self.account(id, splice, gathered.bytes().len() as u64, 0);
        }
    }

    /// Forwards a chunk just received.
    pub(super) fn pump_chunk(&mut self, id: ConnId, chunk: Chunk, following: usize) {
        let now = self.now.at;
        let want = (chunk.len() + following) as u64;
        let Some(conn) = self.conns.get(id) else { return self.driver.release(chunk) };
        let Some(splice) = conn.splice else { return self.driver.release(chunk) };
        let may_splice = matches!(conn.splicing, Splicing::No | Splicing::Expecting);
        let destination = conn.partner;
        let behind_others = conn.unread_len() > 0;
        let allowed = !behind_others
            && match self.dialects.ledger(splice) {
                Some((ledger, rates)) => {
                    ledger.budget.allow(rates, now, want).is_ok_and(|bytes| bytes >= want)
                }
                None => false,
            };
        if !allowed {
            self.expect_no_pipe(id);
            self.set_aside(id, chunk);
            if following == 0 {
                self.pump_unread(id);
            }
            return;
        }
        if !self.takes_from(destination, id) {
            return self.driver.release(chunk);
        }
        let splice_min = if may_splice { self.shared.settings.splice_bytes_min } else { 0 };
        let mut input = Input::Chunk(chunk);
        let ran = self.translate(id, &mut input, Limits { following, budget: usize::MAX, splice_min });
        if let Input::Chunk(chunk) = input {
            self.driver.send_chunk(destination, chunk, ran.cursor.out.clone());
        }
        self.account(id, splice, ran.cursor.payload as u64, ran.cursor.messages as u64);
        self.after_run(id, ran);
    }

    /// Forwards what was set aside, as far as the destination and the pacing let it.
    pub(super) fn pump_unread(&mut self, id: ConnId) {
        loop {
            let Some(conn) = self.conns.get_mut(id) else { return };
            let (Some(splice), State::Spliced) = (conn.splice, conn.state) else { return };
            let len = conn.unread_len();
            if len == 0 {
                conn.unread = None;
                return self.end_source(id);
            }
            let destination = conn.partner;
            if !self.takes_from(destination, id) || self.must_stall(id) {
                return;
            }
            let want = len.min(SLICE_BYTES_MAX) as u64;
            let Some((ledger, rates)) = self.dialects.ledger(splice) else { return };
            let budget = match ledger.budget.allow(rates, self.now.at, want) {
                Ok(bytes) => bytes as usize,
                Err(at) => {
                    // Held by pacing is activity until it is due (link.md section 5).
                    ledger.active_at = ledger.active_at.max(at);
                    return self.wait_for_pace(id, at);
                }
            };
            let Some(unread) = self.conns.get_mut(id).and_then(|conn| conn.unread.take()) else { return };
            let mut input = Input::Unread(unread);
            let ran = self.translate(id, &mut input, Limits { following: 0, budget, splice_min: 0 });
            if let Input::Unread(mut unread) = input {
                self.driver.send_bytes(destination, &unread.parts().0[ran.cursor.out.clone()]);
                unread.advance_to(ran.cursor.read);
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.unread = Some(unread);
                }
            }
            self.account(id, splice, ran.cursor.payload as u64, ran.cursor.messages as u64);
            if ran.stop.is_some() {
                return self.after_run(id, ran);
            }
        }
    }

    /// Turns input into frames for the other end, in place, and answers what is not for it.
    fn translate(&mut self, id: ConnId, input: &mut Input, limits: Limits) -> Ran {
        let Limits { following, budget, splice_min } = limits;
        let mut cursor = Cursor::at(input.start());
        let mut stop = None;
        let mut spliceable = false;
        while let Some(conn) = self.conns.get_mut(id) {
            let left = budget - cursor.payload;
            match conn.inbound.relay(input.buf(&mut self.driver), &mut cursor, following, left, splice_min) {
                Step::Empty | Step::Budget => break,
                Step::Ping(payload) => self.pong(id, payload),
                Step::Pong => conn.unanswered = 0,
                Step::Spliceable => spliceable = true,
                Step::Close(code) => {
                    stop = Some(Stop::Close(code));
                    break;
                }
                Step::Fault(reason) => {
                    stop = Some(Stop::Fault(reason));
                    break;
                }
                Step::Message { .. } | Step::TooLong | Step::NoRoom(_) => {
                    debug_assert!(false, "relaying collects nothing")
                }
            }
        }
        Ran { cursor, stop, spliceable }
    }

    /// Charges and counts what went to the destination.
    fn account(&mut self, id: ConnId, splice: SpliceId, payload: u64, messages: u64) {
        if payload == 0 && messages == 0 {
            // Control frames are no traffic: our own pings would keep an idle link alive.
            return;
        }
        let Some(conn) = self.conns.get(id) else { return };
        let leg = conn.leg;
        let news = self.dialects.charge(splice, self.now.at, leg, payload);
        let flow = match leg {
            Leg::Client => &mut self.counters.from_client,
            Leg::Host => &mut self.counters.from_host,
        };
        flow.bytes += payload;
        flow.messages += messages;
        if news {
            self.tell(splice.kind, Event::Usage { splice });
        }
    }

    /// Whether the destination is still joined to the source; a closing one gets nothing behind its close
    /// frame.
    fn takes_from(&self, destination: ConnId, source: ConnId) -> bool {
        self.conns.get(destination).is_some_and(|conn| conn.state == State::Spliced && conn.partner == source)
    }

    /// What has to happen once the run's output is queued.
    fn after_run(&mut self, id: ConnId, ran: Ran) {
        match ran.stop {
            Some(Stop::Close(code)) => self.on_close_frame(id, code),
            Some(Stop::Fault(reason)) => self.on_fault(id, reason),
            None => {
                if ran.spliceable {
                    self.begin_piping(id);
                } else {
                    self.expect_no_pipe(id);
                }
                self.must_stall(id);
            }
        }
    }

    /// The source has ended and everything it sent is forwarded.
    fn end_source(&mut self, id: ConnId) {
        if let Some(reason) = self.conns.get(id).and_then(|conn| conn.ended) {
            self.finish(id, reason, false);
        }
    }

    /// Whether the source has to wait for its destination; if so it is marked, and goes on from `on_sent`.
    fn must_stall(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        let partner = conn.partner;
        let queued = self.driver.queued(partner);
        let Some(destination) = self.conns.get(partner) else { return false };
        let over_budget = queued > 0 && self.driver.held_bytes() > self.shared.settings.outbox_bytes_max;
        if !(destination.blocked && (queued > DIRECTION_BYTES_HIGH || over_budget)) {
            return false;
        }
        self.counters.stalls += 1;
        self.counters.outbox_budget_waits += u64::from(over_budget);
        let conn = self.conns.get_mut(id).expect("looked at above");
        conn.stalled = true;
        true
    }

    /// The destination's kernel took something (or, with `left`, not all).
    pub(super) fn on_destination_progress(&mut self, id: ConnId, left: usize) {
        if left > 0 {
            self.watch_progress(id);
        }
        let Some(conn) = self.conns.get(id) else { return };
        let source_id = conn.partner;
        let Some(source) = self.conns.get_mut(source_id) else { return };
        if source.partner != id || source.state != State::Spliced {
            return;
        }
        if !source.stalled {
            if left > DIRECTION_BYTES_HIGH && self.must_stall(source_id) {
                self.rearm(source_id);
            }
        } else if left <= DIRECTION_BYTES_HIGH / 2 {
            source.stalled = false;
            self.pump_unread(source_id);
            self.rearm(source_id);
        }
    }

    fn wait_for_pace(&mut self, id: ConnId, at: crate::time::Time) {
        let now = self.now.at;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.pace_timer.is_none() {
            self.counters.paced_us += at.since(now).as_micros() as u64;
            conn.pace_timer = Some(self.timers.arm(at, Alarm::Pace(id)));
        }
    }

    /// Pacing may have something for this source. The direction that went last lets the other one go first.
    pub(super) fn on_paced(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.pace_timer = None;
        let (splice, leg, partner) = (conn.splice, conn.leg, conn.partner);
        let went_last = splice
            .and_then(|splice| self.dialects.ledger(splice))
            .is_some_and(|(ledger, _)| ledger.last == leg);
        if went_last
            && let Some(other) = self.conns.get_mut(partner)
            && let Some(timer) = other.pace_timer.take()
        {
            self.timers.cancel(timer);
            self.pump_unread(partner);
            self.rearm(partner);
        }
        self.pump_unread(id);
        self.rearm(id);
    }

    /// How a spliced source is to be read; `None` leaves it as it is.
    pub(super) fn pump_read(&mut self, id: ConnId) -> Option<Read> {
        let conn = self.conns.get_mut(id)?;
        if conn.splicing == Splicing::Stopping && conn.mode == Mode::Off && conn.unread_len() == 0 {
            // What came meanwhile may have ended the frame that was offered and begun one with a mask.
            let may_pipe = conn.inbound.is_spliceable(PIPE_BYTES_MIN);
            conn.splicing = if may_pipe { Splicing::Yes } else { Splicing::No };
        }
        if conn.splicing == Splicing::Yes {
            return self.pipe(id);
        }
        if conn.stalled || conn.unread_len() > 0 || conn.splicing == Splicing::Stopping {
            return Some(Read::Off);
        }
        let (splice, mode) = (conn.splice?, conn.mode);
        let header_alone = conn.splicing == Splicing::Expecting;
        let (ledger, rates) = self.dialects.ledger(splice)?;
        match ledger.budget.allow(rates, self.now.at, DIRECTION_BYTES_HIGH as u64) {
            Ok(bytes) if header_alone => {
                Some(Read::Once { bytes_max: bytes.min(CLIENT_HEADER_BYTES_MAX as u64) as u32 })
            }
            Ok(bytes) if bytes >= DIRECTION_BYTES_HIGH as u64 => Some(Read::Stream),
            // Close to the limit, no more is read than is paid for.
            Ok(bytes) => Some(Read::Once { bytes_max: bytes as u32 }),
            Err(_) if mode == Mode::Once => None,
            Err(at) => {
                self.wait_for_pace(id, at);
                Some(Read::Off)
            }
        }
    }

    // --- Large zero-mask frames, through a pipe (DESIGN section 1, decision 6) ---

    /// Asks for pipes: [`Shard::pump_read`] turns receiving off, and what it had taken still goes through
    /// buffers.
    fn begin_piping(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.splicing = Splicing::Stopping;
        }
    }

    pub(super) fn on_readable(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.mode = Mode::Off;
            self.rearm(id);
        }
    }

    /// Moves what is there of the frame, header first, until the source is empty or has to wait. Returns how the
    /// source is to be watched from then on: one that waits is not read, and so not judged by its pongs.
    fn pipe(&mut self, id: ConnId) -> Option<Read> {
        loop {
            let conn = self.conns.get_mut(id)?;
            let (Some(splice), State::Spliced) = (conn.splice, conn.state) else { return None };
            let left = conn.inbound.frame_left();
            if left == 0 {
                self.end_piping(id, Splicing::Expecting);
                return None;
            }
            let destination = conn.partner;
            let stalled = conn.stalled;
            if conn.mode != Mode::Off || !self.takes_from(destination, id) {
                return None;
            }
            if stalled || self.must_stall(id) {
                return Some(Read::Off);
            }
            let (ledger, rates) = self.dialects.ledger(splice)?;
            let want = left.min(PIPE_BYTES_MAX);
            let bytes = match ledger.budget.allow(rates, self.now.at, want) {
                Ok(bytes) => bytes as usize,
                Err(at) => {
                    self.wait_for_pace(id, at);
                    return Some(Read::Off);
                }
            };
            match self.driver.splice_in(id, bytes) {
                SpliceIn::Moved(pipe, moved) => {
                    let conn = self.conns.get_mut(id).expect("looked at above");
                    let header = conn.inbound.skip(moved);
                    let messages = u64::from(conn.inbound.is_between_messages());
                    self.driver.send_bytes(destination, &header);
                    self.driver.send_pipe(destination, pipe);
                    self.account(id, splice, moved as u64, messages);
                }
                SpliceIn::Empty => return Some(Read::Readiness),
                SpliceIn::Unavailable => {
                    self.end_piping(id, Splicing::No);
                    return None;
                }
                SpliceIn::Ended(error) => {
                    self.on_ended(id, error);
                    return None;
                }
            }
        }
    }

    fn end_piping(&mut self, id: ConnId, next: Splicing) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.splicing = next;
            self.rearm(id);
        }
    }

    /// What came was no large frame's header: receiving goes on as usual.
    fn expect_no_pipe(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.splicing == Splicing::Expecting) {
            conn.splicing = Splicing::No;
        }
    }
}

/// The most that is set free of what was set aside before the other direction has its turn.
const SLICE_BYTES_MAX: usize = 64 * 1024;
/// Less than this left of a frame is not worth turning receiving off for.
const PIPE_BYTES_MIN: usize = 64 * 1024;
/// The most that is moved at once: the capacity of a pipe.
const PIPE_BYTES_MAX: u64 = 256 * 1024;
