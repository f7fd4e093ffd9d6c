//! Anything may come, in any order.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    super::{
        Scope,
        frames::{client, daemon, worker},
    },
    net::{
        Net, Who, envelope, init, key_update, offer, offer_response, presence, redeem, redeem_response,
        response, subscribe, unsubscribe,
    },
};
use crate::id::ConnId;

/// Valid messages of every kind.
fn samples() -> Vec<Value> {
    let mut init_v2 = init("r");
    let mut response_v2 = response("r", "s");
    for (message, members) in [
        (&mut init_v2, &["version", "clientPublicKey", "clientNonce", "clientProof"][..]),
        (&mut response_v2, &["version", "daemonNonce"][..]),
    ] {
        message["version"] = 2.into();
        for member in &members[1..] {
            message[member] = "x".into();
        }
    }
    let work = json!({
        "type": "viewport.worker_transport.request/v1", "requestId": "r", "method": "GET",
        "path": "/api/runtime/workspaces/w1", "headers": {}, "body": "",
    });
    let event = json!({
        "schema": "viewport.session_event_relay_frame/v1", "channel": "agent-session:1", "event": {},
    });
    let failed =
        json!({ "type": "relay_pairing_offer_response", "requestId": "r", "ok": false, "errorCode": "E" });
    vec![
        envelope("s"),
        init("r"),
        init_v2,
        response("r", "s"),
        response_v2,
        key_update("s"),
        offer("r"),
        offer_response("r"),
        failed,
        redeem("r"),
        redeem_response("r"),
        subscribe("agent-session:1"),
        unsubscribe("agent-session:1"),
        presence("agent-session:1"),
        work,
        event,
    ]
}

/// Names of members that some check looks at.
fn names() -> Vec<String> {
    let more =
        ["pairingPeerId", "ttlSeconds", "afterSequence", "displayName", "sentAt", "errorCode", "extra"];
    let mut names: Vec<_> = more.map(str::to_owned).to_vec();
    for sample in samples() {
        names.extend(sample.as_object().expect("an object").keys().cloned());
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Values on both sides of some check.
fn values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(2.0),
        json!(3),
        json!(2.5),
        json!(29),
        json!(30),
        json!(3600),
        json!(3601),
        json!(1e20),
        json!([]),
        json!({}),
        json!("x".repeat(128)),
        json!("x".repeat(129)),
        json!("x".repeat(255)),
        json!("x".repeat(256)),
    ];
    let texts = [
        "",
        " ",
        "x",
        " x ",
        "noise-ik",
        "noise-ikpsk2",
        "agent-session:",
        " agent-session:1",
        "joined",
        "POST",
        "post",
        "/api/runtime/workspaces/",
        "/api/runtime",
    ];
    values.extend(texts.map(Value::from));
    for sample in samples() {
        values.extend(["type", "schema"].into_iter().filter_map(|name| sample.get(name).cloned()));
    }
    values
}

/// A valid message with a few members changed or left out.
fn messages() -> impl Strategy<Value = Value> {
    let change = (prop::sample::select(names()), prop::option::weighted(0.8, prop::sample::select(values())));
    (prop::sample::select(samples()), prop::collection::vec(change, 0..4)).prop_map(
        |(mut message, changes)| {
            let members: &mut Map<_, _> = message.as_object_mut().expect("an object");
            for (name, value) in changes {
                match value {
                    Some(value) => members.insert(name, value),
                    None => members.remove(&name),
                };
            }
            message
        },
    )
}

// --- The contract's tables, read off a document ---

struct Document<'a>(&'a Value);

