//! The option table: one row an option.
//!
//! From a row come the field of [`Config`] with its documentation, the flag, the key in the file, the
//! environment names, the default, the check, the help, the line of `--print-config` and the row of the table
//! in docs/OPERATIONS.md. To add an option, add a row. A default is written as an operator would write it and
//! passes through the same check.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use url::Url;

use super::{
    AuthMode, Backplane, ConfigError, LogFormat, RelayMode, StatsAccess, TlsChoice, TlsTermination,
    kinds::{
        AddressOrOff, Addresses, AutoOr, AutoSwitch, Bytes, DialectNames, File, Hosts, Kind, LogFilter,
        OptionalText, Origin, Origins, SecretText, Span, Switch, Text, WebSocketUrl, one_of, whole,
    },
    platform::HttpUrl,
    settings::{Env, Row, Settings},
};
use crate::{
    control::{LocalCheck, Verify},
    dialect, driver,
    limits::SHARDS_MAX,
    logs,
    secret::Secret,
};

macro_rules! options {
    ($( $group:literal { $(
        $(#[doc = $doc:literal])+
        $field:ident: $type:ty = $default:literal, $kind:expr, flag $flag:literal, env $env:expr;
    )+ } )+) => {
        /// Everything an operator chose. See docs/OPERATIONS.md; `--help` says the same.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $field: $type, )+)+
        }

        impl Config {
            /// Reads every option's winning text.
            pub(super) fn read(settings: &Settings) -> Result<Config, ConfigError> {
                Ok(Config { $($( $field: settings.read($flag, &of::<$type, _>($kind))?, )+)+ })
            }

            /// Every option's effective value as TOML, in the order of [`rows`].
            pub(super) fn show(&self) -> Vec<toml::Value> {
                vec![$($( of::<$type, _>($kind).show(&self.$field), )+)+]
            }
        }

        /// The table.
        pub(super) fn rows() -> Vec<Row> {
            vec![$($( Row {
                flag: $flag,
                env: const { $env },
                default: $default,
                group: $group,
                doc: concat!($($doc),+).trim(),
                hint: of::<$type, _>($kind).hint(),
                takes: of::<$type, _>($kind).takes(),
                is_list: of::<$type, _>($kind).is_list(),
                is_switch: of::<$type, _>($kind).is_switch(),
                is_secret: of::<$type, _>($kind).is_secret(),
            }, )+)+]
        }
    };
}

