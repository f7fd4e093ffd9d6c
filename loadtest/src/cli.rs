//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    Failure,
    bench::{Choice, CoresArgs},
    compare::SidesArgs,
    dialect::Dialect,
    file,
    report::output::OutputArgs,
    scenario::{Kind, Scenario},
    settings::Settings,
    target::Target,
};

/// Puts a relay of links or of paired devices under load and tells what it did and what it cost.
///
/// The relay's limits are part of what is measured. For loads beyond a few clients raise them, as the README says; for
/// longsplice: --link-ip-rate-per-min 0, and --link-relay-max-bps 0 unless its pacing is what is looked at; for `pair`
/// --pair-ip-rate-per-min 0.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// A closed loop: each client has one message under way, which its host answers. Round-trip times.
    Pingpong(LoadArgs),
    /// An open loop: each client sends at a set rate, whatever comes back. Latencies from the time at which a
    /// message was due, so that a stall counts for all messages behind it.
    Rate(LoadArgs),
    /// Clients send without a pause, hosts read.
    Stream(LoadArgs),
    /// Both ends send without a pause.
    Duplex(LoadArgs),
    /// Links are brought up and held idle, pings are answered; at the end each link carries one round trip. A relay
    /// that closes idle links has to be told to wait (longsplice: --link-relay-idle-sec).
    Hold(LoadArgs),
    /// Whole sessions: upgrade, resolve, dial-back, one message and its answer, close; each link begins anew at
    /// once. `--links` is how many are in progress at any time.
    Churn(LoadArgs),
    /// Streams that the relay holds to its cap (longsplice: --link-relay-max-bps): the rate of each link, and how
    /// the rates spread.
    Paced(LoadArgs),
    /// Some links of each pattern, by weight.
    Mixed(LoadArgs),
    /// All of it for long, and mishaps all along: resets at any moment, ends that stop reading or vanish, hosts that
    /// fall away, bad frames, half-open handshakes. Every byte is compared; the relay's memory, descriptors and
    /// registries are watched, must not grow after the warm-up, and must be as before when the load is gone (README).
    Soak(LoadArgs),
    /// Pairing sessions of two devices: each source has one base64 payload under way, which its target answers
    /// (round-trip times); or, with --measure pairings, whole pairings: create, join, introduce, one payload each way,
    /// close. Every payload is compared. `--links` is how many sessions there are at any time.
    Pair(LoadArgs),
    /// Runs the scenarios of files, in their order. Options given here win over the files'.
    Run(RunArgs),
    /// Runs a scenario on two relays in turn, several times, and compares them.
    Compare(CompareArgs),
}

/// Which relay.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Relay")]
pub struct RelayArgs {
    /// The relay's endpoint, over plain TCP. [default: ws://127.0.0.1:8080/v1/link; pair:
    /// ws://127.0.0.1:8080/pair]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// What hosts sign their registrations for: the relay's LINK_ORIGIN. [default: the URL's host and port]
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// The relay's process, where it runs on this machine already: its CPU time and memory are measured.
    #[arg(long, value_name = "PID", conflicts_with = "relay_cmd")]
    pub relay_pid: Option<u32>,
    /// Starts the relay for each scenario, and stops it afterwards. Words are split as in a shell, NAME=value in
    /// front sets variables, and {port} stands for a free port, here and in --url.
    #[arg(long, value_name = "CMD")]
    pub relay_cmd: Option<String>,
    /// Where the relay shows its metrics, in Prometheus' text form; a soak watches its gauges. {admin-port} stands for
    /// a second free port, here and in --relay-cmd. [default: http://127.0.0.1:{admin-port}/metrics where --relay-cmd
    /// has {admin-port}]
    #[arg(long, value_name = "URL")]
    pub metrics: Option<String>,
}

impl RelayArgs {
    /// The choice they make. Errors: a URL that is none.
    pub fn choice(&self) -> Result<Choice, String> {
        // One with a port to be filled in is looked at when the port is known.
        if let Some(url) = self.url.as_ref().filter(|url| !url.contains('{')) {
            Target::new(url, self.origin.as_deref(), Dialect::Link)?;
        }
        Ok(Choice {
            option: "--relay-cmd",
            command: self.relay_cmd.clone(),
            url: self.url.clone(),
            origin: self.origin.clone(),
            pid: self.relay_pid,
            metrics: self.metrics.clone(),
        })
    }
}

