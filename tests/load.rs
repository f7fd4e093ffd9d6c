//! Many at once: links, stalled readers, churn, and the limits that an operator sets.

mod support;

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use support::{
    End, Host, Link, Peer, Raw, Relay, assert_within, eventually, every_cell, every_cell_in_turn, http::Http,
    raw::upgrade_head, wire,
};

const MIB: u64 = 1 << 20;

#[test]
fn two_hundred_links_at_once_all_work_and_leave_nothing_behind() {
    every_cell_in_turn(|cell| {
        let relay = cell.start();
        warm_up(&relay);
        let before = relay.descriptors();
        let mut hosts: Vec<Host> = (0..20).map(|_| Host::register(&relay)).collect();
        let mut links: Vec<Link> = hosts
            .iter_mut()
            .flat_map(|host| (0..10).map(|_| host.join(&relay)).collect::<Vec<_>>())
            .collect();
        assert_eq!(links.len(), 200);
        for round in 0..5 {
            for (n, link) in links.iter_mut().enumerate() {
                link.client.say(&format!("{round} {n} from the client"));
                link.host.say(&format!("{round} {n} from the host"));
            }
            for (n, link) in links.iter_mut().enumerate() {
                link.host.expect_text(&format!("{round} {n} from the client"));
                link.client.expect_text(&format!("{round} {n} from the host"));
            }
        }
        let metrics = relay.metrics();
        assert_eq!(metrics.sum_of("longsplice_links", &[("state", "relaying")]), 200.0);
        assert_eq!(metrics.sum("longsplice_connections"), 420.0);
        assert_eq!(metrics.sum("longsplice_addresses"), 20.0);
        assert!(relay.descriptors() >= before + 420, "a connection is a descriptor");
        let stats = relay.stats();
        assert_eq!(stats["links"]["relaying"], 200);
        assert_eq!(stats["liveLinks"].as_array().map(Vec::len), Some(200));
        drop(links);
        drop(hosts);
        assert_left_nothing(&relay, before);
    });
}

#[test]
fn a_hundred_readers_that_stall_cost_little_and_hold_nobody_up() {
    every_cell_in_turn(|cell| {
        // Left to itself the kernel would take megabytes for each reader before the relay has to hold anything.
        let relay = cell.setup().flag("--send-buffer", "64KiB").flag("--receive-buffer", "64KiB").start();
        let mut host = Host::register(&relay);
        let mut quick: Link<Peer> = host.join(&relay);
        let mut stalled: Vec<Link<Raw>> =
            (0..100).map(|_| host.join_ends(Raw::narrow(&relay), Raw::narrow(&relay))).collect();
        quick.check();
        let alone = median_round(&mut quick);
        let before = relay.rss();
        // Each sender writes what it gets rid of; nobody reads the other end.
        let message = wire::message(wire::BINARY, &vec![0; 4 << 20]);
        let taken: usize = thread::scope(|scope| {
            let writing: Vec<_> = stalled
                .chunks_mut(4)
                .map(|links| {
                    scope.spawn(|| -> usize {
                        let patience = Duration::from_millis(150);
                        links.iter_mut().map(|link| link.client.write_until_blocked(&message, patience)).sum()
                    })
                })
                .collect();
            writing.into_iter().map(|writing| writing.join().expect("no panic")).sum()
        });
        // A quarter of a megabyte for each in the relay, and what the four socket buffers hold.
        assert_within("taken for a hundred readers", taken as u64, 25 * MIB..=100 * MIB);
        let grown = relay.rss().saturating_sub(before);
        assert_within("memory grew by", grown, 0..=40 * MIB);
        // The others keep their pace.
        let beside = median_round(&mut quick);
        assert_within(
            "a round beside stalled readers",
            beside,
            Duration::ZERO..=20 * alone + Duration::from_millis(200),
        );
        host.join::<Peer, Peer>(&relay).check();
        let metrics = relay.metrics();
        let buffers = metrics.sum("longsplice_receive_buffers");
        let free = metrics.sum("longsplice_receive_buffers_free");
        assert!(free >= buffers / 2.0, "stalled readers keep {} of {buffers} buffers", buffers - free);
        drop(stalled);
        eventually("what was held is let go", || relay.metrics().sum("longsplice_held_bytes") == 0.0);
    });
}

fn median_round(link: &mut Link) -> Duration {
    let mut rounds: Vec<Duration> = (0..51)
        .map(|_| {
            let asked = Instant::now();
            link.check();
            asked.elapsed()
        })
        .collect();
    rounds.sort();
    rounds[25]
}

