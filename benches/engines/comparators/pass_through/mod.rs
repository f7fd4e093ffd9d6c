//! The floor: TCP relays that move bytes and do nothing else.
//!
//! One thread, one level-triggered epoll set. Connections pair in the order they are accepted: first a client,
//! then its host. Bytes that a peer did not take are held for it, and their source is not read meanwhile. They
//! parse nothing, check nothing and limit nothing: what a relay costs beyond this is its own. How the bytes get
//! from one socket to the other is the only difference between them (`copy`, `splice`).

mod copy;
mod splice;

use std::{
    convert::Infallible,
    io::{self, ErrorKind},
    net::{TcpListener, TcpStream},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    fd::OwnedFd,
    io::retry_on_intr,
};

use super::{announce, listen};
pub use copy::Copy;
pub use splice::Splice;

const LISTENER: u64 = u64::MAX;
/// Events taken from epoll at once.
const EVENTS_MAX: usize = 1024;

/// A way to move bytes from one socket to another, neither of which blocks.
pub trait Means {
    /// Bytes on their way to one socket; none at first.
    type Held: Default;

    /// One read from `source` and as much of it as `target` takes, into `held` what it does not. `false` at the
    /// end of the stream. Called only with nothing held.
    fn forward(&mut self, source: &TcpStream, target: &TcpStream, held: &mut Self::Held) -> io::Result<bool>;

    /// As much of what is held as `target` takes.
    fn send(&mut self, target: &TcpStream, held: &mut Self::Held) -> io::Result<()>;

    /// Whether nothing is held.
    fn is_empty(held: &Self::Held) -> bool;
}

/// Relays until it is killed. Prints the address it listens on first.
pub fn run<M: Means>(means: M) -> io::Result<Infallible> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&set, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    announce(&listener)?;
    let mut relay = PassThrough { set, listener, legs: Vec::new(), means };
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        events.clear();
        retry_on_intr(|| epoll::wait(&relay.set, spare_capacity(&mut events), None))?;
        for event in &events {
            match event.data.u64() {
                LISTENER => relay.accept()?,
                leg => relay.ready(leg as usize, event.flags)?,
            }
        }
    }
}

struct PassThrough<M: Means> {
    set: OwnedFd,
    listener: TcpListener,
    /// A leg's peer is its neighbour: 0 and 1, 2 and 3. A closed leg leaves its place empty.
    legs: Vec<Option<Leg<M>>>,
    means: M,
}

struct Leg<M: Means> {
    stream: TcpStream,
    /// Bytes for this leg that it has not taken yet. While there are any, its peer is not read.
    held: M::Held,
}

impl<M: Means> PassThrough<M> {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let leg = self.legs.len();
            self.legs.push(Some(Leg { stream, held: M::Held::default() }));
            if leg % 2 == 1 {
                // Only now has either of them somewhere to send its bytes.
                for paired in [leg - 1, leg] {
                    if let Some(Leg { stream, .. }) = &self.legs[paired] {
                        epoll::add(&self.set, stream, EventData::new_u64(paired as u64), EventFlags::IN)?;
                    }
                }
            }
        }
    }

    fn ready(&mut self, leg: usize, flags: EventFlags) -> io::Result<()> {
        let moved = if flags.contains(EventFlags::OUT) {
            self.send_held(leg)
        } else if flags.contains(EventFlags::IN) {
            self.forward(leg)
        } else {
            Ok(false)
        };
        match moved {
            Ok(true) => Ok(()),
            // An end or an error: neither leg is of use without the other.
            Ok(false) | Err(_) => {
                self.legs[leg] = None;
                self.legs[leg ^ 1] = None;
                Ok(())
            }
        }
    }

    /// `false` at the end of the stream or when the peer is gone.
    fn forward(&mut self, leg: usize) -> io::Result<bool> {
        let (low, high) = self.legs.split_at_mut(leg | 1);
        let (first, second) = (&mut low[leg & !1], &mut high[0]);
        let (source, target) = if leg.is_multiple_of(2) { (first, second) } else { (second, first) };
        let (Some(source), Some(target)) = (source, target) else { return Ok(false) };
        if !M::is_empty(&target.held) {
            return Ok(true);
        }
        if !self.means.forward(&source.stream, &target.stream, &mut target.held)? {
            return Ok(false);
        }
        if !M::is_empty(&target.held) {
            self.set_interest(leg)?;
            self.set_interest(leg ^ 1)?;
        }
        Ok(true)
    }

    fn send_held(&mut self, leg: usize) -> io::Result<bool> {
        let Some(target) = &mut self.legs[leg] else { return Ok(false) };
        self.means.send(&target.stream, &mut target.held)?;
        if M::is_empty(&target.held) {
            self.set_interest(leg)?;
            self.set_interest(leg ^ 1)?;
        }
        Ok(true)
    }

    fn set_interest(&self, leg: usize) -> io::Result<()> {
        let (Some(own), Some(peer)) = (&self.legs[leg], &self.legs[leg ^ 1]) else { return Ok(()) };
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, M::is_empty(&peer.held));
        flags.set(EventFlags::OUT, !M::is_empty(&own.held));
        Ok(epoll::modify(&self.set, &own.stream, EventData::new_u64(leg as u64), flags)?)
    }
}
