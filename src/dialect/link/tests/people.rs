//! Who talks to the relay, what they say, and how far they have got: what most tests begin with.

use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use super::net::{HOST, Net, Sock};
use crate::admission::register;

/// A host's key and the address that commits to it.
#[derive(Clone)]
pub(super) struct Identity {
    key: SigningKey,
    pub(super) address: String,
}

impl Identity {
    pub(super) fn new(number: u64) -> Identity {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let key = SigningKey::from_bytes(&seed);
        let address = register::encode(&register::commitment(&key.verifying_key().to_bytes()));
        Identity { key, address }
    }

    /// The `number`-th identity whose address is at home on `shard`.
    pub(super) fn at_home_on(net: &Net, shard: u16, number: usize) -> Identity {
        let home = |identity: &Identity| {
            let address = register::decode::<32>(identity.address.as_bytes()).expect("it was just encoded");
            net.home_of(&address)
        };
        let all = (0..).map(Identity::new);
        all.filter(|identity| home(identity) == shard)
            .nth(number)
            .expect("there are identities for all shards")
    }

    pub(super) fn public_key(&self) -> String {
        register::encode(&self.key.verifying_key().to_bytes())
    }

    /// The `auth` member of a register.
    pub(super) fn auth(&self, timestamp: i64, origin: &str) -> Value {
        self.auth_signed_as(&self.address, timestamp, "a nonce", origin)
    }

    pub(super) fn auth_signed_as(&self, address: &str, timestamp: i64, nonce: &str, origin: &str) -> Value {
        let message = register::signed_message(address, timestamp, nonce, origin);
        let signature = register::encode(&self.key.sign(&message).to_bytes());
        json!({"alg": "ed25519", "pub": self.public_key(), "ts": timestamp, "nonce": nonce, "sig": signature})
    }

    /// A register as of `timestamp`.
    pub(super) fn register_at(&self, timestamp: i64) -> Value {
        json!({"type": "register", "address": self.address, "auth": self.auth(timestamp, HOST)})
    }

    pub(super) fn register(&self, net: &Net) -> Value {
        self.register_at(net.now.unix_ms as i64)
    }

    pub(super) fn resolve(&self) -> Value {
        json!({"type": "resolve", "address": self.address})
    }

    pub(super) fn registered(&self) -> Value {
        json!({"type": "registered", "address": self.address})
    }
}

pub(super) fn relay(link: &str) -> Value {
    json!({"type": "relay", "linkId": link})
}

pub(super) fn accept(link: &str) -> Value {
    json!({"type": "accept", "linkId": link})
}

pub(super) fn relaying(link: &str) -> Value {
    json!({"type": "relaying", "linkId": link})
}

pub(super) fn error(error: &str) -> Value {
    json!({"type": "error", "error": error})
}

/// A host and a client with a link, as far as a test needs it.
pub(super) struct Scene {
    pub(super) identity: Identity,
    pub(super) host: Sock,
    pub(super) client: Sock,
    pub(super) link: String,
}

/// A host's control socket.
pub(super) fn registered(net: &mut Net, identity: &Identity) -> Sock {
    let host = net.open();
    net.say(host, &identity.register(net));
    assert_eq!(net.heard(host), [identity.registered()]);
    host
}

/// A client with a link; nobody has heard anything that is not taken.
pub(super) fn resolved(net: &mut Net, identity: &Identity, host: Sock) -> (Sock, String) {
    let client = net.open();
    net.say(client, &identity.resolve());
    let found = net.heard(client).remove(0);
    assert_eq!(found["type"], "found", "{found}");
    net.heard(host);
    (client, found["linkId"].as_str().expect("a link id").to_owned())
}

pub(super) fn introduced(net: &mut Net, number: u64) -> Scene {
    let identity = Identity::new(number);
    let host = registered(net, &identity);
    let (client, link) = resolved(net, &identity, host);
    Scene { identity, host, client, link }
}

pub(super) fn pending(net: &mut Net, number: u64) -> Scene {
    let scene = introduced(net, number);
    net.say(scene.client, &relay(&scene.link));
    assert_eq!(net.heard(scene.host), [relay(&scene.link)]);
    scene
}

/// A relaying link, and the host's end of it.
pub(super) fn joined(net: &mut Net, number: u64) -> (Scene, Sock) {
    let scene = pending(net, number);
    let end = net.open();
    net.say(end, &accept(&scene.link));
    assert_eq!(net.heard(scene.client), [relaying(&scene.link)]);
    assert_eq!(net.heard(end), [relaying(&scene.link)]);
    (scene, end)
}
