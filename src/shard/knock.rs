//! Upgrades of the workspace dialect, from their heads to the 101 (workspace.md sections 3 and 4).
//!
//! The shard that accepted one reads it, reserves its place, and sends it to its workspace's shard; only there is
//! the platform asked. Meanwhile the connection is not read: what its peer sends early stays in the kernel, or with
//! the bytes that came with the head, and is processed in order after the 101. Its hang-up is still seen, and frees
//! everything; an answer that comes later finds nobody.
//!
//! The place is given back by whoever has the upgrade: this module until the dialect is told that the connection is
//! open, the dialect from then on.

use std::net::IpAddr;

use super::{
    Shard, Stage,
    conn::{Due, Errand, Guest, Moving, State},
};
use crate::{
    admission::WorkspaceGate,
    dialect::{
        Event, Kind, Opening, Policy,
        workspace::{Answer, Ask, Asked, Claims, Denied, Knock, Metric, Refusal, Role, Ticket},
    },
    driver::Driver,
    id::ConnId,
    limits::ADMISSION_GRACE,
    proto::http,
    reason::Reason,
};

/// An upgrade that waits for its 101. It has a place of the gate.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    knock: Knock,
    /// The client's address, which need not be an IP address.
    ip: Box<str>,
}

impl<D: Driver> Shard<D> {
    /// Takes in an upgrade that was read, on a socket of `peer`.
    pub(super) fn on_knock(&mut self, id: ConnId, peer: IpAddr, asked: Asked) {
        let ip = self.gate().client_of(peer, asked.forwarded_for.as_deref());
        match self.check(&ip, asked.knock) {
            Ok(knock) => self.let_wait(id, Visit { knock, ip }),
            Err(refusal) => {
                if refusal == Refusal::NoUrl {
                    let error = "the target and the Host make no URL";
                    tracing::error!(target: LOG, event = "upgrade_error", ip = &*ip, error);
                }
                self.turn_away(id, refusal);
            }
        }
    }

    /// The checks of section 3.1 in their order, as far as they can be made here. Takes a place.
    fn check(&self, ip: &str, knock: Result<Knock, Refusal>) -> Result<Knock, Refusal> {
        if self.stage != Stage::Running || self.shared.is_draining() {
            return Err(Refusal::Draining);
        }
        let gate = self.gate();
        gate.charge(ip, self.now.at)?;
        match knock {
            Ok(knock) => gate.enter(ip, knock.request.role).map(|()| knock),
            Err(refusal) => gate.has_place(ip).and(Err(refusal)),
        }
    }

    fn let_wait(&mut self, id: ConnId, visit: Visit) {
        let home = self.dialects.workspace.as_ref().map(|of| of.home(&visit.knock.request.workspace_id));
        let shard = home.unwrap_or(self.number);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let opening = Opening { ip: conn.ip, host: "".into(), origin: None, ticket: None, moves: 0 };
        let moving = (shard != self.number).then_some(Moving { shard, errand: Errand::Upgrade });
        let is_home = moving.is_none();
        conn.state = State::Admitting;
        conn.kind = Kind::Workspace;
        conn.guest =
            Some(Box::new(Guest { opening, opened_at: self.now.at, moving, visit: Some(Box::new(visit)) }));
        self.await_admission(id);
        if is_home {
            self.ask_admission(id);
        }
    }

    /// Arms what ends the waiting if nothing else does.
    pub(super) fn await_admission(&mut self, id: ConnId) {
        let span = self.gate().settings().admission_timeout + ADMISSION_GRACE;
        self.arm(id, Due::Admission, span);
    }

    /// At home: looks for room in the scope and asks the platform.
    pub(super) fn ask_admission(&mut self, id: ConnId) {
        if self.stage != Stage::Running {
            return self.turn_away(id, Refusal::Draining);
        }
        let Some(visit) = self.conns.get_mut(id).and_then(|conn| conn.visit_mut()) else { return };
        let request = visit.knock.request.clone();
        let has_room = |workspace: &crate::dialect::workspace::Workspace| workspace.has_room(&request);
        if request.role == Role::Client && !self.dialects.workspace.as_ref().is_some_and(has_room) {
            return self.turn_away(id, Refusal::ScopeFull);
        }
        let token = std::mem::take(&mut visit.knock.token);
        self.ask(id, Ask::Admit { token, request });
    }

