//! The load generator that an operator runs against any Link relay.

#![forbid(unsafe_code)]
#![allow(dead_code)] // Until the command line calls it all.

mod bench;
mod compare;
mod cores;
mod engine;
mod machine;
mod meter;
mod progress;
mod relay_process;
mod report;
mod run;
mod scenario;
mod sizes;
mod target;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {}
