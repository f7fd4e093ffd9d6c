//! The link protocol from both sides: hosts that register, clients that resolve, and the joined pair.

use serde_json::{Value, json};

use super::{
    end::End,
    keys::{Keys, unix_ms},
    peer::Peer,
    relay::Relay,
};

/// A link id of the right shape that no relay gave out.
pub const UNKNOWN_LINK: &str = "00000000-0000-4000-8000-000000000000";

/// A host: its control socket and the key it registered with.
pub struct Host {
    /// The control socket.
    pub control: Peer,
    /// The key pair, and with it the address.
    pub keys: Keys,
    /// The time stamp of the latest registration.
    pub stamp: i64,
}

/// A joined pair of sockets.
pub struct Link<C = Peer, H = C> {
    /// The link's id.
    pub id: String,
    /// The client's socket.
    pub client: C,
    /// The socket with which the host dialled back.
    pub host: H,
}

impl Host {
    /// Registers a fresh key.
    pub fn register(relay: &Relay) -> Host {
        Host::register_keys(relay, Keys::new())
    }

    /// Registers a key on a socket of its own.
    pub fn register_keys(relay: &Relay, keys: Keys) -> Host {
        let mut host = Host { control: relay.peer(), stamp: unix_ms() - 1000, keys };
        host.register_again(&relay.origin());
        host
    }

    /// Registers once more on the same socket, with a newer time stamp.
    pub fn register_again(&mut self, origin: &str) {
        self.stamp = (self.stamp + 1).max(unix_ms());
        register(&mut self.control, &self.keys, origin, self.stamp);
    }

    /// The address it registered.
    pub fn address(&self) -> &str {
        &self.keys.address
    }

    /// Lets a client resolve this host; checks what both are told.
    pub fn introduce<C: End>(&mut self, relay: &Relay) -> (C, String) {
        let mut client = C::open(relay);
        let id = self.introduce_to(&mut client);
        (client, id)
    }

    /// Lets this client resolve this host; checks what both are told.
    pub fn introduce_to(&mut self, client: &mut impl End) -> String {
        let id = resolve(client, self.address());
        let arrived = self.control.expect("arrived");
        assert_eq!(arrived, json!({ "type": "arrived", "linkId": id, "address": self.address() }));
        id
    }

    /// Introduces a client and lets it ask for the relay: the link is pending.
    pub fn pend<C: End>(&mut self, relay: &Relay) -> (C, String) {
        let (mut client, id) = self.introduce(relay);
        self.pend_for(&mut client, &id);
        (client, id)
    }

    /// Lets an introduced client ask for the relay.
    pub fn pend_for(&mut self, client: &mut impl End, id: &str) {
        client.tell(&json!({ "type": "relay", "linkId": id }));
        assert_eq!(self.control.expect("relay"), json!({ "type": "relay", "linkId": id }));
    }

    /// The whole introduction.
    pub fn join<C: End, H: End>(&mut self, relay: &Relay) -> Link<C, H> {
        self.join_ends(C::open(relay), H::open(relay))
    }

    /// The whole introduction over two sockets that have no role yet.
    pub fn join_ends<C: End, H: End>(&mut self, mut client: C, mut host: H) -> Link<C, H> {
        let id = self.introduce_to(&mut client);
        self.pend_for(&mut client, &id);
        accept(&mut host, &id);
        client.expect_relaying(&id);
        Link { id, client, host }
    }

    /// Asks for the usage of its links.
    pub fn usage(&mut self) -> Value {
        self.control.tell(&json!({ "type": "getUsage" }));
        self.control.expect("usage")["connections"].clone()
    }
}

/// Registers a key; checks the answer.
pub fn register(control: &mut impl End, keys: &Keys, origin: &str, ts: i64) {
    control.tell(&keys.register(origin, ts));
    assert_eq!(control.expect("registered"), json!({ "type": "registered", "address": keys.address }));
}

/// Resolves an address that must be known; gives the link's id.
pub fn resolve(client: &mut impl End, address: &str) -> String {
    client.tell(&json!({ "type": "resolve", "address": address }));
    let found = client.expect("found");
    let id = found["linkId"].as_str().expect("a link id is a string").to_owned();
    assert_eq!(found, json!({ "type": "found", "linkId": id }));
    id
}

/// Accepts a pending link; checks the answer.
pub fn accept(host: &mut impl End, id: &str) {
    host.tell(&json!({ "type": "accept", "linkId": id }));
    host.expect_relaying(id);
}

impl<C: End, H: End> Link<C, H> {
    /// A registered host and one joined link of it.
    pub fn new(relay: &Relay) -> (Host, Link<C, H>) {
        let mut host = Host::register(relay);
        let link = host.join(relay);
        (host, link)
    }

    /// Sends a text each way and checks that it arrives: the link works.
    pub fn check(&mut self) {
        self.client.say("from the client");
        self.host.expect_text("from the client");
        self.host.say("from the host");
        self.client.expect_text("from the host");
    }
}
