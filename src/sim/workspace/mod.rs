//! Workspaces in a simulation: the platform that lets their members in.

pub mod platform;
#[cfg(test)]
mod tests;
