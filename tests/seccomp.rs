//! The relay does its work under the seccomp profile of `tuning/`: a system call that the profile lacks ends it
//! at once.
//!
//! Containers and the service unit answer such a call with an error instead; here it must be seen.

#![cfg(target_arch = "x86_64")]

mod support;

use std::{
    collections::HashMap, fs, io, os::unix::process::CommandExt, process::Command, thread, time::Duration,
};

use seccompiler::BpfProgram;
use serde_json::{Value, json};
use support::{End, Heard, Host, Link, PATIENCE, Raw, bulk, every_cell, relay::binary, wire};

/// The profile's groups of calls whose comments begin so, as a filter.
fn filter(groups: &[&str]) -> BpfProgram {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/seccomp.json");
    let profile: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("the profile is there")).expect("it is JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let listed = profile["syscalls"].as_array().expect("a list of groups").iter().filter(|group| {
        assert_eq!(group["action"], "SCMP_ACT_ALLOW");
        groups.iter().any(|begin| group["comment"].as_str().is_some_and(|text| text.starts_with(begin)))
    });
    let mut names: Vec<&Value> =
        listed.flat_map(|group| group["names"].as_array().expect("a list of names")).collect();
    // The one call that starts the relay is made under the filter too.
    let execve = json!("execve");
    names.push(&execve);
    let rules: Vec<Value> = names.iter().map(|name| json!({ "syscall": name })).collect();
    let filters = json!({
        "main": { "mismatch_action": "kill_process", "match_action": "allow", "filter": rules }
    });
    let compiled: HashMap<String, BpfProgram> = seccompiler::compile_from_json(
        filters.to_string().as_bytes(),
        std::env::consts::ARCH.try_into().expect("a known architecture"),
    )
    .expect("the kernel's table has every name");
    compiled["main"].clone()
}

/// Has a command run under a filter.
fn confine(command: &mut Command, program: &BpfProgram) {
    let program = program.clone();
    // SAFETY: between fork and exec nothing is allocated or locked: the filter was compiled before.
    unsafe { command.pre_exec(move || seccompiler::apply_filter(&program).map_err(io::Error::other)) };
}

#[test]
fn the_relay_works_under_its_profile() {
    let program = filter(&["the relay"]);
    every_cell(|cell| {
        let confined = program.clone();
        let mut relay = cell
            .setup()
            .env("LONGSPLICE_PIN", true)
            .flag("--splice-min", "64KiB")
            .flag("--send-buffer", "64KiB")
            .prepare(move |command| confine(command, &confined))
            .start();
        let private = relay.log().iter().all(|line| !line.contains("no private descriptor table"));
        assert!(private, "the profile lets shards have tables of their own");

        // Links over all shards, small and large messages, some of them through pipes.
        let (host, mut link) = Link::<Raw>::new(&relay);
        link.check();
        let mut random = bulk::seeded("confined");
        for (mask, size) in [([1, 2, 3, 4], 3_000_000), ([0; 4], 3_000_000), ([0; 4], 70_000)] {
            let payload = bulk::content(&mut random, size);
            let frame = wire::client_frame(0x80 | wire::BINARY, mask, &payload);
            let mut writer = link.client.writer();
            let sender = thread::spawn(move || io::Write::write_all(&mut writer, &frame));
            let Heard::Binary(arrived) = link.host.hear(PATIENCE) else {
                panic!("no message of {size} bytes")
            };
            assert_eq!(bulk::hash(&arrived), bulk::hash(&payload));
            sender.join().expect("no panic").expect("the relay takes it all");
        }
        // A peer that does not read, and one that goes away.
        let slow = link.client.write_until_blocked(
            &wire::client_frame(0x80 | wire::BINARY, [0; 4], &vec![0; 15 << 20]),
            Duration::from_millis(300),
        );
        assert!(slow > 0);
        drop((host, link));

        // Moves between shards, the operator's paths, and signals.
        for _ in 0..8 {
            let mut host = Host::register(&relay);
            let (_client, _) = host.introduce::<Raw>(&relay);
        }
        relay.stats();
        relay.metrics();
        relay.signal("HUP");
        relay.logged(&["allow-list read again"]);
        relay.until_empty();
        assert!(relay.stop().success());
    });
}

#[test]
fn the_questions_are_answered_under_the_profile() {
    let run = |groups: &[&str], arguments: &[&str]| {
        let mut command = Command::new(binary());
        confine(&mut command, &filter(groups));
        command.args(arguments).env_clear().output().expect("it starts")
    };
    let examined = run(&["the relay", "longsplice doctor"], &["doctor", "--json", "--port", "0"]);
    let report: Value = serde_json::from_slice(&examined.stdout)
        .unwrap_or_else(|_| panic!("{}: {}", examined.status, String::from_utf8_lossy(&examined.stderr)));
    let driver = report["checks"].as_array().expect("a list").iter().find(|one| one["check"] == "driver");
    assert_eq!(driver.expect("a check")["verdict"], "ok", "io_uring can be had");

    // Nobody listens on port 1.
    let asked = run(&["the relay"], &["health", "--listen", "127.0.0.1:1"]);
    assert_eq!(asked.status.code(), Some(1), "{}", asked.status);
}

#[test]
fn a_call_that_is_not_in_the_profile_is_noticed() {
    use std::os::unix::process::ExitStatusExt;

    // The doctor asks for the clock's state, which the relay's own group does not have.
    let mut command = Command::new(binary());
    confine(&mut command, &filter(&["the relay"]));
    let output = command.args(["doctor", "--port", "0"]).env_clear().output().expect("it starts");
    const SIGSYS: i32 = 31;
    assert_eq!(output.status.signal(), Some(SIGSYS), "{}", output.status);
}
