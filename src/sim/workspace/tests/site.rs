//! Some shards without faults, a platform that answers on demand, and peers that are raw bytes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    admission::WorkspaceGateSettings,
    dialect::workspace::{Answer, Claims, Denied, Metric, Scope, WorkspaceConfig},
    shard::{self, Shard},
    sim::{
        dice::Dice,
        driver::SimDriver,
        faults::{Faults, Terrain},
        network::{Found, Network, Shared, StreamId},
        settings::Plan,
        workspace::platform::{Question, SimPlatform},
    },
    time::Time,
};

pub const SHARDS: u16 = 3;

pub struct Site {
    pub network: Shared,
    pub relay: Arc<shard::Shared>,
    pub shards: Vec<Shard<SimDriver>>,
    pub platform: SimPlatform,
    callers: u8,
}

impl Site {
    pub fn new(gate: WorkspaceGateSettings) -> Site {
        Site::with_platform(gate, SimPlatform::new(100))
    }

    pub fn with_platform(gate: WorkspaceGateSettings, platform: SimPlatform) -> Site {
        Site::of(Plan::of_workspaces(SHARDS, gate, WorkspaceConfig::default()), platform)
    }

    /// A site of one shard.
    pub fn with_config(config: WorkspaceConfig) -> Site {
        Site::of(Plan::of_workspaces(1, WorkspaceGateSettings::default(), config), SimPlatform::new(100))
    }

    pub fn of(plan: Plan, platform: SimPlatform) -> Site {
        let mut dice = Dice::new(1);
        let terrain = Terrain { eager: false, buffers: 32, buffer_bytes: 1024, pipes: 0, window: 64 * 1024 };
        let network = Network::new(plan.shards, terrain, Faults::calm(), dice.fork());
        let mut relay = plan.shared(network.borrow().now().at);
        relay.platform = Some(Box::new(platform.clone()));
        let relay = Arc::new(relay);
        let shards = plan.start_shards(&network, &relay, &mut dice);
        Site { network, relay, shards, platform, callers: 0 }
    }

    /// Sends `bytes` from a new peer.
    pub fn call(&mut self, bytes: &str) -> StreamId {
        self.callers += 1;
        self.call_from([10, 0, 0, self.callers], bytes)
    }

    pub fn call_from(&mut self, ip: [u8; 4], bytes: &str) -> StreamId {
        let stream = self.network.borrow_mut().connect(SocketAddr::from((ip, 40_000))).expect("it listens");
        self.say(stream, bytes.as_bytes());
        stream
    }

    pub fn say(&mut self, stream: StreamId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = self.network.borrow_mut().peer_send(stream, bytes).expect("it is open");
            bytes = &bytes[sent..];
            self.settle();
        }
    }

    /// Turns every shard until nothing moves at this time.
    pub fn settle(&mut self) {
        loop {
            self.network.borrow_mut().advance(Duration::from_micros(1));
            let now = self.network.borrow().now().at;
            let mut moved = false;
            for (number, shard) in self.shards.iter_mut().enumerate() {
                let mail = self.relay.mailboxes.waiting(number as u16) > 0;
                if mail || shard.driver().poll() || shard.next_deadline().is_some_and(|at| at <= now) {
                    shard.turn().expect("the simulated driver does not fail");
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Lets time pass, and every shard turn when it is due.
    pub fn wait(&mut self, span: Duration) {
        let end = self.now() + span;
        loop {
            let deadlines = self.shards.iter().filter_map(Shard::next_deadline);
            let next = deadlines.min().unwrap_or(end).min(end);
            let left = next.since(self.now());
            self.network.borrow_mut().advance(left);
            self.settle();
            if next == end {
                return;
            }
        }
    }

    fn now(&self) -> Time {
        self.network.borrow().now().at
    }

    /// All that the relay has sent, and whether it has ended its side.
    pub fn hear(&mut self, stream: StreamId) -> (String, bool) {
        let (bytes, ended) = self.hear_bytes(stream);
        (String::from_utf8_lossy(&bytes).into_owned(), ended)
    }

    /// The frames that the relay has sent, and whether it has ended its side.
    pub fn hear_frames(&mut self, stream: StreamId) -> (Vec<(u8, Vec<u8>)>, bool) {
        let (bytes, ended) = self.hear_bytes(stream);
        (frames(&bytes), ended)
    }

    /// Opens a connection: the platform admits it with these claims.
    pub fn open(&mut self, request: &str, claims: Claims) -> StreamId {
        let peer = self.call(request);
        let question = self.question();
        self.answer(&question, Ok(claims));
        let (heard, ended) = self.hear(peer);
        assert!(heard.starts_with(SWITCHED) && heard.ends_with("\r\n\r\n") && !ended, "{heard}");
        peer
    }

    pub fn hear_bytes(&mut self, stream: StreamId) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let ended = loop {
            let before = bytes.len();
            let found = self.network.borrow_mut().peer_receive(stream, &mut bytes, usize::MAX);
            match found {
                Found::End | Found::Reset => break true,
                Found::Nothing if bytes.len() == before => break false,
                // There may be more once there is room for it.
                Found::Bytes(_) | Found::Nothing => self.settle(),
            }
        };
        (bytes, ended)
    }

    /// The only question that waits.
    pub fn question(&mut self) -> Question {
        let question = self.platform.take(0).expect("the platform was asked");
        assert_eq!(self.platform.open(), 0, "it was asked once");
        question
    }

    pub fn answer(&mut self, question: &Question, outcome: Result<Claims, Denied>) {
        question.answer(&self.relay.mailboxes, Answer::Admitted(outcome.map(Box::new)));
        self.settle();
    }

    pub fn counted(&self, metric: Metric) -> u64 {
        let counted = |shard: &Shard<SimDriver>| {
            shard.dialects().workspace.as_ref().expect("it is served").counters().value(metric)
        };
        self.shards.iter().map(counted).sum()
    }

    pub fn taken(&self) -> (usize, usize) {
        self.relay.policy.workspace_gate().taken()
    }

    pub fn connections(&self) -> usize {
        self.shards.iter().map(|shard| shard.view().connections).sum()
    }
}

pub fn upgrade(query: &str, more: &str) -> String {
    format!(
        "GET /ws?{query} HTTP/1.1\r\nHost: relay.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

pub fn daemon(workspace: &str) -> String {
    upgrade(&format!("role=workspace-daemon&workspaceId={workspace}"), "Authorization: Bearer 0123456789\r\n")
}

pub fn claims(workspace: &str) -> Claims {
    Claims {
        workspace_id: Some(workspace.into()),
        runtime_target_id: Some("t".into()),
        scope: Some(Scope::Runtime),
        ..Claims::default()
    }
}

pub const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// A frame with a mask of zeros.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Opcode and payload of each frame.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, ..] = *bytes {
        assert_eq!(first & 0x80, 0x80, "the relay sends whole frames here");
        let (len, size) = match second {
            126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()), 10),
            len => (u64::from(len), 2),
        };
        let end = size + len as usize;
        frames.push((first & 0x0f, bytes[size..end].to_vec()));
        bytes = &bytes[end..];
    }
    assert!(bytes.is_empty(), "a frame is cut short");
    frames
}

/// The payload of a close frame.
pub fn close(code: u16, text: &str) -> (u8, Vec<u8>) {
    (8, [&code.to_be_bytes(), text.as_bytes()].concat())
}
