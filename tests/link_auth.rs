//! Who may register: the signature, its time stamp and origin, and the allow-list (link.md section 4).

mod support;

use std::io::Write;

use serde_json::{Value, json};
use support::{
    Cell, End, Heard, Host, Keys, PATIENCE, Peer, Relay, every_cell, keys::unix_ms, link::register,
};
use tempfile::NamedTempFile;

#[test]
fn a_register_that_does_not_verify_is_4007() {
    every_cell(|cell| {
        let relay = cell.start();
        let keys = Keys::new();
        let other = Keys::new();
        let origin = relay.origin();
        let now = unix_ms();
        let good = || keys.register(&origin, unix_ms());
        let with = |field: &str, value: Value| {
            let mut message = good();
            message["auth"][field] = value;
            message
        };
        let without = |field: &str| {
            let mut message = good();
            message["auth"].as_object_mut().expect("auth is an object").remove(field);
            message
        };
        let auth = |value: Value| json!({ "type": "register", "address": keys.address, "auth": value });
        let sig = good()["auth"]["sig"].as_str().expect("a string").to_owned();
        let zero_sig = "A".repeat(86);

        let refused = [
            ("no auth", json!({ "type": "register", "address": keys.address })),
            ("auth is null", auth(json!(null))),
            ("auth is a string", auth(json!("ed25519"))),
            ("auth is a list", auth(json!([]))),
            ("auth is empty", auth(json!({}))),
            ("no alg", without("alg")),
            ("another alg", with("alg", json!("ed448"))),
            ("alg in capitals", with("alg", json!("Ed25519"))),
            ("alg is a number", with("alg", json!(25519))),
            ("no pub", without("pub")),
            ("pub is a number", with("pub", json!(1))),
            ("pub is empty", with("pub", json!(""))),
            ("pub is short", with("pub", json!(&keys.public[1..]))),
            ("pub is long", with("pub", json!(format!("{}AA", keys.public)))),
            ("pub is padded", with("pub", json!(format!("{}=", keys.public)))),
            ("pub is not base64", with("pub", json!("!".repeat(43)))),
            ("pub is another's", with("pub", json!(other.public))),
            ("no sig", without("sig")),
            ("sig is null", with("sig", json!(null))),
            ("sig is short", with("sig", json!(&sig[1..]))),
            ("sig is long", with("sig", json!(format!("{sig}AA")))),
            ("sig is not base64", with("sig", json!("*".repeat(86)))),
            ("sig is zero", with("sig", json!(zero_sig))),
            ("sig is another's", with("sig", other.register(&origin, now)["auth"]["sig"].clone())),
            ("no ts", without("ts")),
            ("ts is a string", with("ts", json!(now.to_string()))),
            ("ts is a fraction", with("ts", json!(now as f64 + 0.5))),
            ("ts is not what was signed", with("ts", json!(now - 1))),
            ("no nonce", without("nonce")),
            ("nonce is a number", with("nonce", json!(5))),
            ("nonce is not what was signed", with("nonce", json!("another nonce"))),
            ("nonce is empty", keys.register_signed_over(&origin, &keys.address, now, "")),
            ("nonce is 89 long", keys.register_signed_over(&origin, &keys.address, now, &"n".repeat(89))),
            ("ts is too old", keys.register(&origin, now - 310_000)),
            ("ts is in the future", keys.register(&origin, now + 310_000)),
            ("ts is in seconds", keys.register(&origin, now / 1000)),
            ("ts is negative", keys.register(&origin, -now)),
            ("ts is zero", keys.register(&origin, 0)),
            ("ts is huge", keys.register(&origin, i64::MAX)),
            ("address is another's", keys.register_signed_over(&origin, &other.address, now, "n")),
            ("address is any text", keys.register_signed_over(&origin, "address", now, "n")),
            ("another origin", keys.register("relay.example", now)),
            ("no origin", keys.register("", now)),
            ("origin with a scheme", keys.register(&format!("ws://{origin}"), now)),
        ];
        for (what, message) in refused {
            answers(&relay, what, &message, 4007);
        }
        // Nothing of it has registered anything, and the same key still can.
        assert_eq!(relay.stats()["addressRegistrations"], 0);
        Host::register_keys(&relay, keys.clone()).join::<Peer, Peer>(&relay).check();
    });
}

#[test]
fn time_stamps_within_five_minutes_and_nonces_of_1_to_88_characters_are_taken() {
    every_cell(|cell| {
        let relay = cell.start();
        for skew in [-290_000, -1000, 0, 1000, 290_000] {
            register(&mut relay.peer(), &Keys::new(), &relay.origin(), unix_ms() + skew);
        }
        for nonce in ["n", &"n".repeat(88), "\u{e9}\u{20ac}\u{1f600} \"quoted\" \\ \u{7f}"] {
            let keys = Keys::new();
            let mut control = relay.peer();
            control.tell(&keys.register_signed_over(&relay.origin(), &keys.address, unix_ms(), nonce));
            control.expect("registered");
        }
    });
}

#[test]
fn a_control_socket_that_fails_to_register_again_is_closed() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let (mut client, _) = host.introduce::<Peer>(&relay);
        host.control.tell(&host.keys.register("elsewhere", unix_ms() + 5));
        host.control.expect_closed(4007);
        client.expect_closed(4003);
    });
}

