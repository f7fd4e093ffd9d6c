//! Workspace connections, each by itself: some shards, no faults, a platform that answers on demand.

mod open;
mod site;
mod upgrades;
