//! What this executable turns into when it is started as a server: something that accepts a number of connections,
//! says where on standard error, and then serves them until it is killed.

mod buffers;
mod driver;
mod leg;
mod pump;
mod ring;
mod sender;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use rustix::{
    net::{AddressFamily, SocketAddrV4, SocketType},
    process::{Signal, set_parent_process_death_signal},
};

use crate::way::How;

/// Serves so many connections in this way, messages of `bytes` where it is the server that sends, until the process
/// that started it ends. Errors: what stopped it.
pub fn run(how: &How, connections: usize, bytes: usize) -> io::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match how {
        How::Driver(pool) => driver::run(*pool, connections),
        How::Pump(pump) => pump::run(pump, accept(connections, pump.no_delay)?),
        How::Sender { zero_copy } => sender::run(*zero_copy, bytes, &accept(connections, true)?),
    }
}

/// The connections, in the order in which they came.
fn accept(connections: usize, no_delay: bool) -> io::Result<Vec<TcpStream>> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&socket, 4096)?;
    let listener = TcpListener::from(socket);
    eprintln!("listen={}", listener.local_addr()?);
    let accepted = (0..connections).map(|_| {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(no_delay)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    accepted.collect()
}

/// What is not taken of one direction, above which its source is not read, as in the relay.
const DIRECTION_BYTES_HIGH: usize = longsplice::limits::DIRECTION_BYTES_HIGH;
