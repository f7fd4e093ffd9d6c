//! The service manager's protocol: sockets that it hands over, and what it is told.
//!
//! Speaks sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3) as documented by systemd; other managers speak it
//! too. Belongs to the main thread. Promises that a manager that is not there, or does not read, never delays or stops
//! the relay: a message that cannot be sent is dropped.
//!
//! Own code instead of a crate: the existing ones read the environment again for every message, and this process reads
//! it once.

use std::{
    collections::BTreeMap,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// The variables of the protocol. Taken out of the process's environment, because they are meant for it alone.
pub const VARIABLES: &[&str] =
    &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// The service manager, or the lack of one.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    listeners: Vec<i32>,
}

impl Manager {
    /// Reads what the manager put into the environment of process `pid`.
    ///
    /// A notification socket that cannot be reached is logged: it may be that of another service, inherited.
    ///
    /// Errors: a variable that is not what the protocol says; the text names it.
    pub fn new(environment: &BTreeMap<String, String>, pid: u32) -> Result<Manager, String> {
        let path = environment.get("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let unreachable = |error| {
            tracing::warn!(%error, "the service manager's NOTIFY_SOCKET is out of reach: it \
        will hear nothing")
        };
        let socket = path.and_then(|path| connect(path).map_err(unreachable).ok());
        // Both are for the process that they name; a parent's may have been inherited.
        let for_us =
            |name| Ok::<_, String>(number::<u32>(environment, name)?.is_none_or(|named| named == pid));
        let watchdog = number::<u64>(environment, "WATCHDOG_USEC")?.filter(|us| *us > 0);
        let listeners = number::<u16>(environment, "LISTEN_FDS")?.unwrap_or(0);
        let pid_names_us = environment.contains_key("LISTEN_PID") && for_us("LISTEN_PID")?;
        Ok(Manager {
            socket,
            watchdog: watchdog.filter(|_| for_us("WATCHDOG_PID") == Ok(true)).map(Duration::from_micros),
            listeners: (FIRST_LISTENER..).take(if pid_names_us { listeners.into() } else { 0 }).collect(),
        })
    }

    /// The numbers of the sockets it handed over; empty for none.
    pub fn listeners(&self) -> &[i32] {
        &self.listeners
    }

    /// How often it wants to hear of us: twice as often as its watchdog bites, and now and then for the status line.
    pub fn interval(&self) -> Duration {
        match (&self.socket, self.watchdog) {
            (None, _) => NEVER,
            (Some(_), None) => STATUS_INTERVAL,
            (Some(_), Some(watchdog)) => STATUS_INTERVAL.min(watchdog / 2),
        }
    }

    /// The relay accepts connections.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The relay turns, or, if `turns` is false, does not: then only the status is told, and the watchdog bites.
    pub fn alive(&self, turns: bool, status: &str) {
        let watchdog = if turns && self.watchdog.is_some() { "WATCHDOG=1\n" } else { "" };
        self.tell(&format!("{watchdog}STATUS={status}"));
    }

    /// The relay reads its files again; [`Manager::ready`] says that it is done. `monotonic_us` is the time of
    /// `CLOCK_MONOTONIC`, by which the manager tells this from an earlier reload.
    pub fn reloading(&self, monotonic_us: u64) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}"));
    }

    /// The relay is on its way out.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket {
            // Nobody can be told of a failure here: the next message comes soon.
            let _ = socket.send(message.as_bytes());
        }
    }
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn number<T: std::str::FromStr>(
    environment: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<T>, String> {
    let Some(text) = environment.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        format!(
            "the environment variable {name}={text:?} is no number; the service manager sets it, unset it"
        )
    })
}

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST_LISTENER: i32 = 3;
/// How old a status line may be.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// For a wait that nothing asks to end.
const NEVER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn without_a_manager_nothing_is_asked_and_nothing_told() {
        let manager = Manager::new(&environment(&[]), 7).unwrap();
        assert_eq!((manager.listeners(), manager.interval()), (&[][..], NEVER));
        manager.ready("nobody hears it");
        let gone = environment(&[("NOTIFY_SOCKET", "/nowhere/notify"), ("WATCHDOG_USEC", "1000")]);
        assert_eq!(Manager::new(&gone, 7).unwrap().interval(), NEVER);
    }

    #[test]
    fn sockets_are_for_the_process_that_is_named() {
        let listeners = |pid: &str| {
            let set = environment(&[("LISTEN_FDS", "2"), ("LISTEN_PID", pid), ("LISTEN_FDNAMES", "a:b")]);
            Manager::new(&set, 7).unwrap().listeners().to_vec()
        };
        assert_eq!(listeners("7"), [3, 4]);
        assert!(listeners("8").is_empty(), "they are another process's");
        let unnamed = environment(&[("LISTEN_FDS", "2")]);
        assert!(Manager::new(&unnamed, 7).unwrap().listeners().is_empty());
        let error = Manager::new(&environment(&[("LISTEN_FDS", "two")]), 7).unwrap_err();
        assert!(error.contains("LISTEN_FDS") && error.contains("two"), "{error}");
    }

    #[test]
    fn what_is_told_is_what_the_manual_says() {
        let name = format!("longsplice-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notify = format!("@{name}");
        let set =
            environment(&[("NOTIFY_SOCKET", &notify), ("WATCHDOG_USEC", "6000000"), ("WATCHDOG_PID", "7")]);
        let manager = Manager::new(&set, 7).unwrap();
        assert_eq!(manager.interval(), Duration::from_secs(3));
        let heard = || {
            let mut bytes = [0; 256];
            let length = socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        manager.ready("up");
        assert_eq!(heard(), "READY=1\nSTATUS=up");
        manager.alive(true, "well");
        assert_eq!(heard(), "WATCHDOG=1\nSTATUS=well");
        manager.alive(false, "shard 1 hangs");
        assert_eq!(heard(), "STATUS=shard 1 hangs");
        manager.reloading(42);
        assert_eq!(heard(), "RELOADING=1\nMONOTONIC_USEC=42");
        manager.stopping("draining");
        assert_eq!(heard(), "STOPPING=1\nSTATUS=draining");

        let another =
            environment(&[("NOTIFY_SOCKET", &notify), ("WATCHDOG_USEC", "6000000"), ("WATCHDOG_PID", "8")]);
        let manager = Manager::new(&another, 7).unwrap();
        manager.alive(true, "not watched");
        assert_eq!(heard(), "STATUS=not watched");
    }

    #[test]
    fn a_manager_that_does_not_read_delays_nothing() {
        let name = format!("longsplice-deaf-{}", std::process::id());
        let deaf = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = Manager::new(&environment(&[("NOTIFY_SOCKET", &format!("@{name}"))]), 7).unwrap();
        for _ in 0..10_000 {
            manager.ready("again");
        }
        drop(deaf);
        manager.ready("gone");
    }
}
