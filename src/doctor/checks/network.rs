//! Queues, ports and tables between the wire and the relay.

use std::net::{IpAddr, SocketAddr};

use super::set;
use crate::doctor::{Facts, Judgement, Need};

/// `net.core.somaxconn`, which caps every listener's queue.
pub(in crate::doctor) fn somaxconn(need: &Need, facts: &Facts) -> Judgement {
    let name = "net.core.somaxconn";
    let Some(most) = facts.sysctl(name) else { return Judgement::unknown() };
    let value = format!("{most}, {} wanted for each listener", need.backlog);
    if most >= need.backlog { Judgement::ok(value) } else { Judgement::warn(value, set(name, need.backlog)) }
}

/// `net.ipv4.tcp_syncookies`: what happens when a queue is full of half-open connections.
pub(in crate::doctor) fn syn_cookies(_: &Need, facts: &Facts) -> Judgement {
    match facts.sysctl("net.ipv4.tcp_syncookies") {
        None => Judgement::unknown(),
        Some(0) => Judgement::warn(
            "0: a flood of half-open connections shuts others out",
            set("net.ipv4.tcp_syncookies", 1),
        ),
        Some(on) => Judgement::ok(on.to_string()),
    }
}

/// `net.ipv4.tcp_max_syn_backlog`, which only counts without SYN cookies.
pub(in crate::doctor) fn syn_backlog(need: &Need, facts: &Facts) -> Judgement {
    let name = "net.ipv4.tcp_max_syn_backlog";
    let Some(most) = facts.sysctl(name) else { return Judgement::unknown() };
    let cookies = facts.sysctl("net.ipv4.tcp_syncookies").is_some_and(|on| on > 0);
    let value = format!("{most}, {} wanted", need.backlog);
    match (most >= need.backlog, cookies) {
        (true, _) => Judgement::ok(value),
        (false, true) => Judgement::ok(value + " only without SYN cookies"),
        (false, false) => Judgement::warn(value, set(name, need.backlog)),
    }
}

/// `net.ipv4.ip_local_reserved_ports`: the relay connects to no one, so that the range for outgoing connections bounds
/// nothing; but a port inside it may be taken by one while the relay is down.
pub(in crate::doctor) fn reserved_ports(need: &Need, facts: &Facts) -> Judgement {
    let name = "net.ipv4.ip_local_reserved_ports";
    let range = facts.sysctl_numbers("net.ipv4.ip_local_port_range");
    let Some(&[first, last]) = range.as_deref() else { return Judgement::unknown() };
    let reserved = facts.sysctls.get(name).map_or("", String::as_str);
    let is_reserved = |port: u16| {
        reserved.split(',').any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse().is_ok_and(|first: u16| first <= port)
                && last.parse().is_ok_and(|last: u16| port <= last)
        })
    };
    let exposed = need
        .addresses
        .iter()
        .map(SocketAddr::port)
        .find(|port| (first..=last).contains(&u64::from(*port)) && !is_reserved(*port));
    match exposed {
        None => {
            Judgement::ok(format!("no port of the relay is in {first}-{last}, that of outgoing connections"))
        }
        Some(port) => {
            let all = if reserved.is_empty() { port.to_string() } else { format!("{reserved},{port}") };
            let value = format!("port {port} is in {first}-{last}: an outgoing connection may take it first");
            Judgement::warn(value, set(name, all))
        }
    }
}

/// `net.netfilter.nf_conntrack_max`, where connections are tracked.
pub(in crate::doctor) fn conntrack(need: &Need, facts: &Facts) -> Judgement {
    let name = "net.netfilter.nf_conntrack_max";
    let Some(most) = facts.sysctl(name) else { return Judgement::ok("connections are not tracked") };
    let used = facts.sysctl("net.netfilter.nf_conntrack_count").unwrap_or(0);
    if used == 0 {
        return Judgement::ok(format!("{most}, and nothing is tracked"));
    }
    let Some(connections) = need.connections else { return Judgement::ok(format!("{most}, {used} tracked")) };
    let value = format!("{most}, {used} tracked, {connections} more wanted");
    let all = used.saturating_add(connections);
    if all <= most {
        return Judgement::ok(value);
    }
    let port = need.addresses.first().map_or(8080, SocketAddr::port);
    Judgement::fail(
        value,
        format!(
            "{}; or do not track them: nft add table inet longsplice; nft add chain inet longsplice raw '{{ type \
             filter \
             hook prerouting priority raw; }}'; nft add rule inet longsplice raw tcp dport {port} notrack",
            set(name, all.next_power_of_two())
        ),
    )
}

/// `net.ipv4.tcp_slow_start_after_idle`.
pub(in crate::doctor) fn slow_start(_: &Need, facts: &Facts) -> Judgement {
    match facts.sysctl("net.ipv4.tcp_slow_start_after_idle") {
        None => Judgement::unknown(),
        Some(0) => Judgement::ok("0"),
        Some(on) => Judgement::warn(
            format!("{on}: after a pause a link starts slowly again"),
            set("net.ipv4.tcp_slow_start_after_idle", 0),
        ),
    }
}

/// `net.core.netdev_max_backlog`, judged by what was dropped.
pub(in crate::doctor) fn device_backlog(_: &Need, facts: &Facts) -> Judgement {
    let name = "net.core.netdev_max_backlog";
    let (Some(most), Some(drops)) = (facts.sysctl(name), facts.backlog_drops) else {
        return Judgement::unknown();
    };
    let value = format!("{most}, {drops} packets dropped since the start");
    if drops == 0 { Judgement::ok(value) } else { Judgement::warn(value, set(name, (most * 4).max(4096))) }
}

/// Receive queues: one queue is one core's work before a shard sees a byte.
pub(in crate::doctor) fn receive_queues(need: &Need, facts: &Facts) -> Judgement {
    if facts.single_queues.is_empty() || need.shards == 1 {
        return Judgement::ok("spread, or one shard");
    }
    let devices = facts.single_queues.join(" ");
    Judgement::warn(
        format!("all packets of {devices} are received by one core"),
        format!("tuning/rps-affinity.sh --apply {devices}"),
    )
}

/// Whether the addresses are free.
pub(in crate::doctor) fn addresses(need: &Need, facts: &Facts) -> Judgement {
    let taken =
        need.addresses.iter().find(|ours| facts.listening.iter().any(|other| collide(**ours, *other)));
    match taken {
        Some(address) => Judgement::fail(
            format!("{address} is in use"),
            format!(
                "ss -ltnp 'sport = :{}' names the process: stop it, or choose another --listen or --port",
                address.port()
            ),
        ),
        None => Judgement::ok("free"),
    }
}

/// Whether two listeners exclude each other. The relay's own IPv6 sockets are for IPv6 only.
fn collide(ours: SocketAddr, other: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    let both_families = other.is_ipv6() && any(other.ip()) && ours.is_ipv4();
    ours.port() == other.port()
        && (ours.ip() == other.ip()
            || (ours.is_ipv4() == other.is_ipv4() && (any(ours.ip()) || any(other.ip())))
            // [::] of another process is for IPv4 too, unless it says otherwise, which /proc does not show.
            || both_families)
}
