//! Made-up machines, and what the doctor says of them.

use std::{collections::BTreeMap, fs, path::Path};

use super::*;
use crate::driver::{Choice, Chosen, Kind, Private};

/// A million connections on four shards, with the defaults.
fn need() -> Need {
    Need {
        connections: Some(1_000_000),
        shards: 4,
        driver: Choice::Auto,
        pin: false,
        backlog: 4096,
        locked_bytes: (4 * 200) << 10,
        fixed_bytes: (4 * 65) << 20,
        addresses: vec!["0.0.0.0:8080".parse().unwrap(), "[::]:8080".parse().unwrap()],
        fixed_buffers: (false, false),
    }
}

fn answers() -> Answers {
    Answers {
        driver: Ok(Chosen { kind: Kind::IoUring, why: None }),
        tables: Private::Yes,
        clock_is_kept: Some(true),
        page_bytes: 4096,
    }
}

/// A machine with nothing to complain about.
fn sound() -> Facts {
    let sysctls = [
        ("fs.nr_open", "1048576"),
        ("fs.file-max", "9223372036854775807"),
        ("fs.file-nr", "1000 0 9223372036854775807"),
        ("kernel.io_uring_disabled", "0"),
        ("kernel.io_uring_group", "-1"),
        ("net.core.somaxconn", "4096"),
        ("net.core.netdev_max_backlog", "4096"),
        ("net.ipv4.tcp_syncookies", "1"),
        ("net.ipv4.tcp_max_syn_backlog", "2048"),
        ("net.ipv4.tcp_rmem", "4096\t131072\t2097152"),
        ("net.ipv4.tcp_wmem", "4096\t16384\t2097152"),
        ("net.ipv4.tcp_mem", "1500000\t2000000\t3000000"),
        ("net.ipv4.tcp_slow_start_after_idle", "0"),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
        ("net.ipv4.ip_local_reserved_ports", ""),
    ];
    Facts {
        answers: answers(),
        kernel: Some("6.12.3-amd64".to_owned()),
        sysctls: sysctls.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
        nofile: Some(Limit { soft: 1024, hard: 1 << 20 }),
        memlock: Some(Limit { soft: 8 << 20, hard: 8 << 20 }),
        groups: vec![65532],
        capabilities: 0,
        cores: Some(4),
        cpu_quota: None,
        memory_bytes: Some(16 << 30),
        memory_limit: None,
        clock_source: Some("tsc".to_owned()),
        huge_pages: Some("always [madvise] never".to_owned()),
        listening: Vec::new(),
        backlog_drops: Some(0),
        single_queues: Vec::new(),
    }
}

/// What one check says of a machine.
fn check(name: &str, need: &Need, facts: &Facts) -> (Verdict, String) {
    let report = judge(need, facts);
    let found = report.findings.iter().find(|finding| finding.check == name);
    let judgement = &found.unwrap_or_else(|| panic!("no check {name}")).judgement;
    assert_eq!(judgement.verdict == Verdict::Ok, judgement.remedy.is_empty(), "{judgement:?}");
    (judgement.verdict, format!("{} -> {}", judgement.value, judgement.remedy))
}

#[test]
fn a_sound_machine_passes_every_check() {
    let report = judge(&need(), &sound());
    assert_eq!(report.verdict(), Verdict::Ok, "{}", report.table());
    assert!(report.table().ends_with("ok, 0 warn, 0 fail\n"));
}

/// One change to a sound machine or to what is asked of it, the check that must notice, its verdict, and a part of what
/// it says.
type Case = (&'static str, Verdict, &'static str, fn(&mut Need, &mut Facts));

