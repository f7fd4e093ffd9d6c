//! Charts of the HTML report: an SVG without text that fills whatever room there is, with its labels beside it as
//! HTML, so that lines and letters keep their size on a phone and on paper. A script adds the values under the pointer;
//! without it nothing is missing but that.

use std::fmt::Write;

use super::{html::escape, units};

/// One chart: lines over a common axis.
#[derive(Debug)]
pub struct Chart {
    pub title: String,
    /// What a reader who does not see it is told.
    pub description: String,
    pub x: X,
    pub y: Y,
    pub series: Vec<Series>,
}

/// The axis along the bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum X {
    /// Seconds since the measured part began.
    Time,
    /// Percentiles, each further nine as wide as the one before.
    Percentile,
}

/// The axis on the left: how its values are written, and whether it may be logarithmic.
#[derive(Clone, Copy)]
pub struct Y {
    pub write: fn(f64) -> String,
    /// Steps between round values: 1000 or 1024.
    pub base: f64,
    pub may_be_log: bool,
}

/// One line.
#[derive(Debug)]
pub struct Series {
    pub name: String,
    /// Of the style sheet: `s1`, `s2`, `s3`.
    pub class: &'static str,
    pub points: Points,
    /// What stands for many points where they are merged.
    pub merge: Merge,
}

/// Places and values, ascending; a gap where there is no value.
pub type Points = Vec<(f64, Option<f64>)>;

/// How neighbouring points become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Mean,
    Max,
}

impl Chart {
    /// As a figure; nothing if no line has a point.
    pub fn render(&self) -> String {
        let series: Vec<Series> =
            self.series.iter().filter(|series| series.has_points()).map(Series::thin).collect();
        let xs = series.iter().flat_map(|series| series.points.iter().map(|(x, _)| *x));
        let (left, right) =
            xs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        if series.is_empty() {
            return String::new();
        }
        let left = if self.x == X::Percentile { 0.0 } else { left };
        let across = |x: f64| if right > left { (x - left) / (right - left) } else { 0.5 };
        let scale = Scale::over(&series, self.y);
        let mut svg = String::new();
        let (mut x_labels, mut y_labels) = (String::new(), String::new());
        for (value, is_minor) in x_ticks(self.x, left, right) {
            let place = across(value) * 100.0;
            let minor = if is_minor { " class=minor" } else { "" };
            line(&mut svg, "grid", [place * 10.0, 0.0, place * 10.0, 1000.0]);
            let label = escape(&x_text(self.x, value));
            let _ = write!(x_labels, "<span{minor} style=\"left:{place:.2}%\">{label}</span>");
        }
        for value in scale.ticks() {
            let place = scale.place(value) * 100.0;
            line(&mut svg, "grid", [0.0, 1000.0 - place * 10.0, 1000.0, 1000.0 - place * 10.0]);
            let label = escape(&(self.y.write)(value));
            let _ = write!(y_labels, "<span style=\"bottom:{place:.2}%\">{label}</span>");
        }
        if self.x == X::Time && left < 0.0 && right > 0.0 {
            line(&mut svg, "start", [across(0.0) * 1000.0, 0.0, across(0.0) * 1000.0, 1000.0]);
        }
        for series in &series {
            svg += &series.paths(&across, &scale, self.series.len() == 1 && !scale.is_log);
        }
        let mut out = String::new();
        let note = if scale.is_log { " <small>logarithmic</small>" } else { "" };
        let _ = write!(
            out,
            "<figure class=chart><figcaption><span>{}{note}</span>{}</figcaption><div class=plot tabindex=0 role=img \
             aria-label=\"{}\"><div class=y aria-hidden=true>{y_labels}</div><div class=area><svg viewBox=\"0 0 1000 \
             1000\" preserveAspectRatio=none aria-hidden=true>{svg}</svg></div><div class=x aria-hidden=true>{x_labels}\
             </div></div>{}</figure>",
            escape(&self.title),
            self.legend(),
            escape(&self.description),
            self.values(&series, &across, &scale)
        );
        out
    }

