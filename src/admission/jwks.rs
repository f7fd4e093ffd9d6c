//! The platform's signing keys, and whether a token is one of its own (workspace.md section 4.6).
//!
//! Pure: told the keys' document, the token and the time. Promises that a token it lets through is signed with RS256 by
//! a key of the platform, is meant for relays, and is in force. The algorithm is pinned: what a token's own header
//! says can refuse it, never choose how it is checked; tokens with a shared secret (HS256) are not taken. What the
//! token allows is for others to judge.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    limits::{JWKS_FRESH, JWKS_KEYS_MAX, JWKS_PAUSE},
    time::Time,
};

/// Why a token is refused, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is no signed token with a JSON object in it.
    Malformed,
    /// It is not signed with RS256, or demands what this does not know.
    Algorithm,
    /// The platform has no key of its name.
    UnknownKey,
    /// The signature is not that key's.
    Signature,
    /// It was not issued by the platform.
    Issuer,
    /// It is not for relays.
    Audience,
    /// It has no time at which it expires, or that is over.
    Expired,
    /// It is not in force yet, or a time in it is no number.
    Times,
    /// It has no id.
    Id,
}

impl Refusal {
    /// The reason to log.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Malformed => "LOCAL_CHECK_MALFORMED",
            Refusal::Algorithm => "LOCAL_CHECK_ALGORITHM",
            Refusal::UnknownKey => "LOCAL_CHECK_UNKNOWN_KEY",
            Refusal::Signature => "LOCAL_CHECK_SIGNATURE",
            Refusal::Issuer => "LOCAL_CHECK_ISSUER",
            Refusal::Audience => "LOCAL_CHECK_AUDIENCE",
            Refusal::Expired => "LOCAL_CHECK_EXPIRED",
            Refusal::Times => "LOCAL_CHECK_TIMES",
            Refusal::Id => "LOCAL_CHECK_ID",
        }
    }
}

/// What a token says that was let through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Its payload, the text of a JSON object.
    pub payload: String,
    /// The `role` in it.
    pub role: Option<String>,
}

/// The platform's keys, and when they were asked for.
///
/// Keys are fresh for [`JWKS_FRESH`] and then still in force until new ones come: while the platform is away, its
/// tokens stay good. It is not asked again within [`JWKS_PAUSE`], whatever tokens come.
#[derive(Default)]
pub struct KeyRing {
    keys: Vec<Key>,
    fetched: Option<Time>,
    asked: Option<Time>,
}

struct Key {
    id: String,
    key: DecodingKey,
}

impl KeyRing {
    /// Whether other keys could matter to this token: those that are there are not fresh, or its own is not among them.
    /// Never so for a token that no key could help.
    pub fn lacks_key(&self, token: &str, now: Time) -> bool {
        let Ok(head) = Head::of(token) else { return false };
        let is_fresh = self.fetched.is_some_and(|at| now.since(at) < JWKS_FRESH);
        !is_fresh || self.find(head.id()).is_none()
    }

    /// Whether to ask for the keys before this token is judged: it lacks one, and they were not asked for just now.
    pub fn wants_fetch(&self, token: &str, now: Time) -> bool {
        self.asked.is_none_or(|at| now.since(at) >= JWKS_PAUSE) && self.lacks_key(token, now)
    }

    /// Notes that the keys are being asked for.
    pub fn asking(&mut self, now: Time) {
        self.asked = Some(now);
    }

    /// Takes the keys of a JWKS document in place of those it had; `false`, and those stay, where it is none, or has
    /// more than [`JWKS_KEYS_MAX`] keys. Keys of other kinds are passed over.
    pub fn replace(&mut self, document: &[u8], now: Time) -> bool {
        let Ok(document) = serde_json::from_slice::<Document>(document) else { return false };
        if document.keys.len() > JWKS_KEYS_MAX {
            return false;
        }
        self.keys = document.keys.into_iter().filter_map(Key::of).collect();
        self.fetched = Some(now);
        true
    }

