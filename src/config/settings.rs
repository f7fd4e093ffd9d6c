//! Where values come from: the command line, the environment, the file, the defaults; and which of them wins.
//!
//! Holds the winning text of every option with its source. Promises: flag beats environment beats file beats
//! default. Within the environment the names of a row stand in ranks: a name of an earlier rank beats later
//! ones, and names of one rank must agree. An environment variable that is empty counts as unset (compose
//! files write `NAME=${NAME:-}`).

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use super::{ConfigError, Source, ecmascript, kinds::Kind};
use crate::secret::Secret;

/// What the table says about an option, apart from its type.
pub(super) struct Row {
    /// The flag without its dashes; also the key in the file.
    pub flag: &'static str,
    /// Environment names by rank.
    pub env: &'static [&'static [Env]],
    /// The default, as an operator would write it.
    pub default: &'static str,
    /// The heading under which the help lists it.
    pub group: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Stands for its value in the help.
    pub hint: &'static str,
    /// What values it takes.
    pub takes: String,
    /// Whether its flag may be repeated.
    pub is_list: bool,
    /// Whether its bare flag turns it on.
    pub is_switch: bool,
    /// Whether its value is never shown.
    pub is_secret: bool,
}

/// An environment variable that sets an option.
pub(super) struct Env {
    /// Its name.
    pub name: &'static str,
    contract: Contract,
}

/// How a variable's contract has it read, where that is not how its option is read.
enum Contract {
    /// As the option.
    Same,
    /// Only what this accepts of what the option takes.
    Narrower { takes: &'static str, accepts: fn(&str) -> bool },
    /// Exactly one of these words: nothing is trimmed, and the empty text is not one of them.
    Words { words: &'static [&'static str], any_case: bool },
    /// A number as ECMAScript writes it; what is not a whole one above zero counts as unset. `unit` is what the
    /// option needs behind it.
    Number { most: u64, unit: &'static str },
}

impl Env {
    /// A variable that takes what its option takes.
    pub(super) const fn named(name: &'static str) -> Env {
        Env { name, contract: Contract::Same }
    }

    /// A variable for a port whose contract does not take 0.
    pub(super) const fn port_above_zero(name: &'static str) -> Env {
        let accepts = |text: &str| text.bytes().any(|byte| byte != b'0');
        Env { name, contract: Contract::Narrower { takes: "a whole number from 1 to 65535", accepts } }
    }

    /// A variable whose contract says that 1 is on and anything else is off. What reads like "on" and would
    /// be off is refused.
    pub(super) const fn one_is_on(name: &'static str) -> Env {
        let accepts = |text: &str| matches!(text, "1" | "0" | "false" | "off" | "no");
        let takes = "1 (on) or 0 (off); the reference takes everything but 1 as off";
        Env { name, contract: Contract::Narrower { takes, accepts } }
    }

