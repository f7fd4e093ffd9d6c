//! A worker's requests to the platform: what may be asked, and what goes out (workspace.md section 9).

use super::{
    Answer, Ask, Details, Message, Method, Metric, Response, Workspace,
    fault::Fault,
    frames::{self, WorkerRequest},
    note::clip,
    seats::{Member, OpenRequest, Seat, Standing, Worker},
    statuses::Status,
};
use crate::{
    dialect::{
        Action, Cx,
        json::{each_member, string},
        text::{quote, well_formed},
    },
    id::ConnId,
    reason::Reason,
};

impl Workspace {
    pub(super) fn on_worker_message(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        message: &Message<'_>,
    ) -> Result<(), Fault> {
        let Some(Seat { workspace_id, ip, .. }) = self.seats.get(conn) else { return Ok(()) };
        let workspace_id = workspace_id.clone();
        if !self.limiters.daemons.take(&workspace_id, cx.now.at) {
            let details =
                Details { workspace_id: Some(workspace_id), ip: Some(ip.clone()), ..Details::default() };
            return Err(Fault::counted(Metric::FramesDaemonRateLimited)
                .note("worker_frame_rate_limited", details)
                .close(Reason::WorkerRateLimited));
        }
        self.check_size(message)?;
        let Some(request) = frames::worker(message.text) else {
            let details = Details {
                workspace_id: Some(workspace_id),
                reason: Some("invalid_worker_transport_frame"),
                ..Details::default()
            };
            return Err(Fault::counted(Metric::FramesDaemonRejected).note("worker_frame_rejected", details));
        };
        let Some(worker) = self.worker_mut(conn) else { return Ok(()) };
        let request_id = quote(&request.request_id);
        if !worker.path.as_deref().is_some_and(|allowed| is_below(&request.path, allowed)) {
            let answer = own_answer(&request_id, 403, "WORKER_TRANSPORT_PATH_DENIED");
            return Err(Fault::counted(Metric::WorkerTransportRejected).answer(answer));
        }
        let path = target(&request.path);
        let open = OpenRequest { request_id: request_id.clone(), method: request.method, path: clip(&path) };
        let is_full = worker.open.len() >= WORKER_REQUESTS_MAX || self.open_requests >= SHARD_REQUESTS_MAX;
        if is_full {
            return Err(self.forward_failed(conn, &open, "too many requests are open"));
        }
        let ask = Ask::Forward {
            request_id,
            method: request.method,
            path,
            headers: headers(&request),
            body: body(request),
        };
        let Some(worker) = self.worker_mut(conn) else { return Ok(()) };
        worker.open.push(open);
        self.open_requests += 1;
        cx.actions.push(Action::Ask { conn, ask });
        Ok(())
    }

    /// The platform's answer to a worker's request.
    pub(super) fn on_answer(&mut self, cx: &mut Cx<'_>, conn: ConnId, answer: Answer) -> Result<(), Fault> {
        // Whether an upgrade is admitted is answered before its connection opens.
        let Answer::Forwarded { request_id, outcome } = answer else { return Ok(()) };
        let Some(worker) = self.worker_mut(conn) else { return Ok(()) };
        let position = worker.open.iter().position(|open| open.request_id == request_id);
        let Some(position) = position else { return Ok(()) };
        let open = worker.open.remove(position);
        self.open_requests -= 1;
        match outcome {
            Ok(response) => {
                self.counters.add(Metric::WorkerTransportForwarded, 1, cx.now.at);
                let status = Status::WorkerResponse { request_id: &request_id, response: &response };
                cx.actions.push(Action::Send { conn, text: status.to_string() });
                Ok(())
            }
            Err(error) => Err(self.forward_failed(conn, &open, &error)),
        }
    }

    fn forward_failed(&self, conn: ConnId, open: &OpenRequest, error: &str) -> Fault {
        let seat = self.seats.get(conn);
        let executor_id = seat.and_then(|seat| match &seat.standing {
            Standing::Member { member: Member::Worker(worker), .. } => worker.executor_id.clone(),
            _ => None,
        });
        let details = Details {
            workspace_id: seat.map(|seat| seat.workspace_id.clone()),
            managed_executor_id: executor_id,
            method: Some(open.method.name()),
            path: Some(open.path.clone()),
            error: Some(error.into()),
            ..Details::default()
        };
        Fault::counted(Metric::WorkerTransportForwardFailed)
            .note("worker_transport_forward_failed", details)
            .answer(own_answer(&open.request_id, 502, "WORKER_TRANSPORT_FORWARD_FAILED"))
    }

