//! Memory: what the connections take at rest, and what the kernel may take for them at work.

use super::set;
use crate::doctor::{Facts, Judgement, Need};

/// Whether the connections fit at rest.
pub(in crate::doctor) fn memory(need: &Need, facts: &Facts) -> Judgement {
    let Some(memory) = facts.memory() else { return Judgement::unknown() };
    let whose = if facts.memory_limit == Some(memory) { "of the cgroup" } else { "of the machine" };
    let fits = need.connections_in(memory);
    let Some(connections) = need.connections else {
        let value = format!("{} MiB {whose}, and no limit on connections", memory >> 20);
        return Judgement::warn(value, format!("--max-connections {fits}"));
    };
    let wanted = need.bytes_for(connections);
    let value = format!("{} MiB {whose}, {} MiB wanted at rest", memory >> 20, wanted >> 20);
    if wanted > memory {
        return Judgement::fail(
            value,
            format!("--max-connections {fits}; or {} MiB of memory (MemoryMax=, --memory)", wanted >> 20),
        );
    }
    Judgement::ok(value)
}

/// `net.ipv4.tcp_mem`: pages for all TCP buffers of the machine.
pub(in crate::doctor) fn tcp_mem(need: &Need, facts: &Facts) -> Judgement {
    let Some([low, pressure, most]) = three(facts, "net.ipv4.tcp_mem") else { return Judgement::unknown() };
    let Some(connections) = need.connections else {
        return Judgement::ok(format!("{low} {pressure} {most} pages"));
    };
    let each = pressure * facts.answers.page_bytes / connections.max(1);
    let value = format!("{low} {pressure} {most} pages: {each} B a connection before pressure");
    if each >= BUFFERED_BYTES {
        return Judgement::ok(value);
    }
    let pages = (connections * BUFFERED_BYTES).div_ceil(facts.answers.page_bytes);
    let wanted = format!("{} {pages} {}", pages * 3 / 4, pages * 3 / 2);
    let fits = pressure * facts.answers.page_bytes / BUFFERED_BYTES;
    Judgement::warn(value, format!("{}; or --max-connections {fits}", set("net.ipv4.tcp_mem", wanted)))
}

/// `net.ipv4.tcp_rmem`.
pub(in crate::doctor) fn tcp_rmem(need: &Need, facts: &Facts) -> Judgement {
    buffers("net.ipv4.tcp_rmem", "--receive-buffer", need.fixed_buffers.0, facts)
}

/// `net.ipv4.tcp_wmem`.
pub(in crate::doctor) fn tcp_wmem(need: &Need, facts: &Facts) -> Judgement {
    buffers("net.ipv4.tcp_wmem", "--send-buffer", need.fixed_buffers.1, facts)
}

/// How far a peer that does not read lets the kernel's buffers grow.
fn buffers(name: &str, option: &str, fixed: bool, facts: &Facts) -> Judgement {
    let Some([min, start, most]) = three(facts, name) else { return Judgement::unknown() };
    let value = format!("{min} {start} {most}");
    if fixed {
        return Judgement::ok(format!("{value}, and {option} fixes it"));
    }
    if most <= BUFFER_MAX {
        return Judgement::ok(value);
    }
    let wanted = format!("{min} {start} {}", BUFFER_WANTED.max(start));
    Judgement::warn(
        format!("{value}: one slow peer may hold {} KiB of the kernel's memory", most >> 10),
        format!("{}; or {option} 256KiB, for the relay alone", set(name, wanted)),
    )
}

/// Transparent huge pages: the process opts out, whatever the system says.
pub(in crate::doctor) fn huge_pages(_: &Need, facts: &Facts) -> Judgement {
    let Some(enabled) = &facts.huge_pages else { return Judgement::ok("not there") };
    let chosen = enabled.split(['[', ']']).nth(1).unwrap_or(enabled);
    Judgement::ok(format!("{chosen}; the relay keeps off them by itself"))
}

fn three(facts: &Facts, name: &str) -> Option<[u64; 3]> {
    facts.sysctl_numbers(name)?.try_into().ok()
}

/// What each connection should be able to have in flight before the kernel saves: a page each way.
const BUFFERED_BYTES: u64 = 8192;
/// What `tuning/` sets: 10 MB/s over 100 ms, five times what a paced link may.
const BUFFER_WANTED: u64 = 2 << 20;
/// Above it one slow peer takes too much.
const BUFFER_MAX: u64 = 4 << 20;
