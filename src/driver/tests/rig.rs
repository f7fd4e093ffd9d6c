//! What the driver tests stand on: a driver on a loopback port, and a loop that gives up.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    driver::{
        Chunk, Clock, Completion, Driver, EpollDriver, HEADROOM, PoolOptions, Read, Setup, UringDriver,
        listen::{self, ListenOptions},
        post::{Ends, Offices},
    },
    id::ConnId,
};

/// How long any test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Short, so that whatever a test does, connections are being parked meanwhile.
pub(in crate::driver) const PARK_AFTER: Duration = Duration::from_millis(20);

/// The drivers under test.
pub(in crate::driver) trait Real: Driver + Sized {
    /// Whether it parks quiet connections.
    const PARKS: bool;
    fn make(setup: Setup) -> io::Result<Self>;
}

impl Real for EpollDriver {
    const PARKS: bool = false;
    fn make(setup: Setup) -> io::Result<Self> {
        EpollDriver::new(setup)
    }
}

impl Real for UringDriver {
    const PARKS: bool = true;
    fn make(setup: Setup) -> io::Result<Self> {
        UringDriver::new(setup)
    }
}

pub(in crate::driver) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A driver that listens on `address` and accepts.
pub(in crate::driver) fn driver_with<D: Real>(
    address: SocketAddr,
    options: &ListenOptions,
    pool: PoolOptions,
    post: Ends,
) -> (D, SocketAddr) {
    make(address, options, pool, post, PARK_AFTER)
}

/// A driver that parks after another span than the others.
pub(in crate::driver) fn driver_parking<D: Real>(park_after: Duration) -> (D, SocketAddr) {
    let post = Offices::new(1).unwrap().ends_here(0);
    make(loopback(), &ListenOptions::default(), PoolOptions::default(), post, park_after)
}

fn make<D: Real>(
    address: SocketAddr,
    options: &ListenOptions,
    pool: PoolOptions,
    post: Ends,
    park_after: Duration,
) -> (D, SocketAddr) {
    let listener = listen::bind(address, options).unwrap();
    let address = listener.address();
    let setup = Setup {
        clock: Clock::start(),
        listeners: vec![listener],
        post,
        pool,
        pipes_max: 8,
        connections_max: 100_000,
        park_after,
    };
    let mut driver = D::make(setup).unwrap();
    driver.resume_accept();
    (driver, address)
}

pub(in crate::driver) fn driver<D: Real>() -> (D, SocketAddr) {
    let post = Offices::new(1).unwrap().ends_here(0);
    driver_with(loopback(), &ListenOptions::default(), PoolOptions::default(), post)
}

/// Takes one turn, at most a few milliseconds long.
pub(in crate::driver) fn turn<D: Driver>(driver: &mut D, mut on: impl FnMut(&mut D, Completion)) {
    let deadline = driver.now().at + Duration::from_millis(5);
    driver.wait(Some(deadline)).unwrap();
    while let Some(completion) = driver.next() {
        on(driver, completion);
    }
}

/// Takes turns until `done`; panics with `what` when that never comes.
pub(in crate::driver) fn until<D: Driver, S>(
    driver: &mut D,
    state: &mut S,
    what: &str,
    mut on: impl FnMut(&mut D, &mut S, Completion),
    done: impl Fn(&D, &S) -> bool,
) {
    let start = Instant::now();
    while !done(driver, state) {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}; {:?}", driver.counters());
        turn(driver, |driver, completion| on(driver, state, completion));
    }
}

/// Connects a client and returns it with the driver's name for it. Meanwhile, others may at most send.
pub(in crate::driver) fn connect<D: Driver>(driver: &mut D, address: SocketAddr) -> (TcpStream, ConnId) {
    let client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let local = client.local_addr().unwrap();
    let mut accepted = None;
    let on = |_: &mut D, accepted: &mut Option<ConnId>, completion| match completion {
        Completion::Accepted { conn, peer } => {
            assert_eq!(peer, local);
            *accepted = Some(conn);
        }
        Completion::Sent { .. } => {}
        other => panic!("only an accept was expected: {other:?}"),
    };
    until(driver, &mut accepted, "an accept", on, |_, accepted| accepted.is_some());
    (client, accepted.unwrap())
}

/// Copies a chunk's bytes out and gives it back.
pub(in crate::driver) fn take<D: Driver>(driver: &mut D, chunk: Chunk) -> Vec<u8> {
    let bytes = driver.bytes_mut(&chunk)[HEADROOM..].to_vec();
    assert_eq!(bytes.len(), chunk.len());
    driver.release(chunk);
    bytes
}

/// Sends a chunk on as it is.
pub(in crate::driver) fn forward<D: Driver>(driver: &mut D, to: ConnId, chunk: Chunk) {
    let end = HEADROOM + chunk.len();
    driver.send_chunk(to, chunk, HEADROOM..end);
}

/// Echoes whatever comes, on every connection.
pub(in crate::driver) fn echo<D: Driver>(driver: &mut D, completion: Completion) {
    match completion {
        Completion::Accepted { conn, .. } => driver.read(conn, Read::Stream),
        Completion::Received { conn, chunk, .. } => forward(driver, conn, chunk),
        Completion::Ended { conn, .. } => driver.close(conn, false),
        Completion::Sent { .. } => {}
        other => panic!("an echo sees none of these: {other:?}"),
    }
}

/// The byte at `position` of a stream whose order mistakes show.
pub(in crate::driver) fn pattern(position: usize) -> u8 {
    let mixed = (position as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_be_bytes()[0]
}

pub(in crate::driver) fn patterned(bytes: usize) -> Vec<u8> {
    (0..bytes).map(pattern).collect()
}

/// At the end of a test: nothing is in flight and every buffer is back.
pub(in crate::driver) fn finish<D: Driver>(mut driver: D) {
    driver.finish();
    let counters = driver.counters();
    assert_eq!((counters.buffers_free, counters.held_bytes), (counters.buffers, 0));
}
