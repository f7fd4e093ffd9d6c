//! Between shards and threads: the post, wake-ups, shared ports, and how a driver ends.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::mpsc,
    time::Duration,
};

use super::{
    on_both,
    rig::{PARK_AFTER, Real, connect, driver, driver_with, echo, finish, loopback, turn, until},
};
use crate::driver::{
    Completion, PoolOptions, PostFull, Private, Read,
    listen::ListenOptions,
    post::{Ends, Offices},
};

on_both!(
    connections_move_between_threads_with_private_tables,
    what_was_posted_no_longer_concerns_its_sender,
    a_full_post_says_so_and_loses_nothing,
    what_is_taken_back_is_served_again,
    another_thread_wakes_a_driver_that_waits,
    two_drivers_share_a_port,
    stopping_accepts_drains_and_closes,
    closing_with_everything_in_flight_leaves_nothing,
    a_full_table_stops_accepting_until_told,
);

fn driver_at<D: Real>(post: Ends) -> (D, std::net::SocketAddr) {
    driver_with(loopback(), &ListenOptions::default(), PoolOptions::default(), post)
}

/// How many descriptors the calling thread has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/thread-self/fd").unwrap().count()
}

fn connections_move_between_threads_with_private_tables<D: Real>() {
    const MOVES: u64 = 40;
    let offices = Offices::new(2).unwrap();
    let (here, there) = (offices.ends_for(0), offices.ends_for(1));
    let (address_to, address_from) = mpsc::channel();

    let sender = std::thread::spawn(move || {
        let (private, ends) = here.enter(&[]).unwrap();
        assert_eq!(private, Private::Yes);
        let (mut driver, address) = driver_at::<D>(ends);
        let before = descriptors();
        address_to.send(address).unwrap();
        let mut posted = 0;
        let on = |driver: &mut D, posted: &mut u64, completion| match completion {
            Completion::Accepted { conn, .. } => {
                while driver.post(conn, 1, 1000 + *posted) == Err(PostFull) {
                    std::thread::yield_now();
                }
                driver.read(conn, Read::Stream); // Posted: nothing comes of it.
                driver.close(conn, false);
                *posted += 1;
            }
            other => panic!("{other:?}"),
        };
        until(&mut driver, &mut posted, "connections to post", on, |_, posted| *posted == MOVES);
        for _ in 0..5 {
            turn(&mut driver, |_, completion| panic!("{completion:?}"));
        }
        assert_eq!(descriptors(), before, "the sender has closed its own");
        finish(driver);
    });
    let receiver = std::thread::spawn(move || {
        let (_, ends) = there.enter(&[]).unwrap();
        let (mut driver, _) = driver_at::<D>(ends);
        let before = descriptors();
        let mut tags = (Vec::new(), 0u64);
        let on = |driver: &mut D, state: &mut (Vec<u64>, u64), completion| match completion {
            Completion::Arrived { conn, tag } => {
                state.0.push(tag);
                driver.read(conn, Read::Stream);
            }
            Completion::Woken => {}
            Completion::Ended { conn, error: None } => {
                driver.close(conn, false);
                state.1 += 1;
            }
            other => echo(driver, other),
        };
        until(&mut driver, &mut tags, "arrivals to end", on, |_, state| state.1 == MOVES);
        tags.0.sort_unstable();
        assert_eq!(tags.0, (1000..1000 + MOVES).collect::<Vec<_>>());
        for _ in 0..5 {
            turn(&mut driver, |_, completion| panic!("{completion:?}"));
        }
        assert_eq!(descriptors(), before, "every one that arrived was closed");
        finish(driver);
    });

    let address = address_from.recv().unwrap();
    for number in 0..MOVES {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let word = number.to_be_bytes();
        client.write_all(&word).unwrap();
        let mut back = [0; 8];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, word);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        // The peer sees the end only when no shard holds the socket any more.
        assert_eq!(client.read(&mut back).unwrap(), 0);
    }
    sender.join().unwrap();
    receiver.join().unwrap();
}

