//! Pacing: the rate, the quota and its trickle, and what the host is told of them (link.md section 7).
//!
//! That any second keeps to the rate, and that it is smooth, is proven in virtual time by the unit tests; here
//! whole relays are measured at the receiver. A busy machine brings less than was granted, and brings it late; never
//! more. So upper bounds are exact and on totals, and lower ones are wide.

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    End, Heard, Host, Link, PATIENCE, Peer, Raw, assert_within,
    bulk::{self, Flood, Meter},
    eventually, every_cell, every_cell_in_turn, wire,
};

const MIB: f64 = 1_048_576.0;

#[test]
fn after_a_burst_of_two_seconds_a_link_moves_at_its_rate() {
    every_cell_in_turn(|cell| {
        // The reference's default is 1 MiB/s.
        let relay = cell.setup().env("LINK_RELAY_MAX_BPS", "").start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let begun = Instant::now();
        let _flood = Flood::start(&mut link.client, 20_000);
        let meter = Meter::watch(&mut link.host, Duration::from_secs(7));
        let ahead = meter.start().duration_since(begun).as_secs_f64();
        for half in 1..=12 {
            let to = f64::from(half) * 0.5;
            let granted = (2.0 + ahead + to) * MIB;
            assert_within(&format!("by {to} seconds"), meter.between(0.0, to), 0.0..=granted + 0.3 * MIB);
        }
        // Without a burst it would have been three at most.
        assert_within("by three seconds", meter.between(0.0, 3.0), (3.2 + ahead) * MIB..=f64::MAX);
        assert_within("five seconds after the burst", meter.between(1.0, 6.0), 2.5 * MIB..=f64::MAX);
        // The sender feels it: what the relay has not paid for stays with the sender's kernel.
        assert!(relay.metrics().sum("longsplice_paced_seconds_total") > 2.0);
    });
}

#[test]
fn both_directions_are_charged_to_one_account() {
    every_cell_in_turn(|cell| {
        let relay = cell.setup().env("LINK_RELAY_MAX_BPS", 200_000).start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let begun = Instant::now();
        let _floods = [Flood::start(&mut link.client, 5000), Flood::start(&mut link.host, 5000)];
        let (at_host, at_client) = thread::scope(|scope| {
            let at_host = scope.spawn(|| Meter::watch(&mut link.host, Duration::from_secs(6)));
            let at_client = Meter::watch(&mut link.client, Duration::from_secs(6));
            (at_host.join().expect("the meter does not panic"), at_client)
        });
        let granted = 400_000.0 + 200_000.0 * begun.elapsed().as_secs_f64();
        let (from_client, from_host) = (at_host.between(0.0, f64::MAX), at_client.between(0.0, f64::MAX));
        let both = from_client + from_host;
        assert_within("six seconds of both", both, 800_000.0..=granted + 60_000.0);
        // Neither starves the other.
        assert_within("the client's share", from_client / both, 0.1..=0.9);
    });
}

#[test]
fn a_frame_larger_than_the_burst_is_a_long_wait_and_no_close() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_RELAY_MAX_BPS", 1_000_000).start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let mut random = bulk::seeded("a large frame");
        let payload = bulk::content(&mut random, 5_000_000);
        let mut writer = link.client.writer();
        let frame = wire::message(wire::BINARY, &payload);
        let started = Instant::now();
        let sender = thread::spawn(move || std::io::Write::write_all(&mut writer, &frame));
        let Heard::Binary(arrived) = link.host.hear(PATIENCE) else { panic!("not the message") };
        assert_eq!(bulk::hash(&arrived), bulk::hash(&payload));
        // Two million at once, three million at a million a second.
        assert_within("took", started.elapsed(), Duration::from_millis(2700)..=PATIENCE);
        sender.join().expect("no panic").expect("the relay took it all");
        link.check();
    });
}

#[test]
fn without_a_rate_a_link_moves_as_fast_as_it_can() {
    every_cell_in_turn(|cell| {
        let relay = cell.setup().env("LINK_RELAY_MAX_BPS", 0).start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let _flood = Flood::start(&mut link.client, 60_000);
        let meter = Meter::watch(&mut link.host, Duration::from_secs(4));
        // The default rate would have granted 6 MiB.
        assert_within("four seconds", meter.between(0.0, 4.0), 7.0 * MIB..=f64::MAX);
        assert_eq!(relay.metrics().sum("longsplice_paced_seconds_total"), 0.0);
    });
}

