//! HTTP towards the platform: a client whose certificates follow their files, and bodies of a bounded size.
//!
//! Every request has a connection of its own. A connection that is kept for the next request may be closed by the
//! platform at the very moment it is used again; the request then fails, nobody can tell whether it was read, and
//! sending a second one is not ours to decide (section 4.1: no retry). TLS sessions are resumed, so that what a new
//! connection costs is a round trip or two. Proxies named by the environment are not used: the platform is where the
//! options say.

use std::{error::Error, io, path::PathBuf, time::SystemTime};

use parking_lot::Mutex;
use reqwest::{Client, Response, Url, redirect::Policy, retry};

use super::tls::TlsConfig;

/// Which redirects are followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Redirects {
    /// None: the redirect is the answer.
    None,
    /// At most [`REDIRECTS_MAX`], as long as they stay within the origin; one that leaves it is the answer.
    WithinOrigin,
}

/// A client for one URL's host.
pub(super) struct Outbound {
    tls: TlsConfig,
    url: Url,
    redirects: Redirects,
    current: Mutex<Current>,
}

struct Current {
    client: Client,
    /// The files' state when they were last read, whether or not that gave a client.
    seen: Vec<Option<(SystemTime, u64)>>,
}

impl Outbound {
    /// Reads the certificates. Errors name the file and what is wrong.
    pub fn new(tls: &TlsConfig, url: &Url, redirects: Redirects) -> Result<Outbound, String> {
        let seen = stamps(&tls.files());
        let client = build(tls, url, redirects)?;
        let current = Mutex::new(Current { client, seen });
        Ok(Outbound { tls: tls.clone(), url: url.clone(), redirects, current })
    }

    /// The client, its certificates read again if their files have changed (section 4.5). Files that cannot be used
    /// leave the ones in force: half a rotation must not turn everyone away.
    pub fn client(&self) -> Client {
        let mut current = self.current.lock();
        let seen = stamps(&self.tls.files());
        if seen != current.seen {
            current.seen = seen;
            match build(&self.tls, &self.url, self.redirects) {
                Ok(client) => {
                    tracing::info!(url = %self.url.origin().ascii_serialization(), "certificates read again");
                    current.client = client;
                }
                Err(error) => tracing::warn!(error, "certificates not read again; the ones in force stay"),
            }
        }
        current.client.clone()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is longer than allowed.
    TooLong,
    /// No connection, no TLS, or an answer that breaks off; says which.
    Broken(String),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Failure {
        // Without the URL, which is the operator's own and the same in every line.
        Failure::Broken(reasons(&error.without_url()))
    }
}

/// The whole body, of at most `bytes_max`.
pub(super) async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Failure::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with what caused it, each said once.
pub(super) fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

fn build(tls: &TlsConfig, url: &Url, redirects: Redirects) -> Result<Client, String> {
    let builder = Client::builder().no_proxy().referer(false).retry(retry::never()).pool_max_idle_per_host(0);
    let builder = match redirects {
        // The answer to an admission is as long as it says: its bound holds before anything is unpacked.
        Redirects::None => builder.redirect(Policy::none()).no_gzip().no_brotli().no_deflate(),
        Redirects::WithinOrigin => builder.redirect(within_origin()),
    };
    tls.apply(url, builder)?.build().map_err(|error| tls.explain(&reasons(&error)))
}

fn within_origin() -> Policy {
    Policy::custom(|attempt| {
        let stays = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
        match attempt.previous().len() {
            _ if !stays => attempt.stop(),
            followed if followed > REDIRECTS_MAX => attempt.error("too many redirects"),
            _ => attempt.follow(),
        }
    })
}

/// When each file was last changed, and its size; `None` for one that cannot be seen.
fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |file: &PathBuf| -> io::Result<_> {
        let facts = file.metadata()?;
        Ok((facts.modified()?, facts.len()))
    };
    files.iter().map(|file| stamp(file).ok()).collect()
}

/// As many as `fetch` follows.
const REDIRECTS_MAX: usize = 20;
