//! A worker: its loop and the stages it is led through. Bringing links up is in `setup`, their traffic
//! in `traffic`, their end in `closing`.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use longsplice::driver::{Private, process};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventFlags},
    },
    fd::OwnedFd,
    io::Errno,
};

use super::{
    link::{End, HostEnd, Link, State},
    payload::Payload,
    schedule::Schedules,
    tally::{Board, Lead, Sample, Stage, Tally},
    trouble::Trouble,
    wire::{Host, Upgrade},
};
use crate::{dialect::Dialect, run::Error, scenario::Scenario, target::Target};

/// What one worker is to do.
pub struct Assignment {
    pub scenario: Arc<Scenario>,
    pub target: Arc<Target>,
    pub lead: Arc<Lead>,
    pub board: Arc<Board>,
    /// The number of its first link; the others follow.
    pub first_link: u32,
    pub links: u32,
    pub hosts: u32,
    /// The number of its first host.
    pub first_host: u32,
    /// From which the hosts' keys are made.
    pub secret: [u8; 32],
    /// Where its connections come from, in turn; empty leaves it to the kernel.
    pub sources: Vec<IpAddr>,
    /// Handshakes in progress at once.
    pub handshakes: u32,
    /// Links brought up a second.
    pub ramp: Option<f64>,
    /// All workers' descriptors together do not fit one table.
    pub needs_own_table: bool,
}

/// Works until told to stop.
pub fn work(assignment: Assignment) -> Tally {
    let (board, scenario) = (Arc::clone(&assignment.board), Arc::clone(&assignment.scenario));
    if let Private::Refused(error) = process::own_descriptors()
        && assignment.needs_own_table
    {
        *board.fatal.lock() = Some(Error::Machine(format!(
            "so many links need a descriptor table for each thread, which this system refuses (unshare: {}, perhaps \
             by a container's seccomp profile): allow unshare, or raise ulimit -n above twice the number of links",
            std::io::Error::from_raw_os_error(error)
        )));
        return Tally::new(&scenario);
    }
    match Worker::new(assignment) {
        Ok(mut worker) => {
            worker.run();
            worker.tally
        }
        Err(error) => {
            *board.fatal.lock() = Some(Error::Machine(format!("no epoll set: {error}")));
            Tally::new(&scenario)
        }
    }
}

/// See the head of this module. Times are nanoseconds since `origin`.
pub(super) struct Worker {
    // Fixed.
    pub(super) scenario: Arc<Scenario>,
    pub(super) target: Arc<Target>,
    lead: Arc<Lead>,
    pub(super) board: Arc<Board>,
    pub(super) first_link: u32,
    pub(super) first_host: u32,
    pub(super) sources: Vec<IpAddr>,
    pub(super) handshakes: u32,
    pub(super) ramp: Option<f64>,
    /// Pongs behind so many bytes that the kernel has not taken are left out.
    pub(super) backlog_bytes_max: usize,
    pub(super) upgrade: Upgrade,
    pub(super) payload: Payload,
    pub(super) set: OwnedFd,
    origin: Instant,

    // Connections. A link's client has the token 2n, its host 2n + 1; hosts' control connections come after them.
    pub(super) links: Vec<Link>,
    pub(super) ends: Vec<End>,
    pub(super) hosts: Vec<HostEnd>,

    // Coming up.
    pub(super) hosts_begun: u32,
    pub(super) hosts_registered: u32,
    pub(super) links_begun: u32,
    pub(super) links_coming_up: u32,
    pub(super) links_up: u32,
    pub(super) dialled: u64,
    /// Links whose host has not been asked to dial back yet, by the relay's id.
    pub(super) introduced: HashMap<Box<str>, u32>,
    /// Ids of the links' pairing sessions; empty where links are none.
    pub(super) sessions: Vec<Box<str>>,
    /// When a link's handshakes or its closing are given up: when, which, and since when it was in that state.
    pub(super) deadlines: VecDeque<(u64, u32, u64)>,
    /// In a soak.
    pub(super) trouble: Option<Box<Trouble>>,

    // The turn.
    pub(super) now: u64,
    stage: Stage,
    /// New messages may leave.
    pub(super) is_flowing: bool,
    /// Within the measured part.
    pub(super) is_counting: bool,
    /// Latencies are kept: from the measured part's start to the end of what was under way then.
    pub(super) is_recording: bool,
    /// Idle links show that they live.
    pub(super) is_roll_call: bool,
    pub(super) schedules: Schedules,
    /// Connections that had more to read or write than one turn allows.
    pub(super) again: Vec<u32>,
    pub(super) buffer: Vec<u8>,
    pub(super) out: Vec<u8>,

