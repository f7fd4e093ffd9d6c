//! The knobs of the machine: one row each.
//!
//! From a row come the doctor's check, the row of the table in tuning/README.md and the line in the file of `tuning/`
//! that sets it. To tune something else, add a row. What a knob was measured to do was measured by
//! `tuning/measure.sh`, whose command is in tuning/README.md.

use std::fmt::Write;

use super::{
    Judge,
    checks::{descriptors, engine, memory, network},
};

/// Something that can be set, and what is known about it.
pub struct Knob {
    /// As the kernel or the service manager spells it.
    pub name: &'static str,
    /// Where it is set.
    pub place: Place,
    /// What of the relay, or of the kernel for it, reads it.
    pub read_by: &'static str,
    /// The kernel's default, and which kernel's if that differs.
    pub default: &'static str,
    /// What `tuning/` sets; `None` leaves it alone.
    pub ours: Option<&'static str>,
    /// Why.
    pub why: &'static str,
    /// What it was measured to do, or that it could not be.
    pub effect: &'static str,
    /// How to go back.
    pub revert: &'static str,
    /// The doctor's check.
    pub judge: Option<Judge>,
}

/// Where a knob is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `tuning/sysctl.d/60-longsplice.conf`.
    Sysctl,
    /// As a sysctl that not every machine has.
    SysctlIfThere,
    /// A limit: the unit's directive, and the item of `tuning/limits.d/60-longsplice.conf`.
    Limit {
        /// `LimitNOFILE`, say.
        directive: &'static str,
        /// As limits.conf(5) calls it.
        item: &'static str,
    },
    /// A network device, by `tuning/rps-affinity.sh`.
    Device,
    /// The kernel's own interface below `/sys`.
    Kernel,
}

