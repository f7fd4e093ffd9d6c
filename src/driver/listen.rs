//! Listening sockets.
//!
//! Each shard listens on the same addresses with a socket of its own (`SO_REUSEPORT`); the kernel spreads
//! connections over them. A second process could join them in silence, so [`claim`] first binds without that
//! option. What is set on a listener (`TCP_NODELAY`, buffer sizes, keep-alive, timeout) its connections
//! inherit.
//!
//! A service manager may hand over sockets that already listen. Their queue must outlive this process, so the shards
//! share each of them instead: see [`Inherited`].

use std::{
    io,
    marker::PhantomData,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::table::Private;

/// Connections that wait to be accepted, for each listener. `net.core.somaxconn` (4096 by default) may lower it.
pub const BACKLOG: i32 = 4096;

/// What every accepted connection inherits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// `SO_RCVBUF` in bytes; `None` leaves the kernel's autotuning on.
    pub receive_buffer_bytes: Option<usize>,
    /// `SO_SNDBUF` in bytes; `None` leaves the kernel's autotuning on.
    pub send_buffer_bytes: Option<usize>,
    /// TCP keep-alive; `None` turns it off.
    pub keep_alive: Option<KeepAlive>,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged. `None` leaves the kernel's default.
    pub user_timeout: Option<Duration>,
}

/// TCP keep-alive (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes that break the connection.
    pub count: u32,
}

/// A listening socket. Belongs to the thread whose descriptor table it was made in.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
    shared: bool,
    /// A descriptor number means nothing in another thread's table.
    not_send: PhantomData<*const ()>,
}

impl Listener {
    /// The address it is bound to, with the port that the kernel chose where 0 was asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the other shards, and the process after this one, accept from the same queue: then only one shard
    /// should be woken for a connection, and what is in the queue at the end is not ours to take.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An address that was free and is kept from every other process until this is dropped: let it live until all listeners
/// are bound.
#[derive(Debug)]
pub struct Claim {
    address: SocketAddr,
    _kept: Socket,
}

impl Claim {
    /// The address, with a real port where 0 was asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Fails if the address is in use, naming it.
pub fn claim(address: SocketAddr) -> io::Result<Claim> {
    let bind = || -> io::Result<Claim> {
        let first = open(address)?;
        first.bind(&address.into())?;
        // Two sockets with SO_REUSEADDR may both be bound; only listening settles whose the address is.
        first.listen(1)?;
        let bound = first.local_addr()?.as_socket().expect("bound to an IP address above");
        // It would take connections, so another one keeps the address: one that does not listen, that our listeners may
        // join, and beside which nobody else may listen.
        first.set_reuse_port(true)?;
        let kept = open(bound)?;
        kept.set_reuse_port(true)?;
        kept.bind(&bound.into())?;
        kept.set_reuse_address(false)?;
        Ok(Claim { address: bound, _kept: kept })
    };
    bind().map_err(|error| naming(&address, &error))
}

/// Listens on `address`, sharing it with the other shards.
pub fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
    listen(address, options).map_err(|error| naming(&address, &error))
}

/// A listening socket that was open when the process began: its number in the main thread's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    number: RawFd,
    address: SocketAddr,
}

impl Inherited {
    /// Checks that descriptor `number` is a listening TCP socket, and sets on it what its connections are to inherit.
    /// For the main thread, before it starts others.
    ///
    /// Errors: it is something else; an option is refused.
    pub fn check(number: RawFd, options: &ListenOptions) -> io::Result<Inherited> {
        // SAFETY: F_GETFD only reads the table.
        if number < 3 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(io::Error::other(format!("descriptor {number} is not open")));
        }
        // SAFETY: open, and nothing in the process closes what it was started with.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = SockRef::from(&socket);
        let other = || io::Error::other(format!("descriptor {number} is not a listening TCP socket"));
        if !socket.is_listener().map_err(|_| other())? || socket.protocol()? != Some(Protocol::TCP) {
            return Err(other());
        }
        let address = socket.local_addr()?.as_socket().ok_or_else(other)?;
        socket.set_cloexec(true)?;
        set_options(&socket, options)?;
        Ok(Inherited { number, address })
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn number(&self) -> RawFd {
        self.number
    }

