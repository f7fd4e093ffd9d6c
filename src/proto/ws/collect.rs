//! Collecting: whole messages for a dialect.
//!
//! A message whose only frame is whole in the buffer is unmasked there and allocates nothing; one that is
//! split or fragmented is gathered in memory that exists only meanwhile, and that the caller grants before any of it
//! is used. Never holds more than the caller's maximum.

use super::{Cursor, Inbound, Payload, Step, inbound::Kind, mask};
use crate::reason::Reason;

/// What a message may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest message, payload bytes.
    pub message_max: usize,
    /// Bytes that a message which begins to be gathered may reserve.
    pub room: usize,
}

impl Bounds {
    /// A longest message, and room for it whenever it comes.
    pub fn of_message(message_max: usize) -> Bounds {
        Bounds { message_max, room: usize::MAX }
    }
}

/// A message that is not whole yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Gathered {
    bytes: Vec<u8>,
    reserved: usize,
    /// For the caller, who may look which messages have been there before; `false` to begin with.
    pub seen: bool,
}

impl Gathered {
    /// Its payload so far, unmasked.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that were reserved for the whole of it when it began.
    pub fn reserved(&self) -> usize {
        self.reserved
    }
}

impl Inbound {
    /// Reads up to the end of the next message, or to whatever the caller has to act on before it.
    ///
    /// `gathered` is the connection's place for a message that is not whole yet: `None` to begin with, left
    /// alone by the caller. [`Payload::Here`] holds until the next call with the same buffer.
    ///
    /// A message that has to be gathered reserves its length when it begins, or the longest there may be where more
    /// frames are to come, so that one which has begun never waits again. Without that much room it is
    /// [`Step::NoRoom`], and nothing of it is taken until the call is repeated with enough.
    pub fn collect(
        &mut self,
        buf: &mut [u8],
        cursor: &mut Cursor,
        bounds: Bounds,
        gathered: &mut Option<Box<Gathered>>,
    ) -> Step {
        loop {
            if !self.in_data() {
                if let Err(step) = self.next_data_frame(buf, cursor) {
                    return step;
                }
                if self.message_bytes() > bounds.message_max as u64 {
                    *gathered = None;
                    return Step::TooLong;
                }
            }
            let available = buf.len() - cursor.read;
            if available == 0 && self.left > 0 {
                return Step::Empty;
            }
            let taken = available.min(self.left as usize);
            let is_end = self.fin && taken as u64 == self.left;
            if !is_end && gathered.is_none() {
                let reserved = if self.fin { self.left as usize } else { bounds.message_max };
                if reserved > bounds.room {
                    return Step::NoRoom(reserved);
                }
                // All of it at once, so that growing copies nothing; of a fragmented one the length is not known.
                let bytes = Vec::with_capacity(if self.fin { reserved } else { 0 });
                *gathered = Some(Box::new(Gathered { bytes, reserved, seen: false }));
            }
            let range = cursor.read..cursor.read + taken;
            self.mask = mask::unmask(&mut buf[range.clone()], self.mask);
            cursor.read += taken;
            self.left -= taken as u64;
            let text = self.message == Some(Kind::Text);
            if let Some(gathered) = gathered.as_mut() {
                gathered.bytes.extend_from_slice(&buf[range.clone()]);
            }
            let whole = self.left == 0 && self.end_data_frame();
            if !whole {
                continue;
            }
            let payload = match gathered.take() {
                None => Payload::Here(range),
                Some(gathered) => Payload::Gathered(gathered.bytes),
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
