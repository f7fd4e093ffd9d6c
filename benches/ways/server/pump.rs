//! A pump between the two sockets of each link that can receive, send and wait in every way.
//!
//! Where it goes the relay's way it does what `src/driver/uring` does, in its order: everything that changed is
//! settled before it waits, sends leave by themselves when most buffers are queued, and connections that find no
//! buffer are read directly. It accepts nothing, parks nothing and closes nothing: the first connection that ends
//! ends it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, Read},
    net::TcpStream,
};

use io_uring::{cqueue, opcode, squeue::Flags};

use super::{
    DIRECTION_BYTES_HIGH,
    buffers::{Buffers, GROUP, Received},
    leg::{Leg, RUNS_MAX, Sending, length, run as lie},
    ring::Ring,
};
use crate::way::{self, Ahead, Receive, Send, Wait};

/// Pumps until a connection ends. Their order says whose link they are.
pub fn run(way: &way::Pump, sockets: Vec<TcpStream>) -> io::Result<Infallible> {
    let ring = Ring::new(way.ring)?;
    ring.register_sockets(&sockets)?;
    let mut pump = Pump {
        way: *way,
        buffers: Buffers::register(&ring, way)?,
        ring,
        legs: sockets.into_iter().map(Leg::new).collect(),
        changed: Vec::new(),
        starved: VecDeque::new(),
        direct_reads_left: 0,
        attempts: 0,
        received: Vec::new(),
    };
    (0..pump.legs.len()).for_each(|leg| pump.change(leg));
    loop {
        pump.turn()?;
        while let Some(entry) = pump.ring.pop() {
            pump.complete(&entry)?;
        }
        while pump.read_directly()? {}
    }
}

struct Pump {
    way: way::Pump,
    ring: Ring,
    buffers: Buffers,
    /// The other leg of a link has the same number but for its last bit.
    legs: Vec<Leg>,
    /// Those to be settled before waiting.
    changed: Vec<usize>,
    /// Those that found no buffer, in order.
    starved: VecDeque<usize>,
    direct_reads_left: usize,
    /// Sends pushed since the last wait that are over when they are submitted.
    attempts: u32,
    /// The pieces of one receive; empty in between.
    received: Vec<Received>,
}

