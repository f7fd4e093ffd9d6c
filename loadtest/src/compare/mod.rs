//! Two relays under the same load, in turn: A, B, A, B, each freshly started, so that what changes on the machine
//! meanwhile touches both alike.

mod measures;

use clap::Args;
use longsplice::driver::process::Signals;

pub use measures::{Outcome, comparisons};

use crate::{
    Failure,
    bench::{Bench, Choice},
    report::model::{Relay, Run},
    scenario::Scenario,
};

/// The two relays.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Relays")]
pub struct SidesArgs {
    /// Starts relay A. Words are split as in a shell, NAME=value in front sets variables, and {port} stands for a free
    /// port.
    #[arg(long, value_name = "CMD", required_unless_present = "a_url")]
    pub a: Option<String>,
    /// Starts relay B, likewise.
    #[arg(long, value_name = "CMD", required_unless_present = "b_url")]
    pub b: Option<String>,
    /// Where A is, if not at the loopback address and the free port (or 8080, where the command takes no port); {port}
    /// as above. Without --a, a relay that runs already, of which only what the generator sees is compared.
    #[arg(long, value_name = "URL")]
    pub a_url: Option<String>,
    /// Where B is, likewise.
    #[arg(long, value_name = "URL")]
    pub b_url: Option<String>,
    /// What hosts sign their registrations for, where it is not the URL's host.
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// How often each scenario runs on each relay, in turn: A, B, A, B.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
}

impl SidesArgs {
    /// What they choose.
    pub fn choices(&self) -> [Choice; 2] {
        let choice = |option, command: &Option<String>, url: &Option<String>| Choice {
            metrics: None,
            option,
            command: command.clone(),
            url: url.clone(),
            origin: self.origin.clone(),
            pid: None,
        };
        [choice("--a", &self.a, &self.a_url), choice("--b", &self.b, &self.b_url)]
    }
}

/// What became of a comparison.
pub struct Rounds {
    pub relays: Vec<Relay>,
    /// In their order, those before a failure included.
    pub runs: Vec<Run>,
    /// Why it ended early, other than by a signal.
    pub failure: Option<Failure>,
}

/// Runs every scenario `rounds` times on both. A signal ends the comparison after the run that it interrupts.
pub fn run(
    bench: &Bench,
    sides: &[Choice; 2],
    scenarios: &[Scenario],
    rounds: u32,
    signals: &Signals,
) -> Rounds {
    let mut relays: [Option<Relay>; 2] = [None, None];
    let (mut runs, mut failure) = (Vec::new(), None);
    'all: for scenario in scenarios {
        for round in 1..=rounds {
            for (place, (choice, label)) in sides.iter().zip(["A", "B"]).enumerate() {
                let title = format!("{} on {label}, round {round} of {rounds}", scenario.name);
                let done =
                    bench.place(choice, scenario.dialect()).map_err(Failure::Usage).and_then(|mut relay| {
                        let known = &mut relays[place];
                        known.get_or_insert_with(|| Relay {
                            label: Some(label.to_owned()),
                            ..relay.description()
                        });
                        bench.run(&mut relay, scenario, &title, signals)
                    });
                match done {
                    Ok(run) => runs.push(Run { relay: place, round: Some(round), ..run }),
                    Err(error) => {
                        failure = Some(error);
                        break 'all;
                    }
                }
                if runs.last().is_some_and(|run| run.was_interrupted) {
                    break 'all;
                }
            }
        }
    }
    Rounds { relays: relays.into_iter().flatten().collect(), runs, failure }
}
