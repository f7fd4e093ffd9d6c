//! What the scenarios of trouble share: links that go on meanwhile, and what must be as before when it is over.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rand::RngExt;
use rustix::process::{Pid, Resource, Rlimit};

use super::{
    PATIENCE, bulk,
    end::{End, Heard},
    eventually,
    link::{Host, Link},
    raw::Raw,
    relay::Relay,
};

/// Whether the large counts were asked for (`FAULTS=full`).
pub fn is_full() -> bool {
    std::env::var("FAULTS").is_ok_and(|value| value == "full")
}

/// A count for every run, or the large one.
pub fn scaled<T>(usual: T, full: T) -> T {
    if is_full() { full } else { usual }
}

/// Whether this process is root; says so where a scenario is left out because it is not.
pub fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("left out: {what}: it needs root");
    }
    root
}

/// A link that keeps relaying, with every byte of both directions checked, until it is told to stop.
pub struct Witness {
    thread: Option<JoinHandle<(Host, Link<Raw>)>>,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
}

impl Witness {
    /// Joins a link by a host of its own, and lets it go.
    pub fn start(relay: &Relay) -> Witness {
        let (host, link) = Link::new(relay);
        Witness::over(host, link)
    }

    /// Lets a joined link go.
    pub fn over(host: Host, mut link: Link<Raw>) -> Witness {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            let mut random = bulk::seeded("a witness");
            while !told.load(Relaxed) {
                let len = if random.random_ratio(1, 20) {
                    random.random_range(0..300_000)
                } else {
                    random.random_range(0..2000)
                };
                let content = bulk::content(&mut random, len);
                exchange(&mut link, &content);
                counted.fetch_add(1, Relaxed);
                // A pace at which it notices what happens, and leaves the machine to those who make it happen.
                thread::sleep(Duration::from_millis(3));
            }
            (host, link)
        });
        Witness { thread: Some(thread), stop, rounds }
    }

    /// Rounds so far.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Relaxed)
    }

    /// Waits until a few rounds that begin now are through.
    pub fn goes_on(&self) {
        let until = self.rounds() + 4;
        eventually("the link beside the trouble goes on", || {
            let running = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            assert!(running, "the link beside the trouble has failed");
            self.rounds() >= until
        });
    }

    /// Stops after a last round, and gives the link back.
    pub fn end(mut self) -> (Host, Link<Raw>) {
        self.goes_on();
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("the link beside the trouble lives")
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Without waiting: a scenario that failed is not to wait for one that hangs.
        self.stop.store(true, Relaxed);
    }
}

/// Sends the same message each way, and checks what arrives.
pub fn exchange(link: &mut Link<Raw>, content: &[u8]) {
    let message = super::wire::message(super::wire::BINARY, content);
    for there in [true, false] {
        let (from, to) =
            if there { (&mut link.client, &mut link.host) } else { (&mut link.host, &mut link.client) };
        from.write(&message);
        match to.hear(PATIENCE) {
            Heard::Binary(arrived) => {
                assert_eq!(arrived.len(), content.len(), "a message of another length");
                assert!(arrived == content, "a message of {} bytes with others in it", content.len());
            }
            other => panic!("no message: {other:?}"),
        }
    }
}

/// What the relay held before the trouble.
pub struct Before {
    descriptors: usize,
    gauges: BTreeMap<&'static str, f64>,
}

impl Before {
    /// Takes note of it, after one link has come and gone, so that what is made on first use is there.
    pub fn of(relay: &Relay) -> Before {
        let (host, mut link) = Link::<Raw>::new(relay);
        exchange(&mut link, &[7; 100_000]);
        drop((host, link));
        relay.until_empty();
        Before { descriptors: relay.descriptors(), gauges: gauges(relay) }
    }

    /// Waits until everything is as it was; fails naming what is not.
    pub fn is_back(&self, relay: &Relay) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (descriptors, now) = (relay.descriptors(), gauges(relay));
            if descriptors <= self.descriptors && now == self.gauges {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left behind: {descriptors} descriptors instead of {}, {now:?} instead of {:?}",
                self.descriptors,
                self.gauges
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn gauges(relay: &Relay) -> BTreeMap<&'static str, f64> {
    let metrics = relay.metrics();
    GAUGES.iter().map(|name| (*name, metrics.sum(name))).collect()
}

const GAUGES: [&str; 9] = [
    "longsplice_connections",
    "longsplice_websockets",
    "longsplice_addresses",
    "longsplice_links",
    "longsplice_pair_sessions",
    "longsplice_held_bytes",
    "longsplice_message_bytes",
    "longsplice_parked",
    "longsplice_receive_buffers_free",
];

/// Fails if the shards turn or call the kernel more than a few dozen times a second while nothing asks them to. The
/// bounds are a hundredth of what a loop that spins reaches, and grow with the time that really passes.
pub fn assert_does_not_spin(relay: &Relay) {
    let counts = || {
        let metrics = relay.metrics();
        (metrics.sum("longsplice_turn_seconds_count"), metrics.sum("longsplice_syscalls_total"))
    };
    let (began, (turns, calls)) = (Instant::now(), counts());
    thread::sleep(Duration::from_millis(700));
    let (turns_after, calls_after) = counts();
    let allowed = f64::from(relay.cell.shards) * (20.0 + 60.0 * began.elapsed().as_secs_f64());
    let (turns, calls) = (turns_after - turns, calls_after - calls);
    assert!(turns <= allowed, "{turns} turns for nothing, in {:?}", began.elapsed());
    assert!(calls <= 20.0 * allowed, "{calls} system calls for nothing, in {:?}", began.elapsed());
}

/// Sets how many descriptors each of a relay's tables may hold from now on.
pub fn limit_descriptors(relay: &Relay, most: u64) {
    let pid = Pid::from_raw(relay.pid() as i32).expect("a process");
    let maximum = rustix::process::prlimit(
        Some(pid),
        Resource::Nofile,
        Rlimit { current: Some(most), maximum: rustix::process::getrlimit(Resource::Nofile).maximum },
    );
    maximum.expect("a child's limit may be set");
}
