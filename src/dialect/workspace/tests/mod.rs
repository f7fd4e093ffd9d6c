//! The workspace dialect against its contract, in virtual time.

mod arriving;
mod frames;
mod limits;
mod net;
mod notes;
mod random;
mod routing;
mod state;
mod upgrading;
mod viewing;
mod working;
