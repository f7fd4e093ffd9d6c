//! Where lines go, and who waits for that: a thread of their own, and nobody else.
//!
//! Holds lines that are not written yet. Promises that putting one in never waits for whoever reads the other end: a
//! pipe that nobody reads and a disk that is full cost lines, which are counted, and nothing else. Lines leave in the
//! order they came; each is written whole or counted as lost.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

/// The sinks of this process: standard error, and standard output where something is written there.
static SINKS: OnceLock<Sinks> = OnceLock::new();

struct Sinks {
    error: Arc<Sink>,
    output: Option<Arc<Sink>>,
}

impl Sinks {
    fn each(&self) -> impl Iterator<Item = &Arc<Sink>> {
        std::iter::once(&self.error).chain(&self.output)
    }
}

/// Starts the thread of standard error, and the one of standard output if asked for. Only the first call counts.
///
/// To be called by the main thread, in whose descriptor table the two then write. Errors: no descriptor, no thread.
pub(super) fn start(with_output: bool) -> io::Result<()> {
    let error = Sink::start("log", File::from(io::stderr().as_fd().try_clone_to_owned()?))?;
    let output = if with_output {
        Some(Sink::start("log-output", File::from(io::stdout().as_fd().try_clone_to_owned()?))?)
    } else {
        None
    };
    let _ = SINKS.set(Sinks { error, output });
    Ok(())
}

/// A writer of one line to standard error.
pub(super) fn to_error() -> Line {
    Line(SINKS.get().map(|sinks| Arc::clone(&sinks.error)))
}

/// Writes a line to standard output.
pub fn write_line(line: &str) {
    match SINKS.get().and_then(|sinks| sinks.output.as_ref()) {
        Some(sink) => sink.put(format!("{line}\n").into_bytes()),
        // Nobody is left to be told where that fails.
        None => _ = writeln!(io::stdout().lock(), "{line}"),
    }
}

/// Writes the last line to standard error, and waits a moment until it and what was logged before are written.
pub fn write_last_line(line: &str) {
    match SINKS.get() {
        Some(sinks) => sinks.error.put(format!("{line}\n").into_bytes()),
        None => _ = writeln!(io::stderr().lock(), "{line}"),
    }
    flush();
}

/// Waits until what was logged is written, at most `FLUSH_LIMIT`: for the end of the process.
pub fn flush() {
    for sink in SINKS.get().into_iter().flat_map(Sinks::each) {
        sink.flush();
    }
}

/// Lines that were not written: more came than were taken, or writing them failed.
pub fn lines_lost() -> u64 {
    SINKS.get().into_iter().flat_map(Sinks::each).map(|sink| sink.lost.load(Relaxed)).sum()
}

/// Takes one line, whole, by one call of `write`.
pub(super) struct Line(Option<Arc<Sink>>);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(sink) = &self.0 {
            sink.put(line.to_vec());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way to one file.
///
/// Invariant: `bytes` is the sum of the waiting lines' lengths and at most [`WAITING_BYTES_MAX`].
#[derive(Default)]
struct Sink {
    queue: Mutex<Queue>,
    came: Condvar,
    went: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// One has been taken out and is being written.
    writing: bool,
}

impl Sink {
    fn start(name: &str, file: impl Write + Send + 'static) -> io::Result<Arc<Sink>> {
        let sink = Arc::new(Sink::default());
        let written = Arc::clone(&sink);
        thread::Builder::new().name(name.to_owned()).spawn(move || written.write_to(file))?;
        Ok(sink)
    }

    fn put(&self, line: Vec<u8>) {
        let mut queue = self.queue.lock();
        if queue.bytes + line.len() > WAITING_BYTES_MAX {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.waiting.push_back(line);
        drop(queue);
        self.came.notify_one();
    }

    fn flush(&self) {
        let mut queue = self.queue.lock();
        let busy = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        let _ = self.went.wait_while_for(&mut queue, busy, FLUSH_LIMIT);
    }

    /// Writes lines for ever.
    fn write_to(&self, mut file: impl Write) {
        let mut told = 0;
        loop {
            let line = self.next();
            let written = write_whole(&mut file, &line);
            if written.is_err() {
                self.lost.fetch_add(1, Relaxed);
            }
            let lost = self.lost.load(Relaxed);
            // Not before there is room again for what is logged meanwhile: this line must not be lost as well.
            if written.is_ok() && lost > told && self.queue.lock().waiting.is_empty() {
                tracing::warn!(
                    lines = lost - told,
                    "log lines were lost: they were not taken, or writing them failed"
                );
                told = lost;
            }
        }
    }

    /// Waits for a line and takes it out.
    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue.lock();
        queue.writing = false;
        loop {
            if let Some(line) = queue.waiting.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                return line;
            }
            self.went.notify_all();
            self.came.wait(&mut queue);
        }
    }
}

/// Writes all of a line, also to a file that somebody else has set not to wait.
fn write_whole(file: &mut impl Write, line: &[u8]) -> io::Result<()> {
    let mut left = line;
    while !left.is_empty() {
        match file.write(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => left = &left[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lines that wait for their file: some ten thousand, the warnings of every kind many times over.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// How long the end of the process waits for lines. With the time to close connections, below the 5 s that operators
/// are promised.
const FLUSH_LIMIT: Duration = Duration::from_millis(400);
/// How long a file that does not wait by itself is left alone when it is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, sync::mpsc};

    use super::*;

    /// A file that fails, or hands on what it is given.
    struct Moody(mpsc::Receiver<bool>, mpsc::Sender<Vec<u8>>);

    impl Write for Moody {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Waits, as a full pipe does, until it is told how this one goes.
            if !self.0.recv().expect("the test tells") {
                return Err(ErrorKind::StorageFull.into());
            }
            self.1.send(line.to_vec()).expect("the test listens");
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_find_no_room_or_fail_are_counted_and_the_others_keep_their_order() {
        let (fate, fates) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let sink = Sink::start("a sink", Moody(fates, written)).expect("a thread");
        let line = |n: usize| vec![n as u8; WAITING_BYTES_MAX / 4];
        sink.put(line(0));
        // Taken out, and stuck.
        while !sink.queue.lock().writing {
            thread::yield_now();
        }
        (1..=6).for_each(|n| sink.put(line(n)));
        assert_eq!(sink.lost.load(Relaxed), 2, "room for four");
        for fine in [true, false, true, false, true] {
            fate.send(fine).expect("the sink waits");
        }
        for n in [0, 2, 4] {
            assert_eq!(lines.recv().expect("a line"), line(n));
        }
        sink.flush();
        assert_eq!(sink.lost.load(Relaxed), 4);
    }

    #[test]
    fn a_file_that_somebody_set_not_to_wait_gets_whole_lines() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("a socket");
        let sink = Sink::start("a sink", ours).expect("a thread");
        let line: Vec<u8> = (0..WAITING_BYTES_MAX).map(|n| n as u8).collect();
        sink.put(line.clone());
        let mut read = vec![0; line.len()];
        io::Read::read_exact(&mut theirs, &mut read).expect("all of it");
        assert_eq!(read, line);
        sink.flush();
        assert_eq!(sink.lost.load(Relaxed), 0);
    }
}
