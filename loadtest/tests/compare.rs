//! Relays that the load generator starts itself: one, and two that are compared.

mod support;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use serde_json::Value;
use support::{Outcome, relay_binary};

/// Runs the load generator without `--url`, with a relay's command behind each of these options.
fn run(arguments: &str, relays: &[(&str, &str)], html: Option<&Path>) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longsplice-loadtest"));
    command.args(arguments.split(' '));
    for (option, relay) in relays {
        command.args([option, relay]);
    }
    if let Some(path) = html {
        command.arg("--report").arg(path);
    }
    support::begin_command(command).end()
}

/// A command that starts our relay.
fn ours(options: &str) -> String {
    let binary = relay_binary();
    let binary = binary.to_str().expect("the path is text");
    format!("LOADTEST=1 '{binary}' --listen 127.0.0.1:{{port}} --shards 1 {options}")
}

fn places(run: &Value) -> (u64, u64) {
    (run["relay"].as_u64().expect("a number"), run["round"].as_u64().expect("a number"))
}

#[test]
fn two_relays_are_compared_in_turn() {
    let relay = ours("--link-ip-rate-per-min 0 --link-relay-max-bps 0");
    let html = std::env::temp_dir().join(format!("loadtest-compare-{}.html", std::process::id()));
    let outcome = run(
        "compare pingpong --links 4 --seconds 0.3 --rounds 2",
        &[("--a", &relay), ("--b", &relay)],
        Some(&html),
    );
    let report = &outcome.report;
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.stdout, outcome.stderr);
    let runs = report["runs"].as_array().expect("a list");
    assert_eq!(runs.iter().map(places).collect::<Vec<_>>(), [(0, 1), (1, 1), (0, 2), (1, 2)]);
    let relays = report["relays"].as_array().expect("a list");
    assert_eq!((&relays[0]["label"], &relays[1]["label"]), (&Value::from("A"), &Value::from("B")));
    assert!(runs.iter().all(|run| run["cost"]["rss_up_bytes"].as_u64() > Some(0)), "both are measured");

    let comparison = &report["comparisons"][0];
    assert_eq!(comparison["rounds"], serde_json::json!([[0, 1], [2, 3]]));
    let messages = &comparison["measures"][0];
    assert_eq!(messages["name"], "messages");
    let rate = |run: &Value| {
        run["totals"]["messages"].as_f64().expect("a number") / run["seconds"].as_f64().expect("a number")
    };
    let ratios = [rate(&runs[1]) / rate(&runs[0]), rate(&runs[3]) / rate(&runs[2])];
    let median = messages["ratio"]["median"].as_f64().expect("a number");
    assert!((median - f64::midpoint(ratios[0], ratios[1])).abs() < 1e-6, "{median} of {ratios:?}");
    assert!(outcome.stdout.contains("pingpong: B against A, 2 rounds"), "{}", outcome.stdout);

    let page = fs::read_to_string(&html).expect("it was written");
    fs::remove_file(&html).expect("it is ours");
    let (_, json) = page.split_once("id=report>").expect("the report is in the page");
    let (json, _) = json.split_once("</script>").expect("it ends");
    assert!(serde_json::from_str::<Value>(json).expect("JSON") == *report, "page and file hold the same");

    for relay in relays {
        let pid = relay["pid"].as_u64().expect("it was started");
        let program = fs::read_link(format!("/proc/{pid}/exe"));
        assert!(!program.is_ok_and(|program| program == relay_binary()), "{pid} still runs");
    }
}

#[test]
fn a_relay_that_does_not_start_is_bad_usage_and_its_words_are_told() {
    let outcome = run("pingpong --links 1", &[("--relay-cmd", &ours("--no-such-option"))], None);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    for words in ["--relay-cmd", "the relay ended", "unexpected argument '--no-such-option'"] {
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
    }
    let good = ours("--link-ip-rate-per-min 0");
    let outcome = run(
        "compare pingpong --links 1 --seconds 0.1",
        &[("--a", &good), ("--b", "/no/such/relay {port}")],
        None,
    );
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--b") && outcome.stderr.contains("No such file"), "{}", outcome.stderr);
    assert_eq!(outcome.report["runs"].as_array().map(Vec::len), Some(1), "what A did is told");
}

#[test]
fn a_second_interrupt_ends_the_relay_too() {
    // One message takes minutes, and a first interrupt lets it arrive.
    let relay = ours("--link-ip-rate-per-min 0 --link-relay-max-bps 65536");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let mut command = Command::new(env!("CARGO_BIN_EXE_longsplice-loadtest"));
    command.args(["stream", "--links", "1", "--size", "16MiB", "--patience", "3600"]);
    command.args(["--url", &format!("ws://{address}")]);
    command.args(["--relay-cmd", &relay.replace("{port}", &address.port().to_string())]);
    let load = support::begin_command(command);
    support::until(address, |stats| stats["bytesRelayed"]["fromClient"].as_u64() > Some(0));
    let outcome = load.interrupt_to_the_end();
    assert_eq!((outcome.code, outcome.report), (130, Value::Null), "{}", outcome.stderr);
    let error = TcpStream::connect(address).expect_err("nothing listens any more");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_relay_that_ends_under_load_is_told_with_its_last_words() {
    let relay = ours("--link-ip-rate-per-min 0").replace('\'', "");
    let relay = relay.strip_prefix("LOADTEST=1 ").expect("as above");
    let script = format!("{relay} & sleep 5; echo 'the fuse blew' >&2; kill -9 $!; exit 7");
    let command = format!("sh -c \"{}\"", script.replace('$', "\\$"));
    let outcome = run("pingpong --links 2 --seconds 600", &[("--relay-cmd", &command)], None);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    for words in ["the relay ended (exit status: 7)", "the fuse blew"] {
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
    }
}
