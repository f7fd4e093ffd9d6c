//! One scenario from start to end: starts the workers, leads them through the phases, gathers what they found.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use longsplice::driver::process::{self, Signal, Signals};

use crate::{
    engine::{self, Assignment, Board, Lead, PartTally, Sample, Stage, Tally, Times},
    mix,
    plan::Plan,
    report::model::{Latency, Part, Run, Setup, Spread, Tick, Totals},
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

    /// About once a second, from `LinksComingUp` on. What is filled in here (`relay_cores`, `relay_rss_bytes`) is
    /// kept in the run's series. While links come up, `at_seconds` is the time since the run began, below zero;
    /// the series says it as the model does.
    fn tick(&mut self, tick: &mut Tick);
}

/// Why a run could not be made. What merely went wrong within one is in its report.
#[derive(Debug)]
pub enum Error {
    /// This machine or its limits do not allow it: what, and the remedy.
    Machine(String),
    /// The relay cannot be reached or does not let links come up: what, and the remedy.
    Relay(String),
    /// A second signal: nobody waits for a report.
    Abandoned,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Machine(text) | Error::Relay(text) => out.write_str(text),
            Error::Abandoned => out.write_str("ended by a second signal"),
        }
    }
}

/// Runs a scenario against a relay. SIGINT or SIGTERM, taken from `signals`, ends the measured part early and still
/// gives a report (`Run::was_interrupted`); a second one ends the run without ([`Error::Abandoned`]).
///
/// What the relay and this program cost (`Run::cost`, `Run::generator`) is left empty: the observer knows.
pub fn run(
    scenario: &Scenario,
    target: &Target,
    signals: &Signals,
    observer: &mut dyn Observer,
) -> Result<Run, Error> {
    let limit = process::raise_descriptor_limit()
        .map_err(|error| Error::Machine(format!("the limit on descriptors cannot be read: {error}")))?;
    let plan = Plan::new(scenario, target, limit)?;
    observer.phase(Phase::LinksComingUp);
    let workers = Workers::start(scenario, target, &plan)?;
    let mut course = Course {
        signals,
        observer,
        boards: &workers.boards,
        began: Instant::now(),
        times: None,
        series: Vec::new(),
        ticked: 0,
        was_interrupted: false,
    };

    let led = course.lead(scenario, &workers.lead);
    workers.lead.set(Stage::Stop);
    let Course { series, was_interrupted, times, began, .. } = course;
    let boards = workers.boards.clone();
    let tally = workers.join(scenario);
    observer.phase(Phase::Over);
    let Led { links, setup, seconds } = led?;
    // What the boards showed when links were still coming up was a little behind.
    let links = if times.is_some() { links } else { links_up(&boards) };
    if links == 0 && !was_interrupted {
        let kinds: Vec<&str> = tally.errors.keys().map(String::as_str).collect();
        return Err(Error::Relay(format!("no link came up: {}", kinds.join(", "))));
    }
    let mut settings = scenario.settings();
    settings.insert("threads".to_owned(), plan.threads().to_string());
    // Until the traffic began, ticks were counted from the run's begin.
    let shift = times.map_or(0.0, |times| times.count.saturating_duration_since(began).as_secs_f64());
    let series = series.into_iter().map(|mut tick: Tick| {
        tick.at_seconds -= shift;
        tick
    });
    Ok(Run {
        scenario: scenario.name.clone(),
        settings,
        setup: Setup { links, seconds: setup.as_secs_f64(), connections: 2 * links + plan.hosts() },
        seconds: seconds.as_secs_f64(),
        latency: Latency::of(&tally.latency()),
        latency_of: latency_of(scenario).to_owned(),
        parts: parts(scenario, &tally),
        totals: Totals {
            messages: tally.parts.iter().map(|part| part.messages).sum(),
            payload_bytes: tally.parts.iter().map(|part| part.payload_bytes).sum(),
            sessions: tally.sessions,
            pings: tally.pings,
            errors: tally.errors,
        },
        series: series.collect(),
        rates: scenario.compares_links().then(|| spread(tally.rates)).flatten(),
        verification: tally.verification,
        was_interrupted,
        ..Run::default()
    })
}

