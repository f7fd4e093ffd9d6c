//! The workspace protocol from all sides: daemons, clients of each scope and workers, with what they send and what the
//! relay says to them. No cryptography: whatever is encrypted may be any text.

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use super::{
    Cell, PATIENCE,
    end::{End, Heard},
    eventually,
    http::{Http, Response},
    peer::Peer,
    platform::{Platform, token_of},
    raw::{EXAMPLE_KEY, Raw},
    relay::{Relay, Setup, of_all_shards},
};

/// What the relay presents to the platform.
pub const INTERNAL_KEY: &str = "internal-key-of-the-tests";
/// What an operator presents to the relay.
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";
/// The runtime target that most scenarios use.
pub const TARGET: &str = "rt1";
/// The reason for the close of a connection the policy does not like.
pub const POLICY: u16 = 4008;

/// A relay that serves the workspace dialect alone, still to be configured: on the side of the developer (mode `dev`),
/// alone (backplane `single`), with its admin pages open to [`ADMIN_TOKEN`]. The platform has as long as all else
/// that is waited for: by itself two seconds, which a crowd on a busy machine can miss.
pub fn setup(cell: Cell, platform: &Platform) -> Setup {
    cell.setup()
        .env("LONGSPLICE_DIALECTS", "workspace")
        .env("SERVER_URL", platform.url())
        .env("RELAY_TLS", "0")
        .env("RELAY_MODE", "dev")
        .env("RELAY_BACKPLANE_MODE", "single")
        .env("RELAY_INTERNAL_KEY", INTERNAL_KEY)
        .env("RELAY_ENABLE_ADMIN_HTTP", "1")
        .env("RELAY_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("RELAY_ADMISSION_TIMEOUT_MS", PATIENCE.as_millis())
        .env("RELAY_UPGRADE_RATE_PER_MINUTE", "1000000")
        .env("RELAY_MAX_CONNECTIONS_PER_IP", "1000000")
}

/// A platform, and a relay with the defaults of [`setup`] that asks it.
pub fn start(cell: Cell) -> (Platform, Relay) {
    let platform = Platform::start();
    let relay = setup(cell, &platform).start();
    (platform, relay)
}

/// Somebody who connects: what the query says and what the token claims.
#[derive(Debug, Clone)]
pub struct Caller {
    query: Vec<(String, String)>,
    claims: Value,
}

impl Caller {
    fn new(role: &str, workspace: &str, target: Option<&str>) -> Caller {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let caller = Caller { query: Vec::new(), claims: json!({ "jti": format!("jti-{serial}") }) };
        let caller =
            caller.query("role", role).query("workspaceId", workspace).claim("workspaceId", workspace);
        match target {
            Some(target) => caller.query("runtimeTargetId", target).claim("runtimeTargetId", target),
            None => caller,
        }
    }

    /// The daemon of a runtime target.
    pub fn daemon(workspace: &str, target: &str) -> Caller {
        Caller::new("workspace-daemon", workspace, Some(target))
    }

    /// A browser that uses a runtime target.
    pub fn client(workspace: &str, target: &str, id: &str) -> Caller {
        Caller::new("client", workspace, Some(target)).claim("scope", "runtime").claim("clientId", id)
    }

    /// A browser that pairs with a runtime target.
    pub fn pairing(workspace: &str, target: &str, id: &str) -> Caller {
        Caller::new("client", workspace, Some(target)).claim("scope", "pairing").claim("clientId", id)
    }

    /// A browser that follows session events.
    pub fn viewer(workspace: &str, target: &str, id: &str, channels: &[&str]) -> Caller {
        let caller = Caller::new("client", workspace, Some(target)).claim("scope", "session-events");
        caller.claim("clientId", id).claim("sessionChannels", channels)
    }

    /// A worker of an executor.
    pub fn worker(workspace: &str, executor: &str) -> Caller {
        Caller::new("worker", workspace, None).claim("managedExecutorId", executor)
    }

    /// Sets a claim.
    pub fn claim(mut self, name: &str, value: impl Into<Claim>) -> Caller {
        self.claims[name] = value.into().0;
        self
    }

    /// Leaves a claim away.
    pub fn without_claim(mut self, name: &str) -> Caller {
        self.claims.as_object_mut().expect("claims are an object").remove(name);
        self
    }

    /// Sets a parameter of the query, percent-encoded by the caller.
    pub fn query(mut self, name: &str, value: &str) -> Caller {
        self.query.retain(|(known, _)| known != name);
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a parameter of the query away.
    pub fn without_query(mut self, name: &str) -> Caller {
        self.query.retain(|(known, _)| known != name);
        self
    }

    /// The token.
    pub fn token(&self) -> String {
        token_of(&self.claims)
    }

    /// Path and query.
    pub fn path(&self) -> String {
        let pairs: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("/ws?{}", pairs.join("&"))
    }

    /// The head of a correct upgrade, with further header lines, each ended by CR LF.
    pub fn head_with(&self, further: &str) -> String {
        head(&self.path(), &format!("Authorization: Bearer {}\r\n{further}", self.token()))
    }

    /// The head of a correct upgrade.
    pub fn head(&self) -> String {
        self.head_with("")
    }

    /// Connects; the relay must upgrade.
    pub fn call(&self, relay: &Relay) -> Peer {
        let bearer = format!("Bearer {}", self.token());
        Peer::at(relay.dial(), relay, &self.path(), &[("Authorization", &bearer)])
    }

    /// Connects by a peer made of bytes; the relay must upgrade.
    pub fn call_raw(&self, relay: &Relay) -> Raw {
        Raw::upgraded(self.ask(relay))
    }

    /// Like [`Caller::call_raw`], with small socket buffers.
    pub fn call_narrow(&self, relay: &Relay) -> Raw {
        let mut http = Http::over(relay.dial_narrow());
        http.write(self.head().as_bytes());
        Raw::upgraded(http)
    }

    /// Asks for an upgrade and leaves the answer to be read.
    pub fn ask(&self, relay: &Relay) -> Http {
        let mut http = Http::over(relay.dial());
        http.write(self.head().as_bytes());
        http
    }

    /// Every byte of the answer to an upgrade that must be refused.
    pub fn refusal(&self, relay: &Relay) -> String {
        refusal(relay, &self.head())
    }
}

/// What a claim may be.
pub struct Claim(Value);

impl From<&str> for Claim {
    fn from(text: &str) -> Claim {
        Claim(text.into())
    }
}

impl From<u64> for Claim {
    fn from(number: u64) -> Claim {
        Claim(number.into())
    }
}

impl From<&[&str]> for Claim {
    fn from(list: &[&str]) -> Claim {
        Claim(json!(list))
    }
}

impl From<Value> for Claim {
    fn from(value: Value) -> Claim {
        Claim(value)
    }
}

/// The head of an upgrade on a path, with further header lines, each ended by CR LF.
pub fn head(path: &str, further: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: relay.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {EXAMPLE_KEY}\r\n{further}\r\n"
    )
}

/// Every byte that answers a request head, until the stream ends; an upgrade fails the test.
pub fn refusal(relay: &Relay, head: &str) -> String {
    let mut stream = relay.dial();
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let _ = stream.write_all(head.as_bytes());
    until_end(&mut stream)
}

/// Every byte until the stream ends or breaks; an upgrade fails the test.
pub fn until_end(stream: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => {
                panic!("the stream does not end: {error}; so far {:?}", String::from_utf8_lossy(&bytes))
            }
        }
        assert!(!bytes.starts_with(b"HTTP/1.1 101"), "upgraded instead of refused");
    }
    String::from_utf8(bytes).expect("a refusal is text")
}

