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
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, Reason> {
    let mut headers = [httparse::EMPTY_HEADER; crate::limits::HEAD_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(&bytes[..bytes.len().min(crate::limits::HEAD_BYTES_MAX)]) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() >= crate::limits::HEAD_BYTES_MAX => return Err(Reason::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Reason::HeadTooLarge),
        Err(_) => return Err(Reason::BadHead),
    };
    let get = |name: &str| request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).and_then(|h| std::str::from_utf8(h.value).ok());
    let has = |name: &str, token: &str| get(name).is_some_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)));
    let path = request.path.unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    let method = request.method.unwrap_or("").to_owned();
    let upgrade = if !has("upgrade", "websocket") || !has("connection", "upgrade") { Upgrade::None }
      else if get("sec-websocket-version") != Some("13") { Upgrade::WrongVersion }
      else { match get("sec-websocket-key") { Some(k) if k.trim().len() == 24 && method == "GET" => Upgrade::WebSocket { accept: tungstenite::handshake::derive_accept_key(k.trim().as_bytes()) }, _ => Upgrade::Malformed } };
    Ok(Some(Head { len, method, path, keep_alive: !has("connection", "close"), body_len: Some(get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0)),
      host: get("host").unwrap_or("").trim().to_ascii_lowercase(), forwarded_for: get("x-forwarded-for").and_then(|v| v.split(',').next()?.trim().parse().ok()), origin: None, upgrade }))
}

/// Appends the 101 response for a handshake.
pub fn switch_protocols(out: &mut Vec<u8>, accept: &str) {
    out.extend_from_slice(format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes());
}

/// Appends a response.
pub fn respond(out: &mut Vec<u8>, status: u16, headers: &[&str], body: &[u8], keep_alive: bool, head_only: bool) {
    let mut h = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: {}\r\n", body.len(), if keep_alive { "keep-alive" } else { "close" });
    for x in headers { h.push_str(x); h.push_str("\r\n"); }
    h.push_str("\r\n");
    out.extend_from_slice(h.as_bytes());
    if !head_only { out.extend_from_slice(body); }
}
