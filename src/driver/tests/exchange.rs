//! One or two connections: bytes, ends, and every way of reading.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use super::{
    on_both,
    rig::{Real, connect, driver, echo, finish, forward, patterned, take, turn, until},
};
use crate::{
    driver::{Completion, Driver, HEADROOM, Read, SpliceIn},
    id::ConnId,
};

on_both!(
    bytes_come_back_and_the_end_is_seen,
    a_stalled_reader_holds_heap_and_no_buffers,
    shared_bytes_reach_everyone_and_are_held_once,
    a_send_of_which_nothing_is_taken_is_told,
    once_receives_at_most_what_was_asked,
    off_stops_and_says_so,
    a_reset_is_reported_while_off,
    an_end_waits_to_be_read,
    headroom_is_writable_and_ranges_are_sent,
    queued_bytes_leave_in_order_and_then_the_end,
    sending_to_a_reset_peer_fails_once,
    splicing_is_byte_exact,
    acknowledged_bytes_are_counted,
    what_was_not_received_yet_is_seen,
    a_deadline_ends_the_wait,
    nothing_is_told_of_what_was_closed_meanwhile,
    both_ends_over_is_not_broken_and_does_not_spin,
    a_change_of_mind_between_ways_of_reading_loses_nothing,
);

/// Takes turns for a while in which nothing may happen.
fn quiet<D: Driver>(driver: &mut D, span: Duration) {
    let start = Instant::now();
    while start.elapsed() < span {
        turn(driver, |_, completion| panic!("nothing was expected: {completion:?}"));
    }
}

/// Takes turns until one completion comes that is not `Sent`, and returns it.
fn one<D: Driver>(driver: &mut D, what: &str) -> Completion {
    let mut found = None;
    let on = |_: &mut D, found: &mut Option<Completion>, completion| match completion {
        Completion::Sent { .. } => {}
        completion => assert!(found.replace(completion).is_none(), "one completion, not two"),
    };
    until(driver, &mut found, what, on, |_, found| found.is_some());
    found.unwrap()
}

fn received<D: Driver>(driver: &mut D, what: &str) -> Vec<u8> {
    match one(driver, what) {
        Completion::Received { chunk, following: 0, .. } => take(driver, chunk),
        other => panic!("{what}: {other:?}"),
    }
}

fn reset(client: TcpStream) {
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
}

fn bytes_come_back_and_the_end_is_seen<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let clients: Vec<_> = (0..3).map(|_| connect(&mut driver, address)).collect();
    for (_, conn) in &clients {
        driver.read(*conn, Read::Stream);
    }
    for round in 0..20usize {
        for (number, (client, _)) in clients.iter().enumerate() {
            (&*client).write_all(&patterned(1 + round * 997 + number)).unwrap();
        }
        for (number, (client, _)) in clients.iter().enumerate() {
            let mut back = vec![0; 1 + round * 997 + number];
            client.set_nonblocking(true).unwrap();
            let mut read = 0;
            until(
                &mut driver,
                &mut read,
                "the echo",
                |driver, _, completion| echo(driver, completion),
                |_, _| true,
            );
            while read < back.len() {
                turn(&mut driver, echo);
                read += (&*client).read(&mut back[read..]).unwrap_or(0);
            }
            assert_eq!(back, patterned(back.len()));
        }
    }
    let conn = clients[1].1;
    clients[1].0.shutdown(Shutdown::Write).unwrap();
    match one(&mut driver, "the end") {
        Completion::Ended { conn: ended, error: None } => assert_eq!(ended, conn),
        other => panic!("{other:?}"),
    }
    driver.close(conn, false);
    assert_eq!(driver.queued(conn), 0, "a closed name means nothing");
    finish(driver);
}

