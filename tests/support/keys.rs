//! A host's key pair and what it signs (link.md section 4).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An Ed25519 key pair and the address it commits to.
#[derive(Clone)]
pub struct Keys {
    signing: SigningKey,
    /// The public key, base64url.
    pub public: String,
    /// base64url(SHA-256(public key)).
    pub address: String,
}

impl Keys {
    /// A fresh pair.
    pub fn new() -> Keys {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the system gives random bytes");
        let signing = SigningKey::from_bytes(&secret);
        let public = signing.verifying_key();
        let address = BASE64URL.encode(Sha256::digest(public.as_bytes()));
        Keys { public: BASE64URL.encode(public.as_bytes()), address, signing }
    }

    /// A `register` message as a correct host sends it.
    pub fn register(&self, origin: &str, ts: i64) -> Value {
        self.register_signed_over(origin, &self.address, ts, "a nonce")
    }

    /// A `register` message signed over any origin, address, time stamp and nonce, and carrying the last
    /// three.
    pub fn register_signed_over(&self, origin: &str, address: &str, ts: i64, nonce: &str) -> Value {
        let mut message = b"frontier-link-register-v1".to_vec();
        for part in [address, &ts.to_string(), nonce, origin] {
            message.extend_from_slice(&u32::try_from(part.len()).expect("a short string").to_be_bytes());
            message.extend_from_slice(part.as_bytes());
        }
        let signature = BASE64URL.encode(self.signing.sign(&message).to_bytes());
        json!({
            "type": "register",
            "address": address,
            "auth": { "alg": "ed25519", "pub": self.public, "ts": ts, "nonce": nonce, "sig": signature },
        })
    }
}

/// Milliseconds since the epoch.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("a time stamp fits 63 bits")
}
