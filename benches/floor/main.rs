//! The floor: what the relay costs beyond copying bytes.
//!
//! One program, one run: the relay on each of its drivers and a TCP pass-through take turns on the same core
//! under the same load, and only ratios between them are judged, never a bare time. Read `workload.rs` for
//! what is measured, `cpu.rs` for how, `report.rs` for how it is judged.
//!
//! `cargo bench --bench floor -- --help` names the options. Without `--bench` (so under `cargo test
//! --benches`) it is a smoke run: a few links and no ratio, but every message checked.

mod cpu;
mod frame;
mod load;
mod passthrough;
mod report;
mod server;
mod session;
mod workload;

use std::{process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use report::{Row, Targets};
use server::{Cores, Subject};
use workload::{Sizes, Workload};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(server::PASS_THROUGH) {
        let error = passthrough::run().expect_err("it runs until it is killed");
        eprintln!("pass-through: {error}");
        return ExitCode::FAILURE;
    }
    frame::check_the_reader();
    let plan = Plan::from(command().get_matches());
    match run(&plan) {
        Ok(is_met) if is_met || !plan.check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything; whether the targets are met, which a smoke run never doubts.
fn run(plan: &Plan) -> Result<bool, String> {
    raise_descriptor_limit();
    let cores = Cores::pick().map_err(|error| format!("which cores this process may use: {error}"))?;
    if !plan.is_smoke {
        report::print_header(cores, &plan.sizes, plan.rounds);
    }
    let mut rows = Vec::new();
    for workload in Workload::ALL.into_iter().filter(|workload| plan.workloads.contains(workload)) {
        let first = rows.len();
        rows.extend(plan.subjects.iter().map(|&subject| Row { workload, subject, readings: Vec::new() }));
        for _ in 0..plan.rounds_of(workload) {
            for row in &mut rows[first..] {
                let failed = |error| format!("{}, {}: {error}", workload.name(), row.subject.name());
                row.readings.push(workload.measure(row.subject, cores, &plan.sizes).map_err(failed)?);
            }
        }
    }
    if plan.is_smoke {
        println!("floor: {} workloads checked, nothing measured", rows.len());
        return Ok(true);
    }
    let is_met = report::print_table(&rows, &plan.sizes, &plan.targets);
    println!("\n{}", if is_met { "pass: every target is met" } else { "FAIL: a target is missed" });
    Ok(is_met)
}

/// Thousands of links are twice as many sockets. Where the limit stays low, connecting says so.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Raising to the hard limit is always allowed.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// What to do.
struct Plan {
    is_smoke: bool,
    check: bool,
    rounds: usize,
    subjects: Vec<Subject>,
    workloads: Vec<Workload>,
    sizes: Sizes,
    targets: Targets,
}

impl Plan {
    fn from(matches: ArgMatches) -> Plan {
        let is_smoke = !matches.get_flag("bench") || matches.get_flag("test");
        let number = |name| *matches.get_one::<usize>(name).expect("it has a default");
        let fraction = |name| *matches.get_one::<f64>(name).expect("it has a default");
        let subjects = match matches.get_one::<String>("driver").map(String::as_str) {
            Some("epoll") => vec![Subject::PassThrough, Subject::Epoll],
            Some("io-uring") => vec![Subject::PassThrough, Subject::IoUring],
            _ => vec![Subject::PassThrough, Subject::Epoll, Subject::IoUring],
        };
        let only = matches.get_one::<String>("only");
        let workloads =
            Workload::ALL.into_iter().filter(|workload| only.is_none_or(|only| only == workload.name()));
        let sizes = Sizes {
            ping_pong_links: number("links"),
            stream_links: number("stream-links"),
            idle_links: number("idle-links"),
            send_buffer: number("send-buffer"),
            warm_up: Duration::from_millis(500),
            span: Duration::from_secs_f64(fraction("seconds")),
            messages_per_link: 1,
        };
        Plan {
            is_smoke,
            check: matches.get_flag("check"),
            rounds: if is_smoke { 1 } else { number("rounds") },
            subjects,
            workloads: workloads.collect(),
            sizes: if is_smoke { smoke_sizes() } else { sizes },
            targets: Targets {
                message: fraction("target-message"),
                byte: fraction("target-byte"),
                idle: fraction("target-idle"),
            },
        }
    }

    /// Memory hardly varies, and it takes the longest to set up.
    fn rounds_of(&self, workload: Workload) -> usize {
        match workload {
            Workload::Idle => self.rounds.min(2),
            _ => self.rounds,
        }
    }
}

/// Judged by what arrives, not by how fast: a busy machine only takes longer.
fn smoke_sizes() -> Sizes {
    Sizes {
        ping_pong_links: 8,
        stream_links: 2,
        idle_links: 20,
        send_buffer: 128 * 1024,
        warm_up: Duration::ZERO,
        span: Duration::ZERO,
        messages_per_link: 50,
    }
}

fn command() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).default_value(default).value_parser(value_parser!(usize)).help(help)
    };
    let fraction = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).default_value(default).value_parser(value_parser!(f64)).help(help)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("floor")
        .about("What the relay costs beyond a TCP pass-through")
        .arg(
            Arg::new("driver")
                .long("driver")
                .default_value("both")
                .value_parser(["io-uring", "epoll", "both"]),
        )
        .arg(
            Arg::new("only")
                .long("only")
                .value_parser(Workload::ALL.map(Workload::name))
                .help("One workload alone"),
        )
        .arg(number("links", "1000", "Links that ping-pong 128 B messages"))
        .arg(number("stream-links", "16", "Links that stream 64 KiB messages"))
        .arg(number(
            "idle-links",
            "5000",
            "Links that are idle; each is two sockets here and two at the server",
        ))
        .arg(number("send-buffer", "131072", "SO_SNDBUF of the streaming clients where it is capped, bytes"))
        .arg(fraction("seconds", "2", "Measured span of each reading"))
        .arg(number("rounds", "5", "Readings of each subject under each workload"))
        .arg(fraction("target-message", "1.3", "CPU per message, times the pass-through's"))
        .arg(fraction("target-byte", "1.6", "CPU per byte, times the pass-through's"))
        .arg(fraction("target-idle", "600", "Bytes of resident memory per idle socket"))
        .arg(flag("check", "Exit with 1 when a target is missed"))
        .arg(flag("bench", "Measure (cargo bench passes it)"))
        .arg(flag("test", "Smoke run even so"))
}
