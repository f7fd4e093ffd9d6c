//! How large messages are: one size, a range, or a few sizes with weights.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer};

/// A message carries its stamp, so none is smaller.
pub const SIZE_MIN: u32 = crate::engine::STAMP_BYTES as u32;
/// What the protocol allows (link.md, "message cap").
pub const SIZE_MAX: u32 = 16 << 20;

/// Which size each message has. The sender and the receiver draw the same one from the same number, so that a size
/// is never sent and always checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// Every message has this many bytes.
    Fixed(u32),
    /// Every size from the first to the last is equally likely.
    Range(u32, u32),
    /// Sizes with the share of messages that are of it or of one before it; the last share is 1.
    Weighted(Vec<(u32, f64)>),
}

impl Sizes {
    /// The size that the number `draw`, of which all values are equally likely, stands for.
    pub fn of(&self, draw: u64) -> u32 {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Range(min, max) => {
                let span = u64::from(max - min) + 1;
                min + ((u128::from(draw) * u128::from(span)) >> 64) as u32
            }
            Sizes::Weighted(sizes) => {
                let share = draw as f64 / u64::MAX as f64;
                let found = sizes.iter().find(|(_, up_to)| share <= *up_to).or(sizes.last());
                found.expect("a distribution has at least one size").0
            }
        }
    }

    /// The largest size that is ever drawn.
    pub fn max(&self) -> u32 {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Range(_, max) => *max,
            Sizes::Weighted(sizes) => sizes.iter().map(|(size, _)| *size).max().unwrap_or(SIZE_MIN),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    /// `128`, `64KiB`, `64..4096`, or `128:9,4KiB:1` (nine in ten of 128 bytes, one of 4 KiB).
    fn from_str(text: &str) -> Result<Sizes, String> {
        if let Some((min, max)) = text.split_once("..") {
            let (min, max) = (size(min)?, size(max)?);
            return match min < max {
                true => Ok(Sizes::Range(min, max)),
                false => Err(format!("{text}: a range goes from the smaller size to the larger one")),
            };
        }
        if !text.contains(':') {
            return Ok(Sizes::Fixed(size(text)?));
        }
        let mut sizes = Vec::new();
        for part in text.split(',') {
            let (bytes, weight) = part
                .split_once(':')
                .ok_or_else(|| format!("{part}: a size wants its weight, as in 128:9"))?;
            let weight: f64 = weight.trim().parse().map_err(|_| format!("{weight}: a weight is a number"))?;
            if !weight.is_finite() || weight <= 0.0 {
                return Err(format!("{weight}: a weight is above zero"));
            }
            sizes.push((size(bytes)?, weight));
        }
        let total: f64 = sizes.iter().map(|(_, weight)| weight).sum();
        let mut so_far = 0.0;
        for (_, share) in &mut sizes {
            so_far += *share;
            *share = so_far / total;
        }
        Ok(Sizes::Weighted(sizes))
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(size) => write!(out, "{size}"),
            Sizes::Range(min, max) => write!(out, "{min}..{max}"),
            Sizes::Weighted(sizes) => {
                let mut before = 0.0;
                for (index, (size, up_to)) in sizes.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    write!(out, "{separator}{size}:{:.3}", up_to - before)?;
                    before = *up_to;
                }
                Ok(())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Sizes {
    /// A number or the text that the command line takes.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Sizes, D::Error> {
        match NumberOrText::deserialize(from)? {
            NumberOrText::Number(size) => size.to_string().parse(),
            NumberOrText::Text(text) => text.parse(),
        }
        .map_err(serde::de::Error::custom)
    }
}

/// A number of bytes, also in `KiB` and `MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let scale: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" | "K" | "k" => 1 << 10,
            "MiB" | "M" | "m" => 1 << 20,
            _ => return Err(format!("{text}: bytes are a whole number, alone or with KiB or MiB")),
        };
        let number: u64 = number.parse().map_err(|_| format!("{text}: bytes are a whole number"))?;
        number.checked_mul(scale).map(Bytes).ok_or_else(|| format!("{text}: too many bytes"))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        match NumberOrText::deserialize(from)? {
            NumberOrText::Number(bytes) => Ok(Bytes(bytes)),
            NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

fn size(text: &str) -> Result<u32, String> {
    let Bytes(bytes) = text.parse()?;
    match u32::try_from(bytes) {
        Ok(size) if (SIZE_MIN..=SIZE_MAX).contains(&size) => Ok(size),
        _ => Err(format!("{text}: a message has {SIZE_MIN} bytes (its stamp) to {} MiB", SIZE_MAX >> 20)),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_drawn_from() {
        let draws: Vec<u64> = (0..1000u64).map(|n| n * (u64::MAX / 999)).collect();
        for (text, min, max) in
            [("128", 128, 128), ("64KiB", 65_536, 65_536), ("8..1KiB", 8, 1024), ("100:9, 4KiB:1", 100, 4096)]
        {
            let sizes: Sizes = text.parse().expect(text);
            let drawn = || draws.iter().map(|draw| sizes.of(*draw));
            assert_eq!((drawn().min(), drawn().max()), (Some(min), Some(max)), "{text}");
            assert_eq!(sizes.max(), max, "{text}");
        }
        let weighted: Sizes = "100:9,4KiB:1".parse().expect("it is a distribution");
        let small = draws.iter().filter(|draw| weighted.of(**draw) == 100).count();
        assert!((890..=910).contains(&small), "{small} of 1000 are small");
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_would_be_one() {
        for text in
            ["", "7", "17MiB", "128:", "128:0", "128:-1", "128:nan", "10..10", "20..10", "64XB", "1:2:3"]
        {
            assert!(text.parse::<Sizes>().is_err(), "{text:?}");
        }
    }
}
