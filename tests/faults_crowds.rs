//! Crowds that want to wear the relay out: half-open handshakes, heads that never end, more that is ready at once than
//! there are buffers, one link that takes all it can get.

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use support::{
    Before, End, Heard, Host, Keys, Link, PATIENCE, Peer, Raw, Witness,
    bulk::Flood,
    eventually, every_cell, every_cell_in_turn,
    faults::{exchange, scaled},
    keys::unix_ms,
    wire,
};

#[test]
fn a_crowd_that_never_finishes_its_head_is_sent_away_and_holds_nobody_up() {
    every_cell_in_turn(|cell| {
        rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            rustix::process::Rlimit {
                current: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
                ..rustix::process::getrlimit(rustix::process::Resource::Nofile)
            },
        )
        .expect("up to the hard limit");
        let relay = cell.setup().flag("--handshake-timeout", "2s").start();
        let before = Before::of(&relay);
        let witnesses = [Witness::start(&relay), Witness::start(&relay)];
        let head = b"GET /v1/link HTTP/1.1\r\nHost: here\r\nX-Slow: ";
        let crowd: usize = scaled(600, 10_000);
        let mut streams: Vec<TcpStream> = (0..crowd)
            .map(|n| {
                let source = Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250) as u8 + 1);
                let mut stream = relay.dial_from(source);
                match n % 10 {
                    0 => stream.write_all(head).expect("it is taken"),
                    1..=5 => stream.write_all(&head[..1 + n % head.len()]).expect("it is taken"),
                    _ => {}
                }
                stream
            })
            .collect();
        // A byte now and then does not buy time: the deadline is one of the whole head.
        let counted =
            || relay.metrics().sum_of("longsplice_closed_total", &[("reason", "handshake_timeout")]) as usize;
        eventually("all of the crowd are sent away", || {
            for stream in streams.iter_mut().step_by(10) {
                // To one that is gone already it does not matter.
                let _ = stream.write(b"a");
            }
            counted() >= crowd
        });
        assert_eq!(counted(), crowd, "and nobody else");
        for stream in &mut streams {
            stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            // The end, or a reset where a byte came after it.
            let ended = matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_));
            assert!(ended, "nothing was answered");
        }
        drop(streams);
        for witness in witnesses {
            drop(witness.end());
        }
        Link::<Peer>::new(&relay).1.check();
        before.is_back(&relay);
    });
}

#[test]
fn far_more_ready_at_once_than_there_are_buffers() {
    every_cell_in_turn(|cell| {
        // Eight buffers a shard.
        let setup = cell.setup().flag("--recv-buffers", 8).flag("--recv-buffer-size", "8KiB");
        // Thousands of connections are pinged a hundred times a second; what is left of the turns is then silence.
        let relay = setup.flag("--park-after", 0).flag("--ping-interval", "10m").start();
        let before = Before::of(&relay);
        let mut host = Host::register(&relay);
        let mut links: Vec<Link<Raw>> = (0..scaled(100, 2000)).map(|_| host.join(&relay)).collect();
        for round in 0..3_usize {
            let content: Vec<u8> = (0..12_000).map(|n| (n * (round + 3)) as u8).collect();
            let message = wire::message(wire::BINARY, &content);
            // All of it lies in the kernel when the relay looks.
            relay.signal("STOP");
            for link in &mut links {
                link.client.write(&message);
                link.host.write(&message);
            }
            relay.signal("CONT");
            for link in &mut links {
                for end in [&mut link.client, &mut link.host] {
                    assert!(end.hear(PATIENCE) == Heard::Binary(content.clone()), "another message");
                }
            }
        }
        if cell.driver == "io-uring" {
            let exhausted = relay.metrics().sum("longsplice_receive_buffers_exhausted_total");
            assert!(exhausted >= 1.0, "that is what this was about");
        }
        support::faults::assert_does_not_spin(&relay);
        drop((links, host));
        before.is_back(&relay);
    });
}

#[test]
fn a_link_that_takes_all_it_can_get_and_a_crowd_that_registers_leave_the_others_their_share() {
    every_cell_in_turn(|cell| {
        let relay = cell.start();
        let before = Before::of(&relay);
        let witnesses: Vec<Witness> = (0..4).map(|_| Witness::start(&relay)).collect();
        let (_busy_host, mut busy) = Link::<Raw>::new(&relay);
        let flood = Flood::start(&mut busy.client, 60_000);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut messages = 0;
                while let Heard::Binary(message) = busy.host.hear(PATIENCE) {
                    assert!(message.len() == 60_000 && message.iter().all(|&byte| byte == 0x5A));
                    messages += 1;
                }
                messages
            });
            // Each signature is verified by the shard that owns the address.
            for _ in 0..scaled(100, 2000) {
                let mut control = relay.peer();
                let keys = Keys::new();
                support::link::register(&mut control, &keys, &relay.origin(), unix_ms());
            }
            witnesses.iter().for_each(Witness::goes_on);
            drop(flood);
            assert!(reader.join().expect("no panic") > 0);
        });
        for witness in witnesses {
            drop(witness.end());
        }
        drop((_busy_host, busy));
        before.is_back(&relay);
    });
}

