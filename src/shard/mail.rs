//! Mail: the only thing that crosses shards.
//!
//! Every shard has a mailbox that any thread may put mail into; the shard takes all of it once a turn. Mail
//! from one sender comes in order. Mail that must arrive (letters, receipts) is bounded by the number of
//! connections that cause it; mail that may be refused is refused above [`MAIL_WAITING_MAX`], and the sender
//! tells its client.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::{
    admin::Snapshot,
    dialect::{Letter, kick::Target, workspace},
    id::ConnId,
    limits::MAIL_WAITING_MAX,
    shard::{
        gather::{Inquiry, Part},
        home::Traveller,
    },
};

/// What a shard may be told by another thread.
pub enum Mail {
    /// A dialect's letter.
    Letter {
        /// The shard that wrote it.
        from: u16,
        /// The letter.
        letter: Letter,
    },
    /// A connection moves here: its descriptor comes through the post under the same tag.
    Traveller {
        /// Who sent it.
        from: u16,
        /// The tag.
        tag: u64,
        /// Everything but the descriptor.
        traveller: Box<Traveller>,
    },
    /// The connection posted under this tag has arrived: the sender's descriptor may be closed.
    Received {
        /// The tag.
        tag: u64,
    },
    /// There was no room for the connection posted under this tag: it comes back.
    Returned {
        /// The tag.
        tag: u64,
        /// What was sent with it.
        traveller: Box<Traveller>,
    },
    /// Give your part of an answer that all shards make.
    Inquiry {
        /// Who asks.
        from: u16,
        /// Which question.
        ticket: u64,
        /// What is asked.
        inquiry: Inquiry,
    },
    /// The answer to `Inquiry`.
    Part {
        /// Who answers.
        from: u16,
        /// Which question.
        ticket: u64,
        /// The part.
        part: Box<Part>,
    },
    /// End what of this lives here, and say how many connections that closed.
    Kick(Target, Box<dyn FnOnce(usize) + Send>),
    /// The platform's answer to a question that a connection waits for.
    Answer {
        /// The connection.
        conn: ConnId,
        /// The answer.
        answer: workspace::Answer,
    },
    /// Report your counters.
    Snapshot(Box<dyn FnOnce(Snapshot) + Send>),
    /// The allow-list changed.
    PolicyChanged,
    /// New upgrades are refused from now on.
    Drain,
    /// Close everything and stop.
    Stop,
}

/// The mailboxes of all shards.
pub struct Mailboxes {
    boxes: Box<[Mailbox]>,
}

#[derive(Default)]
struct Mailbox {
    waiting: Mutex<Vec<Mail>>,
    /// Set by the first sender since the shard last looked: only that one has to wake it.
    signalled: AtomicBool,
}

/// The mailbox was full; the mail comes back.
pub struct Full(pub Mail);

impl Mailboxes {
    /// One mailbox a shard.
    pub fn new(shards: u16) -> Mailboxes {
        Mailboxes { boxes: (0..shards).map(|_| Mailbox::default()).collect() }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.boxes.len() as u16
    }

    /// How much mail waits for a shard: for tests.
    pub fn waiting(&self, shard: u16) -> usize {
        self.boxes[usize::from(shard)].waiting.lock().len()
    }

    /// Puts mail that must arrive into a shard's box; returns whether the shard has to be woken.
    pub fn put(&self, shard: u16, mail: Mail) -> bool {
        let mailbox = &self.boxes[usize::from(shard)];
        mailbox.waiting.lock().push(mail);
        !mailbox.signalled.swap(true, Ordering::AcqRel)
    }

    /// Puts mail that may be refused.
    pub fn try_put(&self, shard: u16, mail: Mail) -> Result<bool, Full> {
        let mailbox = &self.boxes[usize::from(shard)];
        let mut waiting = mailbox.waiting.lock();
        if waiting.len() >= MAIL_WAITING_MAX {
            return Err(Full(mail));
        }
        waiting.push(mail);
        drop(waiting);
        Ok(!mailbox.signalled.swap(true, Ordering::AcqRel))
    }

    /// Takes all waiting mail, in order, into `into`, which must be empty.
    pub fn take(&self, shard: u16, into: &mut Vec<Mail>) {
        debug_assert!(into.is_empty());
        let mailbox = &self.boxes[usize::from(shard)];
        // Lowered before the look: a mail put after it wakes the shard again.
        if mailbox.signalled.swap(false, Ordering::AcqRel) {
            std::mem::swap(&mut *mailbox.waiting.lock(), into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_mail_since_the_last_look_wakes_the_shard() {
        let boxes = Mailboxes::new(2);
        assert!(boxes.put(1, Mail::Drain));
        assert!(!boxes.put(1, Mail::Stop));
        let mut taken = Vec::new();
        boxes.take(0, &mut taken);
        assert!(taken.is_empty());
        boxes.take(1, &mut taken);
        assert!(matches!(taken[..], [Mail::Drain, Mail::Stop]));
        assert!(boxes.put(1, Mail::Drain));
    }

    #[test]
    fn a_full_box_gives_refusable_mail_back_and_takes_what_must_arrive() {
        let boxes = Mailboxes::new(1);
        for _ in 0..MAIL_WAITING_MAX {
            assert!(boxes.try_put(0, Mail::Drain).is_ok());
        }
        assert!(matches!(boxes.try_put(0, Mail::Stop), Err(Full(Mail::Stop))));
        boxes.put(0, Mail::Stop);
        let mut taken = Vec::new();
        boxes.take(0, &mut taken);
        assert_eq!(taken.len(), MAIL_WAITING_MAX + 1);
    }
}
