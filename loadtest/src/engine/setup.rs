//! How hosts and links come up.

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    net::{RecvFlags, SendFlags},
};

use longsplice::driver::dial::{self, DialOptions};

use super::{
    link::{End, State},
    talk::{Part, Step, Talk},
    wire::Refusal,
    worker::{READS_PER_TURN, Worker},
};
use crate::{dialect::Dialect, run::Error, scenario::Pattern};

impl Worker {
    /// Begins as many hosts, and when all are registered as many links, as may be in progress.
    pub(super) fn bring_up(&mut self) {
        let hosts = self.hosts.len() as u32;
        while self.hosts_begun < hosts && self.hosts_begun - self.hosts_registered < self.handshakes {
            let number = self.hosts_begun;
            self.hosts_begun += 1;
            self.begin_host(number as usize);
        }
        if self.hosts_registered < hosts {
            return;
        }
        // Dial-backs that a host has pending are bounded (link.md, section 5).
        let in_progress_max = match self.scenario.dialect() {
            Dialect::Link => self.handshakes.min(PENDING_PER_HOST_MAX * hosts),
            Dialect::Pair => self.handshakes,
        };
        let begun_max = match self.ramp {
            Some(per_second) => (self.now as f64 / 1e9 * per_second) as u64 + 1,
            None => u64::MAX,
        };
        while self.links_begun < self.links.len() as u32
            && self.links_coming_up < in_progress_max
            && u64::from(self.links_begun) < begun_max
        {
            let link = self.links_begun;
            self.links_begun += 1;
            self.begin_link(link);
        }
        let is_set_up = self.links_begun == self.links.len() as u32 && self.links_coming_up == 0;
        if is_set_up && !self.board.is_set_up.load(std::sync::atomic::Ordering::Relaxed) {
            self.show_now();
            self.board.is_set_up.store(true, std::sync::atomic::Ordering::Release);
        }
    }

    fn begin_host(&mut self, number: usize) {
        let token = (self.ends.len() + number) as u32;
        match self.dial(token) {
            Ok(socket) => {
                self.hosts[number].socket = Some(socket);
                self.hosts[number].talk = Some(Box::new(Talk::new(Part::Control, &self.upgrade)));
                let due = self.now + Worker::span(self.scenario.patience);
                self.deadlines.push_back((due, token, 0));
            }
            Err(refusal) => self.lose_host(number, &refusal),
        }
    }

    pub(super) fn begin_link(&mut self, link: u32) {
        let number = link as usize;
        (self.links[number].state, self.links[number].since) = (State::ComingUp, self.now);
        self.session_begins(link);
        self.links_coming_up += 1;
        let due = self.now + Worker::span(self.scenario.patience);
        self.deadlines.push_back((due, 2 * link, self.now));
        let part = match self.scenario.dialect() {
            Dialect::Link => {
                let address = self.hosts[number % self.hosts.len()].identity.address.as_str().into();
                Part::Client { address }
            }
            Dialect::Pair => Part::Source { link: self.first_link + link },
        };
        self.begin_end(2 * link, part);
    }

    pub(super) fn begin_end(&mut self, token: u32, part: Part) {
        match self.dial(token) {
            Ok(socket) => {
                let talk = Some(Box::new(Talk::new(part, &self.upgrade)));
                self.ends[token as usize] = End { socket: Some(socket), talk, ..End::default() };
            }
            Err(refusal) => self.fail_link(token / 2, &refusal),
        }
    }

