//! Bytes to values and back: HTTP heads and WebSocket frames. Pure.

pub mod http;
pub mod ws;
