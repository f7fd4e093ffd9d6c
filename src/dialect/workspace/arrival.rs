//! Who may stay, and what a registration and its end do (workspace.md section 5).

use std::time::Duration;

use super::{
    Alarm, Claims, Details, Metric, Note, Request, Role, Scope, Ticket, Workspace,
    frames::CHANNEL_PREFIX,
    seats::{Client, Daemon, Member, Seat, Standing, Worker},
    statuses::Status,
    worker,
};
use crate::{
    dialect::{
        Action, Cx, Opening,
        text::{trim, trim_str},
    },
    id::ConnId,
    reason::Reason,
    timers::TimerId,
};

/// Why a connection may not stay.
#[derive(Debug)]
struct Refusal {
    reason: Reason,
    event: &'static str,
    details: Box<Details>,
}

impl Refusal {
    fn new(reason: Reason, event: &'static str, log: &'static str) -> Refusal {
        Refusal { reason, event, details: Box::new(Details { reason: Some(log), ..Details::default() }) }
    }
}

impl Workspace {
    pub(super) fn on_opened(&mut self, cx: &mut Cx<'_>, conn: ConnId, opening: Opening) {
        self.keep_ticking(cx);
        let ticket =
            opening.ticket.expect("a connection of this dialect opens with what it was admitted with");
        let Ticket { request, claims, ip } = *ticket;
        let standing = match self.judge(&request, &claims) {
            Ok(target) => {
                let target = target.map(Box::from);
                self.register(cx, conn, &request, claims, target, &ip)
            }
            Err(refusal) => {
                self.refuse(cx, conn, &request, refusal, &ip);
                Standing::Refused
            }
        };
        let Request { role, workspace_id, .. } = request;
        self.seats.open(conn, Seat { role, ip, workspace_id, standing });
    }

    /// The checks of section 5.1 in their order; the effective runtime target of who passes them.
    fn judge<'a>(&self, request: &'a Request, claims: &'a Claims) -> Result<Option<&'a str>, Refusal> {
        let (any, client, daemon) =
            ("connection_rejected", "client_connection_rejected", "daemon_connection_rejected");
        let Some(workspace_id) = non_blank(&claims.workspace_id) else {
            return Err(Refusal::new(Reason::MissingWorkspaceClaim, any, "missing_workspace_claim"));
        };
        if *workspace_id != *request.workspace_id {
            let mut refusal = Refusal::new(Reason::WorkspaceClaimMismatch, any, "workspace_claim_mismatch");
            refusal.details.claimed_workspace_id = Some(workspace_id.into());
            return Err(refusal);
        }
        let requested = request.runtime_target_id.as_deref();
        let claimed = non_blank(&claims.runtime_target_id);
        if requested.is_some() && requested != claimed {
            let log = "runtime_target_claim_mismatch";
            let mut refusal = Refusal::new(Reason::RuntimeTargetClaimMismatch, any, log);
            refusal.details.requested_runtime_target_id = requested.map(Box::from);
            refusal.details.claimed_runtime_target_id = claimed.map(Box::from);
            return Err(refusal);
        }
        if request.role == Role::Client && claims.scope.is_none() {
            return Err(Refusal::new(Reason::InvalidScopeClaim, client, "invalid_scope_claim"));
        }
        // The claim, else what was asked for: which without a claim was refused above.
        let target = claimed;
        let needs_target = match request.role {
            Role::Daemon => true,
            Role::Client => claims.scope != Some(Scope::Pairing),
            Role::Worker => false,
        };
        if target.is_none() && needs_target {
            return Err(Refusal::new(Reason::MissingRuntimeTargetClaim, any, "missing_runtime_target_claim"));
        }
        let scope = self.scopes.find(&request.workspace_id, target);
        if let (Role::Daemon, Some(scope)) = (request.role, scope) {
            let (claim, latest) = (claims.daemon_issue_generation, scope.generation);
            if claim.zip(latest).is_some_and(|(claim, latest)| claim < latest) {
                let log = "stale_daemon_issue_generation";
                let mut refusal = Refusal::new(Reason::StaleDaemonGeneration, daemon, log);
                refusal.details.claim_generation = claim;
                refusal.details.latest_generation = latest;
                return Err(refusal);
            }
            if scope.daemon.is_some() {
                return Err(Refusal::new(Reason::DaemonAlreadyConnected, daemon, "daemon_already_connected"));
            }
        }
        Ok(target)
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, conn: ConnId, request: &Request, refusal: Refusal, ip: &str) {
        let Refusal { reason, event, details } = refusal;
        self.counters.add(Metric::WsConnectionsRejected, 1, cx.now.at);
        let details = Details {
            workspace_id: Some(request.workspace_id.clone()),
            ip: Some(ip.into()),
            role: Some(request.role.name()),
            ..*details
        };
        cx.actions.push(Action::Note(Note::warn(event, details)));
        if reason == Reason::MissingRuntimeTargetClaim {
            let text = Status::RuntimeTargetRequired { workspace_id: &request.workspace_id }.to_string();
            cx.actions.push(Action::Send { conn, text });
        }
        if reason == Reason::DaemonAlreadyConnected {
            // A refused daemon comes again at once: held back, it does so once a second.
            super::arm(cx, cx.now.at + HOLD_BACK, Alarm::Dismiss(conn));
        } else {
            cx.actions.push(Action::Close { conn, reason });
        }
    }

