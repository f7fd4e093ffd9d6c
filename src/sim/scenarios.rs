//! Scenarios that a run came upon, each by itself: one shard, one link, and no faults.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    dice::Dice,
    driver::SimDriver,
    faults::{Faults, Terrain},
    host::Identity,
    network::{Network, Shared},
    settings::Plan,
    wire::{BINARY, Incoming, Wire},
};
use crate::{dialect::link::PATH, driver::Driver, pacing::Rates, shard::Shard};

/// A relay of one shard, the client and the host of a link, and the host's control socket.
struct OneLink {
    network: Shared,
    shard: Shard<SimDriver>,
    dice: Dice,
    client: End,
    host: End,
    control: End,
}

/// A socket of a peer, and what came on it.
struct End {
    wire: Wire,
    text: Vec<u8>,
    payload_bytes: usize,
    /// The close frame, or the end, that came.
    closed: Option<Incoming>,
}

impl OneLink {
    /// A link that relays at `rates`; a frame with a zero mask leaves by a pipe.
    fn relaying(rates: Rates) -> OneLink {
        OneLink::on(ROOMY, rates)
    }

    fn on(terrain: Terrain, rates: Rates) -> OneLink {
        OneLink::connected(&Plan::of_a_scenario(rates, FRAME_BYTES / 2), terrain).join()
    }

    /// Three sockets that have said nothing yet.
    fn connected(plan: &Plan, terrain: Terrain) -> OneLink {
        let mut dice = Dice::new(1);
        let network = Network::new(1, terrain, Faults::calm(), dice.fork());
        // Every window is as the terrain has it.
        network.borrow_mut().calm_down();
        let relay = Arc::new(plan.shared(network.borrow().now().at));
        let driver = SimDriver::new(network.clone(), 0);
        let mut shard = Shard::new(driver, 0, relay, plan.dialects(0), dice.generator());
        shard.start();
        let [control, client, host] = [1, 2, 3].map(|number| End::connect(&network, number));
        OneLink { network, shard, dice, client, host, control }
    }

    /// Makes a link of them.
    fn join(self) -> OneLink {
        let mut link = self;
        let identity = Identity::new(&mut link.dice);
        let stamp = link.network.borrow().now().unix_ms;
        let _ = link.say(|link| &mut link.control, identity.register(stamp, "nonce"));
        let address = &identity.address;
        let found = link.say(|link| &mut link.client, json!({"type": "resolve", "address": address}));
        let id = &found["linkId"];
        link.client.wire.send_text(&json!({"type": "relay", "linkId": id}).to_string(), &mut link.dice);
        link.settle();
        let relaying = link.say(|link| &mut link.host, json!({"type": "accept", "linkId": id}));
        assert_eq!(relaying["type"], "relaying");
        link
    }

    /// Sends a control message; returns the answer.
    fn say(&mut self, end: fn(&mut OneLink) -> &mut End, message: Value) -> Value {
        let mut dice = self.dice.fork();
        end(self).wire.send_text(&message.to_string(), &mut dice);
        end(self).text.clear();
        self.settle();
        serde_json::from_slice(&end(self).text).expect("one message answers")
    }

    /// Steps until nothing moves at this time.
    fn settle(&mut self) {
        while self.step(usize::MAX) {}
    }

    /// Everyone does what there is to do now; the host takes up to `host_bytes`. Returns whether anything moved.
    fn step(&mut self, host_bytes: usize) -> bool {
        self.network.borrow_mut().advance(Duration::from_micros(1));
        let now = self.network.borrow().now().at;
        let mut moved = false;
        if self.shard.driver().poll() || self.shard.next_deadline().is_some_and(|at| at <= now) {
            self.shard.turn().expect("the simulated driver does not fail");
            moved = true;
        }
        for (end, bytes_max) in
            [(&mut self.control, usize::MAX), (&mut self.client, usize::MAX), (&mut self.host, host_bytes)]
        {
            moved |= end.step(&self.network, &mut self.dice, bytes_max);
        }
        moved
    }
}

impl End {
    fn connect(network: &Shared, number: u8) -> End {
        let peer = SocketAddr::from(([10, 0, 0, number], 40_000));
        let stream = network.borrow_mut().connect(peer).expect("it listens");
        End { wire: Wire::new(stream, PATH, ALWAYS), text: Vec::new(), payload_bytes: 0, closed: None }
    }

