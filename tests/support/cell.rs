//! The matrix: every scenario runs with each driver and with one and four shards.

use std::{fmt, thread};

use super::relay::{Relay, Setup};

/// One way to run the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// As `--driver` takes it.
    pub driver: &'static str,
    /// As `--shards` takes it.
    pub shards: u16,
}

const CELLS: [Cell; 4] = [
    Cell { driver: "io-uring", shards: 1 },
    Cell { driver: "io-uring", shards: 4 },
    Cell { driver: "epoll", shards: 1 },
    Cell { driver: "epoll", shards: 4 },
];

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.driver, self.shards)
    }
}

impl Cell {
    /// A relay of this cell, still to be configured.
    pub fn setup(self) -> Setup {
        Setup::new(self)
    }

    /// A relay of this cell with the harness's defaults.
    pub fn start(self) -> Relay {
        self.setup().start()
    }
}

/// Runs a scenario in every cell, all at the same time: for scenarios that mostly wait. The failing cells
/// are named.
pub fn every_cell(scenario: impl Fn(Cell) + Sync) {
    let failed: Vec<String> = thread::scope(|scope| {
        let running = chosen().map(|cell| {
            let scenario = &scenario;
            let thread = thread::Builder::new().name(cell.to_string());
            (cell, thread.spawn_scoped(scope, move || scenario(cell)).expect("a thread for a cell"))
        });
        // All are started before the first is waited for.
        let running: Vec<_> = running.collect();
        running.into_iter().filter_map(|(cell, run)| run.join().is_err().then(|| cell.to_string())).collect()
    });
    assert!(failed.is_empty(), "failed in {}", failed.join(", "));
}

/// Runs a scenario in every cell, one after the other: for scenarios that want the machine to themselves.
pub fn every_cell_in_turn(scenario: impl Fn(Cell) + Sync) {
    let failed: Vec<String> = chosen()
        .filter(|&cell| {
            thread::scope(|scope| {
                let thread = thread::Builder::new().name(cell.to_string());
                thread.spawn_scoped(scope, || scenario(cell)).expect("a thread for a cell").join().is_err()
            })
        })
        .map(|cell| cell.to_string())
        .collect();
    assert!(failed.is_empty(), "failed in {}", failed.join(", "));
}

/// All cells, or those that `TEST_CELLS` names (`TEST_CELLS=epoll/1,epoll/4`), to look into one.
fn chosen() -> impl Iterator<Item = Cell> {
    let wanted = std::env::var("TEST_CELLS").unwrap_or_default();
    CELLS.into_iter().filter(move |cell| {
        wanted.is_empty() || wanted.split(',').any(|name| name.trim() == cell.to_string())
    })
}