    /// The time of a held back refusal is over.
    pub(super) fn on_dismiss(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if let Some(Seat { standing: Standing::Refused, .. }) = self.seats.get(conn) {
            cx.actions.push(Action::Close { conn, reason: Reason::DaemonAlreadyConnected });
        }
    }

    fn register(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        request: &Request,
        claims: Claims,
        target: Option<Box<str>>,
        ip: &str,
    ) -> Standing {
        let workspace_id = &*request.workspace_id;
        let (key, scope) = self.scopes.reach(workspace_id, target.as_deref(), &self.config, cx.now);
        scope.active_at = cx.now;
        let machine_id = non_blank(&claims.machine_id).map(Box::from);
        let member = match request.role {
            Role::Daemon => {
                scope.seat_daemon(conn, claims.daemon_issue_generation);
                Member::Daemon(Daemon { profile: claims.e2ee_profile, machine_id })
            }
            Role::Client => {
                scope.clients.push(conn);
                let client_id = claims.client_id.unwrap_or_else(|| "client_unknown".into());
                let channels = claims.session_channels.iter().map(|channel| trim(channel.as_bytes()));
                Member::Client(Client {
                    scope: claims.scope.expect("a client without a scope is refused"),
                    profile: claims.e2ee_profile,
                    machine_id,
                    // No workspace id holds a line break, so keys of different workspaces differ.
                    runtime_key: format!("{workspace_id}\n{client_id}").into(),
                    address_key: format!("{workspace_id}\n{client_id}\n{ip}").into(),
                    client_id,
                    channels: channels
                        .filter(|channel| channel.starts_with(CHANNEL_PREFIX))
                        .map(Box::from)
                        .collect(),
                })
            }
            Role::Worker => {
                let executor_id = non_blank(&claims.managed_executor_id).map(Box::from);
                let path = executor_id.as_deref().map(|id| worker::path_prefix(workspace_id, id).into());
                Member::Worker(Worker { executor_id, path, open: Vec::new() })
            }
        };
        self.members += usize::from(request.role != Role::Worker);
        self.counted = true;
        self.counters.add(Metric::WsConnectionsOpened, 1, cx.now.at);
        let (event, _) = events_of(&member);
        let details = describe(&member, workspace_id, target.as_deref(), ip);
        cx.actions.extend([Action::Settle { conn }, Action::Note(Note::info(event, details))]);
        let expiry = claims.exp.filter(|_| self.config.close_on_expiry);
        Standing::Member { scope: key, member, expiry: expiry.map(|exp| arm_expiry(cx, conn, exp)) }
    }

    /// The connection's token is over its time.
    pub(super) fn on_expiry(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if let Some(Seat { standing: Standing::Member { expiry, .. }, .. }) = self.seats.get_mut(conn) {
            *expiry = None;
            cx.actions.push(Action::Close { conn, reason: Reason::TokenExpired });
        }
    }

