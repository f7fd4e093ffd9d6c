//! Readings into tables.
//!
//! Ratios are taken round by round, so that a machine that drifts drifts under both sides of each, and the median
//! of those ratios is what counts. The ranges beside it say how far to trust it.

use crate::{
    machine::{self, Spread, server::Cores},
    subject::Subject,
    workload::{Reading, Sizes, Workload},
};

/// One line of the table: a subject under a workload, a reading a round.
pub struct Row {
    /// What was done.
    pub workload: Workload,
    /// To whom.
    pub subject: Subject,
    /// In the order of the rounds.
    pub readings: Vec<Reading>,
}

impl Row {
    /// As they were measured.
    pub fn costs(&self) -> Spread {
        Spread::of(self.readings.iter().map(|reading| reading.cost))
    }

    /// As multiples of what `other` cost in the same rounds.
    pub fn ratios(&self, other: &Row) -> Spread {
        let pairs = self.readings.iter().zip(&other.readings);
        Spread::of(pairs.map(|(own, other)| own.cost / other.cost))
    }
}

/// Where and of what the numbers are.
pub fn print_header(cores: Cores, sizes: &Sizes, rounds: usize) {
    machine::print_header(cores);
    println!(
        "rounds   {rounds} of {:?} after {:?}, the subjects in turn in each round",
        sizes.span, sizes.warm_up
    );
}

/// Prints a table for each workload. Ratios are to its first row.
pub fn print_tables(rows: &[Row], sizes: &Sizes) {
    for workload in Workload::ALL {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
        let Some((first, others)) = rows.split_first() else { continue };
        let (unit, beside) = workload.units();
        println!("\n{}", workload.title(sizes));
        println!(
            "  {:<21} {:>9} {:>17} {:>7} {:>13} {:>6}  {beside}",
            "", unit, "range", "ratio", "range", "busy"
        );
        print_row(first, None);
        others.iter().for_each(|row| print_row(row, Some(first)));
    }
}

fn print_row(row: &Row, baseline: Option<&Row>) {
    let costs = row.costs();
    let (ratio, ratio_range) = match baseline.map(|baseline| row.ratios(baseline)) {
        Some(ratios) => (format!("{:.2}", ratios.median), format!("{:.2}..{:.2}", ratios.least, ratios.most)),
        None => ("1".to_owned(), String::new()),
    };
    let busy = Spread::of(row.readings.iter().map(|reading| reading.busy));
    let rate = Spread::of(row.readings.iter().map(|reading| reading.beside));
    println!(
        "  {:<21} {:>9.3} {:>17} {ratio:>7} {ratio_range:>13} {:>4.0} %  {:.0}",
        row.subject.title(),
        costs.median,
        format!("{:.3}..{:.3}", costs.least, costs.most),
        busy.median * 100.0,
        rate.median,
    );
}
