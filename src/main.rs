//! The `longsplice` binary: arguments, then boot.

use std::{collections::BTreeMap, process::ExitCode};

use longsplice::{
    boot,
    config::{Config, ConfigError, Outcome},
    logs,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = match Config::load(std::env::args_os(), &environment, |path| std::fs::read_to_string(path)) {
        Ok(Outcome::Run(config)) => config,
        Ok(Outcome::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("longsplice: {error}");
            return ExitCode::from(ConfigError::EXIT_CODE);
        }
    };
    logs::start(config.log_format, &config.log_level);
    match boot::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longsplice: not started: {error}");
            ExitCode::FAILURE
        }
    }
}
