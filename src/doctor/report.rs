//! What the doctor says: a table for people, JSON for machines.

use std::fmt::Write;

use serde::Serialize;

use super::{Judgement, Verdict};

/// One check's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name: a knob of `tuning/`, or a condition.
    pub check: &'static str,
    /// What it found.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// All outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they are shown.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst of all verdicts.
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.judgement.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// For people: a line a check, its remedy below it.
    pub fn table(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let mut out = String::new();
        for Finding { check, judgement: Judgement { value, verdict, remedy } } in &self.findings {
            writeln!(out, "{:<4}  {check:width$}  {value}", word(*verdict)).expect("writing to a string");
            if !remedy.is_empty() {
                writeln!(out, "      {:width$}  -> {remedy}", "").expect("writing to a string");
            }
        }
        let count = |verdict| self.findings.iter().filter(|one| one.judgement.verdict == verdict).count();
        let (ok, warn, fail) = (count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail));
        writeln!(out, "{ok} ok, {warn} warn, {fail} fail").expect("writing to a string");
        out
    }

    /// For machines.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            version: &'static str,
            verdict: Verdict,
            checks: &'a [Finding],
        }
        let whole =
            Whole { version: env!("CARGO_PKG_VERSION"), verdict: self.verdict(), checks: &self.findings };
        let text = serde_json::to_string_pretty(&whole).expect("plain data is always JSON");
        text + "\n"
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    }
}
