//! How links and sockets end by time: idle links, unanswered pings, peers that take nothing, and shutting
//! down (link.md sections 5 to 7).

mod support;

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    Cell, End, Heard, Host, Link, PATIENCE, Peer, Raw, assert_within,
    bulk::{self, Flood},
    eventually, every_cell,
    http::Http,
    raw::upgrade_head,
    wire,
};

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_link_without_traffic_is_closed_as_idle_in_every_state() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_RELAY_IDLE_SEC", 4).start();
        let mut host = Host::register(&relay);
        let started = Instant::now();
        let (mut introduced, _) = host.introduce::<Peer>(&relay);
        let (mut pending, pending_id) = host.pend::<Peer>(&relay);
        let mut link: Link = host.join(&relay);
        for end in [&mut introduced, &mut pending, &mut link.client, &mut link.host] {
            end.expect_closed(4004);
            assert_within("closed after", started.elapsed(), MS(3900)..=PATIENCE);
        }
        let mut dial_back = relay.peer();
        dial_back.tell(&json!({ "type": "accept", "linkId": pending_id }));
        dial_back.expect_error("unknown_link");
        assert_eq!(relay.stats()["recentlyClosed"][0]["reason"], "idle");
        // The control socket has no such clock.
        host.join::<Peer, Peer>(&relay).check();
    });
}

#[test]
fn traffic_in_one_direction_keeps_a_link() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_RELAY_IDLE_SEC", 2).start();
        let (_host, mut link) = Link::<Peer>::new(&relay);
        let started = Instant::now();
        let mut last = started;
        while started.elapsed() < MS(4500) {
            last = Instant::now();
            link.host.send_binary(b"x");
            assert_eq!(link.client.hear(PATIENCE), Heard::Binary(b"x".to_vec()));
            thread::sleep(MS(200));
        }
        link.client.expect_closed(4004);
        link.host.expect_closed(4004);
        assert_within("closed after", last.elapsed(), MS(1700)..=15 * SECOND);
    });
}

#[test]
fn every_socket_is_pinged_and_one_that_does_not_answer_is_dropped() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--ping-interval", "3s").start();
        let mut host = Host::register(&relay);
        let mut link: Link<Raw> = host.join(&relay);
        let started = Instant::now();
        let mut answering = Raw::open(&relay);
        let mut mute = Raw::open(&relay);
        mute.answers_pings = false;
        link.client.answers_pings = false;
        thread::scope(|scope| {
            scope.spawn(|| {
                mute.expect_dropped();
                assert_within("dropped after", started.elapsed(), MS(2800)..=PATIENCE);
            });
            // A link whose end falls silent loses the other end as well.
            scope.spawn(|| link.client.expect_dropped());
            scope.spawn(|| link.host.expect_closed(4003));
            // Those that answer stay, and are pinged again and again.
            scope.spawn(|| answering.expect_silence(12 * SECOND));
            scope.spawn(|| host.control.expect_silence(12 * SECOND));
        });
        assert_within("pings before a peer is given up", mute.pings, 1..=2);
        assert_within("pings in twelve seconds", answering.pings, 2..=6);
        assert_within("pings in twelve seconds", host.control.pings, 2..=7);
        answering.tell(&json!({ "type": "resolve", "address": "nowhere" }));
        answering.expect_error("unknown_address");
        host.join::<Peer, Peer>(&relay).check();
        assert_eq!(relay.metrics().sum_of("longsplice_closed_total", &[("reason", "ping_timeout")]), 2.0);
    });
}

#[test]
fn a_ping_is_answered_with_its_payload_in_every_role() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut fresh = Raw::open(&relay);
        let (mut introduced, _) = host.introduce::<Raw>(&relay);
        let mut link: Link<Raw> = host.join(&relay);
        for socket in [&mut fresh, &mut introduced, &mut link.client, &mut link.host] {
            for payload in [&b""[..], b"p", &[0xFF; 125]] {
                socket.ping(payload, PATIENCE);
            }
        }
        host.control.send(tungstenite::Message::Ping(b"control".to_vec().into()));
        host.control.expect_silence(MS(300));
        assert_eq!(host.control.pongs, [b"control"]);
        // Pongs nobody asked for are dropped, and are not relayed.
        link.client.write(&wire::message(wire::PONG, b"unasked"));
        link.check();
    });
}

#[test]
fn a_socket_that_pacing_does_not_read_is_not_judged_by_its_pongs() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--ping-interval", "3s").env("LINK_RELAY_MAX_BPS", 500_000).start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        // A million at once and twelve seconds' worth behind it: pongs wait in the stream behind the payload.
        let payload = vec![3; 7_000_000];
        let bytes = [wire::message(wire::BINARY, &payload), wire::message(wire::PONG, b"")].concat();
        let mut writer = link.client.writer();
        let sender = thread::spawn(move || writer.write_all(&bytes));
        let Heard::Binary(arrived) = link.host.hear(PATIENCE) else { panic!("not the message") };
        assert_eq!(arrived.len(), 7_000_000);
        sender.join().expect("no panic").expect("the relay took it all");
        link.client.answers_pings = true;
        link.check();
        assert!(link.client.pings >= 1, "the client was pinged");
    });
}

