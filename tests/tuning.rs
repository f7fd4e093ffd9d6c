//! What `tuning/` and the Dockerfile ship says what the code says: generated parts are up to date, and whatever they
//! name exists. `UPDATE_DOCS=1 cargo test --test tuning` writes the generated parts anew.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use longsplice::{config, doctor::knobs};
use object::read::elf::ElfFile64;
use serde_json::Value;
use support::relay::binary;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares a file's text with what it should be, or writes it.
fn hold(name: &str, wanted: &str) {
    let held = fs::read_to_string(path(name)).unwrap_or_default();
    if held == wanted {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path(name), wanted).expect("it can be written");
    } else {
        panic!("{name} is out of date: UPDATE_DOCS=1 cargo test --test tuning");
    }
}

/// The text of a file with what stands between two lines replaced.
fn with_part(text: &str, begin: &str, end: &str, part: &str) -> String {
    let (head, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?}"));
    let (_, tail) = rest.split_once(end).unwrap_or_else(|| panic!("no {end:?} behind {begin:?}"));
    [head, begin, part, end, tail].concat()
}

fn seccomp_names(group: &str) -> BTreeSet<String> {
    let profile: Value = serde_json::from_str(&read("tuning/seccomp.json")).expect("the profile is JSON");
    let groups = profile["syscalls"].as_array().expect("a list of groups");
    let found = groups.iter().find(|one| one["comment"].as_str().is_some_and(|text| text.starts_with(group)));
    let names = found.unwrap_or_else(|| panic!("no group {group:?}"))["names"].as_array().expect("a list");
    names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

#[test]
fn files_that_come_from_the_knobs_are_up_to_date() {
    hold("tuning/sysctl.d/60-longsplice.conf", &knobs::sysctl_file());
    hold("tuning/limits.d/60-longsplice.conf", &knobs::limits_file());

    let readme = read("tuning/README.md");
    let (begin, end) = ("<!-- knobs: generated -->\n", "<!-- knobs: end -->\n");
    hold("tuning/README.md", &with_part(&readme, begin, end, &format!("\n{}\n", knobs::markdown_table())));

    let unit = read("tuning/systemd/longsplice.service");
    let unit = with_part(&unit, "# limits: generated\n", "# limits: end\n", &knobs::unit_limits());
    let calls: Vec<_> = seccomp_names("the relay").into_iter().collect();
    let calls: String =
        calls.chunks(6).map(|line| format!("SystemCallFilter={}\n", line.join(" "))).collect();
    let unit = with_part(&unit, "# system calls: generated\n", "# system calls: end\n", &calls);
    hold("tuning/systemd/longsplice.service", &unit);
}

#[test]
fn every_knob_is_explained() {
    for knob in knobs::KNOBS {
        for text in [knob.read_by, knob.default, knob.why, knob.effect, knob.revert] {
            assert!(!text.is_empty() && !text.contains('|'), "{}: {text:?}", knob.name);
        }
        assert!(!knob.effect.contains("-EFFECT"), "{}: its effect is not filled in", knob.name);
        assert!(knob.judge.is_some() || knob.ours.is_none(), "{}: set, and never checked", knob.name);
    }
}

/// The environment variables that a file sets by these patterns exist.
#[test]
fn manifests_set_variables_that_exist() {
    let known: BTreeSet<String> =
        config::markdown_table().split('`').skip(1).step_by(2).map(str::to_owned).collect();
    for name in ["tuning/kubernetes.yaml", "tuning/systemd/longsplice.service", "Dockerfile"] {
        let text = read(name);
        let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        for word in words.filter(|word| word.starts_with("LONGSPLICE_") || word.starts_with("LINK_")) {
            assert!(known.contains(word), "{name} names {word}, which is no variable of the relay");
        }
    }
}

/// The value behind `key` in a line of the manifest or the unit.
fn value_of(text: &str, key: &str) -> u64 {
    let line = text.lines().map(str::trim).find(|line| line.starts_with(key));
    let value = line.unwrap_or_else(|| panic!("no {key}"))[key.len()..].trim();
    value.parse().unwrap_or_else(|_| panic!("{key}{value} is no number"))
}

#[test]
fn the_relay_has_time_to_drain_before_it_is_killed() {
    let manifest = read("tuning/kubernetes.yaml");
    let grace = value_of(&manifest, "terminationGracePeriodSeconds:");
    let delay = manifest.split("LONGSPLICE_DRAIN_DELAY, value: \"").nth(1).expect("a drain delay");
    let delay: u64 = delay.split("s\"").next().and_then(|text| text.parse().ok()).expect("whole seconds");
    assert!(
        grace >= delay + 5 + 5,
        "{grace} s are too few for a delay of {delay} s, 5 s to close, and some to spare"
    );
    assert!(value_of(&read("tuning/systemd/longsplice.service"), "TimeoutStopSec=") >= 10);
    // A stalled shard is noticed after 5 s; a watchdog below that would bite a relay that is well.
    assert!(value_of(&read("tuning/systemd/longsplice.service"), "WatchdogSec=") > 5);
    for part in ["path: /ready, port: relay", "path: /health, port: relay", "containerPort: 8080"] {
        assert!(manifest.contains(part), "the manifest lacks {part:?}");
    }
}

/// The instructions of the Dockerfile's final stage.
fn final_stage(dockerfile: &str) -> Vec<(String, String)> {
    let lines = dockerfile.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let all: Vec<(String, String)> = lines
        .map(|line| line.split_once(' ').expect("an instruction has arguments"))
        .map(|(word, rest)| (word.to_owned(), rest.to_owned()))
        .collect();
    let last = all.iter().rposition(|(word, _)| word == "FROM").expect("a stage");
    all[last..].to_vec()
}

/// What the images that a final stage may be made of have in the way of libraries.
const LIBRARIES: &[(&str, &[&str])] = &[(
    "gcr.io/distroless/cc-debian12:nonroot",
    &[
        "libc.so.6",
        "libm.so.6",
        "libgcc_s.so.1",
        "libpthread.so.0",
        "libdl.so.2",
        "librt.so.1",
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
    ],
)];

#[test]
fn the_image_has_every_library_that_the_binary_needs() {
    let stage = final_stage(&read("Dockerfile"));
    let image = &stage[0].1;
    let (_, there) = LIBRARIES
        .iter()
        .find(|(name, _)| name == image)
        .unwrap_or_else(|| panic!("what libraries has {image}? LIBRARIES does not know"));
    let bytes = fs::read(binary()).expect("the binary is there");
    let elf = ElfFile64::<object::Endianness>::parse(&*bytes).expect("an ELF file");
    let needed = needed_libraries(&elf);
    assert!(needed.iter().any(|name| name == "libc.so.6"), "the list of libraries is read: {needed:?}");
    for library in needed {
        assert!(there.contains(&library.as_str()), "the binary needs {library}, which {image} has not");
    }
}

/// `DT_NEEDED` of an ELF file.
fn needed_libraries(elf: &ElfFile64<'_>) -> Vec<String> {
    use object::{
        elf::DT_NEEDED,
        read::elf::{Dyn, SectionHeader},
    };
    let endian = elf.endian();
    let sections = elf.elf_section_table();
    let (entries, link) = sections
        .iter()
        .find_map(|section| section.dynamic(endian, elf.data()).expect("it can be read"))
        .expect("the binary is linked dynamically");
    let strings = sections.strings(endian, elf.data(), link).expect("its strings");
    let needed = entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED);
    needed
        .map(|entry| {
            let name = entry.string(endian, strings).expect("a name");
            String::from_utf8(name.to_vec()).expect("names are ASCII")
        })
        .collect()
}

