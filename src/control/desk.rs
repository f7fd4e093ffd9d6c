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
    line::Question,
    outbound::{Outbound, Redirects},
    validate::validate,
};
use crate::{
    dialect::workspace::{Answer, Ask, Claims, Denied, Request},
    id::ConnId,
    limits::ADMISSIONS_AT_ONCE,
    secret::Secret,
};

/// What the operator chose about the platform (workspace.md sections 4, 9.3 and 22).
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformConfig {
    /// The platform; only the origin counts. Workers' requests go there.
    pub origin: Url,
    /// Where admissions are asked for.
    pub validate_url: Url,
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
}

/// See the module.
pub struct Desk {
    pub(super) config: PlatformConfig,
    pub(super) questions: Outbound,
    pub(super) requests: Outbound,
    at_once: Semaphore,
}

impl Desk {
    /// A desk for this platform. Fails, naming the file and what is wrong with it, where TLS cannot be set up.
    pub fn new(config: PlatformConfig) -> Result<Desk, String> {
        Ok(Desk {
            questions: Outbound::new(&config.tls, &config.validate_url, Redirects::None)?,
            requests: Outbound::new(&config.tls, &config.origin, Redirects::WithinOrigin)?,
            at_once: Semaphore::new(ADMISSIONS_AT_ONCE),
            config,
        })
    }

    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Admit { token, request } => Answer::Admitted(self.admit(&token, &request).await),
            Ask::Forward { request_id, method, path, headers, body } => {
                let deadline = self.config.forward_timeout;
                let outcome = timeout(deadline, forward(self, method, &path, &headers, body)).await;
                Answer::Forwarded { request_id, outcome: outcome.unwrap_or_else(|_| Err(late(deadline))) }
            }
        }
    }

    /// One deadline for all of it, also for waiting to be asked (O7).
    async fn admit(&self, token: &str, request: &Request) -> Result<Box<Claims>, Denied> {
        let deadline = self.config.admission_timeout;
        let judged = timeout(deadline, async {
            let _turn = self.at_once.acquire().await.expect("the semaphore is never closed");
            validate(self, token, request).await
        });
        judged.await.unwrap_or_else(|_| Err(Denied { status: 504, reason: late(deadline) }))
    }
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
            let answer = desk.answer(ask).await;
            outside.deliver(shard, conn, answer);
            drop(place);
        });
    }
}
