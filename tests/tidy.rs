//! Rules about the source itself, held by reading it: who imports whom, how long files and lines are, where
//! `unsafe` may stand, what is not called. A rule that the compiler or clippy can hold is theirs (see
//! clippy.toml), not here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What each module of the library may name of the others. `*` is everything.
///
/// The order is the layering: pure code first, which never learns of the driver, the shards or the
/// configuration's origin.
const IMPORTS: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("time", &[]),
    ("reason", &[]),
    ("secret", &[]),
    ("limits", &[]),
    ("tables", &[]),
    ("timers", &["dialect", "id", "limits", "tables", "time"]),
    ("pacing", &["limits", "time"]),
    ("proto", &["driver::HEADROOM", "limits", "reason"]),
    ("dialect", &["admission", "id", "limits", "pacing", "proto", "reason", "tables", "time", "timers"]),
    ("admission", &["dialect", "limits", "reason", "time"]),
    ("driver", &["id", "limits", "tables", "time"]),
    ("logs", &["config", "time"]),
    (
        "config",
        &["admission::PlaceBounds", "control", "dialect", "driver", "limits", "logs", "pacing", "secret"],
    ),
    ("admin", &["dialect", "driver", "limits", "reason", "secret"]),
    ("control", &["admin", "admission", "dialect", "id", "limits", "secret", "shard::Platform", "time"]),
    (
        "shard",
        &[
            "admin",
            "admission",
            "config",
            "dialect",
            "driver",
            "id",
            "limits",
            "logs",
            "pacing",
            "proto",
            "reason",
            "tables",
            "time",
            "timers",
        ],
    ),
    ("systemd", &[]),
    ("health", &["config"]),
    ("doctor", &["boot", "config", "driver", "limits"]),
    ("boot", &["*"]),
    ("sim", &["*"]),
];

/// Modules that are functions of their arguments: no socket, no clock, no lock, no thread, no randomness but
/// what they are given.
const PURE: &[&str] = &["id", "time", "reason", "limits", "tables", "timers", "pacing", "proto", "dialect"];

/// What of the standard library a pure module may not name. (`std::net` is there for its address types.)
const IMPURE_STD: &[&str] = &[
    "env",
    "fs",
    "io",
    "net::TcpListener",
    "net::TcpStream",
    "net::ToSocketAddrs",
    "net::UdpSocket",
    "os",
    "process",
    "sync",
    "thread",
    "time::Instant",
    "time::SystemTime",
];

/// Crates that a pure module may not name. (`rand` is there for its traits; its sources of randomness are not.)
const IMPURE_CRATES: &[&str] = &[
    "getrandom::",
    "libc::",
    "parking_lot::",
    "rand::rng",
    "rand::random",
    "socket2::",
    "tokio::",
    "tracing::",
];

/// Not in the library or the binary, tests in them apart: what to do instead.
const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "say why it holds: `expect(\"...\")`"),
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("dbg!", "log a decision with `tracing`, or nothing"),
    ("println!", "log with `tracing`; only `main` and the simulator's trace write to standard output"),
    // Where layers have filters of their own, a question without an event spoils the thread's next event.
    ("tracing::enabled!", "log: fields are only made where somebody wants the line"),
    ("panic!(\"not", "state the invariant with `unreachable!` or `expect`"),
];

const FILE_LINES_MAX: usize = 700;
const LINE_COLUMNS_MAX: usize = 120;

struct Source {
    /// From the repository's root.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The library's module that the file belongs to: `src/driver/uring/mod.rs` belongs to `driver`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src").ok()?;
        let first = inside.components().next()?.as_os_str().to_str()?;
        let module = first.strip_suffix(".rs").unwrap_or(first);
        (!["lib", "main"].contains(&module)).then_some(module)
    }

    /// Whether the whole file is a test.
    fn is_test(&self) -> bool {
        let named = |name: &str| self.path.file_stem().is_some_and(|stem| stem == name);
        named("tests") || self.path.components().any(|part| part.as_os_str() == "tests")
    }

    /// The code lines with their numbers: no comments, and nothing from the file's own test module on.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let mut test = false;
        lines
            .take_while(move |(_, line)| {
                let opens_tests = test && line.starts_with("mod ") && line.ends_with('{');
                test = line.trim() == "#[cfg(test)]";
                !opens_tests
            })
            .map(|(number, line)| (number, line.split("//").next().unwrap_or(line)))
            .filter(|(_, line)| !line.trim().is_empty())
    }
}

