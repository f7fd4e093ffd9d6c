//! Made-up runs for the tests of reports.

use hdrhistogram::Histogram;

use super::model::{
    Cost, Each, FORMAT, Generator, Latency, Machine, Relay, Report, Run, Setup, Tick, Totals, Verification,
};
use crate::compare;

/// A run of ten seconds at some 80,000 messages a second.
pub fn run(scenario: &str) -> Run {
    run_at(scenario, 1.0)
}

/// The same, slower by a factor.
pub fn run_at(scenario: &str, factor: f64) -> Run {
    let mut histogram = Histogram::<u64>::new(3).expect("three digits are supported");
    let wobble = |n: u64| (n.wrapping_mul(2_654_435_761) >> 7) % 1000;
    for n in 0..100_000_u64 {
        let tail = if wobble(n + 7) < 8 { 9.0 } else { 1.0 };
        let us = (700.0 + wobble(n) as f64 * 0.9) * tail * factor;
        histogram.record(us as u64).expect("it is within bounds");
    }
    let series = (-2..=10).map(|second| tick(f64::from(second), factor)).collect();
    Run {
        scenario: scenario.to_owned(),
        settings: [("links", "1000"), ("size", "128"), ("mask", "random")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        setup: Setup { links: 1000, seconds: 2.1, connections: 2010 },
        seconds: 10.0,
        totals: Totals {
            messages: (810_000.0 / factor) as u64,
            payload_bytes: (103_680_000.0 / factor) as u64,
            ..Totals::default()
        },
        latency: Latency::of(&histogram),
        latency_of: "round trip".to_owned(),
        series,
        cost: Some(cost(factor)),
        generator: Generator { cores: 0.62, busiest_thread: 0.61 },
        verification: Verification { messages: 810_000, payload_bytes: 3_200_000, failures: Vec::new() },
        ..Run::default()
    }
}

/// A report of these runs on one relay.
pub fn report(runs: Vec<Run>) -> Report {
    Report {
        format: FORMAT,
        generator: "longsplice-loadtest 0.1.0 (0123456789ab)".to_owned(),
        started_unix_ms: 1_795_275_247_000,
        machine: Machine {
            cpu: "Example CPU @ 2.00GHz".to_owned(),
            cores: 2,
            memory_bytes: 24 << 30,
            kernel: "6.18.0".to_owned(),
            is_virtual: true,
        },
        relays: vec![Relay {
            url: "ws://127.0.0.1:8080/v1/link".to_owned(),
            command: Some("longsplice --driver epoll".to_owned()),
            pid: Some(4321),
            version: Some("longsplice 0.1.0".to_owned()),
            ..Relay::default()
        }],
        runs,
        ..Report::default()
    }
}

/// Two relays over three rounds; B is somewhat faster and holds more memory.
pub fn comparison() -> Report {
    let mut runs = Vec::new();
    for round in 1..=3 {
        for (relay, factor) in [(0, 1.0), (1, 0.8)] {
            let wobble = 1.0 + 0.02 * (f64::from(round) * 2.3 + relay as f64).sin();
            let mut run = Run { relay, round: Some(round), ..run_at("pingpong", factor * wobble) };
            if let Some(cost) = &mut run.cost {
                cost.rss_per_connection_bytes = Some(313.0 * if relay == 0 { wobble } else { 2.1 });
            }
            runs.push(run);
        }
    }
    let mut report = report(runs);
    report.comparisons = compare::comparisons(&report.runs);
    let other =
        Relay { command: Some("longsplice --driver io-uring".to_owned()), ..report.relays[0].clone() };
    report.relays.push(other);
    for (relay, label) in report.relays.iter_mut().zip(["A", "B"]) {
        relay.label = Some(label.to_owned());
    }
    report
}

fn tick(at: f64, factor: f64) -> Tick {
    let is_up = at > 0.0;
    let wave = 1.0 + 0.06 * (at * 1.7).sin();
    Tick {
        at_seconds: at,
        links_up: if is_up { 1000 } else { (1000.0 + at * 450.0) as u64 },
        messages: if is_up { (81_000.0 * wave / factor) as u64 } else { 0 },
        payload_bytes: if is_up { (10_368_000.0 * wave / factor) as u64 } else { 0 },
        p50_us: is_up.then_some((1150.0 * factor / wave) as u64),
        p99_us: is_up.then_some((6900.0 * factor / wave) as u64),
        max_us: is_up.then_some((14_000.0 * factor * wave * wave) as u64),
        relay_cores: Some(if is_up { 0.97 * wave.min(1.02) } else { 0.4 }),
        relay_rss_bytes: Some(((9 << 20) as f64 + if is_up { 700_000.0 } else { 350_000.0 } * factor) as u64),
        ..Tick::default()
    }
}

fn cost(factor: f64) -> Cost {
    let each = |extra: f64| Each {
        us_per_message: Some((11.9 + extra) * factor),
        ns_per_byte: Some((93.0 + extra * 8.0) * factor),
        us_per_session: None,
    };
    Cost {
        user_seconds: 2.1,
        system_seconds: 7.6,
        softirq_seconds: 1.3,
        softirq_of: "all cores".to_owned(),
        cpu: each(0.0),
        cpu_with_softirq: each(1.6),
        rss_before_bytes: 9 << 20,
        rss_up_bytes: (9 << 20) + (630_000.0 * factor) as u64,
        rss_after_bytes: (9 << 20) + 100_000,
        pss_up_bytes: Some(8 << 20),
        rss_per_connection_bytes: Some(313.0 * factor),
        slab_per_socket_bytes: Some(3700.0),
        slab_source: "slabinfo".to_owned(),
        tcp_buffers_up_bytes: 4 << 20,
    }
}
