//! The load: one thread, one epoll set, closed loops over the links it was given.
//!
//! Ping-pong: each client has one small message under way, which its host answers with one of its own.
//! Stream: each client keeps its socket full of large messages, which its host reads. Every message is
//! checked for its link, its place in the order, its length and some of its bytes; anything else ends the
//! measurement. Pings are answered.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
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

use crate::{
    frame::{self, Arrival, Reader, Stamp, Template},
    session::Link,
};

/// Events taken from epoll at once.
const EVENTS_MAX: usize = 1024;
/// Bytes asked of a socket at once.
const READ_BYTES: usize = 256 * 1024;
/// A goal that is not reached within this time is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the links do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One small message at a time, back and forth.
    PingPong,
    /// Large messages from client to host without a pause. `send_buffer`: `SO_SNDBUF` of the clients as it is
    /// passed to the kernel, or what the kernel makes of it by itself.
    Stream { send_buffer: Option<usize> },
}

/// What a message is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Of the payload.
    pub bytes: usize,
    /// Its masking key.
    pub mask: [u8; 4],
}

/// How long to run: until both have passed.
pub struct Goal {
    /// At least this long.
    pub span: Duration,
    /// At least this many messages from every client to its host, so that no link is left behind unnoticed.
    pub messages_per_link: u32,
}

/// What was moved in a run.
pub struct Moved {
    /// Messages that arrived, in either direction.
    pub messages: u64,
    /// Payload bytes that arrived, in either direction, whole messages or not.
    pub payload_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// A running load.
pub struct Load {
    pattern: Pattern,
    set: OwnedFd,
    /// Clients at even places, each followed by its host. An end's place is its token in `set`.
    ends: Vec<End>,
    template: Template,
    buffer: Vec<u8>,
    messages: u64,
}

struct End {
    stream: TcpStream,
    reader: Reader,
    received: u32,
    sent: u32,
    /// Bytes of the large message under way that the kernel has taken.
    taken: usize,
    /// Pongs that wait for that message's end; only where large messages leave without a pause.
    pongs: Vec<u8>,
}

impl Load {
    /// Puts the links to work: their first messages leave here.
    pub fn start(pattern: Pattern, shape: Shape, links: Vec<Link>) -> Result<Load, String> {
        let set = epoll::create(CreateFlags::CLOEXEC).map_err(|error| format!("no epoll set: {error}"))?;
        let streams = links.into_iter().flat_map(|link| [link.client, link.host]);
        let ends = streams.map(|stream| End {
            stream,
            reader: Reader::new(shape.bytes),
            received: 0,
            sent: 0,
            taken: 0,
            pongs: Vec::new(),
        });
        let mut load = Load {
            pattern,
            set,
            ends: ends.collect(),
            template: Template::new(shape.bytes, shape.mask),
            buffer: vec![0; READ_BYTES],
            messages: 0,
        };
        for place in 0..load.ends.len() {
            load.watch(place).map_err(|error| format!("link {}: {error}", place / 2))?;
            if pattern == Pattern::PingPong && is_client(place) {
                load.send_small(place)?;
            }
        }
        if matches!(pattern, Pattern::Stream { .. }) {
            load.fill()?;
        }
        Ok(load)
    }

    /// Sends without reading until nothing more is taken: a stream starts with every buffer on the way full, and a
    /// server that loses what its other side does not take is found out.
    fn fill(&mut self) -> Result<(), String> {
        let (mut quiet_rounds, began) = (0, Instant::now());
        while quiet_rounds < 10 {
            if began.elapsed() > PATIENCE {
                return Err("the server takes without end what nobody reads".to_owned());
            }
            let before: Vec<(u32, usize)> = self.ends.iter().map(|end| (end.sent, end.taken)).collect();
            for place in (0..self.ends.len()).filter(|place| is_client(*place)) {
                self.send_large(place)?;
            }
            if self.ends.iter().zip(before).all(|(end, before)| (end.sent, end.taken) == before) {
                quiet_rounds += 1;
                thread::sleep(Duration::from_millis(5));
            } else {
                quiet_rounds = 0;
            }
        }
        Ok(())
    }

    fn watch(&self, place: usize) -> std::io::Result<()> {
        let stream = &self.ends[place].stream;
        stream.set_nonblocking(true)?;
        let mut interest = EventFlags::IN;
        if let Pattern::Stream { send_buffer } = self.pattern
            && is_client(place)
        {
            interest |= EventFlags::OUT;
            if let Some(bytes) = send_buffer {
                sockopt::set_socket_send_buffer_size(stream, bytes)?;
            }
        }
        Ok(epoll::add(&self.set, stream, EventData::new_u64(place as u64), interest)?)
    }

