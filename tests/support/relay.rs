//! A relay process: started with options on a free loopback port, watched, and stopped.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    PATIENCE,
    cell::Cell,
    end::End,
    eventually,
    http::{self, Response},
    metrics::Metrics,
    peer::Peer,
    process,
};

/// The upgrade path of the link dialect.
pub const LINK_PATH: &str = "/v1/link";
/// The upgrade path of the pair dialect.
pub const PAIR_PATH: &str = "/pair";

/// The binary under test. `LONGSPLICE_BINARY` names another build of it, such as the release build.
pub fn binary() -> String {
    std::env::var("LONGSPLICE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_longsplice").to_owned())
}

/// Changes the command that starts a relay.
type Prepare = Box<dyn Fn(&mut Command)>;

/// A relay to be started.
pub struct Setup {
    cell: Cell,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    listen: Option<&'static str>,
    handed_over: Option<TcpListener>,
    prepare: Option<Prepare>,
    descriptors: Option<u32>,
    log_file: Option<PathBuf>,
    narrow_log: bool,
}

impl Setup {
    /// Without pacing and without per-IP budgets, so that only a scenario that is about them meets them.
    pub fn new(cell: Cell) -> Setup {
        let setup = Setup {
            cell,
            environment: Vec::new(),
            arguments: Vec::new(),
            listen: Some("127.0.0.1:0"),
            handed_over: None,
            descriptors: None,
            prepare: None,
            log_file: None,
            narrow_log: false,
        };
        setup.env("LINK_RELAY_MAX_BPS", "0").env("LINK_IP_RATE_PER_MIN", "0").env("PAIR_IP_RATE_PER_MIN", "0")
    }

