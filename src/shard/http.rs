//! Connections before the upgrade: accepting, request heads, plain requests, and the upgrade itself.

use std::net::{IpAddr, SocketAddr};

use super::{
    Shard, Stage,
    alive::{ACCEPT_REST, ALARM_ACCEPT},
    conn::{Conn, Due, Guest, State},
    gather::Inquiry,
    operator::{self, Reading},
};
use crate::{
    config::StatsAccess,
    dialect::{
        Dialects, Event, Kind, Opening,
        pages::{Facts, JSON, Page},
        workspace::Asked,
    },
    driver::Driver,
    id::ConnId,
    limits::{CLOSE_TIMEOUT, HEAD_BYTES_MAX},
    proto::http::{self, Head, Upgrade},
    reason::Reason,
    timers::Alarm,
};

impl<D: Driver> Shard<D> {
    pub(super) fn on_accepted(&mut self, id: ConnId, peer: SocketAddr) {
        self.counters.accepted += 1;
        let ip = peer.ip();
        self.conns.insert(id, Conn::new(id, ip, self.now.at));
        // The bounds of its IP come first: who has all it may have cannot, by asking again and again, displace
        // others or hold a place of all for a moment. Behind a proxy the peer is known only from the head.
        if !self.shared.settings.trust_proxy && !self.count_ip(id, ip) {
            return self.refuse(id, Reason::TooManyConnectionsPerIp);
        }
        if !self.begin_handshake(id, ip) {
            return self.refuse(id, Reason::TooManyHandshakesPerIp);
        }
        if !self.take_place(id) {
            return self.refuse(id, Reason::TooManyConnections);
        }
        let stopping = self.stage == Stage::Stopping;
        self.arm(
            id,
            Due::Head,
            if stopping { CLOSE_TIMEOUT / 2 } else { self.shared.settings.handshake_timeout },
        );
        self.rearm(id);
    }

    pub(super) fn on_accept_failed(&mut self, error: i32) {
        self.counters.accept_failures += 1;
        if self.counters.accept_failures.is_power_of_two() {
            let times = self.counters.accept_failures;
            tracing::warn!(
                shard = self.number,
                error,
                times,
                "accepting failed: out of descriptors or memory; raise LimitNOFILE"
            );
        }
        self.timers.arm(self.now.at + ACCEPT_REST, Alarm::Shard(ALARM_ACCEPT));
    }

    /// Counts the connection for its IP; `false` is over the bound.
    fn count_ip(&mut self, id: ConnId, ip: IpAddr) -> bool {
        if !self.shared.count_ip(ip) {
            return false;
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.counted = true;
            conn.ip = ip;
        }
        true
    }

    /// Answers the requests that are unread, up to an incomplete one, an upgrade or the end, or until its answers are
    /// not taken.
    pub(super) fn serve(&mut self, id: ConnId) {
        while let Some(conn) = self.conns.get_mut(id) {
            let (State::Head, Some(unread)) = (conn.state, conn.unread.as_mut()) else { return };
            if self.driver.queued(id) > ANSWERS_BYTES_HIGH {
                self.counters.stalls += 1;
                return;
            }
            let parsed = http::parse(unread.bytes());
            match parsed {
                Ok(None) => return,
                Ok(Some(mut head)) => {
                    let bytes = unread.bytes();
                    let asked = Self::is_knock(&self.dialects, &head).then(|| {
                        let settings = self.shared.policy.workspace_gate().settings();
                        Asked::read(&bytes[..head.len], settings.query_tokens)
                    });
                    let is_named = asked.is_some() || name_page(&self.dialects, &mut head);
                    let visit = match operator::read(&self.shared, &self.dialects, &head, bytes) {
                        Reading::Incomplete => return,
                        Reading::Other => None,
                        Reading::Visit(visit) => Some(visit),
                    };
                    let (_, start) = unread.parts();
                    unread.advance_to(start + head.len);
                    if unread.len() == 0 {
                        conn.unread = None;
                    }
                    self.end_handshake(id);
                    match (asked, visit) {
                        _ if !is_named => self.refuse_head(id, Reason::BadHead),
                        (Some(asked), _) => self.answer_knock(id, &head, asked),
                        (None, Some(visit)) => self.answer_visit(id, &head, visit),
                        (None, None) => self.answer_head(id, head),
                    }
                }
                Err(reason) => {
                    self.end_handshake(id);
                    self.refuse_head(id, reason);
                }
            }
            self.carry_out();
        }
    }

