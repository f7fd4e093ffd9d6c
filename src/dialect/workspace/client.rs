//! A client's messages, in the order of workspace.md section 11.1.

use super::{
    Counters, Details, Message, Metric, Profile, Scope as Claim, Workspace,
    fault::Fault,
    frames::{self, ClientKind},
    limiters::Limiters,
    scope::Scope,
    seats::{Client, Member, Seat, Standing},
    statuses::Status,
};
use crate::{
    dialect::{Cx, text::trim},
    id::ConnId,
    reason::Reason,
};

/// A client that has said something, and what its words may change.
pub(super) struct Speaker<'a> {
    pub(super) conn: ConnId,
    pub(super) workspace_id: &'a str,
    pub(super) client: &'a Client,
    pub(super) scope: &'a mut Scope,
    pub(super) limiters: &'a mut Limiters,
    pub(super) counters: &'a mut Counters,
}

impl Workspace {
    pub(super) fn on_client_message(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        message: &Message<'_>,
    ) -> Result<(), Fault> {
        self.check_size(message)?;
        let Workspace { seats, scopes, limiters, counters, .. } = self;
        let Some(Seat { workspace_id, standing, .. }) = seats.get(conn) else { return Ok(()) };
        let Standing::Member { scope, member: Member::Client(client), .. } = standing else {
            return Ok(());
        };
        let Some(scope) = scopes.get_mut(*scope) else { return Ok(()) };
        Speaker { conn, workspace_id, client, scope, limiters, counters }.say(cx, message)
    }
}

impl Speaker<'_> {
    fn say(&mut self, cx: &mut Cx<'_>, message: &Message<'_>) -> Result<(), Fault> {
        let now = cx.now.at;
        let Some(frame) = frames::client(message.text) else {
            let answer = Status::InvalidFrame { workspace_id: self.workspace_id }.to_string();
            let fault = self.rejected(Metric::FramesClientRejected, "invalid_client_frame");
            return Err(fault.answer(answer));
        };
        self.check_scope(&frame.kind)?;
        if self.client.scope == Claim::SessionEvents {
            return self.say_of_session_events(cx, frame.kind, message);
        }
        self.check_profile(frame.profile)?;
        match frame.kind {
            ClientKind::KeyExchangeInit { request_id } => {
                if !self.limiters.key_exchanges.take(&self.client.address_key, now) {
                    let details = self.details("kex_rate_limit");
                    return Err(Fault::counted(Metric::FramesClientKexRateLimited)
                        .note("client_frame_rate_limited", details)
                        .close(Reason::KeyExchangeRateLimited));
                }
                let request_id = trim(&request_id);
                if !request_id.is_empty() {
                    self.scope.key_exchanges.insert(request_id, self.conn, now);
                }
            }
            ClientKind::Envelope => {
                if !self.limiters.take_runtime(&self.client.runtime_key, self.workspace_id, now) {
                    return Err(Fault::counted(Metric::FramesClientRuntimeRateLimited)
                        .close(Reason::RuntimeRateLimited));
                }
            }
            ClientKind::Pairing { request_id } => {
                if !self.limiters.pairings.take(&self.client.address_key, now) {
                    return Err(Fault::counted(Metric::FramesClientPairingRateLimited)
                        .close(Reason::PairingRateLimited));
                }
                self.scope.pairings.insert(trim(&request_id), self.conn, now);
            }
            ClientKind::Subscribe { .. } | ClientKind::Unsubscribe { .. } | ClientKind::Presence { .. } => {
                unreachable!("only a client for session events gets past the check of its scope with these")
            }
        }
        let Some(daemon) = self.scope.daemon else { return Err(self.undeliverable()) };
        self.counters.add(Metric::FramesClientToDaemon, 1, now);
        self.counters.add(Metric::BytesClientToDaemon, message.text.len() as u64, now);
        message.forward(cx, daemon);
        Ok(())
    }

    /// Steps 3 to 7: whether a client of this scope may say this.
    fn check_scope(&self, kind: &ClientKind<'_>) -> Result<(), Fault> {
        let is_of_session_events = matches!(
            kind,
            ClientKind::Subscribe { .. } | ClientKind::Unsubscribe { .. } | ClientKind::Presence { .. }
        );
        let is_pairing = matches!(kind, ClientKind::Pairing { .. });
        let rejected = |reason| self.rejected(Metric::FramesClientRejectedScope, reason);
        match self.client.scope {
            Claim::SessionEvents if !is_of_session_events => {
                let answer = Status::SessionEventsScopeOnly { workspace_id: self.workspace_id }.to_string();
                Err(rejected("scope_mismatch_session_events_only").answer(answer))
            }
            Claim::Runtime | Claim::Pairing if is_of_session_events => {
                Err(rejected("scope_mismatch_runtime_or_pairing_only")
                    .close(Reason::SessionEventsScopeRequired))
            }
            Claim::Pairing if !is_pairing => {
                Err(rejected("scope_mismatch_pairing_only").close(Reason::PairingScopeOnly))
            }
            Claim::Runtime if is_pairing => {
                Err(rejected("scope_mismatch_runtime_only").close(Reason::RuntimeScopeOnly))
            }
            _ => Ok(()),
        }
    }

    /// Step 8: a profile that a message names is exactly the claimed one.
    fn check_profile(&self, got: Option<Profile>) -> Result<(), Fault> {
        match (self.client.profile, got) {
            (Some(expected), Some(got)) if got != expected => {
                let details = Details {
                    expected_profile: Some(expected.name()),
                    got_profile: Some(got.name()),
                    ..self.details("profile_mismatch")
                };
                Err(Fault::counted(Metric::FramesClientRejectedProfileMismatch)
                    .note("client_frame_rejected", details)
                    .close(Reason::ClientProfileMismatch))
            }
            _ => Ok(()),
        }
    }

    /// Section 15: no daemon is here. Other relays are not asked for one.
    fn undeliverable(&self) -> Fault {
        let (answer, details) = match self.scope.runtime_target_id.as_deref() {
            None => (
                Status::RuntimeTargetRequired { workspace_id: self.workspace_id },
                self.details("missing_runtime_target"),
            ),
            Some(runtime_target_id) => (
                Status::DaemonUnavailable {
                    workspace_id: self.workspace_id,
                    runtime_target_id,
                    machine_id: self.client.machine_id.as_deref(),
                },
                Details {
                    runtime_target_id: Some(runtime_target_id.into()),
                    machine_id: self.client.machine_id.clone(),
                    ..self.details("daemon_unavailable")
                },
            ),
        };
        Fault::counted(Metric::ClientMessagesDropped)
            .note("client_message_dropped", details)
            .answer(answer.to_string())
    }

    fn rejected(&self, metric: Metric, reason: &'static str) -> Fault {
        Fault::counted(metric).note("client_frame_rejected", self.details(reason))
    }

    fn details(&self, reason: &'static str) -> Details {
        Details {
            workspace_id: Some(self.workspace_id.into()),
            client_id: Some(self.client.client_id.clone()),
            reason: Some(reason),
            ..Details::default()
        }
    }
}
