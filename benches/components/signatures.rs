//! A registration's signature: the most that one message costs the relay.

use std::hint::black_box;

use criterion::Criterion;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use longsplice::admission::register::{Proof, commitment, encode, signed_message, verify};

/// Whether a signature is the key's, of the message.
type Check<'a> = &'a dyn Fn(&[u8; 64]) -> bool;

const ORIGIN: &str = "relay.example:8080";
const NOW_MS: u64 = 1_700_000_000_000;

/// The whole check, then the signature alone, by the crate that is used and by the others. The key is parsed each
/// time: every host has its own.
pub fn verifying(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ed25519 verify");
    let signing = SigningKey::from_bytes(&[7; 32]);
    let public_key = signing.verifying_key().to_bytes();
    let address = commitment(&public_key);
    let message = signed_message(&encode(&address), NOW_MS as i64, "nonce", ORIGIN);
    let signature = signing.sign(&message).to_bytes();
    let mut wrong = signature;
    wrong[40] ^= 1;

    let proof = Proof { public_key, timestamp: NOW_MS as i64, nonce: "nonce".to_owned(), signature };
    assert_eq!(verify(&proof, &address, ORIGIN, NOW_MS), Ok(()));
    group.bench_function("a registration, whole", |bencher| {
        bencher.iter(|| verify(black_box(&proof), &address, ORIGIN, NOW_MS));
    });

    let dalek = |signature: &[u8; 64]| {
        let key = VerifyingKey::from_bytes(black_box(&public_key)).expect("it is a key");
        key.verify(&message, &Signature::from_bytes(signature)).is_ok()
    };
    let ring = |signature: &[u8; 64]| {
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, black_box(&public_key));
        key.verify(&message, signature).is_ok()
    };
    let aws_lc = |signature: &[u8; 64]| {
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ED25519,
            black_box(&public_key),
        );
        key.verify(&message, signature).is_ok()
    };
    let checks: [(_, Check); 3] = [("ed25519-dalek", &dalek), ("ring", &ring), ("aws-lc-rs", &aws_lc)];
    for (name, check) in checks {
        assert_eq!((check(&signature), check(&wrong)), (true, false));
        group.bench_function(format!("the signature alone, {name}"), |bencher| {
            bencher.iter(|| check(black_box(&signature)));
        });
    }
}
