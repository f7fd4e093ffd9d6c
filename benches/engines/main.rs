//! The engine comparison: what the relay costs beside pass-throughs that only move bytes, and beside other
//! relays.
//!
//! One program, one run: the relay on each of its drivers and its comparators take turns on the same core
//! under the same load, and only ratios between them are judged, never a bare time. Read `workload.rs` for
//! what is measured, `machine/cpu.rs` for how, `target.rs` for how it is judged, `comparators/` for beside what.
//!
//! `cargo bench --bench engines -- --help` names the options. Without `--bench` (so under `cargo test
//! --benches`) it is a smoke run: a few links and no ratio, but every message checked.

mod churn;
mod comparators;
mod frame;
mod load;
#[path = "../machine/mod.rs"]
mod machine;
mod report;
mod session;
mod subject;
mod target;
mod workload;

use std::{process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use comparators::SERVE_AS;
use machine::server::Cores;
use report::Row;
use subject::Subject;
use workload::{Sizes, Workload};

fn main() -> ExitCode {
    machine::raise_descriptor_limit();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(SERVE_AS) {
        let subject = arguments.next().and_then(|name| Subject::from_name(&name));
        let error = comparators::run(subject.expect("the generator names a subject"));
        let error = error.expect_err("it serves until it is killed");
        eprintln!("comparator: {error}");
        return ExitCode::FAILURE;
    }
    frame::check_the_reader();
    let plan = Plan::from(command().get_matches());
    match run(&plan) {
        Ok(is_met) if is_met || !plan.check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("engines: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything; whether the targets are met, which a smoke run never doubts.
fn run(plan: &Plan) -> Result<bool, String> {
    let cores = Cores::pick().map_err(|error| format!("which cores this process may use: {error}"))?;
    if !plan.is_smoke {
        report::print_header(cores, &plan.sizes, plan.rounds);
    }
    let (subjects, missing): (Vec<_>, Vec<_>) =
        plan.subjects.iter().copied().partition(|subject| subject.is_missing().is_none());
    for subject in missing {
        println!("skipped  {}: {}", subject.title(), subject.is_missing().unwrap_or_default());
    }
    let mut rows = Vec::new();
    for &workload in &plan.workloads {
        let first = rows.len();
        let subjects = subjects.iter().filter(|&&subject| workload.concerns(subject));
        rows.extend(subjects.map(|&subject| Row { workload, subject, readings: Vec::new() }));
        for place in machine::turns(plan.rounds, rows.len() - first) {
            let row = &mut rows[first + place];
            let failed = |error| format!("{}, {}: {error}", workload.name(), row.subject.title());
            row.readings.push(workload.measure(row.subject, cores, &plan.sizes).map_err(failed)?);
        }
    }
    if plan.is_smoke {
        println!("engines: {} workloads checked, nothing measured", rows.len());
        return Ok(true);
    }
    report::print_tables(&rows, &plan.sizes);
    let is_met = target::judge(&rows);
    println!("\n{}", if is_met { "pass: every target is met" } else { "FAIL: a target is missed" });
    Ok(is_met)
}

/// What to do.
struct Plan {
    is_smoke: bool,
    check: bool,
    rounds: usize,
    subjects: Vec<Subject>,
    workloads: Vec<Workload>,
    sizes: Sizes,
}

impl Plan {
    fn from(matches: ArgMatches) -> Plan {
        let is_smoke = !matches.get_flag("bench") || matches.get_flag("test");
        let number = |name| *matches.get_one::<usize>(name).expect("it has a default");
        let seconds = *matches.get_one::<f64>("seconds").expect("it has a default");
        let names = |option| matches.get_many::<String>(option).map(|names| names.collect::<Vec<_>>());
        let (subjects, workloads) = (names("subjects"), names("only"));
        let is_wanted = |wanted: &Option<Vec<&String>>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|wanted| *wanted == name))
        };
        let sizes = Sizes {
            message_links: number("links"),
            growth_links: number("growth-links"),
            byte_links: number("byte-links"),
            large_links: number("large-links"),
            sessions: number("sessions"),
            idle_links: number("idle-links"),
            send_buffer: number("send-buffer"),
            warm_up: Duration::from_millis(500),
            span: Duration::from_secs_f64(seconds),
            messages_per_link: 1,
        };
        let subjects = Subject::ALL.into_iter().filter(|subject| is_wanted(&subjects, subject.name()));
        let workloads = Workload::ALL.into_iter().filter(|workload| is_wanted(&workloads, workload.name()));
        Plan {
            is_smoke,
            check: matches.get_flag("check"),
            rounds: if is_smoke { 1 } else { number("rounds") },
            subjects: subjects.collect(),
            workloads: workloads.collect(),
            sizes: if is_smoke { smoke_sizes() } else { sizes },
        }
    }
}

/// Judged by what arrives, not by how fast: a busy machine only takes longer.
fn smoke_sizes() -> Sizes {
    Sizes {
        message_links: 8,
        growth_links: 32,
        byte_links: 2,
        large_links: 2,
        sessions: 4,
        idle_links: 20,
        send_buffer: 128 * 1024,
        warm_up: Duration::ZERO,
        span: Duration::ZERO,
        messages_per_link: 20,
    }
}

fn command() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).default_value(default).value_parser(value_parser!(usize)).help(help)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let some_of = |name: &'static str, values: Vec<&'static str>, help: &'static str| {
        Arg::new(name).long(name).value_delimiter(',').value_parser(values).help(help)
    };
    Command::new("engines")
        .about("What the relay costs beside its comparators")
        .arg(some_of(
            "subjects",
            Subject::ALL.map(Subject::name).to_vec(),
            "These alone, and ratios to the first",
        ))
        .arg(some_of("only", Workload::ALL.map(Workload::name).to_vec(), "These workloads alone"))
        .arg(number("links", "1000", "Links that ping-pong 128 B messages"))
        .arg(number(
            "growth-links",
            "8000",
            "The same under `growth`; each is two sockets here and two at the server",
        ))
        .arg(number("byte-links", "16", "Links that stream 64 KiB messages"))
        .arg(number("large-links", "4", "Links that stream 1 MiB messages"))
        .arg(number("sessions", "64", "Sessions that are under way at a time"))
        .arg(number("idle-links", "5000", "Links that are idle"))
        .arg(number("send-buffer", "131072", "SO_SNDBUF of the streaming clients where it is capped, bytes"))
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .default_value("1.5")
                .value_parser(value_parser!(f64))
                .help("Measured span of each reading"),
        )
        .arg(number("rounds", "3", "Readings of each subject under each workload"))
        .arg(flag("check", "Exit with 1 when a target is missed"))
        .arg(flag("bench", "Measure (cargo bench passes it)"))
        .arg(flag("test", "Smoke run even so"))
}
