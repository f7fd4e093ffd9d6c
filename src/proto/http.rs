//! HTTP/1.1 request heads (over `httparse`) and the few responses a relay gives. Pure.
//!
//! Parsers return complete, incomplete or wrong, and consume nothing unless complete.

use std::net::{IpAddr, SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use tungstenite::handshake::derive_accept_key;

use crate::{
    limits::{HEAD_BYTES_MAX, HEAD_HEADERS_MAX},
    reason::Reason,
};

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
    pub forwarded_for: Option<IpAddr>,
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
    let mut storage = [httparse::EMPTY_HEADER; HEAD_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut storage);
    let within = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let len = match request.parse(within) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if within.len() == HEAD_BYTES_MAX => return Err(Reason::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Reason::HeadTooLarge),
        Err(_) => return Err(Reason::BadHead),
    };
    let headers = Headers(request.headers);
    let target = request.path.unwrap_or_default();
    let is_latest = request.version == Some(1);
    let host = headers.only("host")?;
    if !target.starts_with('/') || (is_latest && host.is_none()) {
        // RFC 9112 section 3.2: without a Host, or with two, a request of HTTP/1.1 is answered 400.
        return Err(Reason::BadHead);
    }
    let method = request.method.unwrap_or_default();
    Ok(Some(Head {
        len,
        method: method.to_owned(),
        path: target.split(['?', '#']).next().unwrap_or_default().to_owned(),
        keep_alive: if is_latest {
            !headers.lists("connection", "close")
        } else {
            headers.lists("connection", "keep-alive")
        },
        body_len: body_len(&headers)?,
        host: host.unwrap_or_default().trim().to_ascii_lowercase(),
        forwarded_for: headers.first("x-forwarded-for").and_then(first_hop),
        origin: headers.first("origin").map(str::to_owned),
        upgrade: upgrade(&headers, method, is_latest),
    }))
}

/// A head's fields.
struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The first value, if it is text.
    fn first(&self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The value of a field that may stand once at most.
    fn only(&self, name: &'a str) -> Result<Option<&'a str>, Reason> {
        if self.all(name).count() > 1 {
            return Err(Reason::BadHead);
        }
        self.all(name).next().map(std::str::from_utf8).transpose().map_err(|_| Reason::BadHead)
    }

    /// Whether a field that is a list, over all its lines, has this token, in any case.
    fn lists(&self, name: &'a str, token: &str) -> bool {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }
}

/// How long a body the head announces. Heads that two readers could understand differently are refused (RFC 9112 section
/// 6.3): a length beside a coding, two lengths, a length that is not digits alone.
fn body_len(headers: &Headers<'_>) -> Result<Option<u64>, Reason> {
    let length = headers.only("content-length")?;
    let coded = headers.all("transfer-encoding").next().is_some();
    match length {
        Some(_) if coded => Err(Reason::BadHead),
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Some).map_err(|_| Reason::BadHead)
        }
        Some(_) => Err(Reason::BadHead),
        None if coded => Ok(None),
        None => Ok(Some(0)),
    }
}

/// The opening handshake (RFC 6455 section 4.2.1).
fn upgrade(headers: &Headers<'_>, method: &str, is_latest: bool) -> Upgrade {
    if !headers.lists("upgrade", "websocket") {
        return Upgrade::None;
    }
    if method != "GET" || !is_latest || !headers.lists("connection", "upgrade") {
        return Upgrade::Malformed;
    }
    match headers.only("sec-websocket-version") {
        Ok(Some(version)) if version.trim() == "13" => {}
        Ok(Some(_)) => return Upgrade::WrongVersion,
        Ok(None) | Err(_) => return Upgrade::Malformed,
    }
    match headers.only("sec-websocket-key") {
        Ok(Some(key)) if is_nonce(key.trim()) => {
            Upgrade::WebSocket { accept: derive_accept_key(key.trim().as_bytes()) }
        }
        _ => Upgrade::Malformed,
    }
}

/// Whether a key is 16 bytes in base64.
fn is_nonce(key: &str) -> bool {
    STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

/// The first hop of `X-Forwarded-For`: an address, perhaps in brackets, perhaps with a port.
fn first_hop(list: &str) -> Option<IpAddr> {
    let hop = list.split(',').next()?.trim();
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    hop.parse().ok().or_else(bare).or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))
}

/// Appends the 101 response for a handshake.
pub fn switch_protocols(out: &mut Vec<u8>, accept: &str) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    out.extend_from_slice(b"Sec-WebSocket-Accept: ");
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a response with `Content-Length`, `Connection` as given, `Cache-Control: no-store` and further header lines
/// (`name: value` without the line end). `head_only` leaves the body out (HEAD).
pub fn respond(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[&str],
    body: &[u8],
    keep_alive: bool,
    head_only: bool,
) {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Length: {}\r\nConnection: {connection}\r\nCache-Control: no-store\r\n",
        reason_phrase(status),
        body.len(),
    );
    out.extend_from_slice(head.as_bytes());
    for header in headers {
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(body);
    }
}