#[test]
fn readers_of_little_of_a_byte_a_second_and_of_nothing_cost_their_own_senders_and_nobody_else() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_SLOW_PEER_SEC", 2).start();
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        let mut host = Host::register(&relay);
        let mut never: Link<Raw> = host.join_ends(Raw::open(&relay), Raw::narrow(&relay));
        let slow = relay.dial_narrow();
        let mut trickle: Link<Raw> = host.join_ends(Raw::open(&relay), Raw::over(slow, &relay));
        let mut sip: Link<Raw> = host.join_ends(Raw::open(&relay), Raw::narrow(&relay));
        let floods = [&mut never, &mut trickle, &mut sip].map(|link| Flood::start(&mut link.client, 50_000));
        let (mut reader, mut sipper) = (trickle.host.writer(), sip.host.writer());
        thread::scope(|scope| {
            // A window that opens by a byte is not told of (RFC 1122, section 4.2.3.3): as good as shut.
            let (tell_cut, is_cut) = mpsc::channel::<()>();
            scope.spawn(move || {
                while sipper.read_exact(&mut [0]).is_ok()
                    && is_cut.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout)
                {
                }
            });
            // Little by little, for longer than one who takes nothing may stay: never cut.
            let reading = scope.spawn(move || {
                let mut taken = 0;
                let mut some = [0; 16 * 1024];
                for _ in 0..40 {
                    reader.read_exact(&mut some).expect("it is sent to");
                    taken += some.len();
                    thread::sleep(Duration::from_millis(100));
                }
                taken
            });
            never.client.expect_closed_somehow(4006);
            sip.client.expect_closed_somehow(4006);
            drop(tell_cut);
            assert_eq!(reading.join().expect("it is never cut"), 40 * 16 * 1024);
        });
        eventually("both ends of two links are counted as slow", || {
            relay.metrics().sum_of("longsplice_closed_total", &[("reason", "slow_peer")]) == 4.0
        });
        witness.goes_on();
        drop(floods);
        drop((never, trickle, sip, host));
        drop(witness.end());
        exchange(&mut Link::new(&relay).1, b"all is well");
        before.is_back(&relay);
    });
}

#[test]
fn a_peer_that_was_halted_hears_everything_when_it_goes_on() {
    const MESSAGES: usize = 16;
    every_cell(|cell| {
        // Left to itself the kernel would take megabytes before its sender is held up.
        let relay = cell.setup().flag("--send-buffer", "64KiB").flag("--receive-buffer", "64KiB").start();
        let witness = Witness::start(&relay);
        let mut host = Host::register(&relay);
        let mut client = Raw::open(&relay);
        let id = host.introduce_to(&mut client);
        host.pend_for(&mut client, &id);
        // A reader in a process of its own, which can be halted: it counts what comes until the end.
        let mut dial_back = Raw::narrow(&relay);
        support::link::accept(&mut dial_back, &id);
        client.expect_relaying(&id);
        let counter = std::process::Command::new("wc")
            .arg("-c")
            .stdin(std::os::fd::OwnedFd::from(dial_back.writer()))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("wc runs");
        support::process::signal(counter.id(), "STOP");
        let message = wire::message(wire::BINARY, &vec![1; 1 << 20]);
        let flood = {
            let (mut writer, message) = (client.writer(), message.clone());
            thread::spawn(move || {
                for _ in 0..MESSAGES {
                    writer.write_all(&message).expect("it is taken, in time");
                }
            })
        };
        eventually("its sender is held up", || relay.metrics().sum("longsplice_stalls_total") >= 1.0);
        witness.goes_on();
        assert!(!flood.is_finished(), "a halted peer can be sent less");
        support::process::signal(counter.id(), "CONT");
        flood.join().expect("no panic");
        client.write(&wire::message(wire::CLOSE, &wire::close_payload(1000, b"")));
        let counted = counter.wait_with_output().expect("it ends with the stream").stdout;
        let counted: usize = String::from_utf8_lossy(&counted).trim().parse().expect("a number");
        assert!(counted > MESSAGES << 20, "all messages, their headers and a close frame: {counted}");
        drop((witness.end(), host, dial_back));
    });
}
