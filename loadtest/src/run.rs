//! One scenario from start to end: starts the workers, leads them through the phases, gathers what they found.

use std::fmt;

use longsplice::driver::process::Signals;

use crate::{
    report::model::{Run, Tick},
    scenario::Scenario,
    target::Target,
};

/// Where a run is. Each is announced as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is connected yet; links come up from now on.
    LinksComingUp,
    /// All links are up; what is counted begins.
    Measuring,
    /// The measured part is over, every link still up; what is under way arrives, then all is closed.
    Ending,
    /// All is closed.
    Over,
}

/// Watches a run, for progress and for samples of the relay's process. Called on the thread that called [`run`].
pub trait Observer {
    /// A phase begins.
    fn phase(&mut self, phase: Phase);

    /// About once a second, from `LinksComingUp` on. What is filled in here (`relay_cores`, `relay_rss_bytes`) is kept
    /// in the run's series.
    fn tick(&mut self, tick: &mut Tick);
}

/// Why a run could not be made. What merely went wrong within one is in its report.
#[derive(Debug)]
pub enum Error {
    /// This machine or its limits do not allow it: what, and the remedy.
    Machine(String),
    /// The relay cannot be reached or does not let links come up: what, and the remedy.
    Relay(String),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Machine(text) | Error::Relay(text) => out.write_str(text),
        }
    }
}

/// Runs a scenario against a relay. SIGINT or SIGTERM, taken from `signals`, ends the measured part early and still
/// gives a report (`Run::was_interrupted`); a second one ends the process.
///
/// `Run::cost` is left empty: it is the observer who knows the relay's process.
pub fn run(
    scenario: &Scenario,
    target: &Target,
    signals: &Signals,
    observer: &mut dyn Observer,
) -> Result<Run, Error> {
    let _ = (scenario, target, signals, observer);
    Err(Error::Machine("the engine is not there yet".to_owned()))
}
