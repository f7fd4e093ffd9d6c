//! A process and all processes below it: what they have used and hold, out of `/proc`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use rustix::param::{clock_ticks_per_second, page_size};

use crate::{cores::Cores, machine::kilobytes};

/// CPU time since the start. It holds all threads, those that ended and the kernel's io_uring workers (`iou-*`), which
/// are threads of the process; and children that ended and were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    pub user_seconds: f64,
    pub system_seconds: f64,
}

impl Cpu {
    /// Both together.
    pub fn seconds(self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident, pages shared between the processes counted in each.
    pub rss: u64,
    /// Resident, shared pages divided among all who share them; absent where it may not be read.
    pub pss: Option<u64>,
}

/// The CPU time and a quick estimate of resident memory of the tree; `None` once its root is gone. The kernel keeps the
/// estimate to within some hundred KiB.
pub fn usage(root: u32) -> Option<(Cpu, u64)> {
    let stats = tree(root)?;
    let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
    let cpu = Cpu {
        user_seconds: seconds(stats.iter().map(|stat| stat.user_ticks).sum()),
        system_seconds: seconds(stats.iter().map(|stat| stat.system_ticks).sum()),
    };
    Some((cpu, stats.iter().map(|stat| stat.rss_pages * page_size() as u64).sum()))
}

/// The exact memory of the tree, by a walk over its page tables; `None` once its root is gone.
pub fn memory(root: u32) -> Option<Memory> {
    let mut total = Memory { rss: 0, pss: Some(0) };
    for stat in tree(root)? {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", stat.pid)).unwrap_or_default();
        total.rss += kilobytes(&rollup, "Rss").unwrap_or(stat.rss_pages * page_size() as u64);
        total.pss = total.pss.zip(kilobytes(&rollup, "Pss")).map(|(sum, pss)| sum + pss);
    }
    Some(total)
}

/// The open descriptors of the tree; `None` once its root is gone. Threads may have tables of their own; a table that
/// several share, which is told by its content, counts once.
pub fn descriptors(root: u32) -> Option<u64> {
    let mut count = 0;
    for stat in tree(root)? {
        let mut tables = BTreeSet::new();
        for task in fs::read_dir(format!("/proc/{}/task", stat.pid)).into_iter().flatten().flatten() {
            let entries = fs::read_dir(task.path().join("fd")).into_iter().flatten().flatten();
            let table: BTreeSet<_> =
                entries.map(|entry| (entry.file_name(), fs::read_link(entry.path()).ok())).collect();
            tables.insert(table);
        }
        count += tables.iter().map(|table| table.len() as u64).sum::<u64>();
    }
    Some(count)
}

/// The cores that the process may run on; `None` if it is gone.
pub fn cores(pid: u32) -> Option<Cores> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().parse().ok()
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// Of the process itself and of the children that it has waited for.
    user_ticks: u64,
    system_ticks: u64,
    rss_pages: u64,
}

/// The root and everything below it, the root first; `None` if there is no such process, or only its exit status.
fn tree(root: u32) -> Option<Vec<Stat>> {
    let first = stat(root)?;
    let mut children: BTreeMap<u32, Vec<Stat>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        if let Some(stat) = entry.file_name().to_str().and_then(|name| stat(name.parse().ok()?)) {
            children.entry(stat.parent).or_default().push(stat);
        }
    }
    let mut found = vec![first];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.remove(&found[next].pid).unwrap_or_default());
        next += 1;
    }
    Some(found)
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `None` for a process that has ended and only waits to be waited for.
fn parse_stat(text: &str) -> Option<Stat> {
    // The name may hold anything, spaces and parentheses included.
    let (head, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    (!matches!(*fields.first()?, "Z" | "X")).then_some(())?;
    Some(Stat {
        pid: head.split(' ').next()?.parse().ok()?,
        parent: number(1)? as u32,
        user_ticks: number(11)? + number(13)?,
        system_ticks: number(12)? + number(14)?,
        rss_pages: number(21)?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_recorded_stat_is_read_past_an_odd_name() {
        let text = "4321 (a) b (c)) S 17 4321 4321 0 -1 4194560 1000 20 0 0 150 250 7 8 20 0 5 0 823380 \
                    1000000 700 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";
        let stat = parse_stat(text).expect("well formed");
        let expected = Stat { pid: 4321, parent: 17, user_ticks: 157, system_ticks: 258, rss_pages: 700 };
        assert_eq!(stat, expected);
        assert_eq!(parse_stat(&text.replace(" S ", " Z ")), None, "it has ended");
        for length in 0..text.find(" 700").expect("it is there") {
            assert_eq!(parse_stat(&text[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn children_and_theirs_count_with_their_parent() {
        // What follows a command keeps a shell from becoming that command.
        let mut parent = Command::new("sh")
            .args(["-c", "sh -c 'cat; true'; true"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let pid = parent.id();
        let found = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            tree(pid).filter(|stats| stats.len() == 3)
        });
        assert_eq!(found.expect("a child and its child appear")[0].pid, pid);
        let (_, rss) = usage(pid).expect("it runs");
        let alone = stat(pid).expect("it runs").rss_pages * page_size() as u64;
        assert!(rss > alone, "the children's memory counts: {rss} of {alone}");
        drop(parent.stdin.take());
        parent.wait().expect("it ends with its input");
        assert_eq!(usage(pid), None);
        assert_eq!(memory(pid), None);
    }

    #[test]
    fn a_table_counts_once_however_many_threads_share_it() {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat starts");
        let count = descriptors(child.id()).expect("it runs");
        let table = fs::read_dir(format!("/proc/{}/fd", child.id())).expect("it runs").count();
        assert_eq!(count, table as u64);
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
        assert_eq!(descriptors(child.id()), None);
    }

    #[test]
    fn this_process_is_seen_to_work_and_to_hold_memory() {
        let pid = std::process::id();
        let before = usage(pid).expect("it runs").0;
        let held = memory(pid).expect("it runs");
        let block = vec![1_u8; 32 << 20];
        while usage(pid).expect("it runs").0.seconds() < before.seconds() + 0.05 {
            std::hint::black_box(block.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        }
        let grown = memory(pid).expect("it runs");
        assert!(grown.rss > held.rss + (30 << 20), "{held:?} {grown:?}");
        assert!(cores(pid).is_some());
    }
}
