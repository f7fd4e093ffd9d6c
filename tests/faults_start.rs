//! A kernel that refuses io_uring, or memory for it: what the relay does then, and what it says.

#![cfg(target_arch = "x86_64")]

mod support;

use std::{
    collections::HashMap,
    fs::Permissions,
    io::{self, BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Stdio},
};

use rustix::process::{Resource, Rlimit};
use seccompiler::BpfProgram;
use serde_json::json;
use support::{faults, process, relay::binary};

/// A filter under which one call fails with this errno.
fn refusing(call: &str, errno: i32) -> BpfProgram {
    let filters = json!({
        "main": {
            "mismatch_action": "allow",
            "match_action": { "errno": errno },
            "filter": [{ "syscall": call }],
        }
    });
    let compiled: HashMap<String, BpfProgram> = seccompiler::compile_from_json(
        filters.to_string().as_bytes(),
        std::env::consts::ARCH.try_into().expect("a known architecture"),
    )
    .expect("the kernel's table has the call");
    compiled["main"].clone()
}

fn confine(command: &mut Command, program: BpfProgram) {
    // SAFETY: between fork and exec nothing is allocated or locked: the filter was compiled before.
    unsafe { command.pre_exec(move || seccompiler::apply_filter(&program).map_err(io::Error::other)) };
}

/// Starts a relay under a filter. Gives its log up to the line that says it listens, or its end; and its exit code if
/// it did not listen.
fn start(driver: &str, program: BpfProgram) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    confine(&mut command, program);
    listen(command, driver)
}

fn listen(mut command: Command, driver: &str) -> (Option<i32>, String) {
    let mut relay = command
        .args(["--listen", "127.0.0.1:0", "--driver", driver, "--shards", "2"])
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut log = String::new();
    for line in BufReader::new(relay.stderr.take().expect("it is piped")).lines().map_while(Result::ok) {
        log = log + &line + "\n";
        if line.contains("longsplice is listening") {
            process::signal(relay.id(), "TERM");
            let exit = relay.wait().expect("a child");
            assert!(exit.success(), "{exit}: {log}");
            return (None, log);
        }
    }
    (relay.wait().expect("a child").code(), log)
}

#[test]
fn auto_falls_back_to_epoll_where_io_uring_is_refused_and_says_why() {
    for (errno, words) in [(libc::EPERM, "seccomp profile"), (libc::ENOSYS, "CONFIG_IO_URING")] {
        let (exit, log) = start("auto", refusing("io_uring_setup", errno));
        assert_eq!(exit, None, "{log}");
        assert!(log.contains("driver=epoll"), "{log}");
        let why = log.lines().find(|line| line.contains("the preferred driver is not available"));
        let why = why.unwrap_or_else(|| panic!("not said: {log}"));
        assert!(why.contains("WARN") && why.contains("io_uring_setup") && why.contains(words), "{why}");
    }
    // A part of it is no better than nothing.
    let (exit, log) = start("auto", refusing("io_uring_register", libc::EPERM));
    assert_eq!(exit, None, "{log}");
    assert!(log.contains("driver=epoll") && log.contains("io_uring_register"), "{log}");
}

#[test]
fn io_uring_by_name_refuses_to_start_where_it_is_refused_and_names_the_remedy() {
    for (call, errno, remedy) in [
        ("io_uring_setup", libc::EPERM, "allow io_uring_setup"),
        ("io_uring_setup", libc::ENOSYS, "--driver epoll"),
        ("io_uring_register", libc::EPERM, "io_uring_register"),
        ("io_uring_enter", libc::EPERM, "io_uring_enter"),
    ] {
        let (exit, log) = start("io-uring", refusing(call, errno));
        assert_eq!(exit, Some(1), "{call}: {log}");
        let said = log.lines().any(|line| line.contains("not started") && line.contains(remedy));
        assert!(said, "{call} is refused with {errno}, without {remedy:?}: {log}");
    }
}

#[test]
fn without_memory_for_a_ring_auto_takes_epoll_and_says_what_to_raise() {
    const REMEDY: &str = "locked-memory limit (ulimit -l, LimitMEMLOCK=)";
    let (exit, log) = start("auto", refusing("io_uring_setup", libc::ENOMEM));
    assert_eq!(exit, None, "{log}");
    assert!(log.contains("driver=epoll") && log.contains(REMEDY), "{log}");
    let (exit, log) = start("io-uring", refusing("io_uring_setup", libc::ENOMEM));
    assert_eq!(exit, Some(1), "{log}");
    assert!(log.contains("not started") && log.contains(REMEDY), "{log}");
}

#[test]
fn a_user_who_may_lock_no_memory_gets_a_relay_and_is_told_what_it_lacks() {
    if !faults::is_root("a relay of an unprivileged user") {
        return;
    }
    // The build's directory may be closed to others.
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let copy = directory.path().join("longsplice");
    std::fs::copy(binary(), &copy).expect("a copy that others may run");
    let start = |driver| {
        let mut command = Command::new(&copy);
        command.uid(NOBODY).gid(NOBODY);
        // SAFETY: one system call, between fork and exec.
        unsafe {
            command.pre_exec(|| {
                let none = Rlimit { current: Some(0), maximum: Some(0) };
                Ok(rustix::process::setrlimit(Resource::Memlock, none)?)
            })
        };
        listen(command, driver)
    };
    // Since Linux 6.14 rings are charged to the user; before, they were to be had.
    let (exit, log) = start("auto");
    assert_eq!(exit, None, "{log}");
    assert!(log.contains("driver=io-uring") || log.contains("LimitMEMLOCK="), "{log}");
    let (exit, log) = start("io-uring");
    assert!(exit.is_none() || log.contains("LimitMEMLOCK="), "{log}");
    let (exit, log) = start("epoll");
    assert_eq!(exit, None, "{log}");
}

const NOBODY: u32 = 65534;
