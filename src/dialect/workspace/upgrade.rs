//! What an upgrade asks for, and how one is refused (workspace.md section 3). A function of the request's head.
//!
//! The checks are those of section 3.1 in its order, but for the handshake's own (section 3.5): they come before the
//! platform is asked, where no peer can tell the difference and it costs nobody a request.

use tungstenite::handshake::derive_accept_key;
use url::Url;

use super::{Metric, PATH, Request, Role};
use crate::{
    proto::http::{Lines, resolve},
    reason::Reason,
};

/// An upgrade, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// All of `X-Forwarded-For`, as sent.
    pub forwarded_for: Option<String>,
    /// What it asks for, or what is wrong with it.
    pub knock: Result<Knock, Refusal>,
}

/// An upgrade that may be put to the platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Knock {
    /// Who wants to go where.
    pub request: Request,
    /// What the platform judges.
    pub token: Box<str>,
    /// `Sec-WebSocket-Accept` of the answer.
    pub accept: Box<str>,
    /// `Sec-WebSocket-Protocol` of the answer.
    pub protocol: Option<Box<str>>,
}

/// Why an upgrade is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The relay is shutting down.
    Draining,
    /// A queue or table of the relay was full.
    Overloaded,
    /// Step 2: too many upgrades of its address.
    RateLimited,
    /// Step 3: too many connections.
    TooManyConnections,
    /// Step 4: too many of its address.
    TooManyOfAddress,
    /// Step 5: target and host are no URL.
    NoUrl,
    /// Step 6: the path of nothing.
    NoSuchPath,
    /// Step 7.
    BadQuery,
    /// Step 8: no token that could be one.
    NoToken,
    /// Step 9: its scope has no room for another client.
    ScopeFull,
    /// Step 10: the platform did not admit it.
    Denied,
    /// Step 12.
    Handshake(Flaw),
}

/// What is wrong with a handshake (section 3.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // Named after what is wrong.
pub enum Flaw {
    Method,
    Upgrade,
    Key,
    Version,
    Protocols,
}

impl Asked {
    /// Reads the head of an upgrade. `query_tokens`: a token may come in the query (section 3.3, dev mode).
    pub fn read(head: &[u8], query_tokens: bool) -> Asked {
        let Some(lines) = Lines::read(head) else {
            return Asked { forwarded_for: None, knock: Err(Refusal::NoUrl) };
        };
        Asked { forwarded_for: lines.joined("x-forwarded-for"), knock: knock(&lines, query_tokens) }
    }
}

impl Refusal {
    /// Everything that the peer is sent before its connection is closed: a bare status line, or nothing.
    pub fn response(self) -> &'static str {
        match self {
            Refusal::NoUrl | Refusal::NoSuchPath => "",
            Refusal::BadQuery => "HTTP/1.1 400 Bad Request\r\n\r\n",
            Refusal::NoToken | Refusal::Denied => "HTTP/1.1 401 Unauthorized\r\n\r\n",
            Refusal::RateLimited | Refusal::TooManyOfAddress | Refusal::ScopeFull => {
                "HTTP/1.1 429 Too Many Requests\r\n\r\n"
            }
            Refusal::Draining | Refusal::Overloaded | Refusal::TooManyConnections => {
                "HTTP/1.1 503 Service Unavailable\r\n\r\n"
            }
            Refusal::Handshake(flaw) => flaw.response(),
        }
    }

    /// The counter of the contract.
    pub fn metric(self) -> Option<Metric> {
        Some(match self {
            Refusal::RateLimited => Metric::UpgradeRateLimited,
            Refusal::TooManyConnections => Metric::UpgradeRejectedTotalConnections,
            Refusal::TooManyOfAddress => Metric::UpgradeRejectedIpConnections,
            Refusal::NoUrl => Metric::UpgradeErrors,
            Refusal::BadQuery => Metric::UpgradeInvalidQuery,
            Refusal::NoToken => Metric::UpgradeMissingAuth,
            Refusal::ScopeFull => Metric::UpgradeRejectedWorkspaceClients,
            Refusal::Denied => Metric::AdmissionDenied,
            Refusal::Draining | Refusal::Overloaded | Refusal::NoSuchPath | Refusal::Handshake(_) => {
                return None;
            }
        })
    }

    /// Our own counter's label.
    pub fn reason(self) -> Reason {
        match self {
            Refusal::Draining => Reason::Draining,
            Refusal::Overloaded | Refusal::ScopeFull => Reason::Overloaded,
            Refusal::RateLimited => Reason::RateLimited,
            Refusal::TooManyConnections => Reason::TooManyConnections,
            Refusal::TooManyOfAddress => Reason::TooManyConnectionsPerIp,
            Refusal::NoUrl | Refusal::NoSuchPath | Refusal::BadQuery | Refusal::Handshake(_) => {
                Reason::BadHead
            }
            Refusal::NoToken | Refusal::Denied => Reason::BadRequest,
        }
    }
}

