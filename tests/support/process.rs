//! What `/proc` tells about a process, and signals to it.

use std::{collections::BTreeSet, fs, process::Command, thread, time::Duration};

/// Sends a signal by name (`TERM`, `INT`, `HUP`) to one process.
pub fn signal(pid: u32, name: &str) {
    // The shell's own `kill`, because a slim image may have no other.
    let sent = Command::new("sh").arg("-c").arg(format!("kill -s {name} {pid}")).status().expect("sh runs");
    assert!(sent.success(), "no process {pid} to send {name} to");
}

/// Resident memory in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("every process has a VmRSS");
    let kib: u64 =
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("VmRSS is a number of kB");
    kib * 1024
}

/// Open descriptors, summed over the descriptor tables of all threads. Pipes are left out: they wait in a bounded pool
/// for the next large message.
///
/// Threads may have tables of their own. Two threads share a table exactly if they list the same
/// descriptors with the same targets: sockets and rings have numbers of their own, so private tables differ
/// as soon as they hold any. A descriptor that comes or goes between the looks at two threads makes one
/// table look like two; therefore the smallest of a few counts.
pub fn descriptors(pid: u32) -> usize {
    let counts = (0..4).map(|_| {
        thread::sleep(Duration::from_millis(5));
        count_descriptors(pid)
    });
    counts.min().expect("there are four counts")
}

fn count_descriptors(pid: u32) -> usize {
    let mut tables: BTreeSet<Vec<(String, String)>> = BTreeSet::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").flatten() {
        // A thread, or a descriptor, may be gone between the listing and the look.
        let Ok(entries) = fs::read_dir(thread.path().join("fd")) else { continue };
        let mut table: Vec<(String, String)> = entries
            .flatten()
            .filter_map(|entry| {
                let target = fs::read_link(entry.path()).ok()?;
                if target.to_string_lossy().starts_with("pipe:") {
                    return None;
                }
                Some((
                    entry.file_name().to_string_lossy().into_owned(),
                    target.to_string_lossy().into_owned(),
                ))
            })
            .collect();
        table.sort();
        tables.insert(table);
    }
    tables.iter().map(Vec::len).sum()
}
