//! The load generator that an operator runs against any Link relay.

#[allow(dead_code)] // Until the scenarios write it.
mod report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {}
