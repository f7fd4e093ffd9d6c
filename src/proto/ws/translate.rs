//! Relaying: a client's masked frames become the other end's unmasked frames, in the buffer they came in.
//!
//! Cut-through: what a chunk holds of a frame goes out as a frame of its own, FIN clear unless it ends the
//! client's last frame, and what follows is a continuation (RFC 6455 section 5.4 lets an intermediary
//! fragment). So the output stands at a frame boundary after every receive, and a frame that is whole in
//! the buffer stays one frame.
//!
//! One pass: our header is never longer than the client's, which has four bytes of masking key more, so the
//! payloads move down and close the gaps while they are unmasked; the first frame of a run does not move at
//! all. Where a chunk starts inside a frame its header goes into the headroom.

use super::{
    Cursor, Gathered, Inbound, Step,
    header::{self, Opcode},
    inbound::Kind,
    mask,
    outbound::FrameHeader,
};
use crate::{limits::RELAYED_MESSAGE_BYTES_MAX, reason::Reason};

impl Inbound {
    /// Rewrites the frames in `buf[cursor.read..]` for the other end, as one run `buf[cursor.out]`, and
    /// returns at what the caller has to act on. What stands before that is in the run.
    ///
    /// - `following`: bytes of the same receive that come in the very next calls, before anything else is
    ///   sent. Headers may announce them.
    /// - `budget`: payload bytes that may be taken in this call. `following` counts only where the budget
    ///   covers it too.
    /// - `splice_min`: from how many bytes on the rest of a zero-mask frame is offered as
    ///   [`Step::Spliceable`]; 0 never.
    pub fn relay(
        &mut self,
        buf: &mut [u8],
        cursor: &mut Cursor,
        following: usize,
        budget: usize,
        splice_min: usize,
    ) -> Step {
        let mut budget = budget;
        loop {
            if !self.in_data() {
                let header = match self.next_data_frame(buf, cursor) {
                    Ok(header) => header,
                    Err(step) => return step,
                };
                if self.message_bytes() > RELAYED_MESSAGE_BYTES_MAX {
                    return Step::Fault(Reason::MessageTooBig);
                }
                if header.len == 0 {
                    self.put_header(buf, cursor, 0);
                    cursor.messages += usize::from(self.end_data_frame());
                    continue;
                }
            }
            let available = buf.len() - cursor.read;
            if available == 0 {
                let offer = following == 0 && !self.offered && self.is_spliceable(splice_min);
                self.offered |= offer;
                return if offer { Step::Spliceable } else { Step::Empty };
            }
            if self.promised == 0 {
                if budget == 0 {
                    return Step::Budget;
                }
                let in_sight = available.saturating_add(following);
                let may_go = if budget >= in_sight { in_sight } else { available.min(budget) };
                let part = self.left.min(may_go as u64);
                self.put_header(buf, cursor, part);
                self.promised = part as u32; // A message has at most 16 MiB.
            }
            let taken = available.min(self.promised as usize);
            self.put_payload(buf, cursor, taken);
            budget = budget.saturating_sub(taken);
        }
    }

    /// Whether the rest of the frame may be moved by [`Inbound::skip`]: a zero mask and at least `splice_min`
    /// bytes to come (never with 0).
    pub fn is_spliceable(&self, splice_min: usize) -> bool {
        splice_min > 0
            && self.in_data()
            && self.promised == 0
            && self.mask == [0; 4]
            && self.left >= splice_min as u64
    }

    /// Accounts `bytes` of the frame's payload, at least one and at most [`Inbound::frame_left`], which the
    /// caller moves itself. Returns the header to be sent in front of them. They end a message if
    /// [`Inbound::is_between_messages`] then.
    pub fn skip(&mut self, bytes: usize) -> FrameHeader {
        assert!(bytes as u64 <= self.frame_left() && self.promised == 0, "within the payload of a frame");
        let header =
            FrameHeader::new(self.part_opcode(), self.fin && bytes as u64 == self.left, bytes as u64);
        self.continued = true;
        self.left -= bytes as u64;
        self.mask = mask::behind(self.mask, bytes);
        if self.left == 0 {
            self.end_data_frame();
        }
        header
    }

    /// Goes over from `collect` to `relay` within a message: what was gathered of it is a part of its own, to be sent
    /// behind the header returned. `None` where there is none of it yet, and the next part begins the message.
    pub fn relay_gathered(&mut self, gathered: &Gathered) -> Option<FrameHeader> {
        assert!(!self.is_between_messages(), "what is gathered belongs to a message");
        let len = gathered.bytes().len();
        if len == 0 {
            return None;
        }
        let header = FrameHeader::new(self.part_opcode(), false, len as u64);
        self.continued = true;
        Some(header)
    }

    /// What the next part of the message goes out as.
    fn part_opcode(&self) -> Opcode {
        match self.message {
            _ if self.continued => Opcode::Continuation,
            Some(Kind::Text) => Opcode::Text,
            _ => Opcode::Binary,
        }
    }

    /// Writes the header of a part of `len` bytes behind the run; in front of its payload if it is the
    /// run's first.
    fn put_header(&mut self, buf: &mut [u8], cursor: &mut Cursor, len: u64) {
        let header_len = header::encoded_len(len);
        if cursor.out.is_empty() {
            cursor.out = cursor.read - header_len..cursor.read - header_len;
        }
        let end = cursor.out.end + header_len;
        assert!(end <= cursor.read, "after `Step::Budget` the work goes on with a new cursor");
        let ends_message = self.fin && len == self.left;
        header::encode(&mut buf[cursor.out.end..end], self.part_opcode(), ends_message, len);
        cursor.out.end = end;
        self.continued = true;
    }

    /// Unmasks and moves promised payload bytes to the end of the run.
    fn put_payload(&mut self, buf: &mut [u8], cursor: &mut Cursor, taken: usize) {
        if cursor.out.is_empty() {
            cursor.out = cursor.read..cursor.read;
        }
        let from = cursor.read..cursor.read + taken;
        self.mask = mask::unmask_down(buf, from, cursor.out.end, self.mask);
        cursor.read += taken;
        cursor.out.end += taken;
        cursor.payload += taken;
        self.promised -= taken as u32;
        self.left -= taken as u64;
        if self.left == 0 {
            cursor.messages += usize::from(self.end_data_frame());
        }
    }
}
