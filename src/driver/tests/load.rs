//! Many connections at once: fairness, exhaustion, and what a message costs.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    on_both,
    rig::{Real, connect, driver, driver_with, echo, finish, loopback, patterned, turn, until},
};
use crate::driver::{
    Completion, EpollDriver, PoolOptions, Read, UringDriver, listen::ListenOptions, post::Offices,
};

on_both!(
    readers_that_stand_still_stop_nobody_else,
    more_ready_than_buffers_starves_nobody,
    ends_cost_no_buffers,
    a_shard_that_takes_little_a_turn_forgets_nobody,
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
    let (client, conn) = connect(&mut driver, address);
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

/// Completions pile up in the driver while buffers are short: the two must not wait for each other.
fn a_shard_that_takes_little_a_turn_forgets_nobody<D: Real>() {
    const CONNECTIONS: usize = 300;
    let (mut driver, address) = narrow::<D>(4);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let (client, conn) = connect(&mut driver, address);
        driver.read(conn, Read::Stream);
        clients.push(client);
    }
    for _ in 0..3 {
        for mut client in &clients {
            client.write_all(&patterned(100)).unwrap();
        }
        let mut echoed = 0;
        let start = Instant::now();
        while echoed < CONNECTIONS * 100 {
            assert!(start.elapsed() < Duration::from_secs(20), "{echoed}; {:?}", driver.counters());
            let deadline = driver.now().at + Duration::from_millis(20);
            driver.wait(Some(deadline)).unwrap();
            for _ in 0..3 {
                let Some(completion) = driver.next() else { break };
                if let Completion::Sent { bytes, .. } = &completion {
                    echoed += bytes;
                }
                echo(&mut driver, completion);
            }
        }
        for mut client in &clients {
            client.read_exact(&mut [0; 100]).unwrap();
        }
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
    // All four are still there: that much comes in one receive, sooner or later.
    let (mut client, conn) = connect(&mut driver, address);
    driver.read(conn, Read::Stream);
    let mut largest = 0;
    for _ in 0..50 {
        client.write_all(&[7; 4 * 4096]).unwrap();
        let mut echoed = 0;
        let on = |driver: &mut D, echoed: &mut usize, completion| {
            match &completion {
                Completion::Received { chunk, following, .. } => {
                    largest = largest.max(chunk.len() + following)
                }
                Completion::Sent { bytes, .. } => *echoed += bytes,
                _ => {}
            }
            echo(driver, completion);
        };
        until(&mut driver, &mut echoed, "the echo", on, |_, echoed| *echoed == 4 * 4096);
        client.read_exact(&mut [0; 4 * 4096]).unwrap();
    }
    assert_eq!(largest, 4 * 4096);
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
