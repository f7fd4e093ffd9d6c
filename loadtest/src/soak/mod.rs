//! A soak: a mixed load for a long time with mishaps all along, and a relay that is watched for what grows.
//!
//! The load and its mishaps are made by the [`engine`](crate::engine). Here is what watches: [`exposition`] reads the
//! relay's metrics, [`sampler`] takes a sample every second, [`verdict`] judges the series.

mod exposition;
mod sampler;
mod verdict;

use std::time::Duration;

use crate::{
    scenario::{Kind, number, whole},
    settings::Settings,
};

pub use self::{exposition::Endpoint, sampler::Sampler};

/// How hard the load makes it for the relay.
#[derive(Clone, Debug, PartialEq)]
pub struct Hardship {
    /// Of a hundred hosts, how many meet mishaps with all their links.
    pub troubled_percent: u32,
    /// Connections a second that misbehave from their first byte on.
    pub strangers: f64,
    /// Pairing sessions beside the links.
    pub pair_links: u32,
    /// How long the relay may take to come to rest.
    pub settle: Duration,
}

impl Hardship {
    /// Completes settings with the defaults; `None` for any load but a soak. Errors: the setting, its value, and what
    /// it may be.
    pub fn of(kind: Kind, settings: &Settings) -> Result<Option<Hardship>, String> {
        let Settings { troubled, strangers, pair_links, settle, .. } = settings;
        if kind != Kind::Soak {
            let given = [
                ("troubled", troubled.is_some()),
                ("strangers", strangers.is_some()),
                ("pair-links", pair_links.is_some()),
                ("settle", settle.is_some()),
            ];
            return match given.into_iter().find(|(_, is_given)| *is_given) {
                Some((name, _)) => Err(format!("--{name} is for `soak`, not for `{}`", kind.name())),
                None => Ok(None),
            };
        }
        Ok(Some(Hardship {
            troubled_percent: whole("troubled", troubled.unwrap_or(30), 0, 100)?,
            strangers: number("strangers", strangers.unwrap_or(5.0), 0.0, 1000.0)?,
            pair_links: whole("pair-links", pair_links.unwrap_or(20), 0, 1_000_000)?,
            // Longer than a relay waits for a peer that has vanished, or keeps a session that both devices have left.
            settle: Duration::from_secs_f64(number("settle", settle.unwrap_or(120.0), 0.0, 1e6)?),
        }))
    }

    /// Whether the host of this number, or where there are no hosts the link, meets mishaps: so many of a hundred,
    /// evenly spread.
    pub fn troubles(&self, number: u32) -> bool {
        let upto = |number: u64| number * u64::from(self.troubled_percent) / 100;
        upto(u64::from(number) + 1) != upto(u64::from(number))
    }

    /// For what runs beside a load that has the strangers already.
    pub fn without_strangers(&self) -> Hardship {
        Hardship { strangers: 0.0, ..self.clone() }
    }

    /// As text, for the report.
    pub fn settings(&self) -> [(String, String); 4] {
        [
            ("troubled".to_owned(), self.troubled_percent.to_string()),
            ("strangers".to_owned(), self.strangers.to_string()),
            ("pair-links".to_owned(), self.pair_links.to_string()),
            ("settle".to_owned(), self.settle.as_secs_f64().to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_meets_so_many_of_a_hundred() {
        for troubled_percent in [0, 1, 30, 50, 99, 100] {
            let hardship =
                Hardship { troubled_percent, strangers: 0.0, pair_links: 0, settle: Duration::ZERO };
            let count =
                |numbers: std::ops::Range<u32>| numbers.filter(|number| hardship.troubles(*number)).count();
            assert_eq!(count(700..800), troubled_percent as usize);
            assert!(count(0..10).abs_diff(troubled_percent as usize / 10) <= 1, "{troubled_percent}");
        }
    }
}