fn what_was_posted_no_longer_concerns_its_sender<D: Real>() {
    let offices = Offices::new(2).unwrap();
    let (mut driver, address) = driver_at::<D>(offices.ends_here(0));
    let (mut other, _) = driver_at::<D>(offices.ends_here(1));
    let (mut client, conn) = connect(&mut driver, address);
    driver.post(conn, 1, 7).unwrap();
    driver.close(conn, false);
    for round in 0..50u8 {
        client.write_all(&[round; 10]).unwrap();
        let mut echoed = 0;
        let on = |driver: &mut D, echoed: &mut usize, completion| match completion {
            Completion::Arrived { conn, tag: 7 } => driver.read(conn, Read::Stream),
            Completion::Woken => {}
            completion => {
                if let Completion::Sent { bytes, .. } = completion {
                    *echoed += bytes;
                }
                echo(driver, completion);
            }
        };
        until(&mut other, &mut echoed, "the echo", on, |_, echoed| *echoed == 10);
        let mut back = [0; 10];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [round; 10]);
        turn(&mut driver, |_, completion| panic!("{completion:?}"));
    }
    let stale = driver.counters().stale;
    assert!(stale <= 2, "the sender was woken {stale} times for a connection that it no longer has");
    finish(driver);
    finish(other);
}

fn a_full_post_says_so_and_loses_nothing<D: Real>() {
    let offices = Offices::new(2).unwrap();
    let (mut driver, address) = driver_at::<D>(offices.ends_here(0));
    let (mut other, _) = driver_at::<D>(offices.ends_here(1));
    let (mut client, conn) = connect(&mut driver, address);
    let mut sent = 0;
    while driver.post(conn, 1, sent).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "the post is bounded");
    }
    assert!(sent > 0);
    // A wake-up that the full post refuses is not lost either.
    driver.wake(1);
    driver.close(conn, false);
    let mut seen = (0, false);
    let on = |driver: &mut D, seen: &mut (u64, bool), completion| match completion {
        Completion::Arrived { conn, tag } => {
            assert_eq!(tag, seen.0);
            seen.0 += 1;
            if seen.0 < sent {
                driver.close(conn, false);
            } else {
                driver.send_bytes(conn, b"last");
            }
        }
        Completion::Woken => seen.1 = true,
        Completion::Sent { .. } => {}
        other => panic!("{other:?}"),
    };
    until(&mut other, &mut seen, "every letter", on, |_, seen| *seen == (sent, true));
    turn(&mut other, |_, _| {});
    let mut back = [0; 4];
    client.read_exact(&mut back).unwrap();
    finish(driver);
    finish(other);
}

fn what_is_taken_back_is_served_again<D: Real>() {
    let offices = Offices::new(2).unwrap();
    let (mut driver, address) = driver_at::<D>(offices.ends_here(0));
    let (mut client, conn) = connect(&mut driver, address);
    driver.post(conn, 1, 7).unwrap();
    client.write_all(b"meanwhile").unwrap();
    turn(&mut driver, |_, completion| panic!("{completion:?}"));
    driver.take_back(conn);
    driver.read(conn, Read::Stream);
    for word in [&b"meanwhile"[..], b"and later"] {
        let mut echoed = 0;
        let on = |driver: &mut D, echoed: &mut usize, completion| {
            if let Completion::Sent { bytes, .. } = completion {
                *echoed += bytes;
            }
            echo(driver, completion);
        };
        until(&mut driver, &mut echoed, "the echo", on, |_, echoed| *echoed == word.len());
        let mut back = vec![0; word.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, word);
        client.write_all(b"and later").unwrap();
    }
    let other = driver_at::<D>(offices.ends_here(1)).0;
    finish(driver);
    finish(other);
}

fn another_thread_wakes_a_driver_that_waits<D: Real>() {
    let offices = Offices::new(1).unwrap();
    let (mut driver, _) = driver_at::<D>(offices.ends_here(0));
    let wakers = offices.wakers();
    for _ in 0..3 {
        let wakers = wakers.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            wakers.wake(0);
        });
        let mut woken = false;
        while !woken {
            driver.wait(None).unwrap();
            while let Some(completion) = driver.next() {
                assert!(matches!(completion, Completion::Woken));
                woken = true;
            }
        }
        thread.join().unwrap();
    }
    finish(driver);
}

fn two_drivers_share_a_port<D: Real>() {
    let offices = Offices::new(2).unwrap();
    let (mut first, address) = driver_at::<D>(offices.ends_here(0));
    let options = ListenOptions::default();
    let (mut second, _) = driver_with::<D>(address, &options, PoolOptions::default(), offices.ends_here(1));
    let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut accepted = (0, 0);
    let count = |completion: Completion| usize::from(matches!(completion, Completion::Accepted { .. }));
    while accepted.0 + accepted.1 < clients.len() {
        turn(&mut first, |_, completion| accepted.0 += count(completion));
        turn(&mut second, |_, completion| accepted.1 += count(completion));
    }
    assert!(accepted.0 > 0 && accepted.1 > 0, "the kernel spreads over both: {accepted:?}");
    finish(first);
    finish(second);
    assert!(TcpStream::connect(address).is_err(), "the listeners closed with their drivers");
}