    /// A variable that takes exactly one of these words (workspace.md section 22).
    pub(super) const fn words(name: &'static str, words: &'static [&'static str]) -> Env {
        Env { name, contract: Contract::Words { words, any_case: false } }
    }

    /// The same in any case.
    pub(super) const fn words_in_any_case(name: &'static str, words: &'static [&'static str]) -> Env {
        Env { name, contract: Contract::Words { words, any_case: true } }
    }

    /// A variable that is on or off by exactly one of eight words (workspace.md section 0, "boolish").
    pub(super) const fn boolish(name: &'static str) -> Env {
        Env::words(name, &["0", "1", "false", "true", "no", "yes", "off", "on"])
    }

    /// A variable for a number (workspace.md section 22). Above `most`, where more makes no difference, it is `most`.
    pub(super) const fn number(name: &'static str, most: u64) -> Env {
        Env { name, contract: Contract::Number { most, unit: "" } }
    }

    /// A variable for a time in milliseconds (workspace.md section 22), at most `most`.
    pub(super) const fn millis(name: &'static str, most: u64) -> Env {
        Env { name, contract: Contract::Number { most, unit: "ms" } }
    }

    /// What the variable says, as its option reads it; `None` where it says nothing. An error is what it takes.
    fn read(&self, text: &str) -> Result<Option<String>, String> {
        match &self.contract {
            Contract::Words { words, any_case } => {
                let word = if *any_case { text.to_lowercase() } else { text.to_owned() };
                let known = words.contains(&word.as_str());
                known
                    .then_some(Some(word))
                    .ok_or_else(|| format!("exactly one of {}; unset it for the default", words.join(", ")))
            }
            _ if text.trim().is_empty() => Ok(None),
            Contract::Same => Ok(Some(text.to_owned())),
            Contract::Narrower { takes, accepts } => {
                accepts(text.trim()).then(|| Some(text.to_owned())).ok_or_else(|| (*takes).to_owned())
            }
            Contract::Number { most, unit } => {
                let number = ecmascript::positive_integer(text).map(|number| number.min(*most));
                Ok(number.map(|number| format!("{number}{unit}")))
            }
        }
    }
}

/// The winning text of every option.
pub(super) struct Settings {
    texts: HashMap<&'static str, (String, Source)>,
    /// Options whose values are never shown.
    secrets: Vec<&'static str>,
}

impl Settings {
    /// Lets the sources compete. `flags` holds what the command line gave, by option.
    pub(super) fn gather(
        rows: &[Row],
        mut flags: HashMap<&'static str, String>,
        environment: &BTreeMap<String, String>,
        file: Option<&ConfigFile>,
    ) -> Result<Settings, ConfigError> {
        let mut texts = HashMap::new();
        for row in rows {
            let setting = if let Some(text) = flags.remove(row.flag) {
                (text, Source::Flag)
            } else if let Some((text, name)) = from_environment(row, environment)? {
                (text, Source::Environment(name))
            } else if let Some(file) = file
                && let Some(value) = file.table.get(row.flag)
            {
                let source = Source::File(file.path.clone());
                (plain_text(value).ok_or_else(|| bad_value(row, &source, value.to_string()))?, source)
            } else {
                (row.default.to_owned(), Source::Default)
            };
            texts.insert(row.flag, setting);
        }
        let secrets = rows.iter().filter(|row| row.is_secret).map(|row| row.flag).collect();
        Ok(Settings { texts, secrets })
    }

    /// Reads an option's winning text as a value of its kind.
    pub(super) fn read<K: Kind>(&self, option: &'static str, kind: &K) -> Result<K::Value, ConfigError> {
        let (text, source) = &self.texts[option];
        kind.read(text.trim()).ok_or_else(|| ConfigError::BadValue {
            option,
            source: source.clone(),
            value: self.shown(option),
            takes: kind.takes(),
        })
    }

    /// Where an option's value comes from.
    pub(super) fn source(&self, option: &str) -> &Source {
        &self.texts[option].1
    }

    /// An option's value as it was written.
    pub(super) fn text(&self, option: &str) -> &str {
        &self.texts[option].0
    }

    /// An option's value as it may be shown.
    pub(super) fn shown(&self, option: &str) -> String {
        let text = self.text(option);
        if self.secrets.contains(&option) && !text.is_empty() { Secret::HIDDEN.into() } else { text.into() }
    }

    /// Puts an option back to its default.
    pub(super) fn reset(&mut self, row: &Row) {
        self.set(row.flag, row.default.to_owned(), Source::Default);
    }

    /// Sets an option that the others decide.
    pub(super) fn set(&mut self, option: &'static str, text: String, source: Source) {
        self.texts.insert(option, (text, source));
    }
}

/// A configuration file, parsed.
pub(super) struct ConfigFile {
    path: PathBuf,
    table: toml::Table,
}

impl ConfigFile {
    /// Parses a file's text. Every key must be an option's.
    pub(super) fn parse(rows: &[Row], path: &Path, text: &str) -> Result<ConfigFile, ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::BadFile {
            path: path.into(),
            why: error.to_string(),
        })?;
        if let Some(key) = table.keys().find(|key| !rows.iter().any(|row| row.flag == key.as_str())) {
            let similar = similar(rows, key);
            return Err(ConfigError::UnknownKey { path: path.into(), key: key.clone(), similar });
        }
        Ok(ConfigFile { path: path.into(), table })
    }
}

fn from_environment(
    row: &Row,
    environment: &BTreeMap<String, String>,
) -> Result<Option<(String, &'static str)>, ConfigError> {
    for rank in row.env {
        let mut found: Option<(&'static str, String)> = None;
        for env in *rank {
            let Some(written) = environment.get(env.name) else { continue };
            let read = env.read(written).map_err(|takes| ConfigError::BadValue {
                option: row.flag,
                source: Source::Environment(env.name),
                value: written.clone(),
                takes,
            })?;
            let Some(text) = read else { continue };
            match &found {
                Some((name, other)) if other.trim() != text.trim() => {
                    return Err(ConfigError::Disagreement {
                        option: row.flag,
                        first: (name, other.clone()),
                        second: (env.name, text),
                    });
                }
                Some(_) => {}
                None => found = Some((env.name, text)),
            }
        }
        if let Some((name, text)) = found {
            return Ok(Some((text, name)));
        }
    }
    Ok(None)
}

fn bad_value(row: &Row, source: &Source, value: String) -> ConfigError {
    ConfigError::BadValue { option: row.flag, source: source.clone(), value, takes: row.takes.clone() }
}

/// A TOML value as an operator would write it in a flag; tables, floats and dates are no option's value.
fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(values) => {
            let texts: Option<Vec<_>> = values.iter().map(plain_text).collect();
            Some(texts?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// The option that `key` was probably meant to be: the same letters in another style, or one that contains
/// it.
fn similar(rows: &[Row], key: &str) -> Option<&'static str> {
    let letters = |text: &str| text.to_lowercase().replace(['-', '_', '.'], "");
    let wanted = letters(key);
    let named = |row: &&Row| {
        letters(row.flag) == wanted
            || row.env.iter().copied().flatten().any(|env| letters(env.name) == wanted)
    };
    let close = |row: &&Row| wanted.len() > 3 && letters(row.flag).contains(&wanted);
    rows.iter().find(named).or_else(|| rows.iter().find(close)).map(|row| row.flag)
}
