//! The machine as it was found: `/proc` and `/sys`, read once, and what the kernel answered.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use super::{checks, knobs};
use crate::driver::{Chosen, Private};

/// What only the kernel can answer, asked by the caller.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The driver that would run, or why none.
    pub driver: Result<Chosen, String>,
    /// Whether threads can have descriptor tables of their own.
    pub tables: Private,
    /// Whether something keeps the wall clock right.
    pub clock_is_kept: Option<bool>,
    /// Size of a page.
    pub page_bytes: u64,
}

/// A resource limit; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The one that holds; a process may raise it to the hard one.
    pub soft: u64,
    /// The one that only root may raise.
    pub hard: u64,
}

/// See the module. What could not be read is `None`, or absent.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the kernel answered.
    pub answers: Answers,
    /// `uname -r`.
    pub kernel: Option<String>,
    /// Every sysctl that a check asks for, by its name.
    pub sysctls: BTreeMap<&'static str, String>,
    /// `RLIMIT_NOFILE`.
    pub nofile: Option<Limit>,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: Option<Limit>,
    /// The effective user and groups.
    pub groups: Vec<u64>,
    /// Effective capabilities, a bit each.
    pub capabilities: u64,
    /// Cores that this process may run on.
    pub cores: Option<u64>,
    /// Cores that the cgroup grants in time, where it limits them.
    pub cpu_quota: Option<f64>,
    /// The machine's memory, bytes.
    pub memory_bytes: Option<u64>,
    /// What the cgroup grants of it, where it limits that.
    pub memory_limit: Option<u64>,
    /// What the kernel reads the time from.
    pub clock_source: Option<String>,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`.
    pub huge_pages: Option<String>,
    /// Addresses at which some process of this network listens.
    pub listening: Vec<SocketAddr>,
    /// Packets dropped because a core's queue for received ones was full.
    pub backlog_drops: Option<u64>,
    /// Network devices with a single receive queue that all lands on one core.
    pub single_queues: Vec<String>,
}

impl Facts {
    /// Reads the machine whose `/proc` and `/sys` are below `root`.
    pub fn read(root: &Path, answers: Answers) -> Facts {
        let files = Files { root };
        let limits = files.text("proc/self/limits").unwrap_or_default();
        let status = files.text("proc/self/status").unwrap_or_default();
        let names = knobs::KNOBS.iter().map(|knob| knob.name).chain(checks::ASKED_SYSCTLS.iter().copied());
        let sysctls = names
            .filter_map(|name| Some((name, files.text(&format!("proc/sys/{}", name.replace('.', "/")))?)))
            .collect();
        Facts {
            answers,
            kernel: files.text("proc/sys/kernel/osrelease"),
            sysctls,
            nofile: limit(&limits, "Max open files"),
            memlock: limit(&limits, "Max locked memory"),
            groups: ["Gid:", "Groups:"].iter().flat_map(|key| numbers(field(&status, key))).collect(),
            capabilities: u64::from_str_radix(field(&status, "CapEff:"), 16).unwrap_or(0),
            cores: count_cores(field(&status, "Cpus_allowed_list:")),
            cpu_quota: files.cpu_quota(),
            memory_bytes: files.text("proc/meminfo").and_then(|text| kib(&text, "MemTotal:")),
            memory_limit: files.memory_limit(),
            clock_source: files.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            huge_pages: files.text("sys/kernel/mm/transparent_hugepage/enabled"),
            listening: files.listening(),
            backlog_drops: files.text("proc/net/softnet_stat").map(|text| softnet_drops(&text)),
            single_queues: files.single_queues(),
        }
    }

    /// A sysctl that is a number.
    pub fn sysctl(&self, name: &str) -> Option<u64> {
        self.sysctls.get(name)?.parse().ok()
    }

    /// The numbers of a sysctl that has several.
    pub fn sysctl_numbers(&self, name: &str) -> Option<Vec<u64>> {
        Some(numbers(self.sysctls.get(name)?))
    }

    /// Whether an effective capability is held (capabilities(7) numbers them).
    pub fn is_capable(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// The memory there is for this process.
    pub fn memory(&self) -> Option<u64> {
        self.memory_limit.into_iter().chain(self.memory_bytes).min()
    }
}

struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    /// A file's text without the white space around it.
    fn text(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.root.join(path)).ok()?.trim().to_owned())
    }

    /// The cgroup's files of this name, from the process's own group up to the root, for either version.
    fn cgroup(&self, controller: &str, file: &str) -> Vec<String> {
        let groups = self.text("proc/self/cgroup").unwrap_or_default();
        let mut found = Vec::new();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let mounts = match controllers {
                "" => vec!["sys/fs/cgroup".to_owned(), "sys/fs/cgroup/unified".to_owned()],
                list if list.split(',').any(|name| name == controller) => {
                    vec![format!("sys/fs/cgroup/{list}"), format!("sys/fs/cgroup/{controller}")]
                }
                _ => continue,
            };
            for mount in mounts {
                // A container may see its own group as the root, so that the path leads nowhere but its ancestors do.
                for group in Path::new(path.trim_start_matches('/')).ancestors() {
                    let path: PathBuf = Path::new(&mount).join(group).join(file);
                    found.extend(path.to_str().and_then(|path| self.text(path)));
                }
            }
        }
        found
    }

    fn cpu_quota(&self) -> Option<f64> {
        let cores = |quota: f64, period: f64| (quota > 0.0 && period > 0.0).then_some(quota / period);
        let second = self.cgroup("cpu", "cpu.max").into_iter().filter_map(|text| {
            let (quota, period) = text.split_once(' ')?;
            cores(quota.parse().ok()?, period.parse().ok()?)
        });
        let quotas = self.cgroup("cpu", "cpu.cfs_quota_us").into_iter();
        let first = quotas.zip(self.cgroup("cpu", "cpu.cfs_period_us")).filter_map(|(quota, period)| {
            // No quota is -1.
            cores(quota.parse().ok()?, period.parse().ok()?)
        });
        second.chain(first).reduce(f64::min)
    }

    fn memory_limit(&self) -> Option<u64> {
        let limits = ["memory.max", "memory.limit_in_bytes"];
        let texts = limits.iter().flat_map(|file| self.cgroup("memory", file));
        // Version 2 writes "max" for none, version 1 a number close to the largest.
        texts.filter_map(|text| text.parse().ok()).filter(|limit| *limit < 1 << 60).min()
    }

    fn listening(&self) -> Vec<SocketAddr> {
        let tables = ["proc/net/tcp", "proc/net/tcp6"].into_iter().filter_map(|path| self.text(path));
        tables.flat_map(|table| table.lines().filter_map(listening_socket).collect::<Vec<_>>()).collect()
    }

    fn single_queues(&self) -> Vec<String> {
        let Ok(devices) = fs::read_dir(self.root.join("sys/class/net")) else { return Vec::new() };
        let devices = devices.flatten().filter(|device| device.path().join("device").exists());
        let single = devices.filter(|device| {
            let queues = fs::read_dir(device.path().join("queues")).into_iter().flatten().flatten();
            let receive: Vec<PathBuf> = queues
                .map(|queue| queue.path())
                .filter(|path| {
                    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"rx-"))
                })
                .collect();
            let steered = |queue: &PathBuf| {
                let mask = fs::read_to_string(queue.join("rps_cpus")).unwrap_or_default();
                mask.chars().any(|digit| digit.is_ascii_hexdigit() && digit != '0')
            };
            receive.len() == 1 && !receive.iter().any(steered)
        });
        let mut names: Vec<String> =
            single.map(|device| device.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// The value behind `key` in a file of `key value` lines.
fn field<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(key)).map_or("", str::trim)
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn kib(text: &str, key: &str) -> Option<u64> {
    Some(numbers(field(text, key)).first()? * 1024)
}

/// A line of `/proc/self/limits`: name, soft, hard, unit.
fn limit(limits: &str, name: &str) -> Option<Limit> {
    let mut words = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    Some(Limit { soft: next()?, hard: next()? })
}

/// How many cores a list such as `0-3,8` names.
fn count_cores(list: &str) -> Option<u64> {
    let ranges = list.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (last.trim().parse::<u64>().ok()? + 1).checked_sub(first.trim().parse().ok()?)
    });
    ranges.sum()
}

/// The second column of each line (proc_net_softnet, hexadecimal): packets dropped. One line a core.
fn softnet_drops(text: &str) -> u64 {
    let dropped = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    text.lines().filter_map(dropped).sum()
}

/// The address of a line of `/proc/net/tcp` or `tcp6` whose socket listens. Addresses are words in the machine's byte
/// order (proc(5)).
fn listening_socket(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    let state = words.nth(1)?;
    if state != "0A" {
        return None;
    }
    let word = |digits: &str| Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
    let ip = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(address)?))
    } else {
        let mut bytes = [0; 16];
        for (place, digits) in bytes.chunks_mut(4).zip(address.as_bytes().chunks(8)) {
            place.copy_from_slice(&word(std::str::from_utf8(digits).ok()?)?);
        }
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}
