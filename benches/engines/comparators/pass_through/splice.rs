//! Bytes that never leave the kernel: from socket to pipe to socket by splice(2).
//!
//! A direction has a pipe while bytes of it are under way; an empty pipe goes back and is lent next, while it is
//! still in the caches. So a thousand connections at rest share a handful of pipes.

use std::{
    io::{self, ErrorKind},
    net::TcpStream,
};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

use super::Means;

const PIPE_BYTES: usize = 256 * 1024;

/// `splice`, twice.
pub struct Splice {
    free: Vec<Pipe>,
}

/// A pipe and what is in it.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    bytes: usize,
}

impl Splice {
    /// Without a pipe as yet.
    pub fn new() -> Splice {
        Splice { free: Vec::new() }
    }

    fn empty_pipe(&mut self) -> io::Result<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&write, PIPE_BYTES)?;
        Ok(Pipe { read, write, bytes: 0 })
    }
}

impl Means for Splice {
    type Held = Option<Pipe>;

    fn forward(
        &mut self,
        source: &TcpStream,
        target: &TcpStream,
        held: &mut Option<Pipe>,
    ) -> io::Result<bool> {
        let mut pipe = self.empty_pipe()?;
        let count = move_some(source, &pipe.write, PIPE_BYTES)?;
        pipe.bytes = count.unwrap_or(0);
        *held = Some(pipe);
        self.send(target, held)?;
        Ok(count != Some(0))
    }

    fn send(&mut self, target: &TcpStream, held: &mut Option<Pipe>) -> io::Result<()> {
        let Some(pipe) = held else { return Ok(()) };
        while pipe.bytes > 0 {
            match move_some(&pipe.read, target, pipe.bytes)? {
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(count) => pipe.bytes -= count,
                None => return Ok(()),
            }
        }
        self.free.extend(held.take());
        Ok(())
    }

    fn is_empty(held: &Option<Pipe>) -> bool {
        held.is_none()
    }
}

/// `None` where one of the two ends is not ready.
fn move_some(
    from: impl rustix::fd::AsFd,
    to: impl rustix::fd::AsFd,
    bytes: usize,
) -> io::Result<Option<usize>> {
    match splice(from, None, to, None, bytes, SpliceFlags::MOVE | SpliceFlags::NONBLOCK) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
