//! A daemon's messages, in the order of workspace.md section 11.2, and to whom they go (section 12).

use super::{
    Counters, Details, Message, Metric, Note, Workspace,
    fault::Fault,
    frames::{self, DaemonKind},
    note::clip,
    scope::Scope,
    seats::{Member, Seat, Standing},
};
use crate::{
    dialect::{
        Action, Cx,
        text::{trim, well_formed},
    },
    id::ConnId,
    reason::Reason,
};

impl Workspace {
    pub(super) fn on_daemon_message(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        message: &Message<'_>,
    ) -> Result<(), Fault> {
        let now = cx.now.at;
        let Some(Seat { workspace_id, ip, standing, .. }) = self.seats.get(conn) else { return Ok(()) };
        let Standing::Member { scope, member: Member::Daemon(daemon), .. } = standing else {
            return Ok(());
        };
        let (scope, claimed) = (*scope, daemon.profile);
        let details = |reason| Details {
            workspace_id: Some(workspace_id.clone()),
            reason: Some(reason),
            ..Details::default()
        };
        if !self.limiters.daemons.take(workspace_id, now) {
            let details = Details {
                workspace_id: Some(workspace_id.clone()),
                ip: Some(ip.clone()),
                ..Details::default()
            };
            return Err(Fault::counted(Metric::FramesDaemonRateLimited)
                .note("daemon_frame_rate_limited", details)
                .close(Reason::DaemonRateLimited));
        }
        self.check_size(message)?;
        let Some(frame) = frames::daemon(message.text) else {
            return Err(Fault::counted(Metric::FramesDaemonRejected)
                .note("daemon_frame_rejected", details("invalid_daemon_frame")));
        };
        // A stronger profile than the claimed one is fine.
        if claimed.zip(frame.profile).is_some_and(|(claimed, got)| got < claimed) {
            return Err(Fault::counted(Metric::FramesDaemonRejectedProfileMismatch)
                .note("daemon_frame_rejected", details("profile_mismatch"))
                .close(Reason::DaemonProfileMismatch));
        }
        let Some(scope) = self.scopes.get_mut(scope) else { return Ok(()) };
        Router { scope, counters: &mut self.counters }.route(cx, frame.kind, message);
        self.counters.add(Metric::FramesDaemonToClients, 1, now);
        self.counters.add(Metric::BytesDaemonToClients, message.text.len() as u64, now);
        Ok(())
    }
}

/// Finds who a daemon's message is for.
struct Router<'a> {
    scope: &'a mut Scope,
    counters: &'a mut Counters,
}

impl Router<'_> {
    fn route(&mut self, cx: &mut Cx<'_>, kind: DaemonKind<'_>, message: &Message<'_>) {
        let now = cx.now.at;
        let (to, delivered, dropped) = match kind {
            DaemonKind::Session { session_id } => (
                // The id as it came: the table has it trimmed.
                self.scope.sessions.refresh(&session_id, now),
                Metric::SessionFrameRoutedLocal,
                Metric::SessionFrameDropped,
            ),
            DaemonKind::KeyExchangeResponse { request_id, session_id } => (
                self.answer_key_exchange(cx, trim(&request_id), trim(&session_id)),
                Metric::KeyExchangeResponseRoutedLocal,
                Metric::KeyExchangeResponseDropped,
            ),
            DaemonKind::PairingResponse { request_id } => {
                let request_id = trim(&request_id);
                let owner = self.scope.pairings.take(request_id, now);
                if owner.is_none() {
                    self.note(cx, "pairing_response_owner_missing", request_id, None);
                }
                (owner, Metric::PairingResponseRoutedLocal, Metric::PairingResponseDropped)
            }
            DaemonKind::SessionEvent => {
                let details = Details {
                    workspace_id: Some(self.scope.workspace_id.clone()),
                    reason: Some("unroutable_daemon_frame"),
                    ..Details::default()
                };
                cx.actions.push(Action::Note(Note::warn("daemon_frame_rejected", details)));
                return;
            }
        };
        self.counters.add(if to.is_some() { delivered } else { dropped }, 1, now);
        if let Some(to) = to {
            message.forward(cx, to);
        }
    }

    /// The answer ends its request; who asked owns the session from now on.
    fn answer_key_exchange(
        &mut self,
        cx: &mut Cx<'_>,
        request_id: &[u8],
        session_id: &[u8],
    ) -> Option<ConnId> {
        if request_id.is_empty() || session_id.is_empty() {
            return None;
        }
        let owner = self.scope.key_exchanges.take(request_id, cx.now.at);
        match owner {
            Some(owner) => self.scope.sessions.insert(session_id, owner, cx.now.at),
            None => self.note(cx, "key_exchange_response_owner_missing", request_id, Some(session_id)),
        }
        owner
    }

    fn note(&self, cx: &mut Cx<'_>, event: &'static str, request_id: &[u8], session_id: Option<&[u8]>) {
        let text = |bytes: &[u8]| clip(&well_formed(bytes.into()));
        let details = Details {
            workspace_id: Some(self.scope.workspace_id.clone()),
            request_id: Some(text(request_id)),
            session_id: session_id.map(text),
            ..Details::default()
        };
        cx.actions.push(Action::Note(Note::warn(event, details)));
    }
}