/// The phrases of the statuses that a relay answers (RFC 9110 section 15, RFC 6585).
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE: &str = "GET /v1/link?x=1 HTTP/1.1\r\nHost: Relay.Example:8080 \r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap()
    }

    fn with(line: &str) -> Result<Option<Head>, Reason> {
        parse(format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").as_bytes())
    }

    #[test]
    fn the_handshake_of_rfc_6455_is_answered_with_its_key() {
        let head = head(HANDSHAKE);
        assert_eq!((head.path.as_str(), head.host.as_str()), ("/v1/link", "relay.example:8080"));
        assert_eq!(head.len, HANDSHAKE.len());
        // RFC 6455 section 1.3.
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(head.upgrade, Upgrade::WebSocket { accept: accept.clone() });
        let mut out = Vec::new();
        switch_protocols(&mut out, &accept);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && text.ends_with("=\r\n\r\n"),
            "{text}"
        );
        assert!(!text.contains("Extensions") && !text.contains("Sec-WebSocket-Protocol"));
    }

    #[test]
    fn every_truncation_needs_more_and_what_follows_is_left() {
        for len in 0..HANDSHAKE.len() {
            assert_eq!(parse(&HANDSHAKE.as_bytes()[..len]), Ok(None), "{len} bytes");
        }
        let followed = format!("{HANDSHAKE}\x01frames");
        assert_eq!(head(&followed).len, HANDSHAKE.len());
    }

    #[test]
    fn each_fault_of_a_handshake_has_its_answer() {
        for (from, to, upgrade) in [
            ("Version: 13", "Version: 8", Upgrade::WrongVersion),
            ("Sec-WebSocket-Version: 13\r\n", "", Upgrade::Malformed),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", Upgrade::Malformed),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ!!", Upgrade::Malformed),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", Upgrade::Malformed),
            ("keep-alive, Upgrade", "keep-alive", Upgrade::Malformed),
            ("GET", "POST", Upgrade::Malformed),
            ("HTTP/1.1", "HTTP/1.0", Upgrade::Malformed),
            ("Upgrade: WebSocket", "Upgrade: h2c", Upgrade::None),
        ] {
            assert_eq!(head(&HANDSHAKE.replacen(from, to, 1)).upgrade, upgrade, "{from} -> {to}");
        }
    }

    #[test]
    fn what_is_not_http_or_could_be_read_two_ways_is_refused() {
        let refused: [&[u8]; 8] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ];
        for bytes in refused {
            assert_eq!(parse(bytes), Err(Reason::BadHead), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_head_has_at_most_16_kib_and_100_fields() {
        let fields = |count: usize| "X: y\r\n".repeat(count);
        assert!(with(fields(98).trim_end()).unwrap().is_some());
        assert_eq!(with(fields(100).trim_end()), Err(Reason::HeadTooLarge));
        let long = |len: usize| format!("X: {}", "y".repeat(len));
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        assert!(with(&long(HEAD_BYTES_MAX - frame)).unwrap().is_some());
        assert_eq!(with(&long(HEAD_BYTES_MAX - frame + 1)), Err(Reason::HeadTooLarge));
    }

    #[test]
    fn connections_stay_open_as_their_version_says() {
        for (text, keep_alive) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(head(text).keep_alive, keep_alive, "{text}");
        }
        assert_eq!(with("Transfer-Encoding: chunked").unwrap().unwrap().body_len, None);
        assert_eq!(with("Content-Length: 12").unwrap().unwrap().body_len, Some(12));
    }

    #[test]
    fn the_first_hop_may_have_brackets_and_a_port() {
        for (list, hop) in [
            ("203.0.113.7, 10.0.0.1", Some("203.0.113.7")),
            (" 203.0.113.7:443 ", Some("203.0.113.7")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("unknown, 10.0.0.1", None),
            ("", None),
        ] {
            let found = with(&format!("X-Forwarded-For: {list}")).unwrap().unwrap().forwarded_for;
            assert_eq!(found, hop.map(|hop| hop.parse().unwrap()), "{list}");
        }
    }

    #[test]
    fn a_response_says_its_length_and_whether_the_connection_stays() {
        let mut out = Vec::new();
        respond(&mut out, 404, &["Content-Type: application/json"], b"{}", true, false);
        let expected = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\
            Cache-Control: no-store\r\nContent-Type: application/json\r\n\r\n{}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        respond(&mut out, 200, &[], b"{}", false, true);
        assert!(out.ends_with(b"\r\n\r\n") && out.windows(17).any(|window| window == b"Content-Length: 2"));
    }
}