    pub(super) tally: Tally,
    pub(super) sample: Sample,
    shown_at: u64,
    pub(super) looked_at: u64,
    /// Messages received when there was last progress, and when that was.
    pub(super) progress: (u64, u64),
    pub(super) received: u64,
}

impl Worker {
    fn new(assignment: Assignment) -> Result<Worker, Errno> {
        let Assignment {
            scenario, target, lead, board, first_link, links, hosts, first_host, secret, ..
        } = assignment;
        let link = |number: u32| {
            let part = scenario.parts.number_of(first_link + number);
            let pattern = scenario.parts.all()[part].pattern;
            let part = u16::try_from(part).expect("a mix has few parts");
            Link { pattern, part, state: State::Down, allowed: 0, skipped: 0, since: 0, bytes: 0 }
        };
        let links: Vec<Link> = (0..links).map(link).collect();
        let trouble = Trouble::new(&scenario, first_link, links.len() as u32, hosts as usize);
        let hosts = (0..hosts).map(|number| HostEnd {
            identity: Host::new(&secret, u64::from(first_host + number)),
            socket: None,
            talk: None,
            is_registered: false,
        });
        // The rest of a paired device's message waits there, too.
        let (sessions, message_bytes_max) = match scenario.dialect() {
            Dialect::Link => (0, 0),
            Dialect::Pair => (links.len(), 2 * scenario.parts.size_max() as usize),
        };
        Ok(Worker {
            backlog_bytes_max: PONG_BYTES_MAX + message_bytes_max,
            sessions: vec![Box::default(); sessions],
            upgrade: Upgrade::new(&target),
            payload: Payload::new(scenario.seed, scenario.parts.clone(), scenario.verify, scenario.mask),
            set: epoll::create(CreateFlags::CLOEXEC)?,
            origin: Instant::now(),
            schedules: Schedules::new(&scenario, &links, first_link),
            ends: links.iter().flat_map(|_| [End::default(), End::default()]).collect(),
            links,
            hosts: hosts.collect(),
            tally: Tally::new(&scenario),
            scenario,
            target,
            lead,
            board,
            first_link,
            first_host,
            sources: assignment.sources,
            handshakes: assignment.handshakes,
            ramp: assignment.ramp,
            hosts_begun: 0,
            hosts_registered: 0,
            links_begun: 0,
            links_coming_up: 0,
            links_up: 0,
            dialled: 0,
            introduced: HashMap::new(),
            deadlines: VecDeque::new(),
            trouble,
            now: 0,
            stage: Stage::Setup,
            is_flowing: false,
            is_counting: false,
            is_recording: false,
            is_roll_call: false,
            again: Vec::new(),
            buffer: vec![0; READ_BYTES],
            out: Vec::with_capacity(RUN_BYTES + READ_BYTES),
            sample: Sample::new(),
            shown_at: 0,
            looked_at: 0,
            progress: (0, 0),
            received: 0,
        })
    }