fn a_stalled_reader_holds_heap_and_no_buffers<D: Real>() {
    const BYTES: usize = 16 << 20;
    const HIGH: usize = 256 * 1024;
    let (mut driver, address) = driver::<D>();
    let (source, from) = connect(&mut driver, address);
    let (mut sink, to) = connect(&mut driver, address);
    let bytes = patterned(BYTES);
    let expected = bytes.clone();
    let writer = std::thread::spawn(move || (&source).write_all(&bytes).map(|()| source));
    driver.read(from, Read::Stream);

    #[derive(Default)]
    struct State {
        taken: usize,
        sent: usize,
        off: bool,
    }
    let mut state = State::default();
    let on = |driver: &mut D, state: &mut State, completion| {
        match completion {
            Completion::Received { chunk, .. } => {
                state.taken += chunk.len();
                forward(driver, to, chunk);
            }
            Completion::Sent { conn, bytes } => {
                assert_eq!(conn, to);
                state.sent += bytes;
            }
            Completion::Stopped { conn } => assert_eq!(conn, from),
            other => panic!("{other:?}"),
        }
        let high = driver.queued(to) > HIGH;
        if high != state.off {
            state.off = high;
            driver.read(from, if high { Read::Off } else { Read::Stream });
        }
    };
    // Nobody reads: the kernel's buffers fill, what it does not take is held, and the source is turned off.
    until(&mut driver, &mut state, "back-pressure", on, |driver, _| driver.held_bytes() > HIGH);
    let start = Instant::now();
    until(&mut driver, &mut state, "standing still", on, |_, _| start.elapsed().as_millis() > 300);
    assert!(state.off && driver.held_bytes() > HIGH && driver.queued(to) == driver.held_bytes());
    assert!(driver.held_bytes() < HIGH + (2 << 20), "{} held", driver.held_bytes());
    let counters = driver.counters();
    assert_eq!(counters.buffers_free, counters.buffers, "no buffer waits for a slow peer");

    let reader = std::thread::spawn(move || {
        let mut back = vec![0; BYTES];
        sink.read_exact(&mut back).map(|()| (back, sink))
    });
    until(&mut driver, &mut state, "the rest", on, |_, state| state.sent >= BYTES);
    assert_eq!((state.taken, state.sent, driver.held_bytes()), (BYTES, BYTES, 0));
    let (back, _sink) = reader.join().unwrap().unwrap();
    assert!(back == expected, "every byte, in order");
    drop(writer.join().unwrap().unwrap());
    finish(driver);
}

/// Messages that the kernel takes whole, until it takes nothing of the next: the last thing told must not be that
/// all is sent. Where in a message the kernel's memory ends is its own affair, so many lengths are tried.
fn shared_bytes_reach_everyone_and_are_held_once<D: Real>() {
    const BYTES: usize = 8 << 20;
    let (mut driver, address) = driver::<D>();
    let clients: Vec<_> = (0..3).map(|_| connect(&mut driver, address)).collect();
    let conns: Vec<ConnId> = clients.iter().map(|(_, conn)| *conn).collect();
    for conn in &conns {
        driver.send_bytes(*conn, b"<");
    }
    driver.send_shared(&conns, patterned(BYTES).into());
    for conn in &conns {
        driver.send_bytes(*conn, b">");
    }
    assert_eq!(driver.held_bytes(), BYTES + 2 * conns.len());
    let ignore = |_: &mut D, _: &mut (), _| {};
    let start = Instant::now();
    until(&mut driver, &mut (), "the kernel's buffers to be full", ignore, |_, ()| {
        start.elapsed() > Duration::from_millis(50)
    });
    assert!(conns.iter().all(|conn| driver.queued(*conn) > 0), "nobody has read");
    assert!(driver.held_bytes() >= BYTES && driver.held_bytes() <= BYTES + 2 * conns.len());
    let mut readers: Vec<_> = (clients.into_iter())
        .map(|(mut client, _)| {
            std::thread::spawn(move || {
                let mut back = vec![0; BYTES + 2];
                client.read_exact(&mut back).map(|()| (back, client))
            })
        })
        .collect();
    // One goes away with its share.
    driver.close(conns[0], true);
    until(&mut driver, &mut (), "the rest to be taken", ignore, |driver, ()| {
        conns[1..].iter().all(|conn| driver.queued(*conn) == 0)
    });
    let expected = [b"<".as_slice(), &patterned(BYTES), b">"].concat();
    for reader in readers.drain(1..) {
        let (back, _client) = reader.join().unwrap().unwrap();
        assert!(back == expected, "every byte, in order");
    }
    assert!(readers.remove(0).join().unwrap().is_err());
    until(&mut driver, &mut (), "everything to be freed", ignore, |driver, ()| driver.held_bytes() == 0);
    finish(driver);
}

