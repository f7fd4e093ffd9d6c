//! Pairing sessions against this repository's relay, and against one that lies.

mod support;

use serde_json::Value;
use support::{
    Outcome, Relay,
    liar::{self, Lie},
    load,
};

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn payloads_go_round_and_every_byte_is_compared() {
    let relay = Relay::start();
    for size in ["8..300", "100KiB", "700KiB"] {
        let outcome = load(relay.address, &format!("pair --links 10 --seconds 1 --size {size}"));
        let run = outcome.assert_passed();
        assert_eq!((&run["setup"]["links"], &run["setup"]["connections"]), (&10.into(), &20.into()));
        let messages = count(&run["totals"]["messages"]);
        let round_trips = count(&run["latency"]["count"]);
        assert!(
            round_trips > 0 && 2 * round_trips <= messages + 20,
            "{round_trips} round trips, {messages} messages"
        );
        assert_eq!(run["latency_of"], "round trip");
        let verified = &run["verification"];
        let compared = count(&verified["payload_bytes"]) + 8 * count(&verified["messages"]);
        assert!(compared >= count(&run["totals"]["payload_bytes"]));
    }
}

#[test]
fn pairings_begin_anew_without_a_pause() {
    let relay = Relay::with(&["--pair-max-sessions", "1000000", "--pair-session-ttl-seconds", "2"]);
    let outcome = load(relay.address, "pair --measure pairings --links 8 --seconds 1");
    let run = outcome.assert_passed();
    let (sessions, latencies) = (count(&run["totals"]["sessions"]), count(&run["latency"]["count"]));
    assert!(sessions > 8 && sessions <= latencies + 8, "{sessions} sessions, {latencies} set up");
    // One payload each way.
    let messages = count(&run["totals"]["messages"]);
    assert!(messages.abs_diff(2 * sessions) <= 32, "{messages} messages in {sessions} sessions");
    assert_eq!((&run["latency_of"], &run["settings"]["measure"]), (&"pairing".into(), &"pairings".into()));
}

#[test]
fn pings_are_answered_between_payloads() {
    let relay = Relay::with(&["--pair-ping-interval", "1s"]);
    let outcome = load(relay.address, "pair --links 4 --seconds 3");
    let run = outcome.assert_passed();
    assert!(count(&run["totals"]["pings"]) >= 8, "{}", run["totals"]);
}

#[test]
fn scenario_files_know_pairing() {
    let relay = Relay::start();
    let path = std::env::temp_dir().join(format!("loadtest-pair-{}.toml", std::process::id()));
    let text = "[[scenario]]\nkind = \"pair\"\nmeasure = \"pairings\"\nlinks = 3\nseconds = 0.3\n";
    std::fs::write(&path, text).expect("the folder takes files");
    let outcome = load(relay.address, &format!("run {}", path.display()));
    std::fs::remove_file(path).expect("it is there");
    assert!(count(&outcome.assert_passed()["totals"]["sessions"]) > 0);
}

#[test]
fn the_relays_limits_are_told_by_name() {
    for (options, said) in [
        (["--pair-ip-rate-per-min", "5"], "PAIR_IP_RATE_PER_MIN"),
        (["--pair-max-sessions", "5"], "MAX_SESSIONS"),
        (["--max-connections-per-ip", "5"], "--max-connections-per-ip"),
        (["--dialects", "link"], "--url"),
    ] {
        let outcome = load(Relay::with(&options).address, "pair --links 20 --seconds 1");
        assert!(outcome.code == 1 && outcome.stderr.contains(said), "{options:?}: {}", outcome.stderr);
    }
}

/// Runs payloads of 200 bytes through a relay that lies about the 100th.
fn lied_to(lie: Lie, measure: &str, verify: &str) -> Outcome {
    let relay = Relay::start();
    // What never arrives is waited for to the end.
    let patience = if matches!(lie, Lie::Drop) { 5 } else { 10 };
    let line = format!("pair --measure {measure} --links 2 --size 200 --seconds 3 --patience {patience}");
    load(liar::start(relay.address, lie, 100), &format!("{line} --verify {verify}"))
}

#[test]
fn an_honest_proxy_passes() {
    for measure in ["round-trips", "pairings"] {
        let outcome = lied_to(Lie::None, measure, "all");
        let messages = count(&outcome.assert_passed()["verification"]["messages"]);
        assert!(messages > 100, "the lie would not have been told: {messages}");
    }
}

#[test]
fn a_payload_that_was_not_sent_is_caught() {
    for measure in ["round-trips", "pairings"] {
        // Of the payload's 200 bytes, the 60th of the message and its neighbours are about the 13th.
        lied_to(Lie::FlipMiddle, measure, "all").assert_caught(&["byte 1", "no base64"]);
        lied_to(Lie::Duplicate, measure, "off").assert_caught(&["duplicated or reordered"]);
        lied_to(Lie::FlipStamp, measure, "off").assert_caught(&["no JSON"]);
        lied_to(Lie::Cut, measure, "off").assert_caught(&["no JSON"]);
        lied_to(Lie::Binary, measure, "off").assert_caught(&["binary"]);
    }
}

#[test]
fn a_payload_that_never_arrives_is_missed_at_the_end() {
    for measure in ["round-trips", "pairings"] {
        let outcome = lied_to(Lie::Drop, measure, "all");
        assert_eq!(outcome.run()["totals"]["errors"]["not arrived"], 1, "{}", outcome.stdout);
        assert_eq!(outcome.code, 1);
    }
}