    fn step(&mut self, network: &Shared, dice: &mut Dice, bytes_max: usize) -> bool {
        let network = &mut *network.borrow_mut();
        let incoming = self.wire.receive(network, bytes_max, dice);
        let moved = !incoming.is_empty();
        for incoming in incoming {
            match incoming {
                Incoming::Data { text: true, payload, .. } => self.text.extend(payload),
                Incoming::Data { text: false, payload, .. } => self.payload_bytes += payload.len(),
                Incoming::Upgraded => (),
                other => {
                    self.closed.get_or_insert(other);
                }
            }
        }
        moved | self.wire.flush(network, dice)
    }
}

/// The client sends one frame that leaves by a pipe; the host reads `host_bps`.
fn pipe_slowly(rates: Rates, host_bps: usize) {
    let mut link = OneLink::relaying(rates);
    link.client.wire.send_frame(BINARY, true, &[7; FRAME_BYTES], &mut link.dice);
    let slice = Duration::from_millis(100);
    for _ in 0..10_000 {
        link.network.borrow_mut().advance(slice);
        link.step(host_bps / 10);
        while link.step(0) {}
        assert_eq!((&link.client.closed, &link.host.closed), (&None, &None), "nobody is dropped");
        if link.host.payload_bytes == FRAME_BYTES {
            let spliced = link.shard.driver().counters().spliced_bytes;
            assert!(spliced > FRAME_BYTES as u64 / 2, "only {spliced} bytes went through a pipe");
            return;
        }
    }
    panic!("of {FRAME_BYTES} bytes {} arrived", link.host.payload_bytes);
}

#[test]
fn a_source_whose_frame_waits_for_pacing_in_front_of_a_pipe_is_not_judged_by_its_pongs() {
    pipe_slowly(Rates { rate_bps: 10_000, ..Rates::default() }, usize::MAX);
}

#[test]
fn a_source_whose_frame_waits_for_its_destination_in_front_of_a_pipe_is_not_judged_by_its_pongs() {
    pipe_slowly(Rates::default(), 10_000);
}

#[test]
fn a_source_whose_pong_lies_behind_what_the_relay_has_not_read_is_not_dropped() {
    let terrain = Terrain { eager: false, buffers: 1, buffer_bytes: 80, pipes: 0, window: WINDOW };
    let mut link = OneLink::on(terrain, Rates::default());
    // All of it fits the window, and a buffer a step takes some ping intervals for it.
    let messages = WINDOW / 8;
    for _ in 0..messages {
        link.client.wire.send_frame(BINARY, true, &[7], &mut link.dice);
    }
    for _ in 0..10 * messages {
        link.network.borrow_mut().advance(Duration::from_millis(300));
        link.step(usize::MAX);
        assert_eq!((&link.client.closed, &link.host.closed), (&None, &None), "nobody is dropped");
        if link.host.payload_bytes == messages {
            return;
        }
    }
    panic!("of {messages} bytes {} arrived", link.host.payload_bytes);
}

#[test]
fn a_close_whose_time_is_over_while_the_shard_stands_still_does_not_end_inside_a_frame() {
    let mut resets = 0;
    for seed in 0..40 {
        let mut link = OneLink::relaying(Rates::default());
        {
            let mut network = link.network.borrow_mut();
            (network.dice, network.faults.partial_send) = (Dice::new(seed), ALWAYS);
        }
        // The client is told that its host has gone, by a frame that leaves in parts. Behind the first one the shard
        // stands still, and again while it catches up.
        link.host.wire.send_close(1000, &mut link.dice);
        link.step(usize::MAX);
        link.step(usize::MAX);
        for _ in 0..2 {
            link.network.borrow_mut().advance(Duration::from_secs(10));
            link.step(usize::MAX);
        }
        link.settle();
        resets += usize::from(link.client.closed == Some(Incoming::Reset));
    }
    assert!(resets > 0, "every close frame was whole in time");
}

#[test]
fn a_notice_longer_than_what_may_wait_closes_nobody_who_reads() {
    let plan = Plan::of_a_scenario(Rates::default(), FRAME_BYTES / 2).queueing(20);
    let mut link = OneLink::connected(&plan, ROOMY);
    // Their upgrades are answered before anything else is.
    link.settle();
    let mut link = link.join();
    for _ in 0..3 {
        let usage = link.say(|link| &mut link.control, json!({"type": "getUsage"}));
        assert_eq!(usage["connections"].as_array().map(Vec::len), Some(1));
    }
    assert_eq!(link.control.closed, None);
}

/// Takes some ping intervals at the speed of the scenarios.
const FRAME_BYTES: usize = 1_500_000;
const WINDOW: usize = 64 * 1024;
/// Buffers for everyone, and a pipe.
const ROOMY: Terrain = Terrain { eager: false, buffers: 32, buffer_bytes: 1024, pipes: 1, window: WINDOW };
/// In millionths.
const ALWAYS: u32 = 1_000_000;
