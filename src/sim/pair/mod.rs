//! Simulated devices that pair (pair.md), and what has to hold for them.
//!
//! A [`Couple`] is a source and a target that leave and come back as their manners say. They check as
//! messages arrive that what one was sent is what the other said, whole, in order and for nobody else; that
//! a session ends neither before its time nor long after it; and that every answer is one that the contract
//! allows at that point.

mod couple;
mod device;

pub use self::couple::Couple;
pub(super) use self::device::MESSAGE_BYTES_MAX;