    pub(super) fn on_closed(&mut self, cx: &mut Cx<'_>, conn: ConnId, reason: Reason) {
        let Some(Seat { role, ip, workspace_id, standing }) = self.seats.take(conn) else { return };
        cx.policy.leave_workspace_place(&ip, role);
        let Standing::Member { scope, member, expiry } = standing else { return };
        if let Some(timer) = expiry {
            cx.timers.cancel(timer);
        }
        self.members -= usize::from(role != Role::Worker);
        self.counters.add(Metric::WsConnectionsClosed, 1, cx.now.at);
        let scope = self.scopes.get_mut(scope);
        let target = scope.as_ref().and_then(|scope| scope.runtime_target_id.clone());
        let (_, event) = events_of(&member);
        if let Some(note) = fault_of(&member, &workspace_id, &ip, reason) {
            cx.actions.push(Action::Note(note));
        }
        let mut details = describe(&member, &workspace_id, target.as_deref(), &ip);
        match (&member, scope) {
            (Member::Daemon(_), Some(scope)) => {
                details.cleared_current_daemon = Some(scope.forget_daemon(conn));
                scope.active_at = cx.now;
            }
            (Member::Client(client), Some(scope)) => {
                scope.forget_client(conn, &client.channels);
                scope.active_at = cx.now;
            }
            (Member::Worker(worker), _) => self.open_requests -= worker.open.len(),
            (_, None) => debug_assert!(false, "a record with a daemon or a client is kept"),
        }
        cx.actions.push(Action::Note(Note::info(event, details)));
    }
}

/// What the log calls the registration of a member, and its end.
fn events_of(member: &Member) -> (&'static str, &'static str) {
    match member {
        Member::Daemon(_) => ("daemon_connected", "daemon_disconnected"),
        Member::Client(_) => ("client_connected", "client_disconnected"),
        Member::Worker(_) => ("worker_connected", "worker_disconnected"),
    }
}

/// What the log says of a daemon or a client that broke the protocol.
fn fault_of(member: &Member, workspace_id: &str, ip: &str, reason: Reason) -> Option<Box<Note>> {
    let error = match reason {
        Reason::ProtocolError => "invalid WebSocket frame",
        Reason::BadUtf8 => "invalid UTF-8 in a text message",
        Reason::MessageTooBig => "message over the limit",
        _ => return None,
    };
    let (event, client_id) = match member {
        Member::Daemon(_) => ("daemon_ws_error", None),
        Member::Client(client) => ("client_ws_error", Some(client.client_id.clone())),
        Member::Worker(_) => return None,
    };
    let (workspace_id, ip, error) = (Some(workspace_id.into()), Some(ip.into()), Some(error.into()));
    Some(Note::warn(event, Details { workspace_id, client_id, ip, error, ..Details::default() }))
}

fn describe(member: &Member, workspace_id: &str, target: Option<&str>, ip: &str) -> Details {
    let details =
        Details { workspace_id: Some(workspace_id.into()), ip: Some(ip.into()), ..Details::default() };
    match member {
        Member::Daemon(daemon) => Details {
            runtime_target_id: target.map(Box::from),
            machine_id: daemon.machine_id.clone(),
            ..details
        },
        Member::Client(client) => Details { client_id: Some(client.client_id.clone()), ..details },
        Member::Worker(worker) => Details { managed_executor_id: worker.executor_id.clone(), ..details },
    }
}

fn arm_expiry(cx: &mut Cx<'_>, conn: ConnId, exp: i64) -> TimerId {
    let left = u64::try_from(exp).unwrap_or(0).saturating_mul(1000).saturating_sub(cx.now.unix_ms);
    super::arm(cx, cx.now.at + Duration::from_millis(left), Alarm::Expiry(conn))
}

/// A claim, trimmed, unless nothing is left of it.
fn non_blank(claim: &Option<Box<str>>) -> Option<&str> {
    claim.as_deref().map(trim_str).filter(|claim| !claim.is_empty())
}

/// How long a second daemon waits for its refusal.
const HOLD_BACK: Duration = Duration::from_secs(1);
