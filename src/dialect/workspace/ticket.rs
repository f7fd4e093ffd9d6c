//! What a workspace connection is let in with: what its upgrade asked for and what the platform claims of it.

/// A connection's role (workspace.md section 1), as its upgrade asked for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// `workspace-daemon`.
    Daemon,
    /// `client`.
    Client,
    /// `worker`.
    Worker,
}

impl Role {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Role::Daemon => "workspace-daemon",
            Role::Client => "client",
            Role::Worker => "worker",
        }
    }
}

/// What a client may do (claim `scope`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The names of the claim.
pub enum Scope {
    Runtime,
    Pairing,
    SessionEvents,
}

/// An end-to-end profile, the weaker first (workspace.md section 11.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // The names of the claim.
pub enum Profile {
    NoiseIk,
    NoiseIkPsk2,
}

impl Profile {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Profile::NoiseIk => "noise-ik",
            Profile::NoiseIkPsk2 => "noise-ikpsk2",
        }
    }
}

/// The query of an upgrade, well-formed (workspace.md section 3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// `role`.
    pub role: Role,
    /// `workspaceId`.
    pub workspace_id: Box<str>,
    /// `runtimeTargetId`.
    pub runtime_target_id: Option<Box<str>>,
}

/// The claims that the relay uses (workspace.md section 4.4). Texts as the platform sent them, untrimmed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    /// `workspaceId`.
    pub workspace_id: Option<Box<str>>,
    /// `runtimeTargetId`.
    pub runtime_target_id: Option<Box<str>>,
    /// `machineId`.
    pub machine_id: Option<Box<str>>,
    /// `scope`.
    pub scope: Option<Scope>,
    /// `clientId`.
    pub client_id: Option<Box<str>>,
    /// `managedExecutorId`.
    pub managed_executor_id: Option<Box<str>>,
    /// `e2eeProfile`.
    pub e2ee_profile: Option<Profile>,
    /// `daemonIssueGeneration`.
    pub daemon_issue_generation: Option<u64>,
    /// `sessionChannels`.
    pub session_channels: Vec<Box<str>>,
    /// `exp`, seconds since the epoch.
    pub exp: Option<i64>,
}

/// What an admitted connection opens with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// What its upgrade asked for.
    pub request: Request,
    /// What the platform claims of it.
    pub claims: Claims,
    /// The client's address as the contract works it out (section 24): not always an IP.
    pub ip: Box<str>,
}
