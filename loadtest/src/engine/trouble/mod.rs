//! The worker's part in a soak: links pause, stream in bursts, meet [`Mishap`]s and begin anew; hosts fall away and
//! come back. What the relay makes of it is checked: an end of a link that nobody struck must be told why it ends, in
//! time.

mod agenda;
mod hosts;

use std::time::Duration;

use rustix::{event::epoll::EventFlags, net::sockopt};

pub use self::agenda::Trouble;
use self::agenda::{Course, Event};
use super::{
    link::{End, State},
    mishap::{Mishap, STALL},
    wire::{self, Refusal},
    worker::Worker,
};
use crate::{dialect::Dialect, scenario::Pattern};

impl Worker {
    /// The traffic begins, and mishaps with it.
    pub(super) fn begin_trouble(&mut self) {
        for link in 0..self.links.len() as u32 {
            self.plan_mishap(link);
        }
        for host in 0..self.hosts.len() as u32 {
            self.plan_mishap_of_host(host);
        }
    }

    /// A session of a link begins.
    pub(super) fn session_begins(&mut self, link: u32) {
        let Some(trouble) = &mut self.trouble else { return };
        let course = &mut trouble.courses[link as usize];
        *course = Course { session: course.session.wrapping_add(1), ..Course::default() };
        if self.is_flowing {
            self.plan_mishap(link);
        }
    }

    /// A link's session is over, in order or not; the next one begins after a while.
    pub(super) fn session_over(&mut self, link: u32) {
        self.links[link as usize].state = State::Down;
        let Some(trouble) = self.trouble.as_mut().filter(|_| self.is_flowing) else { return };
        trouble.plan_within(self.now, BETWEEN_SESSIONS, Event::Begin(link));
    }

    /// Does what is due.
    pub(super) fn pass_agenda(&mut self) {
        self.let_stream();
        while let Some(event) = self.trouble.as_mut().and_then(|trouble| trouble.take_due(self.now)) {
            match event {
                Event::Strike(link) => self.strike(link),
                Event::Read(token) => self.read_again(token),
                Event::Go(link) => {
                    self.trouble_of(link).is_pausing = false;
                    self.pump(2 * link);
                }
                Event::Begin(link) if self.links[link as usize].state == State::Down => self.begin_link(link),
                Event::GiveUp(link) if self.links[link as usize].state == State::Struck => {
                    let name = self.trouble_of(link).mishap.map_or("", Mishap::name);
                    self.fail_link(link, &Refusal::Broken(format!("timed out after: {name}")));
                }
                Event::Begin(_) | Event::GiveUp(_) => {}
                Event::StrikeHost(host) => self.strike_host(host),
                Event::Register(host) => self.register_again(host),
                Event::GiveUpHost(host) => self.lose_host(host as usize, &Refusal::TimedOut),
            }
        }
    }

    /// When the agenda has something to do next.
    pub(super) fn next_on_agenda(&self) -> Option<u64> {
        self.trouble.as_ref()?.next_due()
    }

    /// The traffic is over: nothing happens to anyone any more, who did not read reads again, who had vanished is gone.
    pub(super) fn end_trouble(&mut self) {
        let patience = self.now + Worker::span(self.scenario.patience);
        let Some(trouble) = &mut self.trouble else { return };
        trouble.clear_agenda();
        for token in std::mem::take(&mut trouble.unread) {
            match self.has_vanished(token) {
                true => self.drop_end(token, true),
                false => self.come_back(token),
            }
        }
        for link in 0..self.links.len() as u32 {
            // Its host would leave the relay waiting.
            if self.links[link as usize].state == State::ComingUp && self.does_not_dial_back(link) {
                self.strike(link);
            }
            if self.links[link as usize].state == State::Struck
                && !self.look_whether_over(link)
                && let Some(trouble) = &mut self.trouble
            {
                trouble.plan(patience, Event::GiveUp(link));
            }
        }
    }