/// What every load takes.
#[derive(Args, Clone, Debug, Default)]
pub struct LoadArgs {
    #[command(flatten)]
    pub relay: RelayArgs,
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub cores: CoresArgs,
}

/// The arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Scenario files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub load: LoadArgs,
}

/// The arguments of `compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// A kind of load, such as pingpong, or a scenario file.
    #[arg(value_name = "KIND|FILE")]
    pub what: String,
    #[command(flatten)]
    pub sides: SidesArgs,
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub cores: CoresArgs,
}

impl CompareArgs {
    /// The scenarios to compare by.
    pub fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        match Kind::from_str(&self.what, false) {
            Ok(kind) => Ok(vec![Scenario::new(kind, None, &self.settings)?]),
            Err(_) if self.what.ends_with(".toml") => {
                let mut scenarios = file::read(self.what.as_ref(), &self.settings)?;
                file::tell_apart(&mut scenarios);
                Ok(scenarios)
            }
            Err(_) => Err(format!("{}: neither a kind of load nor a .toml file", self.what)),
        }
    }
}

impl Command {
    /// The scenarios of a load, complete and checked, and its other arguments.
    pub fn scenarios(&self) -> Result<(&LoadArgs, Vec<Scenario>), Failure> {
        let (kind, arguments) = match self {
            Command::Pingpong(arguments) => (Kind::Pingpong, arguments),
            Command::Rate(arguments) => (Kind::Rate, arguments),
            Command::Stream(arguments) => (Kind::Stream, arguments),
            Command::Duplex(arguments) => (Kind::Duplex, arguments),
            Command::Hold(arguments) => (Kind::Hold, arguments),
            Command::Churn(arguments) => (Kind::Churn, arguments),
            Command::Paced(arguments) => (Kind::Paced, arguments),
            Command::Mixed(arguments) => (Kind::Mixed, arguments),
            Command::Soak(arguments) => (Kind::Soak, arguments),
            Command::Pair(arguments) => (Kind::Pair, arguments),
            Command::Run(RunArgs { files, load }) => {
                let mut scenarios = Vec::new();
                for path in files {
                    scenarios.extend(file::read(path, &load.settings).map_err(Failure::Usage)?);
                }
                file::tell_apart(&mut scenarios);
                return Ok((load, scenarios));
            }
            Command::Compare(_) => unreachable!("a comparison is no load of one relay"),
        };
        let scenario = Scenario::new(kind, None, &arguments.settings).map_err(Failure::Usage)?;
        Ok((arguments, vec![scenario]))
    }
}

const EXIT_CODES: &str = "Exit codes: 0 all passed; 1 something was wrong, lost or refused, or a run could not be \
                          made; 2 bad usage.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        let scenarios = |line: &str| -> Result<usize, String> {
            let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
            match cli.command.scenarios() {
                Ok((_, scenarios)) => Ok(scenarios.len()),
                Err(Failure::Usage(text) | Failure::Run(text)) => Err(text),
                Err(Failure::Abandoned) => unreachable!("nothing runs"),
            }
        };
        assert_eq!(scenarios("x pingpong --links 10 --size 64..128 --verify all --mask zero"), Ok(1));
        assert_eq!(scenarios("x mixed --mix hold:1,stream:1 --rate 3"), Ok(1));
        assert_eq!(scenarios("x pair --links 3 --measure pairings --size 1KiB..2KiB"), Ok(1));
        for (line, said) in [
            ("x pingpong --links 0", "--links 0"),
            ("x churn --measure pairings", "--measure"),
            ("x pair --links-per-host 3", "--links-per-host"),
            ("x pair --size 12MiB", "11 MiB at most"),
            ("x pingpong --size 4", "--size"),
            ("x pingpong --rate 3", "--rate"),
            ("x hold --arrival burst", "--arrival"),
            ("x mixed --mix stream:1@3", "stream:1@3"),
            ("x stream --send-buffer 3", "--send-buffer 3"),
            ("x mixed --mix churn:1", "churn"),
            ("x hold --seconds 0", "--seconds 0"),
            ("x pingpong --relay-pid 1 --relay-cmd x", "--relay-cmd"),
            ("x run nowhere.toml", "nowhere.toml"),
        ] {
            let error = scenarios(line).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
