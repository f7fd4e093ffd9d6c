//! Descriptors: one a connection, counted per shard where shards have tables of their own.

use super::set;
use crate::{
    doctor::{Facts, Judgement, Need},
    driver::Private,
};

/// `RLIMIT_NOFILE`.
pub(in crate::doctor) fn nofile(need: &Need, facts: &Facts) -> Judgement {
    let Some(limit) = facts.nofile else { return Judgement::unknown() };
    let private = is_private(facts);
    let each = if private { "for each shard" } else { "for all shards together" };
    let fits = need.connections_within(limit.hard, private);
    // The relay raises the soft limit itself.
    let Some(wanted) = need.descriptors(private) else {
        let value = format!("{} {each}, and no limit on connections", limit.hard);
        return Judgement::warn(
            value,
            format!("--max-connections {fits}, so that clients are refused with a reason"),
        );
    };
    let value = format!("{} {each}, {wanted} wanted", limit.hard);
    if limit.hard >= wanted {
        return Judgement::ok(value);
    }
    let remedy = format!(
        "ulimit -n {wanted} in the shell that starts it; LimitNOFILE={wanted} in the unit; --ulimit \
         nofile={wanted} with \
         Docker; or --max-connections {fits}"
    );
    Judgement::fail(value, remedy)
}

/// `fs.nr_open`, the most that a limit can be raised to.
pub(in crate::doctor) fn nr_open(need: &Need, facts: &Facts) -> Judgement {
    let Some(most) = facts.sysctl("fs.nr_open") else { return Judgement::unknown() };
    match need.descriptors(is_private(facts)) {
        Some(wanted) if wanted > most => {
            Judgement::fail(format!("{most}, {wanted} wanted"), set("fs.nr_open", wanted.next_power_of_two()))
        }
        Some(wanted) => Judgement::ok(format!("{most}, {wanted} wanted")),
        None => Judgement::ok(most.to_string()),
    }
}

/// `fs.file-max`, for the whole machine.
pub(in crate::doctor) fn file_max(need: &Need, facts: &Facts) -> Judgement {
    let Some(most) = facts.sysctl("fs.file-max") else { return Judgement::unknown() };
    let used = facts.sysctl_numbers("fs.file-nr").and_then(|numbers| numbers.first().copied()).unwrap_or(0);
    let Some(connections) = need.connections else { return Judgement::ok(most.to_string()) };
    let value = format!("{most}, {used} in use, {connections} more wanted");
    match used.saturating_add(connections) {
        all if all > most => Judgement::fail(value, set("fs.file-max", all.next_power_of_two())),
        _ => Judgement::ok(value),
    }
}

/// Whether shards have tables of their own.
pub(in crate::doctor) fn tables(need: &Need, facts: &Facts) -> Judgement {
    match facts.answers.tables {
        Private::Yes => Judgement::ok("one for each shard"),
        Private::Refused(_) if need.shards == 1 => Judgement::ok("one, for one shard"),
        Private::Refused(errno) => Judgement::warn(
            format!("one for all shards: unshare(CLONE_FILES) is refused (errno {errno})"),
            "allow `unshare` in the seccomp profile, as tuning/seccomp.json does: --security-opt seccomp=seccomp.json",
        ),
    }
}

fn is_private(facts: &Facts) -> bool {
    facts.answers.tables == Private::Yes
}
