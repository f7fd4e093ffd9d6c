//! Workspaces in a simulation: their members, who know what they may hear, and the platform that lets them in.

mod crew;
mod member;
pub mod platform;
#[cfg(test)]
mod tests;

pub use crew::Crew;
pub(super) use member::MESSAGE_BYTES_MAX;
