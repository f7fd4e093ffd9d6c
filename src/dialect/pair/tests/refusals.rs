//! Every error of the contract, and what comes of it.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::{
    super::{Error, SessionId},
    net::{Net, RELAY, TTL, config, device, message, on_one_and_four_shards},
};
use crate::{
    admission::{AllowList, PlaceBounds, SharedPolicy},
    dialect::pair::PairConfig,
    reason::Reason,
};

fn refused(net: &mut Net, said: &[u8]) -> (String, Option<Reason>) {
    let sock = net.open();
    net.say_bytes(sock, said);
    net.error(sock)
}

#[test]
fn what_is_not_json_is_told_so() {
    on_one_and_four_shards(|net| {
        let deep = "[".repeat(100_000);
        for said in
            ["", "{", "nonsense", r#"{"type":"ping"} x"#, "\u{feff}{}", "{'type':'ping'}", "[1,]", &deep]
        {
            let want = ("malformed_json".into(), Some(Reason::MalformedJson));
            assert_eq!(refused(net, said.as_bytes()), want, "{said}");
        }
        for said in
            [&b"{\"type\":\"ping\xff\"}"[..], b"{\"type\":\"ping\",\"x\":\"\xed\xa0\x80\"}", b"\xff\xfe"]
        {
            assert_eq!(refused(net, said), ("malformed_json".into(), Some(Reason::MalformedJson)));
        }
    });
}

#[test]
fn json_without_a_type_is_told_so() {
    on_one_and_four_shards(|net| {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for said in [
            "{}",
            "null",
            "5",
            "[]",
            r#""ping""#,
            r#"{"type":5}"#,
            r#"{"type":null}"#,
            r#"{"type":"ping","type":[]}"#,
            &deep,
        ] {
            let want = ("malformed_message".into(), Some(Reason::MalformedMessage));
            assert_eq!(refused(net, said.as_bytes()), want, "{said}");
        }
    });
}

#[test]
fn a_type_that_is_none_is_told_so() {
    on_one_and_four_shards(|net| {
        for kind in ["", "PING", "pair", "session-created", "\u{0}"] {
            let said = json!({ "type": kind }).to_string();
            let want = ("unknown_message_type".into(), Some(Reason::UnknownMessageType));
            assert_eq!(refused(net, said.as_bytes()), want);
        }
    });
}

#[test]
fn a_device_has_to_introduce_itself_with_every_field_of_its_type() {
    on_one_and_four_shards(|net| {
        let (_, session) = net.source("a");
        let wrong = |field: &str, value: Value| {
            let mut said = device("b");
            said[field] = value;
            said
        };
        let mut cases = vec![
            wrong("deviceId", json!(5)),
            wrong("deviceName", json!(null)),
            wrong("ephemeralPubKey", json!(["k"])),
            wrong("capability", json!("fast")),
            wrong("capability", json!([1])),
            wrong("capability", json!({ "score": "5" })),
            wrong("capability", json!({ "score": null })),
            wrong("deviceName", json!("x".repeat(9000))),
        ];
        for field in ["deviceId", "deviceName", "ephemeralPubKey", "capability"] {
            let mut said = device("b");
            said.as_object_mut().expect("an object").remove(field);
            cases.push(said);
        }
        for case in cases {
            for said in [message("pair-source", &case, None), message("pair-target", &case, Some(&session))] {
                let want = ("malformed_message".into(), Some(Reason::MalformedMessage));
                assert_eq!(refused(net, said.to_string().as_bytes()), want, "{said}");
            }
        }
        for said in [
            message("pair-target", &device("b"), None),
            json!({ "type": "relay", "sessionId": session }),
            json!({ "type": "relay", "sessionId": session, "payload": {} }),
        ] {
            let want = ("malformed_message".into(), Some(Reason::MalformedMessage));
            assert_eq!(refused(net, said.to_string().as_bytes()), want, "{said}");
        }
    });
}

#[test]
fn a_session_that_is_not_ours_cannot_be_joined() {
    on_one_and_four_shards(|net| {
        let (_, session) = net.source("a");
        // Other relays, shards that are none, and ids that are none at all.
        let other_relay = format!("{}AAAA", &session[..18]);
        let mut random = ChaCha12Rng::seed_from_u64(1);
        let mut id = |relay, shard| SessionId::make(&mut random, relay, shard).to_string();
        let (no_shard, neither) = (id(RELAY, net.shards()), id(RELAY + 1, net.shards()));
        let lists = [&"A".repeat(22), &"_".repeat(21), &other_relay, &no_shard, &neither, &id(RELAY + 1, 0)];
        for id in ["", "x", &session[1..]].into_iter().chain(lists.map(String::as_str)) {
            for kind in ["pair-target", "pair-source"] {
                let said = message(kind, &device("b"), Some(id)).to_string();
                let want = ("session_join_failed".into(), Some(Reason::SessionJoinFailed));
                assert_eq!(refused(net, said.as_bytes()), want, "{kind} {id}");
            }
        }
    });
}

#[test]
fn what_introduces_a_device_has_eight_kibibytes_together() {
    let mut net = Net::new(1, config());
    let fields = ["deviceId", "deviceName", "capability", "ephemeralPubKey"];
    let bytes = |device: &Value| fields.iter().map(|field| device[*field].to_string().len()).sum::<usize>();
    for field in fields {
        let mut device = device("a");
        let left = 8 * 1024 - bytes(&device);
        match &mut device[field] {
            Value::Object(members) => {
                members.insert("x".repeat(left - r#""":1,"#.len()), 1.into()).map_or((), drop)
            }
            text => *text = (text.as_str().expect("a string").to_owned() + &"x".repeat(left)).into(),
        }
        assert_eq!(bytes(&device), 8 * 1024, "{field}");
        let sock = net.open();
        net.say(sock, &message("pair-source", &device, None));
        assert_eq!(net.heard(sock)[0]["type"], "session-created", "{field}");
        device["deviceName"] = (device["deviceName"].as_str().expect("a string").to_owned() + "y").into();
        let want = ("malformed_message".into(), Some(Reason::MalformedMessage));
        let said = message("pair-source", &device, None).to_string();
        assert_eq!(refused(&mut net, said.as_bytes()), want, "{field}");
    }
    net.assert_nothing_left();
}

#[test]
fn errors_are_counted_and_each_says_something_else() {
    let mut net = Net::new(1, config());
    let [first, again, other] = ["{", "{", "{}"].map(|said| {
        let sock = net.open();
        net.say_bytes(sock, said.as_bytes());
        net.heard(sock)[0]["message"].clone()
    });
    assert!(first == again && first != other && other.is_string(), "{first} {other}");
    let count = |wanted| {
        net.sum(|counters| counters.errors().find(|(error, _)| *error == wanted).map_or(0, |it| it.1))
    };
    assert_eq!(
        (count(Error::MalformedJson), count(Error::MalformedMessage), count(Error::RateLimited)),
        (2, 1, 0)
    );
}

#[test]
fn a_third_device_and_a_socket_with_a_role_are_refused() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        let third = net.join("c", &session);
        assert_eq!(net.error(third), ("session_join_failed".into(), Some(Reason::SessionJoinFailed)));
        assert!(net.heard(source).is_empty() && net.heard(target).is_empty());
        // Nobody joins from a socket that is in a session, wherever the other session lives.
        let (other, elsewhere) = net.source("d");
        net.say(source, &message("pair-target", &device("a"), Some(&elsewhere)));
        assert_eq!(net.error(source), ("session_join_failed".into(), Some(Reason::SessionJoinFailed)));
        assert_eq!(net.heard(target)[0]["type"], "peer-disconnected");
        assert!(net.heard(other).is_empty());
    });
}

