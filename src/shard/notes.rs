//! What a dialect has to say to the operator, written to the log.

use std::time::Duration;

use crate::{
    dialect::workspace::{Details, Level, Note},
    logs::TARGET,
    time::Time,
};

/// How many warnings a shard may still write: a peer may cause one with each message, and writing them must neither
/// fill a disk nor hold up the shard.
#[derive(Debug, Default)]
pub(super) struct Quota {
    since: Time,
    written: u32,
}

impl Quota {
    /// Whether an entry may be written now. Only warnings are counted: peers cannot cause others at will.
    pub(super) fn allows(&mut self, level: Level, now: Time) -> bool {
        if level != Level::Warn {
            return true;
        }
        if now.since(self.since) >= SPAN {
            *self = Quota { since: now, written: 0 };
        }
        self.written += 1;
        self.written <= WARNINGS_MAX
    }
}

/// Writes an entry, its details under the names of the contract.
pub(super) fn write(note: &Note) {
    let Note { level, event, details } = note;
    let Details {
        workspace_id,
        runtime_target_id,
        machine_id,
        client_id,
        managed_executor_id,
        role,
        ip,
        reason,
        scope,
        claimed_workspace_id,
        requested_runtime_target_id,
        claimed_runtime_target_id,
        claim_generation,
        latest_generation,
        expected_profile,
        got_profile,
        request_id,
        session_id,
        method,
        path,
        error,
        cleared_current_daemon,
    } = details;
    // Field names and levels are fixed where an entry is made, so there is one such place for each level. A field whose
    // value is `None` is not recorded.
    macro_rules! entry {
        ($level:ident) => {
            tracing::event!(
                target: TARGET,
                tracing::Level::$level,
                event,
                workspaceId = workspace_id.as_deref(),
                runtimeTargetId = runtime_target_id.as_deref(),
                machineId = machine_id.as_deref(),
                clientId = client_id.as_deref(),
                managedExecutorId = managed_executor_id.as_deref(),
                role,
                ip = ip.as_deref(),
                reason,
                scope,
                claimedWorkspaceId = claimed_workspace_id.as_deref(),
                requestedRuntimeTargetId = requested_runtime_target_id.as_deref(),
                claimedRuntimeTargetId = claimed_runtime_target_id.as_deref(),
                claimGeneration = claim_generation,
                latestGeneration = latest_generation,
                expectedProfile = expected_profile,
                gotProfile = got_profile,
                requestId = request_id.as_deref(),
                sessionId = session_id.as_deref(),
                method,
                path = path.as_deref(),
                error = error.as_deref(),
                clearedCurrentDaemon = cleared_current_daemon,
            )
        };
    }
    match level {
        Level::Info => entry!(INFO),
        Level::Warn => entry!(WARN),
    }
}

const SPAN: Duration = Duration::from_secs(1);
const WARNINGS_MAX: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_written_up_to_a_number_a_second() {
        let mut quota = Quota::default();
        let at = Time(5_000_000);
        let allowed = (0..1000).filter(|_| quota.allows(Level::Warn, at)).count();
        assert_eq!(allowed, WARNINGS_MAX as usize);
        assert!(quota.allows(Level::Info, at));
        assert!(!quota.allows(Level::Warn, at + SPAN - Duration::from_micros(1)));
        assert!(quota.allows(Level::Warn, at + SPAN));
    }
}
