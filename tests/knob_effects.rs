//! What knobs of the machine do to a relay, measured: for the column "measured effect" of tuning/README.md, which has
//! the commands. They prove nothing, so they are not run with the other tests.

mod support;

use std::{
    io::ErrorKind,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use support::{
    Cell, Link, Raw,
    bulk::{Flood, Meter},
};

const CELL: Cell = Cell { driver: "epoll", shards: 1 };

/// Memory of the kernel for the relay's own sockets, as `ss` shows it: received and not read, sent and not taken.
#[test]
#[ignore = "a measurement, for tuning/README.md"]
fn memory_that_links_hold_whose_receivers_stopped() {
    const LINKS: usize = 16;
    let relay = CELL.start();
    let links: Vec<_> = (0..LINKS).map(|_| Link::<Raw>::new(&relay)).collect();
    let floods: Vec<Flood> = links.iter().map(|(_, link)| Flood::start(&link.client, 64 * 1024)).collect();
    // Receivers that read for a while first: the kernel lets a buffer grow only while it is read.
    let links: Vec<_> = thread::scope(|scope| {
        let reading = links.into_iter().map(|(host, mut link)| {
            scope.spawn(move || {
                Meter::watch(&mut link.host, Duration::from_secs(2));
                (host, link)
            })
        });
        let reading: Vec<_> = reading.collect();
        reading.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    let mut written = 0;
    loop {
        thread::sleep(Duration::from_secs(2));
        let now: u64 = floods.iter().map(Flood::written).sum();
        if now == written {
            break;
        }
        written = now;
    }
    let output = Command::new("ss")
        .args(["-tmnH", "state", "established", &format!("sport = :{}", relay.address.port())])
        .output()
        .expect("ss of iproute2 is there");
    let text = String::from_utf8(output.stdout).expect("text");
    // skmem:(r0,rb131072,t0,tb2626560,f0,w0,...): r is received, w queued to be sent (ss(8)).
    let held = |letter: char| -> u64 {
        let items = text.split(['(', ',', ')']).filter_map(|item| item.strip_prefix(letter));
        items.filter_map(|digits| digits.parse::<u64>().ok()).sum()
    };
    let (read, taken) = (held('r'), held('w'));
    let in_the_relay = relay.metrics().sum("longsplice_held_bytes") as u64;
    drop(floods);
    drop(links);
    println!(
        "{LINKS} links: {} KiB not read and {} KiB not taken for each, {} KiB in the relay",
        read / LINKS as u64 / 1024,
        taken / LINKS as u64 / 1024,
        in_the_relay / LINKS as u64 / 1024,
    );
}

/// How many of a burst of connections are taken at once while the relay stands still for a second.
#[test]
#[ignore = "a measurement, for tuning/README.md"]
fn connections_that_wait_while_the_relay_pauses() {
    const BURST: usize = 2000;
    let relay = CELL.start();
    relay.signal("STOP");
    let start = Instant::now();
    let sockets: Vec<Socket> = (0..BURST)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            match socket.connect(&relay.address.into()) {
                Err(error) if error.raw_os_error() != Some(115) && error.kind() != ErrorKind::WouldBlock => {
                    panic!("{error}")
                }
                _ => socket,
            }
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let is_connected = |socket: &&Socket| socket.peer_addr().is_ok();
    let at_once = sockets.iter().filter(is_connected).count();
    thread::sleep(Duration::from_millis(700));
    relay.signal("CONT");
    while sockets.iter().filter(is_connected).count() < BURST && start.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(5));
    }
    println!("{at_once} of {BURST} connected at once, all after {:.1} s", start.elapsed().as_secs_f64());
}
