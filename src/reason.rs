//! Why something was refused, dropped or closed.
//!
//! One value, rendered once per audience: the close code and the close frame's text for the peer, the HTTP
//! status before the upgrade, the metric label and the statistics label for the operator. Every match is
//! exhaustive: a new reason has to decide all of them.

/// Why a connection ended, or was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Reason {
    /// The peer sent a close frame.
    PeerClosed,
    /// The peer ended the TCP stream without a close frame.
    PeerEnded,
    /// The connection broke: reset or timed out by TCP.
    PeerReset,
    /// The other end of its link is gone.
    PeerGone,
    /// The relay is shutting down.
    Draining,
    /// A frame that RFC 6455 does not allow.
    ProtocolError,
    /// Text that is not UTF-8 where it must be.
    BadUtf8,
    /// A relayed message above the cap.
    MessageTooBig,
    /// A control message that the dialect cannot accept: shape, size, type, role.
    BadRequest,
    /// Over the per-IP budget.
    RateLimited,
    /// Moved between shards too often.
    MovedTooOften,
    /// More dial-backs pending than a control socket may have.
    TooManyDialBacks,
    /// A newer registration took the address.
    Replaced,
    /// A `register` that does not verify.
    RegisterAuth,
    /// A verified key that is not on the allow-list.
    RegisterUnauthorized,
    /// No traffic on the link for too long.
    LinkIdle,
    /// A peer that accepts nothing.
    SlowPeer,
    /// No pong since the ping before.
    PingTimeout,
    /// No complete request head in time.
    HandshakeTimeout,
    /// Upgraded, but no role for too long.
    RoleTimeout,
    /// The close handshake took too long.
    CloseTimeout,
    /// A request head that does not parse.
    BadHead,
    /// A request head that is too large.
    HeadTooLarge,
    /// An HTTP exchange that is over.
    HttpDone,
    /// More connections than `--max-connections`.
    TooManyConnections,
    /// More connections than `--max-connections-per-ip`.
    TooManyConnectionsPerIp,
    /// A queue or table of the relay was full.
    Overloaded,
    /// A pair message that is not JSON.
    MalformedJson,
    /// A pair message without its fields.
    MalformedMessage,
    /// A pair message of a type that is none.
    UnknownMessageType,
    /// An `Origin` that may not pair.
    OriginNotAllowed,
    /// More pairing sessions than `MAX_SESSIONS`.
    ServerAtCapacity,
    /// A pairing session that cannot be joined.
    SessionJoinFailed,
    /// No relayed message in a pairing session for too long.
    SessionExpired,
    /// Over the per-IP budget for new pairing sessions.
    SessionsRateLimited,
    /// A workspace connection whose claims name no workspace.
    MissingWorkspaceClaim,
    /// Its claims name another workspace than its upgrade.
    WorkspaceClaimMismatch,
    /// Its claims name another runtime target than its upgrade.
    RuntimeTargetClaimMismatch,
    /// A workspace client without a scope.
    InvalidScopeClaim,
    /// A role that needs a runtime target, and none is named.
    MissingRuntimeTargetClaim,
    /// A daemon whose token was issued before the last one's.
    StaleDaemonGeneration,
    /// A second daemon.
    DaemonAlreadyConnected,
    /// A session event message of a client with another scope.
    SessionEventsScopeRequired,
    /// Another message than a pairing one of a client with that scope.
    PairingScopeOnly,
    /// A pairing message of a runtime client.
    RuntimeScopeOnly,
    /// A client's message with another end-to-end profile than its claims.
    ClientProfileMismatch,
    /// A daemon's message with a weaker end-to-end profile than its claims.
    DaemonProfileMismatch,
    /// Too many key exchanges of a workspace client.
    KeyExchangeRateLimited,
    /// Too many runtime messages of a workspace client or of its workspace.
    RuntimeRateLimited,
    /// Too many pairing messages of a workspace client.
    PairingRateLimited,
    /// Too many presence messages of a workspace client or of its workspace.
    PresenceRateLimited,
    /// Too many messages of a workspace's daemon.
    DaemonRateLimited,
    /// Too many messages of a workspace's workers.
    WorkerRateLimited,
    /// A workspace connection that does not read what is sent to it.
    BufferOverflow,
    /// A workspace message that grows over the cap when its bytes are replaced to be text.
    FrameTooLarge,
    /// A workspace connection whose token is over its time.
    TokenExpired,
    /// The operator ended it.
    Kicked,
    /// No message and no pong of a workspace connection for too long.
    WorkspaceIdle,
    /// More connections without a whole request head than `--max-handshakes-per-ip`.
    TooManyHandshakesPerIp,
    /// A connection without a whole request head that made room for another one.
    HandshakeDisplaced,
    /// More registered addresses than `--link-max-addresses`.
    TooManyAddresses,
    /// More registered addresses than `--link-max-addresses-per-ip`.
    TooManyAddressesPerIp,
    /// More signatures to verify than `--link-verify-rate-per-sec`.
    VerificationsRateLimited,
}