    /// Whether a link may send its next message: in a soak those that go back and forth pause between two.
    pub(super) fn is_pausing(&self, link: u32) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.courses[link as usize].is_pausing)
    }

    /// Pauses, in a soak; whether it is one.
    pub(super) fn pause(&mut self, link: u32) -> bool {
        let Some(trouble) = &mut self.trouble else { return false };
        trouble.courses[link as usize].is_pausing = true;
        trouble.plan_within(self.now, BETWEEN_MESSAGES, Event::Go(link));
        true
    }

    /// Whether a link may stream now: in a soak they do in turn, each for a while.
    pub(super) fn may_stream(&self, link: u32) -> bool {
        self.trouble.as_ref().is_none_or(|trouble| (trouble.slice + u64::from(link)).is_multiple_of(SLICES))
    }

    /// Whether an end does not read now. One that has vanished is told of nothing but its connection's end.
    pub(super) fn is_unread(&mut self, token: u32, flags: EventFlags) -> bool {
        if !self.trouble.as_ref().is_some_and(|trouble| trouble.unread.contains(&token)) {
            return false;
        }
        let is_over = flags.intersects(EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP);
        if is_over && self.has_vanished(token) {
            self.struck_end(token, &Refusal::Ended);
        } else if flags.contains(EventFlags::OUT) {
            self.pump(token);
        }
        true
    }

    /// An end of a link that met a mishap is told something; it has to be what follows from the mishap, and the
    /// connection's end comes behind it.
    pub(super) fn struck_told(&mut self, token: u32, told: Refusal) {
        self.trouble_of(token / 2).told[token as usize & 1].get_or_insert(told);
        self.answer_close(token);
    }

    /// The connection of an end of such a link is over.
    pub(super) fn struck_end(&mut self, token: u32, refusal: &Refusal) {
        let course = self.trouble_of(token / 2);
        let told = course.told[token as usize & 1].take().unwrap_or_else(|| refusal.clone());
        let mishap = course.mishap.expect("it was struck");
        let is_actor = (token & 1 == 1) == mishap.is_of_host();
        if !mishap.allows(is_actor, course.was_up, &told) {
            let end = self.scenario.dialect().end(token & 1 == 1);
            self.count_errors(&format!("{end}: {} after: {}", told.kind(), mishap.name()), 1);
        }
        self.drop_end(token, false);
        self.look_whether_over(token / 2);
    }

    /// An end that spoke the control protocol is refused, or gone.
    pub(super) fn talk_ended(&mut self, token: u32, refusal: &Refusal) {
        let link = token / 2;
        if self.links[link as usize].state == State::Struck {
            return self.struck_end(token, refusal);
        }
        if !self.is_excused(link, refusal) {
            return self.fail_link(link, refusal);
        }
        self.links_coming_up -= 1;
        self.introduced.retain(|_, waiting| *waiting != link);
        self.drop_end(2 * link, false);
        self.drop_end(2 * link + 1, false);
        self.session_over(link);
    }

    /// Whether the host of this link is to leave the relay without an answer to its request to dial back.
    pub(super) fn does_not_dial_back(&mut self, link: u32) -> bool {
        self.trouble.is_some() && self.trouble_of(link).mishap == Some(Mishap::NoDialBack)
    }

    /// Whether an end is the one that vanished.
    fn has_vanished(&self, token: u32) -> bool {
        let is_struck = self.links[token as usize / 2].state == State::Struck;
        let mishap = self.trouble.as_ref().and_then(|trouble| trouble.courses[token as usize / 2].mishap);
        is_struck && mishap == Some(Mishap::Vanish { of_host: token & 1 == 1 })
    }

    fn trouble_of(&mut self, link: u32) -> &mut Course {
        &mut self.trouble.as_mut().expect("only soaks have mishaps").courses[link as usize]
    }

    /// Whether a link is of those that meet mishaps: all links of a host are, or none.
    fn is_troubled(&self, link: u32) -> bool {
        let number = match self.hosts.len() as u32 {
            0 => self.first_link + link,
            hosts => self.first_host + link % hosts,
        };
        self.trouble.as_ref().is_some_and(|trouble| trouble.hardship.troubles(number))
    }

    fn plan_mishap(&mut self, link: u32) {
        if !self.is_troubled(link) {
            return;
        }
        let Some(trouble) = &mut self.trouble else { return };
        let (mishap, after) = Mishap::draw(&mut trouble.random, self.scenario.dialect());
        trouble.courses[link as usize].mishap = Some(mishap);
        trouble.plan(self.now + after, Event::Strike(link));
    }

    fn made_happen(&mut self, name: &str) {
        *self.tally.mishaps.entry(name.to_owned()).or_default() += 1;
    }

    fn strike(&mut self, link: u32) {
        let number = link as usize;
        let state = self.links[number].state;
        let course = self.trouble_of(link);
        let mut mishap = course.mishap.expect("it is planned");
        if !matches!(state, State::Up | State::ComingUp | State::Closing) {
            return;
        }
        if let (Mishap::Stall { of_host }, State::Up) = (mishap, state) {
            self.made_happen(mishap.name());
            return self.stop_reading(2 * link + u32::from(of_host));
        }
        if state != State::Up && mishap != Mishap::NoDialBack {
            // Nothing but a reset can be told from what an end does there anyway.
            mishap = Mishap::Reset { of_host: false };
        }
        course.was_up = state != State::ComingUp;
        course.mishap = Some(mishap);
        // What was planned for it is out of date.
        course.session = course.session.wrapping_add(1);
        self.made_happen(match state {
            State::ComingUp if mishap != Mishap::NoDialBack => "reset during the handshakes",
            State::Closing => "reset while closing",
            _ => mishap.name(),
        });
        (self.links[number].state, self.links[number].since) = (State::Struck, self.now);
        match state {
            State::Up => self.links_up -= 1,
            State::ComingUp => self.links_coming_up -= 1,
            _ => {}
        }
        let actor = 2 * link + u32::from(mishap.is_of_host());
        // Who does not read could not be told, if its window is shut.
        self.read_again(2 * link);
        self.read_again(2 * link + 1);
        match mishap {
            _ if state == State::ComingUp => {
                self.introduced.retain(|_, waiting| *waiting != link);
                self.drop_end(2 * link, true);
                // Of two devices that pair, the other would wait for this one to come back.
                if self.scenario.dialect() == Dialect::Pair {
                    self.drop_end(2 * link + 1, true);
                }
            }
            _ if state == State::Closing => {
                self.drop_end(2 * link, true);
                self.drop_end(2 * link + 1, true);
            }
            Mishap::End { .. } => self.drop_end(actor, false),
            Mishap::BadFrame { .. } => {
                self.ends[actor as usize].backlog.extend(wire::bad_frame());
                self.pump(actor);
            }
            Mishap::Vanish { .. } => {
                self.trouble.as_mut().expect("as above").unread.insert(actor);
            }
            Mishap::Reset { .. } | Mishap::Stall { .. } | Mishap::NoDialBack => self.drop_end(actor, true),
        }
        if !self.look_whether_over(link) {
            let due = self.now + mishap.patience(Worker::span(self.scenario.patience));
            self.trouble.as_mut().expect("as above").plan(due, Event::GiveUp(link));
        }
    }

    /// Closes an end, by a reset or as the kernel does.
    fn drop_end(&mut self, token: u32, is_reset: bool) {
        let end = std::mem::take(&mut self.ends[token as usize]);
        if let Some(socket) = end.socket.as_ref().filter(|_| is_reset) {
            // Refused where it is gone already, which is what is wanted.
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
        // The mark that it is looked at again is of the number, not of the connection.
        self.ends[token as usize] = End { is_coming_back: end.is_coming_back, ..End::default() };
        if let Some(trouble) = &mut self.trouble {
            trouble.unread.remove(&token);
        }
    }

    /// Whether nothing is left of a link that was struck; then its session is over.
    fn look_whether_over(&mut self, link: u32) -> bool {
        let is_over =
            [2 * link, 2 * link + 1].iter().all(|token| self.ends[*token as usize].socket.is_none());
        if is_over {
            self.session_over(link);
        }
        is_over
    }

    fn stop_reading(&mut self, token: u32) {
        let now = self.now;
        let trouble = self.trouble.as_mut().expect("only soaks have mishaps");
        trouble.unread.insert(token);
        trouble.plan_within(now, STALL, Event::Read(token));
        self.plan_mishap(token / 2);
    }

    fn read_again(&mut self, token: u32) {
        if self.trouble.as_mut().is_some_and(|trouble| trouble.unread.remove(&token)) {
            self.come_back(token);
        }
    }

    /// Lets those stream whose turn has come.
    fn let_stream(&mut self) {
        let slice = self.now / SLICE;
        let Some(trouble) = self.trouble.as_mut().filter(|trouble| trouble.slice != slice) else { return };
        trouble.slice = slice;
        for link in 0..self.links.len() as u32 {
            let Some(pattern) = self.links.get(link as usize).map(|link| link.pattern) else { continue };
            if matches!(pattern, Pattern::Stream | Pattern::Duplex) && self.may_stream(link) {
                self.pump(2 * link);
                self.pump(2 * link + 1);
            }
        }
    }

    /// Whether a link that was coming up may end like this because its host was struck.
    fn is_excused(&self, link: u32, refusal: &Refusal) -> bool {
        let (Some(trouble), true) = (&self.trouble, !self.hosts.is_empty()) else { return false };
        let host = &trouble.hosts[link as usize % self.hosts.len()];
        let link = &self.links[link as usize];
        let is_of_it = match refusal {
            Refusal::Closed(code, _) => *code == Some(PEER_GONE),
            Refusal::Error(error) => error == "unknown_address" || error == "unknown_link",
            _ => false,
        };
        is_of_it && link.state == State::ComingUp && (host.is_down || host.down_at >= link.since)
    }
}

/// In nanoseconds, as all that follow.
const BETWEEN_SESSIONS: (u64, u64) = (20_000_000, 1_000_000_000);
const BETWEEN_MESSAGES: (u64, u64) = (10_000_000, 200_000_000);
/// Streams send for so long, one in so many at a time.
const SLICE: u64 = 1_000_000_000;
const SLICES: u64 = 8;
const PEER_GONE: u16 = 4003;