impl Pump {
    fn change(&mut self, leg: usize) {
        if !std::mem::replace(&mut self.legs[leg].is_changed, true) {
            self.changed.push(leg);
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.direct_reads_left = DIRECT_READS_PER_TURN;
        let mut changed = std::mem::take(&mut self.changed);
        let ahead = match self.way.ahead {
            Ahead::WhenShort => self.buffers.are_short() || !self.starved.is_empty(),
            Ahead::Always => true,
            Ahead::Never => false,
        };
        if ahead && !self.ring.is_ready() {
            for &leg in &changed {
                self.start_send(leg);
            }
            self.ring.submit();
            self.attempts = 0;
            while let Some(entry) = self.ring.pop() {
                self.complete(&entry)?;
            }
        }
        changed.append(&mut self.changed);
        for _ in 0..self.buffers.with_kernel() {
            let Some(leg) = self.starved.pop_front() else { break };
            self.legs[leg].is_starved = false;
            self.change(leg);
        }
        if self.starved.is_empty() {
            self.buffers.provide_all();
        }
        changed.append(&mut self.changed);
        for &leg in &changed {
            self.legs[leg].is_changed = false;
            self.settle_receiving(leg);
            self.start_send(leg);
        }
        changed.clear();
        changed.append(&mut self.changed);
        self.changed = changed;
        let wait = !self.can_read_directly() && !self.ring.is_ready();
        let attempts = std::mem::take(&mut self.attempts);
        self.ring.enter(&if wait { self.way.batch.wait(attempts) } else { Wait::NO })
    }

    fn settle_receiving(&mut self, number: usize) {
        let leg = &mut self.legs[number];
        let socket = self.ring.socket(number, &leg.socket);
        if leg.is_paused {
            if leg.is_receiving && !std::mem::replace(&mut leg.is_cancelled, true) {
                let entry =
                    opcode::AsyncCancel::new(token(RECEIVE, number)).build().user_data(token(CANCEL, number));
                // SAFETY: names no memory.
                unsafe { self.ring.push_plain(&entry) };
            }
            return;
        }
        if leg.is_receiving || leg.is_starved {
            return;
        }
        leg.is_receiving = true;
        let entry = match self.way.receive {
            Receive::Bundle => opcode::RecvMultiBundle::new(socket, GROUP).build(),
            Receive::Plain | Receive::Incremental => opcode::RecvMulti::new(socket, GROUP).build(),
        };
        let flags = Flags::BUFFER_SELECT;
        // SAFETY: names no memory but that of the group.
        unsafe { self.ring.push(entry, flags, token(RECEIVE, number)) };
    }

    fn complete(&mut self, entry: &cqueue::Entry) -> io::Result<()> {
        let number = (entry.user_data() & u64::from(u32::MAX)) as usize;
        match entry.user_data() >> 32 {
            RECEIVE => self.on_receive(number, entry.result(), entry.flags()),
            SEND => self.on_send(number, entry.result(), entry.flags()),
            _ => Ok(()),
        }
    }

    fn on_receive(&mut self, number: usize, result: i32, flags: u32) -> io::Result<()> {
        if !cqueue::more(flags) {
            (self.legs[number].is_receiving, self.legs[number].is_cancelled) = (false, false);
            self.change(number);
        }
        match -result {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            libc::ENOBUFS if !self.legs[number].is_paused => {
                self.legs[number].is_starved = true;
                self.starved.push_back(number);
            }
            libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            error @ 1.. => return Err(io::Error::from_raw_os_error(error)),
            received => {
                let first = cqueue::buffer_select(flags).expect("bytes come in a buffer of the group");
                let (target, pieces) = (&mut self.legs[number ^ 1], &mut self.received);
                self.buffers.received(first, received.unsigned_abs(), flags, |piece| pieces.push(piece));
                pieces.drain(..).for_each(|piece| target.queue(piece, &mut self.buffers));
                self.forward(number);
            }
        }
        Ok(())
    }

    /// Bytes of a leg were queued for the other.
    fn forward(&mut self, number: usize) {
        let target = &self.legs[number ^ 1];
        let is_slow = target.is_stalled || self.way.send != Send::Attempt;
        if is_slow && target.bytes > DIRECTION_BYTES_HIGH {
            self.legs[number].is_paused = true;
            self.change(number);
        }
        self.change(number ^ 1);
    }

    fn start_send(&mut self, number: usize) {
        let leg = &mut self.legs[number];
        if leg.sending != Sending::No || leg.pieces.is_empty() {
            return;
        }
        let bytes_max = if leg.is_stalled { WAITING_BYTES_MAX } else { usize::MAX };
        let (mut bytes, mut runs) = (0, 0);
        for piece in leg.pieces.iter().take(RUNS_MAX) {
            bytes += length(piece);
            runs += 1;
            if bytes >= bytes_max {
                break;
            }
        }
        let socket = self.ring.socket(number, &leg.socket);
        let never_waits = self.way.send == Send::Attempt && !leg.is_stalled;
        let wait = if never_waits { libc::MSG_DONTWAIT } else { libc::MSG_WAITALL };
        let flags = wait | libc::MSG_NOSIGNAL;
        self.attempts += u32::from(never_waits);
        let zero_copy = matches!(self.way.send, Send::ZeroCopy(least) if bytes >= least as usize);
        let linked = self.way.send == Send::Linked;
        (leg.sending, leg.sent) = (Sending::Yes { bytes, operations: if linked { runs } else { 1 } }, 0);
        if linked {
            self.ring.reserve(runs);
            for place in 0..runs {
                let (address, length) = lie(&leg.pieces[place], &self.buffers);
                let entry = opcode::Send::new(socket, address, length as u32).flags(flags).build();
                let link = if place + 1 < runs { Flags::IO_LINK } else { Flags::empty() };
                // SAFETY: pieces in flight stay where they are: they are taken off by `advance` alone.
                unsafe { self.ring.push(entry, link, token(SEND, number)) };
            }
            return;
        }
        let entry = if runs == 1 {
            let (address, length) = lie(&leg.pieces[0], &self.buffers);
            if zero_copy {
                opcode::SendZc::new(socket, address, length as u32).flags(flags).build()
            } else {
                opcode::Send::new(socket, address, length as u32).flags(flags).build()
            }
        } else {
            let message = leg.message(runs, &self.buffers);
            let flags = flags.cast_unsigned();
            if zero_copy {
                opcode::SendMsgZc::new(socket, message).flags(flags).build()
            } else {
                opcode::SendMsg::new(socket, message).flags(flags).build()
            }
        };
        // SAFETY: as above; the header is changed by the next send alone.
        unsafe { self.ring.push(entry, Flags::empty(), token(SEND, number)) };
    }

    fn on_send(&mut self, number: usize, result: i32, flags: u32) -> io::Result<()> {
        let leg = &mut self.legs[number];
        let Sending::Yes { bytes, operations } = leg.sending else {
            unreachable!("only what was sent completes")
        };
        // A zero-copy send's notification follows its result, and only then may its memory be used again.
        if !cqueue::notif(flags) {
            match -result {
                libc::EAGAIN | libc::EINTR => {}
                error @ 1.. => return Err(io::Error::from_raw_os_error(error)),
                sent => leg.sent += sent.unsigned_abs() as usize,
            }
        }
        if cqueue::more(flags) {
            return Ok(());
        }
        if operations > 1 {
            leg.sending = Sending::Yes { bytes, operations: operations - 1 };
            return Ok(());
        }
        leg.sending = Sending::No;
        leg.advance(leg.sent, &mut self.buffers);
        leg.is_stalled |= leg.sent < bytes && self.way.send == Send::Attempt;
        if leg.is_stalled {
            leg.hold(&mut self.buffers);
        }
        leg.is_stalled &= !leg.pieces.is_empty();
        let (is_empty, is_low) = (leg.pieces.is_empty(), leg.bytes <= DIRECTION_BYTES_HIGH / 2);
        if !is_empty {
            self.change(number);
        }
        if is_low && std::mem::take(&mut self.legs[number ^ 1].is_paused) {
            self.change(number ^ 1);
        }
        Ok(())
    }

    fn can_read_directly(&self) -> bool {
        !self.starved.is_empty() && self.buffers.free() > 0
    }

    /// Reads the connection that has starved longest, into one buffer.
    fn read_directly(&mut self) -> io::Result<bool> {
        if self.direct_reads_left == 0 || !self.can_read_directly() {
            return Ok(false);
        }
        let number = self.starved.pop_front().expect("looked at above");
        self.direct_reads_left -= 1;
        let buffer = self.buffers.lend().expect("looked at above");
        let address = self.buffers.address(buffer, 0);
        // SAFETY: a lent buffer that nobody else names.
        let room = unsafe { std::slice::from_raw_parts_mut(address, self.buffers.buffer_bytes()) };
        self.legs[number].is_starved = false;
        self.change(number);
        match (&self.legs[number].socket).read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let received = Received { buffer, start: 0, bytes: count as u32 };
                self.legs[number ^ 1].queue(received, &mut self.buffers);
                self.forward(number);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.buffers.done(buffer),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

fn token(operation: u64, leg: usize) -> u64 {
    operation << 32 | leg as u64
}

const RECEIVE: u64 = 0;
const SEND: u64 = 1;
const CANCEL: u64 = 2;
/// As in the driver.
const DIRECT_READS_PER_TURN: usize = 64;
const WAITING_BYTES_MAX: usize = 64 * 1024;
