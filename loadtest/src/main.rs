//! The load generator that an operator runs against any Link relay.

#![forbid(unsafe_code)]
#![allow(dead_code)] // Until the command line calls it all.

mod engine;
mod report;
mod run;
mod scenario;
mod sizes;
mod target;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {}
