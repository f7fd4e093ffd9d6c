//! The relay under load: where it is, and what hosts sign for it.

use std::net::{SocketAddr, ToSocketAddrs};

use tungstenite::http::Uri;

use crate::dialect::Dialect;

/// A relay's endpoint.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to connect to.
    pub address: SocketAddr,
    /// The `Host` header of upgrades.
    pub host: String,
    /// The request target of upgrades.
    pub path: String,
    /// What hosts sign their registrations for: the relay's `LINK_ORIGIN`, or else the `Host` header.
    pub origin: String,
}

impl Target {
    /// The same relay's endpoint of another dialect.
    pub fn of(&self, dialect: Dialect) -> Target {
        Target { path: dialect.path().to_owned(), ..self.clone() }
    }

    /// Takes a `ws://` URL apart and resolves its host; without a path, the dialect's usual one is meant. Errors: what
    /// is wrong with it and what would be right.
    pub fn new(url: &str, origin: Option<&str>, dialect: Dialect) -> Result<Target, String> {
        let complain = |what: &str| Err(format!("--url {url}: {what}"));
        let Ok(uri) = url.parse::<Uri>() else {
            return complain("not a URL; one looks like ws://127.0.0.1:8080/v1/link");
        };
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => {
                return complain(
                    "TLS is not spoken here, and would be most of what is measured; give the ws:// address that the \
                     TLS proxy forwards to",
                );
            }
            _ => return complain("the scheme has to be ws://"),
        }
        let Some(authority) = uri.authority() else { return complain("there is no host in it") };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(80);
        let addresses = match (name, port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => return complain(&format!("{name} cannot be resolved: {error}")),
        };
        // A relay that listens on 0.0.0.0 alone is not reached by "localhost" as ::1.
        let addresses: Vec<SocketAddr> = addresses.collect();
        let Some(address) = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()) else {
            return complain(&format!("{name} has no address"));
        };
        let path = match uri.path_and_query().map(|path| path.as_str()) {
            None | Some("" | "/") => dialect.path().to_owned(),
            Some(path) => path.to_owned(),
        };
        let host = authority.as_str().to_owned();
        let origin = origin.unwrap_or(&host).trim().to_lowercase();
        Ok(Target { address: *address, host, path, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::new("ws://127.0.0.1:8080", None, Dialect::Link).expect("a good URL");
        assert_eq!(
            (target.address.to_string(), target.path.as_str()),
            ("127.0.0.1:8080".to_owned(), "/v1/link")
        );
        assert_eq!((target.host.as_str(), target.origin.as_str()), ("127.0.0.1:8080", "127.0.0.1:8080"));
        let target =
            Target::new("ws://[::1]/x?y=1", Some(" Relay.Example "), Dialect::Link).expect("a good URL");
        assert_eq!((target.address.to_string(), target.path.as_str()), ("[::1]:80".to_owned(), "/x?y=1"));
        assert_eq!((target.host.as_str(), target.origin.as_str()), ("[::1]", "relay.example"));
        let target = Target::new("ws://127.0.0.1:8080/", None, Dialect::Pair).expect("a good URL");
        assert_eq!(target.path, "/pair");
    }

    #[test]
    fn a_bad_url_is_refused_with_the_remedy() {
        for (url, said) in
            [("wss://relay.example/v1/link", "TLS proxy"), ("http://x", "ws://"), ("8080", "ws://")]
        {
            let error = Target::new(url, None, Dialect::Link).expect_err(url);
            assert!(error.contains(said), "{error}");
        }
    }
}
