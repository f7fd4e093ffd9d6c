//! What an operator chose: every option in one table, from four sources, checked before anything starts.
//!
//! [`Config::load`] is a function of the arguments, the environment and the files it is shown; it touches
//! nothing else. It promises that a [`Config`] holds only values that their options take and that fit
//! together, and that a refusal names option, source, value and remedy. It never opens a socket, resolves a
//! name or reads a file on its own.
//!
//! Reading order: `options` (the table), `kinds` (how values are written), `settings` (which source wins),
//! `workspace` and `refusals` (what the workspace dialect makes of its own), `render` (help, print-out, documentation).

mod ecmascript;
mod error;
mod kinds;
mod options;
mod platform;
mod refusals;
mod render;
mod settings;
#[cfg(test)]
mod tests;
mod workspace;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

pub use error::{ConfigError, Source};
pub use options::Config;
pub use platform::AuthMode;
pub use workspace::{Backplane, RelayMode, TlsChoice, TlsTermination};

use crate::{
    admission::PlaceBounds,
    dialect::{self, link::LinkConfig, pair::PairConfig},
    driver, logs,
    pacing::Rates,
};
use kinds::Words;
use settings::{ConfigFile, Row, Settings};

/// What the command line asks for.
#[derive(Debug)]
pub enum Outcome {
    /// Run the relay.
    Run(Box<Config>),
    /// Check the machine; `json` says how to report.
    Doctor {
        /// What to check it against.
        config: Box<Config>,
        /// Whether to print JSON.
        json: bool,
    },
    /// Ask a running relay.
    Health {
        /// The relay's options.
        config: Box<Config>,
        /// What to ask for.
        path: &'static str,
    },
    /// Print this to standard output and exit with 0: the help, the version, the effective configuration.
    Print(String),
}

impl Words for driver::Choice {
    const WORDS: &'static [(&'static str, driver::Choice)] = &[
        ("auto", driver::Choice::Auto),
        ("io-uring", driver::Choice::IoUring),
        ("epoll", driver::Choice::Epoll),
    ];
}

/// Who may read `/v1/stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsAccess {
    /// Everyone.
    Public,
    /// Peers whose own address is a loopback address.
    Loopback,
    /// No one: the path is unknown.
    Off,
}

impl Words for StatsAccess {
    const WORDS: &'static [(&'static str, StatsAccess)] =
        &[("public", StatsAccess::Public), ("loopback", StatsAccess::Loopback), ("off", StatsAccess::Off)];
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, LogFormat)] =
        &[("human", LogFormat::Human), ("json", LogFormat::Json)];
}

impl Config {
    /// Reads the configuration.
    ///
    /// `arguments` begin with the program's name. `read_file` reads the file of `--config` and the file of
    /// `--link-allowed-register-keys-file`; the latter only to refuse to start without it.
    pub fn load<A: Into<std::ffi::OsString> + Clone>(
        arguments: impl IntoIterator<Item = A>,
        environment: &BTreeMap<String, String>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Outcome, ConfigError> {
        use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};

        let rows = options::rows();
        let matches = match render::command(&rows).try_get_matches_from(arguments) {
            Ok(matches) => matches,
            Err(asked) if matches!(asked.kind(), DisplayHelp | DisplayVersion) => {
                return Ok(Outcome::Print(asked.render().to_string()));
            }
            Err(error) => return Err(ConfigError::Usage(error.render().to_string())),
        };
        let (task, matches) = matches.subcommand().unwrap_or(("run", &matches));
        let flags: HashMap<_, _> = rows
            .iter()
            .filter_map(|row| {
                let texts: Vec<_> = matches.get_many::<String>(row.flag)?.map(String::as_str).collect();
                Some((row.flag, texts.join(",")))
            })
            .collect();
        let file = match config_path(matches.get_one("config"), environment) {
            Some((path, source)) => {
                let text = read_file(path).map_err(|error| unreadable("config", source, path, &error))?;
                Some(ConfigFile::parse(&rows, path, &text)?)
            }
            None => None,
        };
        let mut settings = Settings::gather(&rows, flags, environment, file.as_ref())?;
        workspace::settle_dialects(&rows, &mut settings);
        workspace::settle_port(&mut settings, environment);
        settle_listen(&rows, &mut settings)?;
        let config = Config::read(&settings)?;
        config.check(&settings, &read_file)?;
        config.check_platform(&settings)?;
        config.check_workspace(&settings, environment.get("HOME"), &read_file)?;
        Ok(match task {
            "doctor" => Outcome::Doctor { config: Box::new(config), json: matches.get_flag("json") },
            "health" => {
                let path = if matches.get_flag("ready") { "/ready" } else { "/health" };
                Outcome::Health { config: Box::new(config), path }
            }
            _ if matches.get_flag("print-config") => Outcome::Print(render::print(&rows, &settings, &config)),
            _ => Outcome::Run(Box::new(config)),
        })
    }