/// Every Rust file of the repository.
fn sources() -> Vec<Source> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
        let entries = fs::read_dir(folder).expect("a folder of the repository is readable");
        for entry in entries.map(|entry| entry.expect("its entries too")) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_str().expect("names are UTF-8");
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                    walk(root, &path, found);
                }
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let path = path.strip_prefix(root).expect("it is below the root").to_owned();
                found.push(Source { path, text });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.len() > 20, "the sources are not where they should be: {}", root.display());
    found
}

/// Fails with all complaints at once.
fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Every path behind `root` in `code`, two segments deep, groups resolved.
fn paths_behind(root: &str, code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        expand("", &code[at + root.len()..], &mut paths);
    }
    paths
}

/// Adds the paths of a use tree that begins `rest`, each behind `prefix`, cut after two segments.
fn expand(prefix: &str, rest: &str, paths: &mut BTreeSet<String>) {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let branch = &group[start..at];
                    if !branch.trim().is_empty() {
                        expand(prefix, branch, paths);
                    }
                    start = at + 1;
                    if character == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let name: String =
        rest.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}::{name}") };
    match rest[name.len()..].strip_prefix("::") {
        Some(deeper) if prefix.is_empty() => expand(&path, deeper, paths),
        _ => {
            paths.insert(path);
        }
    }
}

#[test]
fn use_trees_are_resolved_two_segments_deep() {
    let code =
        "use crate::{\n a::{B, c::D},\n e,\n};\n let x = crate::f::G::new(crate::h);\nuse crate::i::*;";
    let paths: Vec<_> = paths_behind("crate::", code).into_iter().collect();
    assert_eq!(paths, ["a::B", "a::c", "e", "f::G", "h", "i::"]);
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let Some(module) = source.module() else { continue };
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            complaints.push(format!("{}: `{module}` is not in the import table", source.path.display()));
            continue;
        };
        let code: Vec<_> = source.code().map(|(_, line)| line).collect();
        for path in paths_behind("crate::", &code.join("\n")) {
            let top = path.split("::").next().unwrap_or(&path);
            let fine =
                top == module || allowed.iter().any(|name| *name == "*" || *name == top || *name == path);
            if !fine {
                complaints.push(format!("{}: `{module}` may not import `{path}`", source.path.display()));
            }
        }
    }
    report(complaints);
}

#[test]
fn pure_modules_name_no_socket_clock_lock_or_thread() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if !source.module().is_some_and(|module| PURE.contains(&module)) {
            continue;
        }
        let code: Vec<_> = source.code().map(|(_, line)| line).collect();
        let code = code.join("\n");
        let std = paths_behind("std::", &code);
        let impure = |path: &&String| {
            let top = path.split("::").next().unwrap_or(path);
            IMPURE_STD.iter().any(|name| *name == top || name == path)
        };
        let std = std.iter().filter(impure).map(|path| format!("std::{path}"));
        let crates = IMPURE_CRATES.iter().filter(|name| code.contains(**name)).map(|name| (*name).to_owned());
        for path in std.chain(crates) {
            complaints.push(format!("{}: a pure module names `{path}`", source.path.display()));
        }
    }
    report(complaints);
}

#[test]
fn unsafe_code_is_in_the_driver_alone() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src")) {
        if source.module() == Some("driver") || source.path.ends_with("lib.rs") {
            continue;
        }
        for (number, line) in source.code() {
            let words = |line: &str| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
            };
            if words(line) || line.contains("unsafe_code") {
                complaints
                    .push(format!("{}:{number}: unsafe code outside src/driver", source.path.display()));
            }
        }
    }
    report(complaints);
}

#[test]
fn the_library_calls_nothing_that_is_banned() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src") && !source.is_test()) {
        let may_print = source.path.ends_with("src/main.rs") || source.module() == Some("sim");
        for (number, line) in source.code() {
            for (banned, instead) in BANNED {
                if line.contains(banned) && !(may_print && banned.starts_with("println")) {
                    complaints.push(format!("{}:{number}: `{banned}`: {instead}", source.path.display()));
                }
            }
        }
    }
    report(complaints);
}

#[test]
fn files_and_lines_are_short_and_nothing_is_left_for_later() {
    let later = ["TO", "DO"].concat();
    let fix = ["FIX", "ME"].concat();
    let mut complaints = Vec::new();
    for source in &sources() {
        let path = source.path.display();
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            complaints
                .push(format!("{path}: {lines} lines are more than {FILE_LINES_MAX}: it holds two ideas"));
        }
        for (number, line) in source.text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            if line.chars().count() > LINE_COLUMNS_MAX {
                complaints.push(format!("{path}:{number}: more than {LINE_COLUMNS_MAX} columns"));
            }
            if line.contains(&later) || line.contains(&fix) {
                complaints.push(format!("{path}:{number}: left for later"));
            }
        }
    }
    report(complaints);
}