#[test]
fn new_sessions_of_one_address_are_limited_and_joins_are_not() {
    let policy = SharedPolicy::new(0, AllowList::default()).with_sessions(3, PlaceBounds::default());
    let mut net = Net::with_policy(4, config(), policy);
    let sessions: Vec<_> = (0..3).map(|_| net.source("a").1).collect();
    let said = message("pair-source", &device("a"), None).to_string();
    assert_eq!(
        refused(&mut net, said.as_bytes()),
        ("rate_limited".into(), Some(Reason::SessionsRateLimited))
    );
    for session in &sessions {
        let target = net.join("b", session);
        assert_eq!(net.heard(target)[0]["type"], "peer-connected");
    }
    let other = net.open_from("192.0.2.2", None);
    net.say_bytes(other, said.as_bytes());
    assert_eq!(net.heard(other)[0]["type"], "session-created");
    net.assert_nothing_left();
}

#[test]
fn sessions_that_one_address_has_are_limited_until_they_end() {
    let bounds = PlaceBounds { all: None, per_ip: Some(2) };
    let policy = SharedPolicy::new(0, AllowList::default()).with_sessions(0, bounds);
    let mut net = Net::with_policy(4, config(), policy);
    let sessions: Vec<_> = (0..2).map(|_| net.source("a").1).collect();
    let said = message("pair-source", &device("a"), None).to_string();
    let limited = ("rate_limited".into(), Some(Reason::SessionsRateLimited));
    assert_eq!(refused(&mut net, said.as_bytes()), limited);
    let target = net.join("b", &sessions[0]);
    assert_eq!(net.heard(target)[0]["type"], "peer-connected");
    let other = net.open_from("192.0.2.2", None);
    net.say_bytes(other, said.as_bytes());
    assert_eq!(net.heard(other)[0]["type"], "session-created");
    net.advance(2 * TTL);
    net.source("a");
    net.assert_nothing_left();
}

#[test]
fn only_allowed_origins_pair_and_who_sends_none_is_no_browser() {
    let origins = Some(vec!["https://a.example".to_owned(), "https://b.example".to_owned()]);
    let mut net = Net::new(1, PairConfig { origins, ..config() });
    for (origin, closed) in [
        (None, None),
        (Some("https://a.example"), None),
        (Some("https://b.example"), None),
        (Some("https://A.example"), Some(Reason::OriginNotAllowed)),
        (Some("https://a.example:443"), Some(Reason::OriginNotAllowed)),
        (Some("null"), Some(Reason::OriginNotAllowed)),
    ] {
        let sock = net.open_from("192.0.2.1", origin);
        assert_eq!(net.closed(sock), closed, "{origin:?}");
    }
    net.assert_nothing_left();
}
