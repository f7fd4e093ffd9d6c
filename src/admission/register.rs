//! Whether a `register` proves that its sender holds an address's key (link.md section 4).
//!
//! Pure: told the address, the origin and the time. Promises that an address it lets through is the SHA-256
//! of a key whose owner signed this very address, time stamp, nonce and origin. Never decides who may
//! register: that is the allow-list's.

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

/// Reads exactly `N` bytes of base64url without padding; `None` for any other spelling, as stray trailing
/// bits.
pub fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? == N).then_some(bytes)
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
/// The signature is judged by RFC 8032 section 5.1.7 without the cofactor, as OpenSSL and so the reference
/// does: `S` must be below the group order, small-order keys are not special (they commit only to their own
/// address).
pub fn verify(proof: &Proof, address: &[u8; 32], origin: &str, unix_ms: u64) -> Result<(), Refusal> {
    precheck(proof, address, unix_ms)?;
    verify_signature(proof, address, origin)
}

/// The part of [`verify`] that costs next to nothing: the time stamp and the commitment.
pub fn precheck(proof: &Proof, address: &[u8; 32], unix_ms: u64) -> Result<(), Refusal> {
    let skew = i128::from(proof.timestamp) - i128::from(unix_ms);
    if skew.unsigned_abs() > u128::from(REGISTER_SKEW_MS_MAX) {
        return Err(Refusal::Skew);
    }
    if commitment(&proof.public_key) != *address {
        return Err(Refusal::NotTheCommitment);
    }
    Ok(())
}

/// The part of [`verify`] that takes tens of microseconds.
pub fn verify_signature(proof: &Proof, address: &[u8; 32], origin: &str) -> Result<(), Refusal> {
    let key = VerifyingKey::from_bytes(&proof.public_key).map_err(|_| Refusal::BadKey)?;
    let message = signed_message(&encode(address), proof.timestamp, &proof.nonce, origin);
    key.verify(&message, &Signature::from_bytes(&proof.signature)).map_err(|_| Refusal::BadSignature)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn signed(seed: u8, timestamp: i64, origin: &str) -> (Proof, [u8; 32]) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public_key = key.verifying_key().to_bytes();
        let address = commitment(&public_key);
        let message = signed_message(&encode(&address), timestamp, "n", origin);
        let signature = key.sign(&message).to_bytes();
        (Proof { public_key, timestamp, nonce: "n".into(), signature }, address)
    }

    #[test]
    fn the_signed_message_is_the_contracts_to_the_byte() {
        let message = signed_message("AB", 1_700_000_000_000, "\u{e9}", "relay.example:8080");
        let mut expected = b"frontier-link-register-v1".to_vec();
        expected.extend(b"\0\0\0\x02AB");
        expected.extend(b"\0\0\0\x0d1700000000000");
        expected.extend(b"\0\0\0\x02\xc3\xa9");
        expected.extend(b"\0\0\0\x12relay.example:8080");
        assert_eq!(message, expected);
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let now = NOW as i64;
        let (proof, address) = signed(1, now, "o");
        assert_eq!(verify(&proof, &address, "o", NOW), Ok(()));
        assert_eq!(verify(&proof, &address, "o", NOW + 300_001), Err(Refusal::Skew));
        assert_eq!(verify(&proof, &address, "o", NOW - 300_001), Err(Refusal::Skew));
        assert_eq!(verify(&proof, &address, "o", 0), Err(Refusal::Skew));
        assert_eq!(verify(&proof, &[0; 32], "o", NOW), Err(Refusal::NotTheCommitment));
        assert_eq!(verify(&proof, &address, "p", NOW), Err(Refusal::BadSignature));
        let altered = Proof { nonce: "m".into(), ..proof.clone() };
        assert_eq!(verify(&altered, &address, "o", NOW), Err(Refusal::BadSignature));
        // y = 2 is on no point of the curve.
        let mut no_point = [0; 32];
        no_point[0] = 2;
        let altered = Proof { public_key: no_point, ..proof };
        assert_eq!(verify(&altered, &commitment(&no_point), "o", NOW), Err(Refusal::BadKey));
    }

    #[test]
    fn no_bit_of_a_signature_may_change() {
        let (proof, address) = signed(2, NOW as i64, "o");
        for bit in 0..512 {
            let mut altered = proof.clone();
            altered.signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&altered, &address, "o", NOW), Err(Refusal::BadSignature), "bit {bit}");
        }
    }

    #[test]
    fn a_signature_has_one_form() {
        // The group order, little endian (RFC 8032 section 5.1): S + L would pass where S is not bounded.
        let order = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let (mut proof, address) = signed(3, NOW as i64, "o");
        let mut carry = 0;
        for (byte, add) in proof.signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + add + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert_eq!(verify(&proof, &address, "o", NOW), Err(Refusal::BadSignature));
    }

    #[test]
    fn a_key_of_small_order_is_judged_as_the_reference_judges_it() {
        // The neutral element as key, R = 0 * B and S = 0: the equation holds for every message. Nothing is
        // lost by it: the address is this key's own commitment.
        let mut public_key = [0; 32];
        public_key[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let proof = Proof { public_key, timestamp: NOW as i64, nonce: "n".into(), signature };
        assert_eq!(verify(&proof, &commitment(&public_key), "o", NOW), Ok(()));
    }

    #[test]
    fn base64url_has_one_spelling() {
        let bytes = [0xfb; 32];
        let text = encode(&bytes);
        assert_eq!(decode(text.as_bytes()), Some(bytes));
        assert_eq!(text.len(), 43);
        let last = text.replace("-_v7", "+/v7");
        // Three characters stand for 32 bytes' last: its two low bits must be clear.
        let stray = format!("{}{}", &text[..42], if text.ends_with('s') { 't' } else { 'B' });
        for wrong in
            [format!("{text}="), text[..42].to_owned(), format!("{text}A"), last, stray, " ".repeat(43)]
        {
            assert_eq!(decode::<32>(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(decode::<64>("A".repeat(86).as_bytes()), Some([0; 64]));
        assert_eq!(decode::<64>("A".repeat(88).as_bytes()), None);
    }
}
