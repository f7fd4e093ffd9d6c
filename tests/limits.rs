//! Bounds against one address, and against many: what is refused, what is counted, and who is none the worse.

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use serde_json::json;
use support::{
    Cell, End, Heard, Host, Keys, Link, PATIENCE, Peer, Raw, Relay, eventually, every_cell,
    http::Http,
    keys::unix_ms,
    link::register,
    pair::{Device, create, expect_refused},
    raw::upgrade_head,
    relay::PAIR_PATH,
};

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

#[test]
fn handshakes_of_one_ip_over_its_limit_are_refused_and_counted() {
    every_cell(|cell| {
        let setup = cell.setup().flag("--max-handshakes-per-ip", 3);
        let relay = setup.flag("--handshake-timeout", "600s").start();
        let mut silent: Vec<TcpStream> = (0..3).map(|_| relay.dial_from(ONE)).collect();
        eventually("they are accepted", || relay.connections() == 3);
        let mut refused = Http::over(relay.dial_from(ONE));
        assert_eq!(refused.response().expect("a response").status, 503);
        assert!(refused.is_over());
        check(&mut Raw::over(relay.dial_from(OTHER), &relay));
        let reason = ("reason", "too_many_handshakes_per_ip");
        assert_eq!(relay.metrics().sum_of("longsplice_refused_total", &[reason]), 1.0);
        // Who is through is none of them any more, whether with an upgrade, a request, or half a head and its end.
        let mut upgraded = Raw::over(silent.remove(0), &relay);
        check(&mut upgraded);
        let mut asking = Http::over(silent.remove(0));
        asking.write(b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n");
        assert_eq!(asking.response().expect("a response").status, 200);
        let mut halfway = silent.remove(0);
        halfway.write_all(b"GET /v1/li").expect("it is open");
        drop((halfway, refused));
        eventually("their ends are seen", || relay.connections() == 2);
        let again: Vec<TcpStream> = (0..3).map(|_| relay.dial_from(ONE)).collect();
        eventually("they are accepted", || relay.connections() == 5);
        let metrics = relay.metrics();
        assert_eq!(metrics.sum_of("longsplice_refused_total", &[reason]), 1.0);
        drop(again);
    });
}

#[test]
fn refused_connections_of_one_ip_keep_nobody_else_out() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--max-connections", 8).flag("--max-connections-per-ip", 2).start();
        let mut held: Vec<Raw> = (0..2).map(|_| Raw::over(relay.dial_from(ONE), &relay)).collect();
        // They hear why, and stay as long as they may.
        let mut refused: Vec<Http> = (0..20).map(|_| Http::over(relay.dial_from(ONE))).collect();
        for http in &mut refused {
            assert_eq!(http.response().expect("a response").status, 503);
        }
        held.extend((0..2).map(|_| Raw::over(relay.dial_from(OTHER), &relay)));
        held.iter_mut().for_each(check);
        let metrics = relay.metrics();
        let of = |reason| metrics.sum_of("longsplice_refused_total", &[("reason", reason)]);
        assert_eq!((of("too_many_connections_per_ip"), of("too_many_connections")), (20.0, 0.0));
        drop((held, refused));
        relay.until_empty();
    });
}

#[test]
fn who_has_all_it_may_have_displaces_nobody_where_all_places_are_taken() {
    every_cell(|cell| {
        let setup = cell.setup().flag("--max-connections", 4).flag("--max-connections-per-ip", 2);
        let relay = setup.flag("--handshake-timeout", "30s").start();
        let mut held: Vec<Raw> = (0..2).map(|_| Raw::over(relay.dial_from(ONE), &relay)).collect();
        let others: Vec<TcpStream> = (0..2).map(|_| relay.dial_from(OTHER)).collect();
        eventually("all places are taken", || relay.connections() == 4);
        // A tenth of their time is over: from now on they make room for whoever may come in.
        std::thread::sleep(Duration::from_millis(3500));
        for _ in 0..20 {
            let mut refused = Http::over(relay.dial_from(ONE));
            assert_eq!(refused.response().expect("a response").status, 503);
        }
        held.extend(others.into_iter().map(|stream| Raw::over(stream, &relay)));
        held.iter_mut().for_each(check);
        let metrics = relay.metrics();
        let of = |reason| metrics.sum_of("longsplice_refused_total", &[("reason", reason)]);
        assert_eq!((of("too_many_connections_per_ip"), of("too_many_connections")), (20.0, 0.0));
        drop(held);
        relay.until_empty();
    });
}

