//! The simulator.

mod collect;
pub mod dice;
pub mod driver;
pub mod faults;
pub mod network;
mod outbox;
mod pool;
#[cfg(test)]
mod tests;
