//! Where relays are measured: which cores are whose, which relay is under load, and one run with everything that
//! watches it.

use std::{io::Stderr, time::Duration};

use clap::Args;
use longsplice::driver::process::Signals;

use crate::{
    Failure,
    cores::Cores,
    dialect::Dialect,
    meter::Meter,
    progress::{How, Progress},
    relay_process::{self, Launch, Started},
    report::model::{Relay, Run, Soak, Tick},
    run::{self, Observer, Phase},
    scenario::Scenario,
    soak::{Endpoint, Sampler},
    target::Target,
};

/// Which cores are whose. Without these nothing is bound, and relay and generator take cores from each other.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cores")]
pub struct CoresArgs {
    /// Cores that started relays may run on, as `taskset -c` takes them: 0, 0-3, 0,2-3.
    #[arg(long, value_name = "CORES")]
    pub relay_cores: Option<Cores>,
    /// Cores that this program may run on.
    #[arg(long, value_name = "CORES")]
    pub generator_cores: Option<Cores>,
}

/// Which relay to put under load.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The option that `command` came from, for error messages.
    pub option: &'static str,
    /// Starts it; `{port}` stands for a free port.
    pub command: Option<String>,
    /// Where it is; `{port}` as above. Without it, the loopback address and the free port, or else port 8080.
    pub url: Option<String>,
    /// What hosts sign for, where it is not the URL's host.
    pub origin: Option<String>,
    /// Its process, where it runs already.
    pub pid: Option<u32>,
    /// Where it shows its metrics; `{admin-port}` stands for a free port.
    pub metrics: Option<String>,
}

/// A relay that serves, started if it had to be. Dropping it stops what was started.
#[derive(Debug)]
pub struct Placed {
    pub target: Target,
    started: Option<Started>,
    description: Relay,
    metrics: Option<Endpoint>,
}

impl Placed {
    /// For the report.
    pub fn description(&self) -> Relay {
        self.description.clone()
    }
}

/// The machine as it is dealt out. Holds for the whole invocation.
#[derive(Debug)]
pub struct Bench {
    /// For relays: those asked for, or all that this program could use when it was started.
    relay_cores: Cores,
    is_relay_bound: bool,
    how: How,
}

