//! Sends the same memory on every connection, one send in flight on each.

use std::{convert::Infallible, io, net::TcpStream};

use io_uring::{cqueue, opcode, squeue::Flags};

use super::ring::Ring;
use crate::{
    load::PERIOD,
    way::{self, Batch, TaskRun},
};

/// Sends until a connection ends.
pub fn run(zero_copy: bool, bytes: usize, sockets: &[TcpStream]) -> io::Result<Infallible> {
    let way =
        way::Ring { task_run: TaskRun::Deferred, no_sqarray: true, is_registered: false, fixed_files: false };
    let mut ring = Ring::new(way)?;
    let memory: Vec<u8> = (0..bytes).map(|place| (place % PERIOD) as u8).collect();
    let send = |ring: &mut Ring, place: usize| {
        let socket = ring.socket(place, &sockets[place]);
        let (address, length, flags) =
            (memory.as_ptr(), memory.len() as u32, libc::MSG_WAITALL | libc::MSG_NOSIGNAL);
        let entry = if zero_copy {
            opcode::SendZc::new(socket, address, length).flags(flags).build()
        } else {
            opcode::Send::new(socket, address, length).flags(flags).build()
        };
        // SAFETY: the memory lives as long as this function, which ends only with the process.
        unsafe { ring.push(entry, Flags::empty(), place as u64) };
    };
    (0..sockets.len()).for_each(|place| send(&mut ring, place));
    loop {
        ring.enter(&Batch::One.wait(0))?;
        while let Some(entry) = ring.pop() {
            if !cqueue::notif(entry.flags()) && entry.result() != memory.len() as i32 {
                return Err(io::Error::other(format!("{} bytes sent", entry.result())));
            }
            // Of a zero-copy send its notification counts: before, its memory is still in use.
            if !cqueue::more(entry.flags()) {
                send(&mut ring, entry.user_data() as usize);
            }
        }
    }
}