#[test]
fn rounds_of_churn_leave_nothing_behind() {
    every_cell_in_turn(|cell| {
        let relay = cell.start();
        warm_up(&relay);
        let before = relay.descriptors();
        let mut grown_from = 0;
        for round in 0..20 {
            let mut host = Host::register(&relay);
            let mut links: Vec<Link<Raw>> = (0..15).map(|_| host.join(&relay)).collect();
            let mut waiting = Vec::new();
            for n in 0..5 {
                waiting.push(if n % 2 == 0 {
                    host.introduce::<Raw>(&relay)
                } else {
                    host.pend::<Raw>(&relay)
                });
            }
            for link in &mut links {
                link.check();
            }
            // Every way to go, at either end.
            for (n, mut link) in links.into_iter().enumerate() {
                match n % 5 {
                    0 => link.client.reset(),
                    1 => link.host.reset(),
                    2 => link.client.write(&wire::message(wire::CLOSE, &wire::close_payload(1000, b""))),
                    3 => link.host.write(&wire::client_frame(0x83, [1; 4], b"a fault")),
                    _ => link.client.finish(),
                }
            }
            drop(waiting);
            drop(host);
            if round == 5 {
                relay.until_empty();
                grown_from = relay.rss();
            }
        }
        assert_left_nothing(&relay, before);
        assert_within("memory grew by", relay.rss().saturating_sub(grown_from), 0..=8 * MIB);
        let metrics = relay.metrics();
        assert_eq!(metrics.sum("longsplice_links_relayed_total"), 20.0 * 15.0 + 1.0);
        assert_eq!(metrics.sum("longsplice_links_introduced_total"), 20.0 * 20.0 + 1.0);
    });
}

#[test]
fn connections_over_the_limit_are_refused_and_counted() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--max-connections", 20).start();
        let mut sockets: Vec<Raw> = (0..20).map(|_| Raw::open(&relay)).collect();
        for _ in 0..5 {
            assert!(is_refused(&relay, relay.dial()));
        }
        let refused =
            relay.metrics().sum_of("longsplice_refused_total", &[("reason", "too_many_connections")]);
        assert_eq!(refused, 5.0);
        // Those that are in are served, and one that goes makes room.
        sockets[7].tell(&serde_json::json!({ "type": "resolve", "address": "nowhere" }));
        sockets[7].expect_error("unknown_address");
        drop(sockets.pop());
        eventually("there is room again", || !is_refused(&relay, relay.dial()));
    });
}

#[test]
fn connections_of_one_ip_over_its_limit_are_refused_and_counted() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--max-connections-per-ip", 5).start();
        let (one, other) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
        let mut sockets: Vec<Raw> = (0..5).map(|_| Raw::over(relay.dial_from(one), &relay)).collect();
        for _ in 0..3 {
            assert!(is_refused(&relay, relay.dial_from(one)));
        }
        let mut neighbour = Raw::over(relay.dial_from(other), &relay);
        for socket in [&mut neighbour, &mut sockets[0]] {
            socket.tell(&serde_json::json!({ "type": "resolve", "address": "nowhere" }));
            socket.expect_error("unknown_address");
        }
        let reason = ("reason", "too_many_connections_per_ip");
        assert_eq!(relay.metrics().sum_of("longsplice_refused_total", &[reason]), 3.0);
        drop(sockets.pop());
        eventually("there is room again", || !is_refused(&relay, relay.dial_from(one)));
    });
}

#[test]
fn behind_a_trusted_proxy_the_limit_counts_the_forwarded_address() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--max-connections-per-ip", 2).env("LINK_TRUST_PROXY", 1).start();
        let upgrade = |ip: &str| {
            let mut http = Http::connect(relay.address);
            let head =
                upgrade_head(&relay).replace("Upgrade: w", &format!("X-Forwarded-For: {ip}\r\nUpgrade: w"));
            http.write(head.as_bytes());
            let status = http.response().expect("a response").status;
            (status, http)
        };
        let mut held = Vec::new();
        for ip in ["198.51.100.1", "198.51.100.2", "[2001:db8:1:2::1]:443"] {
            for expected in [101, 101, 503] {
                let (status, http) = upgrade(ip);
                assert_eq!(status, expected, "{ip}");
                held.push(http);
            }
        }
        // A /64 is one.
        assert_eq!(upgrade("2001:db8:1:2:3:4:5:6").0, 503);
        assert_eq!(upgrade("2001:db8:1:3::1").0, 101);
    });
}

/// Whether a connection gets no upgrade: an error response, or its end.
fn is_refused(relay: &Relay, stream: std::net::TcpStream) -> bool {
    let mut http = Http::over(stream);
    http.write(upgrade_head(relay).as_bytes());
    match http.response() {
        Some(response) if response.status == 101 => false,
        Some(response) => {
            assert_eq!(response.status, 503);
            true
        }
        None => true,
    }
}

/// One link, so that what is made on first use is there.
fn warm_up(relay: &Relay) {
    Link::<Peer>::new(relay).1.check();
    relay.until_empty();
}

/// Waits until connections, links, addresses and descriptors are back where they were.
fn assert_left_nothing(relay: &Relay, descriptors: usize) {
    relay.until_empty();
    eventually("the descriptors are back", || relay.descriptors() <= descriptors);
    let metrics = relay.metrics();
    for gauge in
        ["longsplice_links", "longsplice_addresses", "longsplice_websockets", "longsplice_held_bytes"]
    {
        assert_eq!(metrics.sum(gauge), 0.0, "{gauge}");
    }
    let buffers = metrics.sum("longsplice_receive_buffers");
    assert_eq!(metrics.sum("longsplice_receive_buffers_free"), buffers, "buffers out are buffers back");
    assert_eq!(metrics.sum_of("longsplice_handoffs_total", &[("result", "failed")]), 0.0);
}
