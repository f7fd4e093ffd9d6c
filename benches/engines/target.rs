//! What the relay is held to, by name.
//!
//! A target is a ratio of the relay's cost to a comparator's, round by round, so that a machine that drifts
//! drifts under both; the median of those ratios is judged. Memory alone is judged as it is.

use crate::{machine::Spread, report::Row, subject::Subject, workload::Workload};

struct Target {
    workload: Workload,
    against: Against,
    at_most: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Against {
    /// A multiple of what this one costs.
    Subject(Subject),
    /// The cost itself.
    Nothing,
}

/// For each driver of the relay.
const TARGETS: [Target; 8] = [
    Target { workload: Workload::Message, against: Against::Subject(Subject::Copy), at_most: 1.15 },
    Target { workload: Workload::Message, against: Against::Subject(Subject::Node), at_most: 0.42 },
    Target { workload: Workload::Growth, against: Against::Subject(Subject::Copy), at_most: 1.15 },
    Target { workload: Workload::Byte, against: Against::Subject(Subject::Splice), at_most: 1.5 },
    Target { workload: Workload::Byte, against: Against::Subject(Subject::Node), at_most: 0.18 },
    Target { workload: Workload::Large, against: Against::Subject(Subject::Splice), at_most: 1.15 },
    Target { workload: Workload::Session, against: Against::Subject(Subject::Node), at_most: 0.3 },
    Target { workload: Workload::Idle, against: Against::Nothing, at_most: 512.0 },
];

/// What either driver may cost of the other, under every workload.
const DRIVERS_APART_MAX: f64 = 1.2;

/// Prints a verdict on each target whose rows were measured; whether all are met.
pub fn judge(rows: &[Row]) -> bool {
    println!("\ntargets");
    let find = |workload, subject| rows.iter().find(|row| row.workload == workload && row.subject == subject);
    let mut is_met = true;
    let mut verdict = |name: String, values: Spread, at_most: f64| {
        let met = values.median <= at_most;
        is_met &= met;
        println!(
            "  {name:<44} {:>8.3} {:>17}  at most {at_most:<5} {}",
            values.median,
            format!("{:.3}..{:.3}", values.least, values.most),
            if met { "met" } else { "MISSED" }
        );
    };
    for target in &TARGETS {
        for relay in Subject::RELAYS {
            let Some(own) = find(target.workload, relay) else { continue };
            let name = format!("{}: {}", target.workload.name(), relay.title());
            match target.against {
                Against::Nothing => verdict(format!("{name}, bytes"), own.costs(), target.at_most),
                Against::Subject(subject) => {
                    let Some(other) = find(target.workload, subject) else { continue };
                    verdict(format!("{name} / {}", subject.title()), own.ratios(other), target.at_most);
                }
            }
        }
    }
    for workload in Workload::ALL {
        let (Some(epoll), Some(ring)) = (find(workload, Subject::Epoll), find(workload, Subject::IoUring))
        else {
            continue;
        };
        let (one, other) = (epoll.ratios(ring), ring.ratios(epoll));
        let worse = if one.median > other.median { one } else { other };
        verdict(format!("{}: the dearer driver / the other", workload.name()), worse, DRIVERS_APART_MAX);
    }
    is_met
}
