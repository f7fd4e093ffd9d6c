//! Limits of the process, in a process of their own.

use std::{net::TcpStream, process::Command};

use super::{
    on_both,
    rig::{Real, driver, finish, turn, until},
};
use crate::driver::Completion;

on_both!(accepting_stops_where_descriptors_run_out);

/// Set in the child: the limit is the process's, and other tests must not feel it.
const CHILD: &str = "LONGSPLICE_TEST_OF_LIMITS";

fn accepting_stops_where_descriptors_run_out<D: Real>() {
    if std::env::var_os(CHILD).is_some() {
        return in_child::<D>();
    }
    let thread = std::thread::current();
    let name = thread.name().expect("the harness names a test's thread after the test");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads=1", name])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

fn limit_descriptors(most: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills in `limit`, which lives until the call returns.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = most;
    // SAFETY: the kernel only reads `limit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn in_child<D: Real>() {
    let (mut driver, address) = driver::<D>();
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as libc::rlim_t;
    limit_descriptors(used + 4);
    let mut state = (Vec::new(), 0);
    let on = |_: &mut D, state: &mut (Vec<_>, usize), completion| match completion {
        Completion::Accepted { conn, .. } => state.0.push(conn),
        Completion::AcceptFailed { error: libc::EMFILE } => state.1 += 1,
        other => panic!("{other:?}"),
    };
    until(&mut driver, &mut state, "the failure", on, |_, state| state.1 == 1);
    assert!(!state.0.is_empty() && state.0.len() < clients.len());
    for _ in 0..5 {
        turn(&mut driver, |_, completion| panic!("off until resumed: {completion:?}"));
    }
    limit_descriptors(used + 100);
    driver.resume_accept();
    until(&mut driver, &mut state, "the others", on, |_, state| state.0.len() == clients.len());
    assert_eq!(state.1, 1);
    finish(driver);
}
