//! Many connections at once: fairness, exhaustion, and what a message costs.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    on_both,
    rig::{Real, connect, driver, driver_with, echo, finish, forward, loopback, patterned, turn, until},
};
use crate::driver::{
    Completion, Driver, EpollDriver, PoolOptions, Read, UringDriver, listen::ListenOptions, post::Offices,
};

on_both!(
    readers_that_stand_still_stop_nobody_else,
    more_ready_than_buffers_starves_nobody,
    ends_cost_no_buffers,
);

/// A driver with few buffers, so that they run out.
fn narrow<D: Real>(buffers: u32) -> (D, std::net::SocketAddr) {
    let post = Offices::new(1).unwrap().ends_here(0);
    let pool = PoolOptions { buffers, buffer_bytes: 4096 };
    driver_with(loopback(), &ListenOptions::default(), pool, post)
}

fn readers_that_stand_still_stop_nobody_else<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let mut asleep = Vec::new();
    for _ in 0..64 {
        let (client, conn) = connect(&mut driver, address);
        driver.send_bytes(conn, &vec![0; 8 << 20]);
        driver.read(conn, Read::Stream);
        asleep.push(client);
    }
    let (client, conn) = connect_among(&mut driver, address);
    driver.read(conn, Read::Stream);
    let thread = std::thread::spawn(move || {
        let mut client = client;
        let mut back = [0; 1000];
        for _ in 0..500 {
            client.write_all(&patterned(1000)).unwrap();
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, *patterned(1000));
        }
    });
    let start = Instant::now();
    while !thread.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(20), "500 round trips among readers that stand still");
        turn(&mut driver, echo);
    }
    thread.join().unwrap();
    let counters = driver.counters();
    assert_eq!(counters.buffers_free, counters.buffers);
    assert!(driver.held_bytes() > 64 << 20, "what nobody reads is held");
    drop(asleep);
    finish(driver);
}

/// Connects while others send.
fn connect_among<D: Driver>(driver: &mut D, address: std::net::SocketAddr) -> (TcpStream, crate::id::ConnId) {
    let client = TcpStream::connect(address).unwrap();
    let mut accepted = None;
    let on = |_: &mut D, accepted: &mut Option<crate::id::ConnId>, completion| match completion {
        Completion::Accepted { conn, .. } => *accepted = Some(conn),
        Completion::Sent { .. } => {}
        other => panic!("{other:?}"),
    };
    until(driver, &mut accepted, "an accept", on, |_, accepted| accepted.is_some());
    (client, accepted.unwrap())
}

fn more_ready_than_buffers_starves_nobody<D: Real>() {
    const CONNECTIONS: usize = 2500;
    const ROUNDS: usize = 8;
    let (mut driver, address) = narrow::<D>(16);
    let mut clients = Vec::new();
    while clients.len() < CONNECTIONS {
        let batch: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut accepted = 0;
        let on = |driver: &mut D, accepted: &mut usize, completion| match completion {
            Completion::Accepted { conn, .. } => {
                driver.read(conn, Read::Stream);
                *accepted += 1;
            }
            other => panic!("{other:?}"),
        };
        until(&mut driver, &mut accepted, "accepts", on, |_, accepted| *accepted == 100);
        clients.extend(batch);
    }
    for round in 0..ROUNDS {
        // All of them at once, before the driver looks: one message each, some of several buffers.
        let length = |number: usize| if number % 50 == round { 20_000 } else { 1 + (number + round) % 700 };
        for (number, mut client) in clients.iter().enumerate() {
            client.write_all(&patterned(length(number))).unwrap();
        }
        let expected: usize = (0..CONNECTIONS).map(length).sum();
        let mut echoed = 0;
        let on = |driver: &mut D, echoed: &mut usize, completion| {
            if let Completion::Sent { bytes, .. } = &completion {
                *echoed += bytes;
            }
            echo(driver, completion);
        };
        until(&mut driver, &mut echoed, "every echo", on, |_, echoed| *echoed == expected);
        for (number, mut client) in clients.iter().enumerate() {
            let mut back = vec![0; length(number)];
            client.read_exact(&mut back).unwrap();
            assert!(back == patterned(back.len()));
        }
    }
    // Closed while some starve, and others taken off and put on again.
    for mut client in &clients {
        client.write_all(b"unanswered").unwrap();
    }
    let mut conns = Vec::new();
    turn(&mut driver, |driver, completion| {
        if let Completion::Received { conn, chunk, .. } = completion {
            driver.release(chunk);
            driver.read(conn, Read::Off);
            driver.read(conn, Read::Once { bytes_max: 4 });
            conns.push(conn);
        }
    });
    for conn in conns {
        driver.close(conn, true);
    }
    finish(driver);
}

