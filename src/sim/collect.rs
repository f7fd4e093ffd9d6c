//! What a wait of the simulated driver does: submits what was asked for and finds completions.
//!
//! Continues [`SimDriver`]. Promises the order of a connection's completions: bytes before the end,
//! everything received before `Stopped`, the parts of one receive next to each other. The order between
//! connections is random. Never completes what the network has not done.

use super::{
    conns::{Accepting, Ready, ShutDown},
    driver::SimDriver,
    network::Found,
};
use crate::{
    driver::{Completion, Read},
    id::ConnId,
};

/// Connections accepted in one turn, so that a crowd does not hold it up.
const ACCEPTS_PER_TURN: usize = 4;

impl SimDriver {
    /// Submits and collects. Returns whether a turn would find something.
    pub fn poll(&mut self) -> bool {
        if !self.ready.is_empty() {
            return true;
        }
        self.turn += 1;
        self.pool.settle(self.turn);
        let mut open: Vec<ConnId> = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if slot.conn.is_some() {
                open.push(ConnId { index: index as u32, generation: slot.generation });
            }
        }
        self.network.borrow_mut().dice.shuffle(&mut open);
        for conn in open {
            self.advance_sending(conn);
            self.advance_receiving(conn);
        }
        self.drop_posted();
        self.accept();
        self.collect_mail();
        !self.ready.is_empty()
    }

    /// A posted connection still sends, but nothing is said of it any more.
    fn drop_posted(&mut self) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.conn.as_ref().is_some_and(|conn| conn.posted) {
                self.purge(ConnId { index: index as u32, generation: slot.generation }, |_| true);
            }
        }
    }

    /// Something was queued: a readiness driver writes at once.
    pub(super) fn sent_something(&mut self, conn: ConnId) {
        if self.eager {
            self.attempt(conn);
        }
    }

    /// The first attempt of what is fresh, unless one is under way.
    fn attempt(&mut self, conn: ConnId) {
        let late = self.lateness(|faults| faults.late_sent);
        let SimDriver { slots, network, pool, back, turn, eager, .. } = self;
        let Some(of) = &mut slots[conn.index as usize].conn else { return };
        // A readiness driver copies into the kernel: its buffers are back at once.
        let due = *turn + if *eager { 0 } else { late };
        if of.outbox.is_attempting() {
            return;
        }
        let waited = of.outbox.held() > 0;
        let result = of.outbox.launch(&mut network.borrow_mut(), of.stream, pool.all(), due, back);
        let taken = if *eager { of.outbox.report(back) } else { 0 };
        // Nothing of it was taken: that is told at once.
        let waits = !waited && !of.outbox.is_attempting() && of.outbox.held() > 0;
        self.take_back();
        if taken > 0 || waits {
            self.ready.push_back(Ready::Done(Completion::Sent { conn, bytes: taken }));
        }
        if let Err(error) = result {
            self.fail_sending(conn, error);
        }
    }

    fn fail_sending(&mut self, conn: ConnId, error: i32) {
        let SimDriver { slots, pool, back, turn, .. } = self;
        let Some(of) = &mut slots[conn.index as usize].conn else { return };
        if let Some((_, buffers)) = of.outbox.discard(back) {
            pool.take_back_later(*turn + 1, buffers);
        }
        self.take_back();
        self.ready.push_back(Ready::Done(Completion::SendFailed { conn, error }));
    }

    /// Reports what was sent, goes on with what waits, attempts what is fresh, and sends the FIN behind all
    /// of it.
    fn advance_sending(&mut self, conn: ConnId) {
        let SimDriver { slots, network, back, turn, .. } = self;
        let Some(of) = &mut slots[conn.index as usize].conn else { return };
        let mut taken = 0;
        let mut failed = None;
        if of.outbox.is_due(*turn) {
            taken += of.outbox.report(back);
        }
        if !of.outbox.is_attempting() && of.outbox.held() > 0 {
            match of.outbox.go_on(&mut network.borrow_mut(), of.stream) {
                Ok(more) => taken += more,
                Err(error) => failed = Some(error),
            }
        }
        let fresh = of.outbox.has_fresh();
        self.take_back();
        if taken > 0 {
            self.ready.push_back(Ready::Done(Completion::Sent { conn, bytes: taken }));
        }
        if let Some(error) = failed {
            self.fail_sending(conn, error);
        } else if fresh {
            self.attempt(conn);
        }
        let Some(of) = &mut self.slots[conn.index as usize].conn else { return };
        if of.shut_down == ShutDown::Asked && of.outbox.queued() == 0 {
            of.shut_down = ShutDown::Done;
            self.network.borrow_mut().shut_down(of.stream);
        }
    }

    /// What a receive, the watch for hang-ups, or the end of reading has to report.
    fn advance_receiving(&mut self, conn: ConnId) {
        let late = self.lateness(|faults| faults.late_receive) > 0;
        let (turn, eager) = (self.turn, self.eager);
        let Some(of) = self.get(conn) else { return };
        let (stream, stopping, armed) = (of.stream, of.stopping, of.armed);
        let unwatched = of.reading == Read::Off && !of.broken;
        let (found, is_reset) = {
            let network = self.network.borrow();
            (network.readable(stream), network.is_reset(stream))
        };
        if armed && !late && found != Found::Nothing {
            if eager {
                self.ready.push_back(Ready::ToReceive(conn));
            } else {
                self.receive(conn, false);
            }
        } else if unwatched && is_reset {
            self.get(conn).expect("it was there above").broken = true;
            self.ready.push_back(Ready::Done(Completion::Broken { conn, error: libc::ECONNRESET }));
        }
        if !eager && stopping.is_some_and(|due| due <= turn) {
            let of = self.get(conn).expect("it was there above");
            of.armed = false;
            of.stopping = Some(u64::MAX);
            self.ready.push_back(Ready::Done(Completion::Stopped { conn }));
        }
    }

    /// One receive, delivered at the front of what is ready or behind it.
    pub(super) fn receive(&mut self, conn: ConnId, front: bool) {
        let Some(of) = self.get(conn).filter(|of| of.armed) else { return };
        let (stream, reading) = (of.stream, of.reading);
        let found = self.network.borrow().readable(stream);
        let mut done = Vec::new();
        match (found, reading) {
            (Found::Nothing, _) => return,
            (_, Read::Readiness) => done.push(Completion::Readable { conn }),
            (Found::Bytes(there), _) => self.fill(conn, there, &mut done),
            (Found::End, _) => done.push(Completion::Ended { conn, error: None }),
            (Found::Reset, _) => done.push(Completion::Ended { conn, error: Some(libc::ECONNRESET) }),
        }
        if done.is_empty() {
            return;
        }
        let ended = !matches!(found, Found::Bytes(_));
        let of = self.get(conn).expect("it was there above");
        of.broken |= found == Found::Reset;
        if ended || reading != Read::Stream {
            of.armed = false;
        }
        if front {
            for done in done.into_iter().rev() {
                self.ready.push_front(Ready::Done(done));
            }
        } else {
            self.ready.extend(done.into_iter().map(Ready::Done));
        }
    }

    /// Receives up to `there` bytes into as many buffers as it takes and as there are.
    fn fill(&mut self, conn: ConnId, there: usize, done: &mut Vec<Completion>) {
        let of = self.get(conn).expect("the caller looked it up");
        let (stream, reading) = (of.stream, of.reading);
        let SimDriver { network, pool, eager, .. } = self;
        let network = &mut *network.borrow_mut();
        let mut left = network.receive_size(match reading {
            Read::Once { bytes_max } => there.min(bytes_max as usize),
            _ => there,
        });
        let mut most = pool.buffer_bytes();
        if network.dice.chance(network.faults.split_receive) {
            most = network.dice.size(most);
        }
        let mut chunks = Vec::new();
        while left > 0 {
            let bytes = left.min(most);
            let mut dice = network.dice.fork();
            let Some(chunk) = pool.lend(bytes, &mut dice, |into| network.receive(stream, into)) else {
                break;
            };
            chunks.push(chunk);
            left -= bytes;
            if *eager {
                break; // One buffer, one read.
            }
        }
        if chunks.is_empty() {
            pool.exhausted += 1;
        }
        let mut following: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        for chunk in chunks {
            following -= chunk.len();
            done.push(Completion::Received { conn, chunk, following });
        }
    }

    fn accept(&mut self) {
        if !matches!(self.accepting, Accepting::On | Accepting::Stopping) {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let mut network = self.network.borrow_mut();
            if !network.has_waiting(self.shard) {
                break;
            }
            let rate = network.faults.accept_failure;
            if self.accepting == Accepting::On && network.dice.chance(rate) {
                self.accepting = Accepting::Off;
                self.ready.push_back(Ready::Done(Completion::AcceptFailed { error: libc::EMFILE }));
                return;
            }
            let (stream, peer) = network.accept(self.shard).expect("one waits, as was just seen");
            drop(network);
            let conn = self.open(stream);
            self.ready.push_back(Ready::Done(Completion::Accepted { conn, peer }));
        }
        let drained = !self.network.borrow().has_waiting(self.shard);
        if self.accepting == Accepting::Stopping && drained {
            self.accepting = Accepting::Stopped;
            self.network.borrow_mut().stop_listening(self.shard);
            self.ready.push_back(Ready::Done(Completion::AcceptStopped));
        }
    }

    /// What other shards sent.
    fn collect_mail(&mut self) {
        loop {
            let came = self.network.borrow_mut().take_post(self.shard);
            let Some((stream, tag)) = came else { break };
            let done = match stream {
                Some(stream) => Completion::Arrived { conn: self.open(stream), tag },
                None => Completion::ArrivalFailed { tag },
            };
            self.ready.push_back(Ready::Done(done));
        }
        let mut network = self.network.borrow_mut();
        if network.is_woken(self.shard) {
            network.take_wake(self.shard);
            self.ready.push_back(Ready::Done(Completion::Woken));
        }
    }
}
