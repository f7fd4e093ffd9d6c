//! Descriptors run out under a relay: it neither spins nor stays deaf, and what is joined goes on.
//!
//! `full_tables.rs` has what happens below the limit, where connections are refused with a reason.

mod support;

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use support::{
    Before, End, Link, Peer, Raw, Relay, Witness, eventually, every_cell,
    faults::{assert_does_not_spin, limit_descriptors, scaled},
    http::Http,
    raw::upgrade_head,
};

/// More than the tables of shards that have connections hold, and less than the table of the control thread's.
const FEW: u64 = 40;
const PLENTY: u64 = 4000;

#[test]
fn without_descriptors_connections_wait_and_are_served_when_there_are_some() {
    every_cell(|cell| {
        // The kernel takes the limit when an accept begins, and one that goes on for ever would not see it changed: a
        // ring accepts one at a time where the socket may be another's as well.
        let handed = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let setup = cell.setup().flag("--handshake-timeout", "600s");
        let setup = if cell.driver == "io-uring" { setup.hand_over(&handed) } else { setup };
        drop(handed);
        let relay = setup.start();
        let before = Before::of(&relay);
        let crowd = crowd(&relay);
        let witness = Witness::start(&relay);
        let failures = || relay.metrics().sum("longsplice_accept_failures_total");
        assert_eq!(failures(), 0.0);

        limit_descriptors(&relay, FEW);
        // The kernel takes them into the queue, which has room for 128; nobody is told anything.
        let mut late: Vec<Http> = (0..scaled(20, 100)).map(|_| Http::over(relay.dial())).collect();
        for http in &mut late {
            http.write(upgrade_head(&relay).as_bytes());
        }
        eventually("the failure is counted", || failures() >= 1.0);
        relay.logged(&["accepting failed", "LimitNOFILE"]);
        witness.goes_on();
        drop(witness.end());
        assert_does_not_spin(&relay);

        limit_descriptors(&relay, PLENTY);
        for http in late {
            let mut raw = Raw::upgraded(http);
            raw.tell(&serde_json::json!({ "type": "resolve", "address": "nowhere" }));
            raw.expect_error("unknown_address");
        }
        Link::<Peer>::new(&relay).1.check();
        let after = failures();
        drop(crowd);
        relay.until_empty();
        Link::<Peer>::new(&relay).1.check();
        assert_eq!(failures(), after, "accepting fails no more");
        before.is_back(&relay);
    });
}

#[test]
fn the_operators_port_is_not_deaf_either_after_descriptors_ran_out() {
    every_cell(|cell| {
        let relay = cell.start();
        let witness = Witness::start(&relay);
        // Fewer than any table holds: the control thread's as well.
        limit_descriptors(&relay, 1);
        let asked: Vec<Http> = (0..5)
            .map(|_| {
                let mut http = Http::connect(relay.admin_address());
                http.write(b"GET /ready HTTP/1.1\r\nHost: here\r\n\r\n");
                http
            })
            .collect();
        relay.logged(&["the admin server could not accept a connection"]);
        witness.goes_on();
        limit_descriptors(&relay, PLENTY);
        for mut http in asked {
            assert_eq!(http.response().expect("an answer, late").status, 200);
        }
        drop(witness.end());
    });
}

#[test]
fn large_messages_are_copied_where_pipes_cannot_be_had() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--splice-min", "64KiB").start();
        let before = Before::of(&relay);
        let (host, mut link) = Link::<Raw>::new(&relay);
        limit_descriptors(&relay, 8);
        // Unmasked frames of this size go through pipes, which are made when they are wanted.
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n >> 3) as u8).collect();
        let frame = support::wire::client_frame(0x82, [0; 4], &content);
        for _ in 0..3 {
            let (mut writer, frame) = (link.client.writer(), frame.clone());
            let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &frame));
            let support::Heard::Binary(arrived) = link.host.hear(support::PATIENCE) else {
                panic!("no message")
            };
            assert!(arrived == content, "another message");
            sender.join().expect("no panic").expect("it is taken");
        }
        limit_descriptors(&relay, PLENTY);
        drop((host, link));
        before.is_back(&relay);
    });
}

/// So many connections that the table of every shard holds more than a few descriptors.
fn crowd(relay: &Relay) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    eventually("a crowd on every shard", || {
        crowd.extend((0..20).map(|_| relay.dial()));
        std::thread::sleep(Duration::from_millis(5));
        let metrics = relay.metrics();
        (0..relay.cell.shards).all(|shard| {
            let shard = shard.to_string();
            metrics.sum_of("longsplice_connections", &[("shard", &shard)]) >= FEW as f64
        })
    });
    crowd
}
