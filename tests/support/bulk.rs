//! Bytes in quantity: content that can be checked, senders that never stop, receivers that measure.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::{raw::Raw, wire};

/// A generator whose seed is printed, so that a failing run can be replayed with `TEST_SEED`.
pub fn seeded(what: &str) -> ChaCha8Rng {
    let given = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| rand::rng().random());
    println!("{what}: TEST_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Random content of a length.
pub fn content(random: &mut ChaCha8Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes[..]);
    bytes
}

/// SHA-256, to compare what is too long to print.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Sends binary messages as fast as they are taken, until dropped.
pub struct Flood {
    stream: TcpStream,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Starts flooding with messages of this size.
    pub fn start(end: &mut Raw, message_len: usize) -> Flood {
        let stream = end.writer();
        stream.set_write_timeout(None).expect("no timeout is always valid");
        let mut writer = end.writer();
        let written = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&written);
        let message = wire::message(wire::BINARY, &vec![0x5A; message_len]);
        let thread = thread::spawn(move || {
            let mut rest = &message[..];
            while let Ok(n @ 1..) = writer.write(rest) {
                counted.fetch_add(n as u64, Relaxed);
                rest = if n < rest.len() { &rest[n..] } else { &message };
            }
        });
        Flood { stream, written, thread: Some(thread) }
    }

    /// Bytes that the kernel took so far.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Ends a blocked write; the connection is of no use with half a message in it.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a receiver saw, and when.
#[derive(Default)]
pub struct Meter {
    arrivals: Vec<(Instant, usize)>,
}

impl Meter {
    /// Reads from an end for a while.
    pub fn watch(end: &mut Raw, span: Duration) -> Meter {
        let until = Instant::now() + span;
        let mut meter = Meter::default();
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let n = end.read_some(left);
            meter.arrivals.push((Instant::now(), n));
        }
        meter
    }

    /// When the first byte came.
    pub fn start(&self) -> Instant {
        self.arrivals.iter().find(|(_, n)| *n > 0).expect("something arrived").0
    }

    /// Bytes that came between two points, counted in seconds from the first byte.
    pub fn between(&self, from: f64, to: f64) -> f64 {
        let start = self.start();
        let seconds = |at: Instant| at.duration_since(start).as_secs_f64();
        let counted = self.arrivals.iter().filter(|(at, n)| *n > 0 && (from..to).contains(&seconds(*at)));
        counted.map(|(_, n)| *n as f64).sum()
    }
}
