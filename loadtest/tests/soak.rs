//! Soaks against the real relay, short ones.

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use serde_json::Value;
use support::{Outcome, begin_command, relay_binary};

/// A soak of some seconds on a relay that it starts.
fn soak(options: &str) -> Outcome {
    let relay = format!(
        "{} --listen 127.0.0.1:{{port}} --admin-listen 127.0.0.1:{{admin-port}} --shards 2 --send-buffer 64KiB \
         --link-ip-rate-per-min 0 --pair-ip-rate-per-min 0 --pair-session-ttl-seconds 30",
        relay_binary().display()
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_longsplice-loadtest"));
    command.arg("soak").args(options.split(' ')).args(["--relay-cmd", &relay]);
    begin_command(command).end()
}

fn series<'a>(run: &'a Value, name: &str) -> &'a Value {
    let watched = run["soak"]["watched"].as_array().expect("series");
    watched.iter().find(|watched| watched["name"] == name).unwrap_or_else(|| panic!("no {name}: {watched:?}"))
}

#[test]
fn a_soak_makes_mishaps_happen_and_finds_the_relay_well_and_at_rest() {
    let outcome = soak("--links 60 --troubled 50 --strangers 20 --seconds 6 --warmup 2");
    let run = outcome.run();
    let told = format!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(run["totals"]["errors"], serde_json::json!({}), "{told}");
    assert_eq!(run["verification"]["failures"], serde_json::json!([]), "{told}");
    let mishaps = run["soak"]["mishaps"].as_object().expect("mishaps by kind");
    for kind in ["client reset", "host reset", "reset during the handshakes", "bad frame of a host"] {
        assert!(mishaps.contains_key(kind), "no {kind} among {mishaps:?}");
    }
    assert!(mishaps.keys().filter(|kind| kind.starts_with("stranger: ")).count() > 10, "{mishaps:?}");
    let watched = run["soak"]["watched"].as_array().expect("series");
    let mut is_growing = false;
    for watched in watched {
        let rest = &watched["rest"];
        assert!(rest.is_null() || rest["is_back"] == true, "{}: {rest}\n{told}", watched["name"]);
        // In so short a time memory may well have grown: what is looked at is that the verdict counts.
        is_growing |= watched["growth"]["is_growing"] == true;
    }
    assert_eq!(outcome.code, i32::from(is_growing), "{told}");
    for name in ["resident memory", "descriptors", "links", "connections", "registered addresses"] {
        assert!(series(run, name)["growth"]["quarters"][3].as_f64() > Some(0.0), "{name} is judged");
    }
}

#[test]
fn what_grows_fails_the_soak() {
    let metrics = growing_metrics();
    let outcome = soak(&format!("--links 20 --seconds 4 --warmup 1 --settle 1 --metrics http://{metrics}"));
    let links = series(outcome.run(), "links");
    assert_eq!(links["growth"]["is_growing"], true, "{links}");
    assert_eq!(links["rest"]["is_back"], false, "{links}");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stdout.contains("links grew: medians of the quarters"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("links did not come to rest"), "{}", outcome.stdout);
}

/// Metrics of a relay whose registry of links grows by ten with every look.
fn growing_metrics() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let links = AtomicU64::new(0);
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let links = links.fetch_add(10, Ordering::Relaxed);
            let body = format!("longsplice_links{{shard=\"0\"}} {links}\nlongsplice_connections 0\n");
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}
