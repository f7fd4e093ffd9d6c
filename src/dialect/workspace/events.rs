//! Session events and viewer presence (workspace.md section 14).
//!
//! A subscription only puts a socket into a set: event frames come over a bus, and their past is the platform's to
//! tell. Presence goes to who is in the set at the moment; nothing of it is kept.

use super::{Message, Metric, client::Speaker, fault::Fault, frames::ClientKind, statuses::Status};
use crate::{
    dialect::{Action, Cx, text::trim},
    reason::Reason,
};

impl Speaker<'_> {
    pub(super) fn say_of_session_events(
        &mut self,
        cx: &mut Cx<'_>,
        kind: ClientKind<'_>,
        message: &Message<'_>,
    ) -> Result<(), Fault> {
        match kind {
            ClientKind::Subscribe { channel, after_sequence } => {
                let channel = trim(&channel);
                self.check_channel(channel)?;
                self.scope.subscribe(channel, self.conn);
                self.tell(cx, Metric::SessionEventSubscribed, Status::Subscribed { channel, after_sequence });
            }
            ClientKind::Unsubscribe { channel } => {
                let channel = trim(&channel);
                self.check_channel(channel)?;
                self.scope.unsubscribe(channel, self.conn);
                self.tell(cx, Metric::SessionEventUnsubscribed, Status::Unsubscribed { channel });
            }
            ClientKind::Presence { channel } => self.be_present(cx, trim(&channel), message)?,
            ClientKind::Envelope | ClientKind::KeyExchangeInit { .. } | ClientKind::Pairing { .. } => {
                unreachable!(
                    "a client for session events does not get past the check of its scope with these"
                )
            }
        }
        Ok(())
    }

    fn be_present(&mut self, cx: &mut Cx<'_>, channel: &[u8], message: &Message<'_>) -> Result<(), Fault> {
        let workspace_id = self.workspace_id;
        if !self.client.may_hear(channel) {
            let answer = Status::PresenceDenied { channel, workspace_id }.to_string();
            return Err(Fault::counted(Metric::SessionViewerPresenceRejected).answer(answer));
        }
        if !self.limiters.take_runtime(&self.client.runtime_key, workspace_id, cx.now.at) {
            return Err(
                Fault::counted(Metric::SessionViewerPresenceRateLimited).close(Reason::PresenceRateLimited)
            );
        }
        let peers = self.scope.subscribers(channel).iter().copied().filter(|peer| *peer != self.conn);
        let to: Vec<_> = peers.collect();
        if to.is_empty() {
            self.counters.add(Metric::SessionViewerPresenceNoPeers, 1, cx.now.at);
        } else {
            self.counters.add(Metric::SessionViewerPresenceFanned, to.len() as u64, cx.now.at);
            message.fan_out(cx, to);
        }
        Ok(())
    }

    fn check_channel(&self, channel: &[u8]) -> Result<(), Fault> {
        if self.client.may_hear(channel) {
            return Ok(());
        }
        let answer = Status::SubscribeDenied { channel, workspace_id: self.workspace_id }.to_string();
        Err(Fault::counted(Metric::SessionEventSubscribeRejected).answer(answer))
    }

    fn tell(&mut self, cx: &mut Cx<'_>, metric: Metric, status: Status<'_>) {
        self.counters.add(metric, 1, cx.now.at);
        cx.actions.push(Action::Send { conn: self.conn, text: status.to_string() });
    }
}
