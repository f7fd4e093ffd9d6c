//! What the relay says of the machine it runs on, and of itself: `longsplice doctor`, `longsplice health`, and the
//! script that spreads the work of network cards.

mod support;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use support::{
    Cell, every_cell,
    relay::{binary, fresh_port},
};

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env_clear().output().expect("the binary runs")
}

/// One check of the doctor's JSON.
fn check(report: &Value, name: &str) -> Value {
    let checks = report["checks"].as_array().expect("a list of checks");
    checks.iter().find(|one| one["check"] == name).unwrap_or_else(|| panic!("no check {name}")).clone()
}

fn examine(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = run(&[&["doctor", "--json"], arguments].concat());
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

#[test]
fn the_doctor_exits_with_what_it_found() {
    let modest = ["--max-connections", "100", "--shards", "1", "--port", "0"];
    let (code, report) = examine(&modest);
    assert_ne!(report["verdict"], "fail", "{report:#}");
    assert_eq!(code, Some(0), "warnings are no failure");
    for name in ["driver", "RLIMIT_NOFILE", "memory", "net.core.somaxconn"] {
        assert!(["ok", "warn"].contains(&check(&report, name)["verdict"].as_str().expect("a word")));
    }

    let (code, report) = examine(&["--max-connections", "100000000", "--shards", "1", "--port", "0"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &Value::from("fail")));
    let found = check(&report, "RLIMIT_NOFILE");
    let remedy = found["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("100000200") && remedy.contains("--max-connections"), "{remedy}");

    let table = String::from_utf8(run(&[&["doctor"][..], &modest].concat()).stdout).expect("text");
    assert!(table.lines().last().is_some_and(|line| line.ends_with(" 0 fail")), "{table}");

    let refused = run(&["doctor", "--shards", "many"]);
    assert_eq!(refused.status.code(), Some(2), "a bad configuration is no finding");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--shards"));
}

#[test]
fn the_doctor_sees_a_port_in_use_and_takes_none() {
    let taken = SocketAddr::from(([127, 0, 0, 1], fresh_port()));
    let listen = taken.to_string();
    // It is free: to look must not be to bind, or a relay that starts meanwhile is refused.
    for _ in 0..3 {
        let (_, report) = examine(&["--max-connections", "100", "--listen", &listen]);
        assert_eq!(check(&report, "addresses")["verdict"], "ok");
    }
    let _listener = TcpListener::bind(taken).expect("the doctor left it free");
    let (code, report) = examine(&["--max-connections", "100", "--listen", &listen]);
    let found = check(&report, "addresses");
    assert_eq!((code, &found["verdict"]), (Some(1), &Value::from("fail")));
    assert!(found["remedy"].as_str().is_some_and(|remedy| remedy.contains(&taken.port().to_string())));
}

#[test]
fn health_asks_the_relay_that_runs_with_the_same_options() {
    every_cell(|cell| {
        let mut relay = cell.setup().start();
        let listen = relay.address.to_string();
        for what in [&["health", "--listen", &listen][..], &["health", "--ready", "--listen", &listen]] {
            let output = run(what);
            assert!(output.status.success(), "{what:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        // By the environment, as in a container.
        let port = relay.address.port().to_string();
        let asked = Command::new(binary()).arg("health").env_clear().env("LINK_PORT", &port).status();
        assert!(asked.expect("it runs").success());
        assert!(relay.stop().success());
        let output = run(&["health", "--listen", &listen]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&listen));
    });
}

#[test]
fn health_does_not_guess_a_port() {
    let output = run(&["health", "--port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--port"));
}

#[test]
fn a_draining_relay_is_healthy_and_not_ready() {
    let cell = Cell { driver: "epoll", shards: 1 };
    let mut relay = cell.setup().flag("--drain-delay", "60s").start();
    let listen = relay.address.to_string();
    relay.signal("TERM");
    relay.logged(&["draining"]);
    assert!(run(&["health", "--listen", &listen]).status.success());
    let output = run(&["health", "--ready", "--listen", &listen]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    // The second one ends it at once.
    relay.stop();
}

/// A made-up machine of two network cards: one queue, and two queues with an interrupt each.
fn cards(root: &Path) {
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    };
    put("sys/class/net/one/queues/rx-0/rps_cpus", "0\n");
    for queue in ["0", "1"] {
        put(&format!("sys/class/net/two/queues/rx-{queue}/rps_cpus"), "3\n");
    }
    for number in ["40", "41", "42"] {
        put(&format!("sys/class/net/two/device/msi_irqs/{number}"), "msix\n");
        put(&format!("proc/irq/{number}/smp_affinity_list"), "0-3\n");
    }
    put(
        "proc/interrupts",
        " 40: 0 PCI-MSIX two-config\n 41: 5 PCI-MSIX two-TxRx-0\n 42: 5 PCI-MSIX two-TxRx-1\n",
    );
}

#[test]
fn the_affinity_script_shows_applies_and_reverts() {
    let root = tempfile::tempdir().expect("a folder");
    cards(root.path());
    let script = |arguments: &[&str]| {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/rps-affinity.sh"))
            .args(arguments)
            .env("SYSFS", root.path().join("sys"))
            .env("PROCFS", root.path().join("proc"))
            .env("STATE", root.path().join("state"))
            .env("CORES", "1 33")
            .output()
            .expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let all = || {
        let read =
            |path: &str| fs::read_to_string(root.path().join(path)).expect("it is there").trim().to_owned();
        [
            read("sys/class/net/one/queues/rx-0/rps_cpus"),
            read("sys/class/net/two/queues/rx-0/rps_cpus"),
            read("proc/irq/40/smp_affinity_list"),
            read("proc/irq/41/smp_affinity_list"),
            read("proc/irq/42/smp_affinity_list"),
        ]
    };
    let before = all();
    let shown = script(&["one", "two"]);
    assert!(shown.contains("echo 2,00000002 > ") && shown.contains("irq/42/smp_affinity_list"), "{shown}");
    assert_eq!(all(), before, "showing writes nothing");
    script(&["--apply", "one", "two"]);
    assert_eq!(all(), ["2,00000002", "0", "0-3", "1", "33"]);
    // A second time, as after a link went down and up: what was there first is what is restored.
    script(&["--apply", "one", "two"]);
    script(&["--revert"]);
    assert_eq!(all(), before);
}
