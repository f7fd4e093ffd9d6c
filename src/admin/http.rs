//! The HTTP server of `--admin-listen`: metrics, health, readiness.
//!
//! Runs on the control thread. Promises that every request is answered in little more than
//! [`GATHER_TIMEOUT`](crate::limits::GATHER_TIMEOUT), also when shards do not answer, and that no client can
//! take more than its one connection of a bounded number. Never touches a relayed byte.

use std::{convert::Infallible, rc::Rc, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tracing::{debug, warn};

use super::{About, Fleet, presented, prometheus};
use crate::dialect::kick::{self, Target};

/// Serves until it is dropped. Must run inside a `tokio::task::LocalSet`.
pub async fn serve(listener: TcpListener, about: About, fleet: impl Fleet) {
    let site = Rc::new(Site { about, fleet });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => cut_slow_readers(stream),
            Err(error) => {
                warn!(%error, "the admin server could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let site = Rc::clone(&site);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let site = Rc::clone(&site);
                async move { Ok::<_, Infallible>(site.answer(request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                debug!(%error, "an admin connection ended early");
            }
            drop(place);
        });
    }
}

/// A client that reads nothing of its answers is broken by the kernel, and its place is free again.
fn cut_slow_readers(stream: TcpStream) -> TcpStream {
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(READ_TIMEOUT)) {
        debug!(%error, "an admin connection may stay while nothing is read from it");
    }
    stream
}

struct Site<F> {
    about: About,
    fleet: F,
}

impl<F: Fleet> Site<F> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == "/admin/kick" {
            return self.kick(request).await;
        }
        if !matches!(path, "/metrics" | "/health" | "/ready") {
            return json(StatusCode::NOT_FOUND, r#"{"error":"not_found"}"#.into());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD");
        }
        match path {
            "/metrics" => {
                let snapshots = self.fleet.snapshots().await;
                let text = prometheus::render(&self.about, &self.fleet.readiness(), &snapshots);
                response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            "/ready" => {
                let ready = self.fleet.readiness();
                let status = if ready.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let word = match (ready.draining, ready.stalled.is_empty()) {
                    (true, _) => "draining",
                    (false, false) => "stalled",
                    (false, true) => "ready",
                };
                json(status, format!(r#"{{"status":"{word}","stalledShards":{:?}}}"#, ready.stalled))
            }
            _ => json(StatusCode::OK, r#"{"status":"ok"}"#.into()),
        }
    }

    /// Ends something, for who presents the operator's token.
    async fn kick(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let say = |status, reason: &str| json(status, format!(r#"{{"ok":false,"reason":"{reason}"}}"#));
        if request.method() != Method::POST {
            return method_not_allowed("POST");
        }
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        if !self.fleet.is_operator(presented(header("authorization"), header("x-relay-admin-token"))) {
            return say(StatusCode::UNAUTHORIZED, "ADMIN_UNAUTHORIZED");
        }
        let body = Limited::new(request.into_body(), KICK_BYTES_MAX).collect();
        let Ok(Ok(body)) = tokio::time::timeout(HEAD_TIMEOUT, body).await else {
            return say(StatusCode::BAD_REQUEST, "BAD_REQUEST");
        };
        match Target::read(&body.to_bytes()) {
            Some(target) => json(StatusCode::OK, kick::answer(self.fleet.kick(target).await)),
            None => say(StatusCode::BAD_REQUEST, "BAD_REQUEST"),
        }
    }
}

fn method_not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut refusal = json(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"method_not_allowed"}"#.into());
    refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    refusal
}

fn json(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    response(status, "application/json", text)
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .header(CACHE_CONTROL, "no-store")
        .body(Full::new(text.into()))
        .expect("the parts are constant and valid")
}

/// Scrapers and probes are few. More wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take for a request head, also between two requests; then its place is free again.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may read nothing while bytes wait for it.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest body of a kick.
const KICK_BYTES_MAX: usize = 4096;
/// How long to let descriptors become free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