#[test]
fn every_path_and_command_of_the_dockerfile_exists() {
    let text = read("Dockerfile");
    let stage = final_stage(&text);
    let of = |word: &str| {
        let found = stage.iter().find(|(name, _)| name == word);
        found.unwrap_or_else(|| panic!("the final stage has no {word}")).1.as_str()
    };
    assert_eq!(of("STOPSIGNAL"), "SIGTERM", "what the relay drains on");
    assert!(!of("USER").starts_with('0') && of("USER").chars().next().is_some_and(|c| c.is_ascii_digit()));

    let (from, to) =
        of("COPY").split_once("/build/").expect("from the build stage").1.split_once(' ').expect("to");
    assert_eq!(from, "target/release/longsplice", "where cargo puts the binary of the release profile");
    assert!(text.contains("RUN cargo build --release --locked --bin longsplice"));
    assert!(read("Cargo.toml").contains("name = \"longsplice\"\npath = \"src/main.rs\""));
    let exec = |arguments: &str| -> Vec<String> { serde_json::from_str(arguments).expect("the exec form") };
    assert_eq!(exec(of("ENTRYPOINT")), [to]);

    let check = exec(of("HEALTHCHECK").split_once("CMD ").expect("a command").1);
    assert_eq!(check[0], to, "no other program is in the image");
    let asked = Command::new(binary()).args(&check[1..]).arg("--help").output().expect("the binary runs");
    assert!(asked.status.success(), "the binary knows no {:?}", &check[1..]);

    for (at, _) in text.match_indices("tuning/") {
        let named: String = text[at..].chars().take_while(|c| !c.is_whitespace() && *c != '`').collect();
        assert!(path(&named).exists(), "the Dockerfile names {named}, which is not there");
    }
    // The build stage copies everything that is not ignored; what the build reads must not be.
    let ignored = read(".dockerignore");
    for needed in ["src", "Cargo.toml", "Cargo.lock", "loadtest", "benches"] {
        assert!(!ignored.lines().any(|line| line.trim_matches('/') == needed), "{needed} is ignored");
    }
    let toolchain = read("rust-toolchain.toml");
    let version = text.split("FROM rust:").nth(1).and_then(|rest| rest.split('-').next()).expect("a version");
    assert!(
        toolchain.contains(&format!("\"{version}\"")),
        "rust-toolchain.toml names another than {version}"
    );
}
