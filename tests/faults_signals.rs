//! Signals in quantity and at bad times: a storm of SIGHUP, a stop under load, a process that was halted for a while.

mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use support::{
    Before, End, Heard, Host, Link, PATIENCE, Peer, Raw, Witness,
    bulk::Flood,
    every_cell,
    faults::{exchange, scaled},
    wire,
};

#[test]
fn a_storm_of_reloads_disturbs_nobody() {
    every_cell(|cell| {
        let keys = tempfile::NamedTempFile::new().expect("a file");
        let relay = cell.setup().env("LINK_ALLOWED_REGISTER_KEYS_FILE", keys.path().display()).start();
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        let pid = rustix::process::Pid::from_raw(relay.pid() as i32).expect("a process");
        for n in 0..scaled(3000, 50_000) {
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
            if n % 500 == 0 {
                witness.goes_on();
                Link::<Peer>::new(&relay).1.check();
            }
        }
        // One that is certainly not lost among others.
        let read = || relay.log().iter().filter(|line| line.contains("allow-list read again")).count();
        let so_far = read();
        relay.signal("HUP");
        support::eventually("one more reload", || read() > so_far);
        drop(witness.end());
        before.is_back(&relay);
    });
}

#[test]
fn a_stop_under_load_closes_everyone_with_1001_and_exits_with_0() {
    every_cell(|cell| {
        let mut relay = cell.start();
        let mut host = Host::register(&relay);
        let mut quiet: Link<Raw> = host.join(&relay);
        let mut busy: Vec<Link<Raw>> = (0..4).map(|_| host.join(&relay)).collect();
        let floods: Vec<Flood> = busy.iter_mut().map(|link| Flood::start(&mut link.client, 10_000)).collect();
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            let reading: Vec<_> = busy
                .iter_mut()
                .map(|link| {
                    scope.spawn(|| {
                        let mut messages = 0_u32;
                        loop {
                            match link.host.hear(PATIENCE) {
                                Heard::Binary(message) => {
                                    assert!(message.iter().all(|&byte| byte == 0x5A), "another message");
                                    messages += 1;
                                    begun.fetch_add(usize::from(messages == 1), Relaxed);
                                }
                                Heard::Closed(1001, _) => return,
                                other => panic!("{other:?} under load"),
                            }
                        }
                    })
                })
                .collect();
            quiet.check();
            support::eventually("each reader has heard something", || begun.load(Relaxed) == 4);
            relay.signal("TERM");
            quiet.client.expect_closed(1001);
            quiet.host.expect_closed(1001);
            for one in reading {
                one.join().expect("closed 1001");
            }
            host.control.expect_closed(1001);
        });
        let exit = relay.exited(PATIENCE);
        assert!(exit.success(), "{exit}");
        relay.logged(&["longsplice has stopped"]);
        drop(floods);
    });
}

#[test]
fn a_stop_with_readers_that_stopped_ends_in_time() {
    every_cell(|cell| {
        let mut relay = cell.start();
        let mut host = Host::register(&relay);
        let mut links: Vec<Link<Raw>> =
            (0..4).map(|_| host.join_ends(Raw::narrow(&relay), Raw::narrow(&relay))).collect();
        let message = wire::message(wire::BINARY, &vec![0; 8 << 20]);
        for link in &mut links {
            link.client.write_until_blocked(&message, Duration::from_millis(100));
        }
        relay.signal("TERM");
        let exit = relay.exited(PATIENCE);
        assert!(exit.success(), "{exit}");
    });
}

/// Lets every end answer the pings that came.
fn answer_pings(host: &mut Host, links: &mut [Link<Raw>]) {
    for link in links {
        link.client.expect_silence(Duration::from_millis(1));
        link.host.expect_silence(Duration::from_millis(1));
    }
    host.control.expect_silence(Duration::from_millis(1));
}

#[test]
fn a_relay_that_was_halted_drops_nobody_who_answered() {
    every_cell(|cell| {
        // Halted for longer than a ping may stay unanswered; the pongs lie in the kernel meanwhile.
        let interval = Duration::from_millis(scaled(4000, 6000));
        let setup = cell.setup().flag("--park-after", "100ms");
        let relay = setup.flag("--ping-interval", format!("{}ms", interval.as_millis())).start();
        let before = Before::of(&relay);
        let mut host = Host::register(&relay);
        let mut links: Vec<Link<Raw>> = Vec::new();
        let mut answered = Instant::now();
        for _ in 0..scaled(10, 300) {
            links.push(host.join(&relay));
            // Those who joined first are pinged while the others join.
            if answered.elapsed() > interval / 8 {
                answer_pings(&mut host, &mut links);
                answered = Instant::now();
            }
        }
        links.iter_mut().for_each(Link::check);
        for round in 0..2_u8 {
            // The peers answer while the relay stands still, each ping that came before.
            let until = Instant::now() + interval + interval / 5;
            while Instant::now() < until {
                answer_pings(&mut host, &mut links);
            }
            relay.signal("STOP");
            let halted = Instant::now();
            while halted.elapsed() < 2 * interval {
                answer_pings(&mut host, &mut links);
            }
            relay.signal("CONT");
            links.iter_mut().for_each(|link| exchange(link, &[round; 5000]));
            host.join::<Peer, Peer>(&relay).check();
        }
        let metrics = relay.metrics();
        assert_eq!(metrics.sum_of("longsplice_closed_total", &[("reason", "ping_timeout")]), 0.0);
        assert!(
            metrics.sum("longsplice_halts_total") >= f64::from(2 * cell.shards),
            "each shard stood still"
        );
        relay.logged(&["the shard stood still", "late_ms"]);
        drop((links, host));
        before.is_back(&relay);
    });
}

#[test]
fn what_was_sent_to_a_halted_relay_arrives() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Raw>::new(&relay);
        let content: Vec<u8> = (0..50_000_u32).map(|n| n as u8).collect();
        relay.signal("STOP");
        for _ in 0..10 {
            link.client.write(&wire::message(wire::BINARY, &content));
        }
        link.client.write(&wire::message(wire::CLOSE, &wire::close_payload(1000, b"")));
        relay.signal("CONT");
        for _ in 0..10 {
            assert_eq!(link.host.hear(PATIENCE), Heard::Binary(content.clone()));
        }
        link.host.expect_closed(4003);
    });
}
