//! The documentation says what the code says. `UPDATE_DOCS=1 cargo test --test documentation` writes the
//! generated tables anew.

use std::{fs, path::PathBuf};

use longsplice::{admin, config};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares the text between a document's markers with `generated`, or replaces it.
fn hold(name: &str, marker: &str, generated: &str) {
    let text = read(name);
    let (begin, end) = (format!("<!-- {marker}: generated -->\n"), format!("<!-- {marker}: end -->"));
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{name} has no {begin:?}"));
    let (held, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{name} has no {end:?}"));
    let generated = format!("{}\n\n", generated.trim());
    if held.trim() == generated.trim() {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path(name), [head, &begin, "\n", &generated, &end, tail].concat())
            .expect("it can be written");
    } else {
        panic!("{name}: the table `{marker}` is out of date: UPDATE_DOCS=1 cargo test --test documentation");
    }
}

// One test: two would rewrite the same file at once.
#[test]
fn operations_has_the_option_table_and_the_metrics_table() {
    hold("docs/OPERATIONS.md", "options", &config::markdown_table());
    hold("docs/OPERATIONS.md", "metrics", &admin::markdown_table());
}

#[test]
fn every_option_that_a_document_names_exists() {
    let options = config::option_names();
    let others = [
        "config",
        "print-config",
        "help",
        "version",
        "json",
        "ready", // not in the table
        "release",
        "workspace",
        "bin",
        "test",
        "locked",
        "bench", // cargo's
        "check", // the engine comparison's
        "relay-cores",
        "generator-cores",
        "a",
        "b", // the load generator's
        "security-opt",
        "ulimit",
        "publish",
        "rm",
        "from",
        "env",
        "network",
        "stop-timeout",
        "interval",
        "timeout",
        "start-period",
        "retries", // docker's
    ];
    for name in ["README.md", "docs/OPERATIONS.md", "docs/MIGRATING.md", "CHANGELOG.md", "Dockerfile"] {
        let text = read(name);
        for (at, _) in text.match_indices("--") {
            let before = text[..at].chars().next_back();
            let flag: String = text[at + 2..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '-' || c.is_ascii_digit())
                .collect();
            let starts_word = before.is_none_or(|c| c.is_whitespace() || "`([\"".contains(c));
            if flag.is_empty() || flag.starts_with('-') || !starts_word {
                continue;
            }
            let flag = flag.trim_end_matches('-');
            assert!(
                options.contains(&flag) || others.contains(&flag),
                "{name} names --{flag}, which is no option"
            );
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for name in ["README.md", "docs/OPERATIONS.md", "docs/MIGRATING.md", "CHANGELOG.md", "tuning/README.md"] {
        let text = read(name);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().expect("a split has a first part");
            let file = target.split('#').next().expect("a split has a first part");
            if file.is_empty() || target.contains("://") {
                continue;
            }
            let found = path(name).parent().expect("a file is in a folder").join(file);
            assert!(found.exists(), "{name} links to {target}, which is not there");
        }
    }
}

#[test]
fn every_test_that_the_conformance_tables_name_exists() {
    let text = read("docs/CONFORMANCE.md");
    let mut named = 0;
    for line in text.lines() {
        for span in line.split('`').skip(1).step_by(2) {
            let Some((file, test)) = span.split_once("::") else { continue };
            let source = read(&format!("tests/{file}.rs"));
            let exists = source.contains(&format!("#[test]\nfn {test}() {{"));
            assert!(exists, "docs/CONFORMANCE.md names {span}, which is no test");
            named += 1;
        }
    }
    assert!(named > 50, "the tables are not where they should be: they name {named} tests");
}
