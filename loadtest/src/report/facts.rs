//! What a report says in words and numbers, once for all of its forms.

use super::{
    model::{Cost, Each, Latency, Machine, Part, Relay, Report, Run, Soak, Watched},
    units,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    /// Ended by a signal; nothing was wrong until then.
    Interrupted,
}

impl Verdict {
    /// Of one run.
    pub fn of(run: &Run) -> Verdict {
        match (run.passed(), run.was_interrupted) {
            (false, _) => Verdict::Failed,
            (true, true) => Verdict::Interrupted,
            (true, false) => Verdict::Passed,
        }
    }

    /// Of a whole report: the worst of its runs.
    pub fn of_all(runs: &[Run]) -> Verdict {
        let verdicts: Vec<_> = runs.iter().map(Verdict::of).collect();
        let any = |verdict| verdicts.contains(&verdict);
        match (any(Verdict::Failed), any(Verdict::Interrupted)) {
            (true, _) => Verdict::Failed,
            (false, true) => Verdict::Interrupted,
            (false, false) => Verdict::Passed,
        }
    }

    /// As a word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Interrupted => "interrupted",
        }
    }
}

/// The name of a run among the others of its report: with the relay and the round, where two are compared.
pub fn title(report: &Report, run: &Run) -> String {
    let label = report.relays.get(run.relay).and_then(|relay| relay.label.as_deref());
    match (label, run.round) {
        (Some(label), Some(round)) => format!("{} on {label}, round {round}", run.scenario),
        (Some(label), None) => format!("{} on {label}", run.scenario),
        (None, _) => run.scenario.clone(),
    }
}

/// Where everything ran.
pub fn surroundings(report: &Report) -> Vec<(String, String)> {
    let mut facts = vec![("machine".to_owned(), machine(&report.machine))];
    for relay in &report.relays {
        let name = relay.label.as_ref().map_or_else(|| "relay".to_owned(), |label| format!("relay {label}"));
        facts.push((name, describe_relay(relay)));
    }
    let bound =
        report.generator_cores.as_ref().map_or_else(unbound, |cores| format!("pinned to cores {cores}"));
    facts.push(("generator".to_owned(), format!("{}, {bound}", report.generator)));
    facts.push(("started".to_owned(), units::moment(report.started_unix_ms)));
    facts
}

/// The columns of the summary: for each its heading, and the value for a run.
pub fn summary(run: &Run) -> Vec<(&'static str, String)> {
    let dash = || "-".to_owned();
    let latency =
        |percentile| run.latency.as_ref().and_then(|latency| at(latency, percentile)).map_or_else(dash, us);
    let cost = run.cost.as_ref();
    let cpu = cost
        .and_then(|cost| main_cost(&cost.cpu))
        .map_or_else(dash, |(value, unit)| format!("{} {}", units::number(value), unit));
    let rss = cost.and_then(|cost| cost.rss_per_connection_bytes).map_or_else(dash, units::memory);
    let rate = |count: u64| match count {
        0 => dash(),
        _ => units::number(per_second(run, count)),
    };
    vec![
        ("links", units::count(run.setup.links)),
        ("messages/s", rate(run.totals.messages)),
        (
            "payload",
            match run.totals.payload_bytes {
                0 => dash(),
                bytes => units::byte_rate(per_second(run, bytes)),
            },
        ),
        ("sessions/s", rate(run.totals.sessions)),
        ("p50", latency(50.0)),
        ("p99", latency(99.0)),
        ("p99.9", latency(99.9)),
        ("max", run.latency.as_ref().map_or_else(dash, |latency| us(latency.max_us))),
        ("relay CPU", cpu),
        ("RSS/connection", rss),
    ]
}

/// Everything about one run, for each its name.
pub fn of_run(run: &Run) -> Vec<(&'static str, String)> {
    let mut facts = vec![("links", links(run)), ("throughput", throughput(run))];
    if run.totals.sessions > 0 {
        let rate = units::number(per_second(run, run.totals.sessions));
        facts.push(("sessions", format!("{} ({rate}/s)", units::count(run.totals.sessions))));
    }
    if run.totals.pings > 0 {
        facts.push(("pings", format!("{} answered", units::count(run.totals.pings))));
    }
    if let Some(latency) = &run.latency {
        facts.push(("latency", latency_line(latency, &run.latency_of)));
    }
    facts.extend(run.parts.iter().map(|part| ("part", part_line(run, part))));
    if let Some(rates) = &run.rates {
        let rate = units::byte_rate;
        facts.push((
            "rate of a link",
            format!(
                "median {}, p5 {}, p95 {}, min {}, max {}",
                rate(rates.median),
                rate(rates.p5),
                rate(rates.p95),
                rate(rates.min),
                rate(rates.max)
            ),
        ));
    }
    if let Some(soak) = &run.soak {
        facts.extend(soak_facts(soak));
    }
    match &run.cost {
        Some(cost) => facts.extend(cost_facts(cost, run.seconds)),
        None => facts.push(("relay's cost", NO_PROCESS.to_owned())),
    }
    facts.push((
        "generator",
        format!(
            "{} cores; busiest thread {} of a core",
            units::number(run.generator.cores),
            share(run.generator.busiest_thread)
        ),
    ));
    facts.push((
        "verified",
        format!(
            "order and length of {} messages, every byte of {}",
            units::count(run.verification.messages),
            units::traffic(run.verification.payload_bytes as f64)
        ),
    ));
    facts
}

