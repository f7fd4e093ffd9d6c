//! The simulator.

pub mod client;
mod collect;
pub mod dice;
pub mod driver;
pub mod faults;
pub mod host;
pub mod leg;
pub mod manners;
pub mod network;
mod outbox;
mod pool;
pub mod run;
pub mod settings;
pub mod stranger;
#[cfg(test)]
mod tests;
pub mod truth;
pub mod wire;
