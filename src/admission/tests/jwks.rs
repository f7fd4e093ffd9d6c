//! The platform's keys and tokens, with real signatures and virtual time.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::signer::{NOW, Signer, claims, encode};
use crate::{
    admission::jwks::{KeyRing, Refusal},
    limits::{JWKS_FRESH, JWKS_KEYS_MAX, JWKS_PAUSE},
    time::Time,
};

const START: Time = Time(1_000_000_000);

/// A ring with the first signer's key under the name `v1`.
fn ring() -> KeyRing {
    let mut ring = KeyRing::default();
    assert!(ring.replace(&Signer::number(0).jwks("v1"), START));
    ring
}

/// What becomes of a token of the first signer with these claims, some seconds from now.
fn judged(more: &Value, seconds: i64) -> Result<(), Refusal> {
    let token = Signer::number(0).token("v1", &claims(more));
    ring().verify(&token, (NOW * 1000).saturating_add_signed(seconds * 1000)).map(drop)
}

fn refused(token: &str) -> Refusal {
    ring().verify(token, NOW * 1000).expect_err("it is refused")
}

#[test]
fn a_token_of_the_platform_is_taken_with_what_it_says() {
    let claims = claims(&json!({ "role": "worker", "sub": "x" }));
    let verified = ring().verify(&Signer::number(0).token("v1", &claims), NOW * 1000).expect("it is good");
    assert_eq!(verified.payload, claims.to_string());
    assert_eq!(verified.role.as_deref(), Some("worker"));
}

#[test]
fn a_header_without_a_key_names_v1() {
    let token = Signer::number(0).sign(&json!({ "alg": "RS256" }), &claims(&json!({})).to_string());
    ring().verify(&token, NOW * 1000).expect("it is good");
    let mut unnamed = KeyRing::default();
    let mut key = Signer::number(0).jwk("");
    key.as_object_mut().expect("it is one").remove("kid");
    assert!(unnamed.replace(json!({ "keys": [key] }).to_string().as_bytes(), START));
    unnamed.verify(&token, NOW * 1000).expect("it is good");
}

#[test]
fn only_the_right_key_signs() {
    let claims = claims(&json!({}));
    assert_eq!(refused(&Signer::number(1).token("v1", &claims)), Refusal::Signature);
    assert_eq!(refused(&Signer::number(0).token("v2", &claims)), Refusal::UnknownKey);
    let token = Signer::number(0).token("v1", &claims);
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let (head, payload) = message.split_once('.').expect("three parts");
    for forged in [
        format!("{head}.{}.{signature}", encode(&claims.to_string().replace("j1", "j2"))),
        format!("{head}.{payload}.{}", encode("signature")),
        format!("{head}.{payload}."),
        format!("{head}.{payload}.!"),
    ] {
        assert_eq!(refused(&forged), Refusal::Signature, "{forged}");
    }
}

#[test]
fn the_header_does_not_choose_the_algorithm() {
    let payload = claims(&json!({})).to_string();
    for algorithm in ["none", "HS256", "RS512", "rs256", ""] {
        let token = Signer::number(0).sign(&json!({ "alg": algorithm, "kid": "v1" }), &payload);
        assert_eq!(refused(&token), Refusal::Algorithm, "{algorithm}");
    }
    // The public key as a shared secret: the oldest of tricks.
    let secret = EncodingKey::from_secret(&Signer::number(0).jwks("v1"));
    for algorithm in ["HS256", "RS256"] {
        let message = format!("{}.{}", encode(&json!({ "alg": algorithm }).to_string()), encode(&payload));
        let signature = crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).expect("it signs");
        let expected = if algorithm == "RS256" { Refusal::Signature } else { Refusal::Algorithm };
        assert_eq!(refused(&format!("{message}.{signature}")), expected);
    }
    let critical = json!({ "alg": "RS256", "kid": "v1", "crit": ["b64"] });
    assert_eq!(refused(&Signer::number(0).sign(&critical, &payload)), Refusal::Algorithm);
}