/// The threads of a run.
struct Workers {
    lead: Arc<Lead>,
    boards: Vec<Arc<Board>>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Workers {
    fn start(scenario: &Scenario, target: &Target, plan: &Plan) -> Result<Workers, Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| Error::Machine(format!("no random bytes: {error}")))?;
        let (scenario, target) = (Arc::new(scenario.clone()), Arc::new(target.clone()));
        let count = plan.threads() as u32;
        let mut workers = Workers { lead: Arc::new(Lead::new()), boards: Vec::new(), threads: Vec::new() };
        for (number, part) in plan.parts.iter().enumerate() {
            let board = Arc::new(Board::new());
            workers.boards.push(Arc::clone(&board));
            let assignment = Assignment {
                scenario: Arc::clone(&scenario),
                target: Arc::clone(&target),
                lead: Arc::clone(&workers.lead),
                board,
                first_link: part.first_link,
                links: part.links,
                hosts: part.hosts,
                first_host: part.first_host,
                secret,
                sources: part.sources.clone(),
                handshakes: (scenario.handshakes / count).max(1),
                ramp: scenario.ramp.map(|ramp| ramp / f64::from(count)),
                needs_own_table: plan.needs_own_tables,
            };
            let thread = thread::Builder::new().name(format!("load-{number}"));
            match thread.spawn(move || engine::work(assignment)) {
                Ok(thread) => workers.threads.push(thread),
                Err(error) => {
                    workers.lead.set(Stage::Stop);
                    workers.join(&scenario);
                    return Err(Error::Machine(format!("no thread: {error}: raise ulimit -u")));
                }
            }
        }
        Ok(workers)
    }

    fn join(self, scenario: &Scenario) -> Tally {
        let mut all = Tally::new(scenario);
        for thread in self.threads {
            match thread.join() {
                Ok(tally) => all.add(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    }
}

/// A run on its way.
struct Course<'a> {
    signals: &'a Signals,
    observer: &'a mut dyn Observer,
    boards: &'a [Arc<Board>],
    began: Instant,
    times: Option<Times>,
    series: Vec<Tick>,
    /// Seconds for which a tick was made.
    ticked: u64,
    was_interrupted: bool,
}

/// How a run went.
struct Led {
    links: u64,
    setup: Duration,
    seconds: Duration,
}

impl Course<'_> {
    /// Leads the workers from their start to where they may be stopped.
    fn lead(&mut self, scenario: &Scenario, lead: &Lead) -> Result<Led, Error> {
        while !self.all(|board| board.is_set_up.load(Ordering::Acquire)) {
            if self.pass(PACE)? {
                self.was_interrupted = true;
                return Ok(Led {
                    links: self.links_up(),
                    setup: self.began.elapsed(),
                    seconds: Duration::ZERO,
                });
            }
        }
        let setup = self.began.elapsed();
        let links = self.links_up();
        let flow = Instant::now() + LEAD_TIME;
        let count = flow + scenario.warmup;
        let end = count + scenario.length;
        lead.flow(Times { flow, count, end });
        self.times = Some(Times { flow, count, end });
        while Instant::now() < count && !self.was_interrupted {
            self.was_interrupted = self.pass(PACE.min(count.saturating_duration_since(Instant::now())))?;
        }
        let begin = count.min(Instant::now());
        self.observer.phase(Phase::Measuring);
        while Instant::now() < end && !self.was_interrupted {
            self.was_interrupted = self.pass(PACE.min(end.saturating_duration_since(Instant::now())))?;
            if !scenario.churns() && links > 0 && self.links_up() == 0 {
                break;
            }
        }
        let seconds = begin.elapsed().min(scenario.length);
        self.observer.phase(Phase::Ending);
        lead.set(Stage::Drain);
        while !self.all(|board| board.is_drained.load(Ordering::Acquire)) {
            if self.pass(PACE)? {
                self.was_interrupted = true;
                break;
            }
        }
        Ok(Led { links, setup, seconds })
    }

    /// Waits for so long, with a tick if one is due; whether to end early. Errors: what a worker could not go on for,
    /// and a second signal.
    fn pass(&mut self, time: Duration) -> Result<bool, Error> {
        let is_interrupted = self.signals.wait(time) == Some(Signal::Stop);
        if is_interrupted && self.was_interrupted {
            return Err(Error::Abandoned);
        }
        if let Some(error) = self.boards.iter().find_map(|board| board.fatal.lock().take()) {
            return Err(error);
        }
        if self.began.elapsed().as_secs() > self.ticked {
            self.ticked = self.began.elapsed().as_secs();
            self.tick();
        }
        Ok(is_interrupted)
    }

    fn tick(&mut self) {
        let mut sum = Sample::new();
        for board in self.boards {
            let mut sample = board.sample.lock();
            sum.add(&sample);
            sum.links_up += sample.links_up;
            sample.clear();
        }
        let since_begin = self.began.elapsed().as_secs_f64();
        let at_seconds = match self.times {
            Some(times) => since_begin - times.count.saturating_duration_since(self.began).as_secs_f64(),
            None => -since_begin,
        };
        let at = |quantile| (!sum.latency.is_empty()).then(|| sum.latency.value_at_quantile(quantile));
        let mut tick = Tick {
            at_seconds,
            links_up: sum.links_up,
            messages: sum.messages,
            payload_bytes: sum.payload_bytes,
            errors: sum.errors,
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: (!sum.latency.is_empty()).then(|| sum.latency.max()),
            ..Tick::default()
        };
        self.observer.tick(&mut tick);
        tick.at_seconds = since_begin;
        self.series.push(tick);
    }

    fn all(&self, is_so: impl Fn(&Board) -> bool) -> bool {
        self.boards.iter().all(|board| is_so(board))
    }

    fn links_up(&self) -> u64 {
        links_up(self.boards)
    }
}

