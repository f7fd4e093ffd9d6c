//! What a load is made of: parts, each some links that do the same.
//!
//! A [`Mix`] is what was asked for, [`Parts`] is it made complete; a load of one kind is a single part. As text:
//!
//! ```text
//! pingpong:1000@128,rate:20@64..4096@5/s,stream:1@64KiB
//! pattern ':' weight ['@' size] ['@' messages a second '/s']
//! ```

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::{scenario::Pattern, sizes::Sizes};

/// The parts of a mixed load as they are asked for, in the order of the links they are dealt out to.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(pub Vec<Share>);

/// One part of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    #[serde(deserialize_with = "pattern_of_file")]
    pub pattern: Pattern,
    /// So many of the links, beside the other weights.
    pub weight: u32,
    /// Bytes of a message; without it, those of the whole load.
    pub size: Option<Sizes>,
    /// Messages a second of each link that sends by the clock; without it, that of the whole load.
    pub rate: Option<f64>,
}

/// One part of a load, complete: links that do the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// As reports show it.
    pub name: String,
    pub pattern: Pattern,
    pub weight: u32,
    pub sizes: Sizes,
    /// Messages a second of each link, where they are sent by the clock.
    pub rate: f64,
}

/// All parts of a load. There is at least one.
#[derive(Clone, Debug)]
pub struct Parts {
    parts: Vec<Part>,
    /// The weights' sum.
    total: u64,
    /// From a link's place in the circle of weights to the next one's.
    step: u64,
}

impl Mix {
    /// Whether it has links of this pattern.
    pub fn has(&self, pattern: Pattern) -> bool {
        self.0.iter().any(|share| share.pattern == pattern)
    }

    fn of(shares: Vec<Share>) -> Result<Mix, String> {
        match shares.len() {
            1..=PARTS_MAX => Ok(Mix(shares)),
            count => Err(format!("a mix is made of 1 to {PARTS_MAX} parts, not {count}")),
        }
    }

    /// The parts, with the size and the rate of the whole load where they have none of their own.
    pub fn complete(&self, sizes: &Sizes, rate: f64) -> Parts {
        let part = |share: &Share| Part {
            name: share.to_string(),
            pattern: share.pattern,
            weight: share.weight,
            sizes: share.size.clone().unwrap_or_else(|| sizes.clone()),
            rate: share.rate.unwrap_or(rate),
        };
        Parts::new(self.0.iter().map(part).collect())
    }
}

impl Parts {
    /// A load whose links all do the same.
    pub fn alone(name: &str, pattern: Pattern, sizes: Sizes, rate: f64) -> Parts {
        Parts::new(vec![Part { name: name.to_owned(), pattern, weight: 1, sizes, rate }])
    }

    fn new(parts: Vec<Part>) -> Parts {
        let total: u64 = parts.iter().map(|part| u64::from(part.weight)).sum();
        // Steps by the golden section, which has no rhythm, made to visit every place once.
        let section = (total as f64 * 0.618) as u64;
        let step = (section.max(1)..).find(|step| gcd(*step, total) == 1).unwrap_or(1);
        Parts { parts, total, step }
    }

    /// In their order.
    pub fn all(&self) -> &[Part] {
        &self.parts
    }

    /// The number of the part that a link belongs to. Every run of as many links as the weights' sum holds each part by
    /// its weight, and shorter ones nearly so.
    pub fn number_of(&self, link: u32) -> usize {
        if self.parts.len() == 1 {
            return 0;
        }
        let mut place = (u64::from(link) * self.step % self.total) as u32;
        for (number, part) in self.parts.iter().enumerate() {
            if place < part.weight {
                return number;
            }
            place -= part.weight;
        }
        unreachable!("the place is below the weights' sum")
    }

    /// The part that a link belongs to.
    pub fn of(&self, link: u32) -> &Part {
        &self.parts[self.number_of(link)]
    }

