//! Outgoing TCP connections, begun without waiting for them.
//!
//! What is done with them is the caller's: they belong to no [`Driver`](super::Driver).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use socket2::{Domain, Protocol, Socket, Type};

/// How a connection is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct DialOptions {
    /// The address to connect from, of the same family as the other end's. Its port is chosen as the connection is
    /// made, so that the number of ports bounds the connections to one address and port, not all connections.
    pub source: Option<IpAddr>,
    /// `SO_SNDBUF`; `None` leaves it to the kernel.
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF`; `None` leaves it to the kernel.
    pub receive_buffer_bytes: Option<usize>,
}

/// Begins to connect: the socket is non-blocking with `TCP_NODELAY` and becomes writable, or broken, once it is
/// known which.
///
/// Errors: what the kernel refuses at once, among them `EMFILE` and, where no port is left, `EADDRNOTAVAIL`.
pub fn begin(to: SocketAddr, options: &DialOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // Both before connecting, which is when the window is offered.
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = options.source {
        leave_port_to_connect(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// `IP_BIND_ADDRESS_NO_PORT` (ip(7)).
fn leave_port_to_connect(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    // SAFETY: the kernel reads `length` bytes of `on`, which outlives the call.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_connection_comes_from_where_it_is_told_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 3, 7));
        let options = DialOptions {
            source: Some(source),
            send_buffer_bytes: Some(32 * 1024),
            ..DialOptions::default()
        };
        let socket = Socket::from(begin(listener.local_addr().unwrap(), &options).unwrap());
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), source);
        // The kernel doubles buffer sizes for its own bookkeeping (socket(7)).
        assert_eq!(socket.send_buffer_size().unwrap(), 64 * 1024);
        assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap());
    }
}