const CASES: &[Case] = &[
    ("RLIMIT_NOFILE", Verdict::Fail, "LimitNOFILE=375200", |_, facts| {
        facts.nofile = Some(Limit { soft: 20_000, hard: 20_000 });
    }),
    ("RLIMIT_NOFILE", Verdict::Fail, "--max-connections 52800", |_, facts| {
        facts.nofile = Some(Limit { soft: 20_000, hard: 20_000 });
    }),
    // Without private tables one limit is for all.
    ("RLIMIT_NOFILE", Verdict::Fail, "LimitNOFILE=1000800", |_, facts| {
        facts.answers.tables = Private::Refused(1);
        facts.nofile = Some(Limit { soft: 400_000, hard: 400_000 });
    }),
    ("RLIMIT_NOFILE", Verdict::Warn, "--max-connections", |need, _| need.connections = None),
    ("descriptor tables", Verdict::Warn, "unshare", |_, facts| facts.answers.tables = Private::Refused(1)),
    ("fs.nr_open", Verdict::Fail, "sysctl -w fs.nr_open=\"1048576\"", |need, facts| {
        need.shards = 1;
        facts.sysctls.insert("fs.nr_open", "524288".into());
    }),
    ("fs.file-max", Verdict::Fail, "sysctl -w fs.file-max=", |_, facts| {
        facts.sysctls.insert("fs.file-max", "500000".into());
    }),
    ("RLIMIT_MEMLOCK", Verdict::Fail, "LimitMEMLOCK=800K", |_, facts| {
        facts.memlock = Some(Limit { soft: 64 << 10, hard: 8 << 20 });
    }),
    ("kernel.io_uring_disabled", Verdict::Warn, "--driver epoll", |_, facts| {
        facts.sysctls.insert("kernel.io_uring_disabled", "2".into());
    }),
    ("kernel.io_uring_disabled", Verdict::Fail, "sysctl -w", |need, facts| {
        need.driver = Choice::IoUring;
        facts.sysctls.insert("kernel.io_uring_disabled", "1".into());
    }),
    ("kernel.io_uring_disabled", Verdict::Ok, "group", |need, facts| {
        need.driver = Choice::IoUring;
        facts.sysctls.insert("kernel.io_uring_disabled", "1".into());
        facts.sysctls.insert("kernel.io_uring_group", "65532".into());
    }),
    ("driver", Verdict::Warn, "seccomp", |_, facts| {
        facts.answers.driver =
            Ok(Chosen { kind: Kind::Epoll, why: Some("a seccomp profile forbids it".into()) });
    }),
    ("driver", Verdict::Fail, "no memory", |_, facts| facts.answers.driver = Err("no memory".into())),
    ("kernel", Verdict::Fail, "5.10", |_, facts| facts.kernel = Some("4.19.0-27".into())),
    ("kernel", Verdict::Warn, "6.10", |_, facts| facts.kernel = Some("6.1.0-31-amd64".into())),
    ("cores", Verdict::Warn, "--shards 2", |_, facts| facts.cores = Some(2)),
    ("cpu quota", Verdict::Warn, "--shards 2", |_, facts| facts.cpu_quota = Some(2.5)),
    ("memory", Verdict::Fail, "--max-connections", |_, facts| facts.memory_limit = Some(2 << 30)),
    ("clock source", Verdict::Warn, "tsc", |_, facts| facts.clock_source = Some("hpet".into())),
    ("clock", Verdict::Warn, "300 s", |_, facts| facts.answers.clock_is_kept = Some(false)),
    ("addresses", Verdict::Fail, "sport = :8080", |_, facts| {
        facts.listening = vec!["127.0.0.1:8080".parse().unwrap()];
    }),
    ("addresses", Verdict::Ok, "free", |need, facts| {
        need.addresses = vec!["127.0.0.2:8080".parse().unwrap()];
        facts.listening = vec!["127.0.0.1:8080".parse().unwrap(), "[::1]:8080".parse().unwrap()];
    }),
    ("addresses", Verdict::Fail, "in use", |need, facts| {
        need.addresses = vec!["127.0.0.1:8080".parse().unwrap()];
        facts.listening = vec!["[::]:8080".parse().unwrap()];
    }),
    ("net.core.somaxconn", Verdict::Warn, "4096", |_, facts| {
        facts.sysctls.insert("net.core.somaxconn", "128".into());
    }),
    ("net.ipv4.tcp_syncookies", Verdict::Warn, "flood", |_, facts| {
        facts.sysctls.insert("net.ipv4.tcp_syncookies", "0".into());
    }),
    ("net.ipv4.tcp_max_syn_backlog", Verdict::Warn, "4096", |_, facts| {
        facts.sysctls.insert("net.ipv4.tcp_syncookies", "0".into());
    }),
    ("net.ipv4.tcp_rmem", Verdict::Warn, "4096 131072 2097152", |_, facts| {
        facts.sysctls.insert("net.ipv4.tcp_rmem", "4096 131072 33554432".into());
    }),
    ("net.ipv4.tcp_wmem", Verdict::Warn, "--send-buffer", |_, facts| {
        facts.sysctls.insert("net.ipv4.tcp_wmem", "4096 16384 33554432".into());
    }),
    ("net.ipv4.tcp_wmem", Verdict::Ok, "--send-buffer", |need, facts| {
        need.fixed_buffers.1 = true;
        facts.sysctls.insert("net.ipv4.tcp_wmem", "4096 16384 33554432".into());
    }),
    ("net.ipv4.tcp_mem", Verdict::Warn, "1500000 2000000 3000000", |_, facts| {
        facts.sysctls.insert("net.ipv4.tcp_mem", "287898 383867 575796".into());
    }),
    ("net.ipv4.tcp_slow_start_after_idle", Verdict::Warn, "=\"0\"", |_, facts| {
        facts.sysctls.insert("net.ipv4.tcp_slow_start_after_idle", "1".into());
    }),
    ("net.ipv4.ip_local_reserved_ports", Verdict::Warn, "=\"7,40000\"", |need, facts| {
        need.addresses = vec!["0.0.0.0:40000".parse().unwrap()];
        facts.sysctls.insert("net.ipv4.ip_local_reserved_ports", "7".into());
    }),
    ("net.ipv4.ip_local_reserved_ports", Verdict::Ok, "no port", |need, facts| {
        need.addresses = vec!["0.0.0.0:40000".parse().unwrap()];
        facts.sysctls.insert("net.ipv4.ip_local_reserved_ports", "39000-41000".into());
    }),
    ("net.netfilter.nf_conntrack_max", Verdict::Fail, "notrack", |_, facts| {
        facts.sysctls.insert("net.netfilter.nf_conntrack_max", "262144".into());
        facts.sysctls.insert("net.netfilter.nf_conntrack_count", "17".into());
    }),
    ("net.core.netdev_max_backlog", Verdict::Warn, "16384", |_, facts| facts.backlog_drops = Some(3)),
    ("rps_cpus, IRQ affinity", Verdict::Warn, "rps-affinity.sh --apply eth0", |_, facts| {
        facts.single_queues = vec!["eth0".into()];
    }),
];

