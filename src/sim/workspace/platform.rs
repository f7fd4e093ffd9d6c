//! A simulated platform: it takes questions and answers them when, and as, the harness says.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use crate::{
    dialect::workspace::{Answer, Ask, Claims, Denied, Request, Response, Scope},
    id::ConnId,
    shard::{Mailboxes, Platform, mail::Mail},
    sim::dice::Dice,
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

    /// Decides whether one of those that wait is answered now, and how.
    pub fn answer_one(&self, promptness: &Promptness, dice: &mut Dice) -> Option<(Question, Answer)> {
        let open = self.open();
        if open == 0 || !dice.chance(promptness.answers) {
            return None;
        }
        let question = self.take(dice.below(open))?;
        let answer = match &question.ask {
            Ask::Admit { token, request } => Answer::Admitted(promptness.admit(token, request, dice)),
            Ask::Forward { request_id, path, .. } => {
                let response = Response { status: 200, headers: Vec::new(), body: path.clone() };
                let outcome =
                    if dice.chance(promptness.fails) { Err("fault".to_owned()) } else { Ok(response) };
                Answer::Forwarded { request_id: request_id.clone(), outcome }
            }
        };
        Some((question, answer))
    }

    /// Takes the question at `index` of those that wait.
    pub fn take(&self, index: usize) -> Option<Question> {
        self.open.lock().remove(index)
    }
}

/// How a platform answers, in millionths.
#[derive(Clone, Copy, Debug)]
pub struct Promptness {
    /// One of the open questions is answered; per step.
    answers: u32,
    /// It is denied, or fails.
    fails: u32,
    /// The claims name another workspace.
    errs: u32,
}

impl Promptness {
    /// The platform of a run.
    pub fn draw(dice: &mut Dice) -> Promptness {
        let slow = dice.chance(500_000);
        Promptness {
            answers: if slow { dice.size(50_000) as u32 } else { 900_000 },
            fails: if dice.chance(500_000) { dice.size(300_000) as u32 } else { 0 },
            errs: if dice.chance(500_000) { dice.size(300_000) as u32 } else { 0 },
        }
    }

    /// At once, and always well.
    pub fn calm() -> Promptness {
        Promptness { answers: 1_000_000, fails: 0, errs: 0 }
    }

    /// Whether it may admit someone as someone else.
    pub fn errs(&self) -> bool {
        self.errs > 0
    }

    fn admit(&self, token: &str, request: &Request, dice: &mut Dice) -> Result<Box<Claims>, Denied> {
        if dice.chance(self.fails) {
            return Err(Denied { status: 403, reason: "VALIDATION_FAILED".to_owned() });
        }
        let errs = dice.chance(self.errs);
        Ok(Box::new(Claims {
            workspace_id: Some(if errs { "elsewhere".into() } else { request.workspace_id.clone() }),
            runtime_target_id: request.runtime_target_id.clone(),
            scope: Some(Scope::Runtime),
            client_id: Some(token.into()),
            machine_id: Some(token.into()),
            managed_executor_id: Some(token.into()),
            ..Claims::default()
        }))
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
