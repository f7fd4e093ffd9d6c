//! HTTP/1.1 request heads (over `httparse`) and the few responses a relay gives. Pure.
//!
//! Parsers return complete, incomplete or wrong, and consume nothing unless complete. A head that dribbles
//! in is parsed from its start each time: at 16 KiB at most that costs about what the packet itself does.
//!
//! What two readers could understand differently is refused, so that nothing is smuggled past a proxy in
//! front of us: two lengths, a length beside a transfer coding, two hosts (RFC 9112 sections 3.2 and 6.3).

mod lines;

use std::net::{IpAddr, SocketAddr};

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use httparse::{EMPTY_HEADER, Error, Request, Status};
pub use lines::{Lines, resolve};
use tungstenite::{handshake::derive_accept_key, http::StatusCode};

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
    /// Whether the connection stays open for another request after the response (HTTP/1.1 defaults,
    /// `Connection`).
    pub keep_alive: bool,
    /// The body's length: `Content-Length`, or zero without a body; a chunked body is `None` and ends the
    /// connection after the response.
    pub body_len: Option<u64>,
    /// `Host`, or the authority of a target that names one, lower-cased and trimmed.
    pub host: String,
    /// The first hop of `X-Forwarded-For`, trimmed, if it is an IP address (with or without a port or
    /// brackets).
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
    /// An upgrade to something else than a WebSocket: who does not offer that serves a plain request (RFC 9110
    /// section 7.8).
    Other,
    /// A correct opening handshake (RFC 6455 section 4.2.1); holds the `Sec-WebSocket-Accept` to answer.
    WebSocket { accept: String },
    /// An opening handshake of another version or of none: answered 426 with `Sec-WebSocket-Version: 13`.
    WrongVersion,
    /// A handshake without a key or with one that is not 16 bytes of base64, not a GET of HTTP/1.1, or with
    /// a body: answered 400.
    Malformed,
}

/// Parses a head from the start of `bytes`. `Ok(None)` needs more; [`Reason::BadHead`] is answered 400,
/// [`Reason::HeadTooLarge`] 431.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, Reason> {
    let mut headers = [EMPTY_HEADER; HEAD_HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let len = match request.parse(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => return Err(Reason::HeadTooLarge),
        Err(_) => return Err(Reason::BadHead),
    };
    let fields = Fields(request.headers);
    let current = request.version == Some(1);
    let method = request.method.unwrap_or_default();
    let (authority, path) = split_target(request.path.unwrap_or_default());
    let body_len = body_len(&fields, current)?;
    let host = match (authority, fields.at_most_one("host")?) {
        (None, None) if current => return Err(Reason::BadHead),
        (Some(authority), _) => authority,
        (None, host) => host.unwrap_or_default(),
    };
    let wanted = if current { !fields.lists("connection", "close") } else { fields.asks_to_stay() };
    Ok(Some(Head {
        len,
        method: method.to_owned(),
        path: path.to_owned(),
        keep_alive: wanted && body_len.is_some(),
        body_len,
        host: host.trim().to_lowercase(),
        forwarded_for: fields.values("x-forwarded-for").next().and_then(first_hop),
        origin: fields.values("origin").next().map(str::to_owned),
        upgrade: upgrade(&fields, current && method == "GET" && body_len == Some(0)),
    }))
}

/// The header fields of a request.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// The values of all lines of a field, in order, trimmed. One that is not UTF-8 says nothing we could
    /// act on and counts as empty.
    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let lines = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        lines.map(|field| str::from_utf8(field.value).unwrap_or_default().trim_ascii())
    }

    /// The value of a field that must not come twice.
    fn at_most_one(&self, name: &str) -> Result<Option<&'a str>, Reason> {
        let mut values = self.values(name);
        let value = values.next();
        if values.next().is_some() { Err(Reason::BadHead) } else { Ok(value) }
    }

    /// Whether a token is in the comma-separated list that all lines of a field make, in any case.
    fn lists(&self, name: &str, token: &str) -> bool {
        let mut tokens = self.values(name).flat_map(|value| value.split(','));
        tokens.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token))
    }

    /// What keeps a connection of HTTP/1.0 open.
    fn asks_to_stay(&self) -> bool {
        self.lists("connection", "keep-alive") && !self.lists("connection", "close")
    }
}

