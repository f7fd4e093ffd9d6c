//! The roads not taken: what the io_uring driver does, beside other ways to do the same.
//!
//! The relay's choices (which receives, how much memory for them, how it sends, how long it waits, which ring) are
//! each measured against their alternatives, in one run, in turns, as ratios. What serves is a pump: it moves bytes
//! between the two sockets of a link as the relay does and looks at none of them. `server/pump.rs` is one that can go
//! every way; `server/driver.rs` is the relay's own driver, which shows how far the first may be trusted.
//!
//! `cargo bench --bench ways -- --help` names the options; `way.rs` lists the ways. Without `--bench` (so under
//! `cargo test --benches`) it is a smoke run: every way moves some checked bytes, and nothing is measured.

mod load;
#[allow(dead_code, reason = "what only `engines` measures")]
#[path = "../machine/mod.rs"]
mod machine;
mod report;
mod server;
mod way;

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use longsplice::driver::{Choice, choose};

use load::{Load, Moved};
use machine::{
    cpu::Meter,
    server::{Cores, Server},
};
use report::{Reading, Row};
use way::{EXPERIMENTS, Experiment, Sizes, Way, Workload};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some(SERVE_AS) => serve(&arguments[1..]),
        _ => run(&Plan::from(&command().get_matches())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ways: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes a server: the experiment and the way by their places, how many connections, how large a message.
fn serve(arguments: &[String]) -> Result<(), String> {
    let numbers: Vec<usize> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    let [experiment, way, connections, bytes] = numbers[..] else {
        return Err("started as a server by something else than this bench".to_owned());
    };
    let error = server::run(&EXPERIMENTS[experiment].ways[way].how, connections, bytes);
    Err(error.expect_err("it serves until it is killed").to_string())
}

fn run(plan: &Plan) -> Result<(), String> {
    if let Err(error) = choose(Choice::IoUring) {
        println!("ways: skipped, this kernel does not let it use io_uring: {error}");
        return Ok(());
    }
    machine::raise_descriptor_limit();
    let cores = Cores::pick().map_err(|error| format!("which cores this process may use: {error}"))?;
    if !plan.is_smoke {
        machine::print_header(cores);
        println!("rounds   {} of {:?}, the ways in turn in each round", plan.rounds, plan.sizes.span);
    }
    let mut count = 0;
    for (number, experiment) in EXPERIMENTS.iter().enumerate() {
        if !plan.wants(experiment) {
            continue;
        }
        for &workload in experiment.workloads {
            let mut rows: Vec<Row> = experiment.ways.iter().map(Row::new).collect();
            for place in machine::turns(plan.rounds, rows.len()) {
                let row = &mut rows[place];
                let name = [number, place].map(|number| number.to_string());
                let reading = measure(&name, row.way, workload, cores, &plan.sizes);
                let failed = |error| format!("{}, {}: {error}", workload.title(&plan.sizes), row.way.title);
                row.readings.push(reading.map_err(failed)?);
            }
            if !plan.is_smoke {
                report::print_table(experiment, workload, &plan.sizes, &rows);
            }
            count += rows.len();
        }
    }
    if plan.is_smoke {
        println!("ways: {count} ways checked, nothing measured");
    }
    Ok(())
}

/// One reading of one freshly started server.
fn measure(
    name: &[String],
    way: &Way,
    workload: Workload,
    cores: Cores,
    sizes: &Sizes,
) -> Result<Reading, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (links, shape) = (workload.links(sizes), workload.shape());
    let mut command = Command::new(program);
    command.arg(SERVE_AS).args(name).args([(2 * links).to_string(), shape.bytes.to_string()]);
    let server = Server::start(way.title, command, cores)?;
    let meter = Meter::new(server.pid(), cores.server)?;
    let cpu_ns = || meter.cpu_ns().map_err(|error| format!("reading the CPU time: {error}"));
    let mut load = Load::start(server.address, links, shape)?;
    load.run(sizes.warm_up, sizes.bytes_at_least(shape))?;
    let before = cpu_ns()?;
    let Moved { messages, bytes, elapsed } = load.run(sizes.span, sizes.bytes_at_least(shape))?;
    let used_ns = (cpu_ns()? - before) as f64;
    // First, or it would complain of its connections' ends.
    drop(server);
    let cost = if workload.is_ping_pong() { used_ns / 1000.0 / messages } else { used_ns / bytes };
    Ok(Reading { cost, busy: used_ns / elapsed.as_nanos() as f64 })
}

/// What to do.
struct Plan {
    is_smoke: bool,
    rounds: usize,
    only: Option<Vec<String>>,
    sizes: Sizes,
}

impl Plan {
    fn from(matches: &ArgMatches) -> Plan {
        let is_smoke = !matches.get_flag("bench") || matches.get_flag("test");
        let milliseconds = *matches.get_one::<u64>("milliseconds").expect("it has a default");
        let mut sizes = if is_smoke { Sizes::SMOKE } else { Sizes::FULL };
        if !is_smoke {
            sizes.span = Duration::from_millis(milliseconds);
        }
        Plan {
            is_smoke,
            rounds: if is_smoke { 1 } else { *matches.get_one("rounds").expect("it has a default") },
            only: matches.get_many("only").map(|names| names.cloned().collect()),
            sizes,
        }
    }

    fn wants(&self, experiment: &Experiment) -> bool {
        self.only.as_ref().is_none_or(|names| names.iter().any(|name| name == experiment.name))
    }
}

fn command() -> clap::Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let names: Vec<_> = EXPERIMENTS.iter().map(|experiment| experiment.name).collect();
    clap::Command::new("ways")
        .about("What the io_uring driver does, beside other ways to do it")
        .arg(
            Arg::new("only")
                .long("only")
                .value_delimiter(',')
                .value_parser(names)
                .help("These experiments alone"),
        )
        .arg(
            Arg::new("rounds")
                .long("rounds")
                .default_value("3")
                .value_parser(value_parser!(usize))
                .help("Readings of each way under each workload"),
        )
        .arg(
            Arg::new("milliseconds")
                .long("milliseconds")
                .default_value("400")
                .value_parser(value_parser!(u64))
                .help("Measured span of each reading"),
        )
        .arg(flag("bench", "Measure (cargo bench passes it)"))
        .arg(flag("test", "Smoke run even so"))
}

/// The argument that makes this executable a server.
const SERVE_AS: &str = "--serve-as";
