//! Whether a `register` proves that its sender holds an address's key (link.md section 4).
//!
//! Pure: told the address, the origin and the time. Promises that an address it lets through is the SHA-256 of a key whose
//! owner signed this very address, time stamp, nonce and origin. Never decides who may register: that is the allow-list's.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::limits::REGISTER_SKEW_MS_MAX;

/// What the signature covers first, so that it means nothing anywhere else.
const DOMAIN: &[u8] = b"frontier-link-register-v1";

/// A registration's claim, its shape checked and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The Ed25519 public key.
    pub public_key: [u8; 32],
    /// The sender's clock, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// 1 to 88 characters of the sender's choice.
    pub nonce: String,
    /// The Ed25519 signature.
    pub signature: [u8; 64],
}

/// Why a proof is refused. The peer is told none of it: all are one close code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The time stamp is more than [`REGISTER_SKEW_MS_MAX`] from our clock.
    Skew,
    /// The address is not the commitment to the key.
    NotTheCommitment,
    /// The key is not a point of the curve.
    BadKey,
    /// The signature does not verify.
    BadSignature,
}

/// Reads exactly `N` bytes of base64url without padding; `None` for any other spelling, as stray trailing bits.
pub fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // The length first: a name for N bytes has one length, and a longer one must not be decoded in part.
    let exact = text.len() == base64::encoded_len(N, false)?;
    (exact && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? == N).then_some(bytes)
}

/// Base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The address that belongs to a key: its SHA-256.
pub fn commitment(public_key: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(public_key).into()
}

/// What a host signs to register `address` (as written on the wire) at a relay known as `origin`.
pub fn signed_message(address: &str, timestamp: i64, nonce: &str, origin: &str) -> Vec<u8> {
    let timestamp = timestamp.to_string();
    let mut message = DOMAIN.to_vec();
    for part in [address, &timestamp, nonce, origin] {
        let length = u32::try_from(part.len()).expect("parts of a control message are short");
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    message
}

/// Checks `proof` for `address` against our own `origin` and wall clock.
///
/// The signature is judged by RFC 8032 section 5.1.7 without the cofactor, as OpenSSL and so the reference does:
/// `S` must be below the group order, small-order keys are not special (they commit only to their own address).
pub fn verify(proof: &Proof, address: &[u8; 32], origin: &str, unix_ms: u64) -> Result<(), Refusal> {
    let skew = i128::from(proof.timestamp) - i128::from(unix_ms);
    if skew.unsigned_abs() > u128::from(REGISTER_SKEW_MS_MAX) {
        return Err(Refusal::Skew);
    }
    if commitment(&proof.public_key) != *address {
        return Err(Refusal::NotTheCommitment);
    }
    let key = VerifyingKey::from_bytes(&proof.public_key).map_err(|_| Refusal::BadKey)?;
    let message = signed_message(&encode(address), proof.timestamp, &proof.nonce, origin);
    key.verify(&message, &Signature::from_bytes(&proof.signature)).map_err(|_| Refusal::BadSignature)
}
