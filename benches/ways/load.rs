//! The generator: bytes into one end of a link and out of the other, with no framing.
//!
//! Every byte follows from its place in its stream; the first and the last of each read are looked at.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    fd::OwnedFd,
    io::retry_on_intr,
    net::sockopt,
};

/// What links carry.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Which way.
    pub pattern: Pattern,
    /// A message, or what is written at once.
    pub bytes: usize,
    /// Writes of equal length that make a message.
    pub writes: usize,
}

/// Who sends what when.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// One message on each link, back and forth.
    PingPong,
    /// As much as is taken, from the first end to the second.
    Stream,
    /// Nothing: the server sends to both ends by itself.
    Drain,
}

/// What arrived.
pub struct Moved {
    /// Whole messages, in either direction.
    pub messages: f64,
    /// Bytes.
    pub bytes: f64,
    /// How long it took.
    pub elapsed: Duration,
}

/// A running load.
pub struct Load {
    shape: Shape,
    set: OwnedFd,
    /// The first end of each link at even places, followed by the second.
    ends: Vec<End>,
    template: Vec<u8>,
    buffer: Vec<u8>,
}

struct End {
    stream: TcpStream,
    received: u64,
    sent: u64,
}

impl Load {
    /// Connects the links, two connections each, in order, and starts sending.
    pub fn start(address: SocketAddr, links: usize, shape: Shape) -> Result<Load, String> {
        let connect = || -> std::io::Result<End> {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            if shape.pattern == Pattern::Stream {
                // Left to itself it grows to megabytes, and the server reads cold memory.
                sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES)?;
            }
            Ok(End { stream, received: 0, sent: 0 })
        };
        let ends: Result<Vec<End>, _> = (0..2 * links).map(|_| connect()).collect();
        let mut load = Load {
            shape,
            set: epoll::create(CreateFlags::CLOEXEC).map_err(|error| error.to_string())?,
            ends: ends.map_err(|error| format!("connecting to {address}: {error}"))?,
            template: (0..shape.bytes + PERIOD).map(|place| (place % PERIOD) as u8).collect(),
            buffer: vec![0; READ_BYTES],
        };
        for place in 0..load.ends.len() {
            let mut interest = EventFlags::IN;
            interest.set(EventFlags::OUT, shape.pattern == Pattern::Stream && is_first(place));
            epoll::add(&load.set, &load.ends[place].stream, EventData::new_u64(place as u64), interest)
                .map_err(|error| error.to_string())?;
            if shape.pattern == Pattern::PingPong && is_first(place) {
                load.send(place)?;
            }
        }
        Ok(load)
    }

    /// Moves bytes for so long, and until every end that receives has got so many more.
    pub fn run(&mut self, span: Duration, bytes_each: u64) -> Result<Moved, String> {
        let (before, began) = (self.received(), Instant::now());
        let wanted: Vec<u64> = self.ends.iter().map(|end| end.received + bytes_each).collect();
        let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            retry_on_intr(|| epoll::wait(&self.set, spare_capacity(&mut events), Some(&tenth)))
                .map_err(|error| error.to_string())?;
            for event in &events {
                let (place, flags) = (event.data.u64() as usize, event.flags);
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.receive(place).map_err(|error| format!("connection {place}: {error}"))?;
                }
                if flags.contains(EventFlags::OUT) {
                    self.send(place)?;
                }
            }
            let elapsed = began.elapsed();
            if elapsed < span {
                continue;
            }
            if !self.is_behind(&wanted) {
                let bytes = (self.received() - before) as f64;
                return Ok(Moved { messages: bytes / self.shape.bytes as f64, bytes, elapsed });
            }
            if elapsed > PATIENCE {
                return Err(format!("some connection moved too little in {elapsed:?}"));
            }
        }
    }

    fn is_behind(&self, wanted: &[u64]) -> bool {
        let receives = |place| self.shape.pattern != Pattern::Stream || !is_first(place);
        let mut ends = self.ends.iter().zip(wanted).enumerate();
        ends.any(|(place, (end, wanted))| receives(place) && end.received < *wanted)
    }

    fn received(&self) -> u64 {
        self.ends.iter().map(|end| end.received).sum()
    }

    fn receive(&mut self, place: usize) -> Result<(), String> {
        let end = &mut self.ends[place];
        let count = match end.stream.read(&mut self.buffer) {
            Ok(0) => return Err("it ended".to_owned()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        // What the server sends by itself begins anew with each send.
        let cycle = if self.shape.pattern == Pattern::Drain { self.shape.bytes as u64 } else { u64::MAX };
        for (place, byte) in [(0, self.buffer[0]), (count - 1, self.buffer[count - 1])] {
            let expected = (end.received + place as u64) % cycle % PERIOD as u64;
            if u64::from(byte) != expected {
                return Err(format!("byte {} is {byte}, not {expected}", end.received + place as u64));
            }
        }
        let messages = end.received / self.shape.bytes as u64;
        end.received += count as u64;
        if self.shape.pattern == Pattern::PingPong && end.received / self.shape.bytes as u64 > messages {
            self.send(place)?;
        }
        Ok(())
    }

    /// A message, or as much as the kernel takes of what a stream writes at once.
    fn send(&mut self, place: usize) -> Result<(), String> {
        let (end, bytes) = (&mut self.ends[place], self.shape.bytes / self.shape.writes);
        for _ in 0..self.shape.writes {
            let start = (end.sent % PERIOD as u64) as usize;
            match end.stream.write(&self.template[start..start + bytes]) {
                Ok(count) if count == bytes || self.shape.pattern == Pattern::Stream => {
                    end.sent += count as u64;
                }
                Ok(count) => return Err(format!("{count} bytes of {bytes} taken at once")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

/// The bytes of a stream: its places modulo this, which divides no buffer's size.
pub const PERIOD: usize = 251;

fn is_first(place: usize) -> bool {
    place.is_multiple_of(2)
}

const SEND_BUFFER_BYTES: usize = 128 * 1024;
const READ_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