    /// Answers a head that is wrong. The workspace contract has nothing but the status said.
    fn refuse_head(&mut self, id: ConnId, reason: Reason) {
        self.counters.refused.count(reason);
        let status = if reason == Reason::HeadTooLarge { 431 } else { 400 };
        let is_bare = self.dialects.only() == Some(Kind::Workspace);
        let (headers, body): (&[&str], &[u8]) =
            if is_bare { (&[], b"") } else { (&[JSON], br#"{"error":"bad_request"}"#) };
        self.respond(id, status, headers, body, false, false);
    }

    /// Whether a request is an upgrade that the workspace dialect has to answer: whatever no other dialect does. What
    /// asks for another protocol is a plain request anywhere but at the dialect's own path.
    fn is_knock(dialects: &Dialects, head: &Head) -> bool {
        if !dialects.serves(Kind::Workspace)
            || !matches!(dialects.of_path(&head.path), None | Some(Kind::Workspace))
        {
            return false;
        }
        match head.upgrade {
            Upgrade::None => false,
            Upgrade::Other => path_of(head).as_deref() == Some(Kind::Workspace.path()),
            Upgrade::WebSocket { .. } | Upgrade::WrongVersion | Upgrade::Malformed => true,
        }
    }

    fn answer_knock(&mut self, id: ConnId, head: &Head, asked: Asked) {
        self.counters.http_requests += 1;
        // Being counted may put another address in the place of the socket's.
        let Some(peer) = self.conns.get(id).map(|conn| conn.ip) else { return };
        if self.is_counted(id, head) {
            self.on_knock(id, peer, asked)
        } else {
            self.refuse(id, Reason::TooManyConnectionsPerIp)
        }
    }

    /// Behind a proxy a connection is counted for the IP that its head names; `false` is over the bound.
    fn is_counted(&mut self, id: ConnId, head: &Head) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        if !self.shared.settings.trust_proxy || conn.counted {
            return true;
        }
        let ip = head.forwarded_for.unwrap_or(conn.ip);
        self.count_ip(id, ip)
    }

    fn answer_head(&mut self, id: ConnId, mut head: Head) {
        self.counters.http_requests += 1;
        if matches!(head.upgrade, Upgrade::None | Upgrade::Other) {
            if self.dialects.serves(Kind::Workspace) {
                // The workspace contract's paths are those of a WHATWG URL parser; target and Host have to make a URL.
                let Some(path) = path_of(&head) else {
                    self.counters.refused.count(Reason::BadHead);
                    return self.respond(id, 400, &[JSON], br#"{"error":"bad_request"}"#, false, false);
                };
                head.path = path;
            }
            return self.answer_plain(id, &head);
        }
        let Some(kind) = self.dialects.of_path(&head.path) else {
            return self.respond(id, 404, &[], b"", false, false);
        };
        match &head.upgrade {
            Upgrade::WrongVersion => self.respond(
                id,
                426,
                &["Sec-WebSocket-Version: 13", JSON],
                br#"{"error":"bad_version"}"#,
                false,
                false,
            ),
            Upgrade::WebSocket { accept } if self.stage == Stage::Running && !self.shared.is_draining() => {
                self.upgrade(id, kind, &head, accept);
            }
            Upgrade::WebSocket { .. } => {
                self.counters.refused.count(Reason::Draining);
                self.respond(id, 503, &["Retry-After: 1", JSON], br#"{"error":"draining"}"#, false, false);
            }
            Upgrade::Malformed | Upgrade::None | Upgrade::Other => {
                self.counters.refused.count(Reason::BadHead);
                self.respond(id, 400, &[JSON], br#"{"error":"bad_request"}"#, false, false);
            }
        }
    }

    fn upgrade(&mut self, id: ConnId, kind: Kind, head: &Head, accept: &str) {
        let trust_proxy = self.shared.settings.trust_proxy;
        if !self.is_counted(id, head) {
            return self.refuse(id, Reason::TooManyConnectionsPerIp);
        }
        let Some(conn) = self.conns.get(id) else { return };
        let ip = head.forwarded_for.filter(|_| trust_proxy).unwrap_or(conn.ip);
        let mut response = Vec::with_capacity(160);
        http::switch_protocols(&mut response, accept, None);
        self.driver.send_bytes(id, &response);
        self.counters.upgrades += 1;
        self.counters.websockets += 1;
        let manners = self.shared.settings.manners(kind);
        let opening = Opening {
            ip,
            host: head.host.clone().into_boxed_str(),
            origin: head.origin.as_deref().filter(|_| manners.wants_origin).map(Box::from),
            ticket: None,
            moves: 0,
        };
        let now = self.now.at;
        let interval = manners.ping_interval;
        let ping_at = self.first_ping_at(interval);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.state = State::Open;
        conn.kind = kind;
        conn.ip = ip;
        conn.ping_at = ping_at;
        conn.guest =
            Some(Box::new(Guest { opening: opening.clone(), opened_at: now, moving: None, visit: None }));
        self.arm_alive(id);
        self.tell(kind, Event::Opened { conn: id, opening });
        self.carry_out();
        self.go_on(id);
    }

    fn answer_plain(&mut self, id: ConnId, head: &Head) {
        let head_only = head.method == "HEAD";
        // A body is not read: the connection ends with the answer.
        let keep_alive = head.keep_alive && head.body_len == Some(0);
        // The workspace contract knows no HEAD.
        let knows_head = self.dialects.only() != Some(Kind::Workspace) || head.path == "/ready";
        let readable = head.method == "GET" || head_only && knows_head;
        match head.path.as_str() {
            "/ready" if readable => {
                let ready = !self.shared.is_draining() && self.stage == Stage::Running;
                let stalled = !self.shared.stalled(self.now.at).is_empty();
                let (status, body): (u16, &[u8]) = match (ready, stalled) {
                    (true, false) => (200, br#"{"status":"ready"}"#),
                    (true, true) => (503, br#"{"status":"stalled"}"#),
                    (false, _) => (503, br#"{"status":"draining"}"#),
                };
                self.respond(id, status, &[JSON], body, keep_alive, head_only);
            }
            "/v1/stats" if readable && self.dialects.serves(Kind::Link) && self.may_see_stats(id) => {
                self.ask_all(id, Inquiry::Stats, Answer { keep_alive, head_only })
            }
            path => match self.dialects.page(path, &self.facts()).filter(|_| readable) {
                Some(page) => self.answer_page(id, &page, Answer { keep_alive, head_only }),
                None => {
                    let body = self.dialects.not_found().as_bytes();
                    self.respond(id, 404, &[JSON], body, keep_alive, head_only);
                }
            },
        }
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            uptime: self.now.at.since(self.shared.started_at),
            sessions: self.shared.policy.sessions(),
            metrics: self.shared.settings.pair_metrics,
            site: &self.shared.operator.site,
        }
    }

    fn may_see_stats(&self, id: ConnId) -> bool {
        match self.shared.settings.stats {
            StatsAccess::Public => true,
            StatsAccess::Loopback => self.conns.get(id).is_some_and(|conn| conn.ip.is_loopback()),
            StatsAccess::Off => false,
        }
    }

    /// The gathered answer of a request that had to wait.
    pub(super) fn answer_request(&mut self, id: ConnId, page: &Page) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.state != State::Answering {
            return;
        }
        let answer = conn.answer;
        self.answer_page(id, page, answer);
        self.go_on(id);
    }

    pub(super) fn answer_page(&mut self, id: ConnId, page: &Page, answer: Answer) {
        let (headers, body) = ([page.content_type], page.body.as_bytes());
        self.respond(id, 200, &headers, body, answer.keep_alive, answer.head_only);
    }

    /// Answers a request; the connection then waits for the next one or lingers.
    pub(super) fn respond(
        &mut self,
        id: ConnId,
        status: u16,
        headers: &[&str],
        body: &[u8],
        keep_alive: bool,
        head_only: bool,
    ) {
        let keep_alive = keep_alive && self.stage == Stage::Running;
        let mut response = Vec::with_capacity(256 + body.len());
        http::respond(&mut response, status, headers, body, keep_alive, head_only);
        self.driver.send_bytes(id, &response);
        let Some(conn) = self.conns.get_mut(id) else { return };
        if keep_alive {
            conn.state = State::Head;
            self.arm(id, Due::Head, self.shared.settings.handshake_timeout);
        } else {
            self.linger(id);
        }
    }

    /// Ends our side; what the peer still sends is read and dropped until it ends its own.
    pub(super) fn linger(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.state = State::Lingering;
        conn.unread = None;
        self.driver.shut_down(id);
        // Closing with bytes unread would reset the connection and could take the response with it.
        self.arm(id, Due::Close, CLOSE_TIMEOUT);
        self.rearm(id);
    }
}

/// Gives a plain request the path that the workspace contract sees in it, where that is served; `false` where it sees
/// none.
fn name_page(dialects: &Dialects, head: &mut Head) -> bool {
    if !dialects.serves(Kind::Workspace) || !matches!(head.upgrade, Upgrade::None | Upgrade::Other) {
        return true;
    }
    path_of(head).map(|path| head.path = path).is_some()
}

/// The path as a WHATWG URL parser sees it.
fn path_of(head: &Head) -> Option<String> {
    let host = if head.host.is_empty() { "localhost" } else { &head.host };
    http::resolve(host, &head.path).map(|url| url.path().to_owned())
}

/// How the waiting request is to be answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    /// Whether the connection stays open for another request.
    pub keep_alive: bool,
    /// Whether the body is left out.
    pub head_only: bool,
}

/// Above so much of its answers that a client has not taken, it gets no further ones and is not read. So it has that
/// much and one answer waiting for it, whatever it asks.
pub(super) const ANSWERS_BYTES_HIGH: usize = HEAD_BYTES_MAX;
