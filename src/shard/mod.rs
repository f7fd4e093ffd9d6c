//! A shard: one thread's loop, its connections, its part of the registries.
//!
//! The shard carries values between three parties that do not know each other: the driver (completions and
//! bytes), `proto` (frames and heads) and the dialects (events and actions). It decides nothing about a
//! dialect's meaning and nothing about a descriptor.
//!
//! Reading order: this file (the turn), [`conn`] (the state), `http`, `places` and `handshakes` (up to the upgrade),
//! `knock` (upgrades that wait for the platform), `messages` (upgraded, no partner), `assembly` (messages not whole
//! yet), `forward` (messages passed on), `pump` (one direction of a splice), `close` (every way out), `alive` (pings
//! and deadlines), [`home`] (moves), [`mail`].

mod alive;
mod ask;
mod assembly;
mod close;
pub mod conn;
mod forward;
pub mod gather;
mod halt;
mod handshakes;
pub mod home;
mod http;
mod input;
mod knock;
pub mod mail;
mod messages;
mod notes;
mod operator;
mod places;
mod progress;
mod pump;
pub mod shared;
mod view;

use std::{io, sync::Arc};

use rand_chacha::ChaCha12Rng;

pub use self::{ask::Platform, mail::Mailboxes, shared::Shared, view::View};
use self::{
    assembly::Assembly,
    conn::Conns,
    forward::Stalls,
    gather::Gathers,
    halt::{Found, Halt},
    handshakes::Handshakes,
    home::Home,
    mail::Mail,
    places::Refused,
};
use crate::{
    admin::Snapshot,
    dialect::{Action, Cx, Dialects, Event, Kind},
    driver::{Completion, Driver},
    limits::TURN_BUDGET,
    time::{Now, Time},
    timers::{Alarm, Wheel},
};

/// One shard. `D` is the driver it runs on.
pub struct Shard<D: Driver> {
    driver: D,
    number: u16,
    shared: Arc<Shared>,
    conns: Conns,
    dialects: Dialects,
    timers: Wheel,
    actions: Vec<Action>,
    random: ChaCha12Rng,
    counters: Snapshot,
    now: Now,
    handshakes: Handshakes,
    refused: Refused,
    home: Home,
    gathers: Gathers,
    stalls: Stalls,
    assembly: Assembly,
    note_quota: notes::Quota,
    mail: Vec<Mail>,
    halt: Halt,
    stage: Stage,
}

/// How far the shard is in its own life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Running,
    /// Upgrades are refused.
    Draining,
    /// Everything is being closed.
    Stopping,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Another turn.
    Continue,
    /// The shard has stopped and its driver holds nothing any more.
    Done,
}

impl<D: Driver> Shard<D> {
    /// A shard that accepts nothing yet: see [`Shard::start`].
    pub fn new(driver: D, number: u16, shared: Arc<Shared>, dialects: Dialects, random: ChaCha12Rng) -> Self {
        let now = driver.now();
        let mut timers = Wheel::new(now.at);
        timers.arm(now.at + alive::PULSE, Alarm::Shard(alive::ALARM_PULSE));
        Shard {
            driver,
            number,
            shared,
            conns: Conns::default(),
            dialects,
            timers,
            actions: Vec::new(),
            random,
            counters: Snapshot { shard: number, ..Snapshot::default() },
            now,
            handshakes: Handshakes::default(),
            refused: Refused::default(),
            home: Home::default(),
            gathers: Gathers::default(),
            stalls: Stalls::default(),
            assembly: Assembly::default(),
            note_quota: notes::Quota::default(),
            mail: Vec::new(),
            halt: Halt::default(),
            stage: Stage::Running,
        }
    }

    /// Starts accepting. Called once every shard is bound.
    pub fn start(&mut self) {
        self.driver.resume_accept();
    }

