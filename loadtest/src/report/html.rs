//! The report as one HTML file that needs nothing else: for people its tables and charts, for programs the report
//! itself as JSON in the element `report`.

use super::{
    chart::{Chart, Merge, Points, Series, X, Y},
    facts::{self, Verdict},
    html_comparison, html_soak,
    model::{Latency, Report, Run, Tick},
    units,
};

/// The whole page. Errors: a report that cannot be written as JSON, which holds no such value.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    let json = script_json(&serde_json::to_string(report)?);
    let mut names: Vec<&str> = report.runs.iter().map(|run| run.scenario.as_str()).collect();
    names.dedup();
    names.truncate(NAMES_IN_TITLE);
    let title =
        format!("Load test: {}", if names.is_empty() { "no runs".to_owned() } else { names.join(", ") });
    let verdict = Verdict::of_all(&report.runs);
    let comparisons: String =
        report.comparisons.iter().map(|comparison| html_comparison::render(report, comparison)).collect();
    let runs: String =
        report.runs.iter().enumerate().map(|(place, run)| run_section(report, place, run)).collect();
    Ok(format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<meta name=viewport \
         content=\"width=device-width, initial-scale=1\">\n<meta name=color-scheme content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header><h1>{title} {}</h1>{}\
         </header>\n{comparisons}{}{runs}</main>\n<script type=\"application/json\" id=report>{json}</script>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        badge(verdict),
        list(&facts::surroundings(report)),
        summary(report),
        title = escape(&title),
    ))
}

/// Text for content and for quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

/// JSON for a script element, which no text within may end or turn into a comment.
pub fn script_json(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// The verdict as a word in its colour.
pub fn badge(verdict: Verdict) -> String {
    format!("<span class=\"badge {0}\">{0}</span>", verdict.word())
}

/// A chart's latency axis.
pub const LATENCY: Y = Y { write: units::micros, base: 1000.0, may_be_log: true };

/// Latency over nines: half of all values at 0.3, a tenth above 1, a hundredth above 2.
pub fn nines(latency: &Latency) -> Points {
    let last = (latency.count.max(10) as f64).log10();
    let place = |percentile: f64| -(1.0 - percentile / 100.0).max(f64::MIN_POSITIVE).log10();
    let points =
        latency.percentiles.iter().map(|(percentile, us)| (place(*percentile).min(last), Some(*us as f64)));
    points.collect()
}

/// What a chart of one measure over the run shows.
pub fn over_time(run: &Run, value: impl Fn(&Tick) -> Option<f64>) -> Points {
    run.series.iter().map(|tick| (tick.at_seconds, value(tick))).collect()
}

/// What a chart of a rate shows: from where the traffic begins to where it is stopped.
pub fn rate_over_time(run: &Run, count: impl Fn(&Tick) -> u64) -> Points {
    let mut before = None;
    let point = |tick: &Tick| {
        let last: Option<Tick> = before.replace(tick.clone());
        let late = (tick.at_seconds - run.seconds).max(0.0);
        let seconds = tick.traffic_seconds(last.as_ref()) - late;
        let is_traffic = tick.at_seconds > 0.0 || tick.messages > 0;
        // What is left of an interval at the end may be too short to say anything.
        (tick.at_seconds, (is_traffic && seconds > RATE_SECONDS_MIN).then(|| count(tick) as f64 / seconds))
    };
    run.series.iter().map(point).collect()
}

fn summary(report: &Report) -> String {
    let Some(first) = report.runs.first() else {
        return "<p class=empty>Nothing ran.</p>".to_owned();
    };
    if report.runs.len() == 1 {
        return String::new();
    }
    let rows: Vec<Vec<(&str, String)>> = report.runs.iter().map(facts::summary).collect();
    let says = |column: usize| rows.iter().any(|row| row[column].1 != "-");
    let columns: Vec<usize> = (0..facts::summary(first).len()).filter(|column| says(*column)).collect();
    let head: String =
        columns.iter().map(|column| format!("<th scope=col>{}</th>", escape(rows[0][*column].0))).collect();
    let mut body = String::new();
    for (place, (run, row)) in report.runs.iter().zip(&rows).enumerate() {
        let cells = columns.iter().map(|column| {
            let (name, value) = &row[*column];
            let none = if value == "-" { " class=none" } else { "" };
            format!("<td{none} data-name=\"{}\">{}</td>", escape(name), escape(value))
        });
        body += &format!(
            "<tr><th scope=row><a href=\"#run-{place}\">{}</a></th>{}<td data-name=verdict>{}</td></tr>",
            escape(&facts::title(report, run)),
            cells.collect::<String>(),
            badge(Verdict::of(run))
        );
    }
    format!(
        "<section><h2>Summary</h2><div class=wide><table class=cards><thead><tr><th scope=col>run</th>{head}<th \
         scope=col>verdict</th></tr></thead><tbody>{body}</tbody></table></div></section>\n"
    )
}

fn run_section(report: &Report, place: usize, run: &Run) -> String {
    let title = format!("{} {}", escape(&facts::title(report, run)), badge(Verdict::of(run)));
    let charts: String = charts(run).iter().map(Chart::render).collect();
    let charts = match charts.is_empty() {
        true => "<p class=empty>It ended before anything was measured over time.</p>".to_owned(),
        false => format!("<div class=charts>{charts}</div><p class=hint>{HINT}</p>"),
    };
    let content = format!(
        "{}{}{}{}{charts}{}<details open><summary>All figures</summary>{}</details>{}{}",
        tiles(run),
        notes("failures", &facts::failures(run)),
        notes("cautions", &facts::cautions(run)),
        run.soak.as_ref().map_or_else(String::new, html_soak::tables),
        if run.cost.is_none() {
            format!("<p class=empty>CPU and memory of the relay were {}.</p>", escape(facts::NO_PROCESS))
        } else {
            String::new()
        },
        list(&facts::of_run(run)),
        percentiles(run),
        settings(run),
    );
    if report.comparisons.is_empty() {
        format!("<section class=run id=run-{place}><h2>{title}</h2>{content}</section>\n")
    } else {
        format!("<details class=run id=run-{place}><summary><h2>{title}</h2></summary>{content}</details>\n")
    }
}

/// The figures that matter most.
fn tiles(run: &Run) -> String {
    let shown = facts::summary(run).into_iter().filter(|(_, value)| value != "-");
    let tile = |(name, value): (&str, String)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(&value))
    };
    format!("<dl class=tiles>{}</dl>", shown.map(tile).collect::<String>())
}