    /// The addresses to listen on. Where nothing was chosen, [`Config::listen_is_default`], the IPv6 one may
    /// fail.
    pub fn listen_addresses(&self) -> Vec<SocketAddr> {
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let hosts = if self.host.is_empty() { &any[..] } else { &self.host };
        if self.listen.is_empty() {
            hosts.iter().map(|host| SocketAddr::new(*host, self.port)).collect()
        } else {
            self.listen.clone()
        }
    }

    /// Whether the operator left the addresses to us, so that a machine without IPv6 is no reason not to
    /// start.
    pub fn listen_is_default(&self) -> bool {
        self.listen.is_empty() && self.host.is_empty()
    }

    /// What the link dialect is told.
    pub fn link(&self) -> LinkConfig {
        LinkConfig {
            rates: Rates {
                rate_bps: self.link_relay_max_bps,
                hourly_bytes: self.link_relay_hourly_bytes,
                trickle_bps: self.link_relay_trickle_bps,
            },
            idle: self.link_relay_idle_sec,
            origin: self.link_origin.clone(),
            verifications_per_sec: self.link_verify_rate_per_sec,
        }
    }

    /// What the pair dialect is told, by a relay that listens on `addresses`.
    pub fn pair(&self, addresses: &[SocketAddr]) -> PairConfig {
        let own = || addresses.first().map(|address| format!("ws://{address}")).unwrap_or_default();
        PairConfig {
            rendezvous_url: self.pair_rendezvous_url.clone().unwrap_or_else(own),
            ttl: self.pair_session_ttl_seconds,
            origins: self.pair_allowed_origins.clone(),
            message_bytes_max: self.pair_max_message_bytes,
        }
    }

    /// How many addresses may be registered.
    pub fn link_addresses(&self) -> PlaceBounds {
        let (all, per_ip) = (self.link_max_addresses as usize, self.link_max_addresses_per_ip);
        PlaceBounds { all: (all > 0).then_some(all), per_ip: (per_ip > 0).then_some(per_ip) }
    }

    /// How many pairing sessions there may be.
    pub fn pair_sessions(&self) -> PlaceBounds {
        let per_ip = self.pair_max_sessions_per_ip;
        PlaceBounds { all: Some(self.pair_max_sessions as usize), per_ip: (per_ip > 0).then_some(per_ip) }
    }

    /// Whether a dialect is served.
    pub fn serves(&self, kind: dialect::Kind) -> bool {
        self.dialects.contains(&kind)
    }

    /// How log lines are written: the workspace dialect's entries as its contract says where lines are JSON.
    pub fn log_style(&self) -> logs::Style {
        let is_json = self.log_format == LogFormat::Json;
        let entries_apart = is_json && self.serves(dialect::Kind::Workspace);
        logs::Style { format: self.log_format, entries_apart }
    }

