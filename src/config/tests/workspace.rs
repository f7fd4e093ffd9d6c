//! Tests of the workspace dialect's options (workspace.md sections 22 and 23).

use super::*;
use crate::dialect::{
    Kind::{Link, Pair, Workspace},
    workspace::WorkspaceConfig,
};

/// A configuration that serves the dialect alone.
fn alone(variables: &[(&str, &str)]) -> Config {
    config(&["--dialects", "workspace"], variables, "")
}

fn alone_refuses(variables: &[(&str, &str)], parts: &[&str]) {
    let text = refusal(&["--dialects", "workspace"], variables, "");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn the_defaults_are_the_contracts() {
    let config = alone(&[("RELAY_MODE", "staging")]);
    assert_eq!(config.workspace(), WorkspaceConfig::default());
    assert_eq!((config.workspace_max_total_connections, config.workspace_max_connections_per_ip), (2000, 50));
    assert_eq!((config.workspace_upgrade_rate, config.workspace_upgrade_keys), (120, 50_000));
    assert_eq!(config.workspace_max_logs, 400);
    assert!(!config.admin_http && config.admin_token.is_none());
    assert!(!config.is_verbose() && !config.state_names_clients());
}

#[test]
fn every_number_reaches_the_dialect() {
    let config = alone(&[
        ("RELAY_MAX_CLIENTS_PER_WORKSPACE", "1"),
        ("RELAY_MAX_FRAME_BYTES", "2"),
        ("RELAY_MAX_PENDING_BYTES", "3"),
        ("RELAY_PING_INTERVAL_MS", "4"),
        ("RELAY_PONG_TIMEOUT_MS", "5"),
        ("RELAY_IDLE_TIMEOUT_MS", "6"),
        ("RELAY_EMPTY_WORKSPACE_TTL_MS", "7"),
        ("RELAY_CLEANUP_INTERVAL_MS", "8"),
        ("RELAY_PAIRING_REQUEST_TRACK_MAX", "9"),
        ("RELAY_SESSION_OWNER_TRACK_MAX", "10"),
        ("RELAY_KEX_INIT_RATE_PER_MINUTE", "11"),
        ("RELAY_KEX_RATE_LIMITER_MAX_KEYS", "12"),
        ("RELAY_PAIRING_RATE_PER_MINUTE", "13"),
        ("RELAY_PAIRING_RATE_LIMITER_MAX_KEYS", "14"),
        ("RELAY_RUNTIME_RATE_PER_MINUTE", "15"),
        ("RELAY_RUNTIME_RATE_LIMITER_MAX_KEYS", "16"),
        ("RELAY_RUNTIME_RATE_PER_MINUTE_WORKSPACE", "17"),
        ("RELAY_RUNTIME_WORKSPACE_RATE_LIMITER_MAX_KEYS", "18"),
        ("RELAY_DAEMON_RUNTIME_RATE_PER_MINUTE", "19"),
        ("RELAY_DAEMON_RATE_LIMITER_MAX_KEYS", "20"),
        ("RELAY_STATE_INCLUDE_CLIENT_IDS", "yes"),
        ("LONGSPLICE_WORKSPACE_CLOSE_ON_EXPIRY", "true"),
    ])
    .workspace();
    let millis = Duration::from_millis;
    assert_eq!((config.clients_per_scope_max, config.frame_bytes_max, config.pending_bytes_max), (1, 2, 3));
    assert_eq!((config.ping_interval, config.pong_timeout), (millis(4), millis(5)));
    assert_eq!((config.idle_timeout, config.empty_scope_ttl), (millis(6), millis(7)));
    assert_eq!(config.cleanup_interval, millis(8));
    assert_eq!((config.requests_tracked_max, config.owners_tracked_max), (9, 10));
    let limits =
        [config.kex, config.pairing, config.runtime_per_client, config.runtime_per_workspace, config.daemon];
    let expected = [(11, 12), (13, 14), (15, 16), (17, 18), (19, 20)];
    assert_eq!(limits.map(|limit| (limit.per_minute, limit.keys_max)), expected);
    assert!(config.state_names_clients && config.close_on_expiry);
}

#[test]
fn a_number_that_is_none_above_zero_is_silently_the_default_and_a_huge_one_the_most() {
    for misfit in ["0", "abc", "-1", "1.5", "", " "] {
        assert_eq!(alone(&[("RELAY_MAX_TOTAL_CONNECTIONS", misfit)]).workspace_max_total_connections, 2000);
        assert_eq!(alone(&[("PORT", misfit)]).port, 8080, "{misfit:?}");
    }
    let total = |text| alone(&[("RELAY_MAX_TOTAL_CONNECTIONS", text)]).workspace_max_total_connections;
    assert_eq!((total(" 0x10 "), total("1e3"), total("1e300")), (16, 1000, 1_000_000_000));
    let month = Duration::from_secs(30 * 24 * 3600);
    assert_eq!(alone(&[("RELAY_PING_INTERVAL_MS", "1e15")]).workspace_ping_interval, month);
    alone_refuses(&[("RELAY_MAX_FRAME_BYTES", "1e12")], &["RELAY_MAX_FRAME_BYTES", "1000000000000", "64MiB"]);
}

#[test]
fn a_switch_or_word_outside_its_set_refuses_also_the_empty_one_and_upper_case() {
    for (name, words) in [
        ("RELAY_ENABLE_ADMIN_HTTP", "yes"),
        ("RELAY_HEALTH_VERBOSE", "off"),
        ("RELAY_STATE_INCLUDE_CLIENT_IDS", "true"),
        ("RELAY_PRESENCE_SYNC_ENABLED", "0"),
        ("RELAY_BUS_ENABLED", "no"),
        ("RELAY_CLIENT_REDIRECT_ENABLED", "on"),
        ("RELAY_MODE", "staging"),
        ("RELAY_BACKPLANE_MODE", "single"),
        ("RELAY_TLS", "auto"),
        ("RELAY_TLS_TERMINATION", "platform"),
    ] {
        for misfit in ["TRUE", "", " ", " 1 ", "2", "Staging"] {
            alone_refuses(&[(name, misfit)], &[name, &format!("{misfit:?}"), words, "unset"]);
        }
    }
    assert_eq!(alone(&[("RELAY_TLS", "AUTO")]).workspace_tls, TlsChoice::Auto);
    assert!(alone(&[("RELAY_ENABLE_ADMIN_HTTP", "on"), ("LONGSPLICE_ADMIN_HTTP", "0")]).admin_http);
}

#[test]
fn the_dialect_is_served_where_one_of_its_variables_or_options_is_set() {
    let served = |arguments: &[&str], variables: &[(&str, &str)]| config(arguments, variables, "").dialects;
    assert_eq!(served(&[], &[]), [Link, Pair]);
    assert_eq!(
        served(&[], &[("PORT", "81"), ("LINK_PORT", "81"), ("LONGSPLICE_ADMIN_HTTP", "1")]),
        [Link, Pair]
    );
    for variable in
        [("RELAY_ID", "a"), ("RELAY_ADMIN_TOKEN", "a"), ("RELAY_LISTEN_PORT", "81"), ("MAX_LOGS", "5")]
    {
        assert_eq!(served(&[], &[variable]), [Link, Pair, Workspace], "{variable:?}");
        assert_eq!(served(&["--dialects", "pair"], &[variable]), [Pair], "{variable:?}");
    }
    assert_eq!(served(&["--workspace-mode", "dev"], &[]), [Link, Pair, Workspace]);
    assert_eq!(served(&["--dialects", "workspace"], &[]), [Workspace]);
    let by_file = config(&FILE, &[], "workspace-kex-rate = 5");
    assert_eq!(by_file.dialects, [Link, Pair, Workspace]);
    assert!(printed(&["--print-config"], &[], "").contains(r#"dialects = ["link", "pair"]  # default"#));
}

#[test]
fn alone_it_reads_the_port_as_its_contract_says_and_with_others_as_they_do() {
    let port = |variables: &[(&str, &str)]| alone(variables).port;
    assert_eq!(port(&[("RELAY_LISTEN_PORT", "81")]), 81);
    assert_eq!(port(&[("RELAY_LISTEN_PORT", "81"), ("PORT", " 0x52 ")]), 82);
    assert_eq!(port(&[("RELAY_LISTEN_PORT", "81"), ("PORT", "abc")]), 81);
    assert_eq!(port(&[("LINK_PORT", "83"), ("PORT", "82")]), 82);
    assert_eq!(config(&["--dialects=workspace", "--port=84"], &[("PORT", "82")], "").port, 84);
    alone_refuses(&[("PORT", "65536")], &["--port", "PORT", "65536", "65535"]);
    let together = |variables: &[(&str, &str)]| config(&[], variables, "").port;
    assert_eq!(together(&[("RELAY_LISTEN_PORT", "81"), ("PORT", "82")]), 81);
    assert_eq!(together(&[("RELAY_LISTEN_PORT", "0"), ("PORT", "82")]), 82);
    let refused = refusal(&[], &[("RELAY_LISTEN_PORT", "81"), ("LINK_PORT", "83")], "");
    assert!(
        refused.contains("RELAY_LISTEN_PORT=\"81\"") && refused.contains("LINK_PORT=\"83\""),
        "{refused}"
    );
}

#[test]
fn the_mode_follows_from_where_the_relay_and_its_platform_are() {
    let url = ("RELAY_PUBLIC_WS_BASE_URL", "wss://relay.example/ws");
    assert_eq!(alone(&[]).relay_mode(), RelayMode::Dev);
    assert_eq!(alone(&[url, ("HOST", "127.0.0.1")]).relay_mode(), RelayMode::Dev);
    let protected = [url, PROD[0], PROD[1], PROD[2]];
    assert_eq!(alone(&protected).relay_mode(), RelayMode::Prod);
    assert!(!alone(&protected).is_verbose() && !alone(&protected).state_names_clients());
    let platform = ("SERVER_URL", "https://platform.example");
    let local = ("SERVER_URL", "http://platform.test:3000");
    let here = ("HOST", "127.0.0.1");
    assert_eq!(alone(&[platform, here]).relay_mode(), RelayMode::Dev);
    assert_eq!(alone(&[url, local, here]).relay_mode(), RelayMode::Dev);
    // Where to validate is no topology: it must not turn prod mode on.
    let validate = ("RELAY_VALIDATE_URL", "https://platform.example/validate");
    assert_eq!(alone(&[validate]).relay_mode(), RelayMode::Dev);
    assert_eq!(alone(&[("RELAY_MODE", "staging")]).relay_mode(), RelayMode::Staging);
    assert!(alone(&[]).is_verbose() && alone(&[]).state_names_clients());
    assert!(!alone(&[("RELAY_HEALTH_VERBOSE", "0")]).is_verbose());
}

#[test]
fn the_public_url_follows_from_host_and_port() {
    assert_eq!(alone(&[]).public_ws_url(8080), "wss://relay.getviewport.com/ws");
    assert_eq!(alone(&[]).public_ws_url(9000), "ws://relay.getviewport.com:9000/ws");
    assert_eq!(alone(&[("RELAY_TLS_HOST", "r.example")]).public_ws_url(8080), "ws://r.example:8080/ws");
    let given = alone(&[("RELAY_PUBLIC_WS_BASE_URL", "ws://localhost:1/ws"), ("HOST", "127.0.0.1")]);
    assert_eq!(given.public_ws_url(8080), "ws://localhost:1/ws");
}

#[test]
fn tls_is_refused_where_the_environment_wants_it_of_this_process() {
    alone_refuses(
        &[("RELAY_TLS", "1")],
        &["--workspace-tls", "RELAY_TLS", "\"1\"", "in front", "RELAY_TLS=0"],
    );
    let files = [("RELAY_TLS_CERT_PATH", "/etc/relay.toml"), ("RELAY_TLS_KEY_PATH", "/etc/relay.toml")];
    alone_refuses(&files, &["/etc/relay.toml", "in front", "RELAY_TLS=0"]);
    alone(&[files[0], files[1], ("RELAY_TLS", "0")]);
    alone(&files[..1]);
    assert!(config(&["--dialects", "link"], &[("RELAY_TLS", "1")], "").serves(Link));
}

#[test]
fn only_the_single_backplane_is_served() {
    for mode in ["server", "redis"] {
        alone_refuses(&[("RELAY_BACKPLANE_MODE", mode)], &["RELAY_BACKPLANE_MODE", mode, "single"]);
    }
    assert_eq!(alone(&[("RELAY_BUS_ENABLED", "1")]).unserved_backplane(), Some("workspace-bus"));
    let single = [("RELAY_BUS_ENABLED", "1"), ("RELAY_BACKPLANE_MODE", "single")];
    assert_eq!(alone(&single).unserved_backplane(), None);
}

#[test]
fn a_local_url_on_a_public_address_refuses() {
    for url in ["http://localhost:3000", "http://127.0.0.1", "https://API.TEST"] {
        alone_refuses(&[("SERVER_URL", url)], &["--platform-url", "SERVER_URL", url, "HOST=127.0.0.1"]);
        alone(&[("SERVER_URL", url), ("HOST", "127.0.0.1")]);
        // Where to validate is not looked at.
        alone(&[("RELAY_VALIDATE_URL", url)]);
    }
    for url in ["ws://localhost:8080/ws", "ws://127.0.0.1/ws", "wss://relay.test/ws"] {
        let variable = ("RELAY_PUBLIC_WS_BASE_URL", url);
        alone_refuses(&[variable], &["RELAY_PUBLIC_WS_BASE_URL", url, "HOST=127.0.0.1"]);
        alone_refuses(&[variable, ("RELAY_MODE", "staging")], &["HOST=127.0.0.1"]);
        alone(&[variable, ("HOST", "127.0.0.1")]);
    }
    // As in the reference.
    alone(&[("RELAY_PUBLIC_WS_BASE_URL", "ws://[::1]/ws"), ("RELAY_MODE", "staging")]);
}

/// What prod mode asks for, in a network of the relay's and the platform's own.
const PROD: [(&str, &str); 3] = [
    ("RELAY_TLS_TERMINATION", "platform"),
    ("RELAY_INTERNAL_KEY", "0123456789abcdef01234567"),
    ("RELAY_SERVER_AUTH_MODE", "private_network_shared_secret"),
];

#[test]
fn prod_refuses_what_is_unprotected_one_after_the_other() {
    let mode = ("RELAY_MODE", "prod");
    alone_refuses(&[mode], &["--workspace-tls-termination", "RELAY_TLS_TERMINATION=platform"]);
    let inferred = ("RELAY_PUBLIC_WS_BASE_URL", "wss://relay.example/ws");
    alone_refuses(&[inferred], &["RELAY_TLS_TERMINATION=platform"]);
    alone_refuses(&[mode, PROD[0]], &["--platform-internal-key", "RELAY_INTERNAL_KEY", "24"]);
    for weak in [
        "0123456789abcdef0123456",
        "please-CHANGE-ME-please-please",
        "an-example-of-a-long-key",
        "Placeholder-0123456789abcdef",
    ] {
        let key = ("RELAY_INTERNAL_KEY", weak);
        alone_refuses(&[mode, PROD[0], key], &["RELAY_INTERNAL_KEY", "24"]);
        let text = refusal(&["--dialects", "workspace"], &[mode, PROD[0], key], "");
        assert!(!text.contains(weak), "{text}");
    }
    let keyed = [mode, PROD[0], PROD[1]];
    alone_refuses(&keyed, &["--platform-auth-mode", "RELAY_SERVER_CLIENT_CERT_PATH"]);
    let cert = ("RELAY_SERVER_CLIENT_CERT_PATH", "/etc/relay.toml");
    let key = ("RELAY_SERVER_CLIENT_KEY_PATH", "/etc/relay.toml");
    let with_cert = [mode, PROD[0], PROD[1], cert, key];
    alone_refuses(&with_cert, &["--platform-tls-verify", "RELAY_SERVER_TLS_VERIFY=1"]);
    let verified = [with_cert.as_slice(), &[("RELAY_SERVER_TLS_VERIFY", "1")]].concat();
    assert_eq!(alone(&verified).relay_mode(), RelayMode::Prod);
    let private = [mode, PROD[0], PROD[1], PROD[2]];
    assert_eq!(alone(&private).relay_mode(), RelayMode::Prod);
    let local =
        [private.as_slice(), &[("SERVER_URL", "http://localhost:3000"), ("HOST", "127.0.0.1")]].concat();
    alone_refuses(&local, &["--platform-url", "SERVER_URL", "http://localhost:3000"]);
}

#[test]
fn a_client_certificate_needs_its_files() {
    let on = ("RELAY_SERVER_MTLS", "1");
    let cert = ("RELAY_SERVER_CLIENT_CERT_PATH", "/etc/relay.toml");
    alone_refuses(&[on], &["--platform-client-cert-path", "--platform-mtls"]);
    alone_refuses(&[on, cert], &["--platform-client-key-path", "--platform-mtls"]);
    let missing = [cert, ("RELAY_SERVER_CLIENT_KEY_PATH", "/nowhere")];
    alone_refuses(&missing, &["--platform-client-key-path", "/nowhere", "RELAY_SERVER_CLIENT_KEY_PATH"]);
    // In the contract's order: TLS of this relay is looked at first, the backplane and the URLs after it.
    alone_refuses(&[on, ("RELAY_TLS", "1"), ("RELAY_BACKPLANE_MODE", "redis")], &["--workspace-tls"]);
    alone_refuses(&[on, ("RELAY_BACKPLANE_MODE", "redis")], &["--platform-client-cert-path"]);
}

#[test]
fn the_deployment_texts_own_set_starts_as_a_relay_by_itself() {
    let variables = [
        ("RELAY_LISTEN_PORT", "7781"),
        ("RELAY_INTERNAL_KEY", "key"),
        ("RELAY_VALIDATE_URL", "https://platform.example/api/runtime/internal/relay/validate"),
        ("RELAY_JWKS_URL", "https://platform.example/api/.well-known/jwks.json"),
    ];
    let config = config(&[], &variables, "");
    assert_eq!((config.port, config.relay_mode()), (7781, RelayMode::Dev));
    assert!(config.serves(Workspace));
    assert_eq!(config.unserved_backplane(), Some("platform-internal-key"));
}

#[test]
fn a_message_must_fit_its_budget() {
    alone_refuses(
        &[("RELAY_MAX_FRAME_BYTES", "8388608"), ("LONGSPLICE_MESSAGE_BUDGET", "4MiB")],
        &["RELAY_MAX_FRAME_BYTES", "8388608", "--message-budget"],
    );
}