#[test]
fn a_socket_that_back_pressure_does_not_read_is_not_judged_by_its_pongs() {
    every_cell(|cell| {
        let relay = cell
            .setup()
            .flag("--ping-interval", "1s")
            .flag("--send-buffer", "64KiB")
            .flag("--receive-buffer", "64KiB")
            .start();
        let mut host = Host::register(&relay);
        let mut link: Link<Raw> = host.join_ends(Raw::narrow(&relay), Raw::narrow(&relay));
        let payload = vec![9; 4_000_000];
        let bytes = [wire::message(wire::BINARY, &payload), wire::message(wire::PONG, b"")].concat();
        // The client is pinged while it is read, and its answer comes behind a long message. The host answers.
        link.client.answers_pings = false;
        while link.client.pings == 0 {
            assert_eq!(link.client.hear(MS(50)), Heard::Nothing);
            link.host.expect_silence(MS(1));
        }
        let mut writer = link.client.writer();
        let sender = thread::spawn(move || writer.write_all(&bytes));
        // Its host takes nothing for several times the interval.
        thread::sleep(4 * SECOND);
        link.client.answers_pings = true;
        let Heard::Binary(arrived) = link.host.hear(PATIENCE) else { panic!("not the message") };
        assert!(arrived == payload, "the message arrived changed");
        sender.join().expect("no panic").expect("the relay took it all");
        link.check();
    });
}

#[test]
fn a_peer_that_takes_nothing_is_cut_with_its_link() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_SLOW_PEER_SEC", 2).start();
        let mut host = Host::register(&relay);
        let stalled = Raw::narrow(&relay);
        let mut link: Link<Raw> = host.join_ends(Raw::open(&relay), stalled);
        let started = Instant::now();
        let flood = Flood::start(&mut link.client, 50_000);
        // The end that still reads hears why.
        link.client.expect_closed_somehow(4006);
        assert_within("cut after", started.elapsed(), MS(1800)..=20 * SECOND);
        drop(flood);
        // The other cannot be told while its window is shut, and is reset soon after.
        relay_forgets(&relay, 1);
        link.host.expect_lost();
        assert_within("reset after", started.elapsed(), MS(3500)..=30 * SECOND);
        assert_eq!(relay.stats()["recentlyClosed"][0]["reason"], "slow_peer");
        assert!(relay.metrics().sum_of("longsplice_closed_total", &[("reason", "slow_peer")]) >= 1.0);
        host.join::<Peer, Peer>(&relay).check();
    });
}

#[test]
fn a_peer_that_takes_little_is_not_cut() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_SLOW_PEER_SEC", 2).start();
        let mut host = Host::register(&relay);
        let mut link: Link<Raw> = host.join_ends(Raw::open(&relay), Raw::narrow(&relay));
        let flood = Flood::start(&mut link.client, 50_000);
        let started = Instant::now();
        let mut slow = link.host.writer();
        let mut taken = 0;
        while started.elapsed() < 7 * SECOND {
            let mut little = [0; 4000];
            taken += slow.read(&mut little).expect("the link lives");
            thread::sleep(MS(250));
        }
        assert_within("taken", taken, 20_000..=200_000);
        assert_eq!(relay.stats()["links"]["relaying"], 1);
        assert!(flood.written() > 0);
        drop(flood);
    });
}

#[test]
fn what_was_received_before_an_end_went_is_delivered_before_the_close() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut random = bulk::seeded("delivered before the close");
        // A little, which the relay holds whole for a reader that takes longer over it than a close
        // handshake may last; and a lot, most of which waits in the sender for a reader that pauses.
        for (len, goodbye) in [(100_000, true), (100_000, false), (6_000_000, true), (6_000_000, false)] {
            let mut link: Link<Raw> = host.join_ends(Raw::open(&relay), Raw::narrow(&relay));
            let payload = bulk::content(&mut random, len);
            let mut bytes = wire::message(wire::BINARY, &payload);
            if goodbye {
                bytes.extend(wire::message(wire::CLOSE, &wire::close_payload(1000, b"")));
            }
            let mut writer = link.client.writer();
            let sender = thread::spawn(move || {
                writer.write_all(&bytes).expect("the relay takes it all");
                if !goodbye {
                    let _ = writer.shutdown(std::net::Shutdown::Write);
                }
            });
            if len < 1_000_000 {
                for _ in 0..5 {
                    thread::sleep(MS(700));
                    link.host.read_some(SECOND);
                }
            } else {
                thread::sleep(MS(2500));
            }
            let Heard::Binary(arrived) = link.host.hear(PATIENCE) else { panic!("not the message") };
            assert!(bulk::hash(&arrived) == bulk::hash(&payload), "{len} bytes arrived changed");
            link.host.expect_closed(4003);
            sender.join().expect("no panic");
        }
    });
}