    /// The text of the allow-list: the option's keys and the file's, to be parsed as one. Read at start and
    /// again on SIGHUP.
    pub fn allow_list(&self, read_file: impl Fn(&Path) -> io::Result<String>) -> io::Result<String> {
        let mut text = self.link_allowed_register_keys.clone();
        if let Some(path) = &self.link_allowed_register_keys_file {
            text.push('\n');
            text.push_str(&read_file(path)?);
        }
        Ok(text)
    }

    /// What no option can check alone.
    fn check(
        &self,
        settings: &Settings,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<(), ConfigError> {
        if let Some(path) = &self.link_allowed_register_keys_file {
            let option = "link-allowed-register-keys-file";
            self.allow_list(read_file)
                .map_err(|error| unreadable(option, settings.source(option).clone(), path, &error))?;
        }
        if !self.tcp_user_timeout.is_zero() && self.tcp_user_timeout <= self.link_slow_peer_sec {
            let option = "tcp-user-timeout";
            return Err(ConfigError::Conflict {
                option,
                source: settings.source(option).clone(),
                value: settings.text(option).into(),
                why: format!(
                    "it must be longer than --link-slow-peer-sec ({:?}), or slow peers would be reset \
                     before they are told why; raise it, or set it to 0",
                    self.link_slow_peer_sec
                ),
            });
        }
        if self.serves(dialect::Kind::Pair) && self.pair_max_message_bytes > self.message_budget {
            let option = "pair-max-message-bytes";
            return Err(ConfigError::Conflict {
                option,
                source: settings.source(option).clone(),
                value: settings.text(option).into(),
                why: "one such message would not fit into --message-budget; raise that".into(),
            });
        }
        Ok(())
    }
}

/// The option table of docs/OPERATIONS.md, in Markdown.
pub fn markdown_table() -> String {
    render::markdown(&options::rows())
}

/// Every option's flag, without its dashes.
pub fn option_names() -> Vec<&'static str> {
    options::rows().iter().map(|row| row.flag).collect()
}

/// `listen` says all that `host` and `port` say. Given on the command line together they contradict each
/// other; otherwise the stronger source wins, and of one source `listen`, the more exact.
fn settle_listen(rows: &[Row], settings: &mut Settings) -> Result<(), ConfigError> {
    let listen = rows.iter().find(|row| row.flag == "listen").expect("the table has `listen`");
    if settings.text(listen.flag).trim().is_empty() {
        return Ok(());
    }
    for option in ["host", "port"] {
        let source = settings.source(option);
        if *source == Source::Flag && *settings.source(listen.flag) == Source::Flag {
            return Err(ConfigError::Conflict {
                option,
                source: source.clone(),
                value: settings.text(option).into(),
                why: "--listen is given too; say all in --listen, or leave it out".into(),
            });
        }
        if strength(source) > strength(settings.source(listen.flag)) {
            settings.reset(listen);
            return Ok(());
        }
    }
    Ok(())
}

fn strength(source: &Source) -> u8 {
    match source {
        Source::Default => 0,
        Source::File(_) => 1,
        Source::Environment(_) => 2,
        Source::Flag => 3,
    }
}

fn config_path<'a>(
    flag: Option<&'a String>,
    environment: &'a BTreeMap<String, String>,
) -> Option<(&'a Path, Source)> {
    match (flag, environment.get(CONFIG_ENV).filter(|path| !path.is_empty())) {
        (Some(path), _) => Some((Path::new(path), Source::Flag)),
        (None, Some(path)) => Some((Path::new(path), Source::Environment(CONFIG_ENV))),
        (None, None) => None,
    }
}

fn unreadable(option: &'static str, source: Source, path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::Unreadable { option, source, path: path.into(), why: error.to_string() }
}

/// Names the configuration file where the flag is awkward.
const CONFIG_ENV: &str = "LONGSPLICE_CONFIG";
