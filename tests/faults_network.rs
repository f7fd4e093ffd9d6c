//! Networks that lose, delay, reorder, repeat and swallow packets, and peers that vanish without a word.

mod support;

use std::{thread, time::Duration};

use support::{
    Before, Cell, End, Heard, Host, Keys, Link, PATIENCE, Peer, Raw, Relay, Setup, Witness, bulk,
    cable::{Cable, Weather},
    eventually, every_cell,
    faults::{exchange, scaled},
    link, wire,
};

/// A link whose two ends come over the cable; its host's control socket is near.
fn join_over(cable: &Cable, relay: &Relay, host: &mut Host) -> Link<Raw> {
    let (client, dial_back) = (cable.dial(relay.address), cable.dial(relay.address));
    host.join_ends(Raw::over(client, relay), Raw::over(dial_back, relay))
}

/// A relay whose pings need no answer while a test runs: an end that writes in one thread and reads in another gives
/// none.
fn without_pings(cable: &Cable, cell: Cell) -> Setup {
    cable.setup(cell).flag("--ping-interval", "10m")
}

/// Messages of many sizes each way, both ways at once, every byte of them checked.
fn exchange_much(link: &mut Link<Raw>, bytes: usize) {
    let mut random = bulk::seeded("over a bad cable");
    let contents: Vec<Vec<u8>> = [1, 100, 1400, 1500, 9000, 70_000, bytes]
        .into_iter()
        .map(|len| bulk::content(&mut random, len))
        .collect();
    let frames: Vec<u8> = contents.iter().flat_map(|content| wire::message(wire::BINARY, content)).collect();
    let writers = [link.client.writer(), link.host.writer()];
    thread::scope(|scope| {
        for mut writer in writers {
            let frames = &frames;
            scope.spawn(move || std::io::Write::write_all(&mut writer, frames).expect("all is taken"));
        }
        for end in [&mut link.client, &mut link.host] {
            let contents = &contents;
            scope.spawn(move || {
                for content in contents {
                    match end.hear(PATIENCE * 2) {
                        Heard::Binary(arrived) => assert!(&arrived == content, "other bytes"),
                        other => panic!("{other:?} instead of {} bytes", content.len()),
                    }
                }
            });
        }
    });
}

#[test]
fn every_byte_arrives_over_a_cable_that_loses_delays_reorders_and_repeats() {
    every_cell(|cell| {
        let Some(cable) = Cable::lay(1500) else { return };
        let relay = without_pings(&cable, cell).start();
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        let mut host = Host::register(&relay);
        cable.turn(Weather {
            lost: 10,
            doubled: 20,
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(3),
            ..Weather::default()
        });
        let mut links: Vec<Link<Raw>> =
            (0..scaled(2, 20)).map(|_| join_over(&cable, &relay, &mut host)).collect();
        thread::scope(|scope| {
            for link in &mut links {
                scope.spawn(|| exchange_much(link, scaled(400_000, 8_000_000)));
            }
        });
        witness.goes_on();
        drop(witness.end());
        cable.turn(Weather::default());
        drop((links, host));
        before.is_back(&relay);
    });
}

#[test]
fn every_byte_arrives_where_one_side_takes_only_small_packets() {
    every_cell(|cell| {
        let Some(cable) = Cable::lay(600) else { return };
        let relay = without_pings(&cable, cell).start();
        let mut host = Host::register(&relay);
        let mut link = join_over(&cable, &relay, &mut host);
        exchange_much(&mut link, 300_000);
    });
}

#[test]
fn every_byte_arrives_where_long_packets_vanish_and_nobody_is_told() {
    every_cell(|cell| {
        let Some(cable) = Cable::lay(1500) else { return };
        cable.probe_mtu();
        let relay = without_pings(&cable, cell).start();
        let mut host = Host::register(&relay);
        let mut link = join_over(&cable, &relay, &mut host);
        cable.turn(Weather { longest: 1200, ..Weather::default() });
        exchange_much(&mut link, 100_000);
    });
}

#[test]
fn a_link_whose_long_packets_vanish_for_good_is_cut_as_slow_and_the_others_live() {
    every_cell(|cell| {
        let Some(cable) = Cable::lay(1500) else { return };
        let relay = cable.setup(cell).env("LINK_SLOW_PEER_SEC", 2).flag("--tcp-user-timeout", "60s").start();
        let witness = Witness::start(&relay);
        let mut host = Host::register(&relay);
        let client = Raw::open(&relay);
        let dial_back = Raw::over(cable.dial(relay.address), &relay);
        let mut link = host.join_ends(client, dial_back);
        cable.turn(Weather { longest: 400, ..Weather::default() });
        // More than the kernel takes: some of it waits in the relay.
        let mut writer = link.client.writer();
        let flood = thread::spawn(move || {
            let message = wire::message(wire::BINARY, &vec![0; 15 << 20]);
            let _ = std::io::Write::write_all(&mut writer, &message);
        });
        link.client.expect_closed_somehow(4006);
        witness.goes_on();
        eventually("it is counted as slow", || {
            relay.metrics().sum_of("longsplice_closed_total", &[("reason", "slow_peer")]) >= 1.0
        });
        drop(link);
        flood.join().expect("no panic");
        cable.turn(Weather::default());
        drop(witness.end());
        drop(host);
        relay.until_empty();
    });
}

#[test]
fn peers_that_vanish_without_a_word_are_reaped_by_pings() {
    every_cell(|cell| {
        let Some(cable) = Cable::lay(1500) else { return };
        let relay = cable.setup(cell).flag("--ping-interval", "3s").flag("--park-after", "100ms").start();
        let before = Before::of(&relay);
        // Two hosts: one is gone with its control socket, of the other only the ends of a link.
        let mut near = Host::register(&relay);
        let mut far = {
            let keys = Keys::new();
            let mut control = Peer::over(cable.dial(relay.address), &relay, &[]);
            let stamp = support::keys::unix_ms();
            link::register(&mut control, &keys, &relay.origin(), stamp);
            Host { control, keys, stamp }
        };
        let mut link = near.join_ends(Raw::open(&relay), Raw::over(cable.dial(relay.address), &relay));
        exchange(&mut link, b"while the cable is whole");
        // Relaying links live on without it, and nobody would answer its pings here.
        drop(near);
        let mut waiting = Raw::open(&relay);
        far.introduce_to(&mut waiting);
        cable.turn(Weather { cut: true, ..Weather::default() });
        // Those who are near answer their own pings, and are told.
        thread::scope(|scope| {
            scope.spawn(|| link.client.expect_closed(4003));
            scope.spawn(|| waiting.expect_closed(4003));
        });
        let lost = relay.metrics().sum_of("longsplice_closed_total", &[("reason", "ping_timeout")]);
        assert!(lost >= 2.0, "the host's control socket and the other one's end of the link: {lost}");
        // What vanished never hears of it.
        before.is_back(&relay);
    });
}
