//! Connections that are quiet for long: whether parked or not, nobody above the driver can tell.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use super::{
    on_both,
    rig::{Real, connect, driver, driver_parking, echo, finish, patterned, take, turn, until},
};
use crate::{
    driver::{Completion, Read},
    id::ConnId,
};

on_both!(
    the_quiet_are_served_whenever_they_speak,
    the_end_of_a_quiet_connection_is_told_behind_its_last_bytes,
    a_quiet_connection_is_read_in_other_ways_closed_and_sent_to,
    bytes_that_cross_the_parking_are_not_lost,
);

/// Waits until the driver has parked `count`, if it does such a thing.
fn parked<D: Real>(driver: &mut D, count: u64) {
    if D::PARKS {
        let nothing = |_: &mut D, (): &mut (), completion| panic!("nobody speaks: {completion:?}");
        until(driver, &mut (), "parking", nothing, |driver, ()| driver.counters().parked == count);
    }
}

fn streaming<D: Real>(
    driver: &mut D,
    address: std::net::SocketAddr,
    count: usize,
) -> Vec<(TcpStream, ConnId)> {
    let connect_one = |_| {
        let (client, conn) = connect(driver, address);
        driver.read(conn, Read::Stream);
        (client, conn)
    };
    (0..count).map(connect_one).collect()
}

/// Echoes until `bytes` were sent back.
fn echo_all<D: Real>(driver: &mut D, bytes: usize) {
    let mut echoed = 0;
    let on = |driver: &mut D, echoed: &mut usize, completion| {
        if let Completion::Sent { bytes, .. } = &completion {
            *echoed += bytes;
        }
        echo(driver, completion);
    };
    until(driver, &mut echoed, "every echo", on, |_, echoed| *echoed == bytes);
}

fn the_quiet_are_served_whenever_they_speak<D: Real>() {
    const CONNECTIONS: usize = 40;
    let (mut driver, address) = driver::<D>();
    let mut clients = streaming(&mut driver, address, CONNECTIONS);
    // One word; two in a row; more than a buffer; more than all buffers.
    for length in [5, 100, 40_000, 1_500_000] {
        parked(&mut driver, CONNECTIONS as u64);
        let woken = driver.counters().woken_total;
        let talkers = if length > 100_000 { 2 } else { CONNECTIONS };
        for (client, _) in &mut clients[..talkers] {
            let mut writer = client.try_clone().unwrap();
            let writing = std::thread::spawn(move || writer.write_all(&patterned(length)).unwrap());
            echo_all(&mut driver, length);
            writing.join().unwrap();
            let mut back = vec![0; length];
            client.read_exact(&mut back).unwrap();
            assert!(back == patterned(length));
            if length == 100 {
                client.write_all(b"again").unwrap();
                echo_all(&mut driver, 5);
                client.read_exact(&mut [0; 5]).unwrap();
            }
        }
        assert!(!D::PARKS || driver.counters().woken_total >= woken + talkers as u64);
    }
    finish(driver);
}

fn the_end_of_a_quiet_connection_is_told_behind_its_last_bytes<D: Real>() {
    let (mut driver, address) = driver::<D>();
    for (word, reset) in [(&b""[..], false), (b"a last word", false), (b"", true)] {
        let (mut client, conn) = streaming(&mut driver, address, 1).pop().unwrap();
        parked(&mut driver, 1);
        client.write_all(word).unwrap();
        if reset {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        let mut told = (Vec::new(), None);
        let on = |driver: &mut D, told: &mut (Vec<u8>, Option<Option<i32>>), completion| match completion {
            Completion::Received { chunk, .. } => told.0.extend(take(driver, chunk)),
            Completion::Ended { error, .. } => told.1 = Some(error),
            other => panic!("{other:?}"),
        };
        until(&mut driver, &mut told, "the end", on, |_, told| told.1.is_some());
        assert_eq!(told, (word.to_vec(), Some(reset.then_some(libc::ECONNRESET))));
        driver.close(conn, false);
        assert_eq!(driver.counters().parked, 0);
    }
    finish(driver);
}

fn a_quiet_connection_is_read_in_other_ways_closed_and_sent_to<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let mut clients = streaming(&mut driver, address, 4);
    parked(&mut driver, 4);
    let (mut client, conn) = clients.pop().unwrap();
    driver.send_bytes(conn, b"to a quiet one");
    let mut sent = 0;
    let on = |_: &mut D, sent: &mut usize, completion| match completion {
        Completion::Sent { bytes, .. } => *sent += bytes,
        other => panic!("{other:?}"),
    };
    until(&mut driver, &mut sent, "the send", on, |_, sent| *sent == 14);
    client.read_exact(&mut [0; 14]).unwrap();
    // Off: nothing is read, and `Stopped` is answered.
    driver.read(conn, Read::Off);
    client.write_all(b"held back").unwrap();
    let mut stopped = false;
    let on = |_: &mut D, stopped: &mut bool, completion| match completion {
        Completion::Stopped { .. } => *stopped = true,
        other => panic!("{other:?}"),
    };
    until(&mut driver, &mut stopped, "the word that it stopped", on, |_, stopped| *stopped);
    for _ in 0..5 {
        turn(&mut driver, |_, completion| panic!("it is not read: {completion:?}"));
    }
    for (how, expected) in [
        (Read::Once { bytes_max: 4 }, &b"held"[..]),
        (Read::Once { bytes_max: 100 }, b" back"),
        (Read::Stream, b""),
    ] {
        driver.read(conn, how);
        let mut bytes = Vec::new();
        let on = |driver: &mut D, bytes: &mut Vec<u8>, completion| match completion {
            Completion::Received { chunk, .. } => bytes.extend(take(driver, chunk)),
            other => panic!("{other:?}"),
        };
        until(&mut driver, &mut bytes, "what was held back", on, |_, bytes| bytes.len() >= expected.len());
        assert_eq!(bytes, expected);
    }
    parked(&mut driver, 4);
    // One is closed while it is parked, one by both sides at once; a third is as it was.
    driver.close(conn, false);
    let (client, conn) = clients.pop().unwrap();
    client.shutdown(Shutdown::Both).unwrap();
    driver.close(conn, true);
    let (mut client, _) = clients.pop().unwrap();
    client.write_all(b"still here").unwrap();
    echo_all(&mut driver, 10);
    client.read_exact(&mut [0; 10]).unwrap();
    finish(driver);
}

/// Every few microseconds of the parking meets a message: nothing is lost, doubled or out of order.
fn bytes_that_cross_the_parking_are_not_lost<D: Real>() {
    let (mut driver, address) = driver_parking::<D>(Duration::from_millis(1));
    let clients = streaming(&mut driver, address, 30);
    let peers = std::thread::spawn(move || {
        for round in 0..400_usize {
            let (mut client, _) = (&clients[round * 7 % clients.len()].0, ());
            let length = 1 + round * round % 300;
            client.write_all(&patterned(length)).unwrap();
            let mut back = vec![0; length];
            client.read_exact(&mut back).unwrap();
            assert!(back == patterned(length), "round {round}");
            // The next message comes after a span that no two rounds share.
            std::thread::sleep(Duration::from_micros((round * 37 % 3000) as u64));
        }
    });
    while !peers.is_finished() {
        turn(&mut driver, |driver, completion| match completion {
            // The peers hang up when they are through.
            Completion::Ended { conn, .. } => driver.close(conn, false),
            other => echo(driver, other),
        });
    }
    peers.join().unwrap();
    assert!(!D::PARKS || driver.counters().woken_total > 100, "{:?}", driver.counters());
    finish(driver);
}