#[test]
fn refused_connections_of_one_ip_leave_a_shard_with_few_descriptors_to_others() {
    every_cell(|cell| {
        if cell.shards > 1 {
            return;
        }
        // 72 connections a shard, of which 18 may be told at once that they are refused.
        let setup = cell.setup().descriptors(96).flag("--max-connections-per-ip", 60);
        let relay = setup.flag("--handshake-timeout", "600s").start();
        let of_one: Vec<TcpStream> = (0..60).map(|_| relay.dial_from(ONE)).collect();
        eventually("they are accepted", || relay.connections() == 60);
        let mut refused: Vec<Http> = (0..18).map(|_| Http::over(relay.dial_from(ONE))).collect();
        for http in &mut refused {
            assert_eq!(http.response().expect("a response").status, 503);
        }
        let mut others: Vec<Raw> = (0..10).map(|_| Raw::over(relay.dial_from(OTHER), &relay)).collect();
        others.iter_mut().for_each(check);
        let metrics = relay.metrics();
        let of = |reason| metrics.sum_of("longsplice_refused_total", &[("reason", reason)]);
        assert_eq!((of("too_many_connections_per_ip"), of("too_many_connections")), (18.0, 0.0));
        drop((of_one, refused, others));
        relay.until_empty();
    });
}

#[test]
fn connections_that_moved_give_their_places_back_like_any_other() {
    every_cell(|cell| {
        // A host, and two links with two connections each.
        let setup = cell.setup().flag("--max-connections-per-ip", 5);
        let relay = setup.flag("--max-handshakes-per-ip", 5).start();
        for round in 0..12 {
            let mut host = Host::register(&relay);
            let mut links: Vec<Link> = (0..2).map(|_| host.join(&relay)).collect();
            links.iter_mut().for_each(Link::check);
            let refused = Http::over(relay.dial()).response().expect("a response");
            assert_eq!(refused.status, 503, "round {round}");
            match round % 3 {
                0 => drop((host, links)),
                1 => {
                    drop(host);
                    links.into_iter().for_each(|link| link.client.reset());
                }
                _ => drop((links, host)),
            }
            relay.until_empty();
        }
        let metrics = relay.metrics();
        if cell.shards > 1 {
            assert!(metrics.sum_of("longsplice_handoffs_total", &[("result", "received")]) > 0.0);
        }
        let reason = ("reason", "too_many_connections_per_ip");
        assert_eq!(metrics.sum_of("longsplice_refused_total", &[reason]), 12.0);
    });
}

#[test]
fn a_crowd_that_sends_nothing_makes_room_for_who_does() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--max-connections", 12).flag("--handshake-timeout", "20s").start();
        let mut served: Vec<Raw> = (0..4).map(|_| Raw::open(&relay)).collect();
        let crowd: Vec<TcpStream> = (0..8).map(|_| relay.dial()).collect();
        eventually("all places are taken", || relay.connections() == 12);
        // Each newcomer gets in as soon as its shard has one that has waited long enough.
        let mut late = Vec::new();
        eventually("two more are served", || {
            late.extend(try_upgrade(&relay));
            late.len() == 2
        });
        served.append(&mut late);
        served.iter_mut().for_each(check);
        let metrics = relay.metrics();
        let closed = |reason| metrics.sum_of("longsplice_closed_total", &[("reason", reason)]);
        assert!(closed("handshake_displaced") >= 2.0);
        assert!(crowd.into_iter().filter(is_reset).count() >= 2);
    });
}

#[test]
fn addresses_over_the_limits_close_their_hosts_and_are_counted() {
    every_cell(|cell| {
        let setup = cell.setup().flag("--link-max-addresses", 4);
        let relay = setup.flag("--link-max-addresses-per-ip", 3).start();
        let keys = Keys::new();
        let mut hosts: Vec<Raw> = (0..2).map(|_| registered(&relay, ONE, &Keys::new(), 0)).collect();
        hosts.push(registered(&relay, ONE, &keys, 0));
        assert_eq!(refused(&relay, ONE, 4002), "too many registered addresses from this address");
        let other = registered(&relay, OTHER, &Keys::new(), 0);
        assert_eq!(refused(&relay, OTHER, 1013), "too many registered addresses");
        // A host that comes back, before its old connection is known to be gone, takes its own place.
        let back = registered(&relay, ONE, &keys, 1000);
        hosts.pop().expect("three registered").expect_closed(4005);
        let closed = |reason| relay.metrics().sum_of("longsplice_closed_total", &[("reason", reason)]);
        eventually("they are counted", || {
            closed("too_many_addresses") == 1.0 && closed("too_many_addresses_per_ip") == 1.0
        });
        assert_eq!(relay.metrics().sum("longsplice_addresses"), 4.0);
        drop((hosts, back, other));
        relay.until_empty();
        let again: Vec<Raw> = (0..3).map(|_| registered(&relay, ONE, &Keys::new(), 0)).collect();
        drop(again);
    });
}

