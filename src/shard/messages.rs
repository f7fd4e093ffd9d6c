//! Upgraded connections without a partner: frames become messages for the dialect.

use std::{borrow::Cow, ops::Range};

use super::{
    Shard,
    assembly::{Class, reserved},
    conn::{Errand, Mode, Moving, State},
    forward::Given,
    http::ANSWERS_BYTES_HIGH,
    input::Input,
};
use crate::{
    dialect::{Action, Cx, Event},
    driver::{Chunk, Driver, HEADROOM, Read},
    id::ConnId,
    limits::{DIRECTION_BYTES_HIGH, HEAD_BYTES_MAX},
    proto::ws::{Control, Cursor, Payload, Step, outbound},
    reason::Reason,
};

impl<D: Driver> Shard<D> {
    pub(super) fn on_received(&mut self, id: ConnId, chunk: Chunk, following: usize) {
        let Some(conn) = self.conns.get_mut(id) else {
            self.counters.stale += 1;
            self.driver.release(chunk);
            return;
        };
        if conn.mode == Mode::Once {
            // Off by itself, and what follows of it can no longer be stopped.
            conn.mode = Mode::Off;
        }
        match conn.state {
            State::Admitting => self.set_aside(id, chunk),
            State::Head | State::Answering => {
                self.set_aside(id, chunk);
                if following == 0 {
                    self.serve(id);
                }
            }
            State::Open if conn.waits() || conn.unread_len() > 0 => self.set_aside(id, chunk),
            State::Open => self.read_messages(id, Input::Chunk(chunk)),
            State::Spliced => self.pump_chunk(id, chunk, following),
            State::Closing => self.read_closing(id, chunk),
            State::Lingering => self.driver.release(chunk),
        }
        if following == 0 {
            self.rearm(id);
        }
    }

    /// Copies a chunk behind what is unread.
    pub(super) fn set_aside(&mut self, id: ConnId, chunk: Chunk) {
        if let Some(conn) = self.conns.get_mut(id) {
            let bytes = &self.driver.bytes_mut(&chunk)[HEADROOM..HEADROOM + chunk.len()];
            conn.unread.get_or_insert_default().append(bytes);
        }
        self.driver.release(chunk);
    }

    /// Goes on with what is unread, in whatever state the connection is, and reads again.
    pub(super) fn go_on(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match conn.state {
            State::Open if conn.waits() => {}
            State::Open => {
                if let Some(unread) = conn.unread.take() {
                    self.read_messages(id, Input::Unread(unread));
                } else {
                    self.end_open(id);
                }
            }
            State::Spliced => self.pump_unread(id),
            State::Head => self.serve(id),
            State::Admitting | State::Answering | State::Closing | State::Lingering => {}
        }
        self.rearm(id);
    }

    /// Reads messages until the input ends or something else has to happen first; the rest is set aside.
    fn read_messages(&mut self, id: ConnId, mut input: Input) {
        let (start, end) = (input.start(), input.buf(&mut self.driver).len());
        let mut cursor = Cursor::at(start);
        while let Some(conn) = self.conns.get_mut(id) {
            if conn.state != State::Open || conn.waits() || matches!(input, Input::Gone) {
                break;
            }
            let settings = &self.shared.settings;
            let manners = settings.manners(conn.kind);
            let bounds = self.assembly.bounds(id, conn, manners.message_bytes_max, settings);
            let before = reserved(conn.gathered.as_deref());
            let buf = input.buf(&mut self.driver);
            let step = conn.inbound.collect(buf, &mut cursor, bounds, &mut conn.gathered);
            self.assembly.note(Class::of(conn), before, reserved(conn.gathered.as_deref()));
            match step {
                Step::Empty => break,
                Step::Ping(payload) => self.pong(id, payload),
                Step::Pong => (conn.unanswered, conn.active_at) = (0, self.now.at),
                Step::Close(code) => self.on_close_frame(id, code),
                Step::Fault(reason) => self.on_fault(id, reason),
                Step::TooLong => {
                    let reason = manners.too_long;
                    self.on_fault(id, reason);
                }
                Step::NoRoom(bytes) => self.wait_for_room(id, bytes),
                Step::Message { text, payload } => {
                    conn.active_at = self.now.at;
                    let as_text = manners.binary_is_text && !text;
                    let payload = if as_text { replaced(payload, buf) } else { payload };
                    self.give(id, &mut input, text, payload, false);
                }
                Step::Budget | Step::Spliceable => debug_assert!(false, "collecting knows neither"),
            }
            self.carry_out();
        }
        self.put_back(id, input, cursor.read..end);
    }

