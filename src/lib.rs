//! longsplice: a content-blind rendezvous and WebSocket relay for Linux.
//!
//! Hosts behind NAT register a key-derived address; clients resolve it; the relay asks the host to dial back and
//! joins the two sockets, forwarding frames that it cannot read. Devices that pair by a QR code exchange messages whose
//! payloads it cannot read either.
//!
//! # One frame's path
//!
//! 1. The kernel has received bytes into a buffer of the shard's pool; [`driver`] hands them to the shard as a
//!    [`driver::Chunk`] with a little writable room in front.
//! 2. [`shard`] finds the connection, sees that it is joined to another one and asks [`pacing`] whether the bytes
//!    are paid for.
//! 3. [`proto::ws`] goes over them once: it unmasks the payload where it lies, writes the relay's own shorter
//!    headers in place of the client's, and leaves one contiguous run.
//! 4. The driver sends that run from the same buffer, together with whatever else leaves in this turn, by one
//!    system call for all connections; the buffer goes back to the pool.
//!
//! Nothing is allocated, locked, logged or copied on the way. When the destination does not take the bytes, or
//! pacing says "wait", the source is simply not read.
//!
//! # Who owns what
//!
//! - A **shard** is one thread with its driver, connections, timers, registries and counters. None of it is
//!   shared.
//! - The **driver** owns sockets and all memory the kernel may write to. It is the only I/O and the only unsafe
//!   code.
//! - A **dialect** owns the meaning: who is registered, which links exist. It is told events and answers with
//!   actions, and sees neither socket nor clock.
//! - **Mail** is the only thing that crosses shards: a connection on its way to the shard that owns its key, and
//!   the dialects' letters.
//!
//! # Reading order
//!
//! [`reason`] and [`limits`] (the vocabulary), [`proto`] (bytes to values), [`pacing`], [`dialect`] (what messages
//! mean), [`driver`] (the contract in its head), [`shard`] (the loop that joins them), [`boot`]. Then one scenario
//! in `tests/`.

#![deny(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod admin;
pub mod admission;
pub mod boot;
pub mod config;
pub mod control;
pub mod dialect;
pub mod doctor;
#[allow(unsafe_code)]
pub mod driver;
pub mod health;
pub mod id;
pub mod limits;
pub mod logs;
pub mod pacing;
pub mod proto;
pub mod reason;
pub mod secret;
pub mod shard;
pub mod sim;
pub mod systemd;
pub mod tables;
pub mod time;
pub mod timers;
