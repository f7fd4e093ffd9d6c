//! What a comparison is made of: for each measure the values of both relays, and the ratios within pairs.

use crate::report::{
    facts,
    model::{Comparison, Latency, Measure, Ratio, Run},
};

/// Compares what relay 1 did with what relay 0 did, for each scenario in the order of the runs; scenarios are told
/// apart by their names. A round counts if both of its runs are there and came to their end.
pub fn comparisons(runs: &[Run]) -> Vec<Comparison> {
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        if !names.contains(&run.scenario.as_str()) {
            names.push(&run.scenario);
        }
    }
    names.into_iter().map(|name| comparison(runs, name)).collect()
}

fn comparison(runs: &[Run], scenario: &str) -> Comparison {
    let places = |relay: usize| {
        let of = move |(_, run): &(usize, &Run)| run.scenario == scenario && run.relay == relay;
        runs.iter().enumerate().filter(of)
    };
    let rounds: Vec<(usize, usize)> = places(0)
        .filter_map(|(a, first)| Some((a, places(1).find(|(_, second)| second.round == first.round)?.0)))
        .filter(|(a, b)| !runs[*a].was_interrupted && !runs[*b].was_interrupted)
        .collect();
    let pairs: Vec<(&Run, &Run)> = rounds.iter().map(|(a, b)| (&runs[*a], &runs[*b])).collect();
    let mut measures: Vec<Measure> = MEASURES
        .iter()
        .filter_map(|kind| over(kind.name, kind.unit, kind.more_is_better, &pairs, kind.read))
        .collect();
    // Both sides ran the same scenario, whose parts are the same.
    let parts = pairs.first().map_or(&[][..], |(first, _)| &first.parts[..]);
    for (number, part) in parts.iter().enumerate() {
        measures.extend([50.0, 99.0].into_iter().filter_map(|percentile| {
            let name = format!("{} p{percentile}", part.name);
            let read = |run: &Run| latency(run.parts.get(number)?.latency.as_ref()?, percentile);
            over(&name, "µs", false, &pairs, read)
        }));
    }
    Comparison { scenario: scenario.to_owned(), rounds, measures }
}

/// How B did against A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Better,
    Worse,
    /// Rounds disagree, or there are too few to tell.
    Unclear,
}

impl Outcome {
    /// B is better or worse where all of at least three rounds say so.
    pub fn of(measure: &Measure) -> Outcome {
        let Some(ratio) = measure.ratio.filter(|_| measure.a.len() >= ROUNDS_MIN) else {
            return Outcome::Unclear;
        };
        match (ratio.min > 1.0, ratio.max < 1.0, measure.more_is_better) {
            (true, _, true) | (_, true, false) => Outcome::Better,
            (true, _, false) | (_, true, true) => Outcome::Worse,
            _ => Outcome::Unclear,
        }
    }

    /// As words.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Better => "B better",
            Outcome::Worse => "B worse",
            Outcome::Unclear => "unclear",
        }
    }
}

/// One measure and how it is read from a run.
struct Kind {
    name: &'static str,
    unit: &'static str,
    more_is_better: bool,
    read: fn(&Run) -> Option<f64>,
}

/// A measure over the pairs that have it on both sides; `None` if none has.
fn over(
    name: &str,
    unit: &str,
    more_is_better: bool,
    pairs: &[(&Run, &Run)],
    read: impl Fn(&Run) -> Option<f64>,
) -> Option<Measure> {
    let values = pairs.iter().filter_map(|(a, b)| Some((read(a)?, read(b)?)));
    let (a, b): (Vec<f64>, Vec<f64>) = values.filter(|(a, b)| a.is_finite() && b.is_finite()).unzip();
    if a.is_empty() {
        return None;
    }
    let ratios: Option<Vec<f64>> = a.iter().zip(&b).map(|(a, b)| (*a > 0.0).then(|| b / a)).collect();
    Some(Measure {
        name: name.to_owned(),
        unit: unit.to_owned(),
        more_is_better,
        a_median: median(&a),
        b_median: median(&b),
        ratio: ratios.map(|ratios| Ratio {
            median: median(&ratios),
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }),
        a,
        b,
    })
}

/// The middle value, or the mean of the two in the middle. There is at least one, and none is NaN.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[half - 1], sorted[half]) } else { sorted[half] }
}

fn rate(run: &Run, count: u64) -> Option<f64> {
    (count > 0).then(|| facts::per_second(run, count))
}

fn latency(latency: &Latency, percentile: f64) -> Option<f64> {
    facts::at(latency, percentile).map(|us| us as f64)
}

/// Fewer rounds that agree may do so by chance.
const ROUNDS_MIN: usize = 3;

