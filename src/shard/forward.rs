//! Messages that a dialect passes on, and the senders that wait for their receivers.
//!
//! The part of the message that is passed on leaves from where it lies wherever it can: the new head is
//! written over the old one in front of it. What was received into the driver's memory and ends there is
//! sent from there; what was gathered is handed over; only what has other messages behind it in the same
//! memory is copied, once.
//!
//! A sender whose receiver has more waiting for it than [`DIRECTION_BYTES_HIGH`] is not read until half of
//! that is left. So what waits for one connection is bounded by that and one message for each sender. Where the
//! receiver's dialect lets nobody wait, the receiver that is behind is closed instead.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;

use super::{
    Shard, Shared,
    conn::{Conn, State},
    input::Input,
};
use crate::{
    dialect::{Action, Backlog, workspace::Metric},
    driver::Driver,
    id::ConnId,
    limits::{DIRECTION_BYTES_HIGH, UNOFFERED_BYTES_MAX},
    proto::ws::{Payload, outbound},
    reason::Reason,
};

/// A message just given to a dialect, wherever it lies.
pub(super) struct Given<'a> {
    pub(super) input: &'a mut Input,
    pub(super) payload: Payload,
}

impl Given<'_> {
    /// Its bytes.
    pub(super) fn bytes<'b, D: Driver>(&'b mut self, driver: &'b mut D) -> &'b [u8] {
        match &self.payload {
            Payload::Gathered(bytes) => bytes,
            Payload::Here(range) => &self.input.buf(driver)[range.clone()],
        }
    }
}

/// Senders that are not read because too much waits for a receiver of theirs.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    behind: HashMap<ConnId, Vec<ConnId>>,
    /// Those that may go on, at the end of the turn.
    released: Vec<ConnId>,
}

impl Stalls {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.behind.is_empty() && self.released.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.behind.values().map(Vec::len).sum::<usize>() + self.released.len()
    }
}

