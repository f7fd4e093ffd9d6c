//! `longsplice doctor`: whether this machine gives what the options ask for.
//!
//! Reads and asks, binds nothing and changes nothing. [`Facts`] is the machine as it was found, [`Need`] what the
//! options want of it, and every check a function of the two, so that machines can be made up. The checks that can be
//! tuned are the rows of one table ([`knobs`]), from which come the files of `tuning/` too.

mod checks;
mod facts;
pub mod knobs;
mod need;
mod report;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use facts::{Answers, Facts, Limit};
pub use need::Need;
pub use report::{Finding, Report};

use crate::{
    config::Config,
    driver::{self, process},
};

/// Examines this machine.
pub fn examine(config: &Config) -> Report {
    let answers = Answers {
        driver: driver::choose(config.driver).map_err(|error| error.to_string()),
        tables: process::private_tables(),
        clock_is_kept: process::clock_is_kept(),
        page_bytes: process::page_bytes(),
    };
    judge(&Need::of(config), &Facts::read(Path::new("/"), answers))
}

/// Runs every check.
pub fn judge(need: &Need, facts: &Facts) -> Report {
    let knobs = knobs::KNOBS.iter().filter_map(|knob| Some((knob.name, knob.judge?)));
    let all = checks::CONDITIONS.iter().copied().chain(knobs);
    Report { findings: all.map(|(check, judge)| Finding { check, judgement: judge(need, facts) }).collect() }
}

/// A check.
pub type Judge = fn(&Need, &Facts) -> Judgement;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As the options want it.
    Ok,
    /// The relay runs, but less well than it could, or nobody knows.
    Warn,
    /// The relay does not start, or not everything that the options promise can be had.
    Fail,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Judgement {
    /// What is, beside what is wanted.
    pub value: String,
    /// How bad that is.
    pub verdict: Verdict,
    /// What to do about it; empty if nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Judgement {
    fn ok(value: impl Into<String>) -> Judgement {
        Judgement { value: value.into(), verdict: Verdict::Ok, remedy: String::new() }
    }

    fn warn(value: impl Into<String>, remedy: impl Into<String>) -> Judgement {
        Judgement { value: value.into(), verdict: Verdict::Warn, remedy: remedy.into() }
    }

    fn fail(value: impl Into<String>, remedy: impl Into<String>) -> Judgement {
        Judgement { value: value.into(), verdict: Verdict::Fail, remedy: remedy.into() }
    }

    /// The kernel does not show it here.
    fn unknown() -> Judgement {
        Judgement::warn("cannot be read", "run this where /proc and /sys are mounted")
    }
}