fn a_send_of_which_nothing_is_taken_is_told<D: Real>() {
    let (mut driver, address) = driver::<D>();
    for len in [1, 64, 512, 1000, 1024, 4096, 16_384, 32_768, 65_536] {
        let (_sink, to) = connect(&mut driver, address);
        let bytes = vec![7; len];
        let mut waits = false;
        let on = |driver: &mut D, waits: &mut bool, completion| match completion {
            Completion::Sent { conn, .. } => *waits = driver.queued(conn) > 0,
            other => panic!("{other:?}"),
        };
        while driver.held_bytes() == 0 {
            for _ in 0..if len < 512 { 64 * 1024 / len } else { 1 } {
                driver.send_bytes(to, &bytes);
            }
            turn(&mut driver, |driver, completion| on(driver, &mut waits, completion));
        }
        turn(&mut driver, |driver, completion| on(driver, &mut waits, completion));
        assert!(waits, "{} bytes of messages of {len} wait, and no one was told", driver.queued(to));
        driver.close(to, true);
    }
    finish(driver);
}

fn once_receives_at_most_what_was_asked<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (mut client, conn) = connect(&mut driver, address);
    client.write_all(b"twelve bytes").unwrap();
    driver.read(conn, Read::Once { bytes_max: 6 });
    assert_eq!(received(&mut driver, "the first half"), b"twelve");
    quiet(&mut driver, Duration::from_millis(100));
    driver.read(conn, Read::Once { bytes_max: 1000 });
    assert_eq!(received(&mut driver, "the rest"), b" bytes");
    driver.read(conn, Read::Off);
    quiet(&mut driver, Duration::from_millis(50));

    // Asked for before there is anything, and taken back.
    driver.read(conn, Read::Once { bytes_max: 1000 });
    quiet(&mut driver, Duration::from_millis(50));
    driver.read(conn, Read::Off);
    assert!(matches!(one(&mut driver, "the stop"), Completion::Stopped { conn: stopped } if stopped == conn));
    client.write_all(b"late").unwrap();
    quiet(&mut driver, Duration::from_millis(100));
    driver.read(conn, Read::Once { bytes_max: 1 << 30 });
    assert_eq!(received(&mut driver, "what came meanwhile"), b"late");
    finish(driver);
}

fn off_stops_and_says_so<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (mut client, conn) = connect(&mut driver, address);
    driver.read(conn, Read::Stream);
    client.write_all(b"one").unwrap();
    assert_eq!(received(&mut driver, "bytes"), b"one");
    driver.read(conn, Read::Off);
    driver.read(conn, Read::Off);
    assert!(matches!(one(&mut driver, "the stop"), Completion::Stopped { .. }));
    client.write_all(b"two").unwrap();
    quiet(&mut driver, Duration::from_millis(100));

    driver.read(conn, Read::Readiness);
    assert!(matches!(one(&mut driver, "readiness"), Completion::Readable { .. }));
    quiet(&mut driver, Duration::from_millis(50));
    driver.read(conn, Read::Stream);
    assert_eq!(received(&mut driver, "bytes"), b"two");

    // Off and on again at once: nothing is lost, and a stop that no longer holds is not reported after the
    // bytes.
    driver.read(conn, Read::Off);
    driver.read(conn, Read::Stream);
    client.write_all(b"three").unwrap();
    let mut bytes = Vec::new();
    until(
        &mut driver,
        &mut bytes,
        "bytes after a change of mind",
        |driver, bytes, completion| match completion {
            Completion::Received { chunk, .. } => bytes.extend(take(driver, chunk)),
            Completion::Stopped { .. } => assert!(bytes.is_empty()),
            other => panic!("{other:?}"),
        },
        |_, bytes| bytes == b"three",
    );
    finish(driver);
}

