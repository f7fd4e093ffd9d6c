//! One run: a relay of some shards, its peers, and everything that has to hold meanwhile.
//!
//! A run is busy for a while under its faults, then calm: whatever is still open has to move again, whoever
//! still asks has to be introduced. Then everyone leaves, or the relay is stopped, and nothing may be left of
//! them. After every step:
//!
//! - what arrived on a link is what was written, in order (the peers check the content as it arrives);
//! - the relay's account of a link lies between what was written and what arrived;
//! - every connection of every shard has a deadline, and mail that waits has a wake-up on its way;
//! - receive buffers out are receive buffers back.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    client::Client,
    dice::Dice,
    driver::SimDriver,
    faults::{Faults, Terrain},
    host::{Host, Identity},
    leg::{CLIENT, HOST, Leg},
    manners::{Manners, Scene},
    network::{Network, Shared},
    pair::Couple,
    stranger::Stranger,
    truth::Truth,
    workspace::{
        Crew,
        platform::{Promptness, SimPlatform},
    },
};
use crate::{
    dialect::{
        link::Link,
        pair::Pair,
        workspace::{Metric, Workspace},
    },
    driver::Driver,
    limits::DIRECTION_BYTES_HIGH,
    shard::{self, Flow, Shard, mail::Mail},
    sim::settings::Plan,
    time::Time,
};

/// What a run came to, for the sums over many of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps taken.
    pub steps: u64,
    /// Links that relayed.
    pub links: u64,
    /// Payload bytes that arrived.
    pub bytes: u64,
    /// Whole messages that arrived.
    pub messages: u64,
    /// Messages that paired devices heard.
    pub paired_messages: u64,
    /// Places in pairing sessions that were taken back.
    pub resumed: u64,
    /// Pairing sessions whose time was over.
    pub expired: u64,
    /// Answers that members of workspaces heard.
    pub answered: u64,
    /// Upgrades to workspaces that were admitted, and that were denied.
    pub admitted: u64,
    /// See `admitted`.
    pub denied: u64,
    /// Questions that the platform had no room for.
    pub refused_questions: u64,
    /// Upgrades, and requests of workers, whose connections were gone when the platform answered.
    pub gone_asking: u64,
    /// Messages that went from a member to another.
    pub workspace_messages: u64,
    /// Members of workspaces that were closed for what waited for them.
    pub overflows: u64,
    /// Times that a message waited for room.
    pub message_waits: u64,
    /// Connections that moved between shards.
    pub moves: u64,
    /// Receives that found no free buffer.
    pub buffers_exhausted: u64,
    /// Payload bytes that went through a pipe.
    pub spliced_bytes: u64,
    /// Times that a source was not read because its destination was behind.
    pub stalls: u64,
    /// Microseconds of pacing.
    pub paced_us: u64,
    /// Ends of links that were idle to their end.
    pub reaped: u64,
    /// Clients, where there was a crowd of them.
    pub crowd: u64,
    /// Accepts, posts and arrivals that found no descriptor or no room.
    pub exhausted: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
}

/// A relay and its peers.
pub struct Run {
    network: Shared,
    relay: Arc<shard::Shared>,
    shards: Vec<Shard<SimDriver>>,
    running: Vec<bool>,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    strangers: Vec<Stranger>,
    couples: Vec<Couple>,
    crews: Vec<Crew>,
    platform: SimPlatform,
    promptness: Promptness,
    gone_asking: u64,
    addresses: Vec<String>,
    truth: Truth,
    dice: Dice,
    manners: Manners,
    idle: Duration,
    /// The cap on what waits for a peer, with what may come before its source stops.
    queue_bytes_max: usize,
    /// Longest step, microseconds.
    step_us: usize,
    /// Steps are long while little happens: it is calm, and there are so many peers that one of them is always pinged.
    hurries: bool,
    /// Clients that did something in the last step.
    busy_clients: usize,
    /// Receives that have found no free buffer, and whether one of the last step did.
    buffers_exhausted: u64,
    is_short_of_buffers: bool,
    strict: bool,
    paced: bool,
    /// Ends of links that were idle to their end.
    reaped: u64,
    may_overload: bool,
    claims_may_err: bool,
    stopping: bool,
    steps: u64,
    started_at: Time,
}

