//! A deterministic simulator that runs the product's own shards: for tests, fuzzing and benches only.
//!
//! Everything outside of the shards is replaced, and nothing inside: a virtual [`network`] under a
//! [`driver`] that keeps the contract of [`crate::driver::Driver`] as badly as it may, [`host`]s,
//! [`client`]s and [`stranger`]s, and [`pair`]ing devices, that speak real bytes over it, one clock and one
//! source of chance ([`dice`]). Each seed draws its own [`faults`], [`manners`] and [`settings`]; the same
//! seed is the same [`run`], step for step. It never opens a socket, reads a clock or starts a thread.
//!
//! Reading order: [`run`] (what has to hold), [`truth`] (how it is known), [`leg`] (an end of a link),
//! [`driver`] and [`network`] (what may go wrong). Apart from runs, [`feed`] cuts a client's bytes as a shard would,
//! and [`targets`] is what the fuzzers run.

pub mod client;
mod collect;
mod conns;
mod dial_back;
pub mod dice;
pub mod driver;
pub mod faults;
pub mod feed;
pub mod host;
pub mod leg;
pub mod manners;
pub mod network;
mod outbox;
pub mod pair;
mod pool;
pub mod run;
#[cfg(test)]
mod scenarios;
pub mod settings;
pub mod stranger;
mod stream;
mod talk;
pub mod targets;
#[cfg(test)]
mod tests;
pub mod truth;
pub mod wire;
pub mod workspace;
