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
