//! Each kind of load, small, against this repository's relay.

mod support;

use std::{net::TcpListener, process::Command};

use serde_json::Value;
use support::{Relay, begin, begin_as, load};

fn count(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn pingpong_measures_round_trips() {
    let relay = Relay::start();
    let outcome = load(relay.address, "pingpong --links 20 --seconds 1 --verify all --size 8..300");
    let run = outcome.assert_passed();
    assert_eq!(run["setup"]["links"], 20);
    let messages = count(&run["totals"]["messages"]);
    // A round trip is two messages.
    let round_trips = count(&run["latency"]["count"]);
    assert!(
        round_trips > 0 && 2 * round_trips <= messages + 40,
        "{round_trips} round trips, {messages} messages"
    );
    assert_eq!(run["latency_of"], "round trip");
    // Every byte was compared but the stamps, which always are.
    let compared = count(&run["verification"]["payload_bytes"]) + 8 * count(&run["verification"]["messages"]);
    assert!(compared >= count(&run["totals"]["payload_bytes"]));
}

#[test]
fn rate_sends_by_the_clock() {
    let relay = Relay::start();
    let outcome = load(relay.address, "rate --links 10 --rate 20 --seconds 2");
    let run = outcome.assert_passed();
    let sent = count(&run["latency"]["count"]);
    assert!((390..=400).contains(&sent), "{sent} of 400 messages");
    assert_eq!(run["latency_of"], "from schedule to arrival");
}

#[test]
fn streams_move_every_size_of_message_under_either_mask() {
    let relay = Relay::start();
    for (kind, size, mask) in [
        ("stream", "64KiB", "random"),
        ("stream", "3MiB", "zero"),
        ("stream", "1KiB", "random"),
        ("duplex", "8:5,4KiB:3,200KiB:1", "random"),
    ] {
        let line = format!("{kind} --links 4 --seconds 1 --verify all --size {size} --mask {mask}");
        let outcome = load(relay.address, &line);
        let run = outcome.assert_passed();
        assert!(count(&run["totals"]["messages"]) > 0, "{line}");
        assert_eq!(run["rates"]["links"], 4, "{line}");
    }
}

#[test]
fn hold_answers_pings_and_calls_the_roll_at_the_end() {
    let relay = Relay::with(&["--ping-interval", "1s"]);
    let outcome = load(relay.address, "hold --links 300 --seconds 2 --ramp 3000");
    let run = outcome.assert_passed();
    assert!(count(&run["totals"]["pings"]) >= 600, "{}", run["totals"]);
    assert_eq!((&run["totals"]["messages"], &run["verification"]["messages"]), (&0.into(), &600.into()));
}

#[test]
fn churn_sets_sessions_up_and_tears_them_down() {
    let relay = Relay::start();
    let outcome = load(relay.address, "churn --links 8 --seconds 1");
    let run = outcome.assert_passed();
    let (sessions, latencies) = (count(&run["totals"]["sessions"]), count(&run["latency"]["count"]));
    assert!(
        sessions > 8 && latencies > 0 && sessions <= latencies + 8,
        "{sessions} sessions, {latencies} set up"
    );
}

#[test]
fn paced_links_get_the_relays_cap() {
    let relay = Relay::with(&["--link-relay-max-bps", "65536"]);
    let outcome = load(relay.address, "paced --links 4 --seconds 3 --patience 60");
    let run = outcome.assert_passed();
    let rate = |name: &str| run["rates"][name].as_f64().expect("a rate");
    assert!(rate("min") > 0.0 && rate("max") < 1.5 * 65_536.0, "{}", run["rates"]);
}

#[test]
fn mixed_has_links_of_each_pattern() {
    let relay = Relay::start();
    let mix = "hold:2,pingpong:2,rate:2,stream:1,duplex:1";
    let outcome = load(
        relay.address,
        &format!("mixed --links 16 --seconds 1 --mix {mix} --size 64..2KiB --verify all"),
    );
    let run = outcome.assert_passed();
    assert!(count(&run["totals"]["messages"]) > 0 && count(&run["latency"]["count"]) > 0);
    assert_eq!(run["setup"]["links"], 16);
}

#[test]
fn parts_of_a_mix_have_sizes_rates_and_latencies_of_their_own() {
    let relay = Relay::start();
    let mix = "pingpong:3@64,rate:2@200..300@20/s,stream:1@100KiB,hold:2";
    let outcome =
        load(relay.address, &format!("mixed --links 8 --seconds 2 --verify all --arrival burst --mix {mix}"));
    let run = outcome.assert_passed();
    let parts = run["parts"].as_array().expect("a list");
    let names: Vec<_> = parts.iter().map(|part| part["name"].as_str().expect("text")).collect();
    assert_eq!(names, ["pingpong:3@64", "rate:2@200..300@20/s", "stream:1@102400", "hold:2"]);
    let of = |part: usize, what: &str| count(&parts[part][what]);
    assert_eq!([0, 1, 2, 3].map(|part| of(part, "links")), [3, 2, 1, 2]);
    assert!(of(0, "messages") > 0 && of(2, "messages") > 0 && of(3, "messages") == 0, "{parts:?}");
    assert_eq!(
        (of(0, "payload_bytes"), of(2, "payload_bytes")),
        (64 * of(0, "messages"), 102_400 * of(2, "messages"))
    );
    let mean = of(1, "payload_bytes") as f64 / of(1, "messages") as f64;
    assert!((200.0..=300.0).contains(&mean), "{mean}");
    let total: u64 = (0..4).map(|part| of(part, "messages")).sum();
    assert_eq!(count(&run["totals"]["messages"]), total);
    // Each by its own measure; the run's are those from the schedule.
    let latencies = [0, 1].map(|part| count(&parts[part]["latency"]["count"]));
    assert!(latencies[0] > 0 && (70..=80).contains(&latencies[1]), "{latencies:?}");
    assert_eq!((&parts[2]["latency"], &parts[3]["latency"]), (&Value::Null, &Value::Null));
    assert_eq!(parts[0]["latency_of"], "round trip");
    assert_eq!(
        (count(&run["latency"]["count"]), &run["latency_of"]),
        (latencies[1], &"from schedule to arrival".into())
    );
    assert!(outcome.stdout.contains("pingpong:3@64: 3 links"), "{}", outcome.stdout);
}

#[test]
fn more_links_than_descriptors_take_more_threads_by_themselves() {
    let relay = Relay::start();
    let mut shell = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_longsplice-loadtest");
    shell.args(["-c", "ulimit -n 364; exec \"$0\" \"$@\"", program]);
    let outcome = begin_as(shell, relay.address, "hold --links 500 --seconds 1").end();
    let run = outcome.assert_passed();
    let threads: u32 = run["settings"]["threads"].as_str().and_then(|n| n.parse().ok()).expect("a number");
    assert!(threads >= 4, "{threads} tables of 300 for 1000 sockets");
    assert_eq!((&run["setup"]["links"], &run["verification"]["messages"]), (&500.into(), &1000.into()));
}

#[test]
fn an_interrupt_ends_the_run_and_still_reports() {
    let relay = Relay::start();
    let load = begin(relay.address, "pingpong --links 10 --seconds 3600");
    relay.until_relaying(10);
    load.interrupt();
    let outcome = load.end();
    assert_eq!(outcome.assert_passed()["was_interrupted"], true);
}

#[test]
fn an_interrupt_while_links_come_up_still_reports() {
    let relay = Relay::start();
    let load = begin(relay.address, "hold --links 1000 --ramp 20");
    relay.until_relaying(3);
    load.interrupt();
    let outcome = load.end();
    let run = outcome.assert_passed();
    assert!(run["was_interrupted"] == true && count(&run["setup"]["links"]) >= 3, "{run}");
}

#[test]
fn what_the_relay_refuses_is_told_with_the_remedy() {
    let relay = Relay::with(&["--link-ip-rate-per-min", "5"]);
    let outcome = load(relay.address, "pingpong --links 20 --seconds 1");
    assert!(outcome.code == 1 && outcome.stderr.contains("--link-ip-rate-per-min"), "{}", outcome.stderr);
    let relay = Relay::with(&["--max-connections-per-ip", "5"]);
    let outcome = load(relay.address, "pingpong --links 20 --seconds 1");
    assert!(outcome.code == 1 && outcome.stderr.contains("--max-connections-per-ip"), "{}", outcome.stderr);
    // A port where nothing listens any more.
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let outcome = load(address, "pingpong --links 20 --seconds 1");
    assert!(outcome.code == 1 && outcome.stderr.contains("connection refused"), "{}", outcome.stderr);
    let outcome = load(address, "pingpong --links 0");
    assert!(outcome.code == 2 && outcome.stderr.contains("--links 0"), "{}", outcome.stderr);
}
