//! What every entry of the log has to name (workspace.md section 21).

use super::super::{Details, Note};

type Named = fn(&Details) -> bool;

const WORKSPACE: Named = |details| details.workspace_id.is_some();
const CLIENT: Named = |details| details.client_id.is_some();
const EXECUTOR: Named = |details| details.managed_executor_id.is_some();
const IP: Named = |details| details.ip.is_some();
const REASON: Named = |details| details.reason.is_some();
const ERROR: Named = |details| details.error.is_some();
const REQUEST: Named = |details| details.request_id.is_some();

/// Panics unless an entry has the details that its event never lacks.
pub(super) fn check(note: &Note) {
    let never_lacks: &[Named] = match note.event {
        "admission_denied" => &[WORKSPACE, IP, REASON, |details| details.role.is_some()],
        "connection_rejected" | "client_connection_rejected" | "daemon_connection_rejected" => {
            &[WORKSPACE, IP, REASON]
        }
        "client_connected" | "client_disconnected" => &[WORKSPACE, CLIENT, IP],
        "daemon_connected" => &[WORKSPACE, IP],
        "daemon_disconnected" => &[WORKSPACE, IP, |details| details.cleared_current_daemon.is_some()],
        "worker_connected" | "worker_disconnected" => &[WORKSPACE, IP],
        "client_ws_error" => &[WORKSPACE, CLIENT, IP, ERROR],
        "daemon_ws_error" => &[WORKSPACE, IP, ERROR],
        "ws_terminated" => &[REASON],
        "client_frame_rejected" | "client_frame_rate_limited" | "client_message_dropped" => {
            &[WORKSPACE, CLIENT, REASON]
        }
        "daemon_frame_rejected" | "worker_frame_rejected" => &[WORKSPACE, REASON],
        "daemon_frame_rate_limited" | "worker_frame_rate_limited" => &[WORKSPACE, IP],
        "worker_transport_forward_failed" => &[
            WORKSPACE,
            EXECUTOR,
            ERROR,
            |details| details.method.is_some(),
            |details| details.path.is_some(),
        ],
        "key_exchange_response_owner_missing" => {
            &[WORKSPACE, REQUEST, |details| details.session_id.is_some()]
        }
        "pairing_response_owner_missing" => &[WORKSPACE, REQUEST],
        "workspace_evicted" => &[WORKSPACE],
        other => panic!("the contract has no {other}"),
    };
    assert!(never_lacks.iter().all(|has| has(&note.details)), "{note:?}");
}