fn a_reset_is_reported_while_off<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (mut client, conn) = connect(&mut driver, address);
    client.write_all(b"last words").unwrap();
    driver.read(conn, Read::Stream);
    assert_eq!(received(&mut driver, "bytes"), b"last words");
    driver.read(conn, Read::Off);
    assert!(matches!(one(&mut driver, "the stop"), Completion::Stopped { .. }));
    quiet(&mut driver, Duration::from_millis(50));
    reset(client);
    match one(&mut driver, "the reset") {
        Completion::Broken { conn: broken, error: libc::ECONNRESET } => assert_eq!(broken, conn),
        other => panic!("{other:?}"),
    }
    quiet(&mut driver, Duration::from_millis(50));
    driver.read(conn, Read::Stream);
    match one(&mut driver, "the end") {
        Completion::Ended { error: Some(libc::ECONNRESET), .. } => {}
        other => panic!("{other:?}"),
    }
    finish(driver);
}

fn an_end_waits_to_be_read<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (mut client, conn) = connect(&mut driver, address);
    quiet(&mut driver, Duration::from_millis(20));
    client.write_all(b"and out").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    quiet(&mut driver, Duration::from_millis(100));
    driver.read(conn, Read::Stream);
    let mut seen: (Vec<u8>, bool) = (Vec::new(), false);
    let on = |driver: &mut D, seen: &mut (Vec<u8>, bool), completion| match completion {
        Completion::Received { chunk, .. } => {
            assert!(!seen.1, "bytes come before the end");
            seen.0.extend(take(driver, chunk));
        }
        Completion::Ended { error: None, .. } => seen.1 = true,
        other => panic!("{other:?}"),
    };
    until(&mut driver, &mut seen, "bytes and the end", on, |_, seen| seen.1);
    assert_eq!(seen.0, b"and out");
    // The other direction still works.
    driver.send_bytes(conn, b"bye");
    assert!(matches!(next_sent(&mut driver), (sent, 3) if sent == conn));
    let mut back = [0; 3];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"bye");
    finish(driver);
}

fn next_sent<D: Driver>(driver: &mut D) -> (ConnId, usize) {
    let mut sent = None;
    let on = |_: &mut D, sent: &mut Option<(ConnId, usize)>, completion| match completion {
        Completion::Sent { conn, bytes } => *sent = Some((conn, bytes)),
        other => panic!("{other:?}"),
    };
    until(driver, &mut sent, "progress", on, |_, sent| sent.is_some());
    sent.unwrap()
}

fn headroom_is_writable_and_ranges_are_sent<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (mut client, conn) = connect(&mut driver, address);
    driver.read(conn, Read::Stream);
    client.write_all(b"payload").unwrap();
    let Completion::Received { chunk, .. } = one(&mut driver, "bytes") else { panic!("bytes") };
    let bytes = driver.bytes_mut(&chunk);
    assert_eq!(bytes.len(), HEADROOM + 7);
    bytes[HEADROOM - 10..HEADROOM].copy_from_slice(b"ten bytes:");
    driver.send_chunk(conn, chunk, HEADROOM - 10..HEADROOM + 3);
    let mut back = [0; 13];
    turn(&mut driver, |_, completion| assert!(matches!(completion, Completion::Sent { .. })));
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"ten bytes:pay");

    client.write_all(b"x").unwrap();
    let Completion::Received { chunk, .. } = one(&mut driver, "bytes") else { panic!("bytes") };
    driver.send_chunk(conn, chunk, HEADROOM..HEADROOM);
    assert_eq!(driver.queued(conn), 0);
    finish(driver);
}

