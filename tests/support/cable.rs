//! A bad cable: two network name spaces joined by a wire that loses, delays, reorders, repeats and swallows packets.
//!
//! The wire is two tunnel devices and a thread each way that carries packets from one to the other, so that it needs no
//! traffic shaper of the kernel, and its faults come from a seed. It needs root, `ip` and /dev/net/tun.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::RngExt;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{bulk, cell::Cell, faults, relay::Setup};

/// What the wire does to packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Of a thousand packets, how many are lost.
    pub lost: u32,
    /// Of a thousand packets, how many come twice.
    pub doubled: u32,
    /// How long each takes.
    pub delay: Duration,
    /// How much longer some take, by which they are overtaken.
    pub jitter: Duration,
    /// Longer packets are swallowed, and nobody is told; 0 is no limit.
    pub longest: usize,
    /// Nothing passes.
    pub cut: bool,
}

/// The name space of the calling thread, and of what it starts from now on, joined to another one by a wire.
pub struct Cable {
    weather: Arc<Mutex<Weather>>,
    far: File,
    over: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<u64>>,
}

/// This end's address.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

impl Cable {
    /// Moves the calling thread into a name space of its own, and lays the wire. `None`, with a line that says why,
    /// where that cannot be done.
    pub fn lay(far_mtu: u32) -> Option<Cable> {
        if !faults::is_root("a bad network") {
            return None;
        }
        let has_ip = Command::new("ip").arg("-V").output().is_ok_and(|output| output.status.success());
        if !has_ip || !Path::new("/dev/net/tun").exists() {
            println!("left out: a bad network: there is no ip, or no /dev/net/tun");
            return None;
        }
        enter_own_space();
        let near = tunnel(NEAR, 1500);
        let (far_space, far) = thread::spawn(move || {
            enter_own_space();
            let tunnel = tunnel(FAR, far_mtu);
            (File::open("/proc/thread-self/ns/net").expect("every thread is in one"), tunnel)
        })
        .join()
        .expect("the far end is made as the near one is");
        let weather = Arc::<Mutex<Weather>>::default();
        let over = Arc::<AtomicBool>::default();
        let carry = |from: &File, to: &File| {
            let (from, to) = (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"));
            let (weather, over) = (Arc::clone(&weather), Arc::clone(&over));
            thread::spawn(move || carry(from, to, &weather, &over))
        };
        let carriers = vec![carry(&near, &far), carry(&far, &near)];
        Some(Cable { weather, far: far_space, over, carriers })
    }

    /// A relay at the near end.
    pub fn setup(&self, cell: Cell) -> Setup {
        cell.setup().without_listen().flag("--listen", format!("{NEAR}:0"))
    }

    /// Changes the weather from now on.
    pub fn turn(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    /// Does something at the far end.
    pub fn far<T: Send>(&self, there: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let visit = scope.spawn(|| {
                move_into_link_name_space(self.far.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter it");
                there()
            });
            visit.join().expect("it fails nowhere but in its own asserts")
        })
    }

    /// A TCP connection from the far end.
    pub fn dial(&self, to: SocketAddr) -> TcpStream {
        self.far(|| TcpStream::connect(to).expect("the cable carries it"))
    }

    /// Has the kernel look for a packet size that passes where long ones are swallowed, at both ends.
    pub fn probe_mtu(&self) {
        let probe = || std::fs::write("/proc/sys/net/ipv4/tcp_mtu_probing", "1").expect("root may");
        probe();
        self.far(probe);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        for carrier in self.carriers.drain(..) {
            let harmed = carrier.join();
            if !thread::panicking() {
                println!("a cable has harmed {} packets", harmed.expect("a carrier does not panic"));
            }
        }
    }
}

fn enter_own_space() {
    // SAFETY: the thread owns nothing that belongs to the name space it leaves.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(left, 0, "root may leave its name space: {}", std::io::Error::last_os_error());
    ip(&["link", "set", "lo", "up"]);
}

/// A tunnel device in this name space, and the packets that it sends.
fn tunnel(address: Ipv4Addr, mtu: u32) -> File {
    let mut open = OpenOptions::new();
    let device = open.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let device = device.expect("root may make devices");
    // SAFETY: all zeros is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"cable") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes one request.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    assert_eq!(made, 0, "a tunnel device: {}", std::io::Error::last_os_error());
    ip(&["addr", "add", &format!("{address}/24"), "dev", "cable"]);
    ip(&["link", "set", "cable", "up", "mtu", &mtu.to_string()]);
    device
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().expect("ip runs").success(), "ip {arguments:?}");
}

/// Carries packets until told that it is over; how many it did not just carry.
fn carry(mut from: File, mut to: File, weather: &Mutex<Weather>, over: &AtomicBool) -> u64 {
    let mut random = bulk::seeded("a cable");
    let mut harmed = 0;
    let mut serial = 0_u64;
    let mut travelling: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>> = BinaryHeap::new();
    let mut packet = [0; 65_536];
    while !over.load(Relaxed) {
        let now = Instant::now();
        while travelling.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, packet))) = travelling.pop() else { break };
            // A full queue drops it, as any wire does.
            let _ = to.write(&packet);
        }
        let wait = travelling.peek().map_or(TURN, |Reverse((due, ..))| (*due - now).min(TURN));
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as i64 };
        let _ = poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&wait));
        while let Ok(len @ 1..) = from.read(&mut packet) {
            let Weather { lost, doubled, delay, jitter, longest, cut } = *weather.lock();
            let mut throw = |of_thousand| random.random_range(0..1000) < of_thousand;
            let swallowed = cut || throw(lost) || (longest > 0 && len > longest);
            let copies = if swallowed { 0 } else { 1 + u64::from(throw(doubled)) };
            harmed += u64::from(copies != 1);
            for _ in 0..copies {
                let late = if throw(200) { jitter } else { Duration::ZERO };
                harmed += u64::from(!late.is_zero());
                serial += 1;
                travelling.push(Reverse((Instant::now() + delay + late, serial, packet[..len].to_vec())));
            }
        }
    }
    harmed
}

/// How soon a carrier notices that it is over.
const TURN: Duration = Duration::from_millis(50);