fn stopping_accepts_drains_and_closes<D: Real>() {
    let (mut driver, address) = driver::<D>();
    turn(&mut driver, |_, _| {});
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    driver.stop_accept();
    let mut state = (0, false);
    let on = |_: &mut D, state: &mut (usize, bool), completion| match completion {
        Completion::Accepted { .. } => {
            assert!(!state.1, "nothing is accepted after the stop");
            state.0 += 1;
        }
        Completion::AcceptStopped => state.1 = true,
        other => panic!("{other:?}"),
    };
    until(&mut driver, &mut state, "the stop", on, |_, state| state.1);
    assert_eq!(state.0, clients.len(), "nobody who was in the queue is turned away");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    finish(driver);
}

fn closing_with_everything_in_flight_leaves_nothing<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let peers: Vec<_> = (0..24).map(|_| connect(&mut driver, address)).collect();
    for (number, (client, conn)) in peers.iter().enumerate() {
        let (mut client, conn) = (client, *conn);
        match number % 4 {
            // A receive and a send that waits.
            0 => {
                driver.read(conn, Read::Stream);
                driver.send_bytes(conn, &vec![1; 8 << 20]);
            }
            // A single receive.
            1 => driver.read(conn, Read::Once { bytes_max: 100 }),
            // A poll.
            2 => driver.read(conn, Read::Readiness),
            // A watch.
            _ => {}
        }
        if number % 8 == 0 {
            client.write_all(b"hello").unwrap();
        }
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        turn(&mut driver, |driver, completion| match completion {
            Completion::Received { chunk, .. } => held.extend(super::rig::take(driver, chunk)),
            Completion::Sent { .. } => {}
            other => panic!("{other:?}"),
        });
    }
    for (number, (_, conn)) in peers.iter().enumerate() {
        driver.close(*conn, number % 3 == 0);
        // Stale from here on: nothing may come of any of these.
        driver.read(*conn, Read::Stream);
        driver.send_bytes(*conn, b"too late");
        driver.shut_down(*conn);
        driver.close(*conn, true);
        assert_eq!((driver.queued(*conn), driver.acked_bytes(*conn)), (0, None));
    }
    for _ in 0..4 {
        turn(&mut driver, |_, completion| panic!("a closed connection was named: {completion:?}"));
    }
    assert_eq!(driver.held_bytes(), 0);
    for (mut client, _) in peers {
        let mut bytes = vec![0; 1 << 20];
        while matches!(client.read(&mut bytes), Ok(1..)) {}
    }
    let (_client, fresh) = connect(&mut driver, address);
    assert!(fresh.generation > 0, "a slot is used again under another name");
    finish(driver);
}

fn a_full_table_stops_accepting_until_told<D: Real>() {
    let post = Offices::new(1).unwrap().ends_here(0);
    let listener = crate::driver::listen::bind(loopback(), &ListenOptions::default()).unwrap();
    let address = listener.address();
    let mut driver = D::make(crate::driver::Setup {
        clock: crate::driver::Clock::start(),
        listeners: vec![listener],
        post,
        pool: PoolOptions::default(),
        pipes_max: 0,
        connections_max: 3,
        park_after: PARK_AFTER,
    })
    .unwrap();
    driver.resume_accept();
    let _clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut state = (Vec::new(), 0);
    let on = |_: &mut D, state: &mut (Vec<crate::id::ConnId>, usize), completion| match completion {
        Completion::Accepted { conn, .. } => state.0.push(conn),
        Completion::AcceptFailed { error: libc::ENFILE } => state.1 += 1,
        other => panic!("{other:?}"),
    };
    until(&mut driver, &mut state, "the failure", on, |_, state| state.1 == 1);
    assert_eq!(state.0.len(), 3);
    for _ in 0..4 {
        turn(&mut driver, |_, completion| panic!("off until resumed: {completion:?}"));
    }
    driver.close(state.0[0], false);
    turn(&mut driver, |_, _| {});
    let late = TcpStream::connect(address).unwrap();
    driver.resume_accept();
    until(&mut driver, &mut state, "one more", on, |_, state| state.0.len() == 4);
    drop(late);
    finish(driver);
}
