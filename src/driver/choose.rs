//! Which driver runs: asked of the kernel once, at start.
//!
//! Promises that `auto` falls back to epoll only where io_uring cannot be had (absent, forbidden, too old, without
//! memory that may be locked for it), and that whatever is refused comes with its cause and its remedy.

use std::{fmt, io};

use super::{socket::errno, uring};

/// What the operator asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// io_uring where it can be had, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// The drivers that run on a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `UringDriver`.
    IoUring,
    /// `EpollDriver`.
    Epoll,
}

impl Kind {
    /// Its name, as the option spells it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::IoUring => "io-uring",
            Kind::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The choice made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// Which driver.
    pub kind: Kind,
    /// Why `auto` fell back, with the remedy: a line for the log.
    pub why: Option<String>,
}

/// What io_uring lacks here. Also what [`choose`] fails with.
#[derive(Debug)]
pub enum ChooseError {
    /// The kernel refused a call.
    Refused {
        /// Which.
        call: &'static str,
        /// With what.
        error: io::Error,
    },
    /// The kernel's io_uring lacks something that the driver needs.
    Missing {
        /// What.
        feature: &'static str,
        /// The first Linux that has it.
        since: &'static str,
    },
}

impl ChooseError {
    /// Whether `auto` goes on with epoll.
    fn allows_epoll(&self) -> bool {
        match self {
            ChooseError::Missing { .. } => true,
            ChooseError::Refused { error, .. } => {
                let errnos = [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL, libc::ENOMEM];
                errnos.contains(&errno(error))
            }
        }
    }

    fn remedy(&self) -> String {
        match self {
            ChooseError::Missing { since, .. } => {
                format!("run Linux {since} or later, or use --driver epoll")
            }
            ChooseError::Refused { error, .. } => match errno(error) {
                libc::ENOSYS => "use a kernel built with CONFIG_IO_URING, or --driver epoll; some container \
                     runtimes hide the call in this way, see their seccomp profile"
                    .to_owned(),
                libc::EPERM | libc::EACCES => forbidden(std::fs::read_to_string(DISABLED).ok().as_deref()),
                libc::EINVAL => "run Linux 6.1 or later, or use --driver epoll".to_owned(),
                libc::ENOMEM => {
                    "raise the locked-memory limit (ulimit -l, LimitMEMLOCK=) or free memory, or \
                     use --driver epoll"
                        .to_owned()
                }
                libc::EMFILE | libc::ENFILE => {
                    "raise the open-files limit (ulimit -n, LimitNOFILE=)".to_owned()
                }
                _ => "use --driver epoll".to_owned(),
            },
        }
    }
}

impl fmt::Display for ChooseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChooseError::Refused { call, error } => write!(f, "io_uring cannot be used: {call}: {error}")?,
            ChooseError::Missing { feature, since } => {
                write!(f, "io_uring cannot be used: this kernel lacks {feature} (Linux {since})")?;
            }
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for ChooseError {}

/// The sysctl that turns io_uring off.
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

/// The remedy where the call is forbidden, which depends on who forbids it.
fn forbidden(disabled: Option<&str>) -> String {
    match disabled.map(str::trim) {
        Some("2") => {
            "the sysctl kernel.io_uring_disabled=2 forbids it: set it to 0, or use --driver epoll".to_owned()
        }
        Some("1") => {
            "the sysctl kernel.io_uring_disabled=1 forbids it to this user: set it to 0 or add the user to \
             kernel.io_uring_group, or use --driver epoll"
                .to_owned()
        }
        _ => {
            "a seccomp profile (Docker's, containerd's) or security module forbids it: allow io_uring_setup, \
             io_uring_enter and io_uring_register there, or use --driver epoll"
                .to_owned()
        }
    }
}

/// Decides which driver runs.
///
/// Errors: io_uring was asked for and cannot run; or `auto` met a failure that is not the absence of
/// io_uring.
pub fn choose(choice: Choice) -> Result<Chosen, ChooseError> {
    decide(choice, uring::probe)
}

fn decide(choice: Choice, probe: impl FnOnce() -> Result<(), ChooseError>) -> Result<Chosen, ChooseError> {
    if choice == Choice::Epoll {
        return Ok(Chosen { kind: Kind::Epoll, why: None });
    }
    match probe() {
        Ok(()) => Ok(Chosen { kind: Kind::IoUring, why: None }),
        Err(error) if choice == Choice::Auto && error.allows_epoll() => {
            Ok(Chosen { kind: Kind::Epoll, why: Some(error.to_string()) })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32) -> Result<(), ChooseError> {
        Err(ChooseError::Refused { call: "io_uring_setup", error: io::Error::from_raw_os_error(errno) })
    }

    #[test]
    fn auto_falls_back_only_where_io_uring_cannot_be_had() {
        for errno in [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL, libc::ENOMEM] {
            let chosen = decide(Choice::Auto, || refused(errno)).unwrap();
            assert_eq!(chosen.kind, Kind::Epoll);
            assert!(chosen.why.unwrap().contains("io_uring_setup"), "the reason names the call");
            assert!(decide(Choice::IoUring, || refused(errno)).is_err(), "what was asked for must run");
        }
        for errno in [libc::EMFILE, libc::EFAULT] {
            assert!(decide(Choice::Auto, || refused(errno)).is_err(), "errno {errno} must not be hidden");
        }
        let missing = || Err(ChooseError::Missing { feature: "buffer rings", since: "5.19" });
        let why = decide(Choice::Auto, missing).unwrap().why.unwrap();
        assert!(why.contains("buffer rings") && why.contains("5.19"), "{why}");
    }

    #[test]
    fn epoll_is_not_probed_for_and_io_uring_is_taken_where_it_works() {
        let probe = || panic!("epoll needs no probe");
        assert_eq!(decide(Choice::Epoll, probe).unwrap(), Chosen { kind: Kind::Epoll, why: None });
        assert_eq!(decide(Choice::Auto, || Ok(())).unwrap().kind, Kind::IoUring);
    }

    #[test]
    fn the_remedy_names_who_forbids() {
        assert!(forbidden(Some("2\n")).contains("kernel.io_uring_disabled=2"));
        assert!(forbidden(Some("1\n")).contains("io_uring_group"));
        assert!(forbidden(Some("0\n")).contains("seccomp"));
        assert!(refused(libc::ENOMEM).unwrap_err().to_string().contains("ulimit -l"));
    }
}