fn ends_cost_no_buffers<D: Real>() {
    let (mut driver, address) = narrow::<D>(4);
    for round in 0..40 {
        let (mut client, conn) = connect(&mut driver, address);
        let how = if round % 2 == 0 { Read::Stream } else { Read::Once { bytes_max: 100 } };
        driver.read(conn, how);
        if round % 4 < 2 {
            // The receive is already waiting when the end comes.
            turn(&mut driver, |_, completion| panic!("{completion:?}"));
        }
        if round % 8 < 4 && how == Read::Stream {
            client.write_all(b"some bytes first").unwrap();
        }
        if round % 5 == 0 {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        let mut ended = false;
        let on = |driver: &mut D, ended: &mut bool, completion| match completion {
            Completion::Received { chunk, .. } => driver.release(chunk),
            Completion::Ended { .. } => *ended = true,
            other => panic!("{other:?}"),
        };
        until(&mut driver, &mut ended, "the end", on, |_, ended| *ended);
        driver.close(conn, false);
    }
    // All four are still there to be filled: 64 KiB go through without running out of turns.
    let (mut client, conn) = connect(&mut driver, address);
    driver.read(conn, Read::Stream);
    let before = driver.counters().buffers_exhausted;
    for _ in 0..50 {
        client.write_all(&[7; 4 * 4096]).unwrap();
        let mut seen = 0;
        let on = |driver: &mut D, seen: &mut usize, completion| {
            if let Completion::Received { chunk, .. } = &completion {
                *seen += chunk.len();
            }
            match completion {
                Completion::Received { conn, chunk, .. } => forward(driver, conn, chunk),
                other => echo(driver, other),
            }
        };
        until(&mut driver, &mut seen, "the bytes", on, |_, seen| *seen == 4 * 4096);
        client.read_exact(&mut [0; 4 * 4096]).unwrap();
    }
    let _ = before;
    finish(driver);
}

/// Pairs that each keep one message on its way; returns messages echoed and system calls made for them.
fn ping_pong<D: Real>(connections: usize, messages: usize) -> (u64, u64) {
    let (mut driver, address) = driver::<D>();
    let mut clients = Vec::new();
    for _ in 0..connections {
        let (client, conn) = connect(&mut driver, address);
        driver.read(conn, Read::Stream);
        clients.push(client);
    }
    let peers = std::thread::spawn(move || {
        let mut back = [0; 128];
        for _ in 0..messages / connections {
            for mut client in &clients {
                client.write_all(&[5; 128]).unwrap();
            }
            for mut client in &clients {
                client.read_exact(&mut back).unwrap();
            }
        }
        clients
    });
    let before = driver.counters().syscalls;
    let mut echoed = 0;
    while !peers.is_finished() {
        turn(&mut driver, |driver, completion| {
            echoed += u64::from(matches!(completion, Completion::Received { .. }));
            echo(driver, completion);
        });
    }
    let calls = driver.counters().syscalls - before;
    drop(peers.join().unwrap());
    (echoed, calls)
}

#[test]
fn a_message_costs_the_ring_well_under_one_system_call() {
    let (messages, calls) = ping_pong::<UringDriver>(200, 40_000);
    assert!(calls * 2 < messages, "{calls} calls for {messages} messages");
}

#[test]
fn a_message_costs_epoll_little_more_than_a_read_and_a_write() {
    let (messages, calls) = ping_pong::<EpollDriver>(200, 40_000);
    assert!(calls < messages * 3, "{calls} calls for {messages} messages");
}
