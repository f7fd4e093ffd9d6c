//! longsplice: a content-blind rendezvous and WebSocket relay.
//!
//! (The tour comes here.)

#![deny(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod admin;
pub mod admission;
pub mod config;
pub mod control;
pub mod dialect;
#[allow(unsafe_code)]
pub mod driver;
pub mod id;
pub mod limits;
pub mod logs;
pub mod pacing;
pub mod proto;
pub mod reason;
pub mod time;
pub mod timers;