fn links_up(boards: &[Arc<Board>]) -> u64 {
    boards.iter().map(|board| board.sample.lock().links_up).sum()
}

/// What the run's latencies are.
fn latency_of(scenario: &Scenario) -> &'static str {
    let leading = scenario.parts.all().iter().find(|part| scenario.is_leading(part.pattern));
    leading.and_then(|part| scenario.latency_of(part.pattern)).unwrap_or("not measured")
}

/// What each part of a mixed load did.
fn parts(scenario: &Scenario, tally: &Tally) -> Vec<Part> {
    let parts = scenario.parts.all();
    if parts.len() < 2 {
        return Vec::new();
    }
    let mut links = vec![0; parts.len()];
    for link in 0..scenario.links {
        links[scenario.parts.number_of(link)] += 1;
    }
    let part = |((part, tally), links): ((&mix::Part, &PartTally), u64)| Part {
        name: part.name.clone(),
        links,
        messages: tally.messages,
        payload_bytes: tally.payload_bytes,
        latency: Latency::of(&tally.latency),
        latency_of: scenario.latency_of(part.pattern).unwrap_or("not measured").to_owned(),
    };
    parts.iter().zip(&tally.parts).zip(links).map(part).collect()
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (!values.is_empty()).then(|| Spread {
        links: values.len() as u64,
        min: at(0.0),
        p5: at(0.05),
        median: at(0.5),
        p95: at(0.95),
        max: at(1.0),
        mean: values.iter().sum::<f64>() / values.len() as f64,
    })
}

/// How often the coordinator looks.
const PACE: Duration = Duration::from_millis(20);
/// Longer than the workers take to see that the traffic begins.
const LEAD_TIME: Duration = Duration::from_millis(60);
