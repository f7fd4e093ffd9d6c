//! A connection's move to the shard that owns its key: posted by `SCM_RIGHTS` from one driver to another, each on a
//! thread of its own with a descriptor table of its own, and back again.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use criterion::Criterion;
use longsplice::{
    driver::{
        Clock, Completion, Driver, EpollDriver, HEADROOM, PoolOptions, Read, Setup, UringDriver,
        listen::{self, ListenOptions},
        post::{EndNumbers, Offices},
    },
    id::ConnId,
};

/// What travels behind the moves, and is read where they end.
const PROOF: &[u8] = b"still the same connection";
const PATIENCE: Duration = Duration::from_secs(30);

/// The time of a move there and one back.
pub fn moving(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("move to another shard and back");
    group.sample_size(10);
    group.bench_function("epoll", |bencher| bencher.iter_custom(there_and_back::<EpollDriver>));
    if longsplice::driver::choose(longsplice::driver::Choice::IoUring).is_ok() {
        group.bench_function("io-uring", |bencher| bencher.iter_custom(there_and_back::<UringDriver>));
    }
}

trait Make: Driver + Sized {
    fn make(setup: Setup) -> std::io::Result<Self>;
}

impl Make for EpollDriver {
    fn make(setup: Setup) -> std::io::Result<Self> {
        EpollDriver::new(setup)
    }
}

impl Make for UringDriver {
    fn make(setup: Setup) -> std::io::Result<Self> {
        UringDriver::new(setup)
    }
}

fn there_and_back<D: Make>(moves: u64) -> Duration {
    let offices = Offices::new(2).expect("socket pairs are to be had");
    let (here, there) = (offices.ends_for(0), offices.ends_for(1));
    let (tell, told) = mpsc::channel();
    let first = thread::spawn(move || first_shard::<D>(here, moves, &tell));
    let second = thread::spawn(move || second_shard::<D>(there, moves));
    let address = told.recv().expect("the first shard listens");
    let mut client = TcpStream::connect(address).expect("it accepts");
    client.write_all(PROOF).expect("it is open");
    let elapsed = first.join().expect("the first shard ends well");
    second.join().expect("the second shard ends well");
    elapsed
}

/// Sends its one connection away and takes it back, again and again.
fn first_shard<D: Make>(ends: EndNumbers, moves: u64, tell: &mpsc::Sender<SocketAddr>) -> Duration {
    let (mut driver, address) = shard::<D>(ends);
    driver.resume_accept();
    tell.send(address).expect("the main thread waits for it");
    let mut conn = until(&mut driver, |_, completion| match completion {
        Completion::Accepted { conn, .. } => Some(conn),
        _ => None,
    });
    let began = Instant::now();
    for number in 0..moves {
        driver.post(conn, 1, number).expect("one letter finds room");
        let back = until(&mut driver, |_, completion| arrived(completion, number));
        driver.close(conn, false);
        conn = back;
    }
    let elapsed = began.elapsed();
    driver.read(conn, Read::Stream);
    let mut received = Vec::new();
    until(&mut driver, |driver, completion| {
        if let Completion::Received { chunk, .. } = completion {
            received.extend_from_slice(&driver.bytes_mut(&chunk)[HEADROOM..HEADROOM + chunk.len()]);
            driver.release(chunk);
        }
        (received.len() >= PROOF.len()).then_some(())
    });
    assert_eq!(received, PROOF);
    driver.finish();
    elapsed
}

/// Sends back whatever comes. Its own descriptor goes once the connection is here anew, so elsewhere meanwhile.
fn second_shard<D: Make>(ends: EndNumbers, moves: u64) {
    let (mut driver, _) = shard::<D>(ends);
    let mut before = None;
    for number in 0..moves {
        let conn = until(&mut driver, |_, completion| arrived(completion, number));
        before.into_iter().for_each(|before| driver.close(before, false));
        driver.post(conn, 0, number).expect("one letter finds room");
        before = Some(conn);
    }
    // The post is sent by the time `post` returns.
    driver.finish();
}

fn arrived(completion: Completion, number: u64) -> Option<ConnId> {
    match completion {
        Completion::Arrived { conn, tag } => {
            assert_eq!(tag, number);
            Some(conn)
        }
        _ => None,
    }
}

fn shard<D: Make>(ends: EndNumbers) -> (D, SocketAddr) {
    let (_, post) = ends.enter(&[]).expect("a table of its own is to be had");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = listen::bind(loopback, &ListenOptions::default()).expect("a port is free");
    let address = listener.address();
    let setup = Setup {
        clock: Clock::start(),
        listeners: vec![listener],
        post,
        pool: PoolOptions::default(),
        pipes_max: 0,
        connections_max: 16,
        park_after: Duration::ZERO,
    };
    (D::make(setup).expect("the driver starts"), address)
}

/// Takes turns until something comes of a completion. Others of the same turn are shown all the same, so that every
/// chunk finds its way back.
fn until<D: Driver, T>(driver: &mut D, mut on: impl FnMut(&mut D, Completion) -> Option<T>) -> T {
    let deadline = driver.now().at + PATIENCE;
    loop {
        driver.wait(Some(deadline)).expect("waiting works");
        let mut found = None;
        while let Some(completion) = driver.next() {
            found = on(driver, completion).or(found);
        }
        if let Some(found) = found {
            return found;
        }
        assert!(driver.now().at < deadline, "nothing came in {PATIENCE:?}");
    }
}