    /// The platform's answer, if the upgrade is still there to hear it.
    pub(super) fn on_admitted(&mut self, id: ConnId, outcome: Result<Box<Claims>, Denied>) {
        let Some(visit) = self.conns.get(id).and_then(|conn| conn.visit()) else { return };
        match outcome {
            Err(Denied { status, reason }) => {
                let request = &visit.knock.request;
                tracing::warn!(
                    target: LOG,
                    event = "admission_denied",
                    role = request.role.name(),
                    workspaceId = &*request.workspace_id,
                    reason,
                    status,
                    ip = &*visit.ip,
                );
                self.turn_away(id, Refusal::Denied);
            }
            Ok(claims) => {
                self.count(Metric::AdmissionOk);
                if self.stage == Stage::Running && !self.shared.is_draining() {
                    self.open_admitted(id, *claims);
                } else {
                    self.turn_away(id, Refusal::Draining);
                }
            }
        }
    }

    fn open_admitted(&mut self, id: ConnId, claims: Claims) {
        let now = self.now.at;
        let ping_at = self.first_ping_at(self.shared.settings.manners(Kind::Workspace).ping_interval);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some(guest) = conn.guest.as_mut() else { return };
        let Some(visit) = guest.visit.take() else { return };
        let Visit { knock, ip } = *visit;
        guest.opened_at = now;
        guest.opening.ticket = Some(Box::new(Ticket { request: knock.request, claims, ip }));
        let opening = guest.opening.clone();
        conn.state = State::Open;
        conn.ping_at = ping_at;
        conn.active_at = now;
        let mut response = Vec::with_capacity(160);
        http::switch_protocols(&mut response, &knock.accept, knock.protocol.as_deref());
        self.driver.send_bytes(id, &response);
        self.counters.upgrades += 1;
        self.counters.websockets += 1;
        self.arm_alive(id);
        self.tell(Kind::Workspace, Event::Opened { conn: id, opening });
        self.carry_out();
        self.go_on(id);
    }

    /// Nobody answered in time.
    pub(super) fn on_admission_due(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.is_moving()) {
            self.turn_away(id, Refusal::Overloaded);
        } else {
            let reason = "the platform's answer did not come back".to_owned();
            self.on_admitted(id, Err(Denied { status: 504, reason }));
        }
    }

    /// Refuses an upgrade with what the contract says, and counts it.
    pub(super) fn turn_away(&mut self, id: ConnId, refusal: Refusal) {
        self.leave_place(id);
        if let Some(guest) = self.conns.get_mut(id).and_then(|conn| conn.guest.as_mut()) {
            // It may stand in line for a full post.
            guest.moving = None;
        }
        if let Some(metric) = refusal.metric() {
            self.count(metric);
        }
        self.counters.refused.count(refusal.reason());
        self.driver.send_bytes(id, refusal.response().as_bytes());
        self.linger(id);
    }

    /// Gives back the place of an upgrade that comes to nothing.
    pub(super) fn leave_place(&mut self, id: ConnId) {
        if let Some(visit) = self.conns.get_mut(id).and_then(|conn| conn.guest.as_mut()?.visit.take()) {
            self.shared.policy.leave_workspace_place(&visit.ip, visit.knock.request.role);
        }
    }

    /// Takes an answer of the platform to whoever asked.
    pub(super) fn on_answer(&mut self, id: ConnId, answer: Answer) {
        match (self.conns.get(id).map(|conn| conn.state), answer) {
            (Some(State::Admitting), Answer::Admitted(outcome)) => self.on_admitted(id, outcome),
            (Some(State::Open), answer @ Answer::Forwarded { .. }) => {
                self.tell(Kind::Workspace, Event::Answer { conn: id, answer });
            }
            _ => self.counters.stale += 1,
        }
    }

    /// Counts one for the workspace dialect.
    pub(super) fn count(&mut self, metric: Metric) {
        let now = self.now.at;
        if let Some(workspace) = &mut self.dialects.workspace {
            workspace.count(metric, now);
        }
    }

    fn gate(&self) -> &WorkspaceGate {
        self.shared.policy.workspace_gate()
    }

    /// How a close that the relay decides on ends an upgrade that waits.
    pub(super) fn close_admitting(&mut self, id: ConnId, reason: Reason) {
        let stopping = reason == Reason::Draining;
        self.turn_away(id, if stopping { Refusal::Draining } else { Refusal::Overloaded });
    }
}

/// Where entries of the contract's log go (workspace.md section 21).
const LOG: &str = "longsplice::relay";
