//! What every comparison of servers needs: two cores, a server on one of them, its CPU time, and how figures of
//! several rounds are put together.
//!
//! Shared by the bench targets `engines` and `ways`; the former says more about how it is measured.

pub mod cpu;
pub mod server;

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::server::Cores;

/// The places of `count` rows in the order in which they are read: all of them in each round, each round beginning with
/// another, because what is read first may find the machine in another state.
pub fn turns(rounds: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..rounds).flat_map(move |round| (0..count).map(move |turn| (round + turn) % count))
}

/// Prints what the numbers were measured on, and of what they are.
pub fn print_header(cores: Cores) {
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
}

/// Thousands of links are twice as many sockets. Where the limit stays low, connecting says so.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Raising to the hard limit is always allowed.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The middle of some values and how far they reach.
pub struct Spread {
    /// The smallest.
    pub least: f64,
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (below, above) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Spread { least: values[0], median: (below + above) / 2.0, most: values[values.len() - 1] }
    }
}
