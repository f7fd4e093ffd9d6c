//! The relay under a service manager: it takes over listening sockets, and tells how it is.

mod support;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{Cell, Host, Link, PATIENCE, Peer, every_cell, every_cell_in_turn, relay::binary};

#[test]
fn a_handed_over_socket_serves_on_every_shard() {
    every_cell(|cell| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let relay = cell.setup().hand_over(&listener).start();
        assert_eq!(Some(relay.address), listener.local_addr().ok());
        relay.logged(&["listening", "handed_over=true"]);
        // Hosts whose keys live on all shards, whichever shard accepts them, and clients that find them.
        for _ in 0..8 {
            let (_host, mut link) = Link::<Peer>::new(&relay);
            link.check();
        }
        // All at once: no shard has to take them all, and none is lost between two shards.
        let crowd: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = (0..100).map(|_| scope.spawn(|| relay.peer())).collect();
            clients.into_iter().map(|client| client.join().expect("every client is upgraded")).collect()
        });
        let metrics = relay.metrics();
        assert!(
            metrics.sum("longsplice_accepted_total") >= 116.0,
            "{}",
            metrics.sum("longsplice_accepted_total")
        );
        let shares: Vec<f64> = (0..cell.shards)
            .map(|shard| metrics.sum_of("longsplice_accepted_total", &[("shard", &shard.to_string())]))
            .collect();
        println!("{cell}: accepted by shard: {shares:?}");
        drop(crowd);
        relay.until_empty();
    });
}

#[test]
fn connections_wait_for_the_next_relay_while_one_restarts() {
    every_cell(|cell| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut first = cell.setup().hand_over(&listener).start();
        let host = Host::register(&first);
        assert!(first.stop().success());
        drop(host);

        // Nobody accepts; the queue is the service manager's.
        let mut early = TcpStream::connect(first.address).expect("the queue takes it");
        early
            .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("it is queued");
        let second = cell.setup().hand_over(&listener).start();
        assert_eq!(second.address, first.address);
        early.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let mut answer = String::new();
        early.read_to_string(&mut answer).expect("the second relay answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_host, mut link) = Link::<Peer>::new(&second);
        link.check();
    });
}

/// A manager's end of the notification socket.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Manager { socket, folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    /// The next message that has a line beginning so; others before it are dropped.
    fn hears(&self, begin: &str) -> Vec<String> {
        let mut bytes = [0; 4096];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("not zero");
            let length = self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {begin}: {error}"));
            let text = std::str::from_utf8(&bytes[..length]).expect("messages are text");
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.iter().any(|line| line.starts_with(begin)) {
                return lines;
            }
        }
    }
}

#[test]
fn the_manager_is_told_of_start_reload_life_and_stop() {
    every_cell_in_turn(|cell: Cell| {
        let manager = Manager::new();
        let setup = cell.setup().env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", 2_000_000);
        let mut relay = setup.start();
        assert!(manager.hears("READY=1")[1].starts_with("STATUS="));
        for _ in 0..3 {
            assert!(manager.hears("WATCHDOG=1").contains(&"STATUS=0 connections".to_owned()));
        }
        let _peer = relay.peer();
        while !manager.hears("WATCHDOG=1").contains(&"STATUS=1 connections".to_owned()) {}

        let reload = || {
            relay.signal("HUP");
            let told = manager.hears("RELOADING=1");
            let stamp = told.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("a time");
            manager.hears("READY=1");
            stamp.parse::<u64>().expect("a number")
        };
        let (first, second) = (reload(), reload());
        assert!(
            0 < first && first < second,
            "the manager tells reloads apart by their time: {first} {second}"
        );

        relay.signal("TERM");
        manager.hears("STOPPING=1");
        assert!(relay.exited(PATIENCE).success());
    });
}

#[test]
fn what_is_handed_over_and_cannot_be_listened_on_is_refused_by_name() {
    let connected = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        TcpStream::connect(listener.local_addr().expect("bound")).expect("the queue takes it")
    };
    for (what, stdin) in
        [("a file", Stdio::null()), ("a connection", Stdio::from(std::os::fd::OwnedFd::from(connected)))]
    {
        let script = r#"exec 3<&0; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" --listen 127.0.0.1:0"#;
        let output =
            Command::new("sh").args(["-c", script, &binary()]).stdin(stdin).output().expect("sh runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        for part in ["LISTEN_FDS", "descriptor 3", "ListenStream="] {
            assert!(said.contains(part), "{what}: {part:?} is not in {said}");
        }
    }
}