impl Run {
    /// The run of a seed. `trace` prints what happens.
    pub fn new(seed: u64, trace: bool) -> Run {
        Run::of(Dice::new(seed), trace, Plan::with_a_crowd)
    }

    /// The run of a script, in which there is never a crowd.
    pub fn scripted(script: &[u8]) -> Run {
        Run::of(Dice::scripted(script), false, |plan, _| plan)
    }

    /// The run that `dice` decide, once `finish` has had the last word on its plan.
    fn of(mut dice: Dice, trace: bool, finish: impl FnOnce(Plan, &mut Dice) -> Plan) -> Run {
        let mut faults = Faults::draw(&mut dice);
        let mut terrain = Terrain::draw(&mut dice);
        let mut manners = Manners::draw(&mut dice);
        if manners.are_bulky() {
            // The delicate moment of a large frame is when its source stops being received.
            faults.late_stop = faults.late_stop.max(300_000);
            terrain.pipes = terrain.pipes.max(1);
        }
        let plan = Plan::draw(&mut dice).with_workspaces(&mut dice);
        let plan = finish(plan, &mut dice);
        if plan.is_crowd {
            manners = manners.of_a_crowd();
            // The operators' view of a crowd is long, and has to be taken in time.
            terrain.window = terrain.window.max(4096);
        }
        let promptness = Promptness::draw(&mut dice);
        if trace {
            eprintln!("{faults:?}\n{terrain:?}\n{manners:?}\n{plan:?}");
        }
        let may_overload = faults.post_lost > 0;
        let one_receive = terrain.window.min(terrain.buffers * terrain.buffer_bytes);
        let queue_bytes_max = DIRECTION_BYTES_HIGH + RECEIVES_BEFORE_A_STOP * one_receive + SET_ASIDE_AT_ONCE;
        let strict = !faults.break_connections() && faults.stall == 0;
        let network = Network::new(plan.shards, terrain, faults, dice.fork());
        network.borrow_mut().trace = trace;
        let platform = SimPlatform::new(dice.between(1, 20));
        let mut relay = plan.shared(network.borrow().now().at);
        relay.platform = Some(Box::new(platform.clone()));
        let relay = Arc::new(relay);
        let shards = plan.start_shards(&network, &relay, &mut dice);
        let mut addresses = Vec::new();
        let hosts = (0..plan.hosts)
            .map(|number| {
                let identities: Vec<_> = (0..dice.between(1, 3)).map(|_| Identity::new(&mut dice)).collect();
                addresses.extend(identities.iter().map(|identity| identity.address.clone()));
                Host::new(address(1, number), identities)
            })
            .collect();
        let clients = (0..plan.clients)
            .map(|number| Client::new(address(2, number), dice.between(1, 4) as u32))
            .collect();
        let strangers = (0..plan.strangers)
            .map(|number| Stranger::new(address(3, number), dice.between(1, 3) as u32))
            .collect();
        let couples = (0..plan.couples)
            .map(|number| Couple::new(number, [address(4, number), address(5, number)], plan.ttl))
            .collect();
        let crews = (plan.crews.iter().enumerate())
            .map(|(number, members)| {
                let peers: Vec<_> = (0..*members).map(|index| address(6, 8 * number + index)).collect();
                Crew::new(number, &peers)
            })
            .collect();
        let started_at = network.borrow().now().at;
        Run {
            network,
            relay,
            running: vec![true; usize::from(plan.shards)],
            shards,
            hosts,
            clients,
            strangers,
            couples,
            crews,
            platform,
            promptness,
            gone_asking: 0,
            addresses,
            truth: Truth::default(),
            step_us: dice.size(STEP_US_MAX),
            hurries: false,
            busy_clients: 0,
            buffers_exhausted: 0,
            is_short_of_buffers: false,
            dice,
            manners,
            idle: plan.idle,
            queue_bytes_max,
            strict,
            paced: plan.is_paced(),
            reaped: 0,
            may_overload,
            claims_may_err: promptness.errs(),
            stopping: false,
            steps: 0,
            started_at,
        }
    }