    pub(super) fn dial(&mut self, token: u32) -> Result<rustix::fd::OwnedFd, Refusal> {
        let source = match self.sources.len() as u64 {
            0 => None,
            count => Some(self.sources[(self.dialled % count) as usize]),
        };
        self.dialled += 1;
        let is_control = self.host_of(token).is_some();
        let buffer = |bytes: Option<u32>| bytes.filter(|_| !is_control).map(|bytes| bytes as usize);
        let options = DialOptions {
            source,
            send_buffer_bytes: buffer(self.scenario.send_buffer),
            receive_buffer_bytes: buffer(self.scenario.receive_buffer),
        };
        let socket = dial::begin(self.target.address, &options).map_err(|error| {
            self.check_machine(&error);
            Refusal::Broken(format!("connecting: {error}"))
        })?;
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.set, &socket, EventData::new_u64(u64::from(token)), events)
            .map_err(|error| Refusal::Broken(format!("epoll: {error}")))?;
        Ok(socket)
    }

    /// Tells apart what this machine has run out of.
    fn check_machine(&mut self, error: &std::io::Error) {
        let remedy = match Errno::from_io_error(error) {
            Some(Errno::MFILE) => {
                "the descriptors of a thread are used up: raise ulimit -n, or give more --threads"
            }
            Some(Errno::NFILE) => "the descriptors of this machine are used up: raise fs.file-max",
            Some(Errno::ADDRNOTAVAIL) => {
                "no port is left to connect from, or --source-address is none of this machine's: give more \
                 --source-address, or widen net.ipv4.ip_local_port_range"
            }
            Some(Errno::NOBUFS | Errno::NOMEM) => {
                "the kernel has no memory left for sockets: use fewer links"
            }
            Some(Errno::INVAL | Errno::AFNOSUPPORT) => {
                "--source-address has to be of the relay's address family"
            }
            _ => return,
        };
        self.give_up(Error::Machine(format!("connecting to {}: {error}: {remedy}", self.target.address)));
    }

    /// A connection that still speaks the control protocol is ready.
    pub(super) fn talk_ready(&mut self, token: u32, flags: EventFlags) {
        if let Err(refusal) = self.converse(token, flags) {
            match self.host_of(token) {
                Some(host) => self.lose_host(host, &refusal),
                None => self.talk_ended(token, &refusal),
            }
        }
    }

    fn converse(&mut self, token: u32, flags: EventFlags) -> Result<(), Refusal> {
        let mut is_ended = false;
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
            is_ended = self.take_in(token)?;
        }
        loop {
            let step = match self.host_of(token) {
                Some(number) => {
                    let host = &mut self.hosts[number];
                    let Some(talk) = &mut host.talk else { return Ok(()) };
                    talk.step(&self.upgrade, Some(&host.identity), &self.target.origin)?
                }
                None => {
                    let Some(talk) = &mut self.ends[token as usize].talk else { return Ok(()) };
                    talk.step(&self.upgrade, None, &self.target.origin)?
                }
            };
            match step {
                Step::Wait => break,
                Step::Registered => {
                    let number = self.host_of(token).expect("only a control connection registers");
                    if !std::mem::replace(&mut self.hosts[number].is_registered, true) {
                        self.hosts_registered += 1;
                        self.host_is_registered(number);
                    }
                }
                Step::Found(link_id) => {
                    self.introduced.insert(link_id, token / 2);
                }
                Step::DialBack(link_id) => {
                    // A link that has failed meanwhile is not dialled back for.
                    if let Some(link) = self.introduced.remove(&link_id)
                        && !self.does_not_dial_back(link)
                    {
                        self.begin_end(2 * link + 1, Part::DialBack { link_id });
                    }
                }
                Step::Created(session_id) => self.session_created(token / 2, session_id),
                Step::Relaying => return self.begin_payload(token),
            }
        }
        self.put_out(token)?;
        match is_ended {
            true => Err(Refusal::Ended),
            false => Ok(()),
        }
    }

    /// Hands what has arrived, but not without end, to the connection's talk; whether it was the end.
    fn take_in(&mut self, token: u32) -> Result<bool, Refusal> {
        for _ in 0..READS_PER_TURN {
            let (socket, talk) = match self.host_of(token) {
                Some(number) => {
                    let host = &mut self.hosts[number];
                    (&host.socket, &mut host.talk)
                }
                None => {
                    let end = &mut self.ends[token as usize];
                    (&end.socket, &mut end.talk)
                }
            };
            let (Some(socket), Some(talk)) = (socket, talk) else { return Ok(false) };
            match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(true),
                Ok((count, _)) => talk.take(&self.buffer[..count]),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(error)),
            }
        }
        self.come_back(token);
        Ok(false)
    }

    /// Sends what a connection's talk has to say, as far as the kernel takes it.
    fn put_out(&mut self, token: u32) -> Result<(), Refusal> {
        let (socket, talk, pings) = match self.host_of(token) {
            Some(number) => {
                let host = &mut self.hosts[number];
                (&host.socket, &mut host.talk, &mut self.tally.pings)
            }
            None => {
                let end = &mut self.ends[token as usize];
                (&end.socket, &mut end.talk, &mut self.tally.pings)
            }
        };
        let (Some(socket), Some(talk)) = (socket, talk) else { return Ok(()) };
        let answered = std::mem::take(&mut talk.pings);
        *pings += if self.is_counting { answered } else { 0 };
        while !talk.output.is_empty() {
            match rustix::net::send(socket, &talk.output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => drop(talk.output.drain(..count)),
                // It is not connected yet, or full: the kernel will say when it is writable.
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(error)),
            }
        }
        talk.output = Vec::new();
        Ok(())
    }

    /// An end of a link carries payload from now on.
    fn begin_payload(&mut self, token: u32) -> Result<(), Refusal> {
        let link = token / 2;
        let end = &mut self.ends[token as usize];
        let mut talk = end.talk.take().expect("it was talking");
        end.backlog = std::mem::take(&mut talk.output);
        let rest = talk.into_rest();
        let other = &self.ends[(token ^ 1) as usize];
        if other.socket.is_some() && other.talk.is_none() {
            self.link_is_up(link);
        }
        if !rest.is_empty() {
            self.take(token, &rest);
        }
        // Payload may have come with the last control message, or behind it, in the same event.
        self.come_back(token);
        Ok(())
    }

    fn link_is_up(&mut self, link: u32) {
        let number = link as usize;
        if self.links[number].state != State::ComingUp {
            return;
        }
        self.links[number].state = State::Up;
        self.links_coming_up -= 1;
        self.links_up += 1;
        let skipped = std::mem::take(&mut self.links[number].allowed);
        self.links[number].skipped = self.links[number].skipped.wrapping_add(skipped);
        if self.links[number].pattern == Pattern::Churn {
            self.record_latency(link, self.links[number].since);
        }
        self.pump(2 * link);
    }

    /// A link that will not be: counts why, and says so where it would meet all of them.
    pub(super) fn fail_link(&mut self, link: u32, refusal: &Refusal) {
        let state = std::mem::replace(&mut self.links[link as usize].state, State::Failed);
        match state {
            State::Failed | State::Down => return,
            State::ComingUp => self.links_coming_up -= 1,
            State::Up => self.links_up -= 1,
            State::Closing | State::Struck => {}
        }
        for token in [2 * link, 2 * link + 1] {
            self.ends[token as usize] = End::default();
        }
        if state == State::ComingUp {
            self.introduced.retain(|_, waiting| *waiting != link);
            if let Some(remedy) = refusal.remedy() {
                self.give_up(Error::Relay(format!("a link does not come up, {}: {remedy}", refusal.kind())));
            }
        }
        self.count_errors(&refusal.kind(), 1);
    }

    pub(super) fn lose_host(&mut self, number: usize, refusal: &Refusal) {
        if self.host_was_struck(number, refusal) {
            return;
        }
        let host = &mut self.hosts[number];
        (host.socket, host.talk) = (None, None);
        if host.is_registered {
            self.count_errors(&format!("host: {}", refusal.kind()), 1);
            return;
        }
        let remedy = refusal.remedy().unwrap_or("is a Link relay listening there?");
        let address = self.target.address;
        self.give_up(Error::Relay(format!(
            "a host cannot register at {address}, {}: {remedy}",
            refusal.kind()
        )));
    }

    /// Gives up what has been in progress for too long, and forgets the deadlines of what has come to pass.
    pub(super) fn pass_deadlines(&mut self) {
        while let Some((due, token, since)) = self.deadlines.front().copied() {
            let host = self.host_of(token);
            let is_pending = match host {
                Some(host) => !self.hosts[host].is_registered,
                None => {
                    let link = &self.links[token as usize / 2];
                    link.since == since && matches!(link.state, State::ComingUp | State::Closing)
                }
            };
            if is_pending && due > self.now {
                return;
            }
            self.deadlines.pop_front();
            match host {
                _ if !is_pending => {}
                Some(host) => self.lose_host(host, &Refusal::TimedOut),
                None => self.fail_link(token / 2, &Refusal::TimedOut),
            }
        }
    }
}

pub(super) fn broken(error: Errno) -> Refusal {
    Refusal::Broken(match error {
        Errno::CONNREFUSED => "connection refused".to_owned(),
        Errno::CONNRESET | Errno::PIPE => "connection reset".to_owned(),
        Errno::TIMEDOUT => "connection timed out".to_owned(),
        other => other.to_string(),
    })
}

/// Below the 64 that the protocol allows.
const PENDING_PER_HOST_MAX: u32 = 56;