    /// Turns until the shard has stopped.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? == Flow::Continue {}
        Ok(())
    }

    /// One turn: wait, take completions, take mail, fire timers.
    pub fn turn(&mut self) -> io::Result<Flow> {
        let until = self.next_deadline();
        let expected = until.unwrap_or(Time(u64::MAX)).max(self.now.at);
        self.driver.wait(until)?;
        self.now = self.driver.now();
        self.shared.pulse(self.number, self.now.at);
        let completions = self.take_completions();
        self.take_mail();
        if self.may_fire(expected, completions) {
            self.fire_timers();
        }
        self.resume_released();
        self.admit_waiting();
        self.counters.turn_time.record(self.driver.now().at.since(self.now.at));
        if self.stage == Stage::Stopping && self.is_empty() {
            self.driver.finish();
            return Ok(Flow::Done);
        }
        Ok(Flow::Continue)
    }

    /// Whether timers fire in this turn: not before a shard that stood still has read what came meanwhile.
    fn may_fire(&mut self, expected: Time, completions: usize) -> bool {
        match self.halt.judge(expected, self.now.at, completions) {
            Found::Turning => true,
            Found::CatchingUp => false,
            Found::StoodStill(late) => {
                self.counters.halts += 1;
                if self.counters.halts.is_power_of_two() {
                    let (late_ms, times) = (late.as_millis() as u64, self.counters.halts);
                    tracing::warn!(
                        shard = self.number,
                        late_ms,
                        times,
                        "the shard stood still: the process was halted, or its core was not free"
                    );
                }
                false
            }
        }
    }

    /// Returns how many there were.
    fn take_completions(&mut self) -> usize {
        let mut left = TURN_BUDGET;
        // A receive that was split over several chunks is never interrupted: its first header may promise its
        // last byte.
        let mut inside_a_receive = false;
        let mut taken = 0;
        while left > 0 || inside_a_receive {
            let Some(done) = self.driver.next() else { break };
            left = left.saturating_sub(1);
            taken += 1;
            inside_a_receive = matches!(done, Completion::Received { following, .. } if following > 0);
            self.counters.completions += 1;
            self.dispatch(done);
            self.carry_out();
        }
        taken
    }

    fn dispatch(&mut self, done: Completion) {
        match done {
            Completion::Accepted { conn, peer } => self.on_accepted(conn, peer),
            Completion::AcceptFailed { error } => self.on_accept_failed(error),
            Completion::AcceptStopped => {}
            Completion::Received { conn, chunk, following } => self.on_received(conn, chunk, following),
            Completion::Ended { conn, error } => self.on_ended(conn, error),
            Completion::Stopped { conn } => self.on_stopped(conn),
            Completion::Readable { conn } => self.on_readable(conn),
            Completion::Sent { conn, bytes } => self.on_sent(conn, bytes),
            Completion::SendFailed { conn, error } | Completion::Broken { conn, error } => {
                self.on_broken(conn, error)
            }
            Completion::Arrived { conn, tag } => self.on_arrived(Some(conn), tag),
            Completion::ArrivalFailed { tag } => self.on_arrived(None, tag),
            Completion::Woken => {}
        }
    }

    fn take_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.shared.mailboxes.take(self.number, &mut mail);
        for item in mail.drain(..) {
            self.counters.mails += 1;
            self.handle_mail(item);
            self.carry_out();
        }
        self.mail = mail;
    }

    fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Letter { from, letter } => self.tell(letter.kind(), Event::Letter { from, letter }),
            Mail::Traveller { from, tag, traveller } => self.on_traveller(from, tag, traveller),
            Mail::Returned { tag, traveller } => self.on_returned(tag, *traveller),
            Mail::Received { tag } => self.on_received_by_home(tag),
            Mail::Inquiry { from, ticket, inquiry } => self.answer_inquiry(from, ticket, &inquiry),
            Mail::Part { from, ticket, part } => self.on_part(from, ticket, *part),
            Mail::Kick(target, report) => report(self.kick(&target)),
            Mail::Answer { conn, answer } => self.on_answer(conn, answer),
            Mail::Snapshot(report) => report(self.snapshot()),
            Mail::PolicyChanged => self.tell_all(|| Event::PolicyChanged),
            Mail::Drain => self.stage = Stage::Draining,
            Mail::Stop => self.stop(),
        }
    }

    fn fire_timers(&mut self) {
        for _ in 0..TURN_BUDGET {
            let Some(alarm) = self.timers.pop(self.now.at) else { return };
            match alarm {
                Alarm::Conn(conn) => self.on_due(conn),
                Alarm::Pace(conn) => self.on_paced(conn),
                Alarm::Progress(conn) => self.on_progress_due(conn),
                Alarm::Dialect(alarm) => self.tell(alarm.kind(), Event::Alarm(alarm)),
                Alarm::Shard(number) => self.on_shard_alarm(number),
            }
            self.carry_out();
        }
    }

    /// Tells a dialect what happened. The caller, or the turn, carries out what it answers.
    fn tell(&mut self, kind: Kind, event: Event<'_>) {
        let Shard { dialects, timers, actions, random, shared, now, .. } = self;
        dialects.handle(&mut Cx { now: *now, random, policy: &shared.policy, timers, actions }, kind, event);
    }

    /// Tells every dialect what concerns all of them.
    fn tell_all(&mut self, event: impl Fn() -> Event<'static>) {
        for kind in Kind::ALL {
            if self.dialects.serves(kind) {
                self.tell(kind, event());
            }
        }
    }

    /// Carries out what the dialects answered, in order, with what follows from it.
    fn carry_out(&mut self) {
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.carry_out_one(action);
            }
            if self.actions.is_empty() {
                // Nothing followed: keep the memory.
                self.actions = actions;
            }
        }
    }

    fn carry_out_one(&mut self, action: Action) {
        match action {
            Action::Send { conn, text } => self.send_text(conn, &text),
            Action::Forward { to, .. } => {
                debug_assert!(false, "nothing is at hand to be forwarded to {to:?}")
            }
            Action::Close { conn, reason } => self.close(conn, reason),
            Action::FanOut { to, text } => self.fan_out(to, &text),
            Action::Ask { conn, ask } => self.ask(conn, ask),
            Action::Move { conn, .. } => debug_assert!(false, "{conn:?} can only move with its message"),
            Action::Splice { client, host, splice } => self.splice(client, host, splice),
            Action::Hold { conn } => self.hold(conn),
            Action::Resume { conn } => self.resume(conn),
            Action::Post { shard, letter } => {
                debug_assert_ne!(shard, self.number);
                self.post_mail(shard, Mail::Letter { from: self.number, letter });
            }
            Action::Settle { conn } => self.settle(conn),
            Action::Note(note) => {
                if self.note_quota.allows(note.level, self.now.at) {
                    notes::write(&note);
                } else {
                    self.counters.log_entries_dropped += 1;
                }
            }
        }
    }

    /// Puts mail that must arrive into another shard's box, and wakes that shard if need be.
    fn post_mail(&mut self, shard: u16, mail: Mail) {
        if self.shared.mailboxes.put(shard, mail) {
            self.driver.wake(shard);
        }
    }

    /// Whether nothing is left to wait for when stopping.
    fn is_empty(&self) -> bool {
        self.conns.is_empty() && self.home.is_empty()
    }
}
