//! The plain HTTP pages that the dialects' contracts promise on the public port.
//!
//! A page of one dialect is there when that is served. Where several promise the same page, with exactly
//! one of them served it is that one's to the letter, and with several it has the fields of all.

use std::time::Duration;

use super::{Dialects, Kind};

/// What pages tell of the relay.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// How long it has been running.
    pub uptime: Duration,
    /// Pairing sessions of all shards.
    pub sessions: usize,
    /// `METRICS_ENABLED`.
    pub metrics: bool,
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
    pub fn page(&self, path: &str, facts: &Facts) -> Option<Page> {
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
        if Kind::ALL.into_iter().filter(|kind| self.serves(*kind)).count() > 1 {
            r#"{"ok":false,"error":"not_found","reason":"NOT_FOUND"}"#
        } else {
            r#"{"error":"not_found"}"#
        }
    }

    fn health(&self, facts: &Facts) -> String {
        if !self.serves(Kind::Pair) {
            return r#"{"status":"ok"}"#.to_owned();
        }
        let (sessions, uptime) = (facts.sessions, facts.uptime.as_secs());
        if self.serves(Kind::Link) {
            // The fields of every dialect, in the order in which the contract lists them.
            let uptime_ms = facts.uptime.as_millis();
            format!(r#"{{"status":"ok","ok":true,"service":"relay","uptimeMs":{uptime_ms},"#)
                + &format!(r#""uptimeSec":{uptime},"activeSessions":{sessions},"version":"{VERSION}"}}"#)
        } else {
            format!(
                r#"{{"status":"ok","activeSessions":{sessions},"uptimeSec":{uptime},"version":"{VERSION}"}}"#
            )
        }
    }
}

fn pair_index(facts: &Facts) -> String {
    let metrics = if facts.metrics { "/metrics" } else { "(disabled)" };
    format!(r#"{{"service":"dvai-bridge-rendezvous","version":"{VERSION}","pair":"/pair (WebSocket)","#)
        + &format!(r#""health":"/health","metrics":"{metrics}"}}"#)
}

fn pair_metrics(facts: &Facts) -> String {
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