    /// Owns it in a shard's thread: by its number in a private table that kept it ([`super::post::EndNumbers::enter`]),
    /// by a duplicate in the shared one.
    pub fn enter(&self, private: Private) -> io::Result<Listener> {
        let socket = if private == Private::Yes {
            // SAFETY: `enter` kept it open in this thread's new table, where nothing owns it.
            unsafe { OwnedFd::from_raw_fd(self.number) }
        } else {
            // SAFETY: nothing closes it in the shared table.
            unsafe { BorrowedFd::borrow_raw(self.number) }.try_clone_to_owned()?
        };
        Ok(Listener { socket, address: self.address, shared: true, not_send: PhantomData })
    }
}

fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    set_options(&socket, options)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().expect("bound to an IP address above");
    Ok(Listener { socket: socket.into(), address: bound, shared: false, not_send: PhantomData })
}

/// What every connection inherits from its listener.
fn set_options(socket: &Socket, options: &ListenOptions) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(KeepAlive { idle, interval, count }) = options.keep_alive {
        let probes = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
        socket.set_tcp_keepalive(&probes)?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart would wait for connections of the last run to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be bound, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn naming(address: &SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_another_process_shares_is_refused_by_name() {
        let first = bind("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        // Binding beside it works, which is why `claim` exists.
        let second = bind(first.address(), &ListenOptions::default()).unwrap();
        assert_eq!(first.address(), second.address());
        let error = claim(first.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&first.address().to_string()), "{error}");
        let address = first.address();
        drop((first, second));
        claim(address).unwrap();
    }

    #[test]
    fn a_claimed_address_is_nobody_elses_before_its_listeners_are_bound() {
        let claimed = claim("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = bind(claimed.address(), &ListenOptions::default()).unwrap();
        assert_eq!(listener.address(), claimed.address());
        drop(listener);
        // As another relay does that was told this very port.
        let error = claim(claimed.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // It takes no connection: those are for the listeners.
        std::net::TcpStream::connect(claimed.address()).unwrap_err();
        let address = claimed.address();
        drop(claimed);
        claim(address).unwrap();
    }

    #[test]
    fn only_listening_tcp_sockets_are_inherited() {
        use std::os::fd::AsRawFd;

        let listening = bind("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let found = Inherited::check(listening.as_fd().as_raw_fd(), &ListenOptions::default()).unwrap();
        assert_eq!(found.address(), listening.address());
        let shared = found.enter(Private::Refused(0)).unwrap();
        assert!(shared.is_shared() && !listening.is_shared());

        let connected = std::net::TcpStream::connect(listening.address()).unwrap();
        let local = std::os::unix::net::UnixListener::bind("").unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for number in [connected.as_raw_fd(), local.as_raw_fd(), file.as_raw_fd(), 1_000_000] {
            let error = Inherited::check(number, &ListenOptions::default()).unwrap_err();
            assert!(error.to_string().contains(&number.to_string()), "{error}");
        }
    }

    #[test]
    fn options_reach_the_socket() {
        let options = ListenOptions {
            receive_buffer_bytes: Some(32 * 1024),
            send_buffer_bytes: Some(32 * 1024),
            keep_alive: Some(KeepAlive {
                idle: Duration::from_secs(11),
                interval: Duration::from_secs(7),
                count: 3,
            }),
            user_timeout: Some(Duration::from_secs(20)),
        };
        let listener = bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let socket = socket2::SockRef::from(&listener);
        // The kernel doubles buffer sizes for its own bookkeeping (socket(7)).
        assert_eq!(socket.recv_buffer_size().unwrap(), 64 * 1024);
        assert_eq!(socket.send_buffer_size().unwrap(), 64 * 1024);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(11));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
    }
}
