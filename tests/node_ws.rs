//! Real clients: a host and a client by npm `ws` do the whole introduction and move 100 MB each way
//! (`tests/node`).

mod support;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use support::every_cell_in_turn;

#[test]
fn npm_ws_peers_introduce_move_100_mb_each_way_and_reconnect() {
    install();
    every_cell_in_turn(|cell| {
        let relay = cell.start();
        let output = Command::new("node")
            .arg("link.mjs")
            .arg(format!("ws://{}", relay.address))
            .current_dir(folder())
            .stdin(Stdio::null())
            .output()
            .expect("node runs: the tests need Node.js 18 or newer");
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.ends_with("ok\n"), "{said}{complained}");
        let metrics = relay.metrics();
        for from in ["client", "host"] {
            let bytes = metrics.sum_of("longsplice_relayed_bytes_total", &[("from", from)]);
            assert!(bytes >= 100e6, "the relay counted {bytes} bytes from the {from}");
        }
        relay.until_empty();
    });
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/node")
}

/// Installs the dependencies as the lock file says, unless they are there.
fn install() {
    let installed = folder().join("node_modules/.package-lock.json");
    let locked = folder().join("package-lock.json");
    let modified = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified());
    let fresh = modified(&installed).is_ok_and(|at| modified(&locked).is_ok_and(|locked| at >= locked));
    if fresh {
        return;
    }
    let npm = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder()).output();
    let npm = npm.expect("npm runs: the tests need Node.js 18 or newer with npm");
    assert!(npm.status.success(), "npm ci: {}", String::from_utf8_lossy(&npm.stderr));
}
