//! Bytes by way of this process: read into one reused buffer, written from it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
};

use super::Means;

const BUFFER_BYTES: usize = 64 * 1024;

/// `read` and `write`.
pub struct Copy {
    buffer: Vec<u8>,
}

impl Copy {
    /// With a buffer for all connections.
    pub fn new() -> Copy {
        Copy { buffer: vec![0; BUFFER_BYTES] }
    }
}

impl Means for Copy {
    type Held = Vec<u8>;

    fn forward(
        &mut self,
        mut source: &TcpStream,
        target: &TcpStream,
        held: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let count = match source.read(&mut self.buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let taken = write_some(target, &self.buffer[..count])?;
        held.extend_from_slice(&self.buffer[taken..count]);
        Ok(true)
    }

    fn send(&mut self, target: &TcpStream, held: &mut Vec<u8>) -> io::Result<()> {
        let taken = write_some(target, held)?;
        held.drain(..taken);
        Ok(())
    }

    fn is_empty(held: &Vec<u8>) -> bool {
        held.is_empty()
    }
}

fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
