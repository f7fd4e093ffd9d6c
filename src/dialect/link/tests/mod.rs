//! Every row of the contract, on one shard and on four, in virtual time and with real keys.

mod closing;
mod homing;
mod introducing;
mod net;
mod people;
mod random;
mod registering;
mod reporting;
mod roles;
