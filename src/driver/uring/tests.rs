//! What only io_uring has: short queues, and memory that the kernel still uses.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use super::{Queues, UringDriver};
use crate::driver::{
    Clock, Completion, Driver, PoolOptions, Read, Setup,
    listen::{self, ListenOptions},
    post::Offices,
    tests::rig::{connect, echo, finish, loopback, turn, until},
};

fn with_queues(queues: Queues) -> (UringDriver, std::net::SocketAddr) {
    with_pool(queues, PoolOptions { buffers: 64, buffer_bytes: 4096 })
}

fn with_pool(queues: Queues, pool: PoolOptions) -> (UringDriver, std::net::SocketAddr) {
    let listener = listen::bind(loopback(), &ListenOptions::default()).unwrap();
    let address = listener.address();
    let setup = Setup {
        clock: Clock::start(),
        listeners: vec![listener],
        post: Offices::new(1).unwrap().ends_here(0),
        pool,
        pipes_max: 0,
        connections_max: 10_000,
        park_after: Duration::ZERO,
    };
    let mut driver = UringDriver::with_queues(setup, queues).unwrap();
    driver.resume_accept();
    (driver, address)
}

#[test]
fn short_queues_lose_nothing() {
    const CONNECTIONS: usize = 400;
    let (mut driver, address) = with_queues(Queues { submissions: 4, completions: 8 });
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let (client, conn) = connect(&mut driver, address);
        driver.read(conn, Read::Stream);
        clients.push((client, conn));
    }
    for round in 0..5 {
        // Far more operations than the one queue holds, whose completions are far more than the other holds.
        for (mut client, conn) in clients.iter().map(|(client, conn)| (client, *conn)) {
            driver.send_bytes(conn, b"unasked ");
            client.write_all(b"asked").unwrap();
        }
        let mut sent = 0;
        let on = |driver: &mut UringDriver, sent: &mut usize, completion| {
            if let Completion::Sent { bytes, .. } = &completion {
                *sent += bytes;
            }
            echo(driver, completion);
        };
        let expected = CONNECTIONS * b"unasked asked".len();
        until(&mut driver, &mut sent, "every byte", on, |_, sent| *sent == expected);
        for (mut client, _) in clients.iter().map(|(client, conn)| (client, conn)) {
            let mut back = [0; 13];
            client.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"unasked asked", "round {round}");
        }
    }
    finish(driver);
}

#[test]
fn dropping_a_driver_drains_it_first() {
    let (mut driver, address) = with_queues(Queues::DEFAULT);
    let (mut client, conn) = connect(&mut driver, address);
    driver.read(conn, Read::Stream);
    driver.send_bytes(conn, &vec![3; 16 << 20]);
    for _ in 0..3 {
        turn(&mut driver, |_, completion| assert!(matches!(completion, Completion::Sent { .. })));
    }
    assert!(driver.ring.in_flight() >= 3, "a receive, a send that waits, an accept");
    client.write_all(b"never read").unwrap();
    drop(driver);
    // The descriptor was closed, which needs every operation on it to have ended.
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(rest.len() < 16 << 20);
    assert!(std::net::TcpStream::connect(address).is_err());
}

/// The word that a receive found no buffer may be taken only after the kernel was given all buffers again.
#[test]
fn buffers_that_the_kernel_has_already_serve_whoever_starves() {
    let (mut driver, address) = with_pool(Queues::DEFAULT, PoolOptions { buffers: 4, buffer_bytes: 4096 });
    let mut clients = Vec::new();
    for _ in 0..5 {
        let (client, conn) = connect(&mut driver, address);
        driver.read(conn, Read::Stream);
        turn(&mut driver, |_, completion| panic!("{completion:?}"));
        clients.push(client);
    }
    for client in &mut clients {
        client.write_all(b"all at once").unwrap();
    }
    let mut received = 0;
    let mut receive = |driver: &mut UringDriver, completion| {
        let Completion::Received { chunk, .. } = completion else { panic!("{completion:?}") };
        driver.release(chunk);
        received += 1;
    };
    driver.wait(None).unwrap();
    for _ in 0..4 {
        let completion = driver.next().expect("the four that found buffers");
        receive(&mut driver, completion);
    }
    // The fifth's bad news is still there to be taken.
    driver.wait(None).unwrap();
    assert_eq!(driver.memory.pool.free(), 0, "the kernel has all buffers");
    for _ in 0..20 {
        turn(&mut driver, &mut receive);
    }
    assert_eq!(driver.counters().buffers_exhausted, 1);
    assert_eq!(received, 5);
    finish(driver);
}

#[test]
fn queued_buffers_come_back_before_more_is_received() {
    let pool = PoolOptions { buffers: 8, buffer_bytes: 4096 };
    let (mut driver, address) = with_pool(Queues::DEFAULT, pool);
    let mut clients = Vec::new();
    for _ in 0..6 {
        let (client, conn) = connect(&mut driver, address);
        driver.read(conn, Read::Stream);
        clients.push(client);
    }
    for _ in 0..20 {
        // Six of the eight buffers are queued by then, and six are wanted.
        for client in &mut clients {
            client.write_all(&[1; 100]).unwrap();
        }
        turn(&mut driver, echo);
    }
    assert_eq!(driver.counters().buffers_exhausted, 0);
    drop(clients);
    finish(driver);
}

#[test]
fn what_was_not_offered_yet_is_not_told_as_waiting() {
    let (mut driver, address) = with_queues(Queues::DEFAULT);
    let (client, conn) = connect(&mut driver, address);
    let mut told = 0;
    let on_sent = |driver: &mut UringDriver, told: &mut usize, completion| match completion {
        Completion::Sent { bytes, .. } => {
            *told += bytes;
            assert_eq!(driver.queued(conn), 0, "the kernel has room for all of it");
        }
        other => panic!("{other:?}"),
    };
    for _ in 0..50 {
        driver.send_bytes(conn, b"first");
        let now = driver.now().at;
        driver.wait(Some(now)).unwrap();
        // The kernel has taken the first, and its completion waits.
        driver.send_bytes(conn, b"second");
        while let Some(completion) = driver.next() {
            on_sent(&mut driver, &mut told, completion);
        }
    }
    until(&mut driver, &mut told, "word of all", on_sent, |_, told| *told == 50 * 11);
    drop(client);
    finish(driver);
}
