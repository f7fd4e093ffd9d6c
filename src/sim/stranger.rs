//! A simulated peer that is no Link client: a probe, a scanner, someone who says nothing.
//!
//! Promises that the relay answers a request with a whole response and is rid of everyone else by its
//! deadlines.

use std::{net::SocketAddr, time::Duration};

use super::{
    dice::Dice,
    manners::Scene,
    network::{Found, StreamId},
};
use crate::time::Time;

/// What it sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Silent,
    /// One byte of a head now and then.
    Dribble,
    /// A request, and the status that answers it.
    Request(&'static str, u16),
    Garbage,
}

/// One stranger.
#[derive(Debug)]
pub struct Stranger {
    peer: SocketAddr,
    kind: Kind,
    stream: Option<StreamId>,
    opened_at: Time,
    sent: usize,
    response: Vec<u8>,
    next_at: Time,
    rounds: u32,
}

impl Stranger {
    /// A stranger that connects `rounds` times.
    pub fn new(peer: SocketAddr, rounds: u32) -> Stranger {
        let (opened_at, next_at) = (Time(0), Time(0));
        Stranger {
            peer,
            kind: Kind::Silent,
            stream: None,
            opened_at,
            sent: 0,
            response: Vec::new(),
            next_at,
            rounds,
        }
    }

    /// Whether it has no connection and will make none.
    pub fn is_gone(&self) -> bool {
        self.stream.is_none() && self.rounds == 0
    }

    /// When it goes on by itself.
    pub fn wakes_at(&self) -> Option<Time> {
        (!self.is_gone()).then_some(self.next_at)
    }

    /// Does not come back.
    pub fn retire(&mut self) {
        self.rounds = 0;
    }

    /// One step. Returns whether anything moved.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.rounds > 0 && self.stream.is_none() && scene.at() >= self.next_at {
            self.rounds -= 1;
            self.connect(scene);
        }
        let Some(stream) = self.stream else { return false };
        let mut moved = self.send(stream, scene);
        match scene.network.peer_receive(stream, &mut self.response, usize::MAX) {
            Found::Bytes(_) => moved = true,
            Found::Nothing => {
                let served = scene.at().since(self.opened_at);
                assert!(!scene.strict || served < SERVED_MAX, "{:?} is still served", self.kind);
            }
            found => {
                self.check(found, scene);
                scene.network.peer_close(stream, false);
                self.stream = None;
                self.next_at = scene.at() + Duration::from_millis(scene.dice.size(5_000) as u64);
                moved = true;
            }
        }
        moved
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        let kinds = [
            Kind::Silent,
            Kind::Dribble,
            Kind::Request("/health", 200),
            Kind::Request("/v1/stats", 200),
            Kind::Request("/nothing/here", 404),
            Kind::Garbage,
        ];
        self.kind = kinds[scene.dice.below(kinds.len())];
        self.stream = scene.network.connect(self.peer);
        self.opened_at = scene.at();
        self.sent = 0;
        self.response.clear();
    }

    fn send(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> bool {
        if scene.at() < self.next_at {
            return false;
        }
        let bytes = match self.kind {
            Kind::Silent => return false,
            Kind::Dribble => {
                format!("GET /health HTTP/1.1\r\nHost: h\r\nX: {}", "y".repeat(1000)).into_bytes()
            }
            Kind::Request(path, _) => {
                format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").into_bytes()
            }
            Kind::Garbage => {
                let mut bytes = vec![0; 300];
                Dice::new(self.opened_at.0).fill(&mut bytes);
                bytes
            }
        };
        let rest = &bytes[self.sent.min(bytes.len())..];
        let count = if self.kind == Kind::Dribble { rest.len().min(1) } else { rest.len() };
        if count == 0 {
            return false;
        }
        if self.kind == Kind::Dribble {
            self.next_at = scene.at() + Duration::from_millis(scene.dice.size(3_000) as u64);
        }
        // A reset shows in what is received.
        let sent = scene.network.peer_send(stream, &rest[..count]).unwrap_or(0);
        self.sent += sent;
        sent > 0
    }

    fn check(&self, found: Found, scene: &Scene<'_>) {
        let Kind::Request(path, expected) = self.kind else { return };
        // A clock that jumped may pass the deadline of a request that is on its way.
        let cut_short = found == Found::Reset || self.response.is_empty();
        if cut_short && !scene.strict || scene.stopping {
            return;
        }
        let response = str::from_utf8(&self.response).expect("a response is text");
        let (head, body) = response.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        assert_eq!(status, Some(expected), "{path}: {response}");
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        assert_eq!(length, Some(body.len()), "{path}: {response}");
        serde_json::from_str::<serde_json::Value>(body).expect("a JSON body");
    }
}

/// The handshake's deadline and the time to linger, with a little patience.
const SERVED_MAX: Duration = Duration::from_secs(15);
