//! Why the configuration was refused: which option, from where, which value, and what to do.

use std::{fmt, path::PathBuf};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(&'static str),
    /// The file given by `--config`.
    File(PathBuf),
    /// Nowhere: the built-in default.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("command line"),
            Source::Environment(name) => write!(f, "environment variable {name}"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// Why the relay refuses to start. Its text names option, source, value and remedy; the process exits with
/// [`ConfigError::EXIT_CODE`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each variant names its fields.
pub enum ConfigError {
    /// The command line does not parse; holds the usage message.
    Usage(String),
    /// A value that its option does not take.
    BadValue { option: &'static str, source: Source, value: String, takes: String },
    /// Two values that are each correct but not together.
    Conflict { option: &'static str, source: Source, value: String, why: String },
    /// Two variables of equal rank that set one option differently.
    Disagreement { option: &'static str, first: (&'static str, String), second: (&'static str, String) },
    /// A file that an option names and that cannot be read.
    Unreadable { option: &'static str, source: Source, path: PathBuf, why: String },
    /// The configuration file is not TOML.
    BadFile { path: PathBuf, why: String },
    /// A key of the configuration file that is no option; with the option that looks like it.
    UnknownKey { path: PathBuf, key: String, similar: Option<&'static str> },
}

impl ConfigError {
    /// The process's exit code for every refusal.
    pub const EXIT_CODE: u8 = 2;
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Usage(text) => f.write_str(text.trim_end()),
            ConfigError::BadValue { option, source, value, takes } => {
                write!(f, "--{option}: the value {value:?} ({source}) is not accepted: it takes {takes}")
            }
            ConfigError::Conflict { option, source, value, why } => {
                write!(f, "--{option}: the value {value:?} ({source}) is not accepted: {why}")
            }
            ConfigError::Disagreement { option, first, second } => write!(
                f,
                "--{option}: the environment variables {}={:?} and {}={:?} disagree: unset one of them",
                first.0, first.1, second.0, second.1
            ),
            ConfigError::Unreadable { option, source, path, why } => write!(
                f,
                "--{option}: the file {} ({source}) cannot be read: {why}. Make it readable for this user, or unset \
                 the option",
                path.display()
            ),
            ConfigError::BadFile { path, why } => {
                write!(f, "--config: the file {} is not accepted: {}", path.display(), why.trim_end())
            }
            ConfigError::UnknownKey { path, key, similar } => {
                write!(f, "--config: the file {} has the key {key:?}, which is no option: ", path.display())?;
                match similar {
                    Some(similar) => write!(f, "did you mean {similar:?}?"),
                    None => f.write_str("remove it, or see --help for the options"),
                }
            }
        }
    }
}

impl std::error::Error for ConfigError {}
