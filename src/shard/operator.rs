//! The operator's pages on the public port: `/state`, `/logs`, `/metrics`, `/admin/kick` (workspace.md section 2).

use super::{Shard, conn::State, gather::Inquiry, http::Answer, shared::Shared};
use crate::{
    admin::{self, Verdict},
    dialect::{
        Dialects, Kind,
        kick::Target,
        pages::{JSON, Page},
        workspace::Metric,
    },
    driver::Driver,
    id::ConnId,
    proto::http::{Head, Lines, Upgrade},
    reason::Reason,
};

/// A request for one of the pages, complete.
#[derive(Debug)]
pub(super) struct Visit {
    page: Asked,
    verdict: Verdict,
}

/// Which page.
#[derive(Debug)]
enum Asked {
    State,
    Logs { summary: bool },
    Metrics,
    Kick(Body),
}

/// What a kick says.
#[derive(Debug)]
enum Body {
    /// This is to be ended.
    Target(Target),
    /// Nothing that makes sense.
    Nonsense,
    /// More than is read.
    TooLarge,
}

/// What a request is, as far as these pages go.
pub(super) enum Reading {
    /// Not for one of them.
    Other,
    /// For one, and its body has not come yet.
    Incomplete,
    /// For one.
    Visit(Visit),
}

/// Reads a request; `bytes` begin with its head.
pub(super) fn read(shared: &Shared, dialects: &Dialects, head: &Head, bytes: &[u8]) -> Reading {
    let is_served = dialects.serves(Kind::Workspace);
    let access = &shared.operator.access;
    let is_there = is_served || access.is_on();
    let path = match (head.method.as_str(), head.path.as_str()) {
        ("GET", path @ ("/state" | "/logs")) if is_there => path,
        ("GET", path @ "/metrics") if is_served => path,
        ("POST", path @ "/admin/kick") if access.is_on() => path,
        _ => return Reading::Other,
    };
    if !matches!(head.upgrade, Upgrade::None | Upgrade::Other) {
        return Reading::Other;
    }
    let Some(lines) = Lines::read(&bytes[..head.len]) else { return Reading::Other };
    let (authorization, admin_token) = (lines.first("authorization"), lines.first("x-relay-admin-token"));
    let presented = admin::presented(authorization.as_deref(), admin_token.as_deref());
    let query = lines.target.split_once('?').map_or("", |(_, query)| query);
    let has_page_for_all = dialects.serves(Kind::Pair) && shared.settings.pair_metrics;
    if path == "/metrics" && has_page_for_all && presented.is_none() {
        return Reading::Other;
    }
    let verdict = access.judge(presented);
    let page = match path {
        "/state" => Asked::State,
        "/logs" => Asked::Logs { summary: query.split('&').any(|pair| pair == "summary=1") },
        "/metrics" => Asked::Metrics,
        // Nobody's body but the operator's is waited for.
        _ if verdict != Verdict::Welcome => Asked::Kick(Body::Nonsense),
        _ => match head.body_len {
            Some(len) if len > KICK_BYTES_MAX as u64 => Asked::Kick(Body::TooLarge),
            Some(len) => match bytes[head.len..].get(..len as usize) {
                Some(body) => Asked::Kick(Target::read(body).map_or(Body::Nonsense, Body::Target)),
                None => return Reading::Incomplete,
            },
            None => Asked::Kick(Body::Nonsense),
        },
    };
    Reading::Visit(Visit { page, verdict })
}

impl<D: Driver> Shard<D> {
    pub(super) fn answer_visit(&mut self, id: ConnId, head: &Head, visit: Visit) {
        self.counters.http_requests += 1;
        let keep_alive = head.keep_alive && head.body_len == Some(0);
        let answer = Answer { keep_alive, head_only: false };
        match visit.verdict {
            Verdict::Disabled => return self.say(id, answer, 404, "ADMIN_ENDPOINTS_DISABLED"),
            Verdict::Unauthorized => {
                let now = self.now.at;
                if let Some(workspace) = &mut self.dialects.workspace {
                    workspace.count(Metric::AdminUnauthorized, now);
                }
                return self.say(id, answer, 401, "ADMIN_UNAUTHORIZED");
            }
            Verdict::Welcome => {}
        }
        match visit.page {
            Asked::State => self.ask_all(id, Inquiry::State, answer),
            Asked::Metrics => self.ask_all(id, Inquiry::Metrics, answer),
            Asked::Logs { summary } => {
                let verbose = self.shared.operator.site.verbose && !summary;
                let page = Page { content_type: JSON, body: self.shared.operator.logs.json(verbose) };
                self.answer_page(id, &page, answer);
            }
            Asked::Kick(Body::Target(target)) => self.ask_all(id, Inquiry::Kick(target), answer),
            Asked::Kick(Body::Nonsense) => self.say(id, answer, 400, "BAD_REQUEST"),
            Asked::Kick(Body::TooLarge) => self.say(id, answer, 413, "BODY_TOO_LARGE"),
        }
    }

    /// Puts a question to all shards for a request that waits for the answer.
    pub(super) fn ask_all(&mut self, id: ConnId, inquiry: Inquiry, answer: Answer) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.state = State::Answering;
        conn.answer = answer;
        if !self.gather(id, inquiry) {
            self.counters.refused.count(Reason::Overloaded);
            let body = br#"{"error":"overloaded"}"#;
            self.respond(id, 503, &[JSON], body, answer.keep_alive, answer.head_only);
        }
    }

    fn say(&mut self, id: ConnId, answer: Answer, status: u16, reason: &str) {
        let body = format!(r#"{{"ok":false,"reason":"{reason}"}}"#);
        self.respond(id, status, &[JSON], body.as_bytes(), answer.keep_alive, answer.head_only);
    }
}

/// The longest body of a kick.
const KICK_BYTES_MAX: usize = 4096;
