//! The two programs, as their users start them.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod liar;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A wait that is longer than this is a failure.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The relay of this repository, on a free port of the loopback address. Dropping it ends it.
pub struct Relay {
    process: Child,
    pub address: SocketAddr,
}

impl Relay {
    /// Without pacing and without a budget for one address.
    pub fn start() -> Relay {
        Relay::with(&[])
    }

    /// With further options, which win.
    pub fn with(options: &[&str]) -> Relay {
        let defaults =
            [["--link-ip-rate-per-min", "0"], ["--link-relay-max-bps", "0"], ["--pair-ip-rate-per-min", "0"]];
        let defaults = defaults.iter().filter(|[name, _]| !options.contains(name)).flatten();
        let mut process = Command::new(relay_binary())
            .args(["--listen", "127.0.0.1:0", "--shards", "1"])
            .args(defaults)
            .args(options)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let mut log = BufReader::new(process.stderr.take().expect("stderr is piped"));
        let (mut line, mut told) = (String::new(), String::new());
        let address = loop {
            line.clear();
            assert!(
                log.read_line(&mut line).expect("the log is UTF-8") > 0,
                "the relay did not start:\n{told}"
            );
            told.push_str(&line);
            let found = line.split_once("listen=").map(|(_, rest)| rest.trim_start_matches('"'));
            if let Some(address) = found.filter(|_| line.contains("listening")) {
                let end = address.find(['"', ' ']).unwrap_or(address.len());
                break address[..end].trim().parse().expect("one address");
            }
        };
        // So that it never waits for a reader of its log.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Relay { process, address }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until so many links carry payload.
    pub fn until_relaying(&self, links: u64) {
        until(self.address, |stats| stats["links"]["relaying"] == links);
    }
}

/// Waits until the relay at `address`, which need not listen yet, has statistics of which this is true.
pub fn until(address: SocketAddr, is_so: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = stats(address).unwrap_or(Value::Null);
        if is_so(&stats) {
            return;
        }
        assert!(Instant::now() < deadline, "not so: {stats}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn stats(address: SocketAddr) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    let request = format!("GET /v1/stats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (_, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    Ok(serde_json::from_str(body).expect("JSON"))
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The relay's binary beside the load generator's; built where it is missing.
pub fn relay_binary() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_longsplice-loadtest")).with_file_name("longsplice");
    if !binary.exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let built =
            Command::new(env!("CARGO")).args(["build", "--bin", "longsplice"]).current_dir(root).status();
        assert!(built.expect("cargo runs").success(), "the relay cannot be built");
    }
    binary
}

/// What became of a run.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// `Null` where there is none.
    pub report: Value,
}

impl Outcome {
    /// The only run in it.
    pub fn run(&self) -> &Value {
        assert_eq!(
            self.report["runs"].as_array().map(Vec::len),
            Some(1),
            "one run:\n{}{}",
            self.stdout,
            self.stderr
        );
        &self.report["runs"][0]
    }

    /// Fails unless everything was right. A machine too busy for the generator is no fault of anyone's here.
    pub fn assert_passed(&self) -> &Value {
        let run = self.run();
        let mut errors = run["totals"]["errors"].as_object().expect("errors by kind").clone();
        let was_late = errors.remove("generator late").is_some();
        let failures = &run["verification"]["failures"];
        assert!(errors.is_empty() && failures == &serde_json::json!([]), "{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.code, i32::from(was_late), "{}\n{}", self.stdout, self.stderr);
        run
    }

    /// Fails unless verification did, in these words.
    pub fn assert_caught(&self, words: &[&str]) {
        let failures = self.run()["verification"]["failures"].to_string();
        assert!(words.iter().any(|word| failures.contains(word)), "{failures} has none of {words:?}");
        assert_eq!(self.code, 1, "{}\n{}", self.stdout, self.stderr);
    }
}

/// The load generator on its way.
pub struct Load {
    process: Child,
    json: PathBuf,
}

/// Starts `longsplice-loadtest` with these arguments, separated by blanks, against a relay at `address`.
pub fn begin(address: SocketAddr, arguments: &str) -> Load {
    begin_as(Command::new(env!("CARGO_BIN_EXE_longsplice-loadtest")), address, arguments)
}

/// The same, by another command that takes the arguments.
pub fn begin_as(mut command: Command, address: SocketAddr, arguments: &str) -> Load {
    command.args(arguments.split(' ')).args(["--url", &format!("ws://{address}")]);
    begin_command(command)
}

/// Starts a command that has all its arguments but for where its report goes.
pub fn begin_command(mut command: Command) -> Load {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let json = std::env::temp_dir().join(format!("loadtest-{}-{number}.json", std::process::id()));
    let process = command
        .args(["--quiet", "--json"])
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the load generator starts");
    Load { process, json }
}

impl Load {
    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -s INT {}", self.process.id())).status();
        assert!(sent.expect("sh runs").success());
    }

    /// Sends SIGINT again and again until it ends.
    pub fn interrupt_to_the_end(mut self) -> Outcome {
        while self.process.try_wait().expect("it is ours").is_none() {
            self.interrupt();
            thread::sleep(Duration::from_millis(50));
        }
        self.end()
    }

    /// Waits for its end.
    pub fn end(self) -> Outcome {
        let Output { status, stdout, stderr } = self.process.wait_with_output().expect("it ends");
        let text = fs::read_to_string(&self.json).unwrap_or_default();
        let _ = fs::remove_file(&self.json);
        Outcome {
            code: status.code().expect("it was not killed"),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            report: serde_json::from_str(&text).unwrap_or(Value::Null),
        }
    }
}

/// A whole run.
pub fn load(address: SocketAddr, arguments: &str) -> Outcome {
    begin(address, arguments).end()
}
