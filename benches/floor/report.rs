//! Readings into a table and a verdict.
//!
//! A relay's ratio is taken round by round against the pass-through of the same round, so that a machine that
//! drifts drifts under both, and the median of those ratios is what counts. The ranges beside it say how far
//! to trust it.

use std::fs;

use crate::{
    cpu,
    server::{Cores, Subject},
    workload::{Reading, Sizes, Workload},
};

/// What the relay may cost.
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    /// CPU per message, as a multiple of the pass-through's.
    pub message: f64,
    /// CPU per byte with capped buffers, as a multiple of the pass-through's.
    pub byte: f64,
    /// Bytes of memory an idle socket.
    pub idle: f64,
}

/// One line of the table: a subject under a workload, a reading a round.
pub struct Row {
    /// What was done.
    pub workload: Workload,
    /// To whom.
    pub subject: Subject,
    /// In the order of the rounds.
    pub readings: Vec<Reading>,
}

impl Targets {
    /// What `workload` is held to, or `None` where it is only shown.
    fn of(&self, workload: Workload) -> Option<f64> {
        match workload {
            Workload::PingPong => Some(self.message),
            Workload::StreamCapped => Some(self.byte),
            Workload::Idle => Some(self.idle),
            Workload::StreamGrown => None,
        }
    }
}

/// Where and of what the numbers are.
pub fn print_header(cores: Cores, sizes: &Sizes, rounds: usize) {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let said = |program, arguments: &[&str]| {
        cpu::output_of(program, arguments).unwrap_or_else(|| "unknown".to_owned())
    };
    println!("machine  {model}, {count} cores, kernel {}", kernel.trim());
    let (commit, date) =
        (said("git", &["describe", "--always", "--dirty"]), said("date", &["-u", "+%F %H:%M UTC"]));
    println!("commit   {}, {}", commit.trim(), date.trim());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let before = load.split(' ').next().unwrap_or_default();
    println!(
        "load     {before} before the run: where others compete for the cores, costs rise and ratios draw together"
    );
    println!("cores    server on {}, generator on {}", cores.server, cores.generator);
    println!(
        "rounds   {rounds} of {:?} after {:?}, the subjects in turn in each round",
        sizes.span, sizes.warm_up
    );
}

/// Prints the table and a verdict on each target; whether all are met.
pub fn print_table(rows: &[Row], sizes: &Sizes, targets: &Targets) -> bool {
    let mut is_met = true;
    for workload in Workload::ALL {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
        let Some(floor) = rows.iter().find(|row| row.subject == Subject::PassThrough) else { continue };
        let (unit, beside) = workload.units();
        println!("\n{}", workload.title(sizes));
        println!(
            "  {:<16} {:>9} {:>17} {:>7} {:>13} {:>6}  {beside}",
            "", unit, "range", "ratio", "range", "busy"
        );
        for row in &rows {
            let costs = Spread::of(row.readings.iter().map(|reading| reading.cost));
            let pairs = row.readings.iter().zip(&floor.readings);
            let ratios = Spread::of(pairs.map(|(own, floor)| own.cost / floor.cost));
            let busy = Spread::of(row.readings.iter().map(|reading| reading.busy));
            let rate = Spread::of(row.readings.iter().map(|reading| reading.beside));
            let (is_floor, is_cpu) = (row.subject == Subject::PassThrough, workload != Workload::Idle);
            println!(
                "  {:<16} {:>9.3} {:>17} {:>7} {:>13} {:>6}  {:.0}{}",
                row.subject.name(),
                costs.median,
                format!("{:.3}..{:.3}", costs.least, costs.most),
                if is_floor || !is_cpu { "-".to_owned() } else { format!("{:.2}", ratios.median) },
                if is_floor || !is_cpu {
                    "-".to_owned()
                } else {
                    format!("{:.2}..{:.2}", ratios.least, ratios.most)
                },
                if is_cpu { format!("{:.0} %", busy.median * 100.0) } else { "-".to_owned() },
                rate.median,
                match targets.of(workload) {
                    Some(target) if !is_floor => {
                        let reached = if is_cpu { ratios.median } else { costs.median };
                        is_met &= reached <= target;
                        format!("  {} (at most {target})", if reached <= target { "met" } else { "MISSED" })
                    }
                    _ => String::new(),
                }
            );
        }
    }
    is_met
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (below, above) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Spread { least: values[0], median: (below + above) / 2.0, most: values[values.len() - 1] }
    }
}
