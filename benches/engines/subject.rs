//! What is measured, and how each is started.

use std::{io, process::Command};

use crate::comparators::SERVE_AS;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The floor: bytes are copied, nothing is parsed.
    Copy,
    /// The floor for bytes that nobody has to look at: they are moved inside the kernel.
    Splice,
    /// The relay on epoll.
    Epoll,
    /// The relay on io_uring.
    IoUring,
}

impl Subject {
    /// All, in the order of the tables.
    pub const ALL: [Subject; 4] = [Self::Copy, Self::Splice, Self::Epoll, Self::IoUring];
    /// The relay, on each of its drivers.
    pub const RELAYS: [Subject; 2] = [Self::Epoll, Self::IoUring];

    /// As the options name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::Epoll => "epoll",
            Self::IoUring => "io-uring",
        }
    }

    /// As the tables show it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Copy => "pass-through, copy",
            Self::Splice => "pass-through, splice",
            Self::Epoll => "relay, epoll",
            Self::IoUring => "relay, io-uring",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Subject> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// Whether it joins sockets in the order they come, with nothing said on them.
    pub fn is_pass_through(self) -> bool {
        matches!(self, Self::Copy | Self::Splice)
    }

    /// What starts it on a port of its choice, said on standard error.
    pub fn command(self) -> io::Result<Command> {
        match self {
            Self::Copy | Self::Splice => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args([SERVE_AS, self.name()]);
                Ok(command)
            }
            Self::Epoll | Self::IoUring => Ok(relay(self.name())),
        }
    }
}

/// The relay without its limits: the comparators have none.
fn relay(driver: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longsplice"));
    command
        .args(["--driver", driver, "--shards", "1", "--listen", "127.0.0.1:0"])
        .args(["--link-relay-max-bps", "0", "--link-ip-rate-per-min", "0", "--max-connections-per-ip", "0"])
        // No variable of the caller may set what is not set here.
        .env_clear();
    command
}