/// The authority, if the target is in absolute form (RFC 9112 section 3.2.2), and the path without its query.
fn split_target(target: &str) -> (Option<&str>, &str) {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
    });
    let (authority, path) = match rest {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), if path.starts_with('/') { path } else { "/" })
        }
        None => (None, target),
    };
    (authority, path.split('?').next().unwrap_or_default())
}

/// The body's length, `None` for a chunked one (RFC 9112 section 6.3).
fn body_len(fields: &Fields<'_>, current: bool) -> Result<Option<u64>, Reason> {
    let coding = fields.values("transfer-encoding").last();
    let mut len = None;
    for value in fields.values("content-length") {
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let value = if digits { value.parse().ok() } else { None };
        let value: u64 = value.ok_or(Reason::BadHead)?;
        if coding.is_some() || len.is_some_and(|earlier| earlier != value) {
            return Err(Reason::BadHead);
        }
        len = Some(value);
    }
    match coding {
        None => Ok(Some(len.unwrap_or(0))),
        Some(codings) => {
            let last = codings.rsplit(',').next().unwrap_or_default();
            let ends = current && last.trim_ascii().eq_ignore_ascii_case("chunked");
            if ends { Ok(None) } else { Err(Reason::BadHead) }
        }
    }
}

/// Parses the first hop of an `X-Forwarded-For`: an address, an address with a port, or one in brackets.
fn first_hop(value: &str) -> Option<IpAddr> {
    let hop = value.split(',').next()?.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

/// Reads the opening handshake. `may` is what the request line and the body have to say about it.
fn upgrade(fields: &Fields<'_>, may: bool) -> Upgrade {
    if !fields.lists("connection", "upgrade") || fields.values("upgrade").next().is_none() {
        return Upgrade::None;
    }
    if !fields.lists("upgrade", "websocket") {
        return Upgrade::Other;
    }
    if !may {
        return Upgrade::Malformed;
    }
    match fields.at_most_one("sec-websocket-version") {
        Ok(Some("13")) => {}
        Ok(_) => return Upgrade::WrongVersion,
        Err(_) => return Upgrade::Malformed,
    }
    match fields.at_most_one("sec-websocket-key") {
        Ok(Some(key)) if KEYS.decode(key).is_ok_and(|nonce| nonce.len() == 16) => {
            Upgrade::WebSocket { accept: derive_accept_key(key.as_bytes()) }
        }
        _ => Upgrade::Malformed,
    }
}

/// Reads handshake keys. The last character's spare bits carry nothing, and some clients leave noise in them.
const KEYS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Appends the 101 response for a handshake, with the subprotocol that was chosen.
pub fn switch_protocols(out: &mut Vec<u8>, accept: &str, protocol: Option<&str>) {
    let lines = [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        "Sec-WebSocket-Accept: ",
        accept,
        if protocol.is_some() { "\r\nSec-WebSocket-Protocol: " } else { "" },
        protocol.unwrap_or_default(),
        "\r\n\r\n",
    ];
    lines.iter().for_each(|line| out.extend_from_slice(line.as_bytes()));
}

/// Appends a response with `Content-Length`, `Connection` as given, `Cache-Control: no-store` and further
/// header lines (`name: value` without the line end). `head_only` leaves the body out (HEAD).
pub fn respond(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[&str],
    body: &[u8],
    keep_alive: bool,
    head_only: bool,
) {
    let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(b"\r\n");
    };
    line(&["HTTP/1.1 ", itoa::Buffer::new().format(status), " ", phrase.unwrap_or_default()]);
    headers.iter().for_each(|header| line(&[header]));
    line(&["Content-Length: ", itoa::Buffer::new().format(body.len())]);
    line(&["Connection: ", connection]);
    line(&["Cache-Control: no-store"]);
    line(&[]);
    if !head_only {
        out.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests;