    /// Disposes of the input; what was not processed stays with the connection.
    fn put_back(&mut self, id: ConnId, input: Input, rest: Range<usize>) {
        let conn = self.conns.get_mut(id);
        match input {
            Input::Chunk(chunk) => {
                if let Some(conn) = conn
                    && !rest.is_empty()
                {
                    conn.unread.get_or_insert_default().append(&self.driver.bytes_mut(&chunk)[rest]);
                }
                self.driver.release(chunk);
            }
            Input::Unread(mut unread) => {
                unread.advance_to(rest.start);
                if let Some(conn) = conn
                    && !rest.is_empty()
                {
                    conn.unread = Some(unread);
                }
            }
            Input::Gone => {}
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        match conn.state {
            State::Spliced if conn.unread_len() > 0 => self.pump_unread(id),
            State::Closing => self.drop_unread(id),
            State::Open => self.end_open(id),
            _ => {}
        }
    }

    /// Gives a message to the dialect and carries out what it answers.
    fn give(&mut self, id: ConnId, input: &mut Input, text: bool, payload: Payload, moved: bool) {
        let Some(kind) = self.conns.get(id).map(|conn| conn.kind) else { return };
        let mut given = Given { input, payload };
        let Shard { driver, dialects, timers, actions, random, shared, now, .. } = &mut *self;
        let mut cx = Cx { now: *now, random, policy: &shared.policy, timers, actions };
        let bytes = given.bytes(driver);
        dialects.handle(&mut cx, kind, Event::Message { conn: id, text, bytes, moved });
        let Some(shard) = self.take_move(id) else { return self.carry_out_given(id, given) };
        let bytes = given.bytes(&mut self.driver).to_vec();
        self.carry_out();
        self.decide_move(id, Moving { shard, errand: Errand::Message { text, bytes } });
    }

    /// Gives the message that brought the connection here.
    pub(super) fn give_moved(&mut self, id: ConnId, text: bool, message: Vec<u8>) {
        self.give(id, &mut Input::Gone, text, Payload::Gathered(message), true);
    }

    /// The dialect's decision to move this connection, if it made one.
    fn take_move(&mut self, id: ConnId) -> Option<u16> {
        let moves = |action: &Action| matches!(action, Action::Move { conn, .. } if *conn == id);
        let position = self.actions.iter().position(moves)?;
        match self.actions.remove(position) {
            Action::Move { shard, .. } => Some(shard),
            _ => unreachable!("the position is that of a move"),
        }
    }

    pub(super) fn send_text(&mut self, id: ConnId, text: &str) {
        let Some(conn) = self.conns.get(id) else { return };
        if !matches!(conn.state, State::Open | State::Spliced) {
            return;
        }
        let queue_bytes_max = self.shared.settings.manners(conn.kind).queue_bytes_max;
        let holds_up = self.holds_up_senders(id);
        let queued = self.driver.queued(id);
        if holds_up && queued > 0 && queued + text.len() > queue_bytes_max {
            // One that does not read its own notices. A long one alone says nothing of its reader.
            self.counters.notices_dropped += 1;
            self.close(id, Reason::SlowPeer);
            return;
        }
        if !holds_up && !self.takes_more(id) {
            return;
        }
        let mut frame = Vec::with_capacity(text.len() + HEADROOM);
        frame.extend_from_slice(&outbound::text_frame_header(text.len()));
        frame.extend_from_slice(text.as_bytes());
        self.driver.send_bytes(id, &frame);
        if holds_up && self.driver.queued(id) > DIRECTION_BYTES_HIGH {
            // One that does not read what it asks for is not read either.
            self.stall_behind(id, id);
        }
    }

    /// Answers a ping at once, or as soon as what is queued has left; only the newest is answered then.
    pub(super) fn pong(&mut self, id: ConnId, payload: Control) {
        let waits = self.driver.queued(id) > 0;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if waits && conn.blocked {
            conn.pong = Some(Box::new(payload));
        } else {
            self.driver.send_bytes(id, &outbound::pong_frame(&payload));
        }
    }

    pub(super) fn hold(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.held = true;
        }
        self.rearm(id);
    }

