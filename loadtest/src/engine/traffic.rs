//! What links that are up do: the patterns, sending and receiving.

use std::io::IoSlice;

use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{RecvFlags, SendFlags},
};

use super::{
    link::State,
    payload::{FRONT_BYTES_MAX, Stamp, following},
    reader::{Arrival, Fault},
    setup::broken,
    tally,
    wire::{self, Refusal},
    worker::{READS_PER_TURN, RUN_BYTES, Worker},
};
use crate::{dialect::Dialect, scenario::Pattern};

impl Worker {
    /// A connection is ready in these ways.
    pub(super) fn ready(&mut self, token: u32, flags: EventFlags) {
        if self.host_of(token).is_some() || self.ends[token as usize].talk.is_some() {
            return self.talk_ready(token, flags);
        }
        if self.is_unread(token, flags) {
            return;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
            self.receive(token, flags.intersects(EventFlags::HUP | EventFlags::RDHUP | EventFlags::ERR));
        }
        if flags.contains(EventFlags::OUT) {
            self.pump(token);
        }
    }

    /// Lets every link send whose message is due.
    pub(super) fn send_what_is_due(&mut self) {
        if !self.is_flowing {
            return;
        }
        while let Some(link) = self.schedules.take_due(self.now) {
            let number = link as usize;
            self.links[number].allowed = following(self.links[number].allowed);
            if self.links[number].state == State::Up {
                self.pump(2 * link);
            }
        }
    }

