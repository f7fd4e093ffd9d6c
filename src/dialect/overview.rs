//! What an operator sees of all dialects on the public port: `/state` and `/metrics` (workspace.md sections 2.2, 2.4).
//!
//! Every shard gives a part; what is here makes one page of them. With the workspace dialect alone the pages are its
//! contract's to the letter; what the others add stands under keys and names of its own.

use std::fmt::Write;

use serde_json::Value;

use super::{
    Dialects, Kind, link,
    pages::{Facts, JSON, Page, pair_metrics},
    workspace::{self, ScopeState},
};
use crate::time::{Iso, Time};

/// One shard's part of `/state`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatePart {
    scopes: Vec<ScopeState>,
    links: link::Gauges,
}

/// One shard's part of `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsPart {
    /// Its counters.
    pub counters: workspace::Counters,
    /// Its gauges, once they were ever set.
    pub gauges: Option<workspace::Gauges>,
}

impl Dialects {
    /// This shard's part of `/state`.
    pub fn state_part(&self) -> StatePart {
        StatePart {
            scopes: self.workspace.as_ref().map(|workspace| workspace.state()).unwrap_or_default(),
            links: self.link.as_ref().map(|link| link.gauges()).unwrap_or_default(),
        }
    }

    /// This shard's part of `/metrics`.
    pub fn metrics_part(&self, now: Time) -> MetricsPart {
        let Some(workspace) = &self.workspace else { return MetricsPart::default() };
        MetricsPart { counters: workspace.counters().clone(), gauges: workspace.gauges(now) }
    }

    /// `/state` from the parts of the shards that gave one, and the numbers of those that did not.
    pub fn state_page(&self, parts: Vec<StatePart>, missing: &[u16], facts: &Facts<'_>) -> Page {
        let mut body = String::from(r#"{"ok":true,"service":"relay""#);
        let (mut scopes, mut links) = (Vec::new(), link::Gauges::default());
        for part in parts {
            scopes.extend(part.scopes);
            links.add(part.links);
        }
        if self.serves(Kind::Workspace) {
            scopes.sort_by_key(|scope| scope.made_at);
            body += &relay(facts);
            body += &format!(r#","workspaces":[{}]"#, scopes.iter().map(entry).collect::<Vec<_>>().join(","));
        }
        if self.serves(Kind::Link) {
            let link::Gauges { addresses, introduced, pending, relaying, .. } = links;
            body += &format!(r#","links":{{"addresses":{addresses},"introduced":{introduced},"#);
            body += &format!(r#""pending":{pending},"relaying":{relaying}}}"#);
        }
        if self.serves(Kind::Pair) {
            body += &format!(r#","pairing":{{"activeSessions":{}}}"#, facts.sessions);
        }
        if !missing.is_empty() {
            body += &format!(r#","shardsMissing":{missing:?}"#);
        }
        Page { content_type: JSON, body: body + "}" }
    }

    /// `/metrics` for the operator, from the parts of all shards.
    pub fn metrics_page(&self, parts: Vec<MetricsPart>, facts: &Facts<'_>) -> Page {
        let mut body = metrics(parts);
        if self.serves(Kind::Pair) && facts.metrics {
            body += &pair_metrics(facts);
        }
        if body.is_empty() {
            body.push('\n');
        }
        Page { content_type: "Content-Type: text/plain; version=0.0.4; charset=utf-8", body }
    }
}

/// The series of the workspace dialect from the parts of all shards: counters in the order of their first increments,
/// then gauges. Nothing where nothing was ever counted.
pub fn metrics(parts: impl IntoIterator<Item = MetricsPart>) -> String {
    let mut counters = workspace::Counters::default();
    let mut gauges: Option<workspace::Gauges> = None;
    for part in parts {
        counters.merge(&part.counters);
        if let Some(more) = part.gauges {
            let sum = gauges.get_or_insert_default();
            sum.connections += more.connections;
            sum.workspaces += more.workspaces;
        }
    }
    let mut text = String::new();
    let mut series = |name: &str, kind: &str, value: u64| {
        writeln!(text, "# TYPE {name} {kind}\n{name} {value}").expect("writing to a string");
    };
    for (metric, value) in counters.touched() {
        series(metric.name(), "counter", value);
    }
    if let Some(workspace::Gauges { connections, workspaces }) = gauges {
        series("relay_connections_total", "gauge", connections as u64);
        series("relay_workspaces_total", "gauge", workspaces as u64);
    }
    text
}

/// What `/state` says of the relay itself.
fn relay(facts: &Facts<'_>) -> String {
    let site = facts.site;
    let text = |text: &str| Value::from(text);
    let mut json = format!(r#","relayMode":"{}""#, site.mode);
    if site.verbose {
        json += &format!(
            r#","serverUrl":{},"tlsEnabled":false,"tlsHost":{},"wsBaseUrl":{}"#,
            text(&site.server_url),
            text(&site.tls_host),
            text(&site.public_url)
        );
    }
    json + &format!(r#","relayId":{}"#, text(&site.relay_id))
        + r#","backplaneMode":"single","busEnabled":false,"clientRedirectEnabled":false"#
}

/// One entry of `workspaces`.
fn entry(scope: &ScopeState) -> String {
    let text = |text: &str| Value::from(text);
    let mut json = format!(r#"{{"workspaceId":{}"#, text(&scope.workspace_id));
    if let Some(target) = &scope.runtime_target_id {
        json += &format!(r#","runtimeTargetId":{}"#, text(target));
    }
    json += &format!(r#","daemonConnected":{},"clientCount":{}"#, scope.daemon_connected, scope.clients);
    if let Some(ids) = &scope.client_ids {
        let ids: Vec<String> = ids.iter().map(|id| text(id).to_string()).collect();
        json += &format!(r#","clientIds":[{}]"#, ids.join(","));
    }
    json + &format!(r#","lastActivityAt":"{}"}}"#, Iso(scope.active_at_unix_ms))
}