const MEASURES: &[Kind] = &[
    Kind {
        name: "messages",
        unit: "msg/s",
        more_is_better: true,
        read: |run| rate(run, run.totals.messages),
    },
    Kind {
        name: "payload",
        unit: "MB/s",
        more_is_better: true,
        read: |run| rate(run, run.totals.payload_bytes).map(|rate| rate / 1e6),
    },
    Kind {
        name: "sessions",
        unit: "sessions/s",
        more_is_better: true,
        read: |run| rate(run, run.totals.sessions),
    },
    Kind {
        name: "CPU per message",
        unit: "µs",
        more_is_better: false,
        read: |run| run.cost.as_ref()?.cpu.us_per_message,
    },
    Kind {
        name: "... with softirq",
        unit: "µs",
        more_is_better: false,
        read: |run| run.cost.as_ref()?.cpu_with_softirq.us_per_message,
    },
    Kind {
        name: "CPU per byte",
        unit: "ns",
        more_is_better: false,
        read: |run| run.cost.as_ref()?.cpu.ns_per_byte,
    },
    Kind {
        name: "CPU per session",
        unit: "µs",
        more_is_better: false,
        read: |run| run.cost.as_ref()?.cpu.us_per_session,
    },
    Kind {
        name: "RSS per connection",
        unit: "B",
        more_is_better: false,
        read: |run| run.cost.as_ref()?.rss_per_connection_bytes,
    },
    Kind {
        name: "latency p50",
        unit: "µs",
        more_is_better: false,
        read: |run| latency(run.latency.as_ref()?, 50.0),
    },
    Kind {
        name: "latency p99",
        unit: "µs",
        more_is_better: false,
        read: |run| latency(run.latency.as_ref()?, 99.0),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Part;

    fn run(relay: usize, round: u32, messages: u64) -> Run {
        let mut run = Run {
            scenario: "pingpong".to_owned(),
            relay,
            round: Some(round),
            seconds: 10.0,
            ..Run::default()
        };
        run.totals.messages = messages;
        run
    }

    fn messages(runs: &[Run]) -> Measure {
        let comparisons = comparisons(runs);
        assert_eq!(comparisons.len(), 1);
        assert_eq!(comparisons[0].measures.len(), 1, "only messages were measured");
        comparisons[0].measures[0].clone()
    }

    #[test]
    fn ratios_are_of_pairs_and_not_of_medians() {
        // The machine slowed down over the rounds; within each, B did twice as much.
        let runs: Vec<Run> = [(1, 900), (2, 300), (3, 100)]
            .into_iter()
            .flat_map(|(round, count)| [run(0, round, count), run(1, round, 2 * count)])
            .collect();
        let measure = messages(&runs);
        assert_eq!((measure.a_median, measure.b_median), (30.0, 60.0));
        let ratio = measure.ratio.expect("A measured something");
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 2.0));
        assert_eq!(Outcome::of(&measure), Outcome::Better);

        // The medians alone would say 1.2.
        let values = [(100, 100), (200, 300), (300, 240)];
        let runs: Vec<Run> = (1..).zip(values).flat_map(|(n, (a, b))| [run(0, n, a), run(1, n, b)]).collect();
        let measure = messages(&runs);
        let ratio = measure.ratio.expect("as above");
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.0, 0.8, 1.5));
        assert_eq!(Outcome::of(&measure), Outcome::Unclear);
    }

    #[test]
    fn an_incomplete_round_does_not_count() {
        let mut runs = vec![run(0, 1, 100), run(1, 1, 150), run(0, 2, 100)];
        assert_eq!(comparisons(&runs)[0].rounds, [(0, 1)]);
        runs.push(Run { was_interrupted: true, ..run(1, 2, 1) });
        assert_eq!(comparisons(&runs)[0].rounds, [(0, 1)]);
        assert_eq!(Outcome::of(&messages(&runs)), Outcome::Unclear, "one round proves nothing");
        assert!(comparisons(&runs[..1])[0].measures.is_empty());
    }

    #[test]
    fn each_part_of_a_mix_has_its_latencies_compared() {
        let with_part = |relay: usize, p99: u64| {
            let latency =
                Latency { count: 10, min_us: 1, mean_us: 1.0, max_us: p99, percentiles: vec![(100.0, p99)] };
            let part = Part { name: "pingpong:9".to_owned(), latency: Some(latency), ..Part::default() };
            let idle = Part { name: "hold:1".to_owned(), ..Part::default() };
            Run { parts: vec![idle, part], ..run(relay, 1, 10) }
        };
        let runs = [with_part(0, 100), with_part(1, 300)];
        let measures = comparisons(&runs).remove(0).measures;
        let names: Vec<&str> = measures.iter().map(|measure| measure.name.as_str()).collect();
        assert_eq!(names, ["messages", "pingpong:9 p50", "pingpong:9 p99"]);
        assert_eq!(measures[2].ratio.expect("A has one").median, 3.0);
    }

    #[test]
    fn less_is_better_for_costs() {
        let measure = |min, max, more_is_better| Measure {
            a: vec![1.0; 3],
            more_is_better,
            ratio: Some(Ratio { median: 1.0, min, max }),
            ..Measure::default()
        };
        assert_eq!(Outcome::of(&measure(0.4, 0.5, false)), Outcome::Better);
        assert_eq!(Outcome::of(&measure(1.1, 1.2, false)), Outcome::Worse);
        assert_eq!(Outcome::of(&measure(0.9, 1.2, false)), Outcome::Unclear);
        assert_eq!(Outcome::of(&measure(0.4, 0.5, true)), Outcome::Worse);
        assert_eq!(Outcome::of(&Measure { ratio: None, ..measure(1.0, 1.0, true) }), Outcome::Unclear);
    }
}