impl Document<'_> {
    fn is(&self, name: &str, text: &str) -> bool {
        self.0[name] == text
    }
    fn text(&self, name: &str) -> bool {
        self.0[name].is_string()
    }
    fn texts(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.text(name))
    }
    fn full(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.0[*name].as_str().is_some_and(|text| !text.trim().is_empty()))
    }
    fn number(&self, name: &str) -> Option<f64> {
        self.0[name].as_f64()
    }
    fn integer(&self, name: &str, min: f64, max: f64) -> bool {
        self.number(name).is_some_and(|number| number.fract() == 0.0 && (min..=max).contains(&number))
    }
    fn absent(&self, name: &str) -> bool {
        self.0.get(name).is_none()
    }
    fn profile(&self) -> bool {
        self.is("profile", "noise-ik") || self.is("profile", "noise-ikpsk2")
    }
    fn channel(&self) -> bool {
        self.0["channel"].as_str().is_some_and(|channel| channel.starts_with("agent-session:"))
    }
    fn short(&self, name: &str, max: usize) -> bool {
        self.0[name].as_str().is_some_and(|text| text.encode_utf16().count() <= max)
    }
    fn envelope(&self) -> bool {
        self.is("type", "e2ee")
            && self.number("version") == Some(2.0)
            && self.profile()
            && self.full(&["sessionId", "iv", "tag", "ciphertext"])
            && self.integer("epoch", 1.0, f64::MAX)
            && self.integer("seq", 1.0, f64::MAX)
    }

    fn is_of_client(&self) -> bool {
        let init = match self.number("version") {
            Some(3.0) => self.texts(&["requestId", "clientEphemeralPublicKey", "encryptedClientStatic"]),
            Some(2.0) => self.texts(&["requestId", "clientPublicKey", "clientNonce", "clientProof"]),
            _ => false,
        };
        let action = ["joined", "left", "heartbeat"].iter().any(|action| self.is("action", action));
        self.envelope()
            || (self.is("type", "relay_key_exchange_init")
                && init
                && self.profile()
                && (self.is("profile", "noise-ik") || self.full(&["pairingPeerId"])))
            || (self.is("type", "relay_pairing_offer_request")
                && self.full(&["requestId", "clientChannelPublicKey"])
                && (self.absent("ttlSeconds") || self.integer("ttlSeconds", 30.0, 3600.0)))
            || (self.is("type", "relay_pairing_redeem_request")
                && self.full(&["requestId", "offerId", "encIv", "encTag", "encCiphertext"]))
            || (self.is("type", "viewport.session_events.subscribe/v1")
                && self.channel()
                && (self.absent("afterSequence") || self.integer("afterSequence", 0.0, f64::MAX)))
            || (self.is("type", "viewport.session_events.unsubscribe/v1") && self.channel())
            || (self.is("type", "viewport.session_viewer_presence/v1")
                && self.channel()
                && action
                && self.full(&["userId"])
                && self.short("userId", 128)
                && (self.absent("displayName") || self.short("displayName", 255))
                && (self.absent("sentAt") || self.text("sentAt")))
    }

    fn is_of_daemon(&self) -> bool {
        let response = match self.number("version") {
            Some(3.0) => {
                self.texts(&["daemonPublicKey", "daemonEphemeralPublicKey", "encryptedMetadata"])
                    && self.integer("epoch", 1.0, f64::MAX)
            }
            Some(2.0) => self.text("daemonNonce") && self.number("epoch").is_some(),
            _ => false,
        };
        let offered = self.full(&["daemonChannelPublicKey", "encIv", "encTag", "encCiphertext"]);
        let failed = self.0["ok"] == false && self.full(&["errorCode"]);
        let event = self.0.get("event").is_some_and(|event| event.is_null() || event.is_object());
        self.envelope()
            || (self.is("type", "relay_key_exchange_response")
                && self.profile()
                && self.texts(&["requestId", "sessionId", "proof"])
                && response)
            || (self.is("type", "relay_key_update_required")
                && self.text("sessionId")
                && self.number("nextEpoch").is_some())
            || (self.is("type", "relay_pairing_offer_response")
                && self.full(&["requestId"])
                && (failed || self.0["ok"] == true && offered))
            || (self.is("type", "relay_pairing_redeem_response")
                && self.full(&["requestId"])
                && (failed || self.0["ok"] == true))
            || (self.is("schema", "viewport.session_event_relay_frame/v1") && self.channel() && event)
    }

    fn is_of_worker(&self) -> bool {
        let path = self.0["path"].as_str().is_some_and(|path| path.starts_with("/api/runtime/workspaces/"));
        self.is("type", "viewport.worker_transport.request/v1")
            && self.full(&["requestId"])
            && ["GET", "POST", "PATCH"].iter().any(|method| self.is("method", method))
            && path
            && (self.absent("headers") || self.0["headers"].is_object())
            && (self.absent("body") || self.text("body"))
    }
}

/// Something that happens to the relay.
#[derive(Clone, Debug)]
enum Step {
    Open(usize),
    Close(usize),
    Say(usize, Value),
    SayBytes(usize, Vec<u8>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..8usize).prop_map(Step::Open),
        1 => any::<usize>().prop_map(Step::Close),
        12 => (any::<usize>(), messages()).prop_map(|(at, message)| Step::Say(at, message)),
        2 => (any::<usize>(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(at, bytes)| Step::SayBytes(at, bytes)),
        1 => (0..40_000u64).prop_map(Step::Wait),
    ]
}

fn somebody(number: usize) -> Who {
    match number {
        0 | 1 => Who::daemon(),
        2 => Who::client(Scope::Runtime, "c1"),
        3 => Who::client(Scope::Runtime, "c2").no_target(),
        4 => Who::client(Scope::Pairing, "c1"),
        5 => Who::viewer("c3", &["agent-session:1", "agent-session:"]),
        6 => Who::client(Scope::Pairing, "c4").no_target(),
        _ => Who::worker("e1"),
    }
}

proptest! {
    #[test]
    fn validity_is_that_of_the_contracts_tables(message in messages()) {
        let (text, document) = (message.to_string(), Document(&message));
        prop_assert_eq!(client(&text).is_some(), document.is_of_client());
        prop_assert_eq!(daemon(&text).is_some(), document.is_of_daemon());
        prop_assert_eq!(worker(&text).is_some(), document.is_of_worker());
    }

    #[test]
    fn no_bytes_are_too_strange(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let junk = String::from_utf8_lossy(&bytes);
        // Messages that are broken off or broken into are nearer to what is looked at.
        let sample = serde_json::to_string(&samples()[cut.index(16)]).expect("JSON");
        let at = cut.index(sample.len());
        for text in [junk.to_string(), sample[..at].to_owned(), format!("{}{junk}{}", &sample[..at], &sample[at..])] {
            let _ = (client(&text), daemon(&text), worker(&text));
        }
    }

    #[test]
    fn whatever_happens_nothing_is_left_of_it(steps in prop::collection::vec(steps(), 0..120)) {
        let mut net = Net::with(|config| {
            config.runtime_per_client.per_minute = 20;
            config.kex.per_minute = 8;
            config.requests_tracked_max = 3;
            config.owners_tracked_max = 2;
        });
        let mut open: Vec<ConnId> = Vec::new();
        for step in steps {
            open.retain(|conn| net.closed(*conn).is_none());
            match step {
                Step::Open(number) => open.push(net.open(somebody(number))),
                Step::Wait(ms) => net.advance(Duration::from_millis(ms)),
                _ if open.is_empty() => {}
                Step::Close(at) => net.close(open.swap_remove(at % open.len())),
                Step::Say(at, message) => net.say(open[at % open.len()], &message),
                Step::SayBytes(at, bytes) => net.say_bytes(open[at % open.len()], &bytes),
            }
        }
        net.assert_nothing_left();
    }
}
