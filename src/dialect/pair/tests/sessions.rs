//! Sessions from their creation to their end.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    super::SessionId,
    net::{Net, RELAY, TTL, config, connected, device, message, on_one_and_four_shards, relay},
};
use crate::{
    admission::{AllowList, PlaceBounds, SharedPolicy},
    reason::Reason,
};

#[test]
fn a_source_gets_a_session_and_what_its_qr_code_says() {
    on_one_and_four_shards(|net| {
        let sock = net.open();
        let source = json!({
            "deviceId": "d1",
            "deviceName": "Zo\u{eb} \"9\"",
            "capability": {},
            "ephemeralPubKey": "k1",
            "futureField": [null],
        });
        net.say(sock, &message("pair-source", &source, None));
        let expires_at = net.now.unix_ms + TTL.as_millis() as u64;
        let heard = net.heard(sock);
        let session = heard[0]["sessionId"].as_str().expect("an id");
        let id = SessionId::parse(session.as_bytes()).expect("16 bytes, base64url");
        assert_eq!((id.relay(), id.shard()), (RELAY, net.shard_of(sock)));
        let qr = heard[0]["qrPayload"].as_str().expect("a payload");
        let qr: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(qr).expect("base64url")).expect("JSON");
        assert_eq!(
            qr,
            json!({
                "v": 1,
                "rendezvousUrl": "wss://relay.example",
                "sessionId": session,
                "sourceEphemeralPubKey": "k1",
                "sourceDeviceId": "d1",
                "sourceDeviceName": "Zo\u{eb} \"9\"",
                "expiresAt": expires_at,
            })
        );
        assert_eq!(heard[0]["expiresAt"], expires_at);
        assert_eq!(heard[0].as_object().expect("an object").len(), 4);
    });
}

#[test]
fn a_target_moves_to_its_session_and_both_hear_of_each_other_the_source_first() {
    let mut net = Net::new(4, config());
    let (source, session) = net.source("a");
    for filler in 0..2 {
        net.open_from(&format!("192.0.2.{filler}"), None);
    }
    let target = net.join("b", &session);
    assert_eq!((net.shard_of(source), net.shard_of(target), net.moves), (0, 0, 1));
    assert_eq!(net.heard(source), [connected(&device("b"))]);
    assert_eq!(net.heard(target), [connected(&device("a"))]);
    net.assert_nothing_left();
}

#[test]
fn what_a_device_says_of_itself_is_passed_on_as_it_wrote_it() {
    on_one_and_four_shards(|net| {
        let source = net.open();
        // An escaped lone surrogate, which no UTF-8 could say, a number beyond a double, and escaped keys.
        let said = [
            r#"{"typ\u0065":"pair-source","deviceId":"\ud800\u0041","deviceName":"\/","#,
            r#""capability":{ "n":1e400 },"ephemeralPubKey":"k"}"#,
        ];
        net.say_bytes(source, said.concat().as_bytes());
        let session = net.heard(source)[0]["sessionId"].as_str().expect("an id").to_owned();
        let target = net.join("b", &session);
        let heard = net.heard_bytes(target);
        let want = [
            r#"{"type":"peer-connected","peerEphemeralPubKey":"k","peerDeviceId":"\ud800\u0041","#,
            r#""peerDeviceName":"\/","peerCapability":{ "n":1e400 }}"#,
        ];
        assert_eq!(heard, [want.concat().as_bytes()]);
    });
}

#[test]
fn a_session_expires_on_time_and_closes_both() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        net.advance(TTL - Duration::from_millis(1));
        net.say(source, &relay(&session, "still here"));
        net.advance(TTL - Duration::from_millis(1));
        assert_eq!((net.closed(source), net.closed(target)), (None, None));
        net.advance(Duration::from_millis(2));
        assert_eq!(net.closed(source), Some(Reason::SessionExpired));
        assert_eq!(net.closed(target), Some(Reason::SessionExpired));
        assert_eq!(net.heard(source), [] as [Value; 0], "no end hears that the other is gone");
        let late = net.join("c", &session);
        assert_eq!(net.error(late), ("session_join_failed".into(), Some(Reason::SessionJoinFailed)));
    });
}

#[test]
fn a_join_and_a_relay_that_found_nobody_keep_a_session() {
    on_one_and_four_shards(|net| {
        let (source, session) = net.source("a");
        net.advance(TTL / 2);
        net.say(source, &relay(&session, "too early"));
        assert_eq!(net.error(source), ("peer_not_connected".into(), None));
        net.advance(TTL / 2 + Duration::from_secs(1));
        let target = net.join("b", &session);
        net.advance(TTL - Duration::from_secs(1));
        assert_eq!((net.closed(source), net.closed(target)), (None, None));
        net.advance(Duration::from_secs(2));
        assert_eq!(net.closed(target), Some(Reason::SessionExpired));
    });
}

#[test]
fn places_are_counted_over_all_shards_and_come_back_when_sessions_end() {
    let policy = SharedPolicy::new(0, AllowList::default())
        .with_sessions(0, PlaceBounds { all: Some(5), per_ip: None });
    let mut net = Net::with_policy(4, config(), policy);
    let sources: Vec<_> = (0..5).map(|_| net.source("a").0).collect();
    let sock = net.open();
    net.say(sock, &message("pair-source", &device("a"), None));
    assert_eq!(net.error(sock), ("server_at_capacity".into(), Some(Reason::ServerAtCapacity)));
    // Until its time is over a session keeps its place, whoever has left.
    net.close(sources[0]);
    let sock = net.open();
    net.say(sock, &message("pair-source", &device("a"), None));
    assert_eq!(net.error(sock).0, "server_at_capacity");
    net.advance(TTL + Duration::from_secs(1));
    for _ in 0..5 {
        net.source("b");
    }
    assert_eq!(net.policy.sessions(), 5);
    net.assert_nothing_left();
}

#[test]
fn a_socket_that_asks_for_another_session_leaves_the_one_it_is_in() {
    on_one_and_four_shards(|net| {
        let (source, target, first) = net.pair();
        net.say(source, &message("pair-source", &device("a"), None));
        let second = net.heard(source)[0]["sessionId"].as_str().expect("an id").to_owned();
        assert_ne!(first, second);
        assert_eq!(net.heard(target)[0]["type"], "peer-disconnected");
        net.say(source, &relay(&first, "to nobody"));
        assert_eq!(net.error(source), ("session_mismatch".into(), None));
        let third = net.join("c", &second);
        assert_eq!(net.heard(source), [connected(&device("c"))]);
        net.advance(TTL / 2);
        net.say(third, &relay(&second, "on"));
        net.advance(TTL / 2 + Duration::from_secs(1));
        assert_eq!(net.closed(target), Some(Reason::SessionExpired));
        assert_eq!(net.closed(source), None, "the first session's end is none of its business");
    });
}

#[test]
fn a_ping_gets_a_pong() {
    on_one_and_four_shards(|net| {
        let sock = net.open();
        net.say(sock, &json!({ "type": "ping" }));
        let (source, _) = net.source("a");
        net.say(source, &json!({ "type": "ping" }));
        assert_eq!(net.heard(sock), [json!({ "type": "pong" })]);
        assert_eq!(net.heard(source), [json!({ "type": "pong" })]);
    });
}