#[test]
fn more_signatures_than_a_shard_verifies_are_refused_and_links_go_on() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--link-verify-rate-per-sec", 1).start();
        let mut link = Host::register(&relay).join::<Peer, Peer>(&relay);
        let mut flood: Vec<Raw> = (0..60).map(|_| Raw::open(&relay)).collect();
        for socket in &mut flood {
            socket.tell(&Keys::new().register(&relay.origin(), unix_ms()));
        }
        link.check();
        let mut limited = 0;
        for socket in &mut flood {
            match socket.hear(PATIENCE) {
                Heard::Text(text) => assert!(text.contains("registered"), "{text}"),
                Heard::Closed(4002, reason) => {
                    assert_eq!(reason, "rate limited");
                    limited += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(limited > 0, "one a second of a shard, and sixty came at once");
        eventually("they are counted", || {
            let reason = ("reason", "verifications_rate_limited");
            relay.metrics().sum_of("longsplice_closed_total", &[reason]) >= f64::from(limited)
        });
        link.check();
        drop(flood);
        let keys = Keys::new();
        eventually("who comes back is let in", || {
            let mut host = Peer::open(&relay);
            host.tell(&keys.register(&relay.origin(), unix_ms()));
            matches!(host.hear(PATIENCE), Heard::Text(_))
        });
    });
}

#[test]
fn pairing_sessions_of_one_ip_over_its_limit_are_refused() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--pair-max-sessions-per-ip", 2).start();
        let source = Device::new("a source").source();
        let open = |ip| Raw::at(relay.dial_from(ip), &relay, PAIR_PATH);
        let mut held: Vec<Raw> = (0..2).map(|_| open(ONE)).collect();
        for socket in &mut held {
            create(socket, &source);
        }
        let mut third = open(ONE);
        third.tell(&source);
        expect_refused(&mut third, "rate_limited", 1008);
        create(&mut open(OTHER), &source);
        let code = ("code", "rate_limited");
        assert_eq!(relay.metrics().sum_of("longsplice_pair_errors_total", &[code]), 1.0);
    });
}

#[test]
fn clients_of_the_admin_port_that_read_nothing_lose_their_places() {
    let relay = Cell { driver: "epoll", shards: 1 }.start();
    let requests = b"GET /metrics HTTP/1.1\r\nHost: relay\r\n\r\n".repeat(400);
    let deaf: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(relay.admin_address()).expect("it listens");
            stream.set_nonblocking(true).expect("a TCP stream");
            match stream.write(&requests) {
                Ok(_) => stream,
                Err(error) => panic!("{error}"),
            }
        })
        .collect();
    // All places are taken: this one waits for the kernel to give up on another.
    assert!(relay.metrics().sum("longsplice_shards") > 0.0);
    drop(deaf);
}

#[test]
fn who_asks_and_reads_no_answer_is_not_read_and_loses_none() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--handshake-timeout", "600s").start();
        let padding = "x".repeat(400);
        let request = format!("GET /health HTTP/1.1\r\nHost: relay\r\nX-Padding: {padding}\r\n\r\n");
        let mut writer = relay.dial_narrow();
        let reader = writer.try_clone().expect("a descriptor");
        writer.set_write_timeout(Some(Duration::from_secs(2))).expect("it is not zero");
        let (requests, mut written) = (request.repeat(100).into_bytes(), 0);
        // Into the relay's buffers and the kernel's, at both ends, and no further.
        while let Ok(more) = writer.write(&requests[written % request.len()..]) {
            written += more;
            assert!(written < 64 << 20, "the relay takes whatever is asked");
        }
        let held = relay.metrics().sum("longsplice_held_bytes");
        assert!(held <= 64.0 * 1024.0, "{held} bytes of answers are held");
        assert!(relay.metrics().sum("longsplice_stalls_total") > 0.0);
        // It goes on where it stopped.
        writer.set_write_timeout(None).expect("a TCP stream");
        let rest = requests[written % request.len()..request.len()].to_vec();
        let asking = std::thread::spawn(move || writer.write_all(&rest).expect("it is read again"));
        let mut answers = Http::over(reader);
        for _ in 0..written / request.len() + 1 {
            assert_eq!(answers.response().expect("an answer").status, 200);
        }
        asking.join().expect("all was asked");
    });
}

/// A host at an address, with one registration, whose time stamp is this much ahead.
fn registered(relay: &Relay, ip: Ipv4Addr, keys: &Keys, newer: i64) -> Raw {
    let mut host = Raw::over(relay.dial_from(ip), relay);
    register(&mut host, keys, &relay.origin(), unix_ms() + newer);
    host
}

/// The text of the close that a host gets in place of its registration.
fn refused(relay: &Relay, ip: Ipv4Addr, code: u16) -> String {
    let mut host = Raw::over(relay.dial_from(ip), relay);
    host.tell(&Keys::new().register(&relay.origin(), unix_ms()));
    host.expect_closed(code)
}

/// An upgraded connection, unless it is refused.
fn try_upgrade(relay: &Relay) -> Option<Raw> {
    let mut http = Http::over(relay.dial());
    http.write(upgrade_head(relay).as_bytes());
    let response = http.response()?;
    assert!([101, 503].contains(&response.status), "{}", response.status_line);
    (response.status == 101).then(|| Raw::behind(http))
}

/// It is served.
fn check(socket: &mut Raw) {
    socket.tell(&json!({ "type": "resolve", "address": "nowhere" }));
    socket.expect_error("unknown_address");
}

/// Whether a connection was reset, without a word.
fn is_reset(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("it is not zero");
    let mut stream = stream;
    stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}