#[test]
fn over_the_hourly_quota_a_link_trickles_and_its_host_is_told() {
    every_cell(|cell| {
        let relay = cell
            .setup()
            .env("LINK_RELAY_HOURLY_BYTES", 360_000)
            .env("LINK_RELAY_TRICKLE_BPS", 20_000)
            .start();
        let joined = Instant::now();
        let (mut host, mut link) = Link::<Raw>::new(&relay);
        assert_eq!(host.usage(), json!([{ "linkId": link.id, "used": 0, "throttled": false }]));

        // Four of ten parts: nothing to tell.
        link.client.write(&wire::message(wire::BINARY, &[1; 144_000]));
        assert_eq!(link.host.hear(PATIENCE), Heard::Binary(vec![1; 144_000]));
        let usage = host.usage();
        assert_within("used", used(&usage), 0.39..=0.4);
        assert_eq!(usage[0]["throttled"], false);
        host.control.expect_silence(Duration::from_millis(1200));

        // Six of ten: past the first step.
        link.host.write(&wire::message(wire::BINARY, &[2; 72_000]));
        assert_eq!(link.client.hear(PATIENCE), Heard::Binary(vec![2; 72_000]));
        let pushed = host.control.expect("usage");
        assert_eq!(pushed["connections"][0]["linkId"], link.id.as_str());
        assert_within("used", used(&pushed["connections"]), 0.5..=0.6);
        assert_eq!(keys_of(&pushed["connections"][0]), ["linkId", "throttled", "used"], "never bytes");

        // The rest at once, and with it the two seconds' burst of the trickle; then a hundred bytes of
        // quota and twenty thousand of trickle a second.
        let started = Instant::now();
        let flood = Flood::start(&mut link.client, 1000);
        let meter = Meter::watch(&mut link.host, Duration::from_secs(7));
        let ahead = meter.start().duration_since(started).as_secs_f64();
        let quota = 144_000.0 + 100.0 * joined.elapsed().as_secs_f64();
        for half in 1..=13 {
            let to = f64::from(half) * 0.5;
            let granted = quota + 20_000.0 * (2.0 + ahead + to);
            assert_within(&format!("by {to} seconds"), meter.between(0.0, to), 0.0..=granted + 20_000.0);
        }
        // More than the quota and its burst: it trickles on.
        assert_within("by six seconds and a half", meter.between(0.0, 6.5), 230_000.0..=f64::MAX);
        let mut pushes = Vec::new();
        while let Heard::Text(text) = host.control.hear(Duration::from_millis(100)) {
            let push: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(push["type"], "usage");
            pushes.push(push["connections"].clone());
        }
        let seconds = started.elapsed().as_secs() + 2;
        assert_within("pushes, at most one a second", pushes.len() as u64, 1..=seconds);
        let last = pushes.last().expect("at least one");
        // What passes is free again at once, so that a moment without traffic may be seen.
        let spent = 0.999..=1.0;
        assert_eq!(last[0]["throttled"], true);
        assert_within("used, as pushed", used(last), spent.clone());
        let usage = host.usage();
        assert_eq!((&usage[0]["linkId"], &usage[0]["throttled"]), (&json!(link.id), &json!(true)));
        assert_within("used, as asked for", used(&usage), spent.clone());
        let stats = relay.stats();
        assert_eq!(stats["liveLinks"][0]["throttled"], true);
        let fraction = stats["liveLinks"][0]["usedFraction"].as_f64().expect("a number");
        assert_within("used, in the statistics", fraction, spent);
        drop(flood);
        link.host.expect_any_until_closed(4003);
    });
}

#[test]
fn a_link_that_is_back_within_its_quota_is_told_so() {
    every_cell(|cell| {
        let relay =
            cell.setup().env("LINK_RELAY_HOURLY_BYTES", 36_000).env("LINK_RELAY_TRICKLE_BPS", 20_000).start();
        let (mut host, mut link) = Link::<Peer>::new(&relay);
        link.client.send_binary(&[0; 60_000]);
        assert_eq!(link.host.hear(PATIENCE), Heard::Binary(vec![0; 60_000]));
        let mut throttled = false;
        eventually("the host hears that its link is throttled", || {
            throttled |= host.control.expect("usage")["connections"][0]["throttled"] == true;
            throttled
        });
        // Ten bytes of quota a second: after three seconds, a message of ten is within it.
        thread::sleep(Duration::from_secs(3));
        link.client.send_binary(&[0; 10]);
        assert_eq!(link.host.hear(PATIENCE), Heard::Binary(vec![0; 10]));
        eventually("the host hears that its link is free again", || {
            host.control.expect("usage")["connections"][0]["throttled"] == false
        });
    });
}