/// What a reader has to know before believing the numbers.
pub fn cautions(run: &Run) -> Vec<String> {
    let mut cautions = Vec::new();
    if run.was_interrupted {
        cautions.push(format!("Ended by a signal after {} of measuring.", units::seconds(run.seconds)));
    }
    for part in run.parts.iter().filter(|part| part.links == 0) {
        let links = units::count(run.setup.links);
        cautions.push(format!("No link fell to {}: its weight is too small for {links} links.", part.name));
    }
    if run.generator.busiest_thread >= BOTTLENECK {
        cautions.push(format!(
            "The generator was the bottleneck, or close to it: its busiest thread used {} of a core. Give it more \
             threads, or a machine of its own.",
            share(run.generator.busiest_thread)
        ));
    }
    cautions.extend(run.soak.as_ref().map_or_else(Vec::new, soak_cautions));
    cautions
}

/// What failed: errors by kind, then verification.
pub fn failures(run: &Run) -> Vec<String> {
    let errors = run.totals.errors.iter().map(|(kind, count)| format!("{} × {kind}", units::count(*count)));
    let watched = run.soak.iter().flat_map(|soak| soak.watched.iter().flat_map(unsteady));
    errors.chain(run.verification.failures.iter().cloned()).chain(watched).collect()
}

/// A value of a series of a soak.
pub fn watched_value(watched: &Watched, value: f64) -> String {
    match watched.unit.as_str() {
        "bytes" => units::memory(value),
        _ => units::number(value),
    }
}

/// A change of such a value, with its sign.
pub fn signed(watched: &Watched, change: f64) -> String {
    let sign = if change < 0.0 { "-" } else { "+" };
    format!("{sign}{}", watched_value(watched, change.abs()))
}

/// The latency at a percentile, if there is any.
pub fn at(latency: &Latency, percentile: f64) -> Option<u64> {
    let found = latency.percentiles.iter().find(|(place, _)| *place >= percentile - 1e-9);
    found.map(|(_, us)| *us)
}

/// Of what passed in the measured part, so much a second.
pub fn per_second(run: &Run, count: u64) -> f64 {
    if run.seconds > 0.0 { count as f64 / run.seconds } else { 0.0 }
}

/// Said where the relay's process is not known.
pub const NO_PROCESS: &str = "not measured: --relay-pid or --relay-cmd names its process";

/// Said where a soak was too short for a verdict.
const NOTHING_JUDGED: &str =
    "Whether anything grew was not judged: there are too few samples. Give it more --seconds.";

/// A thread that runs this much of the time has no reserve.
pub const BOTTLENECK: f64 = 0.95;

/// The measure that suits what came through: sessions where there were any, else messages.
fn main_cost(each: &Each) -> Option<(f64, &'static str)> {
    let session = each.us_per_session.map(|us| (us, "µs/session"));
    session.or(each.us_per_message.map(|us| (us, "µs/msg")))
}

fn machine(machine: &Machine) -> String {
    let cpu = if machine.cpu.is_empty() { "unknown CPU" } else { &machine.cpu };
    format!(
        "{cpu}, {} cores{}, {}, Linux {}",
        machine.cores,
        if machine.is_virtual { " (virtual)" } else { "" },
        units::memory(machine.memory_bytes as f64),
        machine.kernel
    )
}

fn describe_relay(relay: &Relay) -> String {
    let mut parts = vec![relay.url.clone()];
    parts.extend(relay.version.clone());
    parts.extend(relay.command.as_ref().map(|command| format!("started by `{command}`")));
    parts.extend(relay.pid.filter(|_| relay.command.is_none()).map(|pid| format!("process {pid}")));
    if relay.command.is_some() || relay.pid.is_some() {
        parts.push(relay.cores.as_ref().map_or_else(unbound, |cores| format!("pinned to cores {cores}")));
    }
    parts.join(", ")
}

fn unbound() -> String {
    "not pinned".to_owned()
}

fn links(run: &Run) -> String {
    let mut text =
        format!("{} up within {}", units::count(run.setup.links), units::seconds(run.setup.seconds));
    if run.setup.connections > 0 {
        text += &format!(", {} connections", units::count(run.setup.connections));
    }
    text
}

