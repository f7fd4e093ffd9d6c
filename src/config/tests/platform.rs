//! The options about the platform.

use super::*;
use crate::{
    control::{LocalCheck, Verify},
    limits::FORWARD_TIMEOUT,
};

const SERVED: &str = "--dialects=workspace";

fn platform(variables: &[(&str, &str)]) -> crate::control::PlatformConfig {
    config(&[SERVED, "--host=127.0.0.1"], variables, "").platform(1 << 20)
}

#[test]
fn the_defaults_are_the_contracts() {
    let platform = platform(&[]);
    assert_eq!(platform.origin.as_str(), "https://api.getviewport.com/");
    assert_eq!(
        platform.validate_url.as_str(),
        "https://api.getviewport.com/api/runtime/internal/relay/validate"
    );
    assert_eq!(platform.jwks_url.as_str(), "https://api.getviewport.com/api/.well-known/jwks.json");
    assert_eq!(platform.local_check, LocalCheck::Off);
    assert_eq!((platform.internal_key, platform.tls.ca, platform.tls.identity), (None, None, None));
    assert_eq!(
        (platform.admission_timeout, platform.forward_timeout),
        (Duration::from_secs(2), FORWARD_TIMEOUT)
    );
    assert_eq!((platform.admission_bytes_max, platform.tls.verify), (262_144, Verify::Auto));
    assert!(platform.forward_bytes_max < 1 << 20);
}

#[test]
fn of_the_platforms_url_only_the_origin_counts() {
    let platform = platform(&[("SERVER_URL", "http://platform.example:81/prefix/?x#y")]);
    assert_eq!(platform.origin.as_str(), "http://platform.example:81/");
    assert_eq!(
        platform.validate_url.as_str(),
        "http://platform.example:81/api/runtime/internal/relay/validate"
    );
}

#[test]
fn the_url_to_validate_at_is_whole_and_stands_in_for_the_platform() {
    let at = ("RELAY_VALIDATE_URL", "http://10.0.0.1:82/v/validate?x=1");
    let alone = platform(&[at]);
    assert_eq!((alone.validate_url.as_str(), alone.origin.as_str()), (at.1, "http://10.0.0.1:82/"));
    let both = platform(&[at, ("SERVER_URL", "http://10.0.0.2")]);
    assert_eq!((both.validate_url.as_str(), both.origin.as_str()), (at.1, "http://10.0.0.2/"));
}

#[test]
fn keys_have_their_own_url_and_change_nothing_by_themselves() {
    let platform = platform(&[("RELAY_JWKS_URL", "http://10.0.0.3/keys")]);
    assert_eq!(platform.jwks_url.as_str(), "http://10.0.0.3/keys");
    assert_eq!(platform.local_check, LocalCheck::Off);
}

#[test]
fn numbers_and_words_are_read_as_the_contract_reads_them() {
    let millis = |text| platform(&[("RELAY_ADMISSION_TIMEOUT_MS", text)]).admission_timeout.as_millis();
    assert_eq!((millis("1e3"), millis("0"), millis("soon")), (1000, 2000, 2000));
    assert_eq!(platform(&[("RELAY_ADMISSION_MAX_RESPONSE_BYTES", "0x10")]).admission_bytes_max, 16);
    assert_eq!(platform(&[("RELAY_SERVER_TLS_VERIFY", "0")]).tls.verify, Verify::Off);
    for (name, value) in [
        ("RELAY_SERVER_TLS_VERIFY", "true"),
        ("RELAY_SERVER_TLS_VERIFY", ""),
        ("RELAY_SERVER_MTLS", "TRUE"),
        ("RELAY_SERVER_AUTH_MODE", "MTLS"),
        ("SERVER_URL", "platform.example"),
        ("SERVER_URL", "ftp://platform.example"),
        ("RELAY_VALIDATE_URL", "/validate"),
    ] {
        let refusal = refusal(&[SERVED], &[(name, value)], "");
        assert!(refusal.contains(name) && refusal.contains(&format!("{value:?}")), "{refusal}");
    }
}

#[test]
fn both_files_of_a_certificate_turn_it_on_and_one_is_not_enough_when_told_to() {
    let cert = ("RELAY_SERVER_CLIENT_CERT_PATH", "/etc/relay.toml");
    let key = ("RELAY_SERVER_CLIENT_KEY_PATH", "/etc/relay.toml");
    let identity = platform(&[cert, key, ("RELAY_SERVER_CLIENT_KEY_PASSPHRASE", "p")]).tls.identity;
    let identity = identity.expect("both are there");
    assert_eq!(
        (identity.cert.to_str(), identity.key.to_str()),
        (Some("/etc/relay.toml"), Some("/etc/relay.toml"))
    );
    assert_eq!(identity.passphrase.as_ref().map(Secret::reveal), Some("p"));
    assert_eq!(platform(&[cert]).tls.identity, None);
    let on = ("RELAY_SERVER_MTLS", "1");
    assert!(refusal(&[SERVED], &[cert, on], "").contains("--platform-client-key-path"));
    assert!(refusal(&[SERVED], &[key, on], "").contains("--platform-client-cert-path"));
    assert!(!config(&["--dialects=link"], &[on], "").serves(dialect::Kind::Workspace));
}

#[test]
fn a_key_that_no_header_can_carry_is_refused_and_not_shown() {
    for key in ["sesame\u{e9}", "ses\name"] {
        let refusal = refusal(&[SERVED], &[("RELAY_INTERNAL_KEY", key)], "");
        assert!(refusal.contains("platform-internal-key") && !refusal.contains("ses"), "{refusal}");
    }
}
