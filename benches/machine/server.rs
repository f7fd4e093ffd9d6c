//! The servers under measurement, as child processes on a core of their own.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which core serves and which one loads it.
#[derive(Clone, Copy)]
pub struct Cores {
    /// The server's.
    pub server: usize,
    /// This process's own.
    pub generator: usize,
}

impl Cores {
    /// The first two that this process may use; one core twice where there is but one, which no ratio
    /// survives.
    pub fn pick() -> std::io::Result<Cores> {
        let allowed = sched_getaffinity(None)?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let server = usable.next().unwrap_or(0);
        Ok(Cores { server, generator: usable.next().unwrap_or(server) })
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    process: Child,
    /// Where it accepts connections.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a server on its core and waits until it listens. Errors: it did not, with what it said.
    pub fn start(title: &str, mut command: Command, cores: Cores) -> Result<Server, String> {
        let failed = |error: std::io::Error| format!("{title} does not start: {error}");
        // A comparator that cannot ask the kernel to end with its parent ends with its input.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A child inherits where its parent may run, from its first instruction on and for all its threads.
        run_on(cores.server).map_err(failed)?;
        let spawned = command.spawn();
        run_on(cores.generator).map_err(failed)?;
        let mut process = spawned.map_err(failed)?;
        let log = process.stderr.take().expect("standard error was asked for as a pipe");
        match listening_address(log) {
            Ok(address) => Ok(Server { process, address }),
            Err(said) => {
                end(&mut process);
                Err(format!("{title} does not listen:\n{said}"))
            }
        }
    }

    /// The process, as /proc names it.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Killed rather than asked: ten thousand goodbyes are no part of any measure.
fn end(process: &mut Child) {
    // Both fail only for a process that has ended and was waited for.
    let _ = process.kill();
    let _ = process.wait();
}

fn run_on(core: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Reads the log up to the line that names the address, and shows what comes after it: a server that serves
/// is silent.
fn listening_address(log: impl Read + Send + 'static) -> Result<SocketAddr, String> {
    let mut log = BufReader::new(log);
    let mut said = String::new();
    loop {
        let before = said.len();
        match log.read_line(&mut said) {
            Ok(0) | Err(_) => return Err(said),
            Ok(_) => {}
        }
        if let Some(address) = address_in(&said[before..]) {
            thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
            return Ok(address);
        }
    }
}

/// Finds `listen=ADDRESS`, quoted or not.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, value) = line.split_once("listen=")?;
    value.trim_start_matches('"').split(['"', ' ', ',', '\n']).next()?.parse().ok()
}
