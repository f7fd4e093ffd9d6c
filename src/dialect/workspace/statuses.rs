//! What the relay itself says (workspace.md sections 9 and 10): exact JSON.

use std::fmt;

use super::Response;
use crate::dialect::{json, text::quote};

/// A message of the relay. Channels are trimmed, and WTF-8 as [`crate::dialect::text`] has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Status<'a> {
    InvalidFrame {
        workspace_id: &'a str,
    },
    SessionEventsScopeOnly {
        workspace_id: &'a str,
    },
    DaemonUnavailable {
        workspace_id: &'a str,
        runtime_target_id: &'a str,
        machine_id: Option<&'a str>,
    },
    RuntimeTargetRequired {
        workspace_id: &'a str,
    },
    Subscribed {
        channel: &'a [u8],
        after_sequence: f64,
    },
    Unsubscribed {
        channel: &'a [u8],
    },
    SubscribeDenied {
        channel: &'a [u8],
        workspace_id: &'a str,
    },
    PresenceDenied {
        channel: &'a [u8],
        workspace_id: &'a str,
    },
    /// `request_id` is JSON.
    WorkerResponse {
        request_id: &'a str,
        response: &'a Response,
    },
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = |text: &str| quote(text.as_bytes());
        match *self {
            Status::InvalidFrame { workspace_id } => {
                let message = "client frame must be a valid runtime or pairing control frame";
                relay_status(f, "INVALID_FRAME", message, workspace_id)?;
            }
            Status::SessionEventsScopeOnly { workspace_id } => {
                let message =
                    "session-events scoped clients can only subscribe to authorized session event channels";
                relay_status(f, "SESSION_EVENTS_SCOPE_ONLY", message, workspace_id)?;
            }
            Status::DaemonUnavailable { workspace_id, runtime_target_id, machine_id } => {
                let message = "No machine runtime is connected for this runtime target";
                relay_status(f, "DAEMON_UNAVAILABLE", message, workspace_id)?;
                write!(f, r#","retryable":true,"runtimeTargetId":{}"#, json(runtime_target_id))?;
                if let Some(machine_id) = machine_id {
                    write!(f, r#","machineId":{}"#, json(machine_id))?;
                }
            }
            Status::RuntimeTargetRequired { workspace_id } => {
                let message = "Runtime client must specify a runtime target";
                relay_status(f, "RUNTIME_TARGET_REQUIRED", message, workspace_id)?;
                f.write_str(r#","retryable":false"#)?;
            }
            Status::Subscribed { channel, after_sequence } => {
                of_channel(f, "viewport.session_events.subscribed/v1", channel)?;
                write!(f, r#","afterSequence":{}"#, json::integer_text(after_sequence))?;
                f.write_str(
                    r#","authoritativeSource":"session_events","websocketRequiredForBackfill":false"#,
                )?;
            }
            Status::Unsubscribed { channel } => {
                of_channel(f, "viewport.session_events.unsubscribed/v1", channel)?;
            }
            Status::SubscribeDenied { channel, workspace_id } => {
                of_channel(f, "viewport.session_events.subscribe_denied/v1", channel)?;
                write!(f, r#","reason":"CHANNEL_NOT_AUTHORIZED","workspaceId":{}"#, json(workspace_id))?;
            }
            Status::PresenceDenied { channel, workspace_id } => {
                of_channel(f, "viewport.session_viewer_presence_denied/v1", channel)?;
                write!(f, r#","reason":"CHANNEL_NOT_AUTHORIZED","workspaceId":{}"#, json(workspace_id))?;
            }
            Status::WorkerResponse { request_id, response: Response { status, headers, body } } => {
                f.write_str(r#"{"type":"viewport.worker_transport.response/v1","#)?;
                write!(f, r#""requestId":{request_id},"status":{status},"headers":{{"#)?;
                for (index, (name, value)) in headers.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{}:{}", json(name), json(value))?;
                }
                write!(f, r#"}},"body":{}"#, json(body))?;
            }
        }
        f.write_str("}")
    }
}

/// A `relay_status`, open at its end.
fn relay_status(f: &mut fmt::Formatter<'_>, code: &str, message: &str, workspace_id: &str) -> fmt::Result {
    let workspace_id = quote(workspace_id.as_bytes());
    write!(f, r#"{{"type":"relay_status","code":"{code}","message":"{message}","workspaceId":{workspace_id}"#)
}

/// A message about a channel, open at its end.
fn of_channel(f: &mut fmt::Formatter<'_>, kind: &str, channel: &[u8]) -> fmt::Result {
    write!(f, r#"{{"type":"{kind}","channel":{}"#, quote(channel))
}