    /// Sets an environment variable. The relay gets no others.
    pub fn env(mut self, name: &str, value: impl ToString) -> Setup {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Leaves a variable away that the harness sets.
    pub fn without_env(mut self, name: &str) -> Setup {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Adds an option and its value.
    pub fn flag(mut self, name: &str, value: impl ToString) -> Setup {
        self.arguments.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// Lets each of its descriptor tables hold no more than this.
    pub fn descriptors(mut self, most: u32) -> Setup {
        self.descriptors = Some(most);
        self
    }

    /// Has it write its log to a file, which is followed.
    pub fn log_to(mut self, path: PathBuf) -> Setup {
        self.log_file = Some(path);
        self
    }

    /// Has it write its log to a pipe of one page, which is full after a few lines that nobody reads.
    pub fn narrow_log(mut self) -> Setup {
        self.narrow_log = true;
        self
    }

    /// Leaves `--listen` away, for other options to say where.
    pub fn without_listen(mut self) -> Setup {
        self.listen = None;
        self
    }

    /// Hands a listening socket over, as a service manager does (sd_listen_fds(3)).
    pub fn hand_over(mut self, listener: &TcpListener) -> Setup {
        self.handed_over = Some(listener.try_clone().expect("a descriptor to spare"));
        self.without_listen()
    }

    /// Changes the command that starts the relay.
    pub fn prepare(mut self, prepare: impl Fn(&mut Command) + 'static) -> Setup {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// The program with its standard input: the relay, or a shell that takes descriptors away or puts a handed
    /// over socket where it belongs, and becomes the relay.
    fn program(&self) -> Command {
        if self.handed_over.is_none() && self.descriptors.is_none() {
            let mut command = Command::new(binary());
            command.stdin(Stdio::null());
            return command;
        }
        let limit = self.descriptors.map_or(String::new(), |most| format!("ulimit -n {most} && "));
        let (input, handed) = match &self.handed_over {
            Some(listener) => {
                let socket = OwnedFd::from(listener.try_clone().expect("a descriptor to spare"));
                (Stdio::from(socket), "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ ")
            }
            None => (Stdio::null(), ""),
        };
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"{limit}{handed}exec "$0" "$@""#), &binary()]).stdin(input);
        command
    }

    /// Starts the relay and waits until it serves; fails if it does not, or not with the cell's driver and
    /// shards.
    pub fn start(self) -> Relay {
        // The kernel may give a port that the relay found free to a connection before the relay listens.
        (0..5).find_map(|_| self.try_start()).expect("one of five ports stays free for a moment")
    }

    /// Like [`Setup::start`], on a port given by `HOST` and `PORT`, of which the relay makes the URL in its QR
    /// codes.
    pub fn start_by_host_and_port(self) -> Relay {
        let mut setup = self.without_listen().env("HOST", "127.0.0.1");
        let relay = (0..5).find_map(|_| {
            setup.environment.retain(|(name, _)| name != "PORT");
            setup.environment.push(("PORT".to_owned(), fresh_port().to_string()));
            setup.try_start()
        });
        relay.expect("one of five ports is free")
    }

    /// Like [`Setup::start`]; `None` if its port was taken meanwhile.
    pub fn try_start(&self) -> Option<Relay> {
        let mut command = self.program();
        if let Some(prepare) = &self.prepare {
            prepare(&mut command);
        }
        let mut process = command
            .args(["--driver", self.cell.driver, "--shards", &self.cell.shards.to_string()])
            .args(["--admin-listen", "127.0.0.1:0", "--log-level", "debug"])
            .args(self.listen.iter().flat_map(|address| ["--listen", address]))
            .args(&self.arguments)
            .env_clear()
            // Where a build that measures coverage leaves what it saw.
            .envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)))
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(match &self.log_file {
                Some(path) => Stdio::from(File::create(path).expect("a place for the log")),
                None => Stdio::piped(),
            })
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", binary()));
        let log = match &self.log_file {
            Some(path) => Log::read(File::open(path).expect("it was just made"), true),
            None => {
                let pipe = process.stderr.take().expect("stderr is piped");
                if self.narrow_log {
                    rustix::pipe::fcntl_setpipe_size(&pipe, 4096).expect("a page is the least");
                }
                Log::read(pipe, false)
            }
        };
        let mut relay = Relay { cell: self.cell, process, log, address: UNKNOWN, admin: UNKNOWN, exit: None };
        relay.address = relay.logged_address("listening", "listen=")?;
        relay.admin = relay.logged_address("listening", "admin=")?;
        relay.check_cell();
        Some(relay)
    }
}

/// Asks for a page of JSON again until it leaves no shard out: it does those that did not run for a second.
pub fn of_all_shards(ask: impl Fn() -> serde_json::Value) -> serde_json::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = ask();
        if page["shardsMissing"].is_null() {
            return page;
        }
        assert!(Instant::now() < deadline, "shards give no answer: {page}");
    }
}

/// A port below those that the kernel chooses from, and another one with each call, so that two scenarios never have
/// the same.
pub fn fresh_port() -> u16 {
    static USED: AtomicU16 = AtomicU16::new(0);
    let first = 16_384 + (std::process::id() % 8_192) as u16;
    first + USED.fetch_add(1, Ordering::Relaxed)
}

/// A running relay. Dropping it stops it by SIGTERM and fails the test unless it exits cleanly; a panic in
/// its log fails the test in any case.
pub struct Relay {
    /// How it runs.
    pub cell: Cell,
    /// Where it listens.
    pub address: SocketAddr,
    admin: SocketAddr,
    process: Child,
    log: Log,
    exit: Option<ExitStatus>,
}

