//! What knobs of the machine do to a relay, measured: for the column "measured effect" of tuning/README.md, which has
//! the commands. One says how much memory the kernel holds for links whose receivers stopped, the other how a burst
//! of connections fares while the relay stands still.
//!
//! `cargo bench --bench knobs -- memory` or `pauses`; without a name both. Without `--bench` (so under `cargo test
//! --benches`) both run once with a few links and a short pause.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    io::ErrorKind,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use clap::{Arg, ArgAction};
use socket2::{Domain, Protocol, Socket, Type};
use support::{
    Cell, Link, Raw,
    bulk::{Flood, Meter},
};

fn main() {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let matches = clap::Command::new("knobs")
        .about("What knobs of the machine do to a relay: run it under tuning/measure.sh")
        .arg(Arg::new("measurement").value_parser(["memory", "pauses"]).help("This one alone"))
        .arg(flag("bench", "Measure (cargo bench passes it)"))
        .arg(flag("test", "Smoke run even so"))
        .get_matches();
    let wanted: Option<&String> = matches.get_one("measurement");
    let is_smoke = !matches.get_flag("bench") || matches.get_flag("test");
    let sizes = if is_smoke { SMOKE } else { FULL };
    if wanted.is_none_or(|name| name == "memory") {
        memory_that_links_hold_whose_receivers_stopped(&sizes);
    }
    if wanted.is_none_or(|name| name == "pauses") {
        connections_that_wait_while_the_relay_pauses(&sizes);
    }
}

struct Sizes {
    links: usize,
    /// How long receivers read before they stop: the kernel lets a buffer grow only while it is read.
    reading: Duration,
    /// How long senders take nothing before they are taken to be stuck.
    stuck: Duration,
    burst: usize,
    pause: Duration,
}

const FULL: Sizes = Sizes {
    links: 16,
    reading: Duration::from_secs(2),
    stuck: Duration::from_secs(2),
    burst: 2000,
    pause: Duration::from_secs(1),
};
const SMOKE: Sizes = Sizes {
    links: 2,
    reading: Duration::from_millis(100),
    stuck: Duration::from_millis(300),
    burst: 50,
    pause: Duration::from_millis(100),
};

const CELL: Cell = Cell { driver: "epoll", shards: 1 };

/// Memory of the kernel for the relay's own sockets, as `ss` shows it: received and not read, sent and not taken.
fn memory_that_links_hold_whose_receivers_stopped(sizes: &Sizes) {
    let relay = CELL.start();
    let mut links: Vec<_> = (0..sizes.links).map(|_| Link::<Raw>::new(&relay)).collect();
    let floods: Vec<Flood> =
        links.iter_mut().map(|(_, link)| Flood::start(&mut link.client, 64 * 1024)).collect();
    let links: Vec<_> = thread::scope(|scope| {
        let reading = links.into_iter().map(|(host, mut link)| {
            scope.spawn(move || {
                Meter::watch(&mut link.host, sizes.reading);
                (host, link)
            })
        });
        let reading: Vec<_> = reading.collect();
        reading.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    let mut written = 0;
    loop {
        thread::sleep(sizes.stuck);
        let now: u64 = floods.iter().map(Flood::written).sum();
        if now == written {
            break;
        }
        written = now;
    }
    let port = format!("sport = :{}", relay.address.port());
    let Ok(output) = Command::new("ss").args(["-tmnH", "state", "established", &port]).output() else {
        println!("skipped  memory: `ss` is not in PATH, install iproute2");
        return;
    };
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
    let each = |bytes: u64| bytes / sizes.links as u64 / 1024;
    println!(
        "{} links: {} KiB not read and {} KiB not taken for each, {} KiB in the relay",
        sizes.links,
        each(read),
        each(taken),
        each(in_the_relay),
    );
}

/// How many of a burst of connections are taken at once while the relay stands still.
fn connections_that_wait_while_the_relay_pauses(sizes: &Sizes) {
    let relay = CELL.start();
    relay.signal("STOP");
    let start = Instant::now();
    let sockets: Vec<Socket> = (0..sizes.burst)
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
    thread::sleep(sizes.pause / 3);
    let is_connected = |socket: &&Socket| socket.peer_addr().is_ok();
    let at_once = sockets.iter().filter(is_connected).count();
    thread::sleep(sizes.pause * 2 / 3);
    relay.signal("CONT");
    while sockets.iter().filter(is_connected).count() < sizes.burst
        && start.elapsed() < Duration::from_secs(60)
    {
        thread::sleep(Duration::from_millis(5));
    }
    println!(
        "{at_once} of {} connected at once, all after {:.1} s",
        sizes.burst,
        start.elapsed().as_secs_f64()
    );
}
