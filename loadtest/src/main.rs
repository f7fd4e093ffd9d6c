//! The load generator that an operator runs against any relay of links or of paired devices.
//!
//! [`cli`] turns arguments and files into [`scenario`]s; [`run`] makes a run of one with the workers of [`engine`];
//! [`mod@bench`] finds or starts the relay and watches; [`report`] tells what was found; [`mod@compare`] does all of it
//! for two relays in turn.

#![forbid(unsafe_code)]

mod bench;
mod cli;
mod compare;
mod cores;
mod dialect;
mod engine;
mod file;
mod machine;
mod meter;
mod mix;
mod plan;
mod progress;
mod relay_process;
mod report;
mod run;
mod scenario;
mod settings;
mod sizes;
mod soak;
mod target;

use std::process::ExitCode;

use clap::Parser;
use longsplice::driver::process::{self, Signals};

use crate::{
    bench::Bench,
    cli::{Cli, Command, CompareArgs, LoadArgs},
    compare::Rounds,
    report::{facts::Verdict, output::assemble},
    scenario::Scenario,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Compare(arguments) => compare(&arguments),
        load => load.scenarios().and_then(|(arguments, scenarios)| run_all(arguments, &scenarios)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::Usage(text)) => {
            eprintln!("error: {text}\n\nFor more information, try '--help'.");
            ExitCode::from(BAD_USAGE)
        }
        Err(Failure::Run(text)) => {
            eprintln!("longsplice-loadtest: {text}");
            ExitCode::FAILURE
        }
        Err(Failure::Abandoned) => ExitCode::from(INTERRUPTED),
    }
}

/// Why there is no report.
pub enum Failure {
    /// What was asked for cannot be: what, and what could.
    Usage(String),
    /// A run could not be made.
    Run(String),
    /// A second signal came: there is to be none.
    Abandoned,
}

/// Runs scenarios in their order; whether all passed.
fn run_all(arguments: &LoadArgs, scenarios: &[Scenario]) -> Result<bool, Failure> {
    let choice = arguments.relay.choice().map_err(Failure::Usage)?;
    arguments.output.check().map_err(Failure::Usage)?;
    let (signals, started) = begin()?;
    let bench = Bench::new(&arguments.cores, arguments.output.progress()).map_err(Failure::Usage)?;
    let (mut relays, mut runs, mut failure) = (Vec::new(), Vec::new(), None);
    for scenario in scenarios {
        // One that is started is started anew for each scenario, so that none inherits another's memory.
        let run = bench.place(&choice, scenario.dialect()).map_err(Failure::Usage).and_then(|mut relay| {
            relays.push(relay.description());
            bench.run(&mut relay, scenario, &scenario.name, &signals)
        });
        match run {
            Ok(run) => runs.push(run),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
        if runs.last().is_some_and(|run| run.was_interrupted) {
            break;
        }
    }
    relays.truncate(1);
    let passed = Verdict::of_all(&runs) != Verdict::Failed;
    if !runs.is_empty() {
        let cores = arguments.cores.generator_cores.as_ref().map(ToString::to_string);
        let report = assemble(started, cores, relays, runs);
        arguments.output.deliver(&report).map_err(Failure::Run)?;
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(passed),
    }
}

/// Compares two relays; whether all runs passed.
fn compare(arguments: &CompareArgs) -> Result<bool, Failure> {
    let scenarios = arguments.scenarios().map_err(Failure::Usage)?;
    arguments.output.check().map_err(Failure::Usage)?;
    let (signals, started) = begin()?;
    let bench = Bench::new(&arguments.cores, arguments.output.progress()).map_err(Failure::Usage)?;
    let sides = arguments.sides.choices();
    let Rounds { relays, runs, failure } =
        compare::run(&bench, &sides, &scenarios, arguments.sides.rounds, &signals);
    let passed = Verdict::of_all(&runs) != Verdict::Failed;
    if !runs.is_empty() {
        let cores = arguments.cores.generator_cores.as_ref().map(ToString::to_string);
        let report = assemble(started, cores, relays, runs);
        arguments.output.deliver(&report).map_err(Failure::Run)?;
    }
    failure.map_or(Ok(passed), Err)
}

/// What comes before the first thread.
fn begin() -> Result<(Signals, u64), Failure> {
    let signals =
        Signals::block().map_err(|error| Failure::Run(format!("signals cannot be blocked: {error}")))?;
    process::avoid_huge_pages();
    Ok((signals, machine::unix_ms()))
}

/// Of a program that SIGINT ended, as shells have it.
const INTERRUPTED: u8 = 130;
/// As `clap` has it.
const BAD_USAGE: u8 = 2;