#[test]
fn what_is_no_token_is_malformed() {
    let head = encode(r#"{"alg":"RS256"}"#);
    for token in ["", "opaque-token", "a.b", "a.b.c.d", "..", &format!("{head}.x"), "!.x.x", "bnVsbA.x.x"] {
        assert_eq!(refused(token), Refusal::Malformed, "{token}");
    }
    let header = json!({ "alg": "RS256" });
    for payload in ["", "null", "[]", "{", "\u{feff}{}"] {
        assert_eq!(refused(&Signer::number(0).sign(&header, payload)), Refusal::Malformed, "{payload:?}");
    }
}

#[test]
fn issuer_audience_and_id_have_to_be_right() {
    for (more, refusal) in [
        (json!({ "iss": null }), Refusal::Issuer),
        (json!({ "iss": "viewport-server2" }), Refusal::Issuer),
        (json!({ "aud": null }), Refusal::Audience),
        (json!({ "aud": "viewport-daemon" }), Refusal::Audience),
        (json!({ "aud": [] }), Refusal::Audience),
        (json!({ "aud": ["x", 1] }), Refusal::Audience),
        (json!({ "jti": null }), Refusal::Id),
        (json!({ "jti": "" }), Refusal::Id),
        (json!({ "jti": 1 }), Refusal::Id),
    ] {
        assert_eq!(judged(&more, 0), Err(refusal), "{more}");
    }
    assert_eq!(judged(&json!({ "aud": ["x", "viewport-relay"] }), 0), Ok(()));
}

#[test]
fn times_are_kept_to_half_a_minute() {
    assert_eq!(judged(&json!({}), 60 + 30), Ok(()));
    assert_eq!(judged(&json!({}), 60 + 31), Err(Refusal::Expired));
    assert_eq!(judged(&json!({ "exp": null }), 0), Err(Refusal::Expired));
    assert_eq!(judged(&json!({ "exp": "soon" }), 0), Err(Refusal::Expired));
    assert_eq!(judged(&json!({ "nbf": NOW + 100 }), 70), Ok(()));
    assert_eq!(judged(&json!({ "nbf": NOW + 100 }), 69), Err(Refusal::Times));
    for name in ["nbf", "iat"] {
        assert_eq!(judged(&json!({ name: "0" }), 0), Err(Refusal::Times), "{name}");
    }
    assert_eq!(judged(&json!({ "iat": null }), 0), Ok(()));
}

#[test]
fn keys_of_other_kinds_are_passed_over() {
    let good = Signer::number(0).jwk("v1");
    let token = Signer::number(0).token("v1", &claims(&json!({})));
    let with = |member: &str, value: Value| {
        let mut key = good.clone();
        key[member] = value;
        let mut ring = KeyRing::default();
        let other = Signer::number(1).jwk("other");
        assert!(ring.replace(json!({ "keys": [1, {}, key, other] }).to_string().as_bytes(), START));
        ring.verify(&token, NOW * 1000).map(drop)
    };
    assert_eq!(with("use", json!("sig")), Ok(()));
    for (member, value) in [
        ("use", json!("enc")),
        ("kty", json!("EC")),
        ("alg", json!("RS512")),
        ("alg", json!(null)),
        ("n", json!("!")),
        ("e", json!(3)),
        ("n", Signer::of_bits(1024).jwk("v1")["n"].clone()),
    ] {
        assert_eq!(with(member, value.clone()), Err(Refusal::UnknownKey), "{member} {value}");
    }
}

#[test]
fn a_document_that_is_none_or_too_long_changes_nothing() {
    let mut ring = ring();
    let token = Signer::number(0).token("v1", &claims(&json!({})));
    let many = |count| json!({ "keys": vec![Signer::number(1).jwk("v1"); count] }).to_string();
    let none = [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"EC"}]}"#];
    for document in ["", "{}", "[]", r#"{"keys":{}}"#, none[0], none[1], "<html>", &many(JWKS_KEYS_MAX + 1)] {
        assert!(!ring.replace(document.as_bytes(), START), "{document}");
        ring.verify(&token, NOW * 1000).expect("the key is still there");
    }
    assert!(ring.replace(many(JWKS_KEYS_MAX).as_bytes(), START));
    assert_eq!(ring.verify(&token, NOW * 1000), Err(Refusal::Signature));
}

#[test]
fn keys_are_asked_for_when_they_are_old_or_one_is_missing_and_never_often() {
    let tick = Duration::from_micros(1);
    let [known, unknown] = ["v1", "v2"].map(|id| Signer::number(0).token(id, &claims(&json!({}))));
    let mut ring = KeyRing::default();
    assert!(ring.wants_fetch(&known, START));
    assert!(!ring.wants_fetch("opaque-token", START), "no key could help it");
    ring.asking(START);
    assert!(!ring.wants_fetch(&known, START + JWKS_PAUSE - tick), "it was just asked");
    assert!(ring.wants_fetch(&known, START + JWKS_PAUSE));
    ring.asking(START + JWKS_PAUSE);
    let fetched = START + JWKS_PAUSE;
    assert!(ring.replace(&Signer::number(0).jwks("v1"), fetched));
    assert!(!ring.wants_fetch(&known, fetched + JWKS_FRESH - tick));
    assert!(!ring.wants_fetch(&unknown, fetched + JWKS_PAUSE - tick), "bad tokens cannot hammer it");
    assert!(ring.wants_fetch(&unknown, fetched + JWKS_PAUSE));
    assert!(ring.wants_fetch(&known, fetched + JWKS_FRESH));
    // The platform is away: what is there stays in force.
    ring.asking(fetched + JWKS_FRESH);
    assert!(!ring.wants_fetch(&known, fetched + JWKS_FRESH + tick));
    ring.verify(&known, NOW * 1000).expect("an old key is better than none");
}