    /// Judges a token at a time, in milliseconds since the epoch.
    pub fn verify(&self, token: &str, unix_ms: u64) -> Result<Verified, Refusal> {
        let head = Head::of(token)?;
        let key = self.find(head.id()).ok_or(Refusal::UnknownKey)?;
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let is_signed = crypto::verify(signature, message.as_bytes(), &key.key, Algorithm::RS256);
        if !is_signed.unwrap_or(false) {
            return Err(Refusal::Signature);
        }
        let (_, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        let payload = decode(payload)?;
        let claims: Map<String, Value> = serde_json::from_str(&payload).map_err(|_| Refusal::Malformed)?;
        judge(&claims, unix_ms as f64 / 1000.0)?;
        let role = claims.get("role").and_then(Value::as_str).map(str::to_owned);
        Ok(Verified { payload, role })
    }

    fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// What every token has to say of itself, at `now` seconds.
fn judge(claims: &Map<String, Value>, now: f64) -> Result<(), Refusal> {
    let text = |name| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(ISSUER) {
        return Err(Refusal::Issuer);
    }
    let is_for_relays = match claims.get("aud") {
        Some(Value::String(name)) => name == AUDIENCE,
        Some(Value::Array(names)) => names.iter().any(|name| name.as_str() == Some(AUDIENCE)),
        _ => false,
    };
    if !is_for_relays {
        return Err(Refusal::Audience);
    }
    let expires = claims.get("exp").and_then(Value::as_f64).ok_or(Refusal::Expired)?;
    if now > expires + SKEW_SECONDS {
        return Err(Refusal::Expired);
    }
    let has_times = ["iat", "nbf"].iter().all(|name| claims.get(*name).is_none_or(Value::is_number));
    let begins = claims.get("nbf").and_then(Value::as_f64);
    if !has_times || begins.is_some_and(|begins| now < begins - SKEW_SECONDS) {
        return Err(Refusal::Times);
    }
    if text("jti").is_none_or(str::is_empty) { Err(Refusal::Id) } else { Ok(()) }
}

/// A token's header, as far as it matters.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// What whoever does not know it must not accept (RFC 7515 section 4.1.11). This knows of none.
    crit: Option<Value>,
}

impl Head {
    /// The header of a token of three parts that asks for RS256 and nothing unknown.
    fn of(token: &str) -> Result<Head, Refusal> {
        let mut parts = token.split('.');
        let (head, rest) = (parts.next().unwrap_or_default(), parts.count());
        if rest != 2 {
            return Err(Refusal::Malformed);
        }
        let head: Head = serde_json::from_str(&decode(head)?).map_err(|_| Refusal::Malformed)?;
        if head.alg != "RS256" || head.crit.is_some() { Err(Refusal::Algorithm) } else { Ok(head) }
    }

    fn id(&self) -> &str {
        self.kid.as_deref().unwrap_or(DEFAULT_ID)
    }
}

/// A JWKS document.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Key {
    /// A key that signatures may be checked with: RSA of a decent size, for RS256 if it says for what.
    fn of(entry: Value) -> Option<Key> {
        let text = |name| entry.get(name).and_then(Value::as_str);
        let is_or_none = |name, value| entry.get(name).is_none_or(|it| it.as_str() == Some(value));
        if text("kty") != Some("RSA") || !is_or_none("alg", "RS256") || !is_or_none("use", "sig") {
            return None;
        }
        let (modulus, exponent) = (text("n")?, text("e")?);
        let bytes = URL_SAFE_NO_PAD.decode(modulus).ok()?;
        let bits = 8 * bytes.iter().skip_while(|byte| **byte == 0).count();
        let key = DecodingKey::from_rsa_components(modulus, exponent).ok()?;
        (bits >= MODULUS_BITS_MIN).then(|| Key { id: text("kid").unwrap_or(DEFAULT_ID).to_owned(), key })
    }
}

fn decode(part: &str) -> Result<String, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    String::from_utf8(bytes).map_err(|_| Refusal::Malformed)
}

const ISSUER: &str = "viewport-server";
const AUDIENCE: &str = "viewport-relay";
/// The key's name where none is given.
const DEFAULT_ID: &str = "v1";
/// How far clocks may be apart.
const SKEW_SECONDS: f64 = 30.0;
/// RFC 7518 section 3.3: RS256 takes no smaller key.
const MODULUS_BITS_MIN: usize = 2048;
