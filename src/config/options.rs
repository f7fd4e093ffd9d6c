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

use super::{
    ConfigError, LogFormat, StatsAccess,
    kinds::{
        AddressOrOff, Addresses, AutoOr, Bytes, DialectNames, File, Hosts, Kind, LogFilter, Origin, Origins,
        Span, Switch, Text, WebSocketUrl, one_of, whole,
    },
    settings::{Env, Row, Settings},
};
use crate::{dialect, driver, limits::SHARDS_MAX, logs};

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
            flag "port", env &[&[Env::port_above_zero("LINK_PORT")], &[Env::named("PORT")]];
        /// The dialects to serve. The upgrade path of one that is left out is unknown.
        dialects: Vec<dialect::Kind> = "link,pair", DialectNames,
            flag "dialects", env &[&[Env::named("LONGSPLICE_DIALECTS")]];
        /// Where to serve /metrics, /health and /ready for the operator, apart from the public port. Not for
        /// the internet.
        admin_listen: Option<SocketAddr> = "off", AddressOrOff,
            flag "admin-listen", env &[&[Env::named("LONGSPLICE_ADMIN_LISTEN")]];
        /// Who may read /v1/stats on the public port: everyone, only peers on this machine, or no one.
        stats: StatsAccess = "public", one_of(),
            flag "stats", env &[&[Env::named("LONGSPLICE_STATS")]];
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
        /// ones are not read until some are complete. Must hold `pair-max-message-bytes`.
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
const SOCKET_BUFFER: Bytes = Bytes {
    min: 4 << 10,
    max: 1 << 30,
    zero: Some("the kernel's own, which grows as needed"),
    power_of_two: false,
};

fn span_ms(min: u64, max: u64) -> Span {
    Span { min: Duration::from_millis(min), max: Duration::from_millis(max), zero: None }
}
