//! longsplice: a content-blind rendezvous and WebSocket relay.
//!
//! (The tour comes here.)

#![deny(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

pub mod admission;
pub mod dialect;
#[allow(unsafe_code)]
pub mod driver;
pub mod id;
pub mod limits;
pub mod pacing;
pub mod proto;
pub mod reason;
pub mod sim;
pub mod time;
pub mod timers;
