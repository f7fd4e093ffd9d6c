//! Collecting: whole messages for a dialect.
//!
//! A message whose only frame is whole in the buffer is unmasked there and allocates nothing; one that is
//! split or fragmented is gathered in a vector that exists only meanwhile. Never holds more than the
//! caller's maximum.

use super::{Cursor, Inbound, Payload, Step, inbound::Kind, mask};
use crate::reason::Reason;

impl Inbound {
    /// Reads up to the end of the next message, or to whatever the caller has to act on before it.
    ///
    /// `gathered` is the connection's place for a message that is not whole yet: `None` to begin with, left
    /// alone by the caller. [`Payload::Here`] holds until the next call with the same buffer.
    pub fn collect(
        &mut self,
        buf: &mut [u8],
        cursor: &mut Cursor,
        message_max: usize,
        gathered: &mut Option<Box<Vec<u8>>>,
    ) -> Step {
        loop {
            if !self.in_data() {
                if let Err(step) = self.next_data_frame(buf, cursor) {
                    return step;
                }
                if self.message_bytes() > message_max as u64 {
                    *gathered = None;
                    return Step::TooLong;
                }
            }
            let available = buf.len() - cursor.read;
            if available == 0 && self.left > 0 {
                return Step::Empty;
            }
            let taken = available.min(self.left as usize);
            let range = cursor.read..cursor.read + taken;
            self.mask = mask::unmask(&mut buf[range.clone()], self.mask);
            cursor.read += taken;
            self.left -= taken as u64;
            let text = self.message == Some(Kind::Text);
            let whole = self.left == 0 && self.end_data_frame();
            if !whole {
                gathered.get_or_insert_default().extend_from_slice(&buf[range]);
                continue;
            }
            let payload = match gathered.take() {
                None => Payload::Here(range),
                Some(mut earlier) => {
                    earlier.extend_from_slice(&buf[range]);
                    Payload::Gathered(*earlier)
                }
            };
            let bytes = match &payload {
                Payload::Here(range) => &buf[range.clone()],
                Payload::Gathered(bytes) => bytes,
            };
            if text && std::str::from_utf8(bytes).is_err() {
                return Step::Fault(Reason::BadUtf8);
            }
            return Step::Message { text, payload };
        }
    }
}