fn charts(run: &Run) -> Vec<Chart> {
    let count = Y { write: units::short, base: 1000.0, may_be_log: false };
    let mut charts = Vec::new();
    if let Some(latency) = &run.latency {
        charts.push(Chart {
            title: format!("Latency by percentile ({})", run.latency_of),
            description: describe_latency(latency),
            x: X::Percentile,
            y: LATENCY,
            series: vec![line("latency", "s1", nines(latency), Merge::Max)],
        });
        let of = |value: fn(&Tick) -> Option<u64>| over_time(run, |tick| value(tick).map(|us| us as f64));
        charts.push(time_chart(
            "Latency",
            LATENCY,
            vec![
                line("max", "s3", of(|tick| tick.max_us), Merge::Max),
                line("p99", "s2", of(|tick| tick.p99_us), Merge::Max),
                line("p50", "s1", of(|tick| tick.p50_us), Merge::Mean),
            ],
        ));
    }
    if run.totals.messages > 0 {
        charts.push(throughput(run));
    }
    let links = over_time(run, |tick| Some(tick.links_up as f64));
    charts.push(time_chart("Links up", count, vec![line("links", "s1", links, Merge::Mean)]));
    if !run.totals.errors.is_empty() {
        let errors = over_time(run, |tick| Some(tick.errors as f64));
        charts.push(time_chart(
            "Errors in each interval",
            count,
            vec![line("errors", "bad", errors, Merge::Max)],
        ));
    }
    let cores = over_time(run, |tick| tick.relay_cores);
    let percent = Y { write: |cores| format!("{} %", units::number(cores * 100.0)), ..count };
    charts.push(time_chart(
        "CPU of the relay (100 % is one core)",
        percent,
        vec![line("CPU", "s1", cores, Merge::Mean)],
    ));
    if let Some(soak) = &run.soak {
        charts.extend(html_soak::charts(run, soak));
        return charts;
    }
    let rss = over_time(run, |tick| tick.relay_rss_bytes.map(|bytes| bytes as f64));
    let memory = Y { write: units::memory, base: 1024.0, may_be_log: false };
    charts.push(time_chart("Resident memory of the relay", memory, vec![line("RSS", "s1", rss, Merge::Max)]));
    charts
}

