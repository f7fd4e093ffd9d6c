//! Whether a series grows, and whether it comes to rest.
//!
//! A series grows where all of three agree, each by more than the tolerance where it is a distance: the Theil-Sen slope
//! (the median of the slopes between any two samples) over the measured part; the median of its last quarter over that
//! of its first; and the last quarter's median lies above the second's. The first is not moved by outliers, which soaks
//! are full of; the second not by a shape that is no line; the third lets a series settle in the first half.

use crate::report::model::{Growth, Rest};

/// Judges the samples from 0 to `seconds`. The tolerance is a distance, or a share of the first quarter's median,
/// whichever is more. `None` where there are too few samples to say.
pub fn growth(
    at_seconds: &[f64],
    samples: &[Option<f64>],
    seconds: f64,
    (distance, share): (f64, f64),
) -> Option<Growth> {
    let measured = at_seconds.iter().zip(samples).filter(|(at, _)| (0.0..=seconds).contains(*at));
    let points: Vec<(f64, f64)> = measured.filter_map(|(at, value)| Some((*at, (*value)?))).collect();
    if points.len() < SAMPLES_MIN || seconds <= 0.0 {
        return None;
    }
    let quarter = |number: usize| {
        let (from, to) = (seconds * number as f64 / 4.0, seconds * (number + 1) as f64 / 4.0);
        let values = points.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, value)| *value);
        median(values.collect())
    };
    let quarters = [quarter(0)?, quarter(1)?, quarter(2)?, quarter(3)?];
    let slope = slope(&thin(&points))?;
    let tolerance = distance.max(share * quarters[0].abs());
    let is_growing =
        slope * seconds > tolerance && quarters[3] - quarters[0] > tolerance && quarters[3] > quarters[1];
    Some(Growth { quarters, per_hour: slope * 3600.0, tolerance, is_growing })
}

/// Judges the last sample without load against the one before any.
pub fn rest(before: f64, after: Option<f64>, tolerance: f64) -> Rest {
    let is_back = after.is_some_and(|after| (after - before).abs() <= tolerance);
    Rest { before, after, tolerance, is_back }
}

/// The median of the slopes between any two points.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (place, (x, y)) in points.iter().enumerate() {
        slopes.extend(
            points[place + 1..].iter().filter(|(other, _)| other > x).map(|(x2, y2)| (y2 - y) / (x2 - x)),
        );
    }
    median(slopes)
}

/// Neighbours as one, by their medians, until there are few enough for every pair to be looked at.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(POINTS_MAX).max(1);
    let middle = |points: &[(f64, f64)]| {
        let x = median(points.iter().map(|(x, _)| *x).collect())?;
        Some((x, median(points.iter().map(|(_, y)| *y).collect())?))
    };
    points.chunks(group).filter_map(middle).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    match values.len() % 2 {
        0 => Some((values[values.len() / 2 - 1] + upper) / 2.0),
        _ => Some(upper),
    }
}

/// Ten in each quarter.
const SAMPLES_MIN: usize = 40;
const POINTS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    /// A value for each second of half an hour, with noise and the outliers that bursts make.
    fn series(value: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<Option<f64>>) {
        let noise = |n: u64| (n.wrapping_mul(2_654_435_761) >> 9) % 1000;
        let sample = |n: u64| {
            let outlier = if noise(n + 3) < 40 { 500.0 } else { 0.0 };
            (noise(n + 1) > 5).then(|| value(n as f64) + noise(n) as f64 / 1000.0 * 20.0 + outlier)
        };
        ((0..1800).map(f64::from).collect(), (0..1800).map(sample).collect())
    }

    fn grows(value: impl Fn(f64) -> f64) -> bool {
        let (at, samples) = series(value);
        growth(&at, &samples, 1800.0, (24.0, 0.1)).expect("there are enough").is_growing
    }

    #[test]
    fn what_grows_is_told_from_what_does_not() {
        assert!(grows(|at| 100.0 + at / 1800.0 * 60.0), "a line");
        assert!(grows(|at| 100.0 + (at / 300.0).floor() * 15.0), "steps");
        assert!(grows(|at| 100.0 + if at > 900.0 { at - 900.0 } else { 0.0 }), "the second half");
        assert!(!grows(|_| 100.0), "noise");
        assert!(!grows(|at| 100.0 + 50.0 * (at / 130.0).sin()), "waves");
        assert!(!grows(|at| 160.0 - at / 1800.0 * 60.0), "a fall");
        assert!(!grows(|at| 100.0 + at / 1800.0 * 15.0), "within the tolerance");
        assert!(!grows(|at| if (800.0..900.0).contains(&at) { 900.0 } else { 100.0 }), "a burst that ends");
        assert!(!grows(|at| if at < 400.0 { 100.0 + at / 10.0 } else { 140.0 }), "it settles early");
    }

    #[test]
    fn a_leak_is_told_by_the_hour() {
        let (at, samples) = series(|at| 100.0 + at / 36.0);
        let found = growth(&at, &samples, 1800.0, (24.0, 0.1)).expect("there are enough");
        assert!((found.per_hour - 100.0).abs() < 5.0, "{found:?}");
        assert!(found.quarters.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
    }

    #[test]
    fn too_few_samples_say_nothing() {
        let at: Vec<f64> = (0..30).map(f64::from).collect();
        let samples: Vec<_> = at.iter().map(|at| Some(*at * 1000.0)).collect();
        assert!(growth(&at, &samples, 30.0, (1.0, 0.0)).is_none());
    }

    #[test]
    fn rest_is_what_was_before() {
        assert!(rest(0.0, Some(0.0), 0.0).is_back && !rest(0.0, Some(1.0), 0.0).is_back);
        assert!(rest(40.0, Some(50.0), 16.0).is_back && !rest(40.0, Some(20.0), 16.0).is_back);
        assert!(!rest(0.0, None, 1e9).is_back, "a relay that does not answer is not at rest");
    }
}