    /// Moves messages until the goal is reached.
    pub fn run(&mut self, goal: &Goal) -> Result<Moved, String> {
        let (messages, payload_bytes, began) = (self.messages, self.payload_bytes(), Instant::now());
        let wanted: Vec<u32> = self.hosts().map(|host| host.received + goal.messages_per_link).collect();
        let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            retry_on_intr(|| epoll::wait(&self.set, spare_capacity(&mut events), Some(&tenth)))
                .map_err(|error| error.to_string())?;
            for event in &events {
                let place = event.data.u64() as usize;
                self.ready(place, event.flags).map_err(|error| format!("{}: {error}", name_of(place)))?;
            }
            let elapsed = began.elapsed();
            if elapsed < goal.span {
                continue;
            }
            let behind = self.hosts().zip(&wanted).position(|(host, wanted)| host.received < *wanted);
            let Some(link) = behind else {
                let payload_bytes = self.payload_bytes() - payload_bytes;
                return Ok(Moved { messages: self.messages - messages, payload_bytes, elapsed });
            };
            if elapsed > PATIENCE {
                return Err(format!("link {link} moved too little in {elapsed:?}"));
            }
        }
    }

    fn hosts(&self) -> impl Iterator<Item = &End> {
        self.ends.iter().skip(1).step_by(2)
    }

    fn payload_bytes(&self) -> u64 {
        self.ends.iter().map(|end| end.reader.payload_bytes).sum()
    }

    fn ready(&mut self, place: usize, flags: EventFlags) -> Result<(), String> {
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.receive(place)?;
        }
        if flags.contains(EventFlags::OUT) {
            self.send_large(place)?;
        }
        Ok(())
    }

    fn receive(&mut self, place: usize) -> Result<(), String> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = match (&self.ends[place].stream).read(&mut buffer) {
            Ok(0) => Err("the connection ended".to_owned()),
            Ok(count) => self.take(place, &buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        self.buffer = buffer;
        received
    }

    fn take(&mut self, place: usize, mut input: &[u8]) -> Result<(), String> {
        while let Some(arrival) = self.ends[place].reader.next(&mut input)? {
            match arrival {
                Arrival::Message(stamp) => self.take_message(place, stamp)?,
                Arrival::Ping(payload) => self.answer(place, &payload)?,
            }
        }
        Ok(())
    }

    fn take_message(&mut self, place: usize, stamp: Stamp) -> Result<(), String> {
        let end = &mut self.ends[place];
        let expected = Stamp { link: place as u32 / 2, sequence: end.received };
        if stamp != expected {
            return Err(format!("{stamp:?} instead of {expected:?}"));
        }
        end.received += 1;
        self.messages += 1;
        match self.pattern {
            Pattern::PingPong => self.send_small(place),
            Pattern::Stream { .. } => Ok(()),
        }
    }

    fn send_small(&mut self, place: usize) -> Result<(), String> {
        let end = &mut self.ends[place];
        self.template.stamp(Stamp { link: place as u32 / 2, sequence: end.sent });
        end.sent += 1;
        write_whole(&end.stream, &self.template.bytes)
    }

    /// Sends what the kernel takes of the message under way, or of what comes after it: pongs, then the next
    /// message.
    fn send_large(&mut self, place: usize) -> Result<(), String> {
        let end = &mut self.ends[place];
        if end.taken == 0 && !end.pongs.is_empty() {
            let count = write_some(&end.stream, &end.pongs)?;
            end.pongs.drain(..count);
            return Ok(());
        }
        self.template.stamp(Stamp { link: place as u32 / 2, sequence: end.sent });
        end.taken += write_some(&end.stream, &self.template.bytes[end.taken..])?;
        if end.taken == self.template.bytes.len() {
            end.taken = 0;
            end.sent += 1;
        }
        Ok(())
    }

    /// Answers a ping: at once, or between two messages where they are sent without a pause.
    fn answer(&mut self, place: usize, payload: &[u8]) -> Result<(), String> {
        let end = &mut self.ends[place];
        let pong = frame::pong(payload);
        if is_client(place) && matches!(self.pattern, Pattern::Stream { .. }) {
            end.pongs.extend(pong);
            return Ok(());
        }
        write_whole(&end.stream, &pong)
    }
}

fn is_client(place: usize) -> bool {
    place.is_multiple_of(2)
}

fn name_of(place: usize) -> String {
    format!("link {}, {}", place / 2, if is_client(place) { "client" } else { "host" })
}

fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> Result<usize, String> {
    match stream.write(bytes) {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes to a socket that has room: nothing but one small message and a pong is ever under way on it.
fn write_whole(stream: &TcpStream, bytes: &[u8]) -> Result<(), String> {
    match write_some(stream, bytes)? {
        count if count == bytes.len() => Ok(()),
        count => Err(format!("{count} bytes of {} taken at once", bytes.len())),
    }
}