    fn worker_mut(&mut self, conn: ConnId) -> Option<&mut Worker> {
        match &mut self.seats.get_mut(conn)?.standing {
            Standing::Member { member: Member::Worker(worker), .. } => Some(worker),
            _ => None,
        }
    }
}

/// What the paths of an executor's requests are or begin with.
pub(super) fn path_prefix(workspace_id: &str, executor_id: &str) -> String {
    let (workspace_id, executor_id) = (uri_component(workspace_id), uri_component(executor_id));
    format!("/api/runtime/workspaces/{workspace_id}/managed-executors/{executor_id}")
}

/// ECMAScript's URI component encoding.
fn uri_component(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Whether a path is `allowed` or below it, also once it is resolved as a URL.
fn is_below(path: &[u8], allowed: &str) -> bool {
    let Some(rest) = path.strip_prefix(allowed.as_bytes()) else { return false };
    (rest.is_empty() || rest.starts_with(b"/")) && !wanders(path)
}

/// Whether what stands before the query holds a segment that is resolved away, plain or encoded, or anything that a URL
/// parser drops or takes for a slash.
fn wanders(path: &[u8]) -> bool {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    let path = &path[..end];
    if path.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control()) {
        return true;
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, behind @ ..] = rest {
        (rest, _) = match rest {
            [b'%', b'2', b'e' | b'E', behind @ ..] => (behind, plain.push(b'.')),
            [b'%', b'2', b'f' | b'F', behind @ ..] => (behind, plain.push(b'/')),
            [b'%', b'5', b'c' | b'C', behind @ ..] => (behind, plain.push(b'/')),
            _ => (behind, plain.push(*first)),
        };
    }
    plain.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b".."))
}

/// The path and query that are asked for, without the fragment.
fn target(path: &[u8]) -> String {
    let end = path.iter().position(|byte| *byte == b'#').unwrap_or(path.len());
    well_formed(path[..end].into())
}

/// The worker's headers that are passed on, names in lower case.
fn headers(request: &WorkerRequest<'_>) -> Vec<(String, String)> {
    let mut values: [Option<String>; HEADERS.len()] = [const { None }; HEADERS.len()];
    if let Some(raw) = request.headers {
        let look = |name: &str, value: &str| {
            let Some(name) = string(name) else { return };
            let allowed = HEADERS.iter().position(|allowed| allowed.as_bytes().eq_ignore_ascii_case(&name));
            if let (Some(position), Some(value)) = (allowed, string(value)) {
                values[position] = Some(well_formed(value));
            }
        };
        each_member(raw, look).expect("it was checked to be an object");
    }
    let named = HEADERS.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
    named.collect()
}

/// The bytes that the worker signed.
fn body(request: WorkerRequest<'_>) -> Option<String> {
    (request.method != Method::Get).then(|| request.body.map(well_formed).unwrap_or_default())
}

/// An answer that is not the platform's.
fn own_answer(request_id: &str, status: u16, reason: &str) -> String {
    let response = Response {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: format!(r#"{{"ok":false,"reason":"{reason}"}}"#),
    };
    Status::WorkerResponse { request_id, response: &response }.to_string()
}

/// The headers that a worker may send.
const HEADERS: [&str; 11] = [
    "authorization",
    "accept",
    "content-type",
    "x-viewport-run-lease",
    "x-viewport-assignment-claim",
    "x-viewport-worker-fingerprint",
    "x-viewport-worker-timestamp",
    "x-viewport-worker-nonce",
    "x-viewport-worker-body-sha256",
    "x-viewport-worker-signature",
    "x-viewport-server-id",
];
/// Requests of one worker that may be open at once. A worker gives up on each after 60 s.
const WORKER_REQUESTS_MAX: usize = 64;
/// Requests of all workers of a shard that may be open at once.
const SHARD_REQUESTS_MAX: usize = 1024;
