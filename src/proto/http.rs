//! HTTP/1.1 request heads (over `httparse`) and the few responses a relay gives. Pure.
//!
//! Parsers return complete, incomplete or wrong, and consume nothing unless complete.

use crate::reason::Reason;

/// A parsed request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Length of the head in bytes; what follows belongs to the next request or to the WebSocket.
    pub len: usize,
    /// The method, as sent.
    pub method: String,
    /// The target without its query.
    pub path: String,
    /// Whether the connection stays open for another request after the response (HTTP/1.1 defaults, `Connection`).
    pub keep_alive: bool,
    /// The body's length that the head announces (`Content-Length`); a chunked body is `None` and ends the connection after the response.
    pub body_len: Option<u64>,
    /// `Host`, lower-cased and trimmed.
    pub host: String,
    /// The first hop of `X-Forwarded-For`, trimmed, if it is an IP address (with or without a port or brackets).
    pub forwarded_for: Option<std::net::IpAddr>,
    /// `Origin`, as sent.
    pub origin: Option<String>,
    /// What the head asks for.
    pub upgrade: Upgrade,
}

/// Whether a head asks for a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The variant names its field.
pub enum Upgrade {
    /// A plain request.
    None,
    /// A correct opening handshake (RFC 6455 section 4.2.1); holds the `Sec-WebSocket-Accept` to answer.
    WebSocket { accept: String },
    /// An opening handshake of another version: answered 426 with `Sec-WebSocket-Version: 13`.
    WrongVersion,
    /// A handshake without a key or with one that is not 16 bytes of base64, or not a GET of HTTP/1.1: answered 400.
    Malformed,
}

/// Parses a head from the start of `bytes`. `Ok(None)` needs more; [`Reason::BadHead`] is answered 400,
/// [`Reason::HeadTooLarge`] 431.
pub fn parse(_bytes: &[u8]) -> Result<Option<Head>, Reason> {
    unimplemented!()
}

/// Appends the 101 response for a handshake.
pub fn switch_protocols(_out: &mut Vec<u8>, _accept: &str) {
    unimplemented!()
}

/// Appends a response with `Content-Length`, `Connection` as given, `Cache-Control: no-store` and further header lines
/// (`name: value` without the line end). `head_only` leaves the body out (HEAD).
pub fn respond(
    _out: &mut Vec<u8>,
    _status: u16,
    _headers: &[&str],
    _body: &[u8],
    _keep_alive: bool,
    _head_only: bool,
) {
    unimplemented!()
}
