//! Tests of the frame state as a whole, and what others may use: [`feed`] cuts a client's bytes into
//! receives, chunks and budgets in every way and carries them through [`super::Inbound`]; [`traffic`] makes
//! those bytes.

pub mod feed;
pub mod traffic;

mod collect;
mod faults;
mod relay;