    /// Names and colours; a single line is named by the title.
    fn legend(&self) -> String {
        let named = |name: &str| self.series.iter().find(|series| series.name == name && series.has_points());
        let mut names: Vec<&str> = Vec::new();
        for series in self.series.iter().filter(|series| series.has_points()) {
            if !names.contains(&series.name.as_str()) {
                names.push(&series.name);
            }
        }
        if names.len() < 2 {
            return String::new();
        }
        let keys = names.iter().filter_map(|name| {
            let class = named(name)?.class;
            Some(format!("<span><i class={class}></i>{}</span>", escape(name)))
        });
        format!("<span class=legend>{}</span>", keys.collect::<String>())
    }

    /// What the script shows under the pointer: places from 0 to 1 and texts.
    fn values(&self, series: &[Series], across: &dyn Fn(f64) -> f64, scale: &Scale) -> String {
        let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
        let lines: Vec<_> = series
            .iter()
            .map(|series| {
                let shown = || series.points.iter().filter_map(|(x, y)| Some((*x, (*y)?)));
                serde_json::json!({
                    "name": series.name,
                    "class": series.class,
                    "x": shown().map(|(x, _)| round(across(x))).collect::<Vec<_>>(),
                    "y": shown().map(|(_, y)| round(scale.place(y))).collect::<Vec<_>>(),
                    "at": shown().map(|(x, _)| x_value(self.x, x)).collect::<Vec<_>>(),
                    "text": shown().map(|(_, y)| (self.y.write)(y)).collect::<Vec<_>>(),
                })
            })
            .collect();
        let json = super::html::script_json(&serde_json::Value::from(lines).to_string());
        format!("<script type=\"application/json\" class=values>{json}</script>")
    }
}

impl std::fmt::Debug for Y {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Y({}, {})", (self.write)(1.0), self.may_be_log)
    }
}

impl Series {
    fn has_points(&self) -> bool {
        self.points.iter().any(|(_, y)| y.is_some())
    }

    /// At most [`POINTS_MAX`] points.
    fn thin(&self) -> Series {
        let group = self.points.len().div_ceil(POINTS_MAX).max(1);
        let merged = |points: &[(f64, Option<f64>)]| {
            let values = || points.iter().filter_map(|(_, y)| *y);
            let count = values().count();
            let y = match self.merge {
                _ if count == 0 => None,
                Merge::Mean => Some(values().sum::<f64>() / count as f64),
                Merge::Max => values().reduce(f64::max),
            };
            (points[points.len() - 1].0, y)
        };
        let points = self.points.chunks(group).map(merged).collect();
        Series { name: self.name.clone(), class: self.class, points, merge: self.merge }
    }

    /// A path for each stretch without a gap, and a faint area below if it is the only line.
    fn paths(&self, across: &dyn Fn(f64) -> f64, scale: &Scale, is_filled: bool) -> String {
        let mut out = String::new();
        for stretch in self.points.split(|(_, y)| y.is_none()).filter(|stretch| !stretch.is_empty()) {
            let mut path = String::new();
            for (place, (x, y)) in stretch.iter().enumerate() {
                let y = scale.place(y.expect("split at the gaps"));
                let letter = if place == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", across(*x) * 1000.0, 1000.0 - y * 1000.0);
            }
            let (first, last) =
                (across(stretch[0].0) * 1000.0, across(stretch[stretch.len() - 1].0) * 1000.0);
            if stretch.len() == 1 {
                // A line of no length, with round ends: a dot.
                path += "h0";
            }
            if is_filled {
                let _ = write!(
                    out,
                    "<path class=\"fill {}\" d=\"{path}L{last:.1} 1000L{first:.1} 1000Z\"/>",
                    self.class
                );
            }
            let _ = write!(out, "<path class=\"line {}\" d=\"{path}\"/>", self.class);
        }
        out
    }
}

