//! The desk where questions to the platform are answered.
//!
//! Runs on the control thread, each question as a task of its own. Promises an answer to every question that it is
//! given, within the question's deadline, unless the relay stops first.

use std::{rc::Rc, time::Duration};

use reqwest::Url;
use tokio::{
    sync::{Semaphore, mpsc::UnboundedReceiver},
    time::timeout,
};

use super::{
    TlsConfig,
    forward::forward,
    keys::{Keys, LocalCheck},
    line::Question,
    outbound::{Outbound, Redirects},
    validate::validate,
};
use crate::{
    admission::jwks::{Refusal, Verified},
    dialect::workspace::{
        Answer, Ask, Claims, Denied, Request,
        claims::{self, Unknown},
    },
    id::ConnId,
    limits::ADMISSIONS_AT_ONCE,
    secret::Secret,
    time::Now,
};

/// What the operator chose about the platform (workspace.md sections 4, 9.3 and 22).
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformConfig {
    /// The platform; only the origin counts. Workers' requests go there.
    pub origin: Url,
    /// Where admissions are asked for.
    pub validate_url: Url,
    /// Whether tokens are checked here, too.
    pub local_check: LocalCheck,
    /// Where the keys for that are.
    pub jwks_url: Url,
    /// `RELAY_INTERNAL_KEY`.
    pub internal_key: Option<Secret>,
    /// `RELAY_ADMISSION_TIMEOUT_MS`: from the question's arrival to the end of the answer.
    pub admission_timeout: Duration,
    /// `RELAY_ADMISSION_MAX_RESPONSE_BYTES`.
    pub admission_bytes_max: usize,
    /// The largest answer to a worker's request, headers and text; a larger one is a failure.
    pub forward_bytes_max: usize,
    /// How long a worker's request may take.
    pub forward_timeout: Duration,
    /// How the platform is spoken to over TLS.
    pub tls: TlsConfig,
}

/// What the desk needs of the relay around it.
pub trait Correspondence: 'static {
    /// Brings an answer to the connection that waits for it on a shard.
    fn deliver(&self, shard: u16, conn: ConnId, answer: Answer);

    /// Reads the clocks.
    fn now(&self) -> Now;
}

/// See the module.
pub struct Desk {
    pub(super) config: PlatformConfig,
    pub(super) questions: Outbound,
    pub(super) requests: Outbound,
    keys: Option<Keys>,
    at_once: Semaphore,
}

impl Desk {
    /// A desk for this platform. Fails, naming the file and what is wrong with it, where TLS cannot be set up.
    pub fn new(config: PlatformConfig) -> Result<Desk, String> {
        let keys = match config.local_check {
            LocalCheck::Off => None,
            LocalCheck::Also | LocalCheck::Only => {
                let outbound = Outbound::new(&config.tls, &config.jwks_url, Redirects::None)?;
                // Half, so that who waits for keys that do not come can still be judged by those that are there.
                let patience = config.admission_timeout / 2;
                Some(Keys::new(config.jwks_url.clone(), outbound, patience, config.admission_bytes_max))
            }
        };
        Ok(Desk {
            keys,
            questions: Outbound::new(&config.tls, &config.validate_url, Redirects::None)?,
            requests: Outbound::new(&config.tls, &config.origin, Redirects::WithinOrigin)?,
            at_once: Semaphore::new(ADMISSIONS_AT_ONCE),
            config,
        })
    }

    async fn answer(&self, ask: Ask, now: Now) -> Answer {
        match ask {
            Ask::Admit { token, request } => Answer::Admitted(self.admit(&token, &request, now).await),
            Ask::Forward { request_id, method, path, headers, body } => {
                let deadline = self.config.forward_timeout;
                let outcome = timeout(deadline, forward(self, method, &path, &headers, body)).await;
                Answer::Forwarded { request_id, outcome: outcome.unwrap_or_else(|_| Err(late(deadline))) }
            }
        }
    }

    /// One deadline for all of it, also for waiting to be asked (O7).
    async fn admit(&self, token: &str, request: &Request, now: Now) -> Result<Box<Claims>, Denied> {
        let deadline = self.config.admission_timeout;
        let judged = timeout(deadline, async {
            let _turn = self.at_once.acquire().await.expect("the semaphore is never closed");
            if let Some(keys) = &self.keys {
                let refused = |refusal: Refusal| denied(refusal.name());
                let verified = keys.check(token, now).await.map_err(refused)?;
                if self.config.local_check == LocalCheck::Only {
                    return admit_alone(&verified, request);
                }
            }
            validate(self, token, request).await
        });
        judged.await.unwrap_or_else(|_| Err(Denied { status: 504, reason: late(deadline) }))
    }
}

/// What the platform would have said of a token that passed. It would not let one role's token be used for another;
/// here nobody else sees to that.
fn admit_alone(verified: &Verified, request: &Request) -> Result<Box<Claims>, Denied> {
    if verified.role.as_deref() != Some(request.role.name()) {
        return Err(denied("LOCAL_CHECK_ROLE"));
    }
    let claims = claims::read(&verified.payload, Unknown::Ignored);
    claims.map(Box::new).ok_or_else(|| denied("INVALID_CLAIMS"))
}

fn denied(reason: &str) -> Denied {
    Denied { status: 401, reason: reason.to_owned() }
}

fn late(deadline: Duration) -> String {
    format!("no complete answer within {} ms", deadline.as_millis())
}

/// Answers questions until nobody can ask any more. Must run inside a `tokio::task::LocalSet`.
pub(super) async fn serve(
    desk: Desk,
    mut questions: UnboundedReceiver<Question>,
    outside: impl Correspondence,
) {
    let (desk, outside) = (Rc::new(desk), Rc::new(outside));
    while let Some(Question { shard, conn, ask, place }) = questions.recv().await {
        let (desk, outside) = (Rc::clone(&desk), Rc::clone(&outside));
        tokio::task::spawn_local(async move {
            let answer = desk.answer(ask, outside.now()).await;
            outside.deliver(shard, conn, answer);
            drop(place);
        });
    }
}
