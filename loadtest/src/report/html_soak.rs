//! What the HTML report says of a soak: a chart for each series, the verdicts in a table, the mishaps.

use super::{
    chart::{Chart, Merge, Y},
    facts,
    html::{escape, line, time_chart},
    model::{Run, Soak, Watched},
    units,
};

/// A chart for each series that was ever anything but zero, with the medians of the quarters that it is judged by.
pub fn charts(run: &Run, soak: &Soak) -> Vec<Chart> {
    let says = |watched: &&Watched| watched.samples.iter().flatten().any(|value| *value != 0.0);
    let chart = |watched: &Watched| {
        let points = soak.at_seconds.iter().copied().zip(watched.samples.iter().copied()).collect();
        let mut lines = vec![line(&watched.name, "s1", points, Merge::Mean)];
        if let Some(growth) = &watched.growth {
            let quarter = run.seconds / 4.0;
            let medians = growth.quarters.iter().enumerate().flat_map(|(place, median)| {
                let from = place as f64 * quarter;
                // A gap behind each, so that they are not joined.
                [(from, Some(*median)), (from + 0.98 * quarter, Some(*median)), (from + 0.99 * quarter, None)]
            });
            let class = if growth.is_growing { "bad" } else { "s2" };
            lines.push(line("median of the quarter", class, medians.collect(), Merge::Max));
        }
        let y = match watched.unit.as_str() {
            "bytes" => Y { write: units::memory, base: 1024.0, may_be_log: false },
            _ => Y { write: units::short, base: 1000.0, may_be_log: false },
        };
        time_chart(&first_upper(&watched.name), y, lines)
    };
    soak.watched.iter().filter(says).map(chart).collect()
}

/// The verdicts and the mishaps.
pub fn tables(soak: &Soak) -> String {
    let rows = soak.watched.iter().map(|watched| {
        let value = |value: f64| facts::watched_value(watched, value);
        let dash = || "-".to_owned();
        let quarter = |place: usize| watched.growth.map_or_else(dash, |growth| value(growth.quarters[place]));
        let cells = [
            ("before", watched.rest.map_or_else(dash, |rest| value(rest.before))),
            ("1st quarter", quarter(0)),
            ("2nd", quarter(1)),
            ("3rd", quarter(2)),
            ("4th", quarter(3)),
            ("an hour", watched.growth.map_or_else(dash, |growth| facts::signed(watched, growth.per_hour))),
            ("after", watched.rest.and_then(|rest| rest.after).map_or_else(dash, value)),
        ];
        let cells = cells.map(|(name, text)| {
            let none = if text == "-" { " class=none" } else { "" };
            format!("<td{none} data-name=\"{name}\">{}</td>", escape(&text))
        });
        let (class, word) = if watched.passed() { ("passed", "steady") } else { ("failed", "not steady") };
        format!(
            "<tr><th scope=row>{}</th>{}<td data-name=verdict><span class=\"badge {class}\">{word}</span></td></tr>",
            escape(&watched.name),
            cells.concat()
        )
    });
    let head = ["series", "before", "1st quarter", "2nd", "3rd", "4th", "an hour", "after", "verdict"];
    let head: String = head.iter().map(|name| format!("<th scope=col>{name}</th>")).collect();
    let mishaps = soak.mishaps.iter().map(|(name, count)| {
        format!("<tr><th scope=row>{}</th><td>{}</td></tr>", escape(name), units::count(*count))
    });
    format!(
        "<div class=wide><table class=cards><thead><tr>{head}</tr></thead><tbody>{}</tbody></table></div><p \
         class=hint>{HINT}</p><details><summary>Mishaps made to happen</summary><table \
         class=narrow><tbody>{}</tbody></table></details>",
        rows.collect::<String>(),
        mishaps.collect::<String>()
    )
}

fn first_upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

const HINT: &str = "Medians of the quarters of the measured part; an hour: the median of the slopes between any two \
                    samples. Before and after: without load.";