#[test]
fn a_peer_whose_window_stays_shut_is_reset() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_SLOW_PEER_SEC", 1).start();
        let mut host = Host::register(&relay);
        let mut link: Link<Raw> = host.join_ends(Raw::narrow(&relay), Raw::open(&relay));
        // The host fills the client's window and goes; what it sent can be delivered to no one.
        link.host.write_until_blocked(&wire::message(wire::BINARY, &vec![0; 8_000_000]), MS(500));
        let Link { client: mut stalled, host: gone, .. } = link;
        drop(gone);
        relay_forgets(&relay, 1);
        stalled.expect_lost();
        host.join::<Peer, Peer>(&relay).check();
    });
}

#[test]
fn sigterm_closes_every_socket_as_going_away_and_exits_cleanly() {
    every_cell(|cell| {
        for signal in ["TERM", "INT"] {
            let mut relay = cell.start();
            let mut host = Host::register(&relay);
            let mut fresh = relay.peer();
            let (mut introduced, _) = host.introduce::<Peer>(&relay);
            let (mut pending, _) = host.pend::<Peer>(&relay);
            let mut link: Link = host.join(&relay);
            link.check();
            let mut kept_alive = Http::connect(relay.address);
            kept_alive.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(kept_alive.response().expect("a response").status, 200);
            // One that is not there to say goodbye to.
            let mut stalled: Link<Raw> = host.join_ends(Raw::open(&relay), Raw::narrow(&relay));
            stalled.client.write_until_blocked(&wire::message(wire::BINARY, &vec![0; 8_000_000]), MS(300));

            relay.signal(signal);
            let started = Instant::now();
            thread::scope(|scope| {
                let ends = [
                    &mut fresh,
                    &mut introduced,
                    &mut pending,
                    &mut link.client,
                    &mut link.host,
                    &mut host.control,
                ];
                for end in ends {
                    scope.spawn(|| end.expect_closed(1001));
                }
            });
            let exit = relay.exited(PATIENCE);
            assert!(exit.success(), "{signal}: {exit}");
            assert_within("exit after", started.elapsed(), Duration::ZERO..=15 * SECOND);
            assert!(kept_alive.is_over());
            std::net::TcpStream::connect(relay.address).expect_err("nobody listens any more");
        }
    });
}

#[test]
fn a_drain_delay_refuses_what_is_new_and_keeps_what_is_there() {
    every_cell(|cell| {
        let mut relay = cell.setup().flag("--drain-delay", "60s").start();
        let (_host, mut link) = Link::<Peer>::new(&relay);
        let mut kept_alive = Http::connect(relay.address);
        kept_alive.write(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(kept_alive.response().expect("a response").status, 200);
        assert_eq!(relay.admin_get("/ready").status, 200);

        relay.signal("TERM");
        eventually("/ready turns", || relay.get("/ready").status == 503);
        assert_eq!(relay.admin_get("/ready").status, 503);
        assert_eq!(relay.get("/health").status, 200);
        assert_eq!(relay.metrics().sum("longsplice_draining"), 1.0);
        let mut refused = Http::connect(relay.address);
        refused.write(upgrade_head(&relay).as_bytes());
        assert_eq!(refused.response().expect("a response").status, 503);
        link.check();
        // A second signal does not wait for the rest of the delay.
        relay.signal("TERM");
        relay.exited(PATIENCE);

        let mut relay = cell.setup().flag("--drain-delay", "3s").start();
        let (_host, mut link) = Link::<Peer>::new(&relay);
        let started = Instant::now();
        relay.signal("TERM");
        link.client.expect_closed(1001);
        assert_within("closed after", started.elapsed(), MS(2800)..=20 * SECOND);
        link.host.expect_closed(1001);
        assert!(relay.exited(PATIENCE).success());
    });
}

#[test]
fn a_second_signal_exits_at_once() {
    every_cell(|cell: Cell| {
        let mut relay = cell.setup().flag("--drain-delay", "300s").start();
        let (_host, mut link) = Link::<Peer>::new(&relay);
        relay.signal("TERM");
        eventually("it drains", || relay.get("/ready").status == 503);
        link.check();
        relay.signal("TERM");
        relay.exited(10 * SECOND);
    });
}

/// Waits until the relay holds no connection but `left`, and the one that asks.
fn relay_forgets(relay: &support::Relay, left: u64) {
    eventually("the cut connections are gone", || relay.connections() == left);
}
