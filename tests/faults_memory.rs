//! Little memory: a relay whose cgroup grants it 128 MiB, and senders who would fill all of it.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use support::{
    Before, Host, Link, Peer, Raw, Relay, Witness, assert_within, eventually, every_cell_in_turn,
    faults::{self, scaled},
    wire,
};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 128 * MIB;

#[test]
fn senders_to_readers_that_stopped_stay_within_the_memory_that_is_granted() {
    every_cell_in_turn(|cell| {
        let Some(group) = Group::make() else { return };
        // As an operator of a small machine sets them: both budgets of every shard, and room for the rest.
        let budget = format!("{}MiB", 32 / cell.shards);
        let setup = cell.setup().flag("--outbox-budget", &budget).flag("--message-budget", &budget);
        let relay = setup.flag("--send-buffer", "64KiB").flag("--receive-buffer", "64KiB").start();
        group.take_in(&relay);
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        // A host's links are all on one shard; these are on any of them.
        let mut hosts: Vec<Host> = (0..8).map(|_| Host::register(&relay)).collect();
        let mut stuck: Vec<Link<Raw>> = hosts
            .iter_mut()
            .flat_map(|host| {
                let join = |_| host.join_ends(Raw::narrow(&relay), Raw::narrow(&relay));
                (0..scaled(20, 80)).map(join).collect::<Vec<_>>()
            })
            .collect();
        // Each would send 64 MiB. Nobody reads any of it.
        let message = wire::message(wire::BINARY, &vec![0x55; 16 << 20]);
        thread::scope(|scope| {
            for links in stuck.chunks_mut(20) {
                let message = &message;
                scope.spawn(move || {
                    for link in links {
                        for _ in 0..4 {
                            let sent = link.client.write_until_blocked(message, Duration::from_millis(50));
                            if sent < message.len() {
                                break;
                            }
                        }
                    }
                });
            }
        });
        let held = relay.metrics().sum("longsplice_held_bytes") as u64;
        assert_within("held for readers that stopped", held, 4 * MIB..=48 * MIB);
        witness.goes_on();
        Link::<Peer>::new(&relay).1.check();
        assert_within("resident", relay.rss(), 0..=LIMIT);
        assert_eq!(group.kills(), 0, "nothing was killed for want of memory");
        println!("{cell}: at most {} MiB of {}", group.peak() / MIB, LIMIT / MIB);
        drop((stuck, hosts));
        eventually("what was held is let go", || relay.metrics().sum("longsplice_held_bytes") == 0.0);
        drop(witness.end());
        before.is_back(&relay);
    });
}

/// A control group with [`LIMIT`] of memory.
struct Group {
    path: PathBuf,
    /// Of the second version, as against the first.
    unified: bool,
}

impl Group {
    /// `None`, with a line that says why, where groups cannot be made.
    fn make() -> Option<Group> {
        if !faults::is_root("a memory limit") {
            return None;
        }
        let name = format!("longsplice-{}-{:?}", std::process::id(), thread::current().id());
        let name: String = name.chars().filter(|one| one.is_alphanumeric() || *one == '-').collect();
        let first = Path::new("/sys/fs/cgroup/memory");
        let unified = !first.join("memory.limit_in_bytes").exists();
        if unified {
            // Refused where it is on already or cannot be had; the limit below tells.
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
        }
        let root = if unified { Path::new("/sys/fs/cgroup") } else { first };
        let group = Group { path: root.join(name), unified };
        let limit = if unified { "memory.max" } else { "memory.limit_in_bytes" };
        let made = fs::create_dir(&group.path).and_then(|()| group.write(limit, &LIMIT.to_string()));
        if let Err(error) = made {
            println!("left out: a memory limit: {}: {error}", group.path.display());
            return None;
        }
        Some(group)
    }

    /// Puts a relay under the limit. What it has already is little.
    fn take_in(&self, relay: &Relay) {
        self.write("cgroup.procs", &relay.pid().to_string()).expect("root may move a process");
    }

    fn write(&self, name: &str, value: &str) -> std::io::Result<()> {
        fs::write(self.path.join(name), value)
    }

    /// The most that was ever used.
    fn peak(&self) -> u64 {
        let name = if self.unified { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(self.path.join(name)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// How often a process of the group was killed.
    fn kills(&self) -> u64 {
        let name = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(name)).unwrap_or_default();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Empty once the relay is gone.
        for _ in 0..500 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