impl Bench {
    /// Binds this thread, and with it those that it starts, to the generator's cores. Errors: cores that are not there.
    pub fn new(cores: &CoresArgs, how: How) -> Result<Bench, String> {
        let all = Cores::allowed()
            .map_err(|error| format!("the kernel does not say which cores may be used: {error}"))?;
        for (option, wanted) in [("relay", &cores.relay_cores), ("generator", &cores.generator_cores)] {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| !wanted.are_among(&all)) {
                return Err(format!("--{option}-cores {wanted}: only cores {all} may be used here"));
            }
        }
        if let Some(cores) = &cores.generator_cores {
            cores.bind().map_err(|error| format!("--generator-cores {cores}: {error}"))?;
        }
        Ok(Bench {
            is_relay_bound: cores.relay_cores.is_some(),
            relay_cores: cores.relay_cores.clone().unwrap_or(all),
            how,
        })
    }

    /// Starts the relay where a command is given. Errors: what is wrong and what to do.
    pub fn place(&self, choice: &Choice, dialect: Dialect) -> Result<Placed, String> {
        let port = relay_process::free_port().map_err(|error| format!("there is no free port: {error}"))?;
        let admin = relay_process::free_port().map_err(|error| format!("there is no free port: {error}"))?;
        let fill =
            |text: &String| text.replace(PORT, &port.to_string()).replace(ADMIN_PORT, &admin.to_string());
        let has_admin = choice.command.as_ref().is_some_and(|command| command.contains(ADMIN_PORT));
        let metrics =
            choice.metrics.clone().or(has_admin.then(|| format!("http://127.0.0.1:{ADMIN_PORT}/metrics")));
        let metrics = metrics.as_ref().map(fill).map(|url| Endpoint::new(&url)).transpose()?;
        let takes_port = choice.command.as_ref().is_some_and(|command| command.contains(PORT));
        let url = match &choice.url {
            Some(url) => fill(url),
            None => {
                let port = if takes_port { port } else { DEFAULT_PORT };
                format!("ws://127.0.0.1:{port}{}", dialect.path())
            }
        };
        let target = Target::new(&url, choice.origin.as_deref(), dialect)?;
        let started = match choice.command.as_ref().map(fill) {
            None => None,
            Some(command) => Some(
                Launch {
                    option: choice.option,
                    command: &command,
                    address: target.address,
                    cores: &self.relay_cores,
                }
                .start()?,
            ),
        };
        if let Some(pid) = choice.pid {
            relay_process::check(pid)?;
        }
        let pid = started.as_ref().map(Started::pid).or(choice.pid);
        // One that runs already may have been bound by another.
        let is_bound = self.is_relay_bound || started.is_none();
        let cores = pid.filter(|_| is_bound).and_then(relay_process::bound_to);
        let description = Relay {
            label: None,
            url: choice.url.clone().unwrap_or(url),
            command: choice.command.clone(),
            pid,
            cores: cores.map(|cores| cores.to_string()),
            version: pid.and_then(relay_process::version),
        };
        Ok(Placed { target, started, description, metrics })
    }

    /// One run, told of as it goes and measured. Errors: one that could not be made, a relay that ended under it, or a
    /// second signal, upon which a relay that was started is stopped at once.
    pub fn run(
        &self,
        relay: &mut Placed,
        scenario: &Scenario,
        title: &str,
        signals: &Signals,
    ) -> Result<Run, Failure> {
        let settle = scenario.hardship.as_ref().map_or(Duration::ZERO, |hardship| hardship.settle);
        let sampler = match &scenario.hardship {
            None => None,
            Some(_) => {
                let every =
                    Duration::from_secs_f64((scenario.length.as_secs_f64() / SAMPLES_MIN).clamp(0.05, 1.0));
                Some(
                    Sampler::start(relay.description.pid, relay.metrics.clone(), every)
                        .map_err(Failure::Run)?,
                )
            }
        };
        let mut watch = Watch {
            sampler,
            meter: Meter::new(relay.description.pid),
            progress: Progress::new(std::io::stderr(), self.how, title, scenario.length.as_secs_f64()),
        };
        let outcome = run::run(scenario, &relay.target, signals, &mut watch);
        if let Err(run::Error::Abandoned) = outcome {
            if let Some(started) = &mut relay.started {
                started.stop_at_once();
            }
            return Err(Failure::Abandoned);
        }
        if let Some(started) = &mut relay.started {
            started.check().map_err(Failure::Run)?;
        }
        let mut run = outcome.map_err(|error| Failure::Run(error.to_string()))?;
        watch.meter.finish(&mut run);
        if let (Some(sampler), Some(soak)) = (watch.sampler, &mut run.soak) {
            let mishaps = std::mem::take(&mut soak.mishaps);
            *soak = Soak { mishaps, ..sampler.finish(settle, signals) };
        }
        Ok(run)
    }
}

/// Everything that watches a run.
struct Watch {
    meter: Meter,
    progress: Progress<Stderr>,
    /// Of a soak.
    sampler: Option<Sampler>,
}

impl Observer for Watch {
    fn phase(&mut self, phase: Phase) {
        match (&mut self.sampler, phase) {
            (Some(sampler), Phase::Measuring) => sampler.measured_begins(),
            (Some(sampler), Phase::Ending) => sampler.measured_ends(),
            _ => {}
        }
        self.meter.phase(phase);
        self.progress.phase(phase);
    }

    fn tick(&mut self, tick: &mut Tick) {
        self.meter.tick(tick);
        self.progress.tick(tick);
    }
}

/// Where a relay listens that was not told otherwise.
const DEFAULT_PORT: u16 = 8080;
const PORT: &str = "{port}";
const ADMIN_PORT: &str = "{admin-port}";
/// Samples of a soak, unless it is long enough for more.
const SAMPLES_MIN: f64 = 120.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_that_are_not_there_are_refused() {
        let cores = CoresArgs { relay_cores: Some("1000".parse().expect("cores")), generator_cores: None };
        let error = Bench::new(&cores, How::Quiet).expect_err("no machine has it");
        assert!(error.contains("--relay-cores 1000") && error.contains("may be used"), "{error}");
    }

    #[test]
    fn a_relay_that_is_not_started_is_taken_as_it_is() {
        let bench = Bench::new(&CoresArgs::default(), How::Quiet).expect("nothing is bound");
        let choice = Choice { url: Some("ws://127.0.0.1:1/x".to_owned()), ..Choice::default() };
        let placed = bench.place(&choice, Dialect::Link).expect("nothing is dialled yet");
        assert_eq!((placed.target.address.port(), placed.description().pid), (1, None));
        let gone = Choice { pid: Some(u32::MAX >> 2), ..choice };
        assert!(bench.place(&gone, Dialect::Link).expect_err("no such process").contains("--relay-pid"));
    }
}
