//! The relay's process on this machine: one that runs already, or one that is started for the run and stopped after it.

mod start;
mod tree;

use std::{fs, path::Path, process::Command};

pub use start::{Launch, Started, free_port};
pub use tree::{Cpu, Memory, descriptors, memory, usage};

use crate::{cores::Cores, machine};

/// What the program of this process says of its version, if it is ours; another's might start a second relay when
/// asked.
pub fn version(pid: u32) -> Option<String> {
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    if program.file_name()? != "longsplice" {
        return None;
    }
    // The link in /proc still works where the file was replaced meanwhile.
    let output =
        Command::new(Path::new("/proc").join(pid.to_string()).join("exe")).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !version.is_empty()).then_some(version)
}

/// The cores that the process is bound to; `None` if it may run on all of the machine, or is gone.
pub fn bound_to(pid: u32) -> Option<Cores> {
    let cores = tree::cores(pid)?;
    (cores.numbers().len() < machine::describe().cores as usize).then_some(cores)
}

/// Whether there is such a process; the error says what to do.
pub fn check(pid: u32) -> Result<(), String> {
    match usage(pid) {
        Some(_) => Ok(()),
        None => Err(format!("--relay-pid {pid}: there is no such process; `pgrep -a` lists those that run")),
    }
}