fn queued_bytes_leave_in_order_and_then_the_end<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (mut client, conn) = connect(&mut driver, address);
    driver.read(conn, Read::Stream);
    client.write_all(b"middle ").unwrap();
    let Completion::Received { chunk, .. } = one(&mut driver, "bytes") else { panic!("bytes") };
    driver.send_bytes(conn, b"first ");
    driver.send_part(conn, &chunk, HEADROOM..HEADROOM + 4);
    forward(&mut driver, conn, chunk);
    driver.send_vec(conn, b"not this, but that, and ".to_vec(), 10);
    driver.send_vec(conn, b"nothing".to_vec(), 7);
    driver.send_bytes(conn, b"last");
    driver.shut_down(conn);
    let mut sent = 0;
    let on = |_: &mut D, sent: &mut usize, completion| match completion {
        Completion::Sent { bytes, .. } => *sent += bytes,
        other => panic!("{other:?}"),
    };
    until(&mut driver, &mut sent, "progress", on, |_, sent| *sent == 35);
    let mut back = String::new();
    client.read_to_string(&mut back).unwrap();
    assert_eq!(back, "first middmiddle but that, and last");
    finish(driver);
}

fn sending_to_a_reset_peer_fails_once<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (client, conn) = connect(&mut driver, address);
    quiet(&mut driver, Duration::from_millis(20));
    reset(client);
    assert!(matches!(one(&mut driver, "the reset"), Completion::Broken { .. }));
    driver.send_bytes(conn, b"anyone?");
    match one(&mut driver, "the failure") {
        Completion::SendFailed { conn: failed, .. } => assert_eq!(failed, conn),
        other => panic!("{other:?}"),
    }
    driver.send_bytes(conn, b"anyone?");
    quiet(&mut driver, Duration::from_millis(50));
    assert_eq!((driver.queued(conn), driver.held_bytes()), (0, 0));
    finish(driver);
}

fn splicing_is_byte_exact<D: Real>() {
    const BYTES: usize = 8 << 20;
    let (mut driver, address) = driver::<D>();
    let (source, from) = connect(&mut driver, address);
    let (mut sink, to) = connect(&mut driver, address);
    let bytes = patterned(BYTES);
    let expected = bytes.clone();
    let writer = std::thread::spawn(move || (&source).write_all(&bytes).map(|()| source));
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200)); // So that a pipe has to wait for room.
        let mut back = vec![0; BYTES];
        sink.read_exact(&mut back).map(|()| (back, sink))
    });
    let mut moved = 0;
    let mut sent = 0;
    driver.read(from, Read::Readiness);
    let on = |driver: &mut D, state: &mut (usize, usize), completion| match completion {
        Completion::Readable { .. } => loop {
            if driver.queued(to) > 1 << 20 {
                break;
            }
            match driver.splice_in(from, 300_000) {
                SpliceIn::Moved(pipe, bytes) => {
                    assert!(bytes <= 300_000);
                    // A header in front, as the relay would write it.
                    state.0 += bytes;
                    driver.send_pipe(to, pipe);
                }
                SpliceIn::Empty => {
                    driver.read(from, Read::Readiness);
                    break;
                }
                SpliceIn::Unavailable => break,
                SpliceIn::Ended(error) => panic!("{error:?}"),
            }
        },
        Completion::Sent { bytes, .. } => {
            state.1 += bytes;
            driver.read(from, Read::Readiness);
        }
        other => panic!("{other:?}"),
    };
    let mut state = (moved, sent);
    until(&mut driver, &mut state, "all of it", on, |_, state| state.1 == BYTES);
    (moved, sent) = state;
    assert_eq!((moved, sent, driver.counters().spliced_bytes), (BYTES, BYTES, BYTES as u64));
    let (back, _sink) = reader.join().unwrap().unwrap();
    assert!(back == expected, "every byte, in order");
    drop(writer.join().unwrap().unwrap());
    finish(driver);
}

fn acknowledged_bytes_are_counted<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (mut client, conn) = connect(&mut driver, address);
    let before = driver.acked_bytes(conn).expect("Linux 4.1 or later");
    driver.send_bytes(conn, &[7; 1000]);
    assert_eq!(next_sent(&mut driver), (conn, 1000));
    client.read_exact(&mut [0; 1000]).unwrap();
    let start = Instant::now();
    while driver.acked_bytes(conn).unwrap() - before != 1000 {
        assert!(start.elapsed().as_secs() < 5, "the acknowledgement");
    }
    finish(driver);
}

