//! What the shards run on: kernel, ring, cores, clocks.

use super::set;
use crate::{
    doctor::{Facts, Judgement, Need},
    driver::{Choice, Kind},
};

/// The kernel's version.
pub(in crate::doctor) fn kernel(_: &Need, facts: &Facts) -> Judgement {
    let Some(release) = &facts.kernel else { return Judgement::unknown() };
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    match (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) {
        version if version < KERNEL_MIN => {
            Judgement::fail(format!("Linux {release}"), "a kernel of Linux 5.10 or newer")
        }
        version if version < KERNEL_FULL => Judgement::warn(
            format!("Linux {release}"),
            "Linux 6.10 or newer, for receives into several buffers at once; below 6.1 there is only epoll",
        ),
        _ => Judgement::ok(format!("Linux {release}")),
    }
}

/// Whether a ring can be had, tried out.
pub(in crate::doctor) fn driver(need: &Need, facts: &Facts) -> Judgement {
    match (&facts.answers.driver, need.driver) {
        (Err(why), _) => Judgement::fail("none", why.clone()),
        (Ok(chosen), _) if let Some(why) = &chosen.why => {
            Judgement::warn(format!("{}, because io_uring is refused", chosen.kind), why.clone())
        }
        (Ok(chosen), Choice::Epoll) => Judgement::ok(format!("{}, as asked for", chosen.kind)),
        (Ok(chosen), _) => Judgement::ok(format!("{}, tried out", chosen.kind)),
    }
}

/// `kernel.io_uring_disabled`.
pub(in crate::doctor) fn io_uring_disabled(need: &Need, facts: &Facts) -> Judgement {
    let name = "kernel.io_uring_disabled";
    // Kernels before 6.6 do not have it.
    let Some(disabled) = facts.sysctl(name) else { return Judgement::ok("not there: nothing is disabled") };
    let group = facts.sysctls.get("kernel.io_uring_group").and_then(|text| text.parse().ok());
    let is_let = facts.is_capable(CAP_SYS_ADMIN) || group.is_some_and(|group| facts.groups.contains(&group));
    let value = match disabled {
        0 => return Judgement::ok("0: for everyone"),
        1 if is_let => return Judgement::ok("1: for this user's group, or root"),
        1 => "1: not for this user".to_owned(),
        other => format!("{other}: for no one"),
    };
    match need.driver {
        Choice::Epoll => Judgement::ok(value + ", and epoll was asked for"),
        Choice::Auto => Judgement::warn(value, set(name, 0) + "; or --driver epoll"),
        Choice::IoUring => Judgement::fail(value, set(name, 0) + "; or --driver epoll"),
    }
}

/// `RLIMIT_MEMLOCK`, which rings are charged to (for the user, over all processes).
pub(in crate::doctor) fn memlock(need: &Need, facts: &Facts) -> Judgement {
    let Some(limit) = facts.memlock else { return Judgement::unknown() };
    let shown =
        if limit.hard == u64::MAX { "unlimited".to_owned() } else { format!("{} KiB", limit.hard >> 10) };
    let runs_ring = matches!(&facts.answers.driver, Ok(chosen) if chosen.kind == Kind::IoUring);
    if !runs_ring {
        return Judgement::ok(format!("{shown}, and epoll locks nothing"));
    }
    let wanted = need.locked_bytes >> 10;
    let value = format!("{shown}, {wanted} KiB wanted");
    if facts.is_capable(CAP_IPC_LOCK) {
        return Judgement::ok(value + ", and not charged to this user (CAP_IPC_LOCK)");
    }
    // The soft limit is what counts, and the relay does not raise this one.
    if limit.soft >= need.locked_bytes {
        return Judgement::ok(value);
    }
    let remedy = format!(
        "ulimit -l {wanted} in the shell that starts it; LimitMEMLOCK={wanted}K in the unit; --ulimit memlock={} with \
         Docker; or --driver epoll",
        need.locked_bytes
    );
    Judgement::fail(value, remedy)
}

/// Cores for the shards.
pub(in crate::doctor) fn cores(need: &Need, facts: &Facts) -> Judgement {
    let Some(cores) = facts.cores else { return Judgement::unknown() };
    let value = format!("{cores} for {} shards{}", need.shards, if need.pin { ", pinned" } else { "" });
    if need.shards > cores {
        return Judgement::warn(value, format!("--shards {cores}"));
    }
    Judgement::ok(value)
}

/// What the cgroup grants of the cores.
pub(in crate::doctor) fn cpu_quota(need: &Need, facts: &Facts) -> Judgement {
    let Some(quota) = facts.cpu_quota else { return Judgement::ok("none") };
    let value = format!("{quota:.1} cores for {} shards", need.shards);
    // All shards at work use up a smaller quota early in each period, and then all connections stand still.
    if quota < need.shards as f64 {
        let fits = (quota.floor() as u64).max(1);
        return Judgement::warn(
            value,
            format!("--shards {fits}; or a larger CPUQuota=, --cpus or limits.cpu"),
        );
    }
    Judgement::ok(value)
}

/// What the time is read from: the relay does it twice a turn.
pub(in crate::doctor) fn clock_source(_: &Need, facts: &Facts) -> Judgement {
    let Some(source) = &facts.clock_source else { return Judgement::unknown() };
    match source.as_str() {
        "hpet" | "acpi_pm" | "jiffies" | "pit" => Judgement::warn(
            format!("{source}: each reading is a system call"),
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if the kernel offers it; the \
             boot parameter tsc=reliable makes it",
        ),
        _ => Judgement::ok(source.as_str()),
    }
}

/// Whether the wall clock is kept right: registrations carry time stamps.
pub(in crate::doctor) fn clock(_: &Need, facts: &Facts) -> Judgement {
    match facts.answers.clock_is_kept {
        Some(true) => Judgement::ok("synchronised"),
        Some(false) => Judgement::warn(
            format!(
                "not synchronised: hosts whose clock differs by {} s cannot register",
                crate::limits::REGISTER_SKEW_MS_MAX / 1000
            ),
            "timedatectl set-ntp true, or run chronyd; inside a container or VM, on its host",
        ),
        None => Judgement::unknown(),
    }
}

/// The oldest kernel: `close_range` (5.9) is the newest call that epoll cannot do without.
const KERNEL_MIN: (u32, u32) = (5, 10);
/// The oldest with all that the driver on io_uring can use.
const KERNEL_FULL: (u32, u32) = (6, 10);
/// capabilities(7).
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;
