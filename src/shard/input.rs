//! Received bytes on their way through a translation, wherever they lie.

use super::conn::Unread;
use crate::driver::{Chunk, Driver, HEADROOM};

/// Where input is. What is there has writable room in front of their bytes.
pub(super) enum Input {
    /// In the driver's memory.
    Chunk(Chunk),
    /// Set aside before.
    Unread(Box<Unread>),
    /// Sent on from where it was; nothing was left of it.
    Gone,
}

impl Input {
    /// Where in the buffer its bytes start.
    pub(super) fn start(&mut self) -> usize {
        match self {
            Input::Chunk(_) => HEADROOM,
            Input::Unread(unread) => unread.parts().1,
            Input::Gone => 0,
        }
    }

    /// The buffer, up to the end of the bytes.
    pub(super) fn buf<'a, D: Driver>(&'a mut self, driver: &'a mut D) -> &'a mut [u8] {
        match self {
            Input::Chunk(chunk) => {
                let end = HEADROOM + chunk.len();
                &mut driver.bytes_mut(chunk)[..end]
            }
            Input::Unread(unread) => unread.parts().0,
            Input::Gone => &mut [],
        }
    }
}