impl Flaw {
    fn response(self) -> &'static str {
        macro_rules! page {
            ($status:literal, $more:literal, $len:literal, $text:literal) => {{
                const _: () = assert!($text.len() == $len);
                concat!(
                    "HTTP/1.1 ",
                    $status,
                    "\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: ",
                    $len,
                    "\r\n",
                    $more,
                    "\r\n",
                    $text
                )
            }};
        }
        match self {
            Flaw::Method => page!("405 Method Not Allowed", "", 19, "Invalid HTTP method"),
            Flaw::Upgrade => page!("400 Bad Request", "", 22, "Invalid Upgrade header"),
            Flaw::Key => page!("400 Bad Request", "", 43, "Missing or invalid Sec-WebSocket-Key header"),
            Flaw::Version => page!(
                "400 Bad Request",
                "Sec-WebSocket-Version: 13, 8\r\n",
                47,
                "Missing or invalid Sec-WebSocket-Version header"
            ),
            Flaw::Protocols => page!("400 Bad Request", "", 37, "Invalid Sec-WebSocket-Protocol header"),
        }
    }
}

fn knock(lines: &Lines<'_>, query_tokens: bool) -> Result<Knock, Refusal> {
    let host = lines.first("host").unwrap_or_default();
    let url = resolve(&host, lines.target).ok_or(Refusal::NoUrl)?;
    if url.path() != PATH {
        return Err(Refusal::NoSuchPath);
    }
    let request = request(&url).ok_or(Refusal::BadQuery)?;
    let token = token(lines, &url, query_tokens).ok_or(Refusal::NoToken)?;
    let accept = accept(lines).map_err(Refusal::Handshake)?;
    let protocol = protocol(lines).map_err(Refusal::Handshake)?;
    Ok(Knock { request, token, accept, protocol })
}

// --- The query (section 3.2) ---

fn request(url: &Url) -> Option<Request> {
    let role = match &*value(url, "role")? {
        "workspace-daemon" => Role::Daemon,
        "client" => Role::Client,
        "worker" => Role::Worker,
        _ => return None,
    };
    let workspace_id = value(url, "workspaceId").filter(|id| is_id(id))?;
    let runtime_target_id = value(url, "runtimeTargetId");
    if runtime_target_id.as_ref().is_some_and(|id| !is_id(id)) {
        return None;
    }
    Some(Request { role, workspace_id, runtime_target_id })
}

/// A parameter's first value.
fn value(url: &Url, name: &str) -> Option<Box<str>> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into())
}

fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=ID_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

// --- The token (section 3.3) ---

fn token(lines: &Lines<'_>, url: &Url, query_tokens: bool) -> Option<Box<str>> {
    let bearer = lines.first("authorization").and_then(|value| Some(bearer(&value)?.to_owned()));
    let offered = || {
        let offers = lines.joined("sec-websocket-protocol")?;
        let tokens = offers.split(',').filter_map(|offer| trim(offer).strip_prefix(TOKEN_PREFIX));
        tokens.into_iter().find(|token| is_token(token)).map(str::to_owned)
    };
    let queried = || Some(trim(&value(url, "token").filter(|_| query_tokens)?).to_owned());
    let found = bearer.filter(|token| is_token(token)).or_else(offered);
    found.or_else(queried).filter(|token| is_token(token)).map(Into::into)
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_at_checked(BEARER.len())?;
    (scheme.eq_ignore_ascii_case(BEARER) && rest.starts_with(is_space)).then(|| trim(rest))
}

fn is_token(text: &str) -> bool {
    (TOKEN_MIN..=TOKEN_MAX).contains(&text.encode_utf16().count())
}

fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// White space as ECMAScript trims it.
fn is_space(char: char) -> bool {
    char.is_whitespace() && char != '\u{85}' || char == '\u{feff}'
}

// --- The handshake (sections 3.4 and 3.5) ---

fn accept(lines: &Lines<'_>) -> Result<Box<str>, Flaw> {
    if lines.method != "GET" {
        return Err(Flaw::Method);
    }
    if !lines.joined("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err(Flaw::Upgrade);
    }
    let key = lines.joined("sec-websocket-key").filter(|key| is_key(key)).ok_or(Flaw::Key)?;
    match lines.joined("sec-websocket-version").as_deref() {
        Some("13" | "8") => Ok(derive_accept_key(key.as_bytes()).into()),
        _ => Err(Flaw::Version),
    }
}

fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.strip_suffix("==").is_some_and(|digits| digits.len() == 22 && digits.bytes().all(is_digit))
}

/// The subprotocol to answer: the first offer that is no token, for a response's headers are logged by proxies; a
/// token only where nothing else is offered, because a browser needs one of its offers back.
fn protocol(lines: &Lines<'_>) -> Result<Option<Box<str>>, Flaw> {
    let Some(offers) = lines.joined("sec-websocket-protocol") else { return Ok(None) };
    let offers: Vec<&str> = offers.split(',').map(|offer| offer.trim_matches([' ', '\t'])).collect();
    // Sorted, because a head has room for thousands of offers and anyone may send one.
    let mut sorted = offers.clone();
    sorted.sort_unstable();
    let is_repeated = sorted.windows(2).any(|pair| pair[0] == pair[1]);
    if is_repeated || !offers.iter().all(|offer| is_http_token(offer)) {
        return Err(Flaw::Protocols);
    }
    let answered = offers.iter().find(|offer| !offer.starts_with(TOKEN_PREFIX)).or(offers.first());
    Ok(answered.map(|offer| (*offer).into()))
}

/// A token of RFC 9110 section 5.6.2.
fn is_http_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

const BEARER: &str = "Bearer";
/// A subprotocol offer that carries a token starts so.
const TOKEN_PREFIX: &str = "auth.";
/// Lengths in UTF-16 code units.
const TOKEN_MIN: usize = 10;
const TOKEN_MAX: usize = 4096;
const ID_MAX: usize = 128;