/// Every knob, in the order in which the doctor shows them.
pub static KNOBS: &[Knob] = &[
    Knob {
        name: "RLIMIT_NOFILE",
        place: Place::Limit { directive: "LimitNOFILE", item: "nofile" },
        read_by: "accept(2), for each shard",
        default: "1024 soft, 524288 hard under systemd; 1048576 in most containers",
        ours: Some("1048576"),
        why: "A connection is a descriptor. The relay raises the soft limit to the hard one itself.",
        effect: "exact: with 20000 a shard serves 19800 connections and accepts no more",
        revert: "remove the line",
        judge: Some(descriptors::nofile),
    },
    Knob {
        name: "fs.nr_open",
        place: Place::Sysctl,
        read_by: "setrlimit(2)",
        default: "1048576",
        ours: None,
        why: "The most that RLIMIT_NOFILE can be; enough for a million connections on one shard.",
        effect: "exact: a higher limit is refused with EPERM",
        revert: "-",
        judge: Some(descriptors::nr_open),
    },
    Knob {
        name: "fs.file-max",
        place: Place::Sysctl,
        read_by: "accept(2)",
        default: "a tenth of memory in KiB; systemd raises it to the largest number",
        ours: None,
        why: "Open files of the whole machine. A fixed value could only lower what systemd sets.",
        effect: "exact: accept(2) fails with ENFILE",
        revert: "-",
        judge: Some(descriptors::file_max),
    },
    Knob {
        name: "RLIMIT_MEMLOCK",
        place: Place::Limit { directive: "LimitMEMLOCK", item: "memlock" },
        read_by: "io_uring_setup(2), io_uring_register(2)",
        default: "8 MiB (64 KiB before Linux 5.16)",
        ours: Some("67108864"),
        why: "Rings are charged to their user: about 200 KiB a shard, over all processes of that user.",
        effect: "1, 2 and 4 shards start with 400, 602 and 1001 KiB, and not with 4 KiB less; root is not charged",
        revert: "remove the line",
        judge: Some(engine::memlock),
    },
    Knob {
        name: "kernel.io_uring_disabled",
        place: Place::SysctlIfThere,
        read_by: "io_uring_setup(2)",
        default: "0 (Linux 6.6; some distributions 2)",
        ours: None,
        why: "2 sends the relay to epoll. Whoever set it had a reason: where it is 2, epoll costs little; 1 and a \
              group in kernel.io_uring_group lets the relay alone have io_uring.",
        effect: "exact: io_uring_setup(2) fails with EPERM",
        revert: "-",
        judge: Some(engine::io_uring_disabled),
    },
    Knob {
        name: "net.core.somaxconn",
        place: Place::Sysctl,
        read_by: "listen(2)",
        default: "4096 (128 before Linux 5.4)",
        ours: Some("4096"),
        why: "Connections that wait to be accepted, for each listener: what a burst of reconnecting clients fills.",
        effect: "of 2000 connections while the relay stands still for a second, 129 wait with 128 and all with 4096; \
                 the others come a second later",
        revert: "remove the line; sysctl -w net.core.somaxconn=4096",
        judge: Some(network::somaxconn),
    },
    Knob {
        name: "net.ipv4.tcp_syncookies",
        place: Place::Sysctl,
        read_by: "the kernel, for a SYN",
        default: "1",
        ours: Some("1"),
        why: "With a full queue of half-open connections, real clients still get in.",
        effect: "not measurable here",
        revert: "remove the line; sysctl -w net.ipv4.tcp_syncookies=1",
        judge: Some(network::syn_cookies),
    },
    Knob {
        name: "net.ipv4.tcp_max_syn_backlog",
        place: Place::Sysctl,
        read_by: "the kernel, for a SYN, only without SYN cookies",
        default: "128 to 4096, by memory",
        ours: None,
        why: "SYN cookies are on.",
        effect: "not measurable here",
        revert: "-",
        judge: Some(network::syn_backlog),
    },
    Knob {
        name: "net.ipv4.tcp_rmem",
        place: Place::Sysctl,
        read_by: "TCP, for each connection without --receive-buffer",
        default: "4096 131072 6291456 (the last one 33554432 since Linux 6.17)",
        ours: Some("4096 131072 2097152"),
        why: "A source that is not read, because its destination is slow, fills it. 2 MiB carry 10 MB/s over 100 ms. \
              Holds for the whole machine; --receive-buffer for the relay alone.",
        effect: "none on loopback: 16 links whose receivers stopped hold 1.3 to 1.6 MiB each that is not read, with \
                 either; over a longer way the buffer grows",
        revert: "remove the line; sysctl -w net.ipv4.tcp_rmem=\"4096 131072 6291456\"",
        judge: Some(memory::tcp_rmem),
    },
    Knob {
        name: "net.ipv4.tcp_wmem",
        place: Place::Sysctl,
        read_by: "TCP, for each connection without --send-buffer",
        default: "4096 16384 4194304",
        ours: Some("4096 16384 2097152"),
        why: "What a slow peer has not taken waits here first, before the relay stops reading. As above.",
        effect: "16 links whose receivers stopped: 2.0 MiB each are not taken, instead of 3.8 MiB",
        revert: "remove the line; sysctl -w net.ipv4.tcp_wmem=\"4096 16384 4194304\"",
        judge: Some(memory::tcp_wmem),
    },
    Knob {
        name: "net.ipv4.tcp_mem",
        place: Place::Sysctl,
        read_by: "TCP, for all connections together",
        default: "by memory: pressure at about an eighth of it",
        ours: None,
        why: "A machine that only relays may give more; which depends on its memory. The doctor gives the numbers.",
        effect: "not measurable here",
        revert: "-",
        judge: Some(memory::tcp_mem),
    },
    Knob {
        name: "net.ipv4.tcp_slow_start_after_idle",
        place: Place::Sysctl,
        read_by: "TCP, after a pause of a retransmission timeout",
        default: "1",
        ours: Some("0"),
        why: "Links are interactive: quiet, then a burst. With 1 each burst begins with ten segments again.",
        effect: "not measurable here: needs a wire with delay",
        revert: "remove the line; sysctl -w net.ipv4.tcp_slow_start_after_idle=1",
        judge: Some(network::slow_start),
    },
    Knob {
        name: "net.ipv4.ip_local_reserved_ports",
        place: Place::Sysctl,
        read_by: "connect(2) of other programs",
        default: "empty; ip_local_port_range 32768 60999",
        ours: None,
        why: "The relay connects to no one: the range bounds nothing for it. A --port inside the range should be \
              reserved, or an outgoing connection may hold it when the relay restarts. 8080 is outside.",
        effect: "exact: bind(2) fails with EADDRINUSE",
        revert: "-",
        judge: Some(network::reserved_ports),
    },
    Knob {
        name: "net.netfilter.nf_conntrack_max",
        place: Place::SysctlIfThere,
        read_by: "netfilter, where rules track connections",
        default: "by memory, at most 262144",
        ours: Some("2097152"),
        why: "At the bound new connections are dropped in silence. Not to track the relay's port is better still: \
              300 B and a lookup for each packet are saved.",
        effect: "not measurable here",
        revert: "remove the line; sysctl -w net.netfilter.nf_conntrack_max=262144",
        judge: Some(network::conntrack),
    },
    Knob {
        name: "net.core.netdev_max_backlog",
        place: Place::Sysctl,
        read_by: "the kernel, for packets that RPS gives to another core",
        default: "1000",
        ours: Some("4096"),
        why: "Bursts that one core receives for another are dropped above it.",
        effect: "not measurable here: loopback has no bursts from a wire",
        revert: "remove the line; sysctl -w net.core.netdev_max_backlog=1000",
        judge: Some(network::device_backlog),
    },
    Knob {
        name: "rps_cpus, IRQ affinity",
        place: Place::Device,
        read_by: "the network device's receive path",
        default: "RPS off; interrupts where the driver or irqbalance puts them",
        ours: None,
        why: "With one receive queue a single core does the TCP work of all shards. `rps-affinity.sh` spreads \
              packets over the cores, or gives each of several queues one. Stop irqbalance, or it moves them back.",
        effect: "not measurable here: needs a network card",
        revert: "rps-affinity.sh --revert",
        judge: Some(network::receive_queues),
    },
    Knob {
        name: "GRO, TSO, GSO",
        place: Place::Device,
        read_by: "the network device",
        default: "on",
        ours: None,
        why: "They join packets on the way in and split them on the way out: for bulk they save most of the \
              per-packet cost. Leave them on; look with `ethtool -k`. LRO breaks forwarding, not relaying, and gains \
              nothing over GRO.",
        effect: "not measurable here: needs a network card",
        revert: "ethtool -K DEVICE gro on tso on gso on",
        judge: None,
    },
    Knob {
        name: "transparent_hugepage",
        place: Place::Kernel,
        read_by: "the kernel, for the heap",
        default: "madvise or always, by distribution",
        ours: None,
        why: "The relay keeps its own heap off huge pages (prctl(2), PR_SET_THP_DISABLE), whatever is set here.",
        effect: "with huge pages an idle connection takes more than twice the memory (docs/BENCHMARKS.md)",
        revert: "-",
        judge: Some(memory::huge_pages),
    },
];

