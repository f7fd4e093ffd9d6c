//! Readings into tables. Ratios are taken round by round, as in `engines`.

use crate::{
    machine::Spread,
    way::{Experiment, Sizes, Way, Workload},
};

/// One measurement.
#[derive(Clone, Copy)]
pub struct Reading {
    /// In the workload's unit.
    pub cost: f64,
    /// The share of its core that the server used.
    pub busy: f64,
}

/// One line of a table.
pub struct Row {
    /// What served.
    pub way: &'static Way,
    /// In the order of the rounds.
    pub readings: Vec<Reading>,
}

impl Row {
    /// Nothing is measured yet.
    pub fn new(way: &'static Way) -> Row {
        Row { way, readings: Vec::new() }
    }

    fn ratios(&self, first: &Row) -> Spread {
        Spread::of(self.readings.iter().zip(&first.readings).map(|(own, first)| own.cost / first.cost))
    }
}

/// Prints the table of an experiment under one workload. Ratios are to its first row.
pub fn print_table(experiment: &Experiment, workload: Workload, sizes: &Sizes, rows: &[Row]) {
    println!("\n{} [{}]: {}", experiment.title, experiment.name, workload.title(sizes));
    println!("  {:<27} {:>7} {:>15} {:>7} {:>12} {:>6}", "", "cost", "range", "ratio", "range", "busy");
    for row in rows {
        let costs = Spread::of(row.readings.iter().map(|reading| reading.cost));
        let busy = Spread::of(row.readings.iter().map(|reading| reading.busy));
        let ratios = row.ratios(&rows[0]);
        println!(
            "  {:<27} {:>7.3} {:>15} {:>7.2} {:>12} {:>4.0} %",
            row.way.title,
            costs.median,
            format!("{:.3}..{:.3}", costs.least, costs.most),
            ratios.median,
            format!("{:.2}..{:.2}", ratios.least, ratios.most),
            busy.median * 100.0,
        );
    }
}
