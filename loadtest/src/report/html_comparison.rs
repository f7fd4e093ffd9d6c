//! The comparison of two relays as a part of the page.

use super::{
    chart::{Chart, Merge, Points, Series, X, Y},
    facts,
    html::{self, escape, line, over_time},
    model::{Comparison, Measure, Report, Run},
    units,
};
use crate::compare::Outcome;

/// One scenario: its measures with their ratios, and both relays in the same charts.
pub fn render(report: &Report, comparison: &Comparison) -> String {
    let rounds = comparison.rounds.len();
    let title = format!("{}: B against A", escape(&comparison.scenario));
    if comparison.measures.is_empty() {
        return format!("<section><h2>{title}</h2><p class=empty>No round was completed.</p></section>\n");
    }
    let axis = Axis::over(&comparison.measures);
    let rows: String = comparison.measures.iter().map(|measure| row(measure, &axis)).collect();
    let both = comparison.rounds.iter().flat_map(|(a, b)| [*a, *b]);
    let cautions: Vec<String> = both
        .filter_map(|place| report.runs.get(place))
        .flat_map(|run| {
            facts::cautions(run).into_iter().map(|text| format!("{}: {text}", facts::title(report, run)))
        })
        .collect();
    let charts: String = charts(report, comparison).iter().map(Chart::render).collect();
    format!(
        "<section><h2>{title}</h2><p class=lead>{rounds} round{} of one run each, A and B in turn, every relay freshly \
         started. A and B are medians; B/A is the median of the ratios within rounds, with their range. “Better” and \
         “worse” are said where all of at least three rounds agree.</p><div class=wide><table class=\"cards ratios\">\
         <thead><tr><th scope=col>measure</th><th scope=col>A</th><th scope=col>B</th><th scope=col>B/A</th><th \
         scope=col>range</th><th scope=col class=track><span>B/A</span>{}</th><th scope=col>outcome</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>{}<div class=charts>{charts}</div></section>\n",
        if rounds == 1 { "" } else { "s" },
        axis.labels(),
        html::notes("cautions", &cautions),
    )
}

fn row(measure: &Measure, axis: &Axis) -> String {
    let outcome = Outcome::of(measure);
    let class = match outcome {
        Outcome::Better => "better",
        Outcome::Worse => "worse",
        Outcome::Unclear => "unclear",
    };
    let value = |value: f64| {
        format!("<span>{} <small>{}</small></span>", units::number(value), escape(&measure.unit))
    };
    let (ratio, range, track) = match measure.ratio {
        None => ("-".to_owned(), "-".to_owned(), String::new()),
        Some(ratio) => {
            let [min, median, max] =
                [ratio.min, ratio.median, ratio.max].map(|ratio| axis.place(ratio) * 100.0);
            let track = format!(
                "<i class=one style=\"left:{:.1}%\"></i><i class=range style=\"left:{min:.1}%;width:{:.1}%\"></i><i \
                 class=dot style=\"left:{median:.1}%\"></i>",
                axis.place(1.0) * 100.0,
                max - min
            );
            (format!("{:.3}", ratio.median), format!("{:.3} – {:.3}", ratio.min, ratio.max), track)
        }
    };
    format!(
        "<tr class={class}><th scope=row>{}</th><td data-name=A>{}</td><td data-name=B>{}</td><td \
         data-name=\"B/A\">{ratio}</td><td data-name=range>{range}</td><td class=track aria-hidden=true><div>{track}\
         </div></td><td data-name=outcome><span class=outcome>{}</span></td></tr>",
        escape(&measure.name),
        value(measure.a_median),
        value(measure.b_median),
        outcome.words()
    )
}

/// Ratios as distances: twice as much is as far from the middle as half as much.
struct Axis {
    /// The ratio at the right end; the left end is its inverse.
    reach: f64,
}

