//! Where a report goes: the terminal always, files where they are asked for.

use std::{fs, io::Write, path::PathBuf};

use clap::Args;

use super::{
    html,
    model::{FORMAT, Relay, Report, Run},
    terminal::{self, Paint},
};
use crate::{compare, machine, progress::How};

/// Where to put the report.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Report")]
pub struct OutputArgs {
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write the report as one HTML file with charts, which holds the JSON too.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Do not tell of progress.
    #[arg(long)]
    pub quiet: bool,
}

impl OutputArgs {
    /// How progress is told.
    pub fn progress(&self) -> How {
        How::for_stderr(self.quiet)
    }

    /// Refuses files that could not be written, before hours are spent on what goes into them. Leaves what is in a file
    /// as it is.
    pub fn check(&self) -> Result<(), String> {
        for (option, path) in [("json", &self.json), ("report", &self.report)] {
            let Some(path) = path else { continue };
            let opened = fs::OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| format!("--{option} {}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Prints the report and writes the files. Errors: a file that cannot be written.
    pub fn deliver(&self, report: &Report) -> Result<(), String> {
        // A reader that has gone, such as `head`, is no failure of the run.
        let _ = std::io::stdout().write_all(terminal::render(report, Paint::for_stdout()).as_bytes());
        let written = |path: &PathBuf, text: Result<String, serde_json::Error>| {
            let text = text.map_err(|error| error.to_string())?;
            fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        if let Some(path) = &self.json {
            written(path, serde_json::to_string_pretty(report))?;
        }
        if let Some(path) = &self.report {
            written(path, html::render(report))?;
        }
        Ok(())
    }
}

/// A report of these runs, made here and now.
pub fn assemble(
    started_unix_ms: u64,
    generator_cores: Option<String>,
    relays: Vec<Relay>,
    runs: Vec<Run>,
) -> Report {
    let comparisons = if relays.len() == 2 { compare::comparisons(&runs) } else { Vec::new() };
    Report {
        format: FORMAT,
        generator: concat!(
            env!("CARGO_PKG_NAME"),
            " ",
            env!("CARGO_PKG_VERSION"),
            " (",
            env!("LOADTEST_COMMIT"),
            ")"
        )
        .to_owned(),
        started_unix_ms,
        machine: machine::describe(),
        generator_cores,
        relays,
        runs,
        comparisons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn files_are_refused_before_the_run_and_written_after_it() {
        let folder = std::env::temp_dir().join(format!("loadtest-output-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let output = OutputArgs {
            json: Some(folder.join("out.json")),
            report: Some(folder.join("out.html")),
            quiet: true,
        };
        output.check().expect("both can be written");
        let report = sample::comparison();
        output.deliver(&report).expect("as checked");
        let json = fs::read_to_string(folder.join("out.json")).expect("it is there");
        let read: Report = serde_json::from_str(&json).expect("it is a report");
        assert_eq!((read.runs.len(), read.format), (report.runs.len(), FORMAT));
        assert_eq!(read.runs[0].totals.messages, report.runs[0].totals.messages);
        assert!(
            fs::read_to_string(folder.join("out.html")).expect("it is there").starts_with("<!doctype html>")
        );
        fs::remove_dir_all(&folder).expect("it is ours");
        let error = output.check().expect_err("the folder is gone");
        assert!(error.starts_with("--json ") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn two_relays_are_compared() {
        let sample = sample::comparison();
        let report = assemble(0, None, sample.relays, sample.runs);
        assert_eq!(report.comparisons.len(), 1);
        assert!(report.generator.starts_with("longsplice-loadtest ") && report.machine.cores > 0);
    }
}