#[test]
fn a_paced_link_delays_no_other() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_RELAY_MAX_BPS", 100_000).start();
        let mut host = Host::register(&relay);
        let mut links: Vec<Link<Raw>> = (0..6).map(|_| host.join(&relay)).collect();
        let floods: Vec<Flood> =
            links.iter_mut().map(|link| Flood::start(&mut link.client, 50_000)).collect();
        thread::sleep(Duration::from_secs(1));
        eventually("the paced links are busy", || {
            floods.iter().map(Flood::written).sum::<u64>() > 6 * 200_000
        });
        let mut quick: Link<Peer> = host.join(&relay);
        let mut waits: Vec<Duration> = (0..50)
            .map(|_| {
                let asked = Instant::now();
                quick.check();
                asked.elapsed()
            })
            .collect();
        waits.sort();
        // A message of the others takes half a second at their rate; a link that waited for one each way would
        // need a second for each round.
        assert!(waits[25] < Duration::from_millis(500), "the median round took {:?}", waits[25]);
        eventually("the paced links waited", || relay.metrics().sum("longsplice_paced_seconds_total") > 1.0);
    });
}

#[test]
fn bytes_that_pacing_holds_keep_the_link_alive() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_RELAY_MAX_BPS", 1000).env("LINK_RELAY_IDLE_SEC", 4).start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let started = Instant::now();
        link.client.write(&wire::message(wire::BINARY, &[7; 10_000]));
        assert_eq!(link.host.hear(PATIENCE), Heard::Binary(vec![7; 10_000]));
        // Two thousand at once, eight thousand at a thousand a second.
        assert_within("took", started.elapsed(), Duration::from_millis(7500)..=PATIENCE);
        link.host.expect_closed(4004);
        link.client.expect_closed(4004);
        assert_within("closed after", started.elapsed(), Duration::from_millis(11_400)..=2 * PATIENCE);
    });
}

#[test]
fn what_was_received_before_an_end_went_is_paid_for_and_delivered() {
    every_cell(|cell| {
        // A burst of two seconds' worth, then what is left of the message.
        for (rate, seconds, goodbye) in [(50_000, 1, false), (50_000, 2, true), (400_000, 2, false)] {
            let relay = cell.setup().env("LINK_RELAY_MAX_BPS", rate).start();
            let (_host, mut link) = Link::<Raw>::new(&relay);
            let len = rate * (2 + seconds as usize);
            let started = Instant::now();
            let mut bytes = wire::message(wire::TEXT, &vec![b'x'; len]);
            if goodbye {
                bytes.extend(wire::message(wire::CLOSE, &wire::close_payload(1000, b"done")));
            }
            link.client.write(&bytes);
            if !goodbye {
                link.client.finish();
            }
            assert_eq!(link.host.hear(PATIENCE), Heard::Text("x".repeat(len)));
            let least = Duration::from_millis(seconds * 1000 - 200);
            assert_within("took", started.elapsed(), least..=PATIENCE);
            link.host.expect_closed(4003);
            if goodbye {
                assert_eq!(
                    link.client.hear(PATIENCE),
                    Heard::Closed(1000, String::new()),
                    "the close is echoed"
                );
            }
        }
    });
}

#[test]
fn an_end_does_not_overtake_the_last_bytes_that_are_not_paid_for() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_RELAY_MAX_BPS", 400_000).start();
        let mut host = Host::register(&relay);
        // A little more than the burst, so that the rest and the end come in one go.
        for over in 1..=20 {
            let mut link: Link<Raw> = host.join(&relay);
            let payload = vec![over as u8; 800_000 + over * 500];
            link.client.write(&wire::message(wire::BINARY, &payload));
            link.client.finish();
            assert!(
                link.host.hear(PATIENCE) == Heard::Binary(payload),
                "not all, with {over} times 500 over"
            );
            link.host.expect_closed(4003);
        }
    });
}

fn used(connections: &Value) -> f64 {
    let used = connections[0]["used"].as_f64().expect("used is a number");
    assert_eq!(used, (used * 10_000.0).round() / 10_000.0, "rounded to four places");
    used
}

fn keys_of(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
