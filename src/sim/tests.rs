//! The simulated driver against its contract: an echo over every kind of fault.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    dice::Dice,
    driver::SimDriver,
    faults::{Faults, Terrain},
    network::{Found, Network, Shared, StreamId},
};
use crate::{
    driver::{Completion, Driver, HEADROOM, Read},
    id::ConnId,
};

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);

/// Sends every byte back, and stops reading while much is queued.
struct Echo {
    driver: SimDriver,
    /// How each connection is read.
    conns: HashMap<ConnId, Read>,
    single: bool,
}

impl Echo {
    fn new(network: &Shared, single: bool) -> Echo {
        let mut driver = SimDriver::new(network.clone(), 0);
        driver.resume_accept();
        Echo { driver, conns: HashMap::new(), single }
    }

    fn how(&self) -> Read {
        if self.single { Read::Once { bytes_max: 1000 } } else { Read::Stream }
    }

    fn turn(&mut self) {
        self.driver.wait(None).expect("the simulated driver does not fail");
        let mut promised = None;
        while let Some(done) = self.driver.next() {
            if let Some((conn, left)) = promised.take() {
                let Completion::Received { conn: of, chunk, following } = &done else {
                    panic!("{done:?} inside a receive")
                };
                assert_eq!((*of, chunk.len() + following), (conn, left));
            }
            match done {
                Completion::Accepted { conn, peer } => {
                    assert_eq!(peer, PEER);
                    self.conns.insert(conn, self.how());
                    self.driver.read(conn, self.how());
                }
                Completion::Received { conn, chunk, following } => {
                    promised = (following > 0).then_some((conn, following));
                    let end = HEADROOM + chunk.len();
                    self.driver.send_chunk(conn, chunk, HEADROOM..end);
                    if following == 0 {
                        let off = self.driver.queued(conn) > 500;
                        let how = if off { Read::Off } else { self.how() };
                        self.conns.insert(conn, how);
                        self.driver.read(conn, how);
                    }
                }
                Completion::Sent { conn, .. }
                    if self.driver.queued(conn) == 0 && self.conns.contains_key(&conn) =>
                {
                    self.conns.insert(conn, self.how());
                    self.driver.read(conn, self.how());
                }
                Completion::Ended { conn, error } => {
                    self.conns.remove(&conn);
                    match error {
                        Some(_) => self.driver.close(conn, false),
                        None => self.driver.shut_down(conn),
                    }
                }
                Completion::SendFailed { conn, .. } | Completion::Broken { conn, .. } => {
                    self.conns.remove(&conn);
                    self.driver.close(conn, false);
                }
                Completion::AcceptFailed { .. } => self.driver.resume_accept(),
                _ => (),
            }
        }
        self.driver.invariants();
    }
}

/// Sends `bytes` over one stream and returns what came back.
fn echo(seed: u64, bytes: &[u8], single: bool) -> (Vec<u8>, Found) {
    let mut dice = Dice::new(seed);
    let faults = Faults { reset: 0, ..Faults::draw(&mut dice) };
    let network = Network::new(1, Terrain::draw(&mut dice), faults, dice.fork());
    let mut echo = Echo::new(&network, single);
    let stream: StreamId = network.borrow_mut().connect(PEER).expect("it listens");
    let (mut sent, mut back) = (0, Vec::new());
    for step in 0.. {
        assert!(step < 1_000_000, "seed {seed}: no progress");
        network.borrow_mut().advance(Duration::from_millis(1));
        let most = dice.size(4096);
        if sent < bytes.len() {
            sent += network.borrow_mut().peer_send(stream, &bytes[sent..]).expect("no resets");
            if sent == bytes.len() {
                network.borrow_mut().peer_shut_down(stream);
            }
        }
        let found = network.borrow_mut().peer_receive(stream, &mut back, most);
        if matches!(found, Found::End | Found::Reset) {
            echo.driver.finish();
            return (back, found);
        }
        echo.turn();
    }
    unreachable!("the loop ends by a return")
}

#[test]
fn an_echo_is_whole_whatever_the_driver_does_late_or_in_parts() {
    for seed in 0..200 {
        let mut bytes = vec![0; Dice::new(seed).size(60_000)];
        Dice::new(!seed).fill(&mut bytes);
        let (back, end) = echo(seed, &bytes, seed % 2 == 0);
        assert_eq!(end, Found::End, "seed {seed}");
        assert!(back == bytes, "seed {seed}: the echo differs");
    }
}

#[test]
fn a_posted_connection_goes_on_at_the_other_shard() {
    for seed in 0..50 {
        let mut dice = Dice::new(seed);
        let faults = Faults { reset: 0, ..Faults::draw(&mut dice) };
        let network = Network::new(2, Terrain::draw(&mut dice), faults, dice.fork());
        let mut drivers = [0, 1].map(|shard| SimDriver::new(network.clone(), shard));
        drivers.iter_mut().for_each(Driver::resume_accept);
        let stream = network.borrow_mut().connect(PEER).expect("it listens");
        let mut waiting = None;
        let mut left: Option<ConnId> = None;
        let mut answer = Vec::new();
        while answer.is_empty() {
            network.borrow_mut().advance(Duration::from_millis(1));
            for shard in 0..2u16 {
                let driver = &mut drivers[usize::from(shard)];
                driver.wait(None).expect("the simulated driver does not fail");
                while let Some(done) = driver.next() {
                    match done {
                        Completion::Accepted { conn, .. } => waiting = Some((shard, conn)),
                        Completion::AcceptFailed { .. } => driver.resume_accept(),
                        Completion::Arrived { conn, tag } => {
                            assert_eq!(tag, 7);
                            driver.send_bytes(conn, b"here");
                            left = Some(conn);
                        }
                        _ => (),
                    }
                }
                if let Some((from, conn)) = waiting
                    && from == shard
                    && driver.post(conn, 1 - shard, 7).is_ok()
                {
                    waiting = None;
                    driver.close(conn, false);
                }
            }
            network.borrow_mut().peer_receive(stream, &mut answer, 64);
        }
        assert!(left.is_some() && b"here".starts_with(&answer), "seed {seed}");
        assert_eq!(drivers.iter().map(SimDriver::connections).sum::<usize>(), 1);
        drivers.iter_mut().for_each(Driver::finish);
        assert_eq!(network.borrow().held_by_relay(), 0);
    }
}

#[test]
fn a_reset_while_not_read_is_reported_and_stale_names_do_nothing() {
    let mut dice = Dice::new(1);
    let network = Network::new(1, Terrain::draw(&mut dice), Faults::calm(), dice.fork());
    let mut driver = SimDriver::new(network.clone(), 0);
    driver.resume_accept();
    let stream = network.borrow_mut().connect(PEER).expect("it listens");
    driver.wait(None).expect("the simulated driver does not fail");
    let Some(Completion::Accepted { conn, .. }) = driver.next() else { panic!("a connection waits") };
    network.borrow_mut().peer_close(stream, true);
    assert!(driver.poll());
    assert!(matches!(driver.next(), Some(Completion::Broken { conn: of, .. }) if of == conn));
    assert!(!driver.poll(), "a break is reported once");
    driver.close(conn, false);
    driver.send_bytes(conn, b"stale");
    driver.read(conn, Read::Stream);
    assert!(!driver.poll());
    assert_eq!(driver.queued(conn), 0);
    driver.finish();
}