    /// Is busy for a while, then runs to the end.
    pub fn run(mut self) -> Report {
        for _ in 0..self.dice.between(200, 1_500) {
            self.step();
        }
        self.end()
    }

    /// Is busy for as long as the script decides what happens, then runs to the end, which no script has a say in: with
    /// steps that get there soon.
    pub fn run_script(mut self) -> Report {
        while self.dice.has_script() {
            self.step();
        }
        self.step_us = STEP_US_MAX;
        self.end()
    }

    fn end(mut self) -> Report {
        self.calm_down();
        if self.dice.chance(300_000) {
            self.fall_silent();
        }
        if self.dice.chance(700_000) {
            self.everyone_leaves();
        }
        self.stop()
    }

    /// One step: time passes, shards turn, peers act, everything is checked. Returns whether anything moved.
    fn step(&mut self) -> bool {
        self.steps += 1;
        // Who waits for a buffer waits for many turns, and is not to wait for long.
        let hurries = self.hurries && self.busy_clients < FEW && !self.is_short_of_buffers;
        let span = Duration::from_micros(match hurries {
            true => self.dice.between(0, HURRIED_STEP_US),
            false => self.dice.size(self.step_us),
        } as u64);
        self.network.borrow_mut().advance(span);
        self.with_peers(|peers, scene| {
            peers.hosts.iter_mut().for_each(|host| host.notice(scene));
            peers.clients.iter_mut().for_each(|client| client.notice(scene));
            false
        });
        let mut moved = self.turn_shards();
        let mut busy_clients = 0;
        moved |= self.with_peers(|peers, scene| {
            let mut moved = false;
            peers.hosts.iter_mut().for_each(|host| moved |= host.step(scene));
            peers.clients.iter_mut().for_each(|client| busy_clients += usize::from(client.step(scene)));
            moved |= busy_clients > 0;
            peers.strangers.iter_mut().for_each(|stranger| moved |= stranger.step(scene));
            peers.couples.iter_mut().for_each(|couple| moved |= couple.step(scene));
            peers.crews.iter_mut().for_each(|crew| moved |= crew.step(scene));
            moved
        });
        self.busy_clients = busy_clients;
        let exhausted = self.shards.iter_mut().map(|shard| shard.driver().counters().buffers_exhausted).sum();
        self.is_short_of_buffers = exhausted > std::mem::replace(&mut self.buffers_exhausted, exhausted);
        moved |= self.answer_questions();
        self.check();
        if !moved {
            self.skip_to_next_event();
        }
        moved
    }

    /// The platform answers some of what it was asked.
    fn answer_questions(&mut self) -> bool {
        let mut moved = false;
        while let Some((question, answer)) = self.platform.answer_one(&self.promptness, &mut self.dice) {
            moved = true;
            self.gone_asking += u64::from(!self.shards[usize::from(question.shard)].holds(question.conn));
            if question.answer(&self.relay.mailboxes, answer) {
                self.network.borrow_mut().wake(question.shard);
            }
        }
        moved
    }

    fn turn_shards(&mut self) -> bool {
        let mut order: Vec<usize> = (0..self.shards.len()).filter(|number| self.running[*number]).collect();
        self.dice.shuffle(&mut order);
        let mut moved = false;
        for number in order {
            let shard = &mut self.shards[number];
            let (idle_turn, sits_out) = {
                let mut network = self.network.borrow_mut();
                let (idle, slow) = (network.faults.idle_turn, network.faults.slow_shard);
                (network.dice.chance(idle), network.dice.chance(slow))
            };
            let now = shard.driver().now().at;
            let has_work = shard.driver().poll() || shard.next_deadline().is_some_and(|at| at <= now);
            // What is late or sits out is there still: time must not be skipped.
            moved |= has_work || shard.driver().is_late();
            if sits_out || !(has_work || idle_turn) {
                continue;
            }
            if shard.turn().expect("the simulated driver does not fail") == Flow::Done {
                self.running[number] = false;
            }
            shard.driver().invariants();
        }
        moved
    }