fn throughput(run: &Run) -> String {
    let within = units::seconds(run.seconds);
    if run.totals.messages == 0 {
        return format!("no messages within {within}");
    }
    format!(
        "{} messages/s, {} ({} messages, {} within {within})",
        units::number(per_second(run, run.totals.messages)),
        units::byte_rate(per_second(run, run.totals.payload_bytes)),
        units::count(run.totals.messages),
        units::traffic(run.totals.payload_bytes as f64),
    )
}

fn part_line(run: &Run, part: &Part) -> String {
    let mut line = format!("{}: {} links", part.name, units::count(part.links));
    if part.messages > 0 {
        let messages = units::number(per_second(run, part.messages));
        let payload = units::byte_rate(per_second(run, part.payload_bytes));
        line += &format!(", {messages} messages/s, {payload}");
    }
    if let Some(latency) = &part.latency {
        line += &format!(", {}", latency_line(latency, &part.latency_of));
    }
    line
}

fn latency_line(latency: &Latency, of: &str) -> String {
    let mut parts = Vec::new();
    for place in [50.0, 90.0, 99.0, 99.9, 99.99] {
        // A percentile that fewer than ten values lie above says nothing but the maximum.
        let above = latency.count as f64 * (1.0 - place / 100.0);
        if let (Some(value), true) = (at(latency, place), above >= 10.0) {
            parts.push(format!("{} {}", units::percentile(place), us(value)));
        }
    }
    parts.push(format!("max {}", us(latency.max_us)));
    format!("{} ({of}, {} values)", parts.join(", "), units::count(latency.count))
}

fn cost_facts(cost: &Cost, seconds: f64) -> Vec<(&'static str, String)> {
    let mut facts = vec![("relay CPU", cpu_line(cost, seconds))];
    let with = each(&cost.cpu_with_softirq).join(", ");
    if !with.is_empty() {
        let with = format!(
            "{with} (soft interrupts of {}: {})",
            cost.softirq_of,
            units::seconds(cost.softirq_seconds)
        );
        facts.push(("with softirq", with));
    }
    let mut memory = format!("{} RSS with all links up", units::memory(cost.rss_up_bytes as f64));
    if let Some(pss) = cost.pss_up_bytes {
        memory += &format!(" ({} PSS)", units::memory(pss as f64));
    }
    memory += &format!(", {} before", units::memory(cost.rss_before_bytes as f64));
    if cost.rss_after_bytes > 0 {
        memory += &format!(", {} after", units::memory(cost.rss_after_bytes as f64));
    }
    if let Some(each) = cost.rss_per_connection_bytes {
        memory += &format!("; {} a connection", units::memory(each));
    }
    facts.push(("relay memory", memory));
    let mut kernel = match cost.slab_per_socket_bytes {
        Some(slab) => format!("{} of slab a socket ({}), ", units::memory(slab), cost.slab_source),
        None => String::new(),
    };
    kernel += &format!("TCP buffers {}", units::memory(cost.tcp_buffers_up_bytes as f64));
    facts.push(("kernel memory", format!("{kernel}; all sockets of the machine, the generator's included")));
    facts
}

fn soak_facts(soak: &Soak) -> Vec<(&'static str, String)> {
    let made: u64 = soak.mishaps.values().sum();
    let kinds = soak.mishaps.len();
    let mut facts = vec![("mishaps", format!("{} of {kinds} kinds made to happen", units::count(made)))];
    for watched in &soak.watched {
        let Some(growth) = &watched.growth else { continue };
        let quarters: Vec<_> = growth.quarters.iter().map(|value| watched_value(watched, *value)).collect();
        let text = format!(
            "{}: medians of the quarters {}; {} an hour",
            watched.name,
            quarters.join(", "),
            signed(watched, growth.per_hour)
        );
        facts.push(("watched", text));
    }
    facts.push(("rest", format!("waited for {} once the load was gone", units::seconds(soak.rest_seconds))));
    facts
}

fn soak_cautions(soak: &Soak) -> Vec<String> {
    let mut cautions = Vec::new();
    if soak.watched.iter().all(|watched| watched.growth.is_none()) {
        cautions.push(NOTHING_JUDGED.to_owned());
    }
    if !soak.watched.iter().any(|watched| watched.name == "connections") {
        cautions.push("The relay's gauges were not watched: --metrics names where they are.".to_owned());
    }
    if soak.unanswered > 0 {
        cautions
            .push(format!("The relay's metrics were not answered {} times.", units::count(soak.unanswered)));
    }
    cautions
}