/// An admin page, as an operator gets it.
pub fn page(relay: &Relay, path: &str) -> Response {
    let mut http = Http::connect(relay.address);
    let authorization = format!("Authorization: Bearer {ADMIN_TOKEN}");
    http.write(format!("GET {path} HTTP/1.1\r\nHost: relay.test\r\n{authorization}\r\n\r\n").as_bytes());
    http.response().expect("an answer")
}

/// A counter of the dialect; zero where it has not been counted yet. From the admin port: the page on the public one
/// does not say which shards it leaves out.
pub fn counted(relay: &Relay, name: &str) -> u64 {
    relay.metrics().sum_if_any(name) as u64
}

/// Waits until a counter of the dialect has this value.
pub fn until_counted(relay: &Relay, name: &str, value: u64) {
    let mut last = 0;
    let deadline = std::time::Instant::now() + PATIENCE;
    while last != value {
        last = counted(relay, name);
        assert!(std::time::Instant::now() < deadline, "{name} is {last}, not {value}");
    }
}

/// The records of `/state`.
pub fn scopes(relay: &Relay) -> Vec<Value> {
    let state = of_all_shards(|| page(relay, "/state").json());
    state["workspaces"].as_array().expect("a list").clone()
}

/// Waits until `/state` shows this many clients in all scopes of a workspace.
pub fn until_clients(relay: &Relay, workspace: &str, count: u64) {
    eventually(&format!("{count} clients in {workspace}"), || {
        let clients = |scope: &Value| scope["clientCount"].as_u64().expect("a count");
        scopes_of(relay, workspace).iter().map(clients).sum::<u64>() == count
    });
}

