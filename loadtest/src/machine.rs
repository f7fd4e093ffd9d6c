//! The machine: what it is, and what its kernel counts that belongs to no process.

use std::{fs, time::SystemTime};

use rustix::param::{clock_ticks_per_second, page_size};

use crate::{cores::Cores, report::model::Machine};

/// What this machine is. What cannot be read stays empty.
pub fn describe() -> Machine {
    let cpuinfo = read("/proc/cpuinfo");
    let values = |name: &str| lines_of(&cpuinfo, name).map(str::to_owned).collect::<Vec<_>>();
    let uname = rustix::system::uname();
    Machine {
        cpu: values("model name").into_iter().next().unwrap_or_default(),
        cores: values("processor").len() as u32,
        memory_bytes: kilobytes(&read("/proc/meminfo"), "MemTotal").unwrap_or(0),
        kernel: uname.release().to_string_lossy().into_owned(),
        is_virtual: values("flags").iter().any(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Seconds that `cores`, or all cores, have spent in soft interrupts since boot.
pub fn softirq_seconds(cores: Option<&Cores>) -> f64 {
    softirq_ticks(&read("/proc/stat"), cores) as f64 / clock_ticks_per_second() as f64
}

/// What the kernel holds for sockets, of all processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SocketMemory {
    /// Sockets of every kind.
    pub sockets: u64,
    /// Pages in TCP's send and receive queues, in bytes.
    pub tcp_buffers_bytes: u64,
    /// Slab memory: of the caches that sockets are made of, or else of all.
    pub slab_bytes: u64,
    /// Whether it is of those caches only.
    pub is_slab_of_sockets: bool,
}

impl SocketMemory {
    /// As of now.
    pub fn now() -> SocketMemory {
        let (sockets, tcp_pages) = sockstat(&read("/proc/net/sockstat"));
        // For root only.
        let of_sockets = slab_of_sockets(&read("/proc/slabinfo"));
        let slab = of_sockets.or_else(|| kilobytes(&read("/proc/meminfo"), "Slab"));
        SocketMemory {
            sockets,
            tcp_buffers_bytes: tcp_pages * page_size() as u64,
            slab_bytes: slab.unwrap_or(0),
            is_slab_of_sockets: of_sockets.is_some(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The values of `name : value` lines.
fn lines_of<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        (key.trim_end() == name).then_some(value.trim())
    })
}

/// The value of a `name:  12 kB` line, in bytes.
pub fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = lines_of(text, name).next()?.strip_suffix(" kB")?;
    Some(value.trim().parse::<u64>().ok()? * 1024)
}

/// Of `/proc/stat`.
fn softirq_ticks(stat: &str, cores: Option<&Cores>) -> u64 {
    let is_wanted = |name: &str| match (name.strip_prefix("cpu"), cores) {
        (Some(""), None) => true,
        (Some(number), Some(cores)) => number.parse().is_ok_and(|core| cores.numbers().contains(&core)),
        _ => false,
    };
    stat.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            // user nice system idle iowait irq softirq
            is_wanted(words.next()?).then(|| words.nth(6)?.parse::<u64>().ok())?
        })
        .sum()
}

/// Sockets in use and pages of TCP memory, of `/proc/net/sockstat`.
fn sockstat(text: &str) -> (u64, u64) {
    let value = |line: &str, key: &str| {
        let words = lines_of(text, line).next()?;
        let mut words = words.split(' ').skip_while(|word| *word != key);
        words.nth(1)?.parse().ok()
    };
    (value("sockets", "used").unwrap_or(0), value("TCP", "mem").unwrap_or(0))
}

/// Bytes of live objects in the caches that sockets are made of, of `/proc/slabinfo`; `None` where it is empty.
fn slab_of_sockets(slabinfo: &str) -> Option<u64> {
    let is_of_sockets = |name: &str| SOCKET_CACHES.iter().any(|start| name.starts_with(start));
    let sizes = slabinfo.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|name| is_of_sockets(name))?;
        let _ = name;
        let (live, _, size): (u64, &str, u64) =
            (words.next()?.parse().ok()?, words.next()?, words.next()?.parse().ok()?);
        Some(live * size)
    });
    slabinfo.lines().nth(2).map(|_| sizes.sum())
}

/// How the names of caches begin that grow with every socket, whoever watches it.
const SOCKET_CACHES: &[&str] = &[
    "TCP",
    "tw_sock_TCP",
    "request_sock_TCP",
    "sock_inode_cache",
    "filp",
    "dentry",
    "eventpoll_",
    "ep_head",
    "io_kiocb",
    "skbuff_",
    "kmalloc-",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_interrupts_are_those_of_the_cores_asked_for() {
        let stat = "cpu  81695 0 5285 42824 728 0 56 2469 0 0\n\
                    cpu0 40748 0 2592 21534 391 0 19 1270 0 0\n\
                    cpu1 40947 0 2693 21290 336 0 37 1199 0 0\n\
                    cpu10 1 0 1 1 1 0 5 1 0 0\n\
                    intr 372443 0 0 0 0 0 0 0\n";
        let of = |cores: &str| softirq_ticks(stat, Some(&cores.parse().expect("cores")));
        assert_eq!(softirq_ticks(stat, None), 56);
        assert_eq!((of("0"), of("1"), of("0-1"), of("10")), (19, 37, 56, 5));
    }

    #[test]
    fn sockets_and_their_memory_are_counted() {
        let sockstat_text = "sockets: used 1017\nTCP: inuse 1001 orphan 0 tw 1 alloc 1002 mem 33\n\
                             UDP: inuse 0 mem 7\nFRAG: inuse 0 memory 0\n";
        assert_eq!(sockstat(sockstat_text), (1017, 33));
        let slabinfo = "slabinfo - version: 2.1\n\
            # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n\
            ext4_inode_cache   5000   5000   1184   27    8 : tunables    0    0    0 : slabdata 1 1 0\n\
            sock_inode_cache     76     80    832   19    4 : tunables    0    0    0 : slabdata 4 4 0\n\
            TCP                  26     39   2368   13    8 : tunables    0    0    0 : slabdata 2 2 0\n\
            kmalloc-cg-64       10     64     64   64    1 : tunables    0    0    0 : slabdata 1 1 0\n";
        assert_eq!(slab_of_sockets(slabinfo), Some(76 * 832 + 26 * 2368 + 10 * 64));
        assert_eq!(slab_of_sockets(""), None);
    }

    #[test]
    fn an_unreadable_kernel_counts_nothing() {
        assert_eq!(softirq_ticks("", None), 0);
        assert_eq!(sockstat("nonsense: here"), (0, 0));
        assert_eq!(kilobytes("MemTotal: many kB", "MemTotal"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let machine = describe();
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20 && !machine.kernel.is_empty());
        let listeners: Vec<_> =
            (0..50).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let memory = SocketMemory::now();
        assert!(memory.sockets >= listeners.len() as u64 && memory.slab_bytes > 0, "{memory:?}");
    }
}
