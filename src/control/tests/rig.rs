//! A control thread with a line, and whoever asks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use reqwest::Url;

use crate::{
    admin::{Fleet, Ready, Snapshot},
    admission::tests::signer::NOW,
    control::{Control, Correspondence, Desk, Duties, Line, LocalCheck, PlatformConfig, TlsConfig},
    dialect::{
        kick::Target,
        workspace::{Answer, Ask, Claims, Denied, Method, Request, Response, Role},
    },
    id::ConnId,
    secret::Secret,
    shard::Platform,
    time::{Now, Time},
};

/// The parts, and the answers that came.
pub struct Rig {
    pub line: Line,
    /// Of the monotonic clock, microseconds.
    pub clock: Arc<AtomicU64>,
    control: Control,
    answers: mpsc::Receiver<(u16, ConnId, Answer)>,
}

/// Whoever the answers go to.
#[derive(Clone)]
struct Shards(mpsc::Sender<(u16, ConnId, Answer)>, Arc<AtomicU64>);

impl Correspondence for Shards {
    fn deliver(&self, shard: u16, conn: ConnId, answer: Answer) {
        let _ = self.0.send((shard, conn, answer));
    }

    fn now(&self) -> Now {
        Now { at: Time(self.1.load(Ordering::Relaxed)), unix_ms: NOW * 1000 }
    }
}

impl Fleet for Shards {
    async fn snapshots(&self) -> Vec<Option<Snapshot>> {
        unreachable!("there is no admin server")
    }

    fn is_operator(&self, _: Option<&str>) -> bool {
        unreachable!("there is no admin server")
    }

    async fn kick(&self, _: Target) -> usize {
        unreachable!("there is no admin server")
    }

    fn readiness(&self) -> Ready {
        unreachable!("there is no admin server")
    }
}

/// Patient, so that a busy machine makes nothing late.
pub fn config(url: &str) -> PlatformConfig {
    let origin = Url::parse(url).expect("a URL");
    PlatformConfig {
        validate_url: origin.join("/api/runtime/internal/relay/validate").expect("a path"),
        jwks_url: origin.join("/keys").expect("a path"),
        local_check: LocalCheck::Off,
        origin,
        internal_key: Some(Secret::new("key-1")),
        admission_timeout: Duration::from_secs(60),
        admission_bytes_max: 262_144,
        forward_bytes_max: 1 << 20,
        forward_timeout: Duration::from_secs(60),
        tls: TlsConfig::default(),
    }
}

pub const CONN: ConnId = ConnId { index: 7, generation: 3 };

pub fn request(target: Option<&str>) -> Request {
    Request { role: Role::Client, workspace_id: "w1".into(), runtime_target_id: target.map(Into::into) }
}

impl Rig {
    pub fn start(config: PlatformConfig) -> Rig {
        let (tell, answers) = mpsc::channel();
        let clock = Arc::new(AtomicU64::new(0));
        let line = Line::default();
        let desk = Desk::new(config).expect("it can be set up");
        let duties = Duties { admin: None, platform: Some((line.clone(), desk)) };
        let control = Control::start(duties, Shards(tell, Arc::clone(&clock))).expect("a thread");
        Rig { line, clock, control, answers }
    }

    pub fn ask(&self, ask: Ask) {
        self.line.ask(1, CONN, ask).expect("there is room");
    }

    pub fn next(&self) -> Answer {
        let (shard, conn, answer) =
            self.answers.recv_timeout(Duration::from_secs(60)).expect("an answer comes");
        assert_eq!((shard, conn), (1, CONN));
        answer
    }

    /// Asks whether `request(None)` may come in.
    pub fn admit(&self) -> Result<Box<Claims>, Denied> {
        self.admit_with("a-token-of-mine")
    }

    /// The same with a token.
    pub fn admit_with(&self, token: &str) -> Result<Box<Claims>, Denied> {
        self.ask(Ask::Admit { token: token.into(), request: request(None) });
        match self.next() {
            Answer::Admitted(outcome) => outcome,
            other => panic!("not the answer to this: {other:?}"),
        }
    }

    /// The denial, where there has to be one.
    pub fn denied(&self) -> Denied {
        self.admit().expect_err("it is denied")
    }

    pub fn forward(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Forwarded {
        self.ask(forward("r1", method, path, headers, body));
        match self.next() {
            Answer::Forwarded { request_id, outcome } if request_id == "r1" => outcome,
            other => panic!("not the answer to this: {other:?}"),
        }
    }

    pub fn stop(self) {
        self.control.stop();
    }
}

pub type Forwarded = Result<Response, String>;

pub fn forward(id: &str, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Ask {
    Ask::Forward {
        request_id: id.to_owned(),
        method,
        path: path.to_owned(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        body: body.map(str::to_owned),
    }
}
