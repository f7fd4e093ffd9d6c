//! Questions to the platform, which the control thread carries, and their answers.

use super::Shard;
use crate::{dialect::workspace, driver::Driver, id::ConnId};

/// Carries questions to the platform. Answers come back as [`super::mail::Mail::Answer`].
pub trait Platform: Send + Sync {
    /// Takes a question; gives it back where too many are open.
    fn ask(&self, shard: u16, conn: ConnId, ask: workspace::Ask) -> Result<(), workspace::Ask>;
}

impl<D: Driver> Shard<D> {
    pub(super) fn ask(&mut self, conn: ConnId, ask: workspace::Ask) {
        let refused = match &self.shared.platform {
            Some(platform) => platform.ask(self.number, conn, ask).err(),
            None => Some(ask),
        };
        if let Some(ask) = refused {
            self.counters.questions_refused += 1;
            self.on_answer(conn, ask.unanswered("too many questions to the platform are open"));
        }
    }
}
