//! Taking a place back.

use serde_json::Value;

use super::net::{TTL, connected, device, message, on_one_and_four_shards, relay};
use crate::reason::Reason;

#[test]
fn a_target_takes_its_place_back_and_both_hear_of_it() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        net.close(target);
        assert_eq!(net.heard(source)[0]["type"], "peer-disconnected");
        let target = net.join("b", &session);
        assert_eq!(net.heard(source), [connected(&device("b"))]);
        assert_eq!(net.heard(target), [connected(&device("a"))]);
        net.say(source, &relay(&session, "again"));
        assert_eq!(net.heard(target)[0]["payload"], "again");
        assert_eq!(net.sum(|counters| counters.resumed), 1);
        assert_eq!(net.sum(|counters| counters.joined), 1);
    });
}

#[test]
fn a_source_takes_its_place_back_with_a_fresh_expiry() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        net.close(source);
        net.heard(target);
        net.advance(TTL / 2);
        let source = net.open();
        net.say(source, &message("pair-source", &device("a"), Some(&session)));
        let heard = net.heard(source);
        assert_eq!(heard.len(), 2);
        assert_eq!(
            (&heard[0]["type"], &heard[0]["sessionId"]),
            (&"session-created".into(), &session.as_str().into())
        );
        assert_eq!(heard[0]["expiresAt"], net.now.unix_ms + TTL.as_millis() as u64);
        assert_eq!(heard[1], connected(&device("b")));
        assert_eq!(net.heard(target), [connected(&device("a"))]);
        net.advance(TTL / 2 + TTL / 4);
        assert_eq!(net.closed(source), None);
        net.say(target, &relay(&session, "again"));
        assert_eq!(net.heard(source)[0]["payload"], "again");
    });
}

#[test]
fn a_place_is_taken_back_before_the_other_end_is_there() {
    on_one_and_four_shards(|net| {
        let (source, session) = net.source("a");
        net.close(source);
        let source = net.open();
        net.say(source, &message("pair-source", &device("a"), Some(&session)));
        let heard = net.heard(source);
        assert_eq!(heard.len(), 1, "no one is connected: {heard:?}");
        let target = net.join("b", &session);
        assert_eq!(net.heard(target), [connected(&device("a"))]);
        net.close(source);
        net.close(target);
        let target = net.join("b", &session);
        assert_eq!(net.heard(target), [] as [Value; 0], "the source is away");
        let source = net.open();
        net.say(source, &message("pair-source", &device("a"), Some(&session)));
        assert_eq!(net.heard(target), [connected(&device("a"))]);
    });
}

#[test]
fn the_device_and_its_key_are_compared_by_what_they_say() {
    on_one_and_four_shards(|net| {
        let (source, _, session) = net.pair();
        net.close(source);
        let source = net.open();
        let spelled = format!(r#"{{"type":"pair-source","sessionId":"{session}","deviceId":"\u0069d-a","#)
            + r#""ephemeralPubKey":"key\u002da","deviceName":"new name","capability":{}}"#;
        net.say_bytes(source, spelled.as_bytes());
        assert_eq!(net.heard(source)[0]["type"], "session-created");
    });
}

#[test]
fn a_place_is_not_given_to_another_device_nor_while_its_socket_is_there() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        for kind in ["pair-source", "pair-target"] {
            for name in ["a", "b"] {
                let sock = net.open();
                net.say(sock, &message(kind, &device(name), Some(&session)));
                assert_eq!(net.error(sock), ("session_join_failed".into(), Some(Reason::SessionJoinFailed)));
            }
        }
        net.close(source);
        net.close(target);
        for field in ["deviceId", "ephemeralPubKey"] {
            for (kind, name) in [("pair-source", "a"), ("pair-target", "b")] {
                let mut other = device(name);
                other[field] = "another".into();
                let sock = net.open();
                net.say(sock, &message(kind, &other, Some(&session)));
                assert_eq!(net.error(sock), ("session_join_failed".into(), Some(Reason::SessionJoinFailed)));
            }
        }
        assert_eq!(net.sum(|counters| counters.resumed), 0);
    });
}