options! {
    "Listening" {
        /// Addresses to listen on; may be repeated. Empty: every address of `host` at `port`.
        listen: Vec<SocketAddr> = "", Addresses,
            flag "listen", env &[&[Env::named("LONGSPLICE_LISTEN")]];
        /// IP addresses to listen on at `port`. Empty: 0.0.0.0 and, where the machine has IPv6, `[::]`.
        host: Vec<IpAddr> = "", Hosts,
            flag "host", env &[&[Env::named("HOST")]];
        /// The port to listen on. 0 takes a free one, which the start-up line names.
        port: u16 = "8080", whole(0, 65_535),
            flag "port", env &[
                &[Env::port_above_zero("LINK_PORT"), Env::number("RELAY_LISTEN_PORT", u64::MAX)],
                &[Env::named("PORT")],
            ];
        /// The dialects to serve. The upgrade path of one that is left out is unknown. auto: link and pair, and
        /// workspace where an option of it is set, because serving it asks a platform about every caller.
        dialects: Vec<dialect::Kind> = "auto", DialectNames,
            flag "dialects", env &[&[Env::named("LONGSPLICE_DIALECTS")]];
        /// Where to serve /metrics, /health and /ready for the operator, apart from the public port. Not for
        /// the internet.
        admin_listen: Option<SocketAddr> = "off", AddressOrOff,
            flag "admin-listen", env &[&[Env::named("LONGSPLICE_ADMIN_LISTEN")]];
        /// Who may read /v1/stats on the public port: everyone, only peers on this machine, or no one.
        stats: StatsAccess = "public", one_of(),
            flag "stats", env &[&[Env::named("LONGSPLICE_STATS")]];
        /// Serve /state, /logs, /metrics and /admin/kick on the public port, to who presents `admin-token`.
        admin_http: bool = "false", Switch,
            flag "admin-http", env &[
                &[Env::boolish("RELAY_ENABLE_ADMIN_HTTP")], &[Env::named("LONGSPLICE_ADMIN_HTTP")],
            ];
        /// What an operator presents as bearer token on the public port. Empty: no one is let in.
        admin_token: Option<Secret> = "", SecretText,
            flag "admin-token", env &[&[Env::named("RELAY_ADMIN_TOKEN")], &[Env::named("LONGSPLICE_ADMIN_TOKEN")]];
    }
    "Engine" {
        /// How to talk to the kernel: auto takes io_uring where it is allowed and epoll elsewhere.
        driver: driver::Choice = "auto", one_of(),
            flag "driver", env &[&[Env::named("LONGSPLICE_DRIVER")]];
        /// Threads that relay, each with its own listeners and memory. auto: the cores this process may use.
        shards: Option<u16> = "auto", AutoOr { max: SHARDS_MAX as u16 },
            flag "shards", env &[&[Env::named("LONGSPLICE_SHARDS")]];
        /// Bind each shard to a core of its own.
        pin: bool = "false", Switch,
            flag "pin", env &[&[Env::named("LONGSPLICE_PIN")]];
        /// This relay's number, part of the link ids it gives out. Relays that work together need different
        /// ones.
        relay_number: u16 = "0", whole(0, 65_535),
            flag "relay-number", env &[&[Env::named("LONGSPLICE_RELAY_NUMBER")]];
        /// Receive buffers of a shard. About 1 MiB of them in all is fastest; more only helps many fast
        /// senders.
        recv_buffers: u16 = "64", whole(8, 32_768).power_of_two(),
            flag "recv-buffers", env &[&[Env::named("LONGSPLICE_RECV_BUFFERS")]];
        /// Size of a receive buffer.
        recv_buffer_size: usize = "16KiB", Bytes { min: 8 << 10, max: 1 << 20, zero: None, power_of_two: true },
            flag "recv-buffer-size", env &[&[Env::named("LONGSPLICE_RECV_BUFFER_SIZE")]];
        /// Quiet time after which, and before twice which, io_uring gives up a connection's receive and watches
        /// for its next bytes in a set that is cheaper in kernel memory. Should be well below ping-interval.
        park_after: Duration = "10s",
            Span { min: Duration::from_millis(100), max: Duration::from_millis(HOUR_MS), zero: Some("never") },
            flag "park-after", env &[&[Env::named("LONGSPLICE_PARK_AFTER")]];
        /// Memory of a shard for bytes that slow peers have not taken yet. When it is used up, nothing is
        /// read for slow peers until some is taken.
        outbox_budget: usize = "64MiB", Bytes { min: 1 << 20, max: 1 << 40, zero: None, power_of_two: false },
            flag "outbox-budget", env &[&[Env::named("LONGSPLICE_OUTBOX_BUDGET")]];
        /// Memory of a shard for messages that have begun and are not complete. When it is used up, further
        /// ones are not read until some are complete. Must hold `pair-max-message-bytes`. Connections without a role
        /// have a quarter as much, beside it.
        message_budget: usize = "64MiB", Bytes { min: 1 << 20, max: 1 << 40, zero: None, power_of_two: false },
            flag "message-budget", env &[&[Env::named("LONGSPLICE_MESSAGE_BUDGET")]];
        /// Rest of an unmasked frame from which on it is moved by splice(2) inside the kernel.
        splice_min: usize = "256KiB", Bytes { min: 64 << 10, max: 16 << 20, zero: Some("never"), power_of_two: false },
            flag "splice-min", env &[&[Env::named("LONGSPLICE_SPLICE_MIN")]];
    }
    "Limits" {
        /// Connections in all. One more is refused.
        max_connections: u64 = "1000000", whole(0, 100_000_000).zero("no limit"),
            flag "max-connections", env &[&[Env::named("LONGSPLICE_MAX_CONNECTIONS")]];
        /// Connections from one IP address (IPv6: from one /64). One more is refused.
        max_connections_per_ip: u64 = "0", whole(0, 100_000_000).zero("no limit"),
            flag "max-connections-per-ip", env &[&[Env::named("LONGSPLICE_MAX_CONNECTIONS_PER_IP")]];
        /// Connections from one IP address (IPv6: from one /64) that have not sent a whole request head yet. One more
        /// is refused. Without effect where `link-trust-proxy` is on: there, all come from the proxy.
        max_handshakes_per_ip: u32 = "0", whole(0, COUNT_MAX).zero("no limit"),
            flag "max-handshakes-per-ip", env &[&[Env::named("LONGSPLICE_MAX_HANDSHAKES_PER_IP")]];
        /// How long a connection may take to send a whole request head, the first and each later one.
        handshake_timeout: Duration = "10s", span_ms(100, HOUR_MS),
            flag "handshake-timeout", env &[&[Env::named("LONGSPLICE_HANDSHAKE_TIMEOUT")]];
        /// How long a WebSocket may stay without a role: not registered, no link found, none accepted.
        role_timeout: Duration = "60s", span_ms(100, DAY_MS),
            flag "role-timeout", env &[&[Env::named("LONGSPLICE_ROLE_TIMEOUT")]];
        /// How often each WebSocket of the link dialect is pinged. One that has not answered by the next ping is
        /// dropped.
        ping_interval: Duration = "30s", span_ms(100, HOUR_MS),
            flag "ping-interval", env &[&[Env::named("LONGSPLICE_PING_INTERVAL")]];
        /// On SIGTERM: how long to go on as before, but with /ready failing and new upgrades refused, before
        /// closing.
        drain_delay: Duration = "0s", span_ms(0, HOUR_MS),
            flag "drain-delay", env &[&[Env::named("LONGSPLICE_DRAIN_DELAY")]];
    }
    "TCP" {
        /// Quiet time of a connection after which TCP probes whether its peer is there.
        tcp_keepalive_idle: Duration = "120s",
            Span { min: Duration::from_secs(1), max: Duration::from_secs(32_767), zero: Some("no probes") },
            flag "tcp-keepalive-idle", env &[&[Env::named("LONGSPLICE_TCP_KEEPALIVE_IDLE")]];
        /// Time between two TCP probes.
        tcp_keepalive_interval: Duration = "30s", span_ms(1000, 32_767_000),
            flag "tcp-keepalive-interval", env &[&[Env::named("LONGSPLICE_TCP_KEEPALIVE_INTERVAL")]];
        /// Unanswered TCP probes after which the connection is broken.
        tcp_keepalive_count: u32 = "4", whole(1, 127),
            flag "tcp-keepalive-count", env &[&[Env::named("LONGSPLICE_TCP_KEEPALIVE_COUNT")]];
        /// How long sent bytes may stay unacknowledged, or a window shut, before the kernel breaks the
        /// connection (TCP_USER_TIMEOUT). Must be longer than `link-slow-peer-sec`.
        tcp_user_timeout: Duration = "120s",
            Span { min: Duration::from_secs(1), max: Duration::from_millis(DAY_MS), zero: Some("the kernel's own") },
            flag "tcp-user-timeout", env &[&[Env::named("LONGSPLICE_TCP_USER_TIMEOUT")]];
        /// Socket send buffer (SO_SNDBUF). A fixed size bounds kernel memory and turns the kernel's tuning
        /// off.
        send_buffer: usize = "0", SOCKET_BUFFER,
            flag "send-buffer", env &[&[Env::named("LONGSPLICE_SEND_BUFFER")]];
        /// Socket receive buffer (SO_RCVBUF). A fixed size bounds kernel memory and turns the kernel's tuning
        /// off.
        receive_buffer: usize = "0", SOCKET_BUFFER,
            flag "receive-buffer", env &[&[Env::named("LONGSPLICE_RECEIVE_BUFFER")]];
    }
    "Logs" {
        /// How log lines are written.
        log_format: LogFormat = "human", one_of(),
            flag "log-format", env &[&[Env::named("LONGSPLICE_LOG_FORMAT")]];
        /// Which log lines are written.
        log_level: logs::Filter = "info", LogFilter,
            flag "log-level", env &[&[Env::named("LOG_LEVEL")], &[Env::named("RUST_LOG")]];
    }
    "Link" {
        /// Bytes a second of one link, both directions together, with a burst of twice that.
        link_relay_max_bps: u64 = "1048576", whole(0, RATE_MAX).zero("no limit"),
            flag "link-relay-max-bps", env &[&[Env::named("LINK_RELAY_MAX_BPS")]];
        /// Bytes an hour of one link, above which it falls to the trickle.
        link_relay_hourly_bytes: u64 = "0", whole(0, QUOTA_MAX).zero("no limit"),
            flag "link-relay-hourly-bytes", env &[&[Env::named("LINK_RELAY_HOURLY_BYTES")]];
        /// Bytes a second that a link over its hourly bytes still gets.
        link_relay_trickle_bps: u64 = "16384", whole(1, RATE_MAX),
            flag "link-relay-trickle-bps", env &[&[Env::named("LINK_RELAY_TRICKLE_BPS")]];
        /// How long a link may be without traffic before it is closed.
        link_relay_idle_sec: Duration = "300s", span_ms(1000, MONTH_MS),
            flag "link-relay-idle-sec", env &[&[Env::named("LINK_RELAY_IDLE_SEC")]];
        /// How long a peer may accept nothing while bytes wait for it before its link is closed.
        link_slow_peer_sec: Duration = "30s", span_ms(1000, DAY_MS),
            flag "link-slow-peer-sec", env &[&[Env::named("LINK_SLOW_PEER_SEC")]];
        /// Registers and resolves of one IP address (IPv6: of one /64) in a minute.
        link_ip_rate_per_min: u32 = "60", whole(0, 1_000_000_000).zero("no limit"),
            flag "link-ip-rate-per-min", env &[&[Env::named("LINK_IP_RATE_PER_MIN")]];
        /// Signatures of registrations that a shard verifies in a second, with a burst of as many. One more closes its
        /// connection.
        link_verify_rate_per_sec: u32 = "10000", whole(0, 1_000_000_000).zero("no limit"),
            flag "link-verify-rate-per-sec", env &[&[Env::named("LONGSPLICE_LINK_VERIFY_RATE_PER_SEC")]];
        /// Addresses registered at once, over all shards. One more closes its connection.
        link_max_addresses: u64 = "1000000", whole(0, 100_000_000).zero("no limit"),
            flag "link-max-addresses", env &[&[Env::named("LONGSPLICE_LINK_MAX_ADDRESSES")]];
        /// The same for the hosts at one IP address (IPv6: at one /64).
        link_max_addresses_per_ip: u32 = "0", whole(0, COUNT_MAX).zero("no limit"),
            flag "link-max-addresses-per-ip", env &[&[Env::named("LONGSPLICE_LINK_MAX_ADDRESSES_PER_IP")]];
        /// Take the peer's address from the first hop of X-Forwarded-For. Only behind a proxy that sets it.
        link_trust_proxy: bool = "false", Switch,
            flag "link-trust-proxy", env &[&[Env::one_is_on("LINK_TRUST_PROXY")]];
        /// Public keys (base64url) that may register, separated by commas or white space; entries that begin
        /// with # are dropped. None here and none in the file: every key may.
        link_allowed_register_keys: String = "", Text,
            flag "link-allowed-register-keys", env &[&[Env::named("LINK_ALLOWED_REGISTER_KEYS")]];
        /// A file with more such keys. SIGHUP reads it again and closes the hosts whose keys are gone.
        link_allowed_register_keys_file: Option<PathBuf> = "", File,
            flag "link-allowed-register-keys-file", env &[&[Env::named("LINK_ALLOWED_REGISTER_KEYS_FILE")]];
        /// The host name that hosts sign into their registrations. Empty: what the client's Host header says.
        link_origin: Option<String> = "", Origin,
            flag "link-origin", env &[&[Env::named("LINK_ORIGIN")]];
    }
    "Pair" {
        /// The URL under which devices reach this relay; it stands in the QR codes. Empty: made of the listen
        /// address.
        pair_rendezvous_url: Option<String> = "", WebSocketUrl,
            flag "pair-rendezvous-url", env &[&[Env::named("RENDEZVOUS_URL")]];
        /// How long a pairing session lasts without a relayed message or a join.
        pair_session_ttl_seconds: Duration = "60s", span_ms(1000, MONTH_MS),
            flag "pair-session-ttl-seconds", env &[&[Env::named("SESSION_TTL_SECONDS")]];
        /// Pairing sessions at once, over all shards. One more is refused.
        pair_max_sessions: u64 = "10000", whole(1, 100_000_000),
            flag "pair-max-sessions", env &[&[Env::named("MAX_SESSIONS")]];
        /// The same for sessions that devices at one IP address (IPv6: at one /64) asked for.
        pair_max_sessions_per_ip: u32 = "0", whole(0, COUNT_MAX).zero("no limit"),
            flag "pair-max-sessions-per-ip", env &[&[Env::named("LONGSPLICE_PAIR_MAX_SESSIONS_PER_IP")]];
        /// Origins whose pages may pair. Clients that send no Origin header, which browsers always do, are not asked.
        pair_allowed_origins: Option<Vec<String>> = "*", Origins,
            flag "pair-allowed-origins", env &[&[Env::named("ALLOWED_ORIGINS")]];
        /// Serve `rendezvous_active_sessions` and `rendezvous_uptime_seconds` under /metrics on the public port.
        pair_metrics_enabled: bool = "false", Switch,
            flag "pair-metrics-enabled", env &[&[Env::one_is_on("METRICS_ENABLED")]];
        /// New pairing sessions of one IP address (IPv6: of one /64) in a minute.
        pair_ip_rate_per_min: u32 = "60", whole(0, 1_000_000_000).zero("no limit"),
            flag "pair-ip-rate-per-min", env &[&[Env::named("PAIR_IP_RATE_PER_MIN")]];
        /// The largest message of the pair dialect, payload and JSON around it.
        pair_max_message_bytes: usize = "1MiB", Bytes { min: 1 << 10, max: 16 << 20, zero: None, power_of_two: false },
            flag "pair-max-message-bytes", env &[&[Env::named("PAIR_MAX_MESSAGE_BYTES")]];
        /// How often each WebSocket of the pair dialect is pinged. One that has not answered by the next ping is
        /// dropped.
        pair_ping_interval: Duration = "25s", span_ms(100, HOUR_MS),
            flag "pair-ping-interval", env &[&[Env::named("LONGSPLICE_PAIR_PING_INTERVAL")]];
    }
    "Workspace" {
        /// How strict to be: dev takes tokens from the query and shows more, prod refuses to start unprotected.
        /// auto: dev where this relay or its platform is on this machine or no public one is named, else prod.
        workspace_mode: Option<RelayMode> = "auto", one_of(),
            flag "workspace-mode", env &[&[Env::words("RELAY_MODE", &["dev", "staging", "prod"])]];
        /// This relay's id. Empty: its address and a random number.
        workspace_relay_id: Option<String> = "", OptionalText,
            flag "workspace-relay-id", env &[&[Env::named("RELAY_ID")]];
        /// The URL under which peers reach this relay. Empty: made of `workspace-tls-host` and the port.
        workspace_public_url: Option<String> = "", OptionalText,
            flag "workspace-public-url", env &[&[Env::named("RELAY_PUBLIC_WS_BASE_URL")]];
        /// Show more in /health, /state and /logs. auto: in dev mode only.
        workspace_health_verbose: Option<bool> = "auto", AutoSwitch,
            flag "workspace-health-verbose", env &[&[Env::boolish("RELAY_HEALTH_VERBOSE")]];
        /// Name clients in /state. auto: in dev mode only.
        workspace_state_client_ids: Option<bool> = "auto", AutoSwitch,
            flag "workspace-state-client-ids", env &[&[Env::boolish("RELAY_STATE_INCLUDE_CLIENT_IDS")]];
        /// Log entries that /logs remembers.
        workspace_max_logs: u32 = "400", whole(1, 1_000_000),
            flag "workspace-max-logs", env &[&[Env::number("MAX_LOGS", 1_000_000)]];
        /// Whether the environment expects this relay to end TLS, which it does not: 1 refuses to start, and so does
        /// auto where certificate and key are there.
        workspace_tls: TlsChoice = "auto", one_of(),
            flag "workspace-tls", env &[&[Env::words_in_any_case("RELAY_TLS", &["auto", "0", "1"])]];
        /// Who ends TLS: platform says that something in front of this relay does, as prod mode demands.
        workspace_tls_termination: TlsTermination = "self", one_of(),
            flag "workspace-tls-termination", env &[&[Env::words("RELAY_TLS_TERMINATION", &["self", "platform"])]];
        /// The host name of this relay's certificate, also that of its public URL where none is given.
        workspace_tls_host: String = "relay.getviewport.com", Text,
            flag "workspace-tls-host", env &[&[Env::named("RELAY_TLS_HOST")]];
        /// Where certificates are looked for. Empty: ~/.viewport/relay-certs.
        workspace_tls_cert_dir: Option<PathBuf> = "", File,
            flag "workspace-tls-cert-dir", env &[&[Env::named("RELAY_TLS_CERT_DIR")]];
        /// The certificate to look for. Empty: the host's in the directory.
        workspace_tls_cert_path: Option<PathBuf> = "", File,
            flag "workspace-tls-cert-path", env &[&[Env::named("RELAY_TLS_CERT_PATH")]];
        /// The certificate's key to look for. Empty: the host's in the directory.
        workspace_tls_key_path: Option<PathBuf> = "", File,
            flag "workspace-tls-key-path", env &[&[Env::named("RELAY_TLS_KEY_PATH")]];
        /// How relays find each other's daemons. This version has only single: each relay by itself. auto: single,
        /// with a warning where the other options ask for more.
        workspace_backplane: Option<Backplane> = "auto", one_of(),
            flag "workspace-backplane", env &[&[Env::words("RELAY_BACKPLANE_MODE", &["single", "server", "redis"])]];
        /// Tell the platform which daemons are here. Off in single mode, whatever it says.
        workspace_presence_sync: Option<bool> = "auto", AutoSwitch,
            flag "workspace-presence-sync", env &[&[Env::boolish("RELAY_PRESENCE_SYNC_ENABLED")]];
        /// Exchange frames with other relays. Off in single mode, whatever it says.
        workspace_bus: bool = "false", Switch,
            flag "workspace-bus", env &[&[Env::boolish("RELAY_BUS_ENABLED")]];
        /// Point clients to the relay of their daemon. Off in single mode, whatever it says.
        workspace_client_redirect: Option<bool> = "auto", AutoSwitch,
            flag "workspace-client-redirect", env &[&[Env::boolish("RELAY_CLIENT_REDIRECT_ENABLED")]];
        /// Proxies whose X-Forwarded-For is believed: addresses and networks such as 10.0.0.0/8, separated by commas.
        /// Entries that are neither are dropped.
        workspace_trusted_proxies: String = "", Text,
            flag "workspace-trusted-proxies", env &[&[Env::named("RELAY_TRUSTED_PROXIES")]];
        /// Daemons and clients at once, workers not counted. One more upgrade is refused.
        workspace_max_total_connections: u32 = "2000", whole(1, COUNT_MAX),
            flag "workspace-max-total-connections", env &[&[Env::number("RELAY_MAX_TOTAL_CONNECTIONS", COUNT_MAX)]];
        /// Daemons, clients and workers of one IP address at once. One more upgrade is refused.
        workspace_max_connections_per_ip: u32 = "50", whole(1, COUNT_MAX),
            flag "workspace-max-connections-per-ip", env &[&[Env::number("RELAY_MAX_CONNECTIONS_PER_IP", COUNT_MAX)]];
        /// Clients of one runtime target at once. One more upgrade is refused.
        workspace_max_clients: u32 = "100", whole(1, COUNT_MAX),
            flag "workspace-max-clients", env &[&[Env::number("RELAY_MAX_CLIENTS_PER_WORKSPACE", COUNT_MAX)]];
        /// The largest message of the workspace dialect.
        workspace_max_frame_bytes: usize = "1MiB", FRAME,
            flag "workspace-max-frame-bytes", env &[&[Env::number("RELAY_MAX_FRAME_BYTES", u64::MAX)]];
        /// Bytes that may wait for one peer. One for which more wait is closed.
        workspace_max_pending_bytes: usize = "4MiB", PENDING,
            flag "workspace-max-pending-bytes", env &[&[Env::number("RELAY_MAX_PENDING_BYTES", PENDING.max as u64)]];
        /// How often each WebSocket of the workspace dialect is pinged.
        workspace_ping_interval: Duration = "30s", span_ms(1, MONTH_MS),
            flag "workspace-ping-interval", env &[&[Env::millis("RELAY_PING_INTERVAL_MS", MONTH_MS)]];
        /// How long a ping may stay unanswered; looked at with the next ping.
        workspace_pong_timeout: Duration = "10s", span_ms(1, MONTH_MS),
            flag "workspace-pong-timeout", env &[&[Env::millis("RELAY_PONG_TIMEOUT_MS", MONTH_MS)]];
        /// How long a peer may send neither messages nor pongs; looked at with the next ping.
        workspace_idle_timeout: Duration = "300s", span_ms(1, MONTH_MS),
            flag "workspace-idle-timeout", env &[&[Env::millis("RELAY_IDLE_TIMEOUT_MS", MONTH_MS)]];
        /// How long a workspace without daemon and clients is remembered.
        workspace_empty_ttl: Duration = "120s", span_ms(1, MONTH_MS),
            flag "workspace-empty-ttl", env &[&[Env::millis("RELAY_EMPTY_WORKSPACE_TTL_MS", MONTH_MS)]];
        /// How often empty workspaces are looked for.
        workspace_cleanup_interval: Duration = "30s", span_ms(1, MONTH_MS),
            flag "workspace-cleanup-interval", env &[&[Env::millis("RELAY_CLEANUP_INTERVAL_MS", MONTH_MS)]];
        /// Close a connection when its token expires. The reference lets it live.
        workspace_close_on_expiry: bool = "false", Switch,
            flag "workspace-close-on-expiry", env &[&[Env::named("LONGSPLICE_WORKSPACE_CLOSE_ON_EXPIRY")]];
        /// Pairing requests, and key exchanges, of a workspace whose answers are awaited. One more forgets the oldest.
        workspace_requests_tracked: u32 = "2048", whole(1, KEYS_MAX),
            flag "workspace-requests-tracked", env &[&[Env::number("RELAY_PAIRING_REQUEST_TRACK_MAX", KEYS_MAX)]];
        /// Sessions of a workspace whose owners are known. One more forgets the oldest.
        workspace_owners_tracked: u32 = "4096", whole(1, KEYS_MAX),
            flag "workspace-owners-tracked", env &[&[Env::number("RELAY_SESSION_OWNER_TRACK_MAX", KEYS_MAX)]];
    }
    "Workspace limiters" {
        /// Upgrades of one IP address in a minute.
        workspace_upgrade_rate: u32 = "120", whole(1, COUNT_MAX),
            flag "workspace-upgrade-rate", env &[&[Env::number("RELAY_UPGRADE_RATE_PER_MINUTE", COUNT_MAX)]];
        /// IP addresses whose upgrades are counted. One more forgets the one that came longest ago.
        workspace_upgrade_keys: u32 = "50000", whole(1, KEYS_MAX),
            flag "workspace-upgrade-keys", env &[&[Env::number("RELAY_UPGRADE_BUCKET_MAX", KEYS_MAX)]];
        /// Key exchanges that a client at an IP address may begin in a minute.
        workspace_kex_rate: u32 = "60", whole(1, COUNT_MAX),
            flag "workspace-kex-rate", env &[&[Env::number("RELAY_KEX_INIT_RATE_PER_MINUTE", COUNT_MAX)]];
        /// Clients whose key exchanges are counted, a shard.
        workspace_kex_keys: u32 = "20000", whole(1, KEYS_MAX),
            flag "workspace-kex-keys", env &[&[Env::number("RELAY_KEX_RATE_LIMITER_MAX_KEYS", KEYS_MAX)]];
        /// Pairing requests of a client at an IP address in a minute.
        workspace_pairing_rate: u32 = "30", whole(1, COUNT_MAX),
            flag "workspace-pairing-rate", env &[&[Env::number("RELAY_PAIRING_RATE_PER_MINUTE", COUNT_MAX)]];
        /// Clients whose pairing requests are counted, a shard.
        workspace_pairing_keys: u32 = "20000", whole(1, KEYS_MAX),
            flag "workspace-pairing-keys", env &[&[Env::number("RELAY_PAIRING_RATE_LIMITER_MAX_KEYS", KEYS_MAX)]];
        /// Envelopes and presence messages of a client in a minute.
        workspace_runtime_rate: u32 = "240", whole(1, COUNT_MAX),
            flag "workspace-runtime-rate", env &[&[Env::number("RELAY_RUNTIME_RATE_PER_MINUTE", COUNT_MAX)]];
        /// Clients whose messages are counted, a shard.
        workspace_runtime_keys: u32 = "20000", whole(1, KEYS_MAX),
            flag "workspace-runtime-keys", env &[&[Env::number("RELAY_RUNTIME_RATE_LIMITER_MAX_KEYS", KEYS_MAX)]];
        /// Envelopes and presence messages of all clients of a workspace in a minute.
        workspace_runtime_rate_shared: u32 = "1200", whole(1, COUNT_MAX),
            flag "workspace-runtime-rate-shared",
            env &[&[Env::number("RELAY_RUNTIME_RATE_PER_MINUTE_WORKSPACE", COUNT_MAX)]];
        /// Workspaces whose messages are counted, a shard.
        workspace_runtime_keys_shared: u32 = "10000", whole(1, KEYS_MAX),
            flag "workspace-runtime-keys-shared",
            env &[&[Env::number("RELAY_RUNTIME_WORKSPACE_RATE_LIMITER_MAX_KEYS", KEYS_MAX)]];
        /// Messages of the daemons and workers of a workspace in a minute.
        workspace_daemon_rate: u32 = "2400", whole(1, COUNT_MAX),
            flag "workspace-daemon-rate", env &[&[Env::number("RELAY_DAEMON_RUNTIME_RATE_PER_MINUTE", COUNT_MAX)]];
        /// Workspaces whose daemons' messages are counted, a shard.
        workspace_daemon_keys: u32 = "10000", whole(1, KEYS_MAX),
            flag "workspace-daemon-keys", env &[&[Env::number("RELAY_DAEMON_RATE_LIMITER_MAX_KEYS", KEYS_MAX)]];
    }
    "Platform" {
        /// The platform that says who may connect to workspaces; only its origin counts. Empty: that of
        /// `platform-validate-url`, else `https://api.getviewport.com`.
        platform_url: Option<Url> = "", HttpUrl,
            flag "platform-url", env &[&[Env::named("SERVER_URL")]];
        /// The URL to ask about every upgrade. Empty: /api/runtime/internal/relay/validate at the platform.
        platform_validate_url: Option<Url> = "", HttpUrl,
            flag "platform-validate-url", env &[&[Env::named("RELAY_VALIDATE_URL")]];
        /// The platform's signing keys, for `workspace-local-check`; without that they are not fetched. Empty:
        /// /api/.well-known/jwks.json at the platform.
        platform_jwks_url: Option<Url> = "", HttpUrl,
            flag "platform-jwks-url", env &[&[Env::named("RELAY_JWKS_URL")]];
        /// Check tokens against the platform's keys. also: before the platform is asked. only: instead, so that it
        /// cannot take a token back before it expires. Both refuse tokens that are not signed with RS256.
        workspace_local_check: LocalCheck = "off", one_of(),
            flag "workspace-local-check", env &[&[Env::named("LONGSPLICE_WORKSPACE_LOCAL_CHECK")]];
        /// What this relay shows to the platform in the header x-relay-internal-key. Empty: nothing.
        platform_internal_key: Option<Secret> = "", SecretText,
            flag "platform-internal-key", env &[&[Env::named("RELAY_INTERNAL_KEY")]];
        /// How long the platform may take to say whether a connection may come in, from the question to the end of
        /// the answer. Later is no.
        platform_admission_timeout: Duration = "2s", span_ms(1, DAY_MS),
            flag "platform-admission-timeout", env &[&[Env::millis("RELAY_ADMISSION_TIMEOUT_MS", DAY_MS)]];
        /// The longest such answer.
        platform_admission_max_response_bytes: usize = "256KiB", RESPONSE,
            flag "platform-admission-max-response-bytes",
            env &[&[Env::number("RELAY_ADMISSION_MAX_RESPONSE_BYTES", RESPONSE.max as u64)]];
        /// Whether the platform has to prove who it is: 1 and 0 say so; auto: unless its host is localhost or ends
        /// in .test.
        platform_tls_verify: Verify = "auto", one_of(),
            flag "platform-tls-verify", env &[&[Env::words("RELAY_SERVER_TLS_VERIFY", &["auto", "0", "1"])]];
        /// The authorities (PEM) that may vouch for the platform. Empty: those that this machine trusts.
        platform_ca_cert_path: Option<PathBuf> = "", File,
            flag "platform-ca-cert-path", env &[&[Env::named("RELAY_SERVER_CA_CERT_PATH")]];
        /// Show the platform a client certificate. On by itself where both its files are named.
        platform_mtls: bool = "false", Switch,
            flag "platform-mtls", env &[&[Env::boolish("RELAY_SERVER_MTLS")]];
        /// The client certificate (PEM), with those between it and its authority.
        platform_client_cert_path: Option<PathBuf> = "", File,
            flag "platform-client-cert-path", env &[&[Env::named("RELAY_SERVER_CLIENT_CERT_PATH")]];
        /// The private key (PEM) of the client certificate.
        platform_client_key_path: Option<PathBuf> = "", File,
            flag "platform-client-key-path", env &[&[Env::named("RELAY_SERVER_CLIENT_KEY_PATH")]];
        /// What that key is encrypted with. Empty: it is not.
        platform_client_key_passphrase: Option<Secret> = "", SecretText,
            flag "platform-client-key-passphrase", env &[&[Env::named("RELAY_SERVER_CLIENT_KEY_PASSPHRASE")]];
        /// How the platform knows this relay: by its client certificate, or by the internal key in a network of their
        /// own. Decides what prod mode refuses to start without.
        platform_auth_mode: AuthMode = "mtls", one_of(),
            flag "platform-auth-mode",
            env &[&[Env::words("RELAY_SERVER_AUTH_MODE", &["mtls", "private_network_shared_secret"])]];
    }
}

