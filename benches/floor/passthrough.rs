//! The floor: a TCP relay that copies bytes and does nothing else.
//!
//! One thread, one level-triggered epoll set, one reused 64 KiB buffer. Connections pair in the order they
//! are accepted: first a client, then its host. Bytes that a peer did not take are held for it, and their
//! source is not read meanwhile. It parses nothing, checks nothing and limits nothing: what a relay costs
//! beyond this is its own.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    net::{AddressFamily, SocketAddrV4, SocketType},
    process::{Signal, set_parent_process_death_signal},
};

use crate::load::EVENTS_MAX;

const BUFFER_BYTES: usize = 64 * 1024;
const LISTENER: u64 = u64::MAX;

/// Relays until the process that started it ends. Prints the address it listens on first.
pub fn run() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let listener = listen()?;
    eprintln!("pass-through listen={}", listener.local_addr()?);
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&set, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut relay = PassThrough { set, listener, legs: Vec::new(), buffer: vec![0; BUFFER_BYTES] };
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        events.clear();
        epoll::wait(&relay.set, spare_capacity(&mut events), None)?;
        for event in &events {
            match event.data.u64() {
                LISTENER => relay.accept()?,
                leg => relay.ready(leg as usize, event.flags)?,
            }
        }
    }
}

/// A listener with a queue long enough for thousands of connections made in one go.
fn listen() -> io::Result<TcpListener> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&socket, 4096)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct PassThrough {
    set: rustix::fd::OwnedFd,
    listener: TcpListener,
    /// A leg's peer is its neighbour: 0 and 1, 2 and 3. A closed leg leaves its place empty.
    legs: Vec<Option<Leg>>,
    buffer: Vec<u8>,
}

struct Leg {
    stream: TcpStream,
    /// Bytes for this leg that it has not taken yet. While there are any, its peer is not read.
    held: Vec<u8>,
}

impl PassThrough {
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
            self.legs.push(Some(Leg { stream, held: Vec::new() }));
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
            self.copy(leg)
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

    /// One read from `leg`, one write to its peer. `false` at the end of the stream or when the peer is gone.
    fn copy(&mut self, leg: usize) -> io::Result<bool> {
        let (Some(source), Some(target)) = (&self.legs[leg], &self.legs[leg ^ 1]) else { return Ok(false) };
        if !target.held.is_empty() {
            return Ok(true);
        }
        let count = match (&source.stream).read(&mut self.buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let taken = write_some(&target.stream, &self.buffer[..count])?;
        if taken < count {
            if let Some(target) = &mut self.legs[leg ^ 1] {
                target.held.extend_from_slice(&self.buffer[taken..count]);
            }
            self.set_interest(leg)?;
            self.set_interest(leg ^ 1)?;
        }
        Ok(true)
    }

    fn send_held(&mut self, leg: usize) -> io::Result<bool> {
        let Some(target) = &mut self.legs[leg] else { return Ok(false) };
        let taken = write_some(&target.stream, &target.held)?;
        target.held.drain(..taken);
        if target.held.is_empty() {
            self.set_interest(leg)?;
            self.set_interest(leg ^ 1)?;
        }
        Ok(true)
    }

    fn set_interest(&self, leg: usize) -> io::Result<()> {
        let (Some(own), Some(peer)) = (&self.legs[leg], &self.legs[leg ^ 1]) else { return Ok(()) };
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, peer.held.is_empty());
        flags.set(EventFlags::OUT, !own.held.is_empty());
        Ok(epoll::modify(&self.set, &own.stream, EventData::new_u64(leg as u64), flags)?)
    }
}

fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
