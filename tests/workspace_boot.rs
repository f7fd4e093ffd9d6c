//! Which environments a relay that serves the workspace dialect starts with, as the built binary.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 22: parsing | the `number` and `boolish` tests |
//! | 22.2: refusals | `environments_that_cannot_work_are_refused_by_name` |
//! | 23: the deployment text's names | `the_minimal_environment_of_the_deployment_text_starts` |

mod support;

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::{
    Cell, PATIENCE, Relay,
    http::get,
    platform::Platform,
    relay::{binary, fresh_port},
    workspace::{Caller, TARGET, page, setup},
};

/// Boot is the same with every driver and any number of shards.
const CELL: Cell = Cell { driver: "epoll", shards: 1 };

/// Starts a relay that must refuse to; gives what it says.
fn refused(environment: &[(&str, &str)]) -> String {
    let mut process = Command::new(binary())
        .args(["--listen", "127.0.0.1:0", "--shards", "1"])
        .env_clear()
        .env("LONGSPLICE_DIALECTS", "workspace")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let deadline = Instant::now() + PATIENCE;
    let exit = loop {
        if let Some(exit) = process.try_wait().expect("a child can be waited for") {
            break exit;
        }
        if Instant::now() > deadline {
            let _ = process.kill();
            let _ = process.wait();
            panic!("it starts with {environment:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    process.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(exit.code().is_some_and(|code| code != 0), "{environment:?} ended with {exit}: {said}");
    said
}

#[test]
fn environments_that_cannot_work_are_refused_by_name() {
    let prod = [("RELAY_MODE", "prod"), ("RELAY_BACKPLANE_MODE", "single")];
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("RELAY_TLS", "1")], "RELAY_TLS"),
        (&[("RELAY_SERVER_MTLS", "1")], "platform-client-cert-path"),
        (
            &[
                ("RELAY_SERVER_CLIENT_CERT_PATH", "/nowhere.crt"),
                ("RELAY_SERVER_CLIENT_KEY_PATH", "/nowhere.key"),
            ],
            "/nowhere.crt",
        ),
        (&[("RELAY_ENABLE_ADMIN_HTTP", "TRUE")], "RELAY_ENABLE_ADMIN_HTTP"),
        (&[("RELAY_BUS_ENABLED", "")], "RELAY_BUS_ENABLED"),
        (&[("RELAY_MODE", "DEV")], "RELAY_MODE"),
        (&[("RELAY_MODE", "")], "RELAY_MODE"),
        (&[("RELAY_BACKPLANE_MODE", "none")], "RELAY_BACKPLANE_MODE"),
        (&[("RELAY_SERVER_TLS_VERIFY", "yes")], "RELAY_SERVER_TLS_VERIFY"),
        // Production wants TLS, or somebody who ends it in front, and a key that is none of the examples.
        (&prod, "RELAY_TLS_TERMINATION"),
        (&[prod[0], prod[1], ("RELAY_TLS_TERMINATION", "platform")], "RELAY_INTERNAL_KEY"),
        (
            &[
                prod[0],
                prod[1],
                ("RELAY_TLS_TERMINATION", "platform"),
                ("RELAY_INTERNAL_KEY", "Change-Me-change-me-change-me"),
            ],
            "RELAY_INTERNAL_KEY",
        ),
        (
            &[
                prod[0],
                prod[1],
                ("RELAY_TLS_TERMINATION", "platform"),
                ("RELAY_INTERNAL_KEY", "0123456789abcdef01234567"),
            ],
            "RELAY_SERVER",
        ),
    ];
    for (environment, named) in cases {
        let said = refused(environment);
        assert!(said.contains(named), "{environment:?}: {said}");
    }
}

fn health(relay: &Relay) -> serde_json::Value {
    get(relay.address, "/health").json()
}

#[test]
fn numbers_that_are_none_are_the_default() {
    let platform = Platform::start();
    let relay = setup(CELL, &platform)
        .env("RELAY_MAX_CLIENTS_PER_WORKSPACE", "abc")
        .env("RELAY_PING_INTERVAL_MS", "0")
        .env("RELAY_MAX_FRAME_BYTES", " 0x400 ")
        .env("RELAY_MAX_PENDING_BYTES", "1e6")
        .env("MAX_LOGS", "-1")
        .start();
    let mut client = Caller::client("w1", TARGET, "c1").call_raw(&relay);
    client.write(&support::wire::message(1, &[b' '; 1025]));
    client.expect_closed_somehow(1009);
}

#[test]
fn the_minimal_environment_of_the_deployment_text_starts() {
    let platform = Platform::start();
    let validate = format!("{}{}", platform.url(), support::platform::VALIDATE);
    let relay = CELL
        .setup()
        .env("RELAY_INTERNAL_KEY", "some-key")
        .env("RELAY_VALIDATE_URL", validate)
        .env("RELAY_JWKS_URL", "https://platform.test/api/.well-known/jwks.json")
        // Not of the text: a busy machine may not answer in the two seconds that are the default.
        .env("RELAY_ADMISSION_TIMEOUT_MS", "30000")
        .start();
    assert_eq!(health(&relay)["ok"], true);
    // The token is opaque: no keys are asked for.
    let _client = Caller::client("w1", TARGET, "c1").call(&relay);
    assert_eq!(platform.requests().len(), 1);
    assert_eq!(page(&relay, "/state").status, 404, "admin pages are off");
}

#[test]
fn the_listening_port_has_three_names() {
    let platform = Platform::start();
    for name in ["PORT", "RELAY_LISTEN_PORT"] {
        let port = fresh_port();
        let relay = setup(CELL, &platform).without_listen().env("HOST", "127.0.0.1").env(name, port).start();
        assert_eq!(relay.address.port(), port, "{name}");
    }
}