/// Messages, or where they are large, the payload: of messages of one size both would look the same.
fn throughput(run: &Run) -> Chart {
    if run.totals.payload_bytes / run.totals.messages.max(1) < LARGE_MESSAGE_BYTES {
        let y = Y { write: units::short, base: 1000.0, may_be_log: false };
        time_chart(
            "Messages a second",
            y,
            vec![line("messages", "s1", rate_over_time(run, |tick| tick.messages), Merge::Mean)],
        )
    } else {
        let y = Y { write: units::byte_rate, base: 1000.0, may_be_log: false };
        time_chart(
            "Payload",
            y,
            vec![line("payload", "s1", rate_over_time(run, |tick| tick.payload_bytes), Merge::Mean)],
        )
    }
}

/// A line of a chart.
pub fn line(name: &str, class: &'static str, points: Points, merge: Merge) -> Series {
    Series { name: name.to_owned(), class, points, merge }
}

/// A chart over the time of the run.
pub fn time_chart(title: &str, y: Y, series: Vec<Series>) -> Chart {
    let ranges = series.iter().filter_map(|series| {
        let values = || series.points.iter().filter_map(|(_, y)| *y);
        let (low, high) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
        Some(format!("{} from {} to {}", series.name, (y.write)(low), (y.write)(high)))
    });
    let description = format!("{title} over time: {}", ranges.collect::<Vec<_>>().join("; "));
    Chart { title: title.to_owned(), description, x: X::Time, y, series }
}

/// The latencies in words.
pub fn describe_latency(latency: &Latency) -> String {
    let parts = [50.0, 99.0, 99.9].into_iter().filter_map(|place| {
        let value = units::micros(facts::at(latency, place)? as f64);
        Some(format!("{} {value}", units::percentile(place)))
    });
    let max = format!("maximum {}", units::micros(latency.max_us as f64));
    format!("Latency by percentile: {}", parts.chain([max]).collect::<Vec<_>>().join(", "))
}

fn percentiles(run: &Run) -> String {
    let Some(latency) = &run.latency else { return String::new() };
    let rows = PERCENTILES.iter().filter_map(|place| {
        let value = units::micros(facts::at(latency, *place)? as f64);
        Some(format!("<tr><th scope=row>{}</th><td>{}</td></tr>", units::percentile(*place), escape(&value)))
    });
    format!(
        "<details><summary>Percentiles of {}</summary><table class=narrow><tbody>{}</tbody></table></details>",
        escape(&run.latency_of),
        rows.collect::<String>()
    )
}

fn settings(run: &Run) -> String {
    let settings: Vec<(&str, String)> =
        run.settings.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    format!("<details><summary>Settings</summary>{}</details>", list(&settings))
}

/// Names and facts.
fn list<N: AsRef<str>>(facts: &[(N, String)]) -> String {
    let row =
        |(name, fact): &(N, String)| format!("<dt>{}</dt><dd>{}</dd>", escape(name.as_ref()), escape(fact));
    format!("<dl class=facts>{}</dl>", facts.iter().map(row).collect::<String>())
}

/// A list of sentences, if there are any.
pub fn notes(class: &str, notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let items: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    format!("<ul class=\"notes {class}\">{items}</ul>")
}

