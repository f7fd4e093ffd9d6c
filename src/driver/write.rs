//! Direct writes of what is at the front of an outbox, for both drivers.

use std::{
    io::{self, IoSlice},
    os::fd::BorrowedFd,
};

use super::{
    outbox::{Front, Memory, Outbox, RUNS_MAX},
    socket,
};

/// Writes what is at the front without waiting: bytes in memory together, or one pipe, and takes note of what was
/// taken. `None` when nothing is queued. Only while no send is in flight.
///
/// Bytes in front of a pipe are a frame's header: the kernel is told that more follows at once, so that both leave
/// in one segment and wake the reader once.
pub(super) fn write_front(
    socket: BorrowedFd<'_>,
    outbox: &mut Outbox,
    memory: &mut Memory,
) -> Option<io::Result<usize>> {
    let written = match outbox.front(memory)? {
        Front::Bytes => {
            let mut parts = [IoSlice::new(&[]); RUNS_MAX];
            let mut count = 0;
            for (part, run) in parts.iter_mut().zip(outbox.runs(memory)) {
                *part = IoSlice::new(run);
                count += 1;
            }
            let more = outbox.is_pipe_at(count);
            match &parts[..count] {
                [one] => socket::send(socket, one, more),
                several => socket::send_vectored(socket, several, more),
            }
        }
        Front::Pipe(pipe) => socket::splice(memory.pipes.read_end(pipe), socket, memory.pipes.held(pipe)),
    };
    if let Ok(bytes) = written {
        memory.advance(outbox, bytes);
    }
    Some(written)
}
