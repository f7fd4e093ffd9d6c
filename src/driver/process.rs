//! What the process asks of the kernel beside sockets: signals, cores, pages, the limit on descriptors, the clock's
//! state; and its environment, which is the process's too.
//!
//! Signals are blocked in every thread and taken by `sigtimedwait`, never by a handler: a handler runs on any
//! thread, and the descriptor it would write to means something else in a shard's private table.

use std::{collections::BTreeMap, io, mem::MaybeUninit, time::Duration};

use super::{Private, table};

/// The signals that the relay answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: read the allow-list again.
    Reload,
}

/// The right to wait for signals. Made before the first thread is started, so that all inherit the blocked
/// set.
#[derive(Debug)]
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals in this thread and all that it starts from now on.
    pub fn block() -> io::Result<Signals> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that the pointer names.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised by the call above.
        let mut set = unsafe { set.assume_init() };
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            // SAFETY: the set is initialised and the signal's number is valid.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
        // SAFETY: the set is initialised; no old set is asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
            0 => Ok(Signals { set }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// The next signal, or `None` when `limit` has passed.
    pub fn wait(&self, limit: Duration) -> Option<Signal> {
        let limit = libc::timespec {
            tv_sec: limit.as_secs().min(1 << 30) as libc::time_t,
            tv_nsec: limit.subsec_nanos() as libc::c_long,
        };
        // SAFETY: set and limit are initialised and outlive the call; no siginfo is asked for.
        match unsafe { libc::sigtimedwait(&self.set, std::ptr::null_mut(), &limit) } {
            libc::SIGTERM | libc::SIGINT => Some(Signal::Stop),
            libc::SIGHUP => Some(Signal::Reload),
            _ => None,
        }
    }
}

/// The cores that this thread may use, by number.
pub fn cores() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size given.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: every number is below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

/// Binds the calling thread to one core.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number came from `cores`, below CPU_SETSIZE.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is initialised and outlives the call.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread a descriptor table of its own, a copy of the process's: `RLIMIT_NOFILE` counts for it
/// alone. A descriptor that is opened afterwards means nothing in another thread, so it must not leave this one.
pub fn own_descriptors() -> Private {
    table::unshare()
}

/// Keeps the process off transparent huge pages where the system gives them unasked (`enabled` set to `always`): a
/// million small things on pages of 2 MiB leave most of each page empty. A kernel that refuses costs memory, nothing
/// else.
pub fn avoid_huge_pages() {
    // SAFETY: the call names no memory.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Whether the calling thread may have a descriptor table of its own: by making it one. To be asked of a thread
/// that does nothing else.
pub fn can_have_own_table() -> bool {
    // SAFETY: names no memory. The thread owns no descriptor, and keeps a copy of every other's until it ends.
    unsafe { libc::unshare(libc::CLONE_FILES) == 0 }
}

/// Raises the soft limit on descriptors to the hard one; returns the limit that holds now.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: the value is initialised and outlives the call.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0;
    Ok(if done { raised.rlim_cur } else { limit.rlim_cur })
}

/// The environment as text, `forgotten` taken out of the process's own copy, so that nothing started by it inherits
/// them. For the main thread, before it starts others: with more than one thread nothing is taken out.
pub fn take_environment(forgotten: &[&str]) -> BTreeMap<String, String> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1) {
        for name in forgotten {
            // SAFETY: there is no other thread that could read the environment meanwhile.
            unsafe { std::env::remove_var(name) };
        }
    }
    environment
}

/// The monotonic clock as the service manager reads it, in microseconds.
pub fn monotonic_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

/// The size of a page of memory.
pub fn page_bytes() -> u64 {
    // SAFETY: asks for a constant of the machine.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Whether something keeps the wall clock right (adjtimex(2), `STA_UNSYNC`); `None` where the kernel does not say.
pub fn clock_is_kept() -> Option<bool> {
    // SAFETY: an all-zero timex asks without changing anything (`modes` is 0).
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads and writes one timex.
    let state = unsafe { libc::adjtimex(&mut clock) };
    (state >= 0).then_some(clock.status & libc::STA_UNSYNC == 0)
}

/// Whether a thread can have a descriptor table of its own here, and the errno if not. Asked of a thread that ends at
/// once.
pub fn private_tables() -> super::Private {
    let asked = std::thread::Builder::new().spawn(|| super::table::make_private(&[]));
    let refused = super::Private::Refused(libc::EAGAIN);
    let Ok(thread) = asked else { return refused };
    thread.join().ok().and_then(Result::ok).unwrap_or(refused)
}