const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Relay {
    /// Its origin as hosts sign it, while `LINK_ORIGIN` is not set.
    pub fn origin(&self) -> String {
        self.address.to_string()
    }

    /// A TCP connection to it.
    pub fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("the relay accepts")
    }

    /// A TCP connection to it from another loopback address.
    pub fn dial_from(&self, source: Ipv4Addr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.bind(&SocketAddr::new(source.into(), 0).into()).expect("all of 127.0.0.0/8 is loopback");
        socket.connect(&self.address.into()).expect("the relay accepts");
        socket.into()
    }

    /// A TCP connection to it with small socket buffers, so that it backs up after little.
    pub fn dial_narrow(&self) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        // The receive buffer has to be set before the connection offers its window.
        socket.set_recv_buffer_size(16 * 1024).expect("a receive buffer");
        socket.set_send_buffer_size(16 * 1024).expect("a send buffer");
        socket.connect(&self.address.into()).expect("the relay accepts");
        socket.into()
    }

    /// A WebSocket to it.
    pub fn peer(&self) -> Peer {
        Peer::open(self)
    }

    /// One GET on its public port.
    pub fn get(&self, target: &str) -> Response {
        http::get(self.address, target)
    }

    /// One GET on its admin port.
    pub fn admin_get(&self, target: &str) -> Response {
        http::get(self.admin, target)
    }

    /// Where its admin port is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// `/v1/stats`, of all shards.
    pub fn stats(&self) -> serde_json::Value {
        of_all_shards(|| {
            let response = self.get("/v1/stats");
            assert_eq!(response.status, 200, "/v1/stats");
            response.json()
        })
    }

    /// `/metrics` of the admin port, of all shards: it leaves out those that did not run for a second.
    pub fn metrics(&self) -> Metrics {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.admin_get("/metrics");
            assert_eq!(response.status, 200, "/metrics");
            let text = std::str::from_utf8(&response.body).expect("the exposition format is UTF-8");
            let metrics = Metrics::parse(text);
            if metrics.sum("longsplice_shard_answered") == metrics.sum("longsplice_shards") {
                return metrics;
            }
            assert!(Instant::now() < deadline, "a shard gives no counters");
        }
    }

    /// Connections open now.
    pub fn connections(&self) -> u64 {
        self.metrics().sum("longsplice_connections") as u64
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        process::resident(self.process.id())
    }

    /// Open descriptors over all descriptor tables.
    pub fn descriptors(&self) -> usize {
        process::descriptors(self.process.id())
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        process::signal(self.process.id(), name);
    }

    /// Waits until every connection is gone.
    pub fn until_empty(&self) {
        eventually("every connection is gone", || self.connections() == 0);
    }

    /// Sends SIGTERM and waits for the exit; fails if that takes longer than [`PATIENCE`].
    pub fn stop(&mut self) -> ExitStatus {
        if self.exit.is_none() {
            self.signal("TERM");
        }
        self.exited(PATIENCE)
    }

    /// Waits for the exit; fails if that takes longer than `within`.
    pub fn exited(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        while self.exit.is_none() {
            self.exit = self.process.try_wait().expect("a child can be waited for");
            assert!(Instant::now() < deadline, "still running after {within:?}");
            thread::sleep(Duration::from_millis(5));
        }
        self.exit.expect("the loop ends with an exit")
    }

    /// Its log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().clone()
    }

    /// Reads nothing of its log while `meanwhile` runs.
    pub fn with_log_unread<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let _unread = self.log.reading.lock();
        meanwhile()
    }

    /// Stops it like [`Relay::stop`], and reads nothing of its log meanwhile.
    pub fn stop_unread(&mut self) -> ExitStatus {
        let reading = Arc::clone(&self.log.reading);
        let _unread = reading.lock();
        self.stop()
    }

    /// Closes the reading end of its log, with the next line.
    pub fn close_log(&self) {
        self.log.left.store(true, Ordering::Relaxed);
    }

    /// Waits for a log line that contains all of `parts`.
    pub fn logged(&self, parts: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("a log line with {parts:?}"), || {
            found = self.log().into_iter().find(|line| parts.iter().all(|part| line.contains(part)));
            found.is_some()
        });
        found.expect("eventually fails otherwise")
    }

    /// The address behind `key` in the start-up line that contains `marker`; `None` if the relay ended
    /// because another process had its address.
    fn logged_address(&mut self, marker: &str, key: &str) -> Option<SocketAddr> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Looked at before the log, so that the log of one that ended is complete.
            self.exit = self.process.try_wait().expect("a child can be waited for");
            let log = self.log.so_far(self.exit.is_some());
            if let Some(address) = log.iter().find_map(|line| {
                let value = line.contains(marker).then(|| line.split_once(key))??.1;
                let value = value.trim_start_matches('"');
                value[..value.find(['"', ' ', ',']).unwrap_or(value.len())].parse().ok()
            }) {
                return Some(address);
            }
            if let Some(exit) = self.exit {
                assert!(
                    log.iter().any(|line| line.contains("Address already in use")),
                    "ended at start: {exit}; its log: {log:#?}"
                );
                return None;
            }
            assert!(Instant::now() < deadline, "no {key} in the log");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A driver or a number of shards that was asked for and is not what runs makes every scenario void.
    fn check_cell(&self) {
        let Cell { driver, shards } = self.cell;
        self.logged(&["listening", &format!("driver={driver}"), &format!("shards={shards}")]);
        let metrics = self.metrics();
        let running = metrics.sum_of("longsplice_info", &[("driver", driver)]);
        assert_eq!(running, 1.0, "another driver than {driver} runs");
        let answered = metrics.sum("longsplice_shard_answered");
        assert_eq!(answered, f64::from(shards), "another number of shards runs");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if thread::panicking() {
            // The log is what one wants to see of a scenario that failed.
            let _ = self.process.kill();
            let _ = self.process.wait();
            let log = self.log.so_far(true).join("\n");
            eprintln!("--- log of the relay, {} ---\n{log}\n---", self.cell);
            return;
        }
        // A scenario that has seen the exit has judged it.
        let exit = self.exit.is_none().then(|| self.stop());
        let panicked = self.log.so_far(true).into_iter().find(|line| line.contains("panicked"));
        if let Some(line) = panicked {
            panic!("{}: the relay panicked: {line}", self.cell);
        }
        if let Some(exit) = exit {
            assert!(exit.success(), "{}: the relay ended with {exit}", self.cell);
        }
    }
}

