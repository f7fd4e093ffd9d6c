//! What a mixed load is made of.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use crate::scenario::Pattern;

/// The weights of a mixed load, in the order of the links they are dealt out to.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(pub Vec<(Pattern, u32)>);

impl Mix {
    /// Whether it has links of this pattern.
    pub fn has(&self, pattern: Pattern) -> bool {
        self.0.iter().any(|(known, _)| *known == pattern)
    }

    /// What the link of this number does. Every run of as many links as the weights' sum holds each pattern by its
    /// weight, and shorter ones nearly so.
    pub fn pattern(&self, link: u32) -> Pattern {
        let total: u64 = self.0.iter().map(|(_, weight)| u64::from(*weight)).sum();
        // Steps by the golden section, which has no rhythm, made to visit every place once.
        let section = (total as f64 * 0.618) as u64;
        let step = (section.max(1)..).find(|step| gcd(*step, total) == 1).unwrap_or(1);
        let mut place = (u64::from(link) * step % total) as u32;
        for (pattern, weight) in &self.0 {
            if place < *weight {
                return *pattern;
            }
            place -= weight;
        }
        unreachable!("the place is below the weights' sum")
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part
                .trim()
                .split_once(':')
                .ok_or_else(|| format!("{part}: a pattern wants its weight, as in stream:2"))?;
            let known = PATTERNS.iter().find(|(known, _)| *known == name);
            let (_, pattern) = known.ok_or_else(|| {
                format!("{name}: a mix is made of pingpong, rate, stream, duplex, hold and churn")
            })?;
            let weight = weight.parse().ok().filter(|weight| (1..=10_000).contains(weight));
            mix.push((*pattern, weight.ok_or_else(|| format!("{part}: a weight is 1 to 10000"))?));
        }
        Ok(Mix(mix))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (pattern, weight)) in self.0.iter().enumerate() {
            let name = PATTERNS.iter().find(|(_, known)| known == pattern).map_or("", |(name, _)| name);
            write!(out, "{}{name}:{weight}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Mix {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Mix, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

const PATTERNS: [(&str, Pattern); 6] = [
    ("pingpong", Pattern::Pingpong),
    ("rate", Pattern::Rate),
    ("stream", Pattern::Stream),
    ("duplex", Pattern::Duplex),
    ("hold", Pattern::Idle),
    ("churn", Pattern::Churn),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_dealt_out_by_weight_and_without_a_rhythm() {
        for text in ["hold:60,pingpong:20,rate:18,stream:2", "stream:1", "duplex:1,hold:1", "rate:7,hold:93"]
        {
            let mix: Mix = text.parse().expect(text);
            assert_eq!(mix.to_string(), text);
            let total: u32 = mix.0.iter().map(|(_, weight)| weight).sum();
            for (pattern, weight) in &mix.0 {
                let count =
                    |links: std::ops::Range<u32>| links.filter(|link| mix.pattern(*link) == *pattern).count();
                assert_eq!(count(5..5 + total), *weight as usize, "{pattern:?} of {text}");
                let short = f64::from(total.min(20)) * f64::from(*weight) / f64::from(total);
                assert!((count(0..total.min(20)) as f64 - short).abs() <= 2.0, "{pattern:?} of {text}");
            }
        }
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for text in ["", "hold", "hold:0", "hold:x", "pair:1", "hold:1,,stream:1"] {
            assert!(text.parse::<Mix>().is_err(), "{text:?}");
        }
    }
}
