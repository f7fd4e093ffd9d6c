//! TLS towards the platform (workspace.md section 4.5).

use std::path::PathBuf;

use pkcs8::{LineEnding, PrivateKeyInfo};

use super::{
    certificates::{Authority, Files, Vouched},
    rig::{Rig, config},
    server::Server,
};
use crate::{
    control::{Desk, IdentityFiles, PlatformConfig, TlsConfig, Verify},
    secret::Secret,
};

/// A platform of `localhost` and 127.0.0.1.
fn platform(authority: &Authority) -> Server {
    Server::tls(authority.server(&["localhost", "127.0.0.1"]).serving(None))
}

fn rig(url: &str, tls: TlsConfig) -> Rig {
    Rig::start(PlatformConfig { tls, ..config(url) })
}

fn trusting(ca: PathBuf) -> TlsConfig {
    TlsConfig { ca: Some(ca), verify: Verify::On, identity: None }
}

/// What a desk says to these files.
fn refusal(tls: TlsConfig) -> String {
    match Desk::new(PlatformConfig { tls, ..config("https://127.0.0.1/") }) {
        Ok(_) => panic!("it takes them"),
        Err(error) => error,
    }
}

#[test]
fn the_authority_that_is_named_replaces_all_others() {
    let (files, authority) = (Files::new(), Authority::new());
    let platform = platform(&authority);
    let ca = files.write("ca.pem", &authority.pem());
    rig(&platform.url("127.0.0.1"), trusting(ca)).admit().expect("its authority is trusted");
    let stranger = files.write("stranger.pem", &Authority::new().pem());
    let both = files.write("both.pem", &(Authority::new().pem() + &authority.pem()));
    rig(&platform.url("127.0.0.1"), trusting(both)).admit().expect("any of several authorities will do");
    for tls in [trusting(stranger), TlsConfig { verify: Verify::On, ..TlsConfig::default() }] {
        let denied = rig(&platform.url("127.0.0.1"), tls).denied();
        assert_eq!(denied.status, 504);
        assert!(denied.reason.contains("UnknownIssuer"), "{denied:?}");
    }
}

#[test]
fn a_name_that_is_not_the_certificates_is_refused() {
    let (files, authority) = (Files::new(), Authority::new());
    let platform = Server::tls(authority.server(&["platform.example"]).serving(None));
    let tls = trusting(files.write("ca.pem", &authority.pem()));
    let denied = rig(&platform.url("127.0.0.1"), tls).denied();
    assert!(denied.reason.contains("not valid for name"), "{denied:?}");
}

#[test]
fn verification_is_off_where_told_so_and_for_localhost() {
    let platform = platform(&Authority::new());
    let with = |host, verify| rig(&platform.url(host), TlsConfig { verify, ..TlsConfig::default() }).admit();
    assert!(with("127.0.0.1", Verify::Auto).is_err());
    assert!(with("localhost", Verify::On).is_err());
    with("localhost", Verify::Auto).expect("a name for development");
    with("127.0.0.1", Verify::Off).expect("told so");
}

#[test]
fn a_platform_that_asks_for_a_certificate_gets_the_relays() {
    let (files, authority) = (Files::new(), Authority::new());
    let platform = Server::tls(authority.server(&["127.0.0.1"]).serving(Some(&authority)));
    let url = platform.url("127.0.0.1");
    let client = authority.client();
    let tls = |who: Option<&Vouched>| TlsConfig {
        identity: who.map(|who| IdentityFiles {
            cert: files.write("client.crt", &who.cert_pem()),
            key: files.write("client.key", &who.key_pem()),
            passphrase: None,
        }),
        ..trusting(files.write("ca.pem", &authority.pem()))
    };
    assert_eq!(rig(&url, tls(None)).denied().status, 504);
    assert_eq!(rig(&url, tls(Some(&Authority::new().client()))).denied().status, 504);
    rig(&url, tls(Some(&client))).admit().expect("the platform knows its certificate");
}

#[test]
fn an_encrypted_key_is_read_with_its_passphrase() {
    let (files, authority) = (Files::new(), Authority::new());
    let platform = Server::tls(authority.server(&["127.0.0.1"]).serving(Some(&authority)));
    let client = authority.client();
    let der = client.key_der();
    let encrypted = PrivateKeyInfo::try_from(der.as_slice())
        .expect("a key")
        .encrypt(pkcs8::rand_core::OsRng, "open sesame")
        .expect("it can be encrypted")
        .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
        .expect("it has a text form");
    let tls = |key: &str, passphrase: Option<&str>| TlsConfig {
        identity: Some(IdentityFiles {
            cert: files.write("client.crt", &client.cert_pem()),
            key: files.write("client.key", key),
            passphrase: passphrase.map(Secret::new),
        }),
        ..trusting(files.write("ca.pem", &authority.pem()))
    };
    let annotated = format!("Bag Attributes: none\n{}", *encrypted);
    let rig = rig(&platform.url("127.0.0.1"), tls(&annotated, Some("open sesame")));
    rig.admit().expect("the platform knows its certificate");
    for (key, passphrase, said) in [
        (&**encrypted, None, "client.key: it is encrypted; set its passphrase"),
        (&encrypted, Some("guess"), "client.key: it cannot be decrypted"),
        ("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", Some("x"), "openssl pkcs8 -topk8"),
    ] {
        let refusal = refusal(tls(key, passphrase));
        assert!(refusal.contains(said) && !refusal.contains("guess"), "{refusal}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    let client = Authority::new().client();
    let missing = PathBuf::from("/nowhere/ca.pem");
    assert!(refusal(trusting(missing)).contains("/nowhere/ca.pem: No such file"));
    for text in ["", "no certificate", &client.key_pem()] {
        let refusal = refusal(trusting(files.write("ca.pem", text)));
        assert!(refusal.contains("ca.pem"), "{refusal}");
    }
    let identity = |cert: &str, key: &str| TlsConfig {
        identity: Some(IdentityFiles {
            cert: files.write("client.crt", cert),
            key: files.write("client.key", key),
            passphrase: None,
        }),
        ..TlsConfig::default()
    };
    let stranger = Authority::new().client().key_pem();
    for (cert, key) in [("", &*client.key_pem()), (&*client.cert_pem(), ""), (&client.cert_pem(), &stranger)]
    {
        let refusal = refusal(identity(cert, key));
        assert!(refusal.contains("client.crt") && refusal.contains("client.key"), "{refusal}");
    }
}

#[test]
fn files_that_change_are_read_again_and_broken_ones_leave_those_in_force() {
    let (files, authority) = (Files::new(), Authority::new());
    let platform = platform(&authority);
    let ca = files.write("ca.pem", &Authority::new().pem());
    let rig = rig(&platform.url("127.0.0.1"), trusting(ca));
    assert!(rig.admit().is_err(), "a stranger is trusted");
    files.write("ca.pem", &(authority.pem() + "\n"));
    rig.admit().expect("the new authority is trusted");
    files.write("ca.pem", "half a rotation");
    rig.admit().expect("the one in force stays");
    files.write("ca.pem", &(Authority::new().pem() + "\n\n\n"));
    assert!(rig.admit().is_err(), "a stranger is trusted again");
}