/// Waits until `/state` shows a daemon in one of the scopes of a workspace, or in none.
pub fn until_daemon(relay: &Relay, workspace: &str, connected: bool) {
    eventually(&format!("daemonConnected is {connected} in {workspace}"), || {
        scopes_of(relay, workspace).iter().any(|scope| scope["daemonConnected"] == true) == connected
    });
}

/// A workspace has one record for each target that its members named, and one for those that named none.
fn scopes_of(relay: &Relay, workspace: &str) -> Vec<Value> {
    scopes(relay).into_iter().filter(|scope| scope["workspaceId"] == workspace).collect()
}

/// Waits for an entry of the log that has this event and these details; gives its details.
pub fn until_logged(relay: &Relay, event: &str, details: &Value) -> Value {
    let mut last = Vec::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let entries = page(relay, "/logs").json()["logs"].as_array().expect("a list").clone();
        last.clear();
        for entry in entries.iter().filter(|entry| entry["event"] == event) {
            let wanted = details.as_object().expect("details are an object");
            if wanted.iter().all(|(key, value)| entry["details"][key] == *value) {
                return entry["details"].clone();
            }
            last.push(entry.clone());
        }
        assert!(std::time::Instant::now() < deadline, "no {event} with {details} among {last:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Waits for a message, which must be exactly this JSON.
pub fn expect_json(end: &mut impl End, expected: &Value) {
    match end.hear(PATIENCE) {
        Heard::Text(text) => {
            let same = serde_json::from_str::<Value>(&text).is_ok_and(|message| message == *expected);
            assert!(same, "expected {expected}, heard {text}");
        }
        other => panic!("expected {expected}, heard {other:?}"),
    }
}

/// Waits for a close by policy with this reason, whatever came before it.
pub fn expect_policy(end: &mut impl End, reason: &str) {
    match end.hear(PATIENCE) {
        Heard::Closed(POLICY, heard) => assert_eq!(heard, reason),
        other => panic!("expected to be closed {POLICY} {reason:?}, heard {other:?}"),
    }
}

/// A message that passes from one end to the other as it is.
pub fn passes(from: &mut impl End, message: &Value, to: &mut impl End) {
    let text = message.to_string();
    from.say(&text);
    to.expect_text(&text);
}

/// What peers send.
pub mod say {
    use super::{Value, json};

    /// A client begins a key exchange.
    pub fn init(request: &str) -> Value {
        json!({
            "type": "relay_key_exchange_init", "version": 3, "profile": "noise-ik", "requestId": request,
            "clientEphemeralPublicKey": "ephemeral", "encryptedClientStatic": "static",
        })
    }

    /// The daemon's answer to one, which names the session.
    pub fn response(request: &str, session: &str) -> Value {
        json!({
            "type": "relay_key_exchange_response", "version": 3, "profile": "noise-ik", "requestId": request,
            "daemonPublicKey": "public", "daemonEphemeralPublicKey": "ephemeral", "encryptedMetadata": "metadata",
            "sessionId": session, "proof": "proof", "epoch": 1,
        })
    }

    /// An envelope of a session, either way.
    pub fn envelope(session: &str, seq: u64) -> Value {
        json!({
            "type": "e2ee", "version": 2, "profile": "noise-ik", "sessionId": session, "epoch": 1, "seq": seq,
            "iv": "iv", "tag": "tag", "ciphertext": "ciphertext",
        })
    }

    /// The daemon wants new keys for a session.
    pub fn key_update(session: &str) -> Value {
        json!({
            "type": "relay_key_update_required", "sessionId": session, "nextEpoch": 2, "reason": "message_threshold",
        })
    }

    /// A client asks for a pairing offer.
    pub fn offer(request: &str) -> Value {
        json!({ "type": "relay_pairing_offer_request", "requestId": request, "clientChannelPublicKey": "key" })
    }

    /// The daemon's offer.
    pub fn offered(request: &str) -> Value {
        json!({
            "type": "relay_pairing_offer_response", "requestId": request, "ok": true,
            "daemonChannelPublicKey": "key", "encIv": "iv", "encTag": "tag", "encCiphertext": "text",
        })
    }

    /// A client redeems an offer.
    pub fn redeem(request: &str) -> Value {
        json!({
            "type": "relay_pairing_redeem_request", "requestId": request, "offerId": "offer",
            "encIv": "iv", "encTag": "tag", "encCiphertext": "text",
        })
    }

    /// The daemon's answer to that.
    pub fn redeemed(request: &str) -> Value {
        json!({ "type": "relay_pairing_redeem_response", "requestId": request, "ok": true })
    }

    /// A viewer subscribes to a channel.
    pub fn subscribe(channel: &str) -> Value {
        json!({ "type": "viewport.session_events.subscribe/v1", "channel": channel })
    }

    /// A viewer unsubscribes from a channel.
    pub fn unsubscribe(channel: &str) -> Value {
        json!({ "type": "viewport.session_events.unsubscribe/v1", "channel": channel })
    }

    /// A viewer says that it is there.
    pub fn presence(channel: &str, user: &str) -> Value {
        json!({
            "type": "viewport.session_viewer_presence/v1", "channel": channel, "action": "heartbeat", "userId": user,
        })
    }

    /// A worker asks something of the platform.
    pub fn transport(request: &str, method: &str, path: &str) -> Value {
        json!({
            "type": "viewport.worker_transport.request/v1", "requestId": request, "method": method, "path": path,
        })
    }
}

/// JSON text with its keys in this order, which [`Value`] would not keep.
pub fn ordered(fields: &[(&str, Value)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(key, value)| format!("{}:{value}", Value::from(*key))).collect();
    format!("{{{}}}", fields.join(","))
}

/// What the relay itself says, to the byte.
pub mod status {
    use super::{Value, json, ordered};

    fn relay_status(code: &str, message: &str, workspace: &str, further: &[(&str, Value)]) -> String {
        let first = [
            ("type", json!("relay_status")),
            ("code", json!(code)),
            ("message", json!(message)),
            ("workspaceId", json!(workspace)),
        ];
        ordered(&[&first[..], further].concat())
    }

    /// To a client whose frame is none.
    pub fn invalid_frame(workspace: &str) -> String {
        relay_status(
            "INVALID_FRAME",
            "client frame must be a valid runtime or pairing control frame",
            workspace,
            &[],
        )
    }

    /// To a viewer that sends anything else.
    pub fn scope_only(workspace: &str) -> String {
        let message = "session-events scoped clients can only subscribe to authorized session event channels";
        relay_status("SESSION_EVENTS_SCOPE_ONLY", message, workspace, &[])
    }

    /// To a client whose runtime target has no daemon.
    pub fn unavailable(workspace: &str, target: &str) -> String {
        unavailable_on(workspace, &[("runtimeTargetId", json!(target))])
    }

    /// To a client whose claims name a machine, too.
    pub fn unavailable_on_machine(workspace: &str, target: &str, machine: &str) -> String {
        unavailable_on(workspace, &[("runtimeTargetId", json!(target)), ("machineId", json!(machine))])
    }

    fn unavailable_on(workspace: &str, place: &[(&str, Value)]) -> String {
        let message = "No machine runtime is connected for this runtime target";
        let further = [&[("retryable", json!(true))][..], place].concat();
        relay_status("DAEMON_UNAVAILABLE", message, workspace, &further)
    }

    /// To a peer without a runtime target.
    pub fn target_required(workspace: &str) -> String {
        let message = "Runtime client must specify a runtime target";
        relay_status("RUNTIME_TARGET_REQUIRED", message, workspace, &[("retryable", json!(false))])
    }

    /// To a viewer that subscribed.
    pub fn subscribed(channel: &str, after: u64) -> String {
        ordered(&[
            ("type", json!("viewport.session_events.subscribed/v1")),
            ("channel", json!(channel)),
            ("afterSequence", json!(after)),
            ("authoritativeSource", json!("session_events")),
            ("websocketRequiredForBackfill", json!(false)),
        ])
    }

    /// To a viewer that unsubscribed.
    pub fn unsubscribed(channel: &str) -> String {
        ordered(&[("type", json!("viewport.session_events.unsubscribed/v1")), ("channel", json!(channel))])
    }

    /// To a viewer that asked for a channel which is not in its claims.
    pub fn subscribe_denied(channel: &str, workspace: &str) -> String {
        denied("viewport.session_events.subscribe_denied/v1", channel, workspace)
    }

    /// To a viewer that says to be in a channel which is not in its claims.
    pub fn presence_denied(channel: &str, workspace: &str) -> String {
        denied("viewport.session_viewer_presence_denied/v1", channel, workspace)
    }

    fn denied(kind: &str, channel: &str, workspace: &str) -> String {
        ordered(&[
            ("type", json!(kind)),
            ("channel", json!(channel)),
            ("reason", json!("CHANNEL_NOT_AUTHORIZED")),
            ("workspaceId", json!(workspace)),
        ])
    }

    /// To a worker whose request the relay itself answers.
    pub fn transport_refused(request: &str, status: u16, reason: &str) -> String {
        ordered(&[
            ("type", json!("viewport.worker_transport.response/v1")),
            ("requestId", json!(request)),
            ("status", json!(status)),
            ("headers", json!({ "content-type": "application/json" })),
            ("body", json!(ordered(&[("ok", json!(false)), ("reason", json!(reason))]))),
        ])
    }
}

/// A client and the daemon of its target, with a session between them.
pub struct Session {
    /// The daemon.
    pub daemon: Peer,
    /// The client that owns the session.
    pub client: Peer,
}

impl Session {
    /// A daemon and a client in a workspace, which agree on this session.
    pub fn new(relay: &Relay, workspace: &str, session: &str) -> Session {
        let mut daemon = Caller::daemon(workspace, TARGET).call(relay);
        let mut client = Caller::client(workspace, TARGET, "c1").call(relay);
        agree(&mut client, &mut daemon, session);
        Session { daemon, client }
    }
}

/// Lets a client and a daemon agree on a session.
pub fn agree(client: &mut impl End, daemon: &mut impl End, session: &str) {
    let request = format!("request of {session}");
    passes(client, &say::init(&request), daemon);
    passes(daemon, &say::response(&request, session), client);
}
