//! What the workspace dialect makes of its options: whether it is served, and what `auto` stands for (workspace.md
//! sections 22.1 and 23).
//!
//! "Local" hosts are `localhost`, 127.0.0.1, `::1` and names that end in `.test`. Where the contract looks at
//! `HOST`, this looks at the addresses that are listened on, however they were chosen.

use std::collections::BTreeMap;

use tungstenite::http::Uri;

use super::{
    Config, Source, ecmascript,
    kinds::Words,
    settings::{Row, Settings},
};
use crate::dialect::{
    Kind,
    workspace::{Limit, WorkspaceConfig},
};

/// `RELAY_MODE`: how strict to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayMode {
    /// Conveniences of a developer's machine.
    Dev,
    /// Neither conveniences nor demands.
    Staging,
    /// Refuses to start unprotected.
    Prod,
}

impl RelayMode {
    /// Its name in `/health` and `/state`.
    pub fn name(self) -> &'static str {
        match self {
            RelayMode::Dev => "dev",
            RelayMode::Staging => "staging",
            RelayMode::Prod => "prod",
        }
    }
}

/// `RELAY_BACKPLANE_MODE`: how relays know of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backplane {
    /// They do not.
    Single,
    /// Through the platform.
    Server,
    /// Through Redis.
    Redis,
}

/// `RELAY_TLS`: whether the environment wants TLS of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsChoice {
    /// Where the files are there.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// `RELAY_TLS_TERMINATION`: who ends TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsTermination {
    /// The relay.
    Relay,
    /// Something in front of it.
    Platform,
}

impl Words for Option<RelayMode> {
    const WORDS: &'static [(&'static str, Option<RelayMode>)] = &[
        ("auto", None),
        ("dev", Some(RelayMode::Dev)),
        ("staging", Some(RelayMode::Staging)),
        ("prod", Some(RelayMode::Prod)),
    ];
}

impl Words for Option<Backplane> {
    const WORDS: &'static [(&'static str, Option<Backplane>)] = &[
        ("auto", None),
        ("single", Some(Backplane::Single)),
        ("server", Some(Backplane::Server)),
        ("redis", Some(Backplane::Redis)),
    ];
}

impl Words for TlsChoice {
    const WORDS: &'static [(&'static str, TlsChoice)] =
        &[("auto", TlsChoice::Auto), ("1", TlsChoice::On), ("0", TlsChoice::Off)];
}

impl Words for TlsTermination {
    const WORDS: &'static [(&'static str, TlsTermination)] =
        &[("self", TlsTermination::Relay), ("platform", TlsTermination::Platform)];
}

impl Config {
    /// What the workspace dialect is told.
    pub fn workspace(&self) -> WorkspaceConfig {
        let limit = |per_minute: u32, keys: u32| Limit { per_minute, keys_max: keys as usize };
        WorkspaceConfig {
            clients_per_scope_max: self.workspace_max_clients as usize,
            frame_bytes_max: self.workspace_max_frame_bytes,
            pending_bytes_max: self.workspace_max_pending_bytes,
            ping_interval: self.workspace_ping_interval,
            pong_timeout: self.workspace_pong_timeout,
            idle_timeout: self.workspace_idle_timeout,
            empty_scope_ttl: self.workspace_empty_ttl,
            cleanup_interval: self.workspace_cleanup_interval,
            requests_tracked_max: self.workspace_requests_tracked as usize,
            owners_tracked_max: self.workspace_owners_tracked as usize,
            kex: limit(self.workspace_kex_rate, self.workspace_kex_keys),
            pairing: limit(self.workspace_pairing_rate, self.workspace_pairing_keys),
            runtime_per_client: limit(self.workspace_runtime_rate, self.workspace_runtime_keys),
            runtime_per_workspace: limit(
                self.workspace_runtime_rate_shared,
                self.workspace_runtime_keys_shared,
            ),
            daemon: limit(self.workspace_daemon_rate, self.workspace_daemon_keys),
            close_on_expiry: self.workspace_close_on_expiry,
            state_names_clients: self.state_names_clients(),
        }
    }