    /// Reads what is there, but not without end. Where the peer has closed, to the end.
    fn receive(&mut self, token: u32, has_ended: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for turn in 0..READS_PER_TURN {
            let Some(socket) = &self.ends[token as usize].socket else { break };
            match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.end_of_connection(token, &Refusal::Ended);
                    break;
                }
                Ok((count, _)) => {
                    self.take(token, &buffer[..count]);
                    // Fewer bytes than asked for: there are no more, and the next ones will be told.
                    if count < buffer.len() && !has_ended {
                        break;
                    }
                    if turn == READS_PER_TURN - 1 {
                        self.come_back(token);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.end_of_connection(token, &broken(error));
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes bytes that arrived at an end.
    pub(super) fn take(&mut self, token: u32, mut input: &[u8]) {
        loop {
            let end = &mut self.ends[token as usize];
            if end.socket.is_none() {
                return;
            }
            // What arrives at one end left from the other.
            let expected = Stamp {
                link: self.first_link + token / 2,
                from_host: token & 1 == 0,
                sequence: end.received,
            };
            match end.reader.next(&mut input, expected, &self.payload, self.scenario.dialect()) {
                Ok(None) => return,
                Ok(Some(Arrival::Message { bytes, compared })) => {
                    self.message_arrived(token, bytes, compared)
                }
                Ok(Some(Arrival::Text(text))) => self.text_arrived(token, expected, &text),
                // Of many pings that are not read, not all need an answer (RFC 6455 section 5.5.3).
                Ok(Some(Arrival::Ping(_))) if end.backlog.len() > self.backlog_bytes_max => {}
                Ok(Some(Arrival::Ping(payload))) => {
                    end.backlog.extend(wire::pong(&payload));
                    self.tally.pings += u64::from(self.is_counting);
                    self.pump(token);
                }
                Ok(Some(Arrival::Close(code, text))) => self.close_arrived(token, code, text),
                Err(fault) => return self.fail_verification(token, &fault),
            }
        }
    }

    pub(super) fn message_arrived(&mut self, token: u32, bytes: u32, compared: u32) {
        let link = token / 2;
        let end = &mut self.ends[token as usize];
        let sequence = end.received;
        end.received = following(sequence);
        self.received += 1;
        self.sample.messages += 1;
        self.sample.payload_bytes += u64::from(bytes);
        self.tally.verification.messages += 1;
        self.tally.verification.payload_bytes += u64::from(compared);
        if self.is_counting {
            let link = &mut self.links[link as usize];
            let part = &mut self.tally.parts[usize::from(link.part)];
            part.messages += 1;
            part.payload_bytes += u64::from(bytes);
            link.bytes += u64::from(bytes);
        }
        let is_host = token & 1 == 1;
        match self.links[link as usize].pattern {
            Pattern::Stream | Pattern::Duplex => {}
            Pattern::Rate => {
                let part = usize::from(self.links[link as usize].part);
                let asked = sequence.wrapping_add(self.links[link as usize].skipped);
                self.record_latency(link, self.schedules.due(part, link, asked));
            }
            Pattern::Pingpong | Pattern::Idle | Pattern::Churn if is_host => self.pump(token),
            Pattern::Pingpong => {
                self.record_latency(link, self.links[link as usize].since);
                if !self.pause(link) {
                    self.pump(token);
                }
            }
            Pattern::Idle => {}
            Pattern::Churn if self.links[link as usize].state != State::Up => {}
            Pattern::Churn => self.close_session(link),
        }
    }

    /// Keeps a latency of a link, if they are kept now.
    pub(super) fn record_latency(&mut self, link: u32, since: u64) {
        if !self.is_recording {
            return;
        }
        let microseconds = self.now.saturating_sub(since) / 1000;
        let part = &mut self.tally.parts[usize::from(self.links[link as usize].part)];
        tally::record(&mut part.latency, microseconds);
        if part.is_leading {
            tally::record(&mut self.sample.latency, microseconds);
        }
    }

    fn close_arrived(&mut self, token: u32, code: Option<u16>, text: String) {
        match self.links[token as usize / 2].state {
            State::Closing => self.answer_close(token),
            State::Struck => self.struck_told(token, Refusal::Closed(code, text)),
            _ => self.fail_link(token / 2, &Refusal::Closed(code, text)),
        }
    }

    fn end_of_connection(&mut self, token: u32, refusal: &Refusal) {
        match self.links[token as usize / 2].state {
            State::Closing => self.end_of_session(token),
            State::Struck => self.struck_end(token, refusal),
            _ if !self.ends[token as usize].reader.is_between() => {
                let fault = Fault::Frame("the connection ended within a message");
                self.fail_verification(token, &fault);
            }
            _ => self.fail_link(token / 2, refusal),
        }
    }

    /// What arrived is not what was sent: the run has failed, and this link is not followed any further.
    pub(super) fn fail_verification(&mut self, token: u32, fault: &Fault) {
        let (link, end) = (self.first_link + token / 2, self.scenario.dialect().end(token & 1 == 1));
        self.tally.add_failure(format!("link {link}, at the {end}: {fault}"));
        self.fail_link(token / 2, &Refusal::Broken("verification failed".to_owned()));
    }

    /// Whether an end has a message to send, beside one that it has begun.
    fn wants(&self, token: u32) -> bool {
        let (link, end) = (&self.links[token as usize / 2], &self.ends[token as usize]);
        if link.state != State::Up {
            return false;
        }
        let is_host = token & 1 == 1;
        match link.pattern {
            Pattern::Pingpong | Pattern::Idle | Pattern::Churn if is_host => end.sent != end.received,
            Pattern::Pingpong => self.is_flowing && end.sent == end.received && !self.is_pausing(token / 2),
            Pattern::Idle => self.is_roll_call && end.sent == 0,
            Pattern::Churn => (self.is_flowing || self.is_roll_call) && end.sent == 0,
            Pattern::Rate => !is_host && end.sent != link.allowed,
            Pattern::Stream => !is_host && self.is_flowing && self.may_stream(token / 2),
            Pattern::Duplex => self.is_flowing && self.may_stream(token / 2),
        }
    }

    /// Sends what an end has to send, as far as the kernel takes it, but not without end.
    pub(super) fn pump(&mut self, token: u32) {
        for _ in 0..SENDS_PER_TURN {
            let end = &mut self.ends[token as usize];
            let Some(socket) = &end.socket else { return };
            if end.talk.is_some() {
                return;
            }
            let is_within = end.taken > 0;
            if !is_within && !end.backlog.is_empty() {
                match rustix::net::send(socket, &end.backlog, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                    Ok(count) if count == end.backlog.len() => end.backlog = Vec::new(),
                    Ok(count) => drop(end.backlog.drain(..count)),
                    Err(error) => return self.send_failed(token, error),
                }
                continue;
            }
            if !is_within && !self.wants(token) {
                return;
            }
            match self.send_messages(token) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.send_failed(token, error),
            }
        }
        self.come_back(token);
    }

    /// Sends a message, or the rest of one, or a run of short ones; whether the kernel took it all.
    fn send_messages(&mut self, token: u32) -> Result<bool, Errno> {
        let (link, from_host) = (token as usize / 2, token & 1 == 1);
        let stamp = |sequence| Stamp { link: self.first_link + token / 2, from_host, sequence };
        let end = &mut self.ends[token as usize];
        let Some(socket) = &end.socket else { return Ok(false) };
        let pattern = self.links[link].pattern;
        if pattern == Pattern::Pingpong && !from_host && end.taken == 0 {
            self.links[link].since = self.now;
        }
        if self.scenario.dialect() == Dialect::Pair {
            return self.send_payload(token);
        }
        let mut front = [0; FRONT_BYTES_MAX];
        let (front_bytes, body) = self.payload.frame(stamp(end.sent), &mut front);
        let (mut bytes, taken) = (front_bytes + body.len(), end.taken as usize);
        let count = if bytes > COPIED_BYTES_MAX {
            let head = &front[taken.min(front_bytes)..front_bytes];
            let tail = &body[taken.saturating_sub(front_bytes)..];
            bytes -= taken;
            // SIGPIPE is ignored in every Rust program.
            rustix::io::writev(socket, &[IoSlice::new(head), IoSlice::new(tail)])?
        } else {
            self.out.clear();
            self.out.extend_from_slice(&front[..front_bytes]);
            self.out.extend_from_slice(body);
            if self.is_flowing && matches!(pattern, Pattern::Stream | Pattern::Duplex) {
                let mut sequence = following(end.sent);
                while self.out.len() < RUN_BYTES {
                    let (front_bytes, body) = self.payload.frame(stamp(sequence), &mut front);
                    if body.len() > COPIED_BYTES_MAX {
                        break;
                    }
                    self.out.extend_from_slice(&front[..front_bytes]);
                    self.out.extend_from_slice(body);
                    sequence = following(sequence);
                }
            }
            bytes = self.out.len() - taken;
            rustix::net::send(socket, &self.out[taken..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?
        };
        end.advance(count as u32, stamp, &self.payload);
        Ok(count == bytes)
    }

    fn send_failed(&mut self, token: u32, error: Errno) {
        match error {
            // The kernel will say when it is writable again.
            Errno::AGAIN => {}
            // Interrupted; or broken, and then reading tells why, and what had arrived before.
            _ => self.come_back(token),
        }
    }
}

/// Larger messages are sent from where they lie.
const COPIED_BYTES_MAX: usize = 16 << 10;
const SENDS_PER_TURN: usize = 8;
