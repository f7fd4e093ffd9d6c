//! Starts a relay, waits until it serves, and stops it.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cores::Cores;

/// How a relay is to be started.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The option that the command came from, for error messages.
    pub option: &'a str,
    /// Words as a shell splits them; `NAME=value` in front sets variables. `{port}` is replaced before.
    pub command: &'a str,
    /// Where it will listen.
    pub address: SocketAddr,
    /// Where it may run.
    pub cores: &'a Cores,
}

/// A relay that this program started. Dropping it stops it.
#[derive(Debug)]
pub struct Started {
    child: Child,
    tail: Tail,
    exit: Option<ExitStatus>,
    /// How long it may take to stop before it is killed.
    grace: Duration,
}

impl Launch<'_> {
    /// Starts it and waits until it serves: until `/health` is answered, or for a relay without it, until it accepts.
    /// Errors: what went wrong, the end of its log, and the remedy.
    pub fn start(&self) -> Result<Started, String> {
        let complain = |what: &str| format!("{} {:?}: {what}", self.option, self.command);
        let mut command = self.split().map_err(|what| complain(&what))?;
        if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
            return Err(complain(&format!(
                "something listens on {} already, and would be measured in its place; stop it, or write {{port}} where \
                 the command names the port",
                self.address
            )));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own group: Ctrl-C is for this program, which still needs the relay for its report.
        command.process_group(0);
        let cores = self.cores.clone();
        // A thread of its own is bound and hands that on, so that no other is.
        let child = thread::spawn(move || cores.bind().and_then(|()| command.spawn()))
            .join()
            .expect("starting a process does not panic")
            .map_err(|error| complain(&format!("it does not start: {error}")))?;
        let mut started = Started { child, tail: Tail::default(), exit: None, grace: STOP_PATIENCE };
        started.tail.follow(&mut started.child);
        started.until_it_serves(self.address).map_err(|what| complain(&what))?;
        Ok(started)
    }

    fn split(&self) -> Result<Command, String> {
        let words = shlex::split(self.command).ok_or("a quote is not closed")?;
        let is_variable = |word: &&String| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            })
        };
        let variables: Vec<_> = words.iter().take_while(is_variable).collect();
        let mut rest = words.iter().skip(variables.len());
        let mut command = Command::new(rest.next().ok_or("it names no program")?);
        command.args(rest).envs(variables.iter().filter_map(|word| word.split_once('=')));
        Ok(command)
    }
}

impl Started {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It is not to be waited for when it is stopped.
    pub fn stop_at_once(&mut self) {
        self.grace = Duration::ZERO;
    }

    /// Whether it still runs. Errors: how it ended, and the end of its log.
    pub fn check(&mut self) -> Result<(), String> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().map_err(|error| error.to_string())?;
        }
        match self.exit {
            None => Ok(()),
            Some(exit) => Err(format!("the relay ended ({exit}){}", self.tail.told(true))),
        }
    }

    fn until_it_serves(&mut self, address: SocketAddr) -> Result<(), String> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            self.check()?;
            if serves(address) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "it does not serve {address} within {} s; does it listen elsewhere (--url)?{}",
                    START_PATIENCE.as_secs(),
                    self.tail.told(false)
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Started {
    /// SIGTERM, and after a grace SIGKILL, for the process and those below it.
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        let deadline = Instant::now() + self.grace;
        // Refused where it has ended, which is what is wanted.
        let _ = kill_process_group(group, Signal::TERM);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A port of the loopback address on which nothing listens now.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether it answers HTTP as a server that is ready does, or accepts and keeps silent.
fn serves(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut status = [0; 12];
    if stream.set_read_timeout(Some(Duration::from_secs(1))).is_err()
        || stream.write_all(request.as_bytes()).is_err()
    {
        return false;
    }
    match stream.read_exact(&mut status) {
        // Any answer but "I am not ready".
        Ok(()) => !(status.starts_with(b"HTTP/1.") && status[9] == b'5'),
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// The last lines that the relay wrote, to either output.
#[derive(Debug, Default)]
struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Tail {
    fn follow(&mut self, child: &mut Child) {
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
            child.stderr.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
        ];
        for output in outputs.into_iter().flatten() {
            let lines = Arc::clone(&self.lines);
            self.readers.push(thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                // A line without end is taken in pieces.
                while matches!(output.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line), Ok(1..)) {
                    let mut lines = lines.lock();
                    if lines.len() == TAIL_LINES {
                        lines.pop_front();
                    }
                    lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
                    line.clear();
                }
            }));
        }
    }

    /// For the end of an error message.
    fn told(&mut self, has_ended: bool) -> String {
        // A child of the relay that outlives it would hold the pipes open: the wait has an end.
        let deadline = Instant::now() + Duration::from_secs(1);
        while has_ended && !self.readers.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let lines = self.lines.lock();
        if lines.is_empty() {
            return "; it wrote nothing".to_owned();
        }
        lines.iter().fold("; its last lines:".to_owned(), |text, line| format!("{text}\n    {line}"))
    }
}

/// A Node relay with its modules on a cold disk takes seconds.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a drain that waits for open links.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const TAIL_LINES: usize = 20;
const LINE_BYTES_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(command: &str) -> Result<Started, String> {
        let cores = Cores::allowed().expect("a thread may ask");
        let port = free_port().expect("there is one");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let command = command.replace("{port}", &port.to_string());
        Launch { option: "--relay-cmd", command: &command, address, cores: &cores }.start()
    }

    #[test]
    fn one_that_ends_is_reported_with_its_last_lines() {
        let error =
            launch("sh -c 'for n in $(seq 30); do echo line $n >&2; done; echo \"no such option\"; exit 3'")
                .expect_err("it ends");
        assert!(error.starts_with("--relay-cmd \"sh -c") && error.contains("exit status: 3"), "{error}");
        assert!(error.contains("no such option") && error.contains("line 30"), "{error}");
        assert!(!error.contains("line 1\n"), "only the last lines: {error}");
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        for (command, why) in [
            ("/no/such/program", "No such file"),
            ("'open", "a quote is not closed"),
            ("", "it names no program"),
            ("PORT=1", "it names no program"),
        ] {
            let error = launch(command).expect_err(command);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn another_listener_is_not_measured_in_its_place() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let cores = Cores::allowed().expect("a thread may ask");
        let address = other.local_addr().expect("it is bound");
        let error = Launch { option: "--a", command: "sleep 9", address, cores: &cores }
            .start()
            .expect_err("refused");
        assert!(error.contains("listens") && error.contains("{port}"), "{error}");
    }

    #[test]
    fn variables_in_front_are_the_environment() {
        let error = launch("ONE=1 TWO='a b' sh -c 'echo $ONE:$TWO; exit 1'").expect_err("it ends");
        assert!(error.contains("1:a b"), "{error}");
    }

    #[test]
    fn a_group_that_ignores_sigterm_is_killed_in_the_end() {
        // A tree of two, as a cluster is; the outer one ends at once, the inner one would stay.
        let mut child = Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it writes a line");
        let inner = format!("/proc/{}/cmdline", line.trim());
        let is_there = || std::fs::read(&inner).is_ok_and(|command| command.starts_with(b"sleep"));
        // It is told of before it has become `sleep`.
        while !is_there() {
            thread::sleep(Duration::from_millis(1));
        }
        drop(Started { child, tail: Tail::default(), exit: None, grace: STOP_PATIENCE });
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_there() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!is_there(), "the child of the child is gone too");
    }
}
