//! The workspace dialect against its contract, in virtual time.

mod arriving;
mod net;
mod routing;
