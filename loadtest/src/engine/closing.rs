//! How sessions, and the whole load, come to their end.

use std::sync::atomic::Ordering;

use rustix::net::SendFlags;

use super::{
    link::{End, State},
    wire,
    worker::Worker,
};
use crate::scenario::Pattern;

impl Worker {
    /// Ends a session in order: the client closes, the relay tells the host. Where devices are paired, the relay
    /// only says so to the target, which then closes, too.
    pub(super) fn close_session(&mut self, link: u32) {
        let number = link as usize;
        (self.links[number].state, self.links[number].since) = (State::Closing, self.now);
        self.links_up -= 1;
        let due = self.now + Worker::span(self.scenario.patience);
        self.deadlines.push_back((due, 2 * link, self.now));
        self.answer_close(2 * link);
    }

    /// Sends a close frame, unless one was sent.
    pub(super) fn answer_close(&mut self, token: u32) {
        let end = &mut self.ends[token as usize];
        if !std::mem::replace(&mut end.is_close_sent, true) {
            end.backlog.extend(wire::close());
            self.pump(token);
        }
    }

    /// An end of a session that is being closed is gone; with the second one the session is over.
    pub(super) fn end_of_session(&mut self, token: u32) {
        let link = token / 2;
        self.ends[token as usize] = End::default();
        if self.ends[(token ^ 1) as usize].socket.is_some() {
            return;
        }
        self.tally.sessions += u64::from(self.is_counting);
        self.session_over(link);
        if self.is_flowing && self.trouble.is_none() {
            self.begin_link(link);
        }
    }

    /// Says goodbye on every connection, as far as the kernel takes it at once, and closes it.
    pub(super) fn close_all(&mut self) {
        let goodbye = wire::close();
        let links =
            self.ends.iter().filter(|end| end.talk.is_none() && end.taken == 0 && end.backlog.is_empty());
        let sockets = links.filter_map(|end| end.socket.as_ref());
        let hosts = self.hosts.iter().filter_map(|host| host.socket.as_ref());
        for socket in sockets.chain(hosts) {
            // Whoever does not take it sees the end of the connection.
            let _ = rustix::net::send(socket, &goodbye, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        self.ends = Vec::new();
        self.hosts = Vec::new();
    }

    /// Tells the coordinator when nothing is under way any more, or when it is given up.
    pub(super) fn look_whether_drained(&mut self) {
        if self.board.is_drained.load(Ordering::Relaxed) || self.now < self.looked_at + LOOK_EVERY {
            return;
        }
        self.looked_at = self.now;
        let under_way: u64 = (0..self.links.len()).map(|link| self.under_way(link)).sum();
        if self.progress.0 != self.received {
            self.progress = (self.received, self.now);
        }
        let patience = self.scenario.patience.as_nanos() as u64;
        let is_given_up = self.now.saturating_sub(self.progress.1) > patience;
        if under_way == 0 || is_given_up {
            if under_way > 0 {
                self.count_errors("not arrived", under_way);
            }
            self.board.is_drained.store(true, Ordering::Release);
        }
    }

    /// Messages that left one end of a link, even in part, and have not arrived at the other; for sessions, those that
    /// are not over.
    fn under_way(&self, link: usize) -> u64 {
        let state = self.links[link].state;
        if self.links[link].pattern == Pattern::Churn {
            return u64::from(matches!(state, State::ComingUp | State::Up | State::Closing | State::Struck));
        }
        if state != State::Up {
            return 0;
        }
        let (client, host) = (&self.ends[2 * link], &self.ends[2 * link + 1]);
        let missing = |from: &End, to: &End| {
            u64::from(from.sent.wrapping_sub(to.received) & (u32::MAX >> 1)) + u64::from(from.taken > 0)
        };
        let unsent = match self.links[link].pattern {
            Pattern::Rate => u64::from(self.links[link].allowed.wrapping_sub(client.sent) & (u32::MAX >> 1)),
            _ => 0,
        };
        missing(client, host) + missing(host, client) + unsent
    }
}

/// How often all links are looked at for what is under way, in nanoseconds.
const LOOK_EVERY: u64 = 5_000_000;
