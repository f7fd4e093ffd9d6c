//! A simulated platform: it takes questions and answers them when, and as, the harness says.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use crate::{
    dialect::workspace::{Answer, Ask},
    id::ConnId,
    shard::{Mailboxes, Platform, mail::Mail},
};

/// A question that waits for its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The shard that asks.
    pub shard: u16,
    /// The connection it asks for.
    pub conn: ConnId,
    /// What it asks.
    pub ask: Ask,
}

/// The platform. Clones are the same platform.
#[derive(Clone, Debug)]
pub struct SimPlatform {
    open: Arc<Mutex<VecDeque<Question>>>,
    questions_max: usize,
}

impl SimPlatform {
    /// A platform that holds `questions_max` questions at once.
    pub fn new(questions_max: usize) -> SimPlatform {
        SimPlatform { open: Arc::default(), questions_max }
    }

    /// How many questions wait.
    pub fn open(&self) -> usize {
        self.open.lock().len()
    }

    /// Takes the question at `index` of those that wait.
    pub fn take(&self, index: usize) -> Option<Question> {
        self.open.lock().remove(index)
    }
}

impl Question {
    /// Puts the answer into the asking shard's mailbox; whether that has to be woken.
    pub fn answer(&self, mailboxes: &Mailboxes, answer: Answer) -> bool {
        mailboxes.put(self.shard, Mail::Answer { conn: self.conn, answer })
    }
}

impl Platform for SimPlatform {
    fn ask(&self, shard: u16, conn: ConnId, ask: Ask) -> Result<(), Ask> {
        let mut open = self.open.lock();
        if open.len() >= self.questions_max {
            return Err(ask);
        }
        open.push_back(Question { shard, conn, ask });
        Ok(())
    }
}
