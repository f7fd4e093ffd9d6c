//! A log that nobody reads, a disk that is full, a reader that is gone: the relay relays, says what it lost, and stops
//! when it is told to.

mod support;

use std::{
    fs::{self, File},
    io::{copy, repeat},
    process::Command,
};

use support::{Before, Host, Link, Peer, Relay, Witness, eventually, every_cell, faults};
use tempfile::TempDir;

/// Some ten thousand bytes of lines, written by the shards: the end of each link that relayed is one.
const LINKS: usize = 80;

/// Makes every shard log, far more than a narrow pipe holds.
fn chatter(relay: &Relay) {
    let mut host = Host::register(relay);
    for _ in 0..LINKS {
        let mut link: Link<Peer> = host.join(relay);
        link.check();
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_links_nor_signals() {
    every_cell(|cell| {
        let mut relay = cell.setup().narrow_log().start();
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        relay.with_log_unread(|| {
            chatter(&relay);
            witness.goes_on();
            relay.signal("HUP");
            let (_host, mut late) = Link::<Peer>::new(&relay);
            late.check();
            assert_eq!(relay.admin_get("/ready").status, 200);
        });
        // What waited is there once it is read.
        relay.logged(&["allow-list read again"]);
        eventually("the end of each link is in the log", || {
            relay.log().iter().filter(|line| line.contains("relayed link closes")).count() >= LINKS
        });
        assert_eq!(relay.metrics().sum("longsplice_log_lines_lost_total"), 0.0, "they fitted the queue");
        drop(witness.end());
        before.is_back(&relay);
        // Stopping says more than the pipe holds, too.
        relay.with_log_unread(|| chatter(&relay));
        let process = relay.pid();
        let stopped = relay.stop_unread();
        assert!(stopped.success(), "{process} ended with {stopped}");
    });
}

#[test]
fn a_full_disk_under_the_log_costs_lines_and_nothing_else() {
    if !faults::is_root("a full disk under the log") {
        return;
    }
    every_cell(|cell| {
        let disk = Disk::mount();
        let relay = cell.setup().log_to(disk.0.path().join("log")).start();
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        let lost = || relay.metrics().sum("longsplice_log_lines_lost_total");
        disk.fill();
        chatter(&relay);
        eventually("lost lines are counted", || lost() > 0.0);
        witness.goes_on();
        let (host, mut late) = Link::<Peer>::new(&relay);
        late.check();
        // With room again the log goes on, and says what it lost.
        disk.clear();
        eventually("the loss is in the log", || {
            relay.signal("HUP");
            relay.log().iter().any(|line| line.contains("log lines were lost"))
        });
        drop((host, late));
        drop(witness.end());
        before.is_back(&relay);
    });
}

#[test]
fn a_log_whose_reader_is_gone_costs_lines_and_nothing_else() {
    every_cell(|cell| {
        let mut relay = cell.setup().narrow_log().start();
        let witness = Witness::start(&relay);
        relay.close_log();
        chatter(&relay);
        eventually("lost lines are counted", || relay.metrics().sum("longsplice_log_lines_lost_total") > 0.0);
        drop(witness.end());
        relay.until_empty();
        assert!(relay.stop().success());
    });
}

/// A file system of its own, small enough to be filled.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Disk {
        let disk = Disk(TempDir::new().expect("a directory"));
        let options = ["-t", "tmpfs", "-o", "size=256k", "none"];
        let mounted = Command::new("mount").args(options).arg(disk.0.path()).status();
        assert!(mounted.expect("mount runs").success(), "root may mount");
        disk
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = File::create(self.0.path().join("filler")).expect("an empty file takes no room");
        let full = copy(&mut repeat(0), &mut file).expect_err("no more room than it has");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn clear(&self) {
        fs::remove_file(self.0.path().join("filler")).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Out of sight at once, gone when the last file in it is closed.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