    /// Jumps to whatever happens next by itself.
    fn skip_to_next_event(&mut self) {
        let mut network = self.network.borrow_mut();
        let now = network.now().at;
        let running = self.shards.iter().zip(&self.running).filter(|(_, running)| **running);
        let deadlines = running.filter_map(|(shard, _)| shard.next_deadline());
        let peers = (self.hosts.iter().filter_map(Host::wakes_at))
            .chain(self.clients.iter().filter_map(Client::wakes_at))
            .chain(self.strangers.iter().filter_map(Stranger::wakes_at))
            .chain(self.couples.iter().filter_map(Couple::wakes_at))
            .chain(self.crews.iter().filter_map(Crew::wakes_at));
        let next = deadlines.chain(peers).chain(network.next_due()).filter(|at| *at > now).min();
        if let Some(next) = next {
            network.advance(next.since(now));
        }
    }

    /// What has to hold after every step.
    fn check(&mut self) {
        let mut forwarded = [0; 2];
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let snapshot = shard.snapshot();
            forwarded[CLIENT] += snapshot.from_client.bytes;
            forwarded[HOST] += snapshot.from_host.bytes;
            if !self.running[number] {
                continue;
            }
            let queued = shard.driver().longest_queue();
            assert!(queued <= self.queue_bytes_max, "{queued} bytes wait for one peer");
            let view = shard.view();
            assert_eq!(view.without_deadline, [], "connections of shard {number} without a deadline");
            let waits = self.relay.mailboxes.waiting(number as u16) > 0;
            assert!(!waits || shard.driver().will_wake(), "mail of shard {number} waits for no one");
        }
        for side in [CLIENT, HOST] {
            let (written, arrived) = self.truth.totals(side);
            let accounted = forwarded[side];
            let in_between = arrived <= accounted && accounted <= written;
            assert!(
                in_between,
                "of {written} bytes written {accounted} are accounted, and {arrived} arrived"
            );
        }
    }

    /// No more faults, no more moods: what is open has to become even, who asks has to be introduced.
    fn calm_down(&mut self) {
        self.network.borrow_mut().calm_down();
        self.manners = self.manners.calm();
        // With few buffers whoever has much to say takes many turns for it.
        self.hurries = self.clients.len() > CROWD && self.network.borrow().terrain.buffers >= MANY_BUFFERS;
        self.hosts.iter_mut().for_each(Host::wake_up);
        self.clients.iter_mut().for_each(Client::wake_up);
        self.couples.iter_mut().for_each(Couple::calm_down);
        self.crews.iter_mut().for_each(Crew::calm_down);
        self.promptness = Promptness::calm();
        self.until("links move and introductions end once it is calm", Duration::from_secs(1_500), |run| {
            run.clients
                .iter()
                .all(|client| client.is_gone() || client.leg().is_some_and(|leg| run.is_even(leg)))
                && run.hosts.iter().flat_map(Host::legs).all(|leg| run.is_even(leg))
                && run.couples.iter().all(Couple::is_even)
                && run.crews.iter().all(Crew::is_even)
        });
    }

    /// Nobody says anything any more, though all answer their pings: links end by 4004, not before their time (which
    /// their ends check) and not after it.
    fn fall_silent(&mut self) {
        let legs = |run: &Run| {
            let clients = run.clients.iter().filter(|client| client.leg().is_some()).count();
            clients + run.hosts.iter().flat_map(Host::legs).count()
        };
        self.reaped = legs(self) as u64;
        self.clients.iter_mut().for_each(Client::ask_no_more);
        self.until("idle links are reaped on time", self.idle + REAPED_WITHIN, |run| legs(run) == 0);
    }

    fn is_even(&self, leg: &Leg) -> bool {
        leg.is_talking() && leg.has_said_everything() && self.truth.is_even(leg.link())
    }

    fn everyone_leaves(&mut self) {
        self.with_peers(|peers, scene| {
            peers.hosts.iter_mut().for_each(|host| host.retire(scene));
            peers.clients.iter_mut().for_each(|client| client.retire(scene));
            peers.strangers.iter_mut().for_each(Stranger::retire);
            peers.couples.iter_mut().for_each(|couple| couple.retire(scene));
            peers.crews.iter_mut().for_each(|crew| crew.retire(scene));
            false
        });
        self.until("everyone leaves", Duration::from_secs(60), |run| {
            // Who left before it was accepted is accepted all the same, if accepting rests.
            let is_waiting = |shard| run.network.borrow().has_waiting(shard);
            !(0..run.shards.len() as u16).any(is_waiting)
                && run.hosts.iter().all(Host::is_gone)
                && run.clients.iter().all(Client::is_gone)
                && run.strangers.iter().all(Stranger::is_gone)
                && run.couples.iter().all(Couple::is_gone)
                && run.crews.iter().all(Crew::is_gone)
                && run.shards.iter().all(|shard| shard.view().connections == 0)
                && run.shards.iter().all(|shard| shard.dialects().pair.as_ref().is_some_and(Pair::is_empty))
        });
        assert_eq!(self.relay.policy.workspace_gate().taken(), (0, 0), "places of workspaces are left");
        // Scopes and limits outlive their members for a while, with the alarms that see to their end.
        self.until("workspaces are forgotten", Duration::from_secs(400), |run| {
            let is_empty = |shard: &Shard<SimDriver>| {
                shard.dialects().workspace.as_ref().is_none_or(Workspace::is_empty)
            };
            run.shards.iter().all(|shard| is_empty(shard) && shard.view().timers == 1)
        });
        for shard in &mut self.shards {
            assert!(shard.view().is_idle(), "more than the shard itself is left: {:?}", shard.view());
            let snapshot = shard.snapshot();
            let links = snapshot.links;
            assert_eq!((links.introduced, links.pending, links.relaying), (0, 0, 0), "links are counted");
            assert_eq!(snapshot.addresses, 0, "addresses are counted");
            assert!(
                shard.dialects().link.as_ref().is_some_and(Link::is_empty),
                "the dialect remembers someone"
            );
            assert_eq!(shard.driver().connections(), 0, "connections are left");
        }
        assert_eq!(self.relay.policy.sessions(), 0, "places for sessions are left");
        assert_eq!(self.network.borrow().held_by_relay(), 0, "descriptors are left");
    }

    /// Stops the relay under whoever is left.
    fn stop(mut self) -> Report {
        let mut report = self.report();
        self.stopping = true;
        for number in 0..self.shards.len() as u16 {
            if self.relay.mailboxes.put(number, Mail::Stop) {
                self.network.borrow_mut().wake(number);
            }
        }
        self.until("the relay stops", Duration::from_secs(5), |run| {
            run.running.iter().all(|running| !running)
        });
        assert_eq!(self.network.borrow().held_by_relay(), 0, "descriptors are left");
        assert_eq!(self.relay.policy.workspace_gate().taken(), (0, 0), "places of workspaces are left");
        report.steps = self.steps;
        report.elapsed = self.network.borrow().now().at.since(self.started_at);
        report
    }

    fn until(&mut self, what: &str, within: Duration, holds: impl Fn(&Run) -> bool) {
        let deadline = self.network.borrow().now().at + within;
        let steps_max = self.steps + STEPS_MAX;
        while !holds(self) {
            assert!(self.steps < steps_max, "much happens and nothing comes of it: {what}");
            assert!(self.network.borrow().now().at < deadline, "not within {within:?}: {what}");
            self.step();
        }
    }

    fn report(&mut self) -> Report {
        let mut report = Report {
            links: self.clients.iter().map(|client| client.linked).sum(),
            messages: self.truth.messages(),
            paired_messages: self.couples.iter().map(Couple::heard).sum(),
            resumed: self.couples.iter().map(Couple::resumed).sum(),
            answered: self.crews.iter().map(Crew::answered).sum(),
            gone_asking: self.gone_asking,
            reaped: self.reaped,
            crowd: if self.clients.len() > CROWD { self.clients.len() as u64 } else { 0 },
            bytes: [CLIENT, HOST].iter().map(|side| self.truth.totals(*side).1).sum(),
            ..Report::default()
        };
        for shard in &mut self.shards {
            let snapshot = shard.snapshot();
            report.moves += snapshot.handoffs.received;
            report.exhausted +=
                snapshot.accept_failures + snapshot.handoffs.failed + snapshot.handoffs.delayed;
            report.stalls += snapshot.stalls;
            report.expired += snapshot.pair.expired;
            if let Some(workspace) = &shard.dialects().workspace {
                let value = |metric| workspace.counters().value(metric);
                report.admitted += value(Metric::AdmissionOk);
                report.denied += value(Metric::AdmissionDenied);
                report.overflows += value(Metric::WsSlowClientTerminated);
                report.workspace_messages += value(Metric::FramesClientToDaemon)
                    + value(Metric::KeyExchangeResponseRoutedLocal)
                    + value(Metric::SessionFrameRoutedLocal);
            }
            report.refused_questions += snapshot.questions_refused;
            report.message_waits += snapshot.message_budget_waits;
            report.paced_us += snapshot.paced_us;
            report.buffers_exhausted += snapshot.driver.buffers_exhausted;
            report.spliced_bytes += snapshot.driver.spliced_bytes;
        }
        report
    }

    /// Lets the peers do something with their scene.
    fn with_peers(&mut self, act: impl FnOnce(&mut Peers<'_>, &mut Scene<'_>) -> bool) -> bool {
        let mut network = self.network.borrow_mut();
        let mut scene = Scene {
            network: &mut network,
            truth: &mut self.truth,
            dice: &mut self.dice,
            manners: &self.manners,
            addresses: &self.addresses,
            strict: self.strict,
            paced: self.paced,
            may_overload: self.may_overload,
            claims_may_err: self.claims_may_err,
            stopping: self.stopping,
            idle: self.idle,
        };
        let mut peers = Peers {
            hosts: &mut self.hosts,
            clients: &mut self.clients,
            strangers: &mut self.strangers,
            couples: &mut self.couples,
            crews: &mut self.crews,
        };
        act(&mut peers, &mut scene)
    }
}

