//! The line from the shards to the control thread: questions to the platform on their way.
//!
//! A shard must not wake the runtime by itself: that writes to a descriptor, whose number means something else in the
//! shard's private table. So questions wait under a lock, and a thread of the process's own table, the courier,
//! which sleeps on a futex, hands them over. Promises that [`Line::ask`](Platform::ask) never waits, and that no more
//! than [`ADMISSIONS_OPEN_MAX`] admissions and [`FORWARDS_OPEN_MAX`] forwarded requests are open at once.

use std::{collections::VecDeque, fmt, mem, sync::Arc};

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    dialect::workspace::Ask,
    id::ConnId,
    limits::{ADMISSIONS_OPEN_MAX, FORWARDS_OPEN_MAX},
    shard::Platform,
};

/// Where shards put questions. Clones are the same line.
#[derive(Clone, Default)]
pub struct Line {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Questions wait, or the line is shut.
    news: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Question>,
    admissions: usize,
    forwards: usize,
    shut: bool,
}

/// A question and who waits for its answer.
pub(super) struct Question {
    pub shard: u16,
    pub conn: ConnId,
    pub ask: Ask,
    pub place: Place,
}

/// The place of an open question; dropped when it is answered or abandoned.
pub(super) struct Place {
    line: Line,
    is_admission: bool,
}

impl Platform for Line {
    fn ask(&self, shard: u16, conn: ConnId, ask: Ask) -> Result<(), Ask> {
        let is_admission = matches!(ask, Ask::Admit { .. });
        let mut state = self.inner.state.lock();
        let shut = state.shut;
        let (open, max) = state.open(is_admission);
        if shut || *open >= max {
            return Err(ask);
        }
        *open += 1;
        let place = Place { line: self.clone(), is_admission };
        state.waiting.push_back(Question { shard, conn, ask, place });
        drop(state);
        self.inner.news.notify_one();
        Ok(())
    }
}

impl Line {
    /// The courier's work: hands questions over as they come, until the line is shut or nobody takes them.
    pub(super) fn carry(&self, to: &UnboundedSender<Question>) {
        loop {
            let questions = {
                let mut state = self.inner.state.lock();
                while state.waiting.is_empty() && !state.shut {
                    self.inner.news.wait(&mut state);
                }
                if state.shut {
                    return;
                }
                mem::take(&mut state.waiting)
            };
            for question in questions {
                if to.send(question).is_err() {
                    return;
                }
            }
        }
    }

    /// Takes no more questions and lets the courier go; those that wait are abandoned.
    pub(super) fn shut(&self) {
        let abandoned = {
            let mut state = self.inner.state.lock();
            state.shut = true;
            mem::take(&mut state.waiting)
        };
        self.inner.news.notify_all();
        // Outside the lock: places take it to give themselves up.
        drop(abandoned);
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

impl State {
    /// How many questions of a kind are open, and how many may be.
    fn open(&mut self, is_admission: bool) -> (&mut usize, usize) {
        if is_admission {
            (&mut self.admissions, ADMISSIONS_OPEN_MAX)
        } else {
            (&mut self.forwards, FORWARDS_OPEN_MAX)
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.line.inner.state.lock().open(self.is_admission).0 -= 1;
    }
}
