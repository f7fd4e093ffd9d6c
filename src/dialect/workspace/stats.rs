//! What the dialect counts, under the names of workspace.md section 20.
//!
//! A series exists from its first increment on and series are listed in the order of those, so each counter
//! remembers when it was first touched.

use crate::time::Time;

macro_rules! metrics {
    ($( $variant:ident = $name:literal, )+) => {
        /// A counter of workspace.md section 20.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)] // Each is named after its metric.
        pub enum Metric { $( $variant, )+ }

        impl Metric {
            /// Every metric, in the order of their numbers.
            pub const ALL: &[Metric] = &[$( Metric::$variant, )+];

            /// Its name in the exposition. Never changes: dashboards depend on it.
            pub fn name(self) -> &'static str {
                match self { $( Metric::$variant => $name, )+ }
            }
        }
    };
}

metrics! {
    AdminUnauthorized = "relay_admin_unauthorized_total",
    UpgradeRateLimited = "relay_upgrade_rate_limited_total",
    UpgradeRejectedTotalConnections = "relay_upgrade_rejected_total_connections_total",
    UpgradeRejectedIpConnections = "relay_upgrade_rejected_ip_connections_total",
    UpgradeRejectedWorkspaceClients = "relay_upgrade_rejected_workspace_clients_total",
    UpgradeInvalidQuery = "relay_upgrade_invalid_query_total",
    UpgradeMissingAuth = "relay_upgrade_missing_auth_total",
    UpgradeErrors = "relay_upgrade_errors_total",
    AdmissionOk = "relay_admission_ok_total",
    AdmissionDenied = "relay_admission_denied_total",
    ClientRedirect = "relay_client_redirect_total",
    WsConnectionsOpened = "relay_ws_connections_opened_total",
    WsConnectionsClosed = "relay_ws_connections_closed_total",
    WsConnectionsRejected = "relay_ws_connections_rejected_total",
    WsFrameTooLarge = "relay_ws_frame_too_large_total",
    WsSlowClientTerminated = "relay_ws_slow_client_terminated_total",
    WsIdleTerminated = "relay_ws_idle_terminated_total",
    WsStaleTerminated = "relay_ws_stale_terminated_total",
    WorkspaceEvictions = "relay_workspace_evictions_total",
    FramesClientToDaemon = "relay_frames_client_to_daemon_total",
    BytesClientToDaemon = "relay_bytes_client_to_daemon_total",
    FramesClientRejected = "relay_frames_client_rejected_total",
    FramesClientRejectedScope = "relay_frames_client_rejected_scope_total",
    FramesClientRejectedProfileMismatch = "relay_frames_client_rejected_profile_mismatch_total",
    FramesClientKexRateLimited = "relay_frames_client_kex_rate_limited_total",
    FramesClientRuntimeRateLimited = "relay_frames_client_runtime_rate_limited_total",
    FramesClientPairingRateLimited = "relay_frames_client_pairing_rate_limited_total",
    ClientMessagesDropped = "relay_client_messages_dropped_total",
    ClientMessagesRoutedBus = "relay_client_messages_routed_bus_total",
    FramesDaemonToClients = "relay_frames_daemon_to_clients_total",
    BytesDaemonToClients = "relay_bytes_daemon_to_clients_total",
    FramesDaemonRejected = "relay_frames_daemon_rejected_total",
    FramesDaemonRejectedProfileMismatch = "relay_frames_daemon_rejected_profile_mismatch_total",
    FramesDaemonRateLimited = "relay_frames_daemon_rate_limited_total",
    KeyExchangeResponseRoutedLocal = "relay_key_exchange_response_routed_local_total",
    KeyExchangeResponseRoutedBus = "relay_key_exchange_response_routed_bus_total",
    KeyExchangeResponseDropped = "relay_key_exchange_response_dropped_total",
    PairingResponseRoutedLocal = "relay_pairing_response_routed_local_total",
    PairingResponseRoutedBus = "relay_pairing_response_routed_bus_total",
    PairingResponseDropped = "relay_pairing_response_dropped_total",
    SessionFrameRoutedLocal = "relay_session_frame_routed_local_total",
    SessionFrameRoutedBus = "relay_session_frame_routed_bus_total",
    SessionFrameDropped = "relay_session_frame_dropped_total",
    SessionEventSubscribed = "relay_session_event_subscribed_total",
    SessionEventUnsubscribed = "relay_session_event_unsubscribed_total",
    SessionEventSubscribeRejected = "relay_session_event_subscribe_rejected_total",
    SessionEventFrameDelivered = "relay_session_event_frame_delivered_total",
    SessionEventFrameDropped = "relay_session_event_frame_dropped_total",
    SessionViewerPresenceFanned = "relay_session_viewer_presence_fanned_total",
    SessionViewerPresenceNoPeers = "relay_session_viewer_presence_no_peers_total",
    SessionViewerPresenceRejected = "relay_session_viewer_presence_rejected_total",
    SessionViewerPresenceRateLimited = "relay_session_viewer_presence_rate_limited_total",
    WorkerTransportForwarded = "relay_worker_transport_forwarded_total",
    WorkerTransportRejected = "relay_worker_transport_rejected_total",
    WorkerTransportForwardFailed = "relay_worker_transport_forward_failed_total",
    PresenceUpsertOk = "relay_presence_upsert_ok_total",
    PresenceUpsertFailed = "relay_presence_upsert_failed_total",
    PresenceResolveOk = "relay_presence_resolve_ok_total",
    PresenceResolveFailed = "relay_presence_resolve_failed_total",
    BusPublishOk = "relay_bus_publish_ok_total",
    BusPublishFailed = "relay_bus_publish_failed_total",
    BusPullOk = "relay_bus_pull_ok_total",
    BusPullFailed = "relay_bus_pull_failed_total",
    BusPullFrameTooLarge = "relay_bus_pull_frame_too_large_total",
    BusPullInvalidSignature = "relay_bus_pull_invalid_signature_total",
    BusPullStaleSignature = "relay_bus_pull_stale_signature_total",
    BusPullReplayedSignature = "relay_bus_pull_replayed_signature_total",
    BusFramesToDaemon = "relay_bus_frames_to_daemon_total",
    BusFramesToClients = "relay_bus_frames_to_clients_total",
    BusFramesDropped = "relay_bus_frames_dropped_total",
    BusFramesRejected = "relay_bus_frames_rejected_total",
    BusFramesDaemonRateLimited = "relay_bus_frames_daemon_rate_limited_total",
}