impl<D: Driver> Shard<D> {
    /// Carries out what a dialect answered to a message that is still at hand.
    pub(super) fn carry_out_given(&mut self, sender: ConnId, mut given: Given<'_>) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Forward { to, head, body, tail } => {
                    self.forward(sender, &mut given, to, head, body, tail);
                }
                other => self.carry_out_one(other),
            }
        }
        if self.actions.is_empty() {
            // Nothing followed: keep the memory.
            self.actions = actions;
        }
    }

    /// Sends `head`, the part `body` of the message and `tail` as one text message.
    fn forward(
        &mut self,
        sender: ConnId,
        given: &mut Given<'_>,
        to: ConnId,
        head: &'static str,
        body: Range<usize>,
        tail: &'static str,
    ) {
        if !self.takes_more(to) {
            return;
        }
        let header = outbound::text_frame_header(head.len() + body.len() + tail.len());
        let front = [&*header, head.as_bytes()];
        match &mut given.payload {
            Payload::Here(range) => {
                let message = range.clone();
                let run = message.start + body.start..message.start + body.end;
                let buf = given.input.buf(&mut self.driver);
                let is_last = message.end == buf.len();
                match surround(buf, run.clone(), message.end, front, tail) {
                    Some(run) if is_last => self.send_input(to, given.input, run),
                    Some(run) => self.send_part(to, given.input, run),
                    None => {
                        let whole = [&*header, head.as_bytes(), &buf[run], tail.as_bytes()].concat();
                        self.driver.send_vec(to, whole, 0);
                    }
                }
            }
            Payload::Gathered(bytes) => {
                let mut bytes = std::mem::take(bytes);
                let end = bytes.len();
                match surround(&mut bytes, body.clone(), end, front, tail) {
                    Some(run) => {
                        bytes.truncate(run.end);
                        self.driver.send_vec(to, bytes, run.start);
                    }
                    None => {
                        self.driver.send_bytes(to, &front.concat());
                        bytes.truncate(body.end);
                        if !body.is_empty() {
                            self.driver.send_vec(to, bytes, body.start);
                        }
                        self.driver.send_bytes(to, tail.as_bytes());
                    }
                }
            }
        }
        if self.holds_up_senders(to) {
            self.stall_behind(sender, to);
        }
    }

    /// Sends the same message to several.
    pub(super) fn fan_out(&mut self, mut to: Vec<ConnId>, text: &[u8]) {
        to.retain(|conn| self.takes_more(*conn));
        if to.is_empty() {
            return;
        }
        let frame = [&*outbound::text_frame_header(text.len()), text].concat();
        self.driver.send_shared(&to, Bytes::from(frame));
    }

    /// Whether a message may be queued for a connection. One that holds up nobody and has too much waiting for it is
    /// closed instead; so is, while what waits for all of the shard is over its budget, one that did not take what it
    /// was last offered.
    pub(super) fn takes_more(&mut self, to: ConnId) -> bool {
        let Some(conn) = self.conns.get(to).filter(|conn| conn.state == State::Open) else { return false };
        let Shared { settings, .. } = &*self.shared;
        let manners = settings.manners(conn.kind);
        if manners.backlog == Backlog::HoldsUpSenders {
            return true;
        }
        let queued = self.driver.queued(to);
        let bound = manners.queue_bytes_max + if conn.blocked { 0 } else { UNOFFERED_BYTES_MAX };
        let over_budget = conn.blocked && queued > 0 && self.driver.held_bytes() > settings.outbox_bytes_max;
        if queued <= bound && !over_budget {
            return true;
        }
        self.counters.outbox_budget_waits += u64::from(over_budget);
        self.count(Metric::WsSlowClientTerminated);
        self.close(to, Reason::BufferOverflow);
        false
    }

    /// Whether who sends to a connection waits for it.
    pub(super) fn holds_up_senders(&self, to: ConnId) -> bool {
        let of = |conn: &Conn| self.shared.settings.manners(conn.kind).backlog == Backlog::HoldsUpSenders;
        self.conns.get(to).is_none_or(of)
    }

    /// Sends a part of input that nothing more is read from: from where it lies, if that is the driver's memory.
    fn send_input(&mut self, to: ConnId, input: &mut Input, run: Range<usize>) {
        match std::mem::replace(input, Input::Gone) {
            Input::Chunk(chunk) => self.driver.send_chunk(to, chunk, run),
            other => {
                *input = other;
                self.send_part(to, input, run);
            }
        }
    }

    /// Sends a copy of a part of input.
    fn send_part(&mut self, to: ConnId, input: &mut Input, run: Range<usize>) {
        match input {
            Input::Chunk(chunk) => self.driver.send_part(to, chunk, run),
            Input::Unread(unread) => self.driver.send_bytes(to, &unread.parts().0[run]),
            Input::Gone => debug_assert!(false, "a message is forwarded once"),
        }
    }

    /// Stops reading `sender` if too much waits for `receiver`, until that has taken enough of it.
    pub(super) fn stall_behind(&mut self, sender: ConnId, receiver: ConnId) {
        let queued = self.driver.queued(receiver);
        let over_budget = queued > 0 && self.driver.held_bytes() > self.shared.settings.outbox_bytes_max;
        if queued <= DIRECTION_BYTES_HIGH && !over_budget {
            return;
        }
        let Some(conn) = self.conns.get_mut(sender).filter(|conn| !conn.stalled) else { return };
        conn.stalled = true;
        self.counters.stalls += 1;
        self.counters.outbox_budget_waits += u64::from(over_budget);
        self.stalls.behind.entry(receiver).or_default().push(sender);
    }

    /// The receiver has taken enough, or is gone: its senders go on at the end of the turn.
    pub(super) fn release_stalled(&mut self, receiver: ConnId) {
        if let Some(senders) = self.stalls.behind.remove(&receiver) {
            self.stalls.released.extend(senders);
        }
    }

    /// Reads on where it was stopped.
    pub(super) fn resume_released(&mut self) {
        while !self.stalls.released.is_empty() {
            for sender in std::mem::take(&mut self.stalls.released) {
                if let Some(conn) = self.conns.get_mut(sender) {
                    conn.stalled = false;
                    self.go_on(sender);
                    self.carry_out();
                }
            }
        }
    }
}

/// Writes `front` and `tail` around the part `body` of a buffer, where there is room for them: everything
/// before `body`, and what lies behind it up to `end`, may be overwritten. Returns where the whole of it
/// lies.
fn surround(
    buf: &mut [u8],
    body: Range<usize>,
    end: usize,
    front: [&[u8]; 2],
    tail: &str,
) -> Option<Range<usize>> {
    let start = body.start.checked_sub(front[0].len() + front[1].len())?;
    if end - body.end < tail.len() {
        return None;
    }
    buf[start..start + front[0].len()].copy_from_slice(front[0]);
    buf[start + front[0].len()..body.start].copy_from_slice(front[1]);
    buf[body.end..body.end + tail.len()].copy_from_slice(tail.as_bytes());
    Some(start..body.end + tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_surrounds_a_part_is_written_where_there_is_room() {
        let mut buf = *b"0123456789body}}}next";
        assert_eq!(surround(&mut buf, 10..14, 17, [b"ab", b"cd"], "}"), Some(6..15));
        assert_eq!(&buf, b"012345abcdbody}}}next");
        assert_eq!(surround(&mut buf, 3..14, 17, [b"ab", b"cd"], "}"), None, "too little in front");
        assert_eq!(surround(&mut buf, 10..17, 17, [b"ab", b"cd"], "}"), None, "too little behind");
        assert_eq!(&buf, b"012345abcdbody}}}next");
    }
}
