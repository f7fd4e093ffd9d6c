//! Whose `X-Forwarded-For` is believed (workspace.md section 24, `RELAY_TRUSTED_PROXIES`).

use std::net::IpAddr;

/// A list of addresses and networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// The address's bits, and how many of them count; the two families apart by the address itself.
    networks: Vec<(IpAddr, u32)>,
}

impl TrustedProxies {
    /// Reads a comma-separated list of addresses and CIDR networks. What is neither is left out, as the contract has
    /// it.
    pub fn parse(list: &str) -> TrustedProxies {
        TrustedProxies { networks: list.split(',').filter_map(|entry| network(entry.trim())).collect() }
    }

    /// Whether a peer is one of them.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|(network, prefix)| match (network, peer) {
            (IpAddr::V4(network), IpAddr::V4(peer)) => {
                (network.to_bits() ^ peer.to_bits()).checked_shr(32 - prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(peer)) => {
                (network.to_bits() ^ peer.to_bits()).checked_shr(128 - prefix).unwrap_or(0) == 0
            }
            _ => false,
        })
    }

    /// The client's address: the peer's, or what a trusted peer says is the first hop, which need not be an IP
    /// address; `unknown` where that is empty. `forwarded_for` is the whole header.
    pub fn client_of(&self, peer: IpAddr, forwarded_for: Option<&str>) -> Box<str> {
        let forwarded_for = forwarded_for.filter(|hops| !hops.trim().is_empty() && self.contains(peer));
        let Some(hops) = forwarded_for else { return peer.to_canonical().to_string().into() };
        match unmapped(hops.split(',').next().unwrap_or_default().trim()) {
            "" => "unknown".into(),
            // What is no address may be as long as a head, and is a key of tables.
            first => first[..first.floor_char_boundary(CLIENT_BYTES_MAX)].into(),
        }
    }
}

fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, prefix) = match entry.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (entry, None),
    };
    let address: IpAddr = unmapped(address).parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(bits), str::parse).ok()?;
    (prefix <= bits).then_some((address, prefix))
}

/// The address without the prefix of an IPv4 address in IPv6 form.
fn unmapped(address: &str) -> &str {
    match address.split_at_checked(MAPPED.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(MAPPED) => rest,
        _ => address,
    }
}

const MAPPED: &str = "::ffff:";
/// No address is written longer.
const CLIENT_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("tests write addresses")
    }

    #[test]
    fn addresses_and_networks_of_both_families_are_trusted_and_no_others() {
        let list = "10.0.0.0/8, 192.0.2.7 ,2001:db8::/32,::ffff:198.51.100.1,nonsense,10.0.0.0/33,,::1/129";
        let proxies = TrustedProxies::parse(list);
        for (peer, trusted) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("198.51.100.1", true),
            ("::1", false),
        ] {
            assert_eq!(proxies.contains(ip(peer)), trusted, "{peer}");
        }
        let all = TrustedProxies::parse("0.0.0.0/0,::/0");
        assert!(all.contains(ip("203.0.113.1")) && all.contains(ip("2001:db8::1")));
        assert!(!TrustedProxies::parse("").contains(ip("127.0.0.1")));
    }

    #[test]
    fn what_is_no_address_does_not_become_a_long_key() {
        let proxies = TrustedProxies::parse("127.0.0.0/8");
        let client = proxies.client_of("127.0.0.1".parse().unwrap(), Some(&"\u{e4}".repeat(8000)));
        assert!(client.len() <= CLIENT_BYTES_MAX && !client.is_empty());
    }

    #[test]
    fn only_a_trusted_peer_says_who_the_client_is() {
        let proxies = TrustedProxies::parse("127.0.0.0/8");
        for (peer, hops, client) in [
            ("127.0.0.1", Some("203.0.113.9, 10.0.0.1"), "203.0.113.9"),
            ("127.0.0.1", Some(" ::ffff:203.0.113.9 "), "203.0.113.9"),
            ("127.0.0.1", Some("not an address, 10.0.0.1"), "not an address"),
            ("127.0.0.1", Some(", 10.0.0.1"), "unknown"),
            ("127.0.0.1", Some("  "), "127.0.0.1"),
            ("127.0.0.1", None, "127.0.0.1"),
            ("::ffff:192.0.2.1", Some("203.0.113.9"), "192.0.2.1"),
            ("2001:db8::1", Some("203.0.113.9"), "2001:db8::1"),
        ] {
            assert_eq!(&*proxies.client_of(ip(peer), hops), client, "{peer} {hops:?}");
        }
    }
}