/// The left axis: where a value lies, from 0 at the bottom to 1 at the top.
#[derive(Debug)]
struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
    base: f64,
}

impl Scale {
    /// Holds all values: from zero, or logarithmic where they differ by much.
    fn over(series: &[Series], y: Y) -> Scale {
        let values = || series.iter().flat_map(|series| series.points.iter().filter_map(|(_, y)| *y));
        let most = values().fold(0.0, f64::max);
        let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        if y.may_be_log && most / least >= LOG_FROM {
            let (low, high) = (10_f64.powf(least.log10().floor()), log_above(most));
            return Scale {
                is_log: true,
                low: if least >= 2.0 * low { 2.0 * low } else { low },
                high,
                base: y.base,
            };
        }
        let step = step(most, y.base);
        let high = if most > 0.0 { (most / step - 1e-9).ceil().max(1.0) * step } else { 1.0 };
        Scale { is_log: false, low: 0.0, high, base: y.base }
    }

    fn place(&self, value: f64) -> f64 {
        let place = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        };
        place.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.is_log {
            let step = step(self.high, self.base);
            let count = (self.high / step).round() as u32;
            return (0..=count).map(|n| f64::from(n) * step).collect();
        }
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = match decades {
            ..=1.7 => &[1.0, 2.0, 5.0],
            ..=2.5 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        all.filter(|value| (self.low * 0.999..=self.high * 1.001).contains(value)).collect()
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn log_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|top| *top >= value).unwrap_or(value)
}

/// A round distance of some four ticks up to `most`, in the unit that `most` is written in.
fn step(most: f64, base: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let unit = if base > 1000.0 && most >= base { base.powf((most.ln() / base.ln()).floor()) } else { 1.0 };
    let rough = most / unit / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough) * unit
}

/// Values on the axis along the bottom, and whether they are left out where there is little room.
fn x_ticks(x: X, left: f64, right: f64) -> Vec<(f64, bool)> {
    match x {
        X::Percentile => {
            let nines = (0..).map(f64::from).take_while(|nines| *nines <= right + 1e-9);
            // No label at the left end, for which there is no room beside the half.
            [(std::f64::consts::LOG10_2, false)]
                .into_iter()
                .chain(nines.skip(1).map(|nines| (nines, nines > 3.5 && (nines as u32).is_multiple_of(2))))
                .filter(|(nines, _)| *nines <= right)
                .collect()
        }
        X::Time => {
            let rough = (right - left) / 6.0;
            let step = TIME_STEPS
                .into_iter()
                .find(|step| *step >= rough)
                .unwrap_or_else(|| step(rough * 4.0, 1000.0));
            let first = (left / step).ceil() as i64;
            let last = (right / step).floor() as i64;
            (first..=last).map(|n| (n as f64 * step, n % 2 != 0)).collect()
        }
    }
}

fn x_text(x: X, value: f64) -> String {
    match x {
        X::Time if value.abs() < 60.0 => format!("{} s", units::number(value)),
        X::Time => {
            let (sign, value) = (if value < 0.0 { "-" } else { "" }, value.abs().round() as u64);
            match (value / 3600, value / 60 % 60, value % 60) {
                (0, minutes, seconds) => format!("{sign}{minutes}:{seconds:02}"),
                (hours, minutes, _) => format!("{sign}{hours}h{minutes:02}"),
            }
        }
        X::Percentile => {
            let percent = 100.0 - 100.0 / 10_f64.powf(value);
            format!("{} %", (percent * 1e7).round() / 1e7)
        }
    }
}

fn x_value(x: X, value: f64) -> String {
    match x {
        X::Time => x_text(x, value),
        // The rounding of the tick labels would make 100 of the last nines.
        X::Percentile => {
            let percent = 100.0 - 100.0 / 10_f64.powf(value);
            let decimals = (value.floor() as usize).clamp(1, 6);
            format!("{percent:.decimals$} %")
        }
    }
}