/// What is wrong with a series of a soak.
fn unsteady(watched: &Watched) -> Vec<String> {
    let value = |value: f64| watched_value(watched, value);
    let mut wrong = Vec::new();
    if let Some(growth) = watched.growth.filter(|growth| growth.is_growing) {
        let quarters: Vec<_> = growth.quarters.iter().map(|quarter| value(*quarter)).collect();
        wrong.push(format!(
            "{} grew: medians of the quarters {}, {} an hour, where {} in all are allowed",
            watched.name,
            quarters.join(", "),
            signed(watched, growth.per_hour),
            value(growth.tolerance)
        ));
    }
    if let Some(rest) = watched.rest.filter(|rest| !rest.is_back) {
        let after = rest.after.map_or_else(|| "unknown".to_owned(), value);
        wrong.push(format!(
            "{} did not come to rest: {after} without load, {} before it",
            watched.name,
            value(rest.before)
        ));
    }
    wrong
}

fn cpu_line(cost: &Cost, seconds: f64) -> String {
    let used = cost.user_seconds + cost.system_seconds;
    let mut parts = each(&cost.cpu);
    parts.push(format!(
        "{} cores ({} user, {} system)",
        units::number(if seconds > 0.0 { used / seconds } else { 0.0 }),
        units::seconds(cost.user_seconds),
        units::seconds(cost.system_seconds)
    ));
    parts.join(", ")
}

fn each(each: &Each) -> Vec<String> {
    let parts = [
        each.us_per_message.map(|us| format!("{} µs/message", units::number(us))),
        each.ns_per_byte.map(|ns| format!("{} ns/byte", units::number(ns))),
        each.us_per_session.map(|us| format!("{} µs/session", units::number(us))),
    ];
    parts.into_iter().flatten().collect()
}

fn us(value: u64) -> String {
    units::micros(value as f64)
}

fn share(value: f64) -> String {
    format!("{:.0} %", value * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_run_fails_for_errors_and_for_what_arrived_wrong() {
        let good = sample::run("pingpong");
        assert_eq!(Verdict::of(&good), Verdict::Passed);
        let mut wrong = good.clone();
        wrong.verification.failures.push("link 3: message 7 arrived twice".to_owned());
        assert_eq!(Verdict::of(&wrong), Verdict::Failed);
        let mut refused = Run { was_interrupted: true, ..good.clone() };
        assert_eq!(Verdict::of(&refused), Verdict::Interrupted);
        refused.totals.errors.insert("refused".to_owned(), 1200);
        assert_eq!(Verdict::of(&refused), Verdict::Failed, "a failure weighs more than the signal");
        assert_eq!(failures(&refused), ["1,200 × refused"]);
        assert_eq!(Verdict::of_all(&[good.clone(), wrong]), Verdict::Failed);
        assert_eq!(Verdict::of_all(&[good]), Verdict::Passed);
    }

    #[test]
    fn the_summary_has_a_dash_for_what_was_not_measured() {
        let bare = Run { scenario: "hold".to_owned(), ..Run::default() };
        let values = summary(&bare);
        assert!(values.iter().skip(1).all(|(_, value)| value == "-"), "{values:?}");
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            summary(&sample::run("pingpong")).iter().map(|(name, _)| *name).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_busy_generator_is_told_of() {
        let mut run = sample::run("pingpong");
        run.generator.busiest_thread = 0.5;
        assert!(cautions(&run).is_empty());
        run.generator.busiest_thread = 0.99;
        assert!(cautions(&run)[0].contains("99 %"));
    }

    #[test]
    fn each_part_of_a_mix_is_told_by_itself() {
        let latency = sample::run("mixed").latency;
        let part = |name: &str, links, latency| Part {
            name: name.to_owned(),
            links,
            messages: 10 * links,
            payload_bytes: 1280 * links,
            latency,
            latency_of: "round trip".to_owned(),
        };
        let parts = vec![part("pingpong:9@128", 900, latency), part("stream:1", 0, None)];
        let run = Run { parts, ..sample::run("mixed") };
        let lines: Vec<String> =
            of_run(&run).into_iter().filter(|(name, _)| *name == "part").map(|(_, line)| line).collect();
        assert!(
            lines[0].starts_with("pingpong:9@128: 900 links, 900 messages/s, 115 kB/s, p50 "),
            "{lines:?}"
        );
        assert_eq!(lines[1], "stream:1: 0 links");
        assert!(cautions(&run)[0].contains("No link fell to stream:1"), "{:?}", cautions(&run));
    }

    #[test]
    fn percentiles_are_told_as_far_as_there_are_values() {
        let mut latency = sample::run("pingpong").latency.expect("it has one");
        latency.count = 1_000_000;
        assert!(latency_line(&latency, "round trip").contains("p99.99 "));
        latency.count = 1000;
        let line = latency_line(&latency, "round trip");
        assert!(line.contains("p99 ") && !line.contains("p99.9 "), "{line}");
    }
}