impl Axis {
    fn over(measures: &[Measure]) -> Axis {
        let ratios =
            measures.iter().filter_map(|measure| measure.ratio).flat_map(|ratio| [ratio.min, ratio.max]);
        let most =
            ratios.filter(|ratio| *ratio > 0.0).map(|ratio| ratio.max(1.0 / ratio)).fold(1.0, f64::max);
        let reach = REACHES.into_iter().find(|reach| *reach >= most * 1.02);
        Axis { reach: reach.unwrap_or(REACHES[REACHES.len() - 1]) }
    }

    /// From 0 to 1; what lies beyond an end is at that end.
    fn place(&self, ratio: f64) -> f64 {
        let place = ratio.max(f64::MIN_POSITIVE).ln() / self.reach.ln();
        (place.clamp(-1.0, 1.0) + 1.0) / 2.0
    }

    fn labels(&self) -> String {
        let reach = units::number(self.reach);
        format!(
            "<div><b style=\"left:0%\">÷{reach}</b><b style=\"left:50%\">1</b><b style=\"left:100%\">×{reach}</b></div>"
        )
    }
}

/// Every round as a line of its relay's colour.
fn charts(report: &Report, comparison: &Comparison) -> Vec<Chart> {
    let lines = |points: &dyn Fn(&Run) -> Points, merge: Merge| -> Vec<Series> {
        let pairs = comparison.rounds.iter().flat_map(|(a, b)| [("A", "s1", *a), ("B", "s2", *b)]);
        pairs
            .filter_map(|(name, class, run)| Some(line(name, class, points(report.runs.get(run)?), merge)))
            .collect()
    };
    let count = Y { write: units::short, base: 1000.0, may_be_log: false };
    let latency = lines(&|run| run.latency.as_ref().map(html::nines).unwrap_or_default(), Merge::Max);
    let rate = lines(&|run| html::rate_over_time(run, |tick| tick.messages), Merge::Mean);
    let cores = lines(&|run| over_time(run, |tick| tick.relay_cores), Merge::Mean);
    let rss = lines(&|run| over_time(run, |tick| tick.relay_rss_bytes.map(|bytes| bytes as f64)), Merge::Max);
    let percent = Y { write: |cores| format!("{} %", units::number(cores * 100.0)), ..count };
    vec![
        Chart {
            title: "Latency by percentile".to_owned(),
            description: "Latency by percentile of every round; the table has the medians".to_owned(),
            x: X::Percentile,
            y: html::LATENCY,
            series: latency,
        },
        html::time_chart("Messages a second", count, rate),
        html::time_chart("CPU of the relay (100 % is one core)", percent, cores),
        html::time_chart(
            "Resident memory of the relay",
            Y { write: units::memory, base: 1024.0, may_be_log: false },
            rss,
        ),
    ]
}

const REACHES: [f64; 9] = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn measures_and_both_relays_are_shown() {
        let report = sample::comparison();
        let page = html::render(&report).expect("it can be written");
        for measure in &report.comparisons[0].measures {
            let ratio = measure.ratio.expect("all have one");
            assert!(page.contains(&escape(&measure.name)) && page.contains(&format!("{:.3}", ratio.median)));
        }
        assert!(page.contains("B better") && page.contains("<details class=run id=run-0>"));
        assert!(page.contains("<i class=s1></i>A") && page.contains("<i class=s2></i>B"));
    }

    #[test]
    fn half_and_twice_are_as_far_from_the_middle() {
        let axis = Axis { reach: 2.0 };
        assert!((axis.place(1.0) - 0.5).abs() < 1e-9);
        assert!((axis.place(0.5) + axis.place(2.0) - 1.0).abs() < 1e-9);
        assert!((axis.place(1000.0) - 1.0).abs() < 1e-9 && axis.place(0.0).abs() < 1e-9);
    }

    #[test]
    fn an_unfinished_comparison_says_so() {
        let mut report = sample::comparison();
        report.comparisons[0].measures.clear();
        assert!(html::render(&report).expect("as above").contains("No round was completed"));
    }
}
