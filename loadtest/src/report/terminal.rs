//! The report as text for a terminal.

use std::io::IsTerminal;

use super::{
    facts::{self, Verdict},
    model::{Comparison, Measure, Report, Run},
    table::Table,
    units,
};
use crate::compare::Outcome;

/// Whether and how to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    #[cfg(test)]
    const NONE: Paint = Paint(false);

    /// For standard output: only on a terminal, and not where `NO_COLOR` (no-color.org) forbids it.
    pub fn for_stdout() -> Paint {
        let is_forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint(std::io::stdout().is_terminal() && !is_forbidden)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn caution(self, text: &str) -> String {
        self.with("33", text)
    }
}

/// The whole report.
pub fn render(report: &Report, paint: Paint) -> String {
    let mut lines = Vec::new();
    facts_lines(
        &mut lines,
        facts::surroundings(report).iter().map(|(name, fact)| (name.as_str(), fact)),
        paint,
    );
    if report.comparisons.is_empty() {
        for run in &report.runs {
            lines.push(String::new());
            run_lines(&mut lines, report, run, paint);
        }
    }
    if report.runs.len() > 1 {
        lines.push(String::new());
        lines.extend(summary(report).lines());
        for run in &report.runs {
            if Verdict::of(run) == Verdict::Failed && !report.comparisons.is_empty() {
                lines.push(format!("{} {}", facts::title(report, run), paint.bad("failed")));
                lines.extend(facts::failures(run).iter().map(|failure| format!("  {}", paint.bad(failure))));
            }
        }
    }
    for comparison in &report.comparisons {
        lines.push(String::new());
        comparison_lines(&mut lines, report, comparison, paint);
    }
    lines.push(String::new());
    lines.join("\n")
}

fn summary(report: &Report) -> Table {
    let headings = report.runs.first().map(facts::summary).unwrap_or_default();
    let mut table =
        Table::new(["run"].into_iter().chain(headings.iter().map(|(name, _)| *name)).chain(["verdict"]));
    for run in &report.runs {
        let values = facts::summary(run).into_iter().map(|(_, value)| value);
        let verdict = Verdict::of(run).word().to_owned();
        table.row([facts::title(report, run)].into_iter().chain(values).chain([verdict]));
    }
    table.without_empty_columns()
}

fn run_lines(lines: &mut Vec<String>, report: &Report, run: &Run, paint: Paint) {
    let verdict = match Verdict::of(run) {
        Verdict::Passed => paint.good("passed"),
        Verdict::Failed => paint.bad("FAILED"),
        Verdict::Interrupted => paint.caution("interrupted"),
    };
    lines.push(format!("{}: {verdict}", paint.bold(&facts::title(report, run))));
    let facts = facts::of_run(run);
    facts_lines(lines, facts.iter().map(|(name, fact)| (*name, fact)), paint);
    for caution in facts::cautions(run) {
        lines.push(format!("  {}", paint.caution(&caution)));
    }
    for failure in facts::failures(run) {
        lines.push(format!("  {}", paint.bad(&failure)));
    }
}

fn facts_lines<'a>(
    lines: &mut Vec<String>,
    facts: impl Iterator<Item = (&'a str, &'a String)>,
    paint: Paint,
) {
    for (name, fact) in facts {
        lines.push(format!("  {} {fact}", paint.faint(&format!("{name:<14}"))));
    }
}

fn comparison_lines(lines: &mut Vec<String>, report: &Report, comparison: &Comparison, paint: Paint) {
    let rounds = comparison.rounds.len();
    let plural = if rounds == 1 { "" } else { "s" };
    let title = format!("{}: B against A, {rounds} round{plural}", comparison.scenario);
    lines.push(paint.bold(&title));
    if comparison.measures.is_empty() {
        lines.push("  no round was completed".to_owned());
        return;
    }
    let mut table = Table::new(["measure", "A", "B", "B/A", "range", "unit", "outcome"]);
    for measure in &comparison.measures {
        let (ratio, range) = ratio(measure);
        table.row([
            measure.name.clone(),
            units::number(measure.a_median),
            units::number(measure.b_median),
            ratio,
            range,
            measure.unit.clone(),
            Outcome::of(measure).words().to_owned(),
        ]);
    }
    for (place, line) in table.lines().into_iter().enumerate() {
        let outcome = place.checked_sub(2).map(|place| Outcome::of(&comparison.measures[place]));
        lines.push(match outcome {
            Some(Outcome::Better) => paint.good(&line),
            Some(Outcome::Worse) => paint.bad(&line),
            _ => line,
        });
    }
    let both = comparison.rounds.iter().flat_map(|(a, b)| [*a, *b]);
    for run in both.filter_map(|place| report.runs.get(place)) {
        for caution in facts::cautions(run) {
            lines.push(format!("  {}", paint.caution(&format!("{}: {caution}", facts::title(report, run)))));
        }
    }
}

/// The middle ratio and the range, as text.
fn ratio(measure: &Measure) -> (String, String) {
    match measure.ratio {
        Some(ratio) => (format!("{:.3}", ratio.median), format!("{:.3} to {:.3}", ratio.min, ratio.max)),
        None => ("-".to_owned(), "-".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_run_is_told_with_units_and_verdict() {
        let text = render(&sample::report(vec![sample::run("pingpong")]), Paint::NONE);
        for part in [
            "pingpong: passed",
            "81,000 messages/s, 10.4 MB/s",
            "round trip",
            "11.9 µs/message",
            "13.5 µs/message",
            "soft interrupts of all cores: 1.3 s",
            "313 B a connection",
            "3.61 KiB of slab a socket",
            "not pinned",
            "Linux 6.18.0",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\x1b'));
        assert!(
            render(&sample::report(vec![sample::run("pingpong")]), Paint(true)).contains("\x1b[32mpassed")
        );
    }

    #[test]
    fn several_runs_are_summed_up_and_failures_told() {
        let mut failed = sample::run("stream");
        failed.verification.failures.push("link 3: message 7 arrived twice".to_owned());
        let bare = Run { scenario: "hold".to_owned(), was_interrupted: true, ..Run::default() };
        let text = render(&sample::report(vec![sample::run("pingpong"), failed, bare]), Paint::NONE);
        for part in ["stream: FAILED", "arrived twice", "hold: interrupted", "RSS/connection", "--relay-pid"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("sessions/s"), "a column without values is left out");
    }

    #[test]
    fn a_comparison_is_told_by_its_ratios() {
        let report = sample::comparison();
        let text = render(&report, Paint::NONE);
        for part in ["B against A, 3 rounds", "messages", "B better"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
