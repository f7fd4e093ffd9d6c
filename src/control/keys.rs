//! Checking tokens against the platform's own keys, which are fetched as needed (workspace.md section 4.6).

use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Url;
use tokio::time::timeout;

use super::outbound::{Failure, Outbound, read};
use crate::{
    admission::jwks::{KeyRing, Refusal, Verified},
    time::Now,
};

/// `--workspace-local-check`: whether tokens are checked here, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalCheck {
    /// The platform alone decides; its tokens may be anything.
    #[default]
    Off,
    /// A token has to pass here before the platform is asked.
    Also,
    /// A token that passes here comes in, and the platform is not asked: it cannot take a token back before it expires.
    Only,
}

/// The keys, and where they come from.
pub(super) struct Keys {
    url: Url,
    outbound: Outbound,
    /// How long the platform may take to show its keys.
    patience: Duration,
    bytes_max: usize,
    ring: Mutex<KeyRing>,
    /// Held by the one who fetches; whoever else needs keys waits for it.
    fetching: tokio::sync::Mutex<()>,
}

impl Keys {
    pub fn new(url: Url, outbound: Outbound, patience: Duration, bytes_max: usize) -> Keys {
        let ring = Mutex::new(KeyRing::default());
        Keys { url, outbound, patience, bytes_max, ring, fetching: tokio::sync::Mutex::new(()) }
    }

    /// Judges a token, with the platform's keys fetched first where that could matter.
    pub async fn check(&self, token: &str, now: Now) -> Result<Verified, Refusal> {
        if self.ring.lock().lacks_key(token, now.at) {
            // Who comes while the keys are being fetched waits for them; they may be what is needed.
            let _turn = self.fetching.lock().await;
            if self.ring.lock().wants_fetch(token, now.at) {
                self.ring.lock().asking(now.at);
                self.fetch(now).await;
            }
        }
        self.ring.lock().verify(token, now.unix_ms)
    }

    async fn fetch(&self, now: Now) {
        let fetched = timeout(self.patience, async {
            let response = self.outbound.client().get(self.url.clone()).send().await?;
            match response.status().is_success() {
                true => read(response, self.bytes_max).await,
                false => Err(Failure::Broken(format!("status {}", response.status().as_u16()))),
            }
        });
        let why = match fetched.await {
            Ok(Ok(document)) if self.ring.lock().replace(&document, now.at) => return,
            Ok(Ok(_)) => "it is no list of keys, or too long a one".to_owned(),
            Ok(Err(Failure::TooLong)) => "it is too long".to_owned(),
            Ok(Err(Failure::Broken(why))) => why,
            Err(_) => format!("no complete answer within {} ms", self.patience.as_millis()),
        };
        tracing::warn!(url = %self.url, why, "the platform's keys were not fetched; those in force stay");
    }
}
