//! Scripts in `tests/node` with real clients: they need Node.js 18 or newer with npm.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// Runs a script to its end; fails unless it says that all went well.
pub fn run(script: &str, arguments: &[&str]) {
    install();
    let output = Command::new("node")
        .arg(script)
        .args(arguments)
        .current_dir(folder())
        .stdin(Stdio::null())
        .output()
        .expect("node runs: the tests need Node.js 18 or newer");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("ok\n"), "{script} {arguments:?}: {said}{complained}");
}

/// Starts a script that answers on its standard output what it is asked on its standard input.
pub fn spawn(script: &str) -> Child {
    install();
    Command::new("node")
        .arg(script)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs: the tests need Node.js 18 or newer")
}

/// Where Chromium is, if it is in `PATH`.
pub fn chromium() -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())?;
    found.into_os_string().into_string().ok()
}

/// Installs the dependencies as the lock file says, unless they are there.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
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
    });
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/node")
}