#[test]
fn what_a_machine_lacks_is_noticed_with_the_command_that_helps() {
    for (name, verdict, part, change) in CASES {
        let (mut need, mut facts) = (need(), sound());
        change(&mut need, &mut facts);
        let (found, said) = check(name, &need, &facts);
        assert_eq!(found, *verdict, "{name}: {said}");
        assert!(said.contains(part), "{name}: {part:?} is not in {said:?}");
    }
}

#[test]
fn every_check_can_complain() {
    // Huge pages are shown for the record: the relay opts out of them by itself.
    let silent = ["transparent_hugepage"];
    for Finding { check, .. } in judge(&need(), &sound()).findings {
        let complains = CASES.iter().any(|(name, verdict, ..)| *name == check && *verdict > Verdict::Ok);
        assert!(complains || silent.contains(&check), "{check}: no machine makes it complain");
    }
}

#[test]
fn nothing_readable_is_no_panic_and_no_ok() {
    let nothing = tempfile::tempdir().unwrap();
    let facts = Facts::read(nothing.path(), answers());
    assert_eq!(facts.sysctls, BTreeMap::new());
    assert_eq!(check("RLIMIT_NOFILE", &need(), &facts).0, Verdict::Warn);
    assert_eq!(check("memory", &need(), &facts).0, Verdict::Warn);
}

