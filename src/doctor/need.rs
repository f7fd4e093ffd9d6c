//! What the options ask of the machine, in its own units.

use std::net::SocketAddr;

use crate::{
    boot,
    config::Config,
    driver::{self, PoolOptions},
};

/// See the module. Made by [`Need::of`]; the fields are there for tests to change.
#[derive(Clone, Debug)]
pub struct Need {
    /// Connections in all; `None` where the options set no limit.
    pub connections: Option<u64>,
    /// Threads that relay.
    pub shards: u64,
    /// Which driver was asked for.
    pub driver: driver::Choice,
    /// Whether each shard is to have a core of its own.
    pub pin: bool,
    /// Connections that may wait in one listener's queue.
    pub backlog: u64,
    /// Memory that the rings of all shards lock.
    pub locked_bytes: u64,
    /// Memory of all shards that does not depend on the number of connections: receive buffers and what may be held
    /// for slow peers.
    pub fixed_bytes: u64,
    /// Where to listen.
    pub addresses: Vec<SocketAddr>,
    /// Whether the options fix the size of (receive, send) buffers.
    pub fixed_buffers: (bool, bool),
}

impl Need {
    /// What a configuration asks for.
    pub fn of(config: &Config) -> Need {
        let shards = u64::from(boot::shards(config));
        let pool = PoolOptions {
            buffers: u32::from(config.recv_buffers),
            buffer_bytes: config.recv_buffer_size as u32,
        };
        let receive = u64::from(pool.buffers) * u64::from(pool.buffer_bytes);
        let addresses = config.listen_addresses().into_iter();
        Need {
            connections: (config.max_connections > 0).then_some(config.max_connections),
            shards,
            driver: config.driver,
            pin: config.pin,
            backlog: driver::listen::BACKLOG.unsigned_abs().into(),
            // One more: the kernel gives the ring that was tried out at the start back a little late.
            locked_bytes: (shards + 1) * driver::locked_bytes(pool),
            fixed_bytes: shards * (receive + config.outbox_budget as u64),
            addresses: addresses.chain(config.admin_listen).filter(|address| address.port() != 0).collect(),
            fixed_buffers: (config.receive_buffer > 0, config.send_buffer > 0),
        }
    }

    /// Descriptors that one table has to hold: of a shard, or of the process.
    pub fn descriptors(&self, private: bool) -> Option<u64> {
        let connections = self.connections?;
        Some(match (private, self.shards) {
            (true, 1) | (false, _) => connections + OWN_DESCRIPTORS * self.shards,
            // The kernel spreads connections by a hash, so that no shard has exactly its part.
            (true, shards) => connections.div_ceil(shards) * 3 / 2 + OWN_DESCRIPTORS,
        })
    }

    /// The connections for which tables of `limit` descriptors are enough: [`Need::descriptors`] the other way.
    pub fn connections_within(&self, limit: u64, private: bool) -> u64 {
        match (private, self.shards) {
            (true, 1) | (false, _) => limit.saturating_sub(OWN_DESCRIPTORS * self.shards),
            (true, shards) => limit.saturating_sub(OWN_DESCRIPTORS) * 2 / 3 * shards,
        }
    }

    /// Memory for these connections at rest, the kernel's included, and for the shards.
    pub fn bytes_for(&self, connections: u64) -> u64 {
        connections * IDLE_BYTES + self.fixed_bytes
    }

    /// The connections that fit into this memory: [`Need::bytes_for`] the other way.
    pub fn connections_in(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.fixed_bytes) / IDLE_BYTES
    }
}

/// Descriptors of a table that are not connections: listeners, ring, post, pipes.
const OWN_DESCRIPTORS: u64 = 200;
/// Memory of a connection at rest: 600 B of the process (docs/BENCHMARKS.md) and some 4.5 KB of the kernel, which a
/// socket and its armed receive take.
const IDLE_BYTES: u64 = 600 + 4_500;
