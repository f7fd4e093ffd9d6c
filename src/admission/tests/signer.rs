//! Keys that sign as the platform does.

use std::sync::OnceLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rsa::{RsaPrivateKey, pkcs1::EncodeRsaPrivateKey, rand_core::OsRng, traits::PublicKeyParts};
use serde_json::{Value, json};

/// A private key, known to the relay by its public half.
pub struct Signer {
    key: RsaPrivateKey,
}

/// A point in time for tests, in seconds since the epoch.
pub const NOW: u64 = 1_800_000_000;

impl Signer {
    /// One of two keys, made once for all tests: they take a while to be found.
    pub fn number(number: usize) -> &'static Signer {
        static SIGNERS: [OnceLock<Signer>; 2] = [const { OnceLock::new() }; 2];
        SIGNERS[number].get_or_init(|| Signer::of_bits(2048))
    }

    /// A key of another size.
    pub fn of_bits(bits: usize) -> Signer {
        Signer { key: RsaPrivateKey::new(&mut OsRng, bits).expect("there are primes") }
    }

    /// The public half as an entry of a JWKS document.
    pub fn jwk(&self, id: &str) -> Value {
        let text = |number: &rsa::BigUint| URL_SAFE_NO_PAD.encode(number.to_bytes_be());
        json!({ "kid": id, "kty": "RSA", "alg": "RS256", "n": text(self.key.n()), "e": text(self.key.e()) })
    }

    /// A JWKS document with this key alone.
    pub fn jwks(&self, id: &str) -> Vec<u8> {
        json!({ "keys": [self.jwk(id)] }).to_string().into_bytes()
    }

    /// A token with this header and payload, signed with RS256 whatever the header says.
    pub fn sign(&self, header: &Value, payload: &str) -> String {
        let message = format!("{}.{}", encode(&header.to_string()), encode(payload));
        let der = self.key.to_pkcs1_der().expect("a key has a form");
        let key = EncodingKey::from_rsa_der(der.as_bytes());
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::RS256).expect("it signs");
        format!("{message}.{signature}")
    }

    /// A token as the platform signs it.
    pub fn token(&self, id: &str, claims: &Value) -> String {
        self.sign(&json!({ "alg": "RS256", "typ": "JWT", "kid": id }), &claims.to_string())
    }
}

/// What the platform claims in every token, valid for a minute from [`NOW`], with more on top.
pub fn claims(more: &Value) -> Value {
    let mut claims = json!({
        "iss": "viewport-server", "aud": "viewport-relay", "jti": "j1", "iat": NOW, "exp": NOW + 60,
    });
    let members = claims.as_object_mut().expect("it is one");
    for (name, value) in more.as_object().expect("members") {
        match value {
            Value::Null => members.remove(name),
            value => members.insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// Base64url, as tokens have it.
pub fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}
