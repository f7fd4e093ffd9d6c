//! What the workspace dialect tells of itself at the start (workspace.md sections 2, 21 and 22).

use std::net::SocketAddr;

use super::random_bytes;
use crate::{
    config::{Config, LogFormat},
    dialect::pages::Site,
    logs::{self, Null},
};

/// What its pages tell of a relay that listens on `addresses`.
pub(super) fn site(config: &Config, addresses: &[SocketAddr]) -> Result<Site, String> {
    let relay_id = match &config.workspace_relay_id {
        Some(id) => id.clone(),
        None => {
            let random = u64::from_be_bytes(random_bytes()?) >> 16;
            format!("{}:{random:012x}", endpoint(addresses))
        }
    };
    Ok(Site {
        mode: config.relay_mode().name(),
        verbose: config.is_verbose(),
        relay_id,
        server_url: config.platform_origin().origin().ascii_serialization(),
        tls_host: config.workspace_tls_host.clone(),
        public_url: config.public_ws_url(port(addresses)),
    })
}

/// Writes the entries of the start.
pub(super) fn workspace(config: &Config, addresses: &[SocketAddr], site: &Site) {
    if let Some(option) = config.unserved_backplane() {
        tracing::warn!(
            option,
            "a backplane is asked for that this version does not have: this relay works by itself; set \
             RELAY_BACKPLANE_MODE=single to say that this is meant"
        );
    }
    let host = addresses.first().map(|address| address.ip().to_string()).unwrap_or_default();
    tracing::info!(
        target: logs::TARGET,
        event = "relay_started",
        host,
        port = port(addresses),
        serverUrl = site.server_url,
        relayId = site.relay_id,
        publicWsBaseUrl = site.public_url,
        clientRedirectEnabled = false,
        backplaneMode = "single",
        busEnabled = false,
        busPollIntervalMs = ?Null,
        busPullLimit = ?Null,
        busPullWaitMs = ?Null,
        tlsEnabled = false,
        tlsCertPath = ?Null,
        tlsKeyPath = ?Null,
        maxTotalConnections = config.workspace_max_total_connections,
        maxConnectionsPerIp = config.workspace_max_connections_per_ip,
        maxClientsPerWorkspace = config.workspace_max_clients,
        maxFrameBytes = config.workspace_max_frame_bytes,
        maxKeyExchangeInitPerMinute = config.workspace_kex_rate,
        idleTimeoutMs = config.workspace_idle_timeout.as_millis() as u64,
        adminHttpEnabled = config.admin_http,
    );
    if config.log_format == LogFormat::Json {
        let (endpoint, public, platform) = (endpoint(addresses), &site.public_url, &site.server_url);
        logs::write_line(&format!(
            "[relay] listening on http://{endpoint} public={public} platform={platform}"
        ));
    }
}

fn endpoint(addresses: &[SocketAddr]) -> String {
    addresses.first().map(ToString::to_string).unwrap_or_default()
}

fn port(addresses: &[SocketAddr]) -> u16 {
    addresses.first().map(SocketAddr::port).unwrap_or_default()
}