impl Reason {
    /// Every reason, in the order of their numbers: for tables and reports.
    pub const ALL: [Reason; 63] = [
        Reason::PeerClosed,
        Reason::PeerEnded,
        Reason::PeerReset,
        Reason::PeerGone,
        Reason::Draining,
        Reason::ProtocolError,
        Reason::BadUtf8,
        Reason::MessageTooBig,
        Reason::BadRequest,
        Reason::RateLimited,
        Reason::MovedTooOften,
        Reason::TooManyDialBacks,
        Reason::Replaced,
        Reason::RegisterAuth,
        Reason::RegisterUnauthorized,
        Reason::LinkIdle,
        Reason::SlowPeer,
        Reason::PingTimeout,
        Reason::HandshakeTimeout,
        Reason::RoleTimeout,
        Reason::CloseTimeout,
        Reason::BadHead,
        Reason::HeadTooLarge,
        Reason::HttpDone,
        Reason::TooManyConnections,
        Reason::TooManyConnectionsPerIp,
        Reason::Overloaded,
        Reason::MalformedJson,
        Reason::MalformedMessage,
        Reason::UnknownMessageType,
        Reason::OriginNotAllowed,
        Reason::ServerAtCapacity,
        Reason::SessionJoinFailed,
        Reason::SessionExpired,
        Reason::SessionsRateLimited,
        Reason::MissingWorkspaceClaim,
        Reason::WorkspaceClaimMismatch,
        Reason::RuntimeTargetClaimMismatch,
        Reason::InvalidScopeClaim,
        Reason::MissingRuntimeTargetClaim,
        Reason::StaleDaemonGeneration,
        Reason::DaemonAlreadyConnected,
        Reason::SessionEventsScopeRequired,
        Reason::PairingScopeOnly,
        Reason::RuntimeScopeOnly,
        Reason::ClientProfileMismatch,
        Reason::DaemonProfileMismatch,
        Reason::KeyExchangeRateLimited,
        Reason::RuntimeRateLimited,
        Reason::PairingRateLimited,
        Reason::PresenceRateLimited,
        Reason::DaemonRateLimited,
        Reason::WorkerRateLimited,
        Reason::BufferOverflow,
        Reason::FrameTooLarge,
        Reason::TokenExpired,
        Reason::Kicked,
        Reason::WorkspaceIdle,
        Reason::TooManyHandshakesPerIp,
        Reason::HandshakeDisplaced,
        Reason::TooManyAddresses,
        Reason::TooManyAddressesPerIp,
        Reason::VerificationsRateLimited,
    ];

