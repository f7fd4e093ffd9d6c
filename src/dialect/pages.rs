//! The plain HTTP pages that the dialects' contracts promise on the public port.
//!
//! A page of one dialect is there when that is served. Where several promise the same page, with exactly
//! one of them served it is that one's to the letter, and with several it has the fields of all.

use std::time::Duration;

use serde_json::Value;

use super::{Dialects, Kind};

/// What pages tell of the relay.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// How long it has been running.
    pub uptime: Duration,
    /// Pairing sessions of all shards.
    pub sessions: usize,
    /// `METRICS_ENABLED`.
    pub metrics: bool,
    /// What the workspace dialect's pages tell.
    pub site: &'a Site,
}

/// What the workspace dialect's pages tell of the relay and does not change.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// `RELAY_MODE`, given or inferred.
    pub mode: &'static str,
    /// `RELAY_HEALTH_VERBOSE`.
    pub verbose: bool,
    /// `RELAY_ID`.
    pub relay_id: String,
    /// The platform's URL.
    pub server_url: String,
    /// `RELAY_TLS_HOST`.
    pub tls_host: String,
    /// The URL under which peers reach this relay.
    pub public_url: String,
}

/// An answer of status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its `Content-Type` header line.
    pub content_type: &'static str,
    /// Its body.
    pub body: String,
}

/// The header line of a JSON body.
pub const JSON: &str = "Content-Type: application/json";
const METRICS: &str = "Content-Type: text/plain; version=0.0.4";
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Dialects {
    /// The page under a path, if a dialect that is served promises it.
    pub fn page(&self, path: &str, facts: &Facts<'_>) -> Option<Page> {
        let json = |body| Some(Page { content_type: JSON, body });
        match path {
            "/health" => json(self.health(facts)),
            "/healthz" if self.serves(Kind::Link) => json(r#"{"status":"ok"}"#.to_owned()),
            "/" if self.serves(Kind::Pair) => json(pair_index(facts)),
            "/metrics" if self.serves(Kind::Pair) && facts.metrics => {
                Some(Page { content_type: METRICS, body: pair_metrics(facts) })
            }
            _ => None,
        }
    }

    /// The JSON body of a 404.
    pub fn not_found(&self) -> &'static str {
        match self.only() {
            Some(Kind::Link | Kind::Pair) => r#"{"error":"not_found"}"#,
            Some(Kind::Workspace) => r#"{"ok":false,"reason":"NOT_FOUND"}"#,
            None => r#"{"ok":false,"error":"not_found","reason":"NOT_FOUND"}"#,
        }
    }

    /// The dialect that is served, if it is the only one.
    pub fn only(&self) -> Option<Kind> {
        let mut served = Kind::ALL.into_iter().filter(|kind| self.serves(*kind));
        served.next().filter(|_| served.next().is_none())
    }

    /// The fields of every dialect that is served, in the order in which the contracts list them.
    fn health(&self, facts: &Facts<'_>) -> String {
        let (sessions, uptime, uptime_ms) =
            (facts.sessions, facts.uptime.as_secs(), facts.uptime.as_millis());
        let only = self.only();
        let pair = self.serves(Kind::Pair);
        if only == Some(Kind::Link) {
            return r#"{"status":"ok"}"#.to_owned();
        }
        if only == Some(Kind::Pair) {
            return format!(
                r#"{{"status":"ok","activeSessions":{sessions},"uptimeSec":{uptime},"version":"{VERSION}"}}"#
            );
        }
        let mut body = String::from("{");
        if only.is_none() {
            body += r#""status":"ok","#;
        }
        body += &format!(r#""ok":true,"service":"relay","uptimeMs":{uptime_ms}"#);
        if pair {
            body += &format!(r#","uptimeSec":{uptime},"activeSessions":{sessions},"version":"{VERSION}""#);
        }
        if self.serves(Kind::Workspace) && facts.site.verbose {
            let relay_id = Value::from(facts.site.relay_id.as_str());
            body += &format!(r#","tlsEnabled":false,"relayMode":"{}","relayId":{relay_id}"#, facts.site.mode);
        }
        body + "}"
    }
}

fn pair_index(facts: &Facts<'_>) -> String {
    let metrics = if facts.metrics { "/metrics" } else { "(disabled)" };
    format!(r#"{{"service":"dvai-bridge-rendezvous","version":"{VERSION}","pair":"/pair (WebSocket)","#)
        + &format!(r#""health":"/health","metrics":"{metrics}"}}"#)
}

/// The two series that the pair contract promises.
pub(super) fn pair_metrics(facts: &Facts<'_>) -> String {
    let (sessions, uptime) = (facts.sessions, facts.uptime.as_secs());
    format!(
        "# HELP rendezvous_active_sessions Pairing sessions\n\
         # TYPE rendezvous_active_sessions gauge\n\
         rendezvous_active_sessions {sessions}\n\
         # HELP rendezvous_uptime_seconds Time since the start\n\
         # TYPE rendezvous_uptime_seconds gauge\n\
         rendezvous_uptime_seconds {uptime}\n"
    )
}
