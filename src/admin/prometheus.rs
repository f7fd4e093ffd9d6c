//! Snapshots as Prometheus text (exposition format 0.0.4).
//!
//! One row a metric, from which come its lines here and its line in docs/OPERATIONS.md. Labels are the shard,
//! and words of fixed sets: the number of series depends on the number of shards alone.

use std::fmt::{Display, Write};

use super::{Ready, Snapshot};
use crate::dialect::overview;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct About {
    /// The version.
    pub version: &'static str,
    /// The driver that runs, as its option calls it.
    pub driver: &'static str,
}

/// Renders all metrics, the workspace dialect's last and under its contract's names. `snapshots` stand in the order
/// of the shards' numbers.
pub fn render(about: &About, ready: &Ready, snapshots: &[Option<Snapshot>]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for metric in METRICS {
        let (name, kind, help) = (metric.name, metric.kind, metric.help);
        write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect(STRING);
        match metric.samples {
            Samples::Process(sample) => sample(&mut Lines { out: &mut out, name, shard: None }, about, ready),
            Samples::Shards => Lines { out: &mut out, name, shard: None }.add(snapshots.len()),
            Samples::Answered => {
                for (shard, snapshot) in snapshots.iter().enumerate() {
                    Lines { out: &mut out, name, shard: Some(shard) }.add(u8::from(snapshot.is_some()));
                }
            }
            Samples::Shard(sample) => {
                for snapshot in snapshots.iter().flatten() {
                    sample(&mut Lines { out: &mut out, name, shard: Some(snapshot.shard.into()) }, snapshot);
                }
            }
        }
    }
    out + &overview::metrics(snapshots.iter().flatten().map(|snapshot| snapshot.workspace.clone()))
}

/// The metrics table of docs/OPERATIONS.md, in Markdown.
pub fn markdown_table() -> String {
    let mut out = String::from("| metric | type | what |\n|---|---|---|\n");
    for metric in METRICS {
        writeln!(out, "| `{}` | {} | {} |", metric.name, metric.kind, metric.help).expect(STRING);
    }
    out
}

struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Samples,
}