const HINT: &str = "A dashed line is where all links were up and the measured part began.";
const LARGE_MESSAGE_BYTES: u64 = 4096;
const NAMES_IN_TITLE: usize = 6;
const RATE_SECONDS_MIN: f64 = 0.2;
const PERCENTILES: &[f64] = &[50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999, 100.0];
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn embedded<T: serde::de::DeserializeOwned>(page: &str) -> T {
        let (_, rest) = page.split_once("<script type=\"application/json\" id=report>").expect("it is there");
        let (json, _) = rest.split_once("</script>").expect("it ends");
        serde_json::from_str(json).expect("it is a report")
    }

    #[test]
    fn the_page_holds_the_report_and_shows_what_it_says() {
        let report = sample::report(vec![sample::run("pingpong"), sample::run("stream")]);
        let page = render(&report).expect("it can be written");
        let json: serde_json::Value = embedded(&page);
        let whole = serde_json::to_string(&report).expect("as above");
        // Both read from text, which costs a number its last digit.
        assert!(json == serde_json::from_str::<serde_json::Value>(&whole).expect("just written"));
        let read: Report = embedded(&page);
        for run in &read.runs {
            for (name, value) in facts::summary(run).into_iter().filter(|(_, value)| value != "-") {
                assert!(page.contains(&escape(&value)), "{name}: {value}");
            }
            for (name, fact) in facts::of_run(run) {
                assert!(page.contains(&escape(&fact)), "{name}: {fact}");
            }
        }
        assert_eq!(page.matches("<figure").count(), 2 * 6);
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let page = render(&sample::report(vec![sample::run("pingpong")])).expect("as above");
        for outside in ["http://", "https://", "src=", "@import", "url(", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn text_from_outside_stays_text() {
        let evil = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> \" ' &";
        let mut report = sample::report(vec![sample::run(evil)]);
        report.machine.cpu = evil.to_owned();
        report.relays[0].command = Some(evil.to_owned());
        report.relays[0].url = evil.to_owned();
        let run = &mut report.runs[0];
        run.latency_of = evil.to_owned();
        run.settings.insert(evil.to_owned(), evil.to_owned());
        run.totals.errors.insert(evil.to_owned(), 1);
        run.verification.failures.push(evil.to_owned());
        let page = render(&report).expect("as above");
        assert!(!page.contains("<script>alert") && !page.contains("<img"), "it got through");
        assert!(!page.contains("<!--"));
        assert_eq!(embedded::<Report>(&page).machine.cpu, evil);
    }

    #[test]
    fn what_was_not_measured_leaves_no_empty_chart() {
        let bare = Run { scenario: "hold".to_owned(), was_interrupted: true, ..Run::default() };
        let page = render(&sample::report(vec![bare])).expect("as above");
        assert!(!page.contains("<figure") && page.contains("--relay-pid") && page.contains("interrupted"));
        let none = render(&sample::report(Vec::new())).expect("as above");
        assert!(none.contains("Nothing ran"));
    }

    /// Writes pages for looking at: `LOADTEST_PAGES=folder cargo test -p longsplice-loadtest pages_to_look_at`.
    #[test]
    fn pages_to_look_at() {
        let Some(folder) = std::env::var_os("LOADTEST_PAGES").map(std::path::PathBuf::from) else { return };
        let mut failed = sample::run("stream");
        failed.verification.failures.push("link 3: message 7 arrived twice".to_owned());
        failed.totals.errors.insert("closed 1006".to_owned(), 4);
        failed.generator.busiest_thread = 0.99;
        failed.series[5].max_us = Some(1_400_000);
        let mut unknown = sample::run("rate");
        unknown.cost = None;
        unknown.was_interrupted = true;
        for tick in &mut unknown.series {
            (tick.relay_cores, tick.relay_rss_bytes) = (None, None);
        }
        let cut = Run { scenario: "hold".to_owned(), was_interrupted: true, ..Run::default() };
        let several = sample::report(vec![sample::run("pingpong"), failed, unknown, cut]);
        let compared = sample::comparison();
        let one = sample::report(vec![sample::run("pingpong")]);
        for (name, report) in [("one", one), ("several", several), ("compared", compared)] {
            std::fs::write(folder.join(format!("{name}.html")), render(&report).expect("as above"))
                .expect("written");
        }
    }
}