fn line(svg: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = write!(svg, "<path class={class} d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>");
}

/// Values that differ by less are as readable on a straight axis.
const LOG_FROM: f64 = 20.0;
/// About one for each pixel of a wide chart.
const POINTS_MAX: usize = 600;
const TIME_STEPS: [f64; 16] =
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Y = Y { write: units::number, base: 1000.0, may_be_log: false };

    fn series(points: &[(f64, Option<f64>)]) -> Series {
        Series { name: "a <b>".to_owned(), class: "s1", points: points.to_vec(), merge: Merge::Max }
    }

    fn chart(y: Y, points: &[(f64, Option<f64>)]) -> Chart {
        Chart {
            title: "t".to_owned(),
            description: "d \"q\"".to_owned(),
            x: X::Time,
            y,
            series: vec![series(points)],
        }
    }

    #[test]
    fn an_axis_ends_on_round_values() {
        for (most, high, ticks) in [(81_000.0, 100_000.0, 5), (0.97, 1.0, 5), (3.0, 3.0, 4), (0.0, 1.0, 5)] {
            let scale = Scale::over(&[series(&[(0.0, Some(most))])], PLAIN);
            assert!((scale.high - high).abs() < 1e-9 && scale.ticks().len() == ticks, "{most}: {scale:?}");
        }
        let memory = Y { write: units::memory, base: 1024.0, may_be_log: false };
        let scale = Scale::over(&[series(&[(0.0, Some(9_700_000.0))])], memory);
        let labels: Vec<_> = scale.ticks().into_iter().map(units::memory).collect();
        assert_eq!(labels, ["0 B", "2.5 MiB", "5 MiB", "7.5 MiB", "10 MiB"]);
    }

    #[test]
    fn a_wide_range_is_logarithmic_if_it_may() {
        let wide = [series(&[(0.0, Some(80.0)), (1.0, Some(90_000.0))])];
        let scale = Scale::over(&wide, Y { may_be_log: true, ..PLAIN });
        assert!(scale.is_log && scale.low <= 80.0 && scale.high >= 90_000.0, "{scale:?}");
        assert!(scale.place(80.0) < 0.2 && scale.place(90_000.0) > 0.95, "{scale:?}");
        assert!(!Scale::over(&wide, PLAIN).is_log);
    }

    #[test]
    fn a_gap_parts_the_line_and_text_is_escaped() {
        let html =
            chart(PLAIN, &[(0.0, Some(1.0)), (1.0, None), (2.0, Some(2.0)), (3.0, Some(1.0))]).render();
        assert_eq!(html.matches("class=\"line s1\"").count(), 2);
        assert!(html.contains("d &quot;q&quot;") && !html.contains("a <b>"), "{html}");
        assert_eq!(chart(PLAIN, &[(0.0, None)]).render(), "");
    }

    #[test]
    fn a_long_run_is_thinned_and_keeps_its_peak() {
        let points: Vec<_> =
            (0..100_000).map(|n| (f64::from(n), Some(if n == 77_777 { 9.0 } else { 1.0 }))).collect();
        let thin = series(&points).thin();
        assert!(thin.points.len() <= POINTS_MAX);
        assert!(thin.points.iter().any(|(_, y)| *y == Some(9.0)));
        assert_eq!(thin.points.last().map(|(x, _)| *x), Some(99_999.0));
    }

    #[test]
    fn nines_are_written_out() {
        let labels: Vec<_> =
            x_ticks(X::Percentile, 0.0, 4.2).iter().map(|(n, _)| x_text(X::Percentile, *n)).collect();
        assert_eq!(labels, ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert_eq!(x_text(X::Time, 75.0), "1:15");
        assert_eq!(x_text(X::Time, -2.0), "-2 s");
    }
}
