//! What is measured, and how each is started.

use std::{io, path::Path, process::Command};

use longsplice::driver::{Choice, choose};

use crate::{comparators::SERVE_AS, machine::cpu::output_of};

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
    /// A relay of npm `ws`: what is replaced.
    Node,
    /// A relay on monoio.
    Monoio,
    /// A relay on tokio-uring.
    TokioUring,
}

impl Subject {
    /// All, in the order of the tables.
    pub const ALL: [Subject; 7] =
        [Self::Copy, Self::Splice, Self::Node, Self::Monoio, Self::TokioUring, Self::Epoll, Self::IoUring];
    /// The relay, on each of its drivers.
    pub const RELAYS: [Subject; 2] = [Self::Epoll, Self::IoUring];

    /// As the options name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::Epoll => "epoll",
            Self::IoUring => "io-uring",
            Self::Node => "node",
            Self::Monoio => "monoio",
            Self::TokioUring => "tokio-uring",
        }
    }

    /// As the tables show it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Copy => "pass-through, copy",
            Self::Splice => "pass-through, splice",
            Self::Epoll => "relay, epoll",
            Self::IoUring => "relay, io-uring",
            Self::Node => "Node ws relay",
            Self::Monoio => "monoio relay",
            Self::TokioUring => "tokio-uring relay",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Subject> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// Whether it is the relay itself.
    pub fn is_relay(self) -> bool {
        Self::RELAYS.contains(&self)
    }

    /// Whether it joins sockets in the order they come, with nothing said on them.
    pub fn is_pass_through(self) -> bool {
        matches!(self, Self::Copy | Self::Splice)
    }

    /// How much longer than others it has to run before it is as fast as it gets.
    pub fn warm_ups(self) -> u32 {
        match self {
            // Compiles what has turned out to run often.
            Self::Node => 5,
            _ => 1,
        }
    }

    /// What starts it on a port of its choice, said on standard error.
    pub fn command(self) -> io::Result<Command> {
        match self {
            Self::Copy | Self::Splice | Self::Monoio | Self::TokioUring => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args([SERVE_AS, self.name()]);
                Ok(command)
            }
            Self::Epoll | Self::IoUring => Ok(relay(self.name())),
            Self::Node => {
                let mut command = Command::new("node");
                command.args([NODE_RELAY, NODE_PACKAGES]);
                Ok(command)
            }
        }
    }

    /// Why it cannot be measured here, and what helps.
    pub fn is_missing(self) -> Option<&'static str> {
        match self {
            Self::Node if output_of("node", &["--version"]).is_none() => {
                Some("`node` is not in PATH: install Node.js 18 or newer")
            }
            Self::Node if !Path::new(NODE_PACKAGES).join("node_modules/ws").is_dir() => {
                Some("npm's `ws` is not installed: run `npm ci --prefix tests/node`")
            }
            Self::Monoio | Self::TokioUring if choose(Choice::IoUring).is_err() => {
                Some("this kernel does not let it use io_uring")
            }
            _ => None,
        }
    }
}

const NODE_RELAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/engines/comparators/node_ws.mjs");
/// A folder with `node_modules`.
const NODE_PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node");

/// The relay without its limits: the comparators have none.
fn relay(driver: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longsplice"));
    command
        .args(["--driver", driver, "--shards", "1", "--listen", "127.0.0.1:0"])
        .args(["--link-relay-max-bps", "0", "--link-ip-rate-per-min", "0", "--max-connections-per-ip", "0"])
        // No variable of the caller may set what is not set here, but for the allocator's, which are no options.
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| name.starts_with("MIMALLOC_")));
    command
}