/// Fixes the type of a kind's values, so that the rows need not repeat it.
fn of<T, K: Kind<Value = T>>(kind: K) -> K {
    kind
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const MONTH_MS: u64 = 30 * DAY_MS;
/// A token bucket holds twice a rate, or a whole quota, in millionths of a byte, and both must fit 64 bits.
const RATE_MAX: u64 = 1 << 43;
const QUOTA_MAX: u64 = 1 << 44;
const _: () = assert!(QUOTA_MAX.checked_mul(1_000_000).is_some() && 2 * RATE_MAX <= QUOTA_MAX);
/// More of anything that is counted is no limit.
const COUNT_MAX: u64 = 1_000_000_000;
/// Remembered keys take memory each.
const KEYS_MAX: u64 = 10_000_000;
const FRAME: Bytes = Bytes { min: 1, max: 64 << 20, zero: None, power_of_two: false };
const PENDING: Bytes = Bytes { min: 1, max: 1 << 30, zero: None, power_of_two: false };
const RESPONSE: Bytes = Bytes { min: 1, max: 64 << 20, zero: None, power_of_two: false };
const SOCKET_BUFFER: Bytes = Bytes {
    min: 4 << 10,
    max: 1 << 30,
    zero: Some("the kernel's own, which grows as needed"),
    power_of_two: false,
};

fn span_ms(min: u64, max: u64) -> Span {
    Span { min: Duration::from_millis(min), max: Duration::from_millis(max), zero: None }
}