    /// The close code we send on an upgraded socket (link.md section 6, pair.md section 3, workspace.md section 16,
    /// RFC 6455 section 7.4.1), or `None` where no one is left to tell or the contract says to drop the socket
    /// without a handshake.
    pub fn close_code(self) -> Option<u16> {
        Some(match self {
            Self::PeerReset
            | Self::PeerEnded
            | Self::PingTimeout
            | Self::CloseTimeout
            | Self::WorkspaceIdle => return None,
            Self::PeerClosed => 1000, // The code is echoed; this stands where the peer sent none.
            // Going away; whoever gets it may come back. A code that all peers know, unlike those of one contract.
            Self::Draining | Self::Kicked => 1001,
            Self::ProtocolError => 1002,
            Self::BadUtf8 => 1007,
            Self::MessageTooBig => 1009,
            Self::BadRequest | Self::TooManyDialBacks | Self::RoleTimeout => 4000,
            Self::RateLimited
            | Self::MovedTooOften
            | Self::TooManyAddressesPerIp
            | Self::VerificationsRateLimited => 4002,
            Self::PeerGone => 4003,
            Self::LinkIdle => 4004,
            Self::Replaced => 4005,
            Self::SlowPeer => 4006,
            Self::RegisterAuth => 4007,
            Self::RegisterUnauthorized => 4010,
            Self::TooManyConnections
            | Self::TooManyConnectionsPerIp
            | Self::TooManyHandshakesPerIp
            | Self::TooManyAddresses
            | Self::Overloaded => 1013,
            // pair.md section 3.
            Self::SessionExpired => 1000,
            Self::MalformedJson
            | Self::MalformedMessage
            | Self::UnknownMessageType
            | Self::OriginNotAllowed
            | Self::SessionJoinFailed
            | Self::SessionsRateLimited => 1008,
            Self::ServerAtCapacity => 1011,
            // workspace.md section 16.
            Self::MissingWorkspaceClaim
            | Self::WorkspaceClaimMismatch
            | Self::RuntimeTargetClaimMismatch
            | Self::InvalidScopeClaim
            | Self::MissingRuntimeTargetClaim
            | Self::StaleDaemonGeneration
            | Self::DaemonAlreadyConnected
            | Self::SessionEventsScopeRequired
            | Self::PairingScopeOnly
            | Self::RuntimeScopeOnly
            | Self::ClientProfileMismatch
            | Self::DaemonProfileMismatch
            | Self::KeyExchangeRateLimited
            | Self::RuntimeRateLimited
            | Self::PairingRateLimited
            | Self::PresenceRateLimited
            | Self::DaemonRateLimited
            | Self::WorkerRateLimited
            | Self::BufferOverflow
            | Self::TokenExpired => 4008,
            Self::FrameTooLarge => 1009,
            // Before the upgrade there is no close frame.
            Self::HandshakeTimeout
            | Self::HandshakeDisplaced
            | Self::BadHead
            | Self::HeadTooLarge
            | Self::HttpDone => return None,
        })
    }