    /// The same links with other sizes, and a share of the rates.
    pub fn with(&self, sizes: &Sizes, rate_share: f64) -> Parts {
        let part = |part: &Part| Part {
            sizes: sizes.clone(),
            rate: (part.rate * rate_share).max(RATE_MIN),
            ..part.clone()
        };
        Parts::new(self.parts.iter().map(part).collect())
    }

    /// The largest message of any.
    pub fn size_max(&self) -> u32 {
        self.parts.iter().map(|part| part.sizes.max()).max().expect("there is at least one")
    }
}

impl Part {
    /// With the size, and the rate where it has one, that it came to have.
    pub fn in_full(&self) -> Share {
        Share {
            pattern: self.pattern,
            weight: self.weight,
            size: Some(self.sizes.clone()),
            rate: (self.pattern == Pattern::Rate).then_some(self.rate),
        }
    }
}

impl Share {
    /// Errors: what is wrong with it and what would be right.
    fn check(self) -> Result<Share, String> {
        if !(1..=WEIGHT_MAX).contains(&self.weight) {
            return Err(format!("{self}: a weight is 1 to {WEIGHT_MAX}"));
        }
        match self.rate {
            Some(_) if self.pattern != Pattern::Rate => {
                Err(format!("{self}: only `rate` sends by the clock, {} has no rate", name(self.pattern)))
            }
            Some(rate) if !(RATE_MIN..=RATE_MAX).contains(&rate) => {
                Err(format!("{self}: a rate is {RATE_MIN} to {RATE_MAX} messages a second"))
            }
            _ => Ok(self),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let text = text.trim();
        let mut pieces = text.split('@');
        let (pattern, weight) = pieces
            .next()
            .and_then(|piece| piece.split_once(':'))
            .ok_or_else(|| format!("{text}: a pattern wants its weight, as in stream:2"))?;
        let weight = weight.trim().parse().map_err(|_| format!("{text}: a weight is 1 to {WEIGHT_MAX}"))?;
        let mut share = Share { pattern: pattern_of(pattern.trim())?, weight, size: None, rate: None };
        for piece in pieces {
            let is_again = match piece.trim().strip_suffix("/s") {
                Some(rate) => {
                    let rate = rate.trim().parse();
                    let rate = rate.map_err(|_| format!("{text}: a rate is a number, as in @5/s"))?;
                    share.rate.replace(rate).is_some()
                }
                None => {
                    share.size.replace(piece.parse().map_err(|error| format!("{text}: {error}"))?).is_some()
                }
            };
            if is_again {
                return Err(format!("{text}: one size and one rate at most"));
            }
        }
        share.check()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", name(self.pattern), self.weight)?;
        if let Some(size) = &self.size {
            write!(out, "@{size}")?;
        }
        if let Some(rate) = self.rate {
            write!(out, "@{rate}/s")?;
        }
        Ok(())
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        Mix::of(text.split(',').map(str::parse).collect::<Result<_, String>>()?)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, share) in self.0.iter().enumerate() {
            write!(out, "{}{share}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Mix {
    /// The text that the command line takes, or a list of tables, which may have sizes with weights, too.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Mix, D::Error> {
        struct TextOrTables;

        impl<'de> Visitor<'de> for TextOrTables {
            type Value = Mix;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(
                    "a mix such as \"pingpong:9,stream:1\", or a list of tables with pattern and weight",
                )
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Mix, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Mix, A::Error> {
                let mut shares = Vec::new();
                while let Some(share) = tables.next_element::<Share>()? {
                    shares.push(share.check().map_err(A::Error::custom)?);
                }
                Mix::of(shares).map_err(A::Error::custom)
            }
        }

        from.deserialize_any(TextOrTables)
    }
}

fn pattern_of_file<'de, D: Deserializer<'de>>(from: D) -> Result<Pattern, D::Error> {
    pattern_of(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn pattern_of(text: &str) -> Result<Pattern, String> {
    let known = PATTERNS.iter().find(|(known, _)| *known == text);
    let (_, pattern) = known
        .ok_or_else(|| format!("{text}: a mix is made of pingpong, rate, stream, duplex, hold and churn"))?;
    Ok(*pattern)
}

fn name(pattern: Pattern) -> &'static str {
    PATTERNS.iter().find(|(_, known)| *known == pattern).map_or("", |(name, _)| name)
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
const WEIGHT_MAX: u32 = 10_000;
/// Each has a histogram in every thread.
const PARTS_MAX: usize = 64;
/// What a link may send a second by the clock.
pub const RATE_MIN: f64 = 0.001;
pub const RATE_MAX: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Parts {
        text.parse::<Mix>().expect(text).complete(&Sizes::Fixed(128), 10.0)
    }

    #[test]
    fn parts_are_dealt_out_by_weight_and_without_a_rhythm() {
        for text in [
            "hold:60,pingpong:20,rate:18,stream:2",
            "stream:1",
            "duplex:1,hold:1",
            "rate:7,hold:93",
            "pingpong:1000@128,stream:1@65536",
        ] {
            assert_eq!(text.parse::<Mix>().expect(text).to_string(), text);
            let parts = complete(text);
            let total: u32 = parts.all().iter().map(|part| part.weight).sum();
            for (number, part) in parts.all().iter().enumerate() {
                let count = |links: std::ops::Range<u32>| {
                    links.filter(|link| parts.number_of(*link) == number).count()
                };
                assert_eq!(count(5..5 + total), part.weight as usize, "{} of {text}", part.name);
                let short = f64::from(total.min(20)) * f64::from(part.weight) / f64::from(total);
                assert!((count(0..total.min(20)) as f64 - short).abs() <= 2.0, "{} of {text}", part.name);
            }
        }
    }

    #[test]
    fn a_part_has_its_own_size_and_rate_or_those_of_the_load() {
        let parts = complete("rate:1@64..4KiB@2.5/s, rate:1@1/s,stream:1@1MiB,pingpong:1");
        let given: Vec<_> = parts.all().iter().map(|part| (part.sizes.to_string(), part.rate)).collect();
        let expected = [("64..4096", 2.5), ("128", 1.0), ("1048576", 10.0), ("128", 10.0)];
        assert_eq!(given, expected.map(|(size, rate)| (size.to_owned(), rate)));
        assert_eq!(parts.size_max(), 1 << 20);
    }

    #[test]
    fn a_file_may_have_tables_in_place_of_text() {
        #[derive(Deserialize)]
        struct File {
            mix: Mix,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.mix);
        let tables = "mix = [{ pattern = \"pingpong\", weight = 9, size = \"64:9,4KiB:1\" },\n\
                      { pattern = \"rate\", weight = 1, size = 256, rate = 5 }]";
        let mix = read(tables).expect("it is in order");
        assert!(matches!(mix.0[0].size, Some(Sizes::Weighted(_))));
        assert_eq!(Mix(vec![mix.0[1].clone()]), "rate:1@256@5/s".parse().expect("the same as text"));
        for (text, said) in [
            ("mix = []", "1 to 64"),
            ("mix = 3", "list of tables"),
            ("mix = [{ pattern = \"pingpong\" }]", "weight"),
            ("mix = [{ pattern = \"paced\", weight = 1 }]", "paced"),
            ("mix = [{ pattern = \"hold\", weight = 0 }]", "1 to 10000"),
            ("mix = [{ pattern = \"hold\", weight = 1, rate = 2 }]", "no rate"),
            ("mix = [{ pattern = \"hold\", weight = 1, sizes = 2 }]", "sizes"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for text in [
            "",
            "hold",
            "hold:0",
            "hold:x",
            "paced:1",
            "hold:1,,stream:1",
            "stream:1@",
            "stream:1@7",
            "stream:1@64@64",
            "stream:1@5/s",
            "rate:1@x/s",
            "rate:1@0/s",
            "rate:1@1/s@2/s",
            "rate:10001",
        ] {
            assert!(text.parse::<Mix>().is_err(), "{text:?}");
        }
    }
}
