//! The protocols that loads speak.

/// A protocol, by the name of its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Hosts register, clients resolve them, and hosts dial back.
    Link,
    /// Two devices meet in a session: the source opens it, the target joins it.
    Pair,
}

impl Dialect {
    /// Where relays usually have its endpoint.
    pub fn path(self) -> &'static str {
        match self {
            Dialect::Link => "/v1/link",
            Dialect::Pair => "/pair",
        }
    }

    /// What an end of a link is called.
    pub fn end(self, is_host: bool) -> &'static str {
        match (self, is_host) {
            (Dialect::Link, false) => "client",
            (Dialect::Link, true) => "host",
            (Dialect::Pair, false) => "source",
            (Dialect::Pair, true) => "target",
        }
    }
}
