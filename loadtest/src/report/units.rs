//! Numbers as people read them: three significant digits and a unit.

use std::time::{Duration, UNIX_EPOCH};

/// A whole number with its thousands apart: `81,234`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits: `0.0123`, `1.50`, `12.3`, `1,230`. A value that fewer digits write exactly has no trailing
/// zeros: `1.5` and `12` are no roundings.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    let sign = if value < 0.0 { "-" } else { "" };
    if size >= 99.95 {
        return format!("{sign}{}", count(size.round() as u64));
    }
    if size < 1e-6 {
        return "0".to_owned();
    }
    // The exponent after rounding: 0.9997 is written as 1.00.
    let exponent =
        format!("{size:.2e}").split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    let decimals = (2 - exponent.unwrap_or(0)).clamp(0, 9) as usize;
    let text = format!("{size:.decimals$}");
    let brief = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let is_exact = brief.parse::<f64>().is_ok_and(|value| (value - size).abs() <= size * 1e-9);
    format!("{sign}{}", if is_exact { brief } else { &text })
}

/// A duration given in microseconds: `950 µs`, `1.2 ms`, `2.3 s`.
pub fn micros(value: f64) -> String {
    scaled(value, 1000.0, &["µs", "ms", "s"])
}

/// A duration given in seconds: `350 ms`, `10 s`, `2 min 5 s`.
pub fn seconds(value: f64) -> String {
    if value < 100.0 {
        return micros(value * 1e6);
    }
    let whole = value.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Memory, in powers of 1024: `312 B`, `4.5 MiB`.
pub fn memory(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Traffic, in powers of 1000: `10.4 MB/s`.
pub fn byte_rate(bytes_per_second: f64) -> String {
    scaled(bytes_per_second, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s"])
}

/// An amount of traffic, in powers of 1000: `1.04 GB`.
pub fn traffic(bytes: f64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// A large number, short: `950`, `81.2k`, `1.5M`.
pub fn short(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G"]).replace(' ', "")
}

/// A percentile as it is written in words: `p50`, `p99.9`.
pub fn percentile(value: f64) -> String {
    format!("p{}", (value * 1e6).round() / 1e6)
}

/// A moment in milliseconds since the Unix epoch: `Sat, 21 Nov 2026 15:34:07 GMT`.
pub fn moment(unix_ms: u64) -> String {
    // What is past the year 9999 is no moment of a run, but may stand in a file.
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST_MOMENT_MS)))
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // What would be written as a whole step belongs to the next unit.
    while value.abs() >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{} {}", number(value), units[unit])
}

const LAST_MOMENT_MS: u64 = 253_402_300_799_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_345, "0.0123"),
            (0.5, "0.5"),
            (1.0, "1"),
            (1.235, "1.24"),
            (12.34, "12.3"),
            (13.001, "13.0"),
            (13.0, "13"),
            (99.96, "100"),
            (999.6, "1,000"),
            (1234.4, "1,234"),
            (-2.5, "-2.5"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
        assert_eq!((count(0), count(999), count(1000)), ("0".into(), "999".into(), "1,000".into()));
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn moments_are_told_by_the_calendar() {
        assert_eq!(moment(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(moment(951_782_400_000), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(moment(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn units_follow_the_size() {
        assert_eq!(micros(0.0), "0 µs");
        assert_eq!(micros(999.0), "999 µs");
        assert_eq!(micros(999.7), "1.00 ms");
        assert_eq!(micros(1234.0), "1.23 ms");
        assert_eq!(micros(75_000_000.0), "75 s");
        assert_eq!(seconds(0.35), "350 ms");
        assert_eq!(seconds(125.0), "2 min 5 s");
        assert_eq!(seconds(7260.0), "2 h 1 min");
        assert_eq!(memory(312.0), "312 B");
        assert_eq!(memory(1024.0 * 1024.0 * 4.5), "4.5 MiB");
        assert_eq!(memory(-2048.0), "-2 KiB");
        assert_eq!(byte_rate(10_400_000.0), "10.4 MB/s");
        assert_eq!(traffic(1.04e9), "1.04 GB");
        assert_eq!(short(81_234.0), "81.2k");
        assert_eq!(percentile(99.9), "p99.9");
    }
}
