//! What a shard asks of the control thread, which alone talks to the platform, and what comes back.

use super::ticket::{Claims, Request};

/// A question to the platform. It belongs to a connection; an answer to one that is gone is dropped.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // Each variant names its fields.
pub enum Ask {
    /// May this upgrade go on (workspace.md section 4.1)?
    Admit { token: Box<str>, request: Request },
    /// A worker's request, checked and filtered (section 9.3): path and query, header names in lower case. `request_id`
    /// is JSON, to be given back as it is. `body` is `None` for GET.
    Forward {
        request_id: String,
        method: Method,
        path: String,
        headers: Vec<(String, String)>,
        body: Option<String>,
    },
}

impl Ask {
    /// The answer where the platform was not even asked.
    pub fn unanswered(self, why: &str) -> Answer {
        match self {
            Ask::Admit { .. } => Answer::Admitted(Err(Denied { status: 503, reason: why.to_owned() })),
            Ask::Forward { request_id, .. } => Answer::Forwarded { request_id, outcome: Err(why.to_owned()) },
        }
    }
}

/// A method that a worker may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The names of the methods.
pub enum Method {
    Get,
    Post,
    Patch,
}

impl Method {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Patch => "PATCH",
        }
    }
}

/// What the platform said.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // Each variant names its fields.
pub enum Answer {
    /// To [`Ask::Admit`].
    Admitted(Result<Box<Claims>, Denied>),
    /// To [`Ask::Forward`]; an error says why the platform gave no answer, for the log.
    Forwarded { request_id: String, outcome: Result<Response, String> },
}

/// Why an upgrade was not admitted: for the log, the peer is always told 401 (workspace.md section 4.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// The status to log.
    pub status: u16,
    /// The reason to log.
    pub reason: String,
}

/// The platform's answer to a worker's request, headers filtered as section 9.3 says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // Field names say it.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}