/// Where a metric's values come from.
enum Samples {
    /// One of the whole process.
    Process(fn(&mut Lines<'_>, &About, &Ready)),
    /// How many shards there are.
    Shards,
    /// Whether each shard answered.
    Answered,
    /// Some of each shard that answered.
    Shard(fn(&mut Lines<'_>, &Snapshot)),
}

/// Writes the lines of one metric, of one shard.
struct Lines<'a> {
    out: &'a mut String,
    name: &'static str,
    shard: Option<usize>,
}

impl Lines<'_> {
    fn add(&mut self, value: impl Display) {
        self.write("", &[], value);
    }

    fn label(&mut self, label: &'static str, word: impl Display, value: impl Display) {
        self.write("", &[(label, &word)], value);
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let shard = self.shard.iter().map(|shard| ("shard", shard as &dyn Display));
        let mut separator = '{';
        write!(self.out, "{}{suffix}", self.name).expect(STRING);
        for (label, word) in shard.chain(labels.iter().copied()) {
            write!(self.out, "{separator}{label}=\"{word}\"").expect(STRING);
            separator = ',';
        }
        writeln!(self.out, "{} {value}", if separator == ',' { "}" } else { "" }).expect(STRING);
    }
}

const fn counter(name: &'static str, help: &'static str, sample: fn(&mut Lines<'_>, &Snapshot)) -> Metric {
    Metric { name, kind: "counter", help, samples: Samples::Shard(sample) }
}

const fn gauge(name: &'static str, help: &'static str, sample: fn(&mut Lines<'_>, &Snapshot)) -> Metric {
    Metric { name, kind: "gauge", help, samples: Samples::Shard(sample) }
}

const fn process(
    name: &'static str,
    help: &'static str,
    sample: fn(&mut Lines<'_>, &About, &Ready),
) -> Metric {
    Metric { name, kind: "gauge", help, samples: Samples::Process(sample) }
}

/// Every metric. Names and labels never change their meaning: dashboards depend on them.
const METRICS: &[Metric] = &[
    process(
        "longsplice_info",
        "Always 1; its labels say which version runs on which driver.",
        |lines, about, _| {
            lines.write("", &[("version", &about.version), ("driver", &about.driver)], 1);
        },
    ),
    Metric { name: "longsplice_shards", kind: "gauge", help: "Shards.", samples: Samples::Shards },
    process("longsplice_draining", "1 while the relay is shutting down.", |lines, _, ready| {
        lines.add(u8::from(ready.draining));
    }),
    process("longsplice_stalled_shards", "Shards that have not turned for too long.", |lines, _, ready| {
        lines.add(ready.stalled.len());
    }),
    Metric {
        name: "longsplice_ip_windows_evicted_total",
        kind: "counter",
        help: "Per-IP windows forgotten early because their table was full.",
        samples: Samples::Process(|lines, _, ready| lines.add(ready.ip_windows_evicted)),
    },
    Metric {
        name: "longsplice_log_lines_lost_total",
        kind: "counter",
        help: "Log lines that were not written, because nobody took them or writing failed.",
        samples: Samples::Process(|lines, _, ready| lines.add(ready.log_lines_lost)),
    },
    Metric {
        name: "longsplice_shard_answered",
        kind: "gauge",
        help: "1 if the shard gave its counters in time; the other metrics leave out one that did not.",
        samples: Samples::Answered,
    },
    gauge("longsplice_connections", "Open connections.", |lines, shard| lines.add(shard.connections)),
    gauge("longsplice_websockets", "Open connections that are upgraded.", |lines, shard| {
        lines.add(shard.websockets)
    }),
    counter("longsplice_accepted_total", "Accepted connections.", |lines, shard| lines.add(shard.accepted)),
    counter(
        "longsplice_accept_failures_total",
        "Failures to accept, for want of descriptors or memory.",
        |lines, shard| lines.add(shard.accept_failures),
    ),
    counter(
        "longsplice_halts_total",
        "Times that a shard stood still for half a second or more: halted, or without a core.",
        |lines, shard| lines.add(shard.halts),
    ),
    counter("longsplice_http_requests_total", "Plain HTTP requests answered.", |lines, shard| {
        lines.add(shard.http_requests);
    }),
    counter(
        "longsplice_refused_total",
        "Connections turned away before they were served, by reason.",
        |lines, shard| {
            for (reason, count) in shard.refused.iter() {
                lines.label("reason", reason.label(), count);
            }
        },
    ),
    counter("longsplice_closed_total", "Connections that ended, by reason.", |lines, shard| {
        for (reason, count) in shard.closed.iter() {
            lines.label("reason", reason.label(), count);
        }
    }),
    gauge("longsplice_addresses", "Registered addresses.", |lines, shard| lines.add(shard.addresses)),
    gauge("longsplice_links", "Links, by state: introduced, pending, relaying.", |lines, shard| {
        lines.label("state", "introduced", shard.links.introduced);
        lines.label("state", "pending", shard.links.pending);
        lines.label("state", "relaying", shard.links.relaying);
    }),
    counter("longsplice_links_introduced_total", "Links ever introduced.", |lines, shard| {
        lines.add(shard.links.introduced_total);
    }),
    counter("longsplice_links_relayed_total", "Links that ever relayed.", |lines, shard| {
        lines.add(shard.links.relayed_total);
    }),
    counter(
        "longsplice_relayed_bytes_total",
        "Payload bytes relayed, by the end that sent them.",
        |lines, shard| {
            lines.label("from", "host", shard.from_host.bytes);
            lines.label("from", "client", shard.from_client.bytes);
        },
    ),
    counter(
        "longsplice_relayed_messages_total",
        "Messages relayed, by the end that sent them.",
        |lines, shard| {
            lines.label("from", "host", shard.from_host.messages);
            lines.label("from", "client", shard.from_client.messages);
        },
    ),
    counter(
        "longsplice_paced_seconds_total",
        "Time that directions of links waited for pacing.",
        |lines, shard| {
            lines.add(seconds(shard.paced_us));
        },
    ),
    gauge("longsplice_held_bytes", "Bytes on the heap that slow peers have not taken.", |lines, shard| {
        lines.add(shard.driver.held_bytes);
    }),
    counter(
        "longsplice_outbox_budget_waits_total",
        "Times that reading stopped because the budget for held bytes was used up.",
        |lines, shard| lines.add(shard.outbox_budget_waits),
    ),
    gauge(
        "longsplice_message_bytes",
        "Bytes reserved for messages that have begun and are not complete.",
        |lines, shard| lines.add(shard.reserved_bytes),
    ),
    counter(
        "longsplice_message_budget_waits_total",
        "Times that a message had to wait because the budget for incomplete messages was used up.",
        |lines, shard| lines.add(shard.message_budget_waits),
    ),
    counter(
        "longsplice_platform_questions_refused_total",
        "Questions to the platform that were not asked because too many were open.",
        |lines, shard| lines.add(shard.questions_refused),
    ),
    gauge("longsplice_pair_sessions", "Pairing sessions.", |lines, shard| lines.add(shard.pair.sessions)),
    counter(
        "longsplice_pair_sessions_total",
        "Pairing sessions, by what became of them: created, joined, resumed, expired.",
        |lines, shard| {
            lines.label("event", "created", shard.pair.created);
            lines.label("event", "joined", shard.pair.joined);
            lines.label("event", "resumed", shard.pair.resumed);
            lines.label("event", "expired", shard.pair.expired);
        },
    ),
    counter(
        "longsplice_pair_relayed_messages_total",
        "Messages relayed between paired devices.",
        |lines, shard| {
            lines.add(shard.pair.relayed_messages);
        },
    ),
    counter(
        "longsplice_pair_relayed_bytes_total",
        "Payload bytes of those messages, as JSON.",
        |lines, shard| {
            lines.add(shard.pair.relayed_bytes);
        },
    ),
    counter("longsplice_pair_errors_total", "Errors answered to devices, by code.", |lines, shard| {
        for (error, count) in shard.pair.errors() {
            lines.label("code", error.code(), count);
        }
    }),
    counter(
        "longsplice_handoffs_total",
        "Connections moved between shards, by what became of them.",
        |lines, shard| {
            lines.label("result", "sent", shard.handoffs.sent);
            lines.label("result", "received", shard.handoffs.received);
            lines.label("result", "failed", shard.handoffs.failed);
            lines.label("result", "delayed", shard.handoffs.delayed);
        },
    ),
    counter("longsplice_upgrades_total", "Connections upgraded to WebSockets.", |lines, shard| {
        lines.add(shard.upgrades)
    }),
    counter("longsplice_pings_total", "Pings sent.", |lines, shard| lines.add(shard.pings)),
    counter(
        "longsplice_stalls_total",
        "Times that a source was not read because its destination did not take what it had.",
        |lines, shard| lines.add(shard.stalls),
    ),
    counter(
        "longsplice_notices_dropped_total",
        "Control sockets closed because they did not read their own notices.",
        |lines, shard| lines.add(shard.notices_dropped),
    ),
    counter(
        "longsplice_log_entries_dropped_total",
        "Warnings of the workspace dialect that were not written because a second had too many.",
        |lines, shard| lines.add(shard.log_entries_dropped),
    ),
    gauge("longsplice_parked", "Quiet connections without a receive in the kernel.", |lines, shard| {
        lines.add(shard.driver.parked);
    }),
    counter("longsplice_parked_total", "Times that a quiet connection was parked.", |lines, shard| {
        lines.add(shard.driver.parked_total);
    }),
    counter("longsplice_parked_woken_total", "Times that a parked connection had bytes.", |lines, shard| {
        lines.add(shard.driver.woken_total);
    }),
    counter("longsplice_completions_total", "Completions taken from the driver.", |lines, shard| {
        lines.add(shard.completions)
    }),
    counter("longsplice_mails_total", "Mails taken from other shards.", |lines, shard| {
        lines.add(shard.mails)
    }),
    Metric {
        name: "longsplice_turn_seconds",
        kind: "histogram",
        help: "Time of a turn of the shard's loop, without the wait.",
        samples: Samples::Shard(|lines, shard| {
            for (bound_us, turns) in shard.turn_time.cumulative() {
                let bound =
                    bound_us.map_or_else(|| "+Inf".to_owned(), |bound_us| seconds(bound_us).to_string());
                lines.write("_bucket", &[("le", &bound)], turns);
            }
            lines.write("_sum", &[], seconds(shard.turn_time.sum_us()));
            lines.write("_count", &[], shard.turn_time.count());
        }),
    },
    gauge("longsplice_turn_max_seconds", "The longest turn since the start.", |lines, shard| {
        lines.add(seconds(shard.turn_time.max_us()));
    }),
    gauge("longsplice_receive_buffers", "Receive buffers.", |lines, shard| lines.add(shard.driver.buffers)),
    gauge("longsplice_receive_buffers_free", "Receive buffers that hold nothing.", |lines, shard| {
        lines.add(shard.driver.buffers_free);
    }),
    counter(
        "longsplice_receive_buffers_exhausted_total",
        "Receives that found no free buffer.",
        |lines, shard| {
            lines.add(shard.driver.buffers_exhausted);
        },
    ),
    counter("longsplice_syscalls_total", "System calls of the driver.", |lines, shard| {
        lines.add(shard.driver.syscalls)
    }),
    counter(
        "longsplice_spliced_bytes_total",
        "Bytes moved by splice(2) instead of through memory.",
        |lines, shard| {
            lines.add(shard.driver.spliced_bytes);
        },
    ),
    counter(
        "longsplice_stale_completions_total",
        "Completions of connections that were already gone.",
        |lines, shard| lines.add(shard.driver.stale + shard.stale),
    ),
];

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

const STRING: &str = "writing to a string does not fail";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        dialect::workspace::{Gauges, Metric},
        reason::Reason,
        time::Time,
    };

    const ABOUT: About = About { version: "1.2.3", driver: "epoll" };

    fn snapshot(shard: u16) -> Snapshot {
        let mut snapshot = Snapshot { shard, connections: 7, paced_us: 1_500_000, ..Snapshot::default() };
        snapshot.closed.count(Reason::LinkIdle);
        snapshot.links.pending = 3;
        snapshot.from_client.bytes = u64::MAX;
        snapshot.turn_time.record(Duration::from_micros(60));
        snapshot
    }

    #[test]
    fn values_carry_their_shard_and_labels() {
        let ready = Ready { draining: true, stalled: vec![1], ip_windows_evicted: 5, log_lines_lost: 6 };
        let text = render(&ABOUT, &ready, &[Some(snapshot(0)), None]);
        for line in [
            "longsplice_info{version=\"1.2.3\",driver=\"epoll\"} 1",
            "longsplice_shards 2",
            "longsplice_draining 1",
            "longsplice_stalled_shards 1",
            "longsplice_log_lines_lost_total 6",
            "longsplice_shard_answered{shard=\"0\"} 1",
            "longsplice_shard_answered{shard=\"1\"} 0",
            "longsplice_connections{shard=\"0\"} 7",
            "longsplice_closed_total{shard=\"0\",reason=\"link_idle\"} 1",
            "longsplice_closed_total{shard=\"0\",reason=\"slow_peer\"} 0",
            "longsplice_links{shard=\"0\",state=\"pending\"} 3",
            "longsplice_relayed_bytes_total{shard=\"0\",from=\"client\"} 18446744073709551615",
            "longsplice_paced_seconds_total{shard=\"0\"} 1.5",
            "longsplice_turn_seconds_bucket{shard=\"0\",le=\"0.00005\"} 0",
            "longsplice_turn_seconds_bucket{shard=\"0\",le=\"0.0001\"} 1",
            "longsplice_turn_seconds_bucket{shard=\"0\",le=\"+Inf\"} 1",
            "longsplice_turn_seconds_count{shard=\"0\"} 1",
            "longsplice_turn_seconds_sum{shard=\"0\"} 0.00006",
        ] {
            assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("longsplice_connections{shard=\"1\"}"));
    }

    #[test]
    fn the_workspace_series_are_summed_under_their_contracts_names() {
        let shard = |shard, frames| {
            let mut snapshot = snapshot(shard);
            snapshot.workspace.counters.add(Metric::FramesClientToDaemon, frames, Time(1));
            snapshot.workspace.gauges = Some(Gauges { connections: 2, workspaces: 1 });
            Some(snapshot)
        };
        let text = render(&ABOUT, &Ready::default(), &[shard(0, 3), None, shard(2, 4)]);
        let expected = "# TYPE relay_frames_client_to_daemon_total counter\nrelay_frames_client_to_daemon_total 7\n\
            # TYPE relay_connections_total gauge\nrelay_connections_total 4\n\
            # TYPE relay_workspaces_total gauge\nrelay_workspaces_total 2\n";
        assert!(text.ends_with(expected), "{text}");
        assert!(!render(&ABOUT, &Ready::default(), &[Some(snapshot(0))]).contains("\nrelay_"));
    }

    #[test]
    fn every_metric_has_one_help_and_one_type_and_a_name_of_its_kind() {
        let text = render(&ABOUT, &Ready::default(), &[Some(snapshot(0))]);
        for metric in METRICS {
            let start = |word: &str| format!("# {word} {} ", metric.name);
            assert_eq!(text.matches(&start("HELP")).count(), 1, "{}", metric.name);
            assert_eq!(text.matches(&start("TYPE")).count(), 1, "{}", metric.name);
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
            assert!(text.contains(&format!("\n{}", metric.name)), "{} has no sample", metric.name);
        }
    }

    #[test]
    fn no_series_comes_twice_and_their_number_depends_on_the_shards_alone() {
        let series = |shards: u16| {
            let snapshots: Vec<_> = (0..shards).map(|shard| Some(snapshot(shard))).collect();
            let text = render(&ABOUT, &Ready::default(), &snapshots);
            let mut names: Vec<_> = text
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| line.rsplit_once(' ').expect("a name and a value").0.to_owned())
                .collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count);
            count
        };
        let (one, two, three) = (series(1), series(2), series(3));
        assert_eq!(two - one, three - two);
    }
}
