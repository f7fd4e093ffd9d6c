//! The pair dialect against its contract, in virtual time.

mod net;
mod refusals;
mod relaying;
mod resuming;
mod sessions;