    fn run(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            let wait = self.wait();
            match epoll::wait(&self.set, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return self.give_up(Error::Machine(format!("epoll: {error}"))),
            }
            self.read_clock();
            self.lead_on();
            if self.stage == Stage::Stop {
                self.show_now();
                return self.close_all();
            }
            for (index, event) in events.iter().enumerate() {
                if index % EVENTS_PER_CLOCK == EVENTS_PER_CLOCK - 1 {
                    self.read_clock();
                    self.send_what_is_due();
                }
                self.ready(event.data.u64() as u32, event.flags);
            }
            for token in std::mem::take(&mut self.again) {
                if let Some(end) = self.ends.get_mut(token as usize) {
                    end.is_coming_back = false;
                }
                // An end that was told along with the bytes is not told again.
                self.ready(token, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP);
            }
            self.send_what_is_due();
            self.bring_up();
            self.pass_deadlines();
            self.pass_agenda();
            self.show();
        }
    }

    fn read_clock(&mut self) {
        self.now = self.nanoseconds(Instant::now());
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_nanos() as u64
    }

    /// How long this turn may wait for events.
    fn wait(&self) -> Timespec {
        let mut wait = match self.stage {
            _ if !self.again.is_empty() => 0,
            // So that all workers begin at nearly the same time.
            Stage::Flow if !self.is_flowing => NANOS_PER_MS,
            Stage::Setup if self.links_begun < self.links.len() as u32 => 2 * NANOS_PER_MS,
            _ => 20 * NANOS_PER_MS,
        };
        if self.is_flowing
            && let Some(due) = self.schedules.next_due()
        {
            wait = wait.min(due.saturating_sub(self.nanoseconds(Instant::now())));
        }
        if let Some(due) = self.next_on_agenda() {
            wait = wait.min(due.saturating_sub(self.nanoseconds(Instant::now())));
        }
        Timespec { tv_sec: 0, tv_nsec: wait as _ }
    }

    /// Follows the coordinator from stage to stage.
    fn lead_on(&mut self) {
        let stage = self.lead.stage();
        self.stage = self.stage.max(stage);
        let Some(times) = self.lead.times() else { return };
        let (flow, count, end) =
            (self.nanoseconds(times.flow), self.nanoseconds(times.count), self.nanoseconds(times.end));
        if self.stage == Stage::Flow && !self.is_flowing && !self.is_roll_call && self.now >= flow {
            self.is_flowing = true;
            self.schedules.begin(flow, end);
            self.begin_trouble();
            self.pump_all();
        }
        if self.is_flowing && !self.is_recording && self.now >= count {
            self.begin_counting();
        }
        let is_over = self.stage >= Stage::Drain || self.is_flowing && self.now >= end;
        if is_over && !self.is_roll_call {
            self.send_what_is_due();
            self.end_flow(count);
        }
        if self.stage == Stage::Drain {
            self.look_whether_drained();
        }
    }

    /// What came before belongs to bringing links up and warming up.
    fn begin_counting(&mut self) {
        (self.is_counting, self.is_recording) = (true, true);
        for link in &mut self.links {
            link.bytes = 0;
        }
    }

    fn end_flow(&mut self, count: u64) {
        (self.is_flowing, self.is_counting, self.is_roll_call) = (false, false, true);
        if self.scenario.compares_links() {
            let seconds = self.now.saturating_sub(count).max(1) as f64 / 1e9;
            let live = self.links.iter().filter(|link| link.state == State::Up);
            self.tally.rates = live.map(|link| link.bytes as f64 / seconds).collect();
        }
        // A soak is no measurement of latencies.
        if let Some(late) = self.schedules.late().filter(|_| self.trouble.is_none()) {
            self.count_errors("generator late", late);
        }
        self.progress = (self.received, self.now);
        self.end_trouble();
        // Idle links have their turn now.
        self.pump_all();
    }

    fn pump_all(&mut self) {
        for token in 0..self.ends.len() as u32 {
            if self.links[token as usize / 2].state == State::Up {
                self.pump(token);
            }
        }
    }

    /// Adds to the board what was counted lately, ten times a second.
    fn show(&mut self) {
        if self.now >= self.shown_at + SHOW_EVERY {
            self.show_now();
        }
    }

    pub(super) fn show_now(&mut self) {
        self.shown_at = self.now;
        self.sample.links_up = u64::from(self.links_up);
        let mut shown = self.board.sample.lock();
        shown.links_up = self.sample.links_up;
        shown.add(&self.sample);
        drop(shown);
        self.sample.clear();
    }

    pub(super) fn count_errors(&mut self, kind: &str, count: u64) {
        *self.tally.errors.entry(kind.to_owned()).or_default() += count;
        self.sample.errors += count;
    }

    /// Looks at a connection again in the next turn.
    pub(super) fn come_back(&mut self, token: u32) {
        let end = self.ends.get_mut(token as usize);
        if !end.is_some_and(|end| std::mem::replace(&mut end.is_coming_back, true)) {
            self.again.push(token);
        }
    }

    /// Says why the run cannot go on. The coordinator answers with the stage `Stop`.
    pub(super) fn give_up(&mut self, error: Error) {
        self.board.fatal.lock().get_or_insert(error);
    }

    /// Whether a token is a host's control connection: its number.
    pub(super) fn host_of(&self, token: u32) -> Option<usize> {
        (token as usize).checked_sub(self.ends.len())
    }

    /// A duration on the worker's clock.
    pub(super) fn span(duration: Duration) -> u64 {
        duration.as_nanos() as u64
    }
}

/// Asked of a socket at once. Fits the processor's second-level cache, together with what is sent.
const READ_BYTES: usize = 128 << 10;
/// So often a connection is read in one turn.
pub(super) const READS_PER_TURN: usize = 4;
/// Short messages of a stream are sent in runs of about so many bytes.
pub(super) const RUN_BYTES: usize = 64 << 10;
/// Pongs that wait for the kernel, in bytes.
const PONG_BYTES_MAX: usize = 4096;
/// Events taken at once.
const EVENTS_MAX: usize = 1024;
/// Events handled with one look at the clock: about 0.1 ms of work.
const EVENTS_PER_CLOCK: usize = 16;
const NANOS_PER_MS: u64 = 1_000_000;
const SHOW_EVERY: u64 = 100 * NANOS_PER_MS;