/// The table of tuning/README.md.
pub fn markdown_table() -> String {
    let head =
        "| knob | read by | default | ours | why | measured effect | back |\n|---|---|---|---|---|---|---|\n";
    KNOBS.iter().fold(head.to_owned(), |mut out, knob| {
        let ours = knob.ours.map_or("the default".to_owned(), |ours| format!("`{ours}`"));
        let Knob { name, read_by, default, why, effect, revert, .. } = knob;
        writeln!(out, "| `{name}` | {read_by} | {default} | {ours} | {why} | {effect} | {revert} |")
            .expect("writing to a string");
        out
    })
}

/// `tuning/sysctl.d/60-longsplice.conf`.
pub fn sysctl_file() -> String {
    let head = "# Generated from src/doctor/knobs.rs; tuning/README.md has the reasons. Install as\n\
                # /etc/sysctl.d/60-longsplice.conf, then: sysctl --system\n";
    KNOBS.iter().fold(head.to_owned(), |mut out, knob| {
        // systemd-sysctl does not complain about a line that begins with a dash.
        let dash = match knob.place {
            Place::Sysctl => "",
            Place::SysctlIfThere => "-",
            _ => return out,
        };
        if let Some(ours) = knob.ours {
            writeln!(out, "\n# {}\n{dash}{} = {ours}", wrapped(knob.why), knob.name)
                .expect("writing to a string");
        }
        out
    })
}

/// `tuning/limits.d/60-longsplice.conf`.
pub fn limits_file() -> String {
    let head = "# Generated from src/doctor/knobs.rs; tuning/README.md has the reasons. For a relay that is started\n\
                # from a login session: install as /etc/security/limits.d/60-longsplice.conf. The unit has its own.\n";
    KNOBS.iter().fold(head.to_owned(), |mut out, knob| {
        if let (Place::Limit { item, .. }, Some(ours)) = (knob.place, knob.ours) {
            // limits.conf(5) counts locked memory in KiB.
            let value = match (item, ours.parse::<u64>()) {
                ("memlock", Ok(bytes)) => (bytes >> 10).to_string(),
                _ => ours.to_owned(),
            };
            writeln!(out, "longsplice - {item} {value}").expect("writing to a string");
        }
        out
    })
}

/// The limits of the service unit.
pub fn unit_limits() -> String {
    KNOBS.iter().fold(String::new(), |mut out, knob| {
        if let (Place::Limit { directive, .. }, Some(ours)) = (knob.place, knob.ours) {
            writeln!(out, "{directive}={ours}").expect("writing to a string");
        }
        out
    })
}

/// A sentence over several comment lines.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + word.len() > COMMENT_COLUMNS {
            out.push_str("\n# ");
            column = 0;
        } else if column > 0 {
            out.push(' ');
        }
        out.push_str(word);
        column += word.len() + 1;
    }
    out
}

const COMMENT_COLUMNS: usize = 110;