/// What the relay writes to stderr, collected by a thread until the relay ends.
#[derive(Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    /// Held by whoever wants nothing to be read.
    reading: Arc<Mutex<()>>,
    ended: Arc<AtomicBool>,
    /// Nothing more is read, whatever comes.
    left: Arc<AtomicBool>,
    collector: Option<JoinHandle<()>>,
}

impl Log {
    /// Reads lines until their end; of a file, until the relay has ended too.
    fn read(source: impl Read + Send + 'static, grows: bool) -> Log {
        let log = Log::default();
        let (lines, reading) = (Arc::clone(&log.lines), Arc::clone(&log.reading));
        let (ended, left) = (Arc::clone(&log.ended), Arc::clone(&log.left));
        let mut source = BufReader::new(source);
        let collector = thread::spawn(move || {
            let mut line = Vec::new();
            loop {
                drop(reading.lock());
                let was_ended = ended.load(Ordering::Relaxed);
                let Ok(n) = source.read_until(b'\n', &mut line) else { return };
                if left.load(Ordering::Relaxed) {
                    return;
                }
                if line.ends_with(b"\n") {
                    line.pop();
                    lines.lock().push(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned());
                } else if n == 0 && (!grows || was_ended) {
                    return;
                } else if n == 0 {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Log { collector: Some(collector), ..log }
    }

    /// The lines so far; all there will ever be, once the relay has ended.
    fn so_far(&mut self, ended: bool) -> Vec<String> {
        if ended && let Some(collector) = self.collector.take() {
            self.ended.store(true, Ordering::Relaxed);
            collector.join().expect("the collector does not panic");
        }
        self.lines.lock().clone()
    }
}