    /// `RELAY_MODE`, given or inferred (workspace.md section 22.1).
    pub fn relay_mode(&self) -> RelayMode {
        let platform = self.platform_url.as_ref().map(|url| url.as_str());
        let mut urls = [platform, self.workspace_public_url.as_deref()].into_iter().flatten().peekable();
        self.workspace_mode.unwrap_or_else(|| {
            if urls.peek().is_none() || self.listens_on_loopback_only() || urls.any(is_local_url) {
                RelayMode::Dev
            } else {
                RelayMode::Prod
            }
        })
    }

    /// Whether `/health`, `/state` and `/logs` show more.
    pub fn is_verbose(&self) -> bool {
        self.workspace_health_verbose.unwrap_or(self.relay_mode() == RelayMode::Dev)
    }

    /// Whether `/state` names clients.
    pub fn state_names_clients(&self) -> bool {
        self.workspace_state_client_ids.unwrap_or(self.relay_mode() == RelayMode::Dev)
    }

    /// The URL under which peers reach this relay, which listens on `port`.
    pub fn public_ws_url(&self, port: u16) -> String {
        self.workspace_public_url.clone().unwrap_or_else(|| {
            let host = &self.workspace_tls_host;
            if host == TLS_HOST && [DEFAULT_PORT, CONTRACT_PORT].contains(&port) {
                format!("wss://{TLS_HOST}/ws")
            } else {
                format!("ws://{host}:{port}/ws")
            }
        })
    }

    /// The option that asks for a backplane which this version does not have and which is not insisted on.
    pub fn unserved_backplane(&self) -> Option<&'static str> {
        let asked = [
            (self.platform_internal_key.is_some(), "platform-internal-key"),
            (self.workspace_bus, "workspace-bus"),
            (self.workspace_presence_sync == Some(true), "workspace-presence-sync"),
        ];
        let named = asked.into_iter().find(|(is_on, _)| *is_on).map(|(_, option)| option);
        named.filter(|_| self.workspace_backplane.is_none())
    }

    pub(super) fn listens_on_loopback_only(&self) -> bool {
        self.listen_addresses().iter().all(|address| address.ip().is_loopback())
    }
}

/// What `--dialects auto` stands for.
pub(super) fn settle_dialects(rows: &[Row], settings: &mut Settings) {
    let option = "dialects";
    if settings.text(option).trim() != "auto" {
        return;
    }
    let is_of_the_contract = |name: &str| name.starts_with("RELAY_") || OTHER_NAMES.contains(&name);
    let asks = |row: &Row| match settings.source(row.flag) {
        Source::Default => false,
        Source::Environment(name) if is_of_the_contract(name) => true,
        _ => GROUPS.contains(&row.group),
    };
    let names = if rows.iter().any(asks) { "link,pair,workspace" } else { "link,pair" };
    settings.set(option, names.to_owned(), settings.source(option).clone());
}

/// Where the workspace dialect alone is served, the environment's ports are read as its contract says: `PORT` is a
/// number like any other of it, and beats `RELAY_LISTEN_PORT`, which the reference does not know.
pub(super) fn settle_port(settings: &mut Settings, environment: &BTreeMap<String, String>) {
    let option = "port";
    let is_alone = settings.text("dialects").trim() == Kind::Workspace.name();
    if !is_alone || !matches!(settings.source(option), Source::Environment(_)) {
        return;
    }
    let port = |name| ecmascript::positive_integer(environment.get(name)?).map(|number| (name, number));
    match port("PORT").or_else(|| port("RELAY_LISTEN_PORT")) {
        Some((name, number)) => settings.set(option, number.to_string(), Source::Environment(name)),
        None => settings.set(option, DEFAULT_PORT.to_string(), Source::Default),
    }
}

pub(super) fn is_local_url(url: &str) -> bool {
    let url: Option<Uri> = url.parse().ok();
    url.as_ref().and_then(Uri::host).is_some_and(|host| {
        let host = host.to_lowercase();
        ["localhost", "127.0.0.1", "::1"].contains(&host.as_str()) || host.ends_with(".test")
    })
}

/// The option groups that are about nothing else.
const GROUPS: [&str; 3] = ["Platform", "Workspace", "Workspace limiters"];
/// Variables of the contract without its prefix.
const OTHER_NAMES: [&str; 2] = ["SERVER_URL", "MAX_LOGS"];
const TLS_HOST: &str = "relay.getviewport.com";
const DEFAULT_PORT: u16 = 8080;
/// The reference's own.
const CONTRACT_PORT: u16 = 7781;
