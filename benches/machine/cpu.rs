//! What a server under measurement costs: CPU time from the kernel's scheduler, and resident memory.
//!
//! The work of a TCP stack is done in soft interrupts, partly inside the sender's own system calls and partly
//! in the core's ksoftirqd. A kernel that does not keep interrupt time apart counts the first part to the
//! process, so the second is added from ksoftirqd's own clock; a kernel that does
//! (`CONFIG_IRQ_TIME_ACCOUNTING`) counts neither to the process and both to the core, in ticks. Either way
//! every nanosecond is counted once. Adding the core's ticks on the first kind of kernel would count the
//! larger part twice.

use std::{
    fs, io,
    process::{Command, Stdio},
};

/// Nanoseconds per tick of /proc/stat: the kernel's interface fixes 100 ticks a second.
const TICK_NS: u64 = 10_000_000;

/// Reads the CPU time and the memory of one process on one core.
pub struct Meter {
    pid: u32,
    core: usize,
    soft_interrupts: SoftInterrupts,
}

#[derive(Clone, Copy)]
enum SoftInterrupts {
    /// In the process and in this thread.
    Thread(u32),
    /// Apart, in /proc/stat.
    Column,
}

impl Meter {
    /// Errors: the kernel shows no scheduler times (`CONFIG_SCHED_INFO`).
    pub fn new(pid: u32, core: usize) -> Result<Meter, String> {
        let soft_interrupts = match (interrupt_time_is_apart(), ksoftirqd(core)) {
            (false, Some(thread)) => SoftInterrupts::Thread(thread),
            (true, _) | (false, None) => SoftInterrupts::Column,
        };
        let meter = Meter { pid, core, soft_interrupts };
        meter.cpu_ns().map_err(|error| format!("the CPU time of process {pid} is not to be had: {error}"))?;
        Ok(meter)
    }

    /// CPU time so far, in nanoseconds: all threads of the process that still live, and its core's soft
    /// interrupts.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        let mut total = self.soft_interrupts_ns()?;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            match fs::read_to_string(task?.path().join("schedstat")) {
                Ok(text) => total += first_number(&text)?,
                // A thread that ended between the listing and the look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn soft_interrupts_ns(&self) -> io::Result<u64> {
        match self.soft_interrupts {
            SoftInterrupts::Thread(thread) => {
                first_number(&fs::read_to_string(format!("/proc/{thread}/schedstat"))?)
            }
            SoftInterrupts::Column => {
                let name = format!("cpu{}", self.core);
                let stat = fs::read_to_string("/proc/stat")?;
                let line = stat.lines().find(|line| line.split_whitespace().next() == Some(name.as_str()));
                // cpu0 user nice system idle iowait irq softirq ...
                let ticks = line.and_then(|line| line.split_whitespace().nth(7)?.parse::<u64>().ok());
                ticks
                    .map(|ticks| ticks * TICK_NS)
                    .ok_or_else(|| io::Error::other("no such line in /proc/stat"))
            }
        }
    }

    /// Resident memory, in bytes, counted exactly (the figure in `status` may lag by pages per thread).
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        Ok(first_number(line.ok_or_else(|| io::Error::other("no Rss line in smaps_rollup"))?)? * 1024)
    }
}

fn first_number(text: &str) -> io::Result<u64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.parse().map_err(|_| io::Error::other(format!("no number in {text:?}")))
}

fn ksoftirqd(core: usize) -> Option<u32> {
    let name = format!("ksoftirqd/{core}\n");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|process: &u32| {
        fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm == name)
    })
}

/// Whether the kernel was built to count interrupts apart from processes; taken as no where it does not say.
fn interrupt_time_is_apart() -> bool {
    let from_boot = fs::read_to_string("/proc/sys/kernel/osrelease")
        .and_then(|release| fs::read_to_string(format!("/boot/config-{}", release.trim())));
    let config = from_boot.ok().or_else(|| output_of("zcat", &["/proc/config.gz"]));
    config.is_some_and(|text| text.lines().any(|line| line == "CONFIG_IRQ_TIME_ACCOUNTING=y"))
}

/// What a program prints, or `None` when it cannot be run or fails.
pub fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
