//! What the dialect has to say to the operator: the log entries of workspace.md section 21, as values.
//!
//! The shard writes them; whoever collects them finds the details under the contract's own names. Never holds a
//! message's text or a token.

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// How grave it is.
    pub level: Level,
    /// The entry's `event`.
    pub event: &'static str,
    /// The entry's `details`.
    pub details: Details,
}

/// A level of section 21; nothing here is an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The names of the levels.
pub enum Level {
    Info,
    Warn,
}

/// The details of an entry; what is `None` is left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)] // Each is named after its detail.
pub struct Details {
    pub workspace_id: Option<Box<str>>,
    pub runtime_target_id: Option<Box<str>>,
    pub machine_id: Option<Box<str>>,
    pub client_id: Option<Box<str>>,
    pub managed_executor_id: Option<Box<str>>,
    pub role: Option<&'static str>,
    pub ip: Option<Box<str>>,
    pub reason: Option<&'static str>,
    pub scope: Option<&'static str>,
    pub claimed_workspace_id: Option<Box<str>>,
    pub requested_runtime_target_id: Option<Box<str>>,
    pub claimed_runtime_target_id: Option<Box<str>>,
    pub claim_generation: Option<u64>,
    pub latest_generation: Option<u64>,
    pub expected_profile: Option<&'static str>,
    pub got_profile: Option<&'static str>,
    pub request_id: Option<Box<str>>,
    pub session_id: Option<Box<str>>,
    pub method: Option<&'static str>,
    pub path: Option<Box<str>>,
    pub error: Option<Box<str>>,
    pub cleared_current_daemon: Option<bool>,
}

/// A peer's text as a detail: as much of it as a log needs.
pub(super) fn clip(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(DETAIL_BYTES_MAX)].into()
}

/// Ids and paths of real peers have a tenth of this.
const DETAIL_BYTES_MAX: usize = 512;

impl Note {
    /// What an operator may like to know.
    pub fn info(event: &'static str, details: Details) -> Box<Note> {
        Box::new(Note { level: Level::Info, event, details })
    }

    /// What an operator may have to act on.
    pub fn warn(event: &'static str, details: Details) -> Box<Note> {
        Box::new(Note { level: Level::Warn, event, details })
    }
}
