//! The checks: what of the machine does not give what the options ask for, and what to type about it.
//!
//! Those that are knobs have their row in `super::knobs`; the others are [`CONDITIONS`].

pub(super) mod descriptors;
pub(super) mod engine;
pub(super) mod memory;
pub(super) mod network;

use super::Judge;

/// Checks of what no knob of `tuning/` sets.
pub(super) const CONDITIONS: &[(&str, Judge)] = &[
    ("kernel", engine::kernel),
    ("driver", engine::driver),
    ("descriptor tables", descriptors::tables),
    ("cores", engine::cores),
    ("cpu quota", engine::cpu_quota),
    ("memory", memory::memory),
    ("clock source", engine::clock_source),
    ("clock", engine::clock),
    ("addresses", network::addresses),
];

/// Sysctls that checks read beside the knob that they are about.
pub(super) const ASKED_SYSCTLS: &[&str] = &[
    "fs.file-nr",
    "kernel.io_uring_group",
    "net.ipv4.ip_local_port_range",
    "net.netfilter.nf_conntrack_count",
];

/// The command that sets a sysctl, now and at every start.
pub(super) fn set(name: &str, value: impl std::fmt::Display) -> String {
    format!("sysctl -w {name}=\"{value}\", and in /etc/sysctl.d/ for every start")
}
