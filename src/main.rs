//! The `longsplice` binary: arguments, then boot, or one of the questions that it answers instead.

use std::{process::ExitCode, sync::Arc};

use longsplice::{
    boot,
    config::{Config, ConfigError, Outcome},
    doctor::{self, Verdict},
    driver::process::{self, Signals},
    health, logs,
    systemd::{self, Manager},
};

// A sanitizer sees only what its own allocator gives out (docs/TESTING.md).
#[cfg(not(system_allocator))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let environment = process::take_environment(systemd::VARIABLES);
    let config = match Config::load(std::env::args_os(), &environment, |path| std::fs::read_to_string(path)) {
        Ok(Outcome::Run(config)) => config,
        Ok(Outcome::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Outcome::Doctor { config, json }) => {
            let report = doctor::examine(&config);
            print!("{}", if json { report.json() } else { report.table() });
            return if report.verdict() == Verdict::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
        Ok(Outcome::Health { config, path }) => {
            return match health::ask(&config, path) {
                Ok(text) => {
                    println!("{text}");
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("longsplice: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        Err(error) => {
            eprintln!("longsplice: {error}");
            return ExitCode::from(ConfigError::EXIT_CODE);
        }
    };
    let ring = Arc::new(logs::Ring::new(config.workspace_max_logs as usize));
    let run = || {
        // Before the first thread, which is the log's: one that does not block them would end the process by them.
        let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
        logs::start(config.log_style(), &config.log_level, Arc::clone(&ring))
            .map_err(|error| format!("the log cannot be written: {error}"))?;
        boot::run(&config, &signals, &Manager::new(&environment, std::process::id())?, ring)
    };
    match run() {
        Ok(()) => {
            logs::flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            logs::write_last_line(&format!("longsplice: not started: {error}"));
            ExitCode::FAILURE
        }
    }
}