fn what_was_not_received_yet_is_seen<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (mut client, conn) = connect(&mut driver, address);
    assert!(!driver.has_unread(conn));
    client.write_all(b"unread").unwrap();
    let start = Instant::now();
    while !driver.has_unread(conn) {
        assert!(start.elapsed().as_secs() < 5, "loopback delivers");
    }
    driver.close(conn, false);
    assert!(!driver.has_unread(conn), "of one that is closed nothing is known");
    finish(driver);
}

fn a_deadline_ends_the_wait<D: Real>() {
    let (mut driver, _) = driver::<D>();
    let deadline = driver.now().at + Duration::from_millis(20);
    while driver.now().at < deadline {
        driver.wait(Some(deadline)).unwrap();
        assert!(driver.next().is_none());
    }
    let over = driver.now().at.since(deadline);
    assert!(over < Duration::from_millis(500), "woken {over:?} late");
    finish(driver);
}

fn nothing_is_told_of_what_was_closed_meanwhile<D: Real>() {
    let (mut driver, address) = driver::<D>();
    for round in 0..8 {
        let (mut client, conn) = connect(&mut driver, address);
        client.write_all(&[1; 200_000]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        driver.read(conn, Read::Stream);
        let mut closed = false;
        let on = |driver: &mut D, closed: &mut bool, completion| {
            assert!(!*closed, "closed, and yet: {completion:?}");
            let Completion::Received { conn, chunk, .. } = completion else { panic!("{completion:?}") };
            // The rest of this receive, and the word of this send's progress, are already on their way.
            forward(driver, conn, chunk);
            driver.close(conn, round % 2 == 0);
            *closed = true;
        };
        until(&mut driver, &mut closed, "bytes", on, |_, closed| *closed);
        quiet(&mut driver, Duration::from_millis(20));
        let counters = driver.counters();
        assert_eq!(counters.buffers_free, counters.buffers);
    }
    finish(driver);
}

fn both_ends_over_is_not_broken_and_does_not_spin<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let (client, conn) = connect(&mut driver, address);
    driver.read(conn, Read::Stream);
    client.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(one(&mut driver, "the end"), Completion::Ended { error: None, .. }));
    driver.shut_down(conn);
    quiet(&mut driver, Duration::from_millis(50));
    let before = driver.counters().syscalls;
    quiet(&mut driver, Duration::from_millis(100));
    let calls = driver.counters().syscalls - before;
    assert!(calls < 100, "{calls} system calls in a tenth of a second in which nothing happened");
    finish(driver);
}

fn a_change_of_mind_between_ways_of_reading_loses_nothing<D: Real>() {
    const BYTES: usize = 4 << 20;
    let (mut driver, address) = driver::<D>();
    let (source, conn) = connect(&mut driver, address);
    let writer = std::thread::spawn(move || (&source).write_all(&patterned(BYTES)).map(|()| source));
    let ways = [
        Read::Stream,
        Read::Off,
        Read::Once { bytes_max: 10_000 },
        Read::Stream,
        Read::Readiness,
        Read::Off,
        Read::Once { bytes_max: 1 << 20 },
        Read::Readiness,
    ];
    let mut turns = 0;
    let mut bytes = Vec::with_capacity(BYTES);
    let on = |driver: &mut D, bytes: &mut Vec<u8>, completion| match completion {
        Completion::Received { chunk, .. } => bytes.extend(take(driver, chunk)),
        Completion::Readable { .. } | Completion::Stopped { .. } => {}
        other => panic!("{other:?}"),
    };
    let start = Instant::now();
    while bytes.len() < BYTES {
        assert!(start.elapsed() < Duration::from_secs(20), "{} bytes came", bytes.len());
        // Some are asked for in one turn, some over several.
        driver.read(conn, ways[turns % ways.len()]);
        if turns % 3 != 0 {
            driver.read(conn, ways[(turns / 2) % ways.len()]);
        }
        turns += 1;
        turn(&mut driver, |driver, completion| on(driver, &mut bytes, completion));
    }
    assert!(bytes == patterned(BYTES), "every byte, in order");
    drop(writer.join().unwrap().unwrap());
    finish(driver);
}