    /// The text of the close frame: short, constant, without a secret.
    pub fn close_text(self) -> &'static str {
        match self {
            Self::PeerReset
            | Self::PeerEnded
            | Self::PeerClosed
            | Self::PingTimeout
            | Self::CloseTimeout
            | Self::HandshakeTimeout
            | Self::HandshakeDisplaced
            | Self::WorkspaceIdle
            | Self::HttpDone => "",
            Self::PeerGone => "peer gone",
            Self::Draining => "server shutting down",
            Self::ProtocolError => "protocol error",
            Self::BadUtf8 => "invalid utf-8",
            Self::MessageTooBig => "message too big",
            Self::BadRequest => "bad request",
            Self::RateLimited | Self::VerificationsRateLimited => "rate limited",
            Self::MovedTooOften => "too many moves",
            Self::TooManyDialBacks => "too many pending dial-backs",
            Self::Replaced => "replaced",
            Self::RegisterAuth => "register auth",
            Self::RegisterUnauthorized => "register unauthorized",
            Self::LinkIdle => "idle timeout",
            Self::SlowPeer => "slow peer",
            Self::RoleTimeout => "no role in time",
            Self::BadHead => "bad request head",
            Self::HeadTooLarge => "request head too large",
            Self::TooManyConnections => "too many connections",
            Self::TooManyConnectionsPerIp => "too many connections from this address",
            Self::TooManyHandshakesPerIp => "too many handshakes from this address",
            Self::TooManyAddresses => "too many registered addresses",
            Self::TooManyAddressesPerIp => "too many registered addresses from this address",
            Self::Overloaded => "overloaded",
            Self::MalformedJson => "malformed_json",
            Self::MalformedMessage => "malformed_message",
            Self::UnknownMessageType => "unknown_message_type",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::ServerAtCapacity => "server_at_capacity",
            Self::SessionJoinFailed => "session_join_failed",
            Self::SessionExpired => "session expired",
            Self::SessionsRateLimited => "rate_limited",
            Self::MissingWorkspaceClaim => "missing workspace claim",
            Self::WorkspaceClaimMismatch => "workspace claim mismatch",
            Self::RuntimeTargetClaimMismatch => "runtime target claim mismatch",
            Self::InvalidScopeClaim => "invalid scope claim",
            Self::MissingRuntimeTargetClaim => "missing runtime target claim",
            Self::StaleDaemonGeneration => "stale daemon generation",
            Self::DaemonAlreadyConnected => "daemon already connected",
            Self::SessionEventsScopeRequired => "session-events scope required",
            Self::PairingScopeOnly => "pairing scope only",
            Self::RuntimeScopeOnly => "runtime scope only",
            Self::ClientProfileMismatch => "client frame profile mismatch",
            Self::DaemonProfileMismatch => "daemon frame profile mismatch",
            Self::KeyExchangeRateLimited => "key exchange rate limit exceeded",
            Self::RuntimeRateLimited => "runtime rate limit exceeded",
            Self::PairingRateLimited => "pairing rate limit exceeded",
            Self::PresenceRateLimited => "presence rate limit exceeded",
            Self::DaemonRateLimited => "daemon rate limit exceeded",
            Self::WorkerRateLimited => "worker rate limit exceeded",
            Self::BufferOverflow => "buffer overflow",
            Self::FrameTooLarge => "frame too large",
            Self::TokenExpired => "token expired",
            Self::Kicked => "disconnected by the operator",
        }
    }

    /// The same for a peer of the workspace dialect, whose contract has some texts of its own (workspace.md section
    /// 16).
    pub fn workspace_close_text(self) -> &'static str {
        match self {
            Self::Draining => "relay shutting down",
            Self::ProtocolError | Self::BadUtf8 | Self::MessageTooBig => "",
            other => other.close_text(),
        }
    }

    /// The label of the metric that counts it. Never changes: dashboards depend on it.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::PeerEnded => "peer_ended",
            Self::PeerReset => "peer_reset",
            Self::PeerGone => "peer_gone",
            Self::Draining => "draining",
            Self::ProtocolError => "protocol_error",
            Self::BadUtf8 => "bad_utf8",
            Self::MessageTooBig => "message_too_big",
            Self::BadRequest => "bad_request",
            Self::RateLimited => "rate_limited",
            Self::MovedTooOften => "moved_too_often",
            Self::TooManyDialBacks => "too_many_dial_backs",
            Self::Replaced => "replaced",
            Self::RegisterAuth => "register_auth",
            Self::RegisterUnauthorized => "register_unauthorized",
            Self::LinkIdle => "link_idle",
            Self::SlowPeer => "slow_peer",
            Self::PingTimeout => "ping_timeout",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::RoleTimeout => "role_timeout",
            Self::CloseTimeout => "close_timeout",
            Self::BadHead => "bad_head",
            Self::HeadTooLarge => "head_too_large",
            Self::HttpDone => "http_done",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyConnectionsPerIp => "too_many_connections_per_ip",
            Self::Overloaded => "overloaded",
            Self::MalformedJson => "malformed_json",
            Self::MalformedMessage => "malformed_message",
            Self::UnknownMessageType => "unknown_message_type",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::ServerAtCapacity => "server_at_capacity",
            Self::SessionJoinFailed => "session_join_failed",
            Self::SessionExpired => "session_expired",
            Self::SessionsRateLimited => "sessions_rate_limited",
            Self::MissingWorkspaceClaim => "missing_workspace_claim",
            Self::WorkspaceClaimMismatch => "workspace_claim_mismatch",
            Self::RuntimeTargetClaimMismatch => "runtime_target_claim_mismatch",
            Self::InvalidScopeClaim => "invalid_scope_claim",
            Self::MissingRuntimeTargetClaim => "missing_runtime_target_claim",
            Self::StaleDaemonGeneration => "stale_daemon_generation",
            Self::DaemonAlreadyConnected => "daemon_already_connected",
            Self::SessionEventsScopeRequired => "session_events_scope_required",
            Self::PairingScopeOnly => "pairing_scope_only",
            Self::RuntimeScopeOnly => "runtime_scope_only",
            Self::ClientProfileMismatch => "client_profile_mismatch",
            Self::DaemonProfileMismatch => "daemon_profile_mismatch",
            Self::KeyExchangeRateLimited => "key_exchange_rate_limited",
            Self::RuntimeRateLimited => "runtime_rate_limited",
            Self::PairingRateLimited => "pairing_rate_limited",
            Self::PresenceRateLimited => "presence_rate_limited",
            Self::DaemonRateLimited => "daemon_rate_limited",
            Self::WorkerRateLimited => "worker_rate_limited",
            Self::BufferOverflow => "buffer_overflow",
            Self::FrameTooLarge => "frame_too_large",
            Self::TokenExpired => "token_expired",
            Self::Kicked => "kicked",
            Self::WorkspaceIdle => "workspace_idle",
            Self::TooManyHandshakesPerIp => "too_many_handshakes_per_ip",
            Self::HandshakeDisplaced => "handshake_displaced",
            Self::TooManyAddresses => "too_many_addresses",
            Self::TooManyAddressesPerIp => "too_many_addresses_per_ip",
            Self::VerificationsRateLimited => "verifications_rate_limited",
        }
    }

    /// Whether a close for this reason waits until the bytes received before it are paid for and delivered
    /// (link.md section 6: only the other end's going is patient).
    pub fn is_patient(self) -> bool {
        matches!(self, Self::PeerGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_reason_at_its_number() {
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }

    #[test]
    fn labels_are_distinct_and_close_texts_fit_a_control_frame() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|reason| reason.close_text().len() <= 123));
    }

    #[test]
    fn the_close_codes_are_those_of_the_link_contract() {
        for (reason, code) in [
            (Reason::BadRequest, 4000),
            (Reason::RateLimited, 4002),
            (Reason::TooManyAddressesPerIp, 4002),
            (Reason::VerificationsRateLimited, 4002),
            (Reason::PeerGone, 4003),
            (Reason::LinkIdle, 4004),
            (Reason::Replaced, 4005),
            (Reason::SlowPeer, 4006),
            (Reason::RegisterAuth, 4007),
            (Reason::RegisterUnauthorized, 4010),
            (Reason::Draining, 1001),
            (Reason::ProtocolError, 1002),
            (Reason::BadUtf8, 1007),
            (Reason::MessageTooBig, 1009),
            (Reason::TooManyDialBacks, 4000),
        ] {
            assert_eq!(reason.close_code(), Some(code), "{reason:?}");
        }
        assert_eq!(Reason::PingTimeout.close_code(), None);
    }

    #[test]
    fn the_closes_are_those_of_the_pair_contract() {
        for (reason, code, text) in [
            (Reason::MalformedJson, 1008, "malformed_json"),
            (Reason::MalformedMessage, 1008, "malformed_message"),
            (Reason::UnknownMessageType, 1008, "unknown_message_type"),
            (Reason::OriginNotAllowed, 1008, "origin_not_allowed"),
            (Reason::ServerAtCapacity, 1011, "server_at_capacity"),
            (Reason::SessionJoinFailed, 1008, "session_join_failed"),
            (Reason::SessionExpired, 1000, "session expired"),
            (Reason::SessionsRateLimited, 1008, "rate_limited"),
        ] {
            assert_eq!((reason.close_code(), reason.close_text()), (Some(code), text));
        }
    }
    #[test]
    fn the_closes_are_those_of_the_workspace_contract() {
        for (reason, text) in [
            (Reason::MissingWorkspaceClaim, "missing workspace claim"),
            (Reason::WorkspaceClaimMismatch, "workspace claim mismatch"),
            (Reason::RuntimeTargetClaimMismatch, "runtime target claim mismatch"),
            (Reason::InvalidScopeClaim, "invalid scope claim"),
            (Reason::MissingRuntimeTargetClaim, "missing runtime target claim"),
            (Reason::StaleDaemonGeneration, "stale daemon generation"),
            (Reason::DaemonAlreadyConnected, "daemon already connected"),
            (Reason::SessionEventsScopeRequired, "session-events scope required"),
            (Reason::PairingScopeOnly, "pairing scope only"),
            (Reason::RuntimeScopeOnly, "runtime scope only"),
            (Reason::ClientProfileMismatch, "client frame profile mismatch"),
            (Reason::DaemonProfileMismatch, "daemon frame profile mismatch"),
            (Reason::KeyExchangeRateLimited, "key exchange rate limit exceeded"),
            (Reason::RuntimeRateLimited, "runtime rate limit exceeded"),
            (Reason::PairingRateLimited, "pairing rate limit exceeded"),
            (Reason::PresenceRateLimited, "presence rate limit exceeded"),
            (Reason::DaemonRateLimited, "daemon rate limit exceeded"),
            (Reason::WorkerRateLimited, "worker rate limit exceeded"),
            (Reason::BufferOverflow, "buffer overflow"),
        ] {
            assert_eq!((reason.close_code(), reason.close_text()), (Some(4008), text));
        }
        assert_eq!(Reason::FrameTooLarge.close_code(), Some(1009));
        assert_eq!(Reason::FrameTooLarge.close_text(), "frame too large");
        assert_eq!(Reason::WorkspaceIdle.close_code(), None, "the socket is dropped");
    }
}
