//! What comes of a message that may not be delivered.

use super::{Details, Message, Metric, Note, Workspace};
use crate::{
    dialect::{Action, Cx},
    id::ConnId,
    reason::Reason,
};

/// What is counted, logged, answered and done, in this order.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) metric: Metric,
    pub(super) note: Option<Box<Note>>,
    pub(super) answer: Option<String>,
    pub(super) close: Option<Reason>,
}

impl Fault {
    /// Something that is only counted.
    pub(super) fn counted(metric: Metric) -> Fault {
        Fault { metric, note: None, answer: None, close: None }
    }

    pub(super) fn note(self, event: &'static str, details: Details) -> Fault {
        Fault { note: Some(Note::warn(event, details)), ..self }
    }

    pub(super) fn answer(self, text: String) -> Fault {
        Fault { answer: Some(text), ..self }
    }

    pub(super) fn close(self, reason: Reason) -> Fault {
        Fault { close: Some(reason), ..self }
    }
}

impl Workspace {
    pub(super) fn blame(&mut self, cx: &mut Cx<'_>, conn: ConnId, fault: Fault) {
        self.counters.add(fault.metric, 1, cx.now.at);
        cx.actions.extend(fault.note.map(Action::Note));
        cx.actions.extend(fault.answer.map(|text| Action::Send { conn, text }));
        cx.actions.extend(fault.close.map(|reason| Action::Close { conn, reason }));
    }

    /// The test behind the shard's own: a message can only have grown by becoming text.
    pub(super) fn check_size(&self, message: &Message<'_>) -> Result<(), Fault> {
        if message.text.len() > self.config.frame_bytes_max {
            return Err(Fault::counted(Metric::WsFrameTooLarge).close(Reason::FrameTooLarge));
        }
        Ok(())
    }
}