/// Lays files below a root.
fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn the_files_of_a_machine_are_read() {
    let root = machine(&[
        (
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            1024                 524288               files     \n\
             Max locked memory         8388608              unlimited            bytes     \n",
        ),
        (
            "proc/self/status",
            "Name:\tx\nGid:\t7\t7\t7\t7\nGroups:\t9 10 \nCapEff:\t0000000000200000\nCpus_allowed_list:\t0-2,8\n",
        ),
        ("proc/sys/kernel/osrelease", "6.18.0\n"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
        ("proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n"),
        ("proc/net/softnet_stat", "000000ff 00000002 00000000\n00000001 0000000a 00000000\n"),
        (
            "proc/net/tcp",
            "  sl  local_address rem_address   st\n\
             \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
             \x20  1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000\n",
        ),
        (
            "proc/net/tcp6",
            "  sl  local_address rem_address st\n\
             \x20  0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0\n",
        ),
        ("sys/class/net/eth0/device/vendor", "x"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000\n"),
        ("sys/class/net/eth1/device/vendor", "x"),
        ("sys/class/net/eth1/queues/rx-0/rps_cpus", "00000000,0000000f\n"),
        ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
    ]);
    let facts = Facts::read(root.path(), answers());
    assert_eq!(facts.nofile, Some(Limit { soft: 1024, hard: 524_288 }));
    assert_eq!(facts.memlock, Some(Limit { soft: 8 << 20, hard: u64::MAX }));
    assert_eq!((facts.cores, facts.memory_bytes, facts.backlog_drops), (Some(4), Some(2 << 20), Some(12)));
    assert!(facts.groups.contains(&7) && facts.groups.contains(&10) && facts.is_capable(21));
    assert!(!facts.is_capable(14));
    assert_eq!(facts.sysctl_numbers("net.ipv4.tcp_rmem"), Some(vec![4096, 131_072, 6_291_456]));
    assert_eq!(facts.listening, ["127.0.0.1:8080".parse().unwrap(), "[::1]:80".parse().unwrap()]);
    assert_eq!(facts.single_queues, ["eth0"], "one queue, a real device, nothing steered");
    assert_eq!((facts.cpu_quota, facts.memory_limit), (None, None), "no cgroup limits anything");
}

#[test]
fn the_tightest_cgroup_on_the_way_up_counts_in_either_version() {
    let read = |files: &[(&str, &str)]| {
        let facts = Facts::read(Path::new(machine(files).path()), answers());
        (facts.cpu_quota, facts.memory_limit)
    };
    let second = [
        ("proc/self/cgroup", "0::/system.slice/longsplice.service\n"),
        ("sys/fs/cgroup/system.slice/longsplice.service/memory.max", "max\n"),
        ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/system.slice/longsplice.service/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n"),
    ];
    assert_eq!(read(&second), (Some(1.5), Some(1 << 30)));
    let first = [
        ("proc/self/cgroup", "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
        ("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n"),
    ];
    assert_eq!(read(&first), (Some(0.5), Some(1 << 29)));
    let none = [
        ("proc/self/cgroup", "4:memory:/\n1:cpu:/\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
    ];
    assert_eq!(read(&none), (None, None));
}

#[test]
fn json_says_what_the_table_says() {
    let (need, mut facts) = (need(), sound());
    facts.sysctls.insert("net.core.somaxconn", "128".into());
    let report = judge(&need, &facts);
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["verdict"], "warn");
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), report.findings.len());
    let one = checks.iter().find(|one| one["check"] == "net.core.somaxconn").unwrap();
    assert_eq!(one["verdict"], "warn");
    assert!(one["remedy"].as_str().unwrap().contains("sysctl -w"));
    assert!(report.table().contains("-> sysctl -w net.core.somaxconn"));
}
