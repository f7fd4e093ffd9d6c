//! Tests of the control thread over real sockets.

mod admin;
mod certificates;
mod checking;
mod forwarding;
mod lines;
mod rig;
mod server;
mod tls;
mod validating;