#[test]
fn the_origin_is_the_host_header_of_the_upgrade() {
    every_cell(|cell| {
        let relay = cell.start();
        let peer = |host: &str| Peer::over(relay.dial(), &relay, &[("Host", host)]);
        register(&mut peer("Relay.Example:8443"), &Keys::new(), "relay.example:8443", unix_ms());
        register(&mut peer("  relay.example "), &Keys::new(), "relay.example", unix_ms());
        // It is each socket's own.
        let mut control = peer("relay.example");
        control.tell(&Keys::new().register(&relay.origin(), unix_ms()));
        control.expect_closed(4007);
        let mut control = peer("Relay.Example");
        control.tell(&Keys::new().register("Relay.Example", unix_ms()));
        control.expect_closed(4007);
    });
}

#[test]
fn a_configured_origin_holds_whatever_the_host_header_says() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_ORIGIN", "  Link.Example:443 ").start();
        let peer = |host: &str| Peer::over(relay.dial(), &relay, &[("Host", host)]);
        register(&mut relay.peer(), &Keys::new(), "link.example:443", unix_ms());
        register(&mut peer("another.example"), &Keys::new(), "link.example:443", unix_ms());
        answers(&relay, "the address instead", &Keys::new().register(&relay.origin(), unix_ms()), 4007);
    });
}

#[test]
fn in_closed_mode_only_listed_keys_may_register() {
    every_cell(|cell| {
        let listed = [Keys::new(), Keys::new(), Keys::new(), Keys::new()];
        let [one, two, three, commented] = &listed;
        let mut file = NamedTempFile::new().expect("a temporary file");
        writeln!(file, "#{}\n\n{}", commented.public, three.public).expect("a file is writable");
        let relay = cell
            .setup()
            .env("LINK_ALLOWED_REGISTER_KEYS", format!(" {},#comment\t{}", one.public, two.public))
            .env("LINK_ALLOWED_REGISTER_KEYS_FILE", file.path().display())
            .start();
        for keys in [one, two, three] {
            Host::register_keys(&relay, keys.clone()).join::<Peer, Peer>(&relay).check();
        }
        for keys in [commented, &Keys::new()] {
            answers(&relay, "not listed", &keys.register(&relay.origin(), unix_ms()), 4010);
        }
        // Whether it verifies comes first: the list is not for guessing at.
        answers(&relay, "not listed, not valid", &Keys::new().register("elsewhere", unix_ms()), 4007);
        answers(&relay, "listed, not valid", &one.register("elsewhere", unix_ms()), 4007);
        // Clients need no key.
        let mut client = relay.peer();
        client.tell(&json!({ "type": "resolve", "address": "nowhere" }));
        client.expect_error("unknown_address");
    });
}

#[test]
fn a_list_without_keys_is_open() {
    every_cell(|cell| {
        let file = NamedTempFile::new().expect("a temporary file");
        let relay = cell
            .setup()
            .env("LINK_ALLOWED_REGISTER_KEYS", "#none,\t#at-all")
            .env("LINK_ALLOWED_REGISTER_KEYS_FILE", file.path().display())
            .start();
        Host::register(&relay).join::<Peer, Peer>(&relay).check();
    });
}

#[test]
fn sighup_reads_the_list_again_and_closes_those_who_are_off_it() {
    every_cell(|cell: Cell| {
        let keys: Vec<Keys> = (0..6).map(|_| Keys::new()).collect();
        let file = NamedTempFile::new().expect("a temporary file");
        let list = |keys: &[Keys]| {
            let lines: Vec<_> = keys.iter().map(|keys| keys.public.as_str()).collect();
            std::fs::write(file.path(), lines.join("\n")).expect("a file is writable");
        };
        list(&keys[..5]);
        let relay = cell.setup().env("LINK_ALLOWED_REGISTER_KEYS_FILE", file.path().display()).start();
        let mut hosts: Vec<Host> =
            keys[..5].iter().map(|keys| Host::register_keys(&relay, keys.clone())).collect();
        let mut link = hosts[0].join::<Peer, Peer>(&relay);
        let (mut waiting, _) = hosts[1].introduce::<Peer>(&relay);

        // The first two are off it, the last is new on it.
        list(&keys[2..]);
        relay.signal("HUP");
        for host in &mut hosts[..2] {
            host.control.expect_closed(4010);
        }
        waiting.expect_closed(4003);
        for host in &mut hosts[2..] {
            host.join::<Peer, Peer>(&relay).check();
        }
        link.check();
        Host::register_keys(&relay, keys[5].clone()).join::<Peer, Peer>(&relay).check();
        answers(&relay, "removed", &keys[0].register(&relay.origin(), unix_ms() + 10), 4010);

        // A file that is gone leaves the list as it was, rather than open to all or closed to everyone.
        let gone = file.path().with_extension("gone");
        std::fs::rename(file.path(), &gone).expect("a file can be renamed");
        relay.signal("HUP");
        relay.logged(&[&file.path().display().to_string()]);
        std::fs::rename(&gone, file.path()).expect("a file can be renamed");
        hosts[2].join::<Peer, Peer>(&relay).check();
        answers(&relay, "never listed", &Keys::new().register(&relay.origin(), unix_ms()), 4010);
    });
}

/// Sends a registration on a socket of its own, which must be closed with `code`.
fn answers(relay: &Relay, what: &str, message: &Value, code: u16) {
    let mut control = relay.peer();
    control.tell(message);
    match control.hear(PATIENCE) {
        Heard::Closed(closed, _) if closed == code => {}
        other => panic!("{what}: {message} was answered {other:?}, not {code}"),
    }
}