/// One shard's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    values: Box<[Count]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    value: u64,
    first: Time,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { values: Metric::ALL.iter().map(|_| Count { value: 0, first: Time(u64::MAX) }).collect() }
    }
}

impl Counters {
    /// Adds to a counter.
    pub fn add(&mut self, metric: Metric, by: u64, now: Time) {
        let count = &mut self.values[metric as usize];
        count.value += by;
        count.first = count.first.min(now);
    }

    /// A counter's value.
    pub fn value(&self, metric: Metric) -> u64 {
        self.values[metric as usize].value
    }

    /// Takes another shard's counters in.
    pub fn merge(&mut self, other: &Counters) {
        for (count, more) in self.values.iter_mut().zip(&other.values) {
            count.value += more.value;
            count.first = count.first.min(more.first);
        }
    }

    /// The counters that were ever added to, in the order of their first increments.
    pub fn touched(&self) -> Vec<(Metric, u64)> {
        let mut touched: Vec<(Time, Metric, u64)> = Metric::ALL
            .iter()
            .zip(&self.values)
            .filter(|(_, count)| count.first.0 != u64::MAX)
            .map(|(metric, count)| (count.first, *metric, count.value))
            .collect();
        touched.sort_by_key(|(first, metric, _)| (*first, *metric as u8));
        touched.into_iter().map(|(_, metric, value)| (metric, value)).collect()
    }
}
