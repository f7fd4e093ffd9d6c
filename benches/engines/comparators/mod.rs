//! What the relay is measured beside: servers that this executable turns into when it is started as one.

mod link;
mod monoio;
mod pass_through;
mod tokio_uring;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, TcpListener},
};

use rustix::{
    net::{AddressFamily, SocketAddrV4, SocketType},
    process::{Signal, set_parent_process_death_signal},
};

use crate::subject::Subject;

/// The argument that makes this executable a comparator; the next one is the subject's name.
pub const SERVE_AS: &str = "--serve-as";

/// Serves as `subject` until the process that started it ends. Errors: what stopped it.
pub fn run(subject: Subject) -> io::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match subject {
        Subject::Copy => pass_through::run(pass_through::Copy::new()),
        Subject::Splice => pass_through::run(pass_through::Splice::new()),
        Subject::Monoio => monoio::run(),
        Subject::TokioUring => tokio_uring::run(),
        Subject::Epoll | Subject::IoUring | Subject::Node => {
            Err(io::Error::other("this is another executable"))
        }
    }
}

/// A listener with a queue long enough for thousands of connections made in one go.
fn listen() -> io::Result<TcpListener> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&socket, 4096)?;
    Ok(TcpListener::from(socket))
}

/// Says where it listens, as the generator looks for it.
fn announce(listener: &TcpListener) -> io::Result<()> {
    eprintln!("comparator listen={}", listener.local_addr()?);
    Ok(())
}