struct Peers<'a> {
    hosts: &'a mut [Host],
    clients: &'a mut [Client],
    strangers: &'a mut [Stranger],
    couples: &'a mut [Couple],
    crews: &'a mut [Crew],
}

/// Receives that a source may still have until it is turned off, at its latest.
const RECEIVES_BEFORE_A_STOP: usize = 8;
/// What a source that goes on may forward of what was set aside, headers included, before its destination is
/// looked at again.
const SET_ASIDE_AT_ONCE: usize = 128 * 1024;
/// Beyond its time, a link is looked at by the timers' grain, closed, and its ends answer.
const REAPED_WITHIN: Duration = Duration::from_secs(10);
/// More clients than a run has that is no crowd's.
const CROWD: usize = 100;
/// The longest that a run's longest step may be, microseconds.
const STEP_US_MAX: usize = 10_000;
/// Longest step of a run that hurries, microseconds.
const HURRIED_STEP_US: usize = 100_000;
/// Receive buffers of a shard with which hundreds are read within a second of such steps, while none of them waits.
const MANY_BUFFERS: usize = 16;
/// Clients that are pinged in one such step; more have something to do with each other.
const FEW: usize = 4;
/// Steps in which whatever is waited for has to come about, however short they are.
const STEPS_MAX: u64 = 1_000_000;

/// Every peer has an address of its own.
fn address(kind: u8, number: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, kind, (number >> 8) as u8, number as u8)), 40_000)
}