    pub(super) fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.held = false;
            self.go_on(id);
        }
    }

    /// Reads the connection the way its state asks for.
    pub(super) fn rearm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.ended.is_some() {
            return;
        }
        let single = Read::Once { bytes_max: HEAD_BYTES_MAX as u32 };
        let how = match conn.state {
            State::Head if self.driver.queued(id) > ANSWERS_BYTES_HIGH => Read::Off,
            State::Head | State::Lingering => single,
            State::Answering => Read::Off,
            State::Admitting | State::Open if conn.is_moving() => return self.depart(id),
            State::Admitting => Read::Off,
            State::Open if conn.waits() => Read::Off,
            State::Open if conn.settled => Read::Stream,
            State::Open => single,
            State::Spliced => match self.pump_read(id) {
                Some(how) => how,
                None => return,
            },
            State::Closing if conn.close_received => Read::Off,
            State::Closing => Read::Stream,
        };
        self.set_read(id, how);
    }

    /// Tells the driver, unless it knows. When reading begins anew, an outstanding ping is forgotten.
    ///
    /// From one way of reading to another it goes through a stop, so that bytes can never come in two ways at
    /// once.
    pub(super) fn set_read(&mut self, id: ConnId, how: Read) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let wanted = match how {
            Read::Off => Mode::Off,
            Read::Once { .. } => Mode::Once,
            Read::Stream => Mode::Stream,
            Read::Readiness => Mode::Readiness,
        };
        let reads = wanted != Mode::Off;
        if reads && !conn.reading {
            conn.unanswered = 0;
        }
        conn.reading = reads;
        if conn.mode == wanted || conn.mode == Mode::Stopping {
            return;
        }
        match conn.mode {
            // Watching for something to read takes no byte: it changes at once, and answers no stop.
            Mode::Off | Mode::Readiness => {
                conn.mode = wanted;
                self.driver.read(id, how);
            }
            _ => {
                conn.mode = Mode::Stopping;
                self.driver.read(id, Read::Off);
            }
        }
    }

    /// Nothing more is received: whatever the connection needs now can be asked.
    pub(super) fn on_stopped(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.mode = Mode::Off;
            self.rearm(id);
        }
    }

    pub(super) fn on_sent(&mut self, id: ConnId, bytes: usize) {
        let left = self.driver.queued(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.sent += bytes as u64;
        conn.blocked = left > 0;
        if left == 0
            && let Some(pong) = conn.pong.take()
        {
            self.driver.send_bytes(id, &outbound::pong_frame(&pong));
        }
        match conn.state {
            State::Spliced => self.on_destination_progress(id, left),
            State::Closing => self.finish_when_sent(id),
            State::Head if left <= ANSWERS_BYTES_HIGH => {
                if left > 0 {
                    self.watch_progress(id);
                }
                self.go_on(id);
            }
            State::Admitting | State::Open if left == 0 && conn.is_moving() => self.depart(id),
            _ if left > 0 => self.watch_progress(id),
            _ => {}
        }
        if left <= DIRECTION_BYTES_HIGH / 2 && !self.stalls.is_empty() {
            self.release_stalled(id);
        }
    }
}

/// A binary message as text: where it is not UTF-8, what is not is replaced.
fn replaced(payload: Payload, buf: &[u8]) -> Payload {
    let bytes = match &payload {
        Payload::Here(range) => &buf[range.clone()],
        Payload::Gathered(bytes) => bytes,
    };
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(_) => payload,
        Cow::Owned(text) => Payload::Gathered(text.into_bytes()),
    }
}
