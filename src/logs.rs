//! Log lines: where they go, how they look, which are written.
//!
//! Lines are for decisions: started, refused, closed, failed. None is written per message, and none at `info`
//! or above holds an address, a key, an IP or a payload. They go to standard error, by way of a thread that alone waits
//! for it: lines that it does not take are lost and counted.
//!
//! What the workspace contract names an entry is also kept in a [`Ring`] and may be written as that contract has it.

mod ring;
mod sink;

use std::{fmt, io, str::FromStr, sync::Arc};

pub use ring::{Null, Ring, TARGET};
pub use sink::{flush, lines_lost, write_last_line, write_line};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, fmt as lines, prelude::*};

use self::ring::Collector;
use crate::config::LogFormat;

/// Which lines are written: a level for everything, and levels for some modules.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    text: String,
    targets: Targets,
}

impl Filter {
    /// Parses `LEVEL`, `TARGET=LEVEL` or a list of them separated by commas, as in `RUST_LOG`; `None` if it
    /// is not one. A bare word must be a level: taking it for a module's name would silence all others.
    pub fn parse(text: &str) -> Option<Filter> {
        let entries: Vec<_> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
        let mut targets = Vec::new();
        for entry in &entries {
            let (target, level) =
                entry.rsplit_once('=').map_or((None, *entry), |(target, level)| (Some(target), level));
            let level = level.to_lowercase();
            // The words of the pair reference's logger that this one does not have.
            let level = match level.as_str() {
                "fatal" => "error",
                "silent" => "off",
                level => level,
            };
            LevelFilter::from_str(level).ok()?;
            targets.push(
                target.map_or_else(|| level.to_owned(), |target| format!("{target}={level}").to_lowercase()),
            );
        }
        if entries.is_empty() {
            return None;
        }
        Some(Filter { text: entries.join(","), targets: targets.join(",").parse().ok()? })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How log lines are written, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// For people, or as JSON.
    pub format: LogFormat,
    /// Whether entries go to standard output, in the form of the workspace contract, and not to standard error.
    pub entries_apart: bool,
}

/// Starts logging. Once per process, by its main thread; a second call changes nothing. Errors: no descriptor or no
/// thread to write with.
pub fn start(style: Style, filter: &Filter, ring: Arc<Ring>) -> io::Result<()> {
    sink::start(style.entries_apart)?;
    let targets = filter.targets.clone();
    let collector =
        Collector { ring, writes: move |level| style.entries_apart && targets.would_enable(TARGET, &level) };
    let collector = collector.with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO));
    let mut targets = filter.targets.clone();
    if style.entries_apart {
        targets = targets.with_target(TARGET, LevelFilter::OFF);
    }
    let lines = lines::layer().with_writer(sink::to_error);
    let registry = tracing_subscriber::registry().with(collector);
    let started = match style.format {
        LogFormat::Human => registry.with(lines.with_ansi(false).with_filter(targets)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_filter(targets)).try_init(),
    };
    // The only failure is that a subscriber is there already, as in tests that boot twice in one process.
    let _ = started;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_level_holds_for_everything() {
        for text in ["debug", "DEBUG", "Debug"] {
            let filter = Filter::parse(text).expect("a level");
            assert!(filter.targets.would_enable("longsplice::boot", &Level::DEBUG), "{text}");
            assert!(!filter.targets.would_enable("longsplice::boot", &Level::TRACE), "{text}");
        }
    }

    #[test]
    fn the_words_of_another_logger_are_understood() {
        let enables = |text: &str, level| {
            Filter::parse(text).expect("a level").targets.would_enable("longsplice", &level)
        };
        assert!(enables("fatal", Level::ERROR) && !enables("fatal", Level::WARN));
        assert!(!enables("silent", Level::ERROR));
    }

    #[test]
    fn a_list_sets_modules_apart() {
        let filter = Filter::parse("warn, longsplice::shard=debug").expect("a list");
        assert!(filter.targets.would_enable("longsplice::shard", &Level::DEBUG));
        assert!(!filter.targets.would_enable("longsplice::boot", &Level::INFO));
        assert_eq!(filter.to_string(), "warn,longsplice::shard=debug");
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in ["", " ", ",", "verbose", "info,loud", "longsplice=loud", "longsplice"] {
            assert_eq!(Filter::parse(text), None, "{text:?}");
        }
    }
}
