//! What the option table looks like to people: the command line with its help, `--print-config`, the table in
//! docs/OPERATIONS.md.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

use super::{
    CONFIG_ENV, Config,
    settings::{Env, Row, Settings},
};

/// The command line. Every option takes a text; checking it is the table's business, so that a message can
/// name its source.
pub(super) fn command(rows: &[Row]) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help(format!(
            "A TOML file with options; keys are the flags' names without dashes in front [env: {CONFIG_ENV}]"
        ))
        .help_heading("Configuration")
        .global(true);
    let print = Arg::new("print-config")
        .long("print-config")
        .action(ArgAction::SetTrue)
        .help("Print the effective options with their sources, as such a file, and exit")
        .help_heading("Configuration");
    Command::new("longsplice")
        .bin_name("longsplice")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A content-blind rendezvous and WebSocket relay. Without options it serves Link on port 8080.")
        .after_help(
            "A flag beats the environment, which beats the file, which beats the default. \
             An empty environment variable counts as unset.",
        )
        .max_term_width(110)
        .subcommand(
            Command::new("doctor")
                .about("Check this machine against what the options ask for, changing nothing")
                .long_about(
                    "Checks this machine against what the options ask for, changing nothing. Give it the options, the \
                     environment and the user of the relay. Exits with 0, or with 1 if a check fails.",
                )
                .arg(switch("json", "Print one JSON object instead of a table")),
        )
        .subcommand(
            Command::new("health")
                .about("Ask the relay that runs with these options whether it is well")
                .long_about(
                    "Asks the relay that runs with these options for /health. Exits with 0, or with 1 if it does not \
                     answer 200 within seconds.",
                )
                .arg(switch("ready", "Ask for /ready instead: whether it takes new connections")),
        )
        .args([config, print])
        .args(rows.iter().map(argument))
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// The effective options as TOML, each with its source; reads back as the same configuration, but for secrets,
/// which are left out.
pub(super) fn print(rows: &[Row], settings: &Settings, config: &Config) -> String {
    let mut out = format!("# longsplice {}: effective configuration\n", env!("CARGO_PKG_VERSION"));
    let mut group = "";
    for (row, value) in rows.iter().zip(config.show()) {
        if row.group != group {
            group = row.group;
            write!(out, "\n# {group}\n").expect("writing to a string");
        }
        let source = settings.source(row.flag);
        if row.is_secret && !settings.text(row.flag).is_empty() {
            writeln!(out, "# {} is set and not shown  # {source}", row.flag).expect("writing to a string");
        } else {
            writeln!(out, "{} = {value}  # {source}", row.flag).expect("writing to a string");
        }
    }
    out
}

/// The option table of docs/OPERATIONS.md, in Markdown.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut out = String::new();
    let mut group = "";
    for row in rows {
        if row.group != group {
            group = row.group;
            write!(out, "\n### {group}\n\n| option | environment | default | what |\n|---|---|---|---|\n")
                .expect("writing to a string");
        }
        let names: Vec<_> = env_names(row).map(|name| format!("`{name}`")).collect();
        let default = if row.default.is_empty() { "(empty)".into() } else { format!("`{}`", row.default) };
        let doc = format!("{} Takes {}.", row.doc, row.takes).replace('|', "\\|");
        writeln!(out, "| `--{}` | {} | {default} | {doc} |", row.flag, names.join(", "))
            .expect("writing to a string");
    }
    out
}

/// A row's environment names, the strongest first.
pub(super) fn env_names(row: &Row) -> impl Iterator<Item = &'static str> {
    row.env.iter().copied().flatten().map(|env: &Env| env.name)
}

fn argument(row: &Row) -> Arg {
    let names: Vec<_> = env_names(row).collect();
    let default = if row.default.is_empty() { String::new() } else { format!("[default: {}] ", row.default) };
    let argument = Arg::new(row.flag)
        .long(row.flag)
        .value_name(row.hint)
        .help(format!("{} {default}[env: {}]", row.doc, names.join(", ")))
        .long_help(format!("{}\n\nTakes {}.\n{default}[env: {}]", row.doc, row.takes, names.join(", ")))
        .help_heading(row.group)
        .global(true);
    if row.is_switch {
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else if row.is_list {
        argument.action(ArgAction::Append)
    } else {
        argument
    }
}
