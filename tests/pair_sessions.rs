//! A pairing from the first message to its end: what each side is told, who may take a slot back, and when a
//! session is over.
//!
//! | pair.md | shown by |
//! |---|---|
//! | 2: `pair-source`, `session-created`, `qrPayload` | `a_source_is_given_a_session_and_its_qr_code` |
//! | 2: `sessionId` is 16 random bytes | `session_ids_are_16_bytes_and_never_alike` |
//! | 2: `pair-target`, `peer-connected` to both | `both_are_introduced_on_whatever_shard_they_came_in` |
//! | 2: the source first | two sockets cannot tell: the dialect's own tests show it |
//! | 2: text and binary alike, answers are text | `messages_may_be_binary_and_answers_are_text` |
//! | 2: `ping`, `pong` | `a_ping_is_answered_whatever_the_socket_is` |
//! | 2: fields are passed on unchanged | `what_devices_say_of_themselves_arrives_as_they_said_it` |
//! | 3: the other end gets `peer-disconnected`, the session stays | `when_one_end_goes_the_other_is_told_and_stays` |
//! | 3: resume | `a_target_takes_its_slot_back`, `a_source_takes_its_slot_back` and the three behind them |
//! | 3: pings each 25 s | `silent_sockets_are_pinged`; beside it `a_socket_that_asks_for_nothing_is_closed_in_time` |
//! | 3: expiry, what delays it and what does not | the five `session` and `expiry` tests at the end |
//!
//! What is refused is in `pair_refusals.rs`, what is relayed in `pair_data.rs`.

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};
use support::{
    End, Heard, PATIENCE, Peer, Raw, assert_within, every_cell,
    keys::unix_ms,
    pair::{
        Device, Pair, check_open, create, expect_disconnected, expect_expired, expect_refusal,
        expect_refused, open, relay_message, relayed, tell_until,
    },
    relay::PAIR_PATH,
};

#[test]
fn a_source_is_given_a_session_and_its_qr_code() {
    every_cell(|cell| {
        let relay = cell.setup().env("RENDEZVOUS_URL", "wss://relay.example:8443").start();
        let device = Device::new("Grünes Telefon \u{1f4f1}");
        let before = unix_ms();
        let created = create(&mut open(&relay), &device.source());
        let expected = json!({
            "v": 1,
            "rendezvousUrl": "wss://relay.example:8443",
            "sessionId": created.id,
            "sourceEphemeralPubKey": device.key,
            "sourceDeviceId": device.id,
            "sourceDeviceName": device.name,
            "expiresAt": created.expires_at,
        });
        assert_eq!(created.qr, expected);
        // SESSION_TTL_SECONDS is 60 by default. A turn's clock is read before its messages.
        assert_within("expiresAt", created.expires_at, before + 59_000..=unix_ms() + 60_000);
    });
}

#[test]
fn session_ids_are_16_bytes_and_never_alike() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut ids: Vec<Vec<u8>> = (0..64)
            .map(|_| {
                let id = create(&mut open(&relay), &Device::new("source").source()).id;
                BASE64URL.decode(&id).unwrap_or_else(|error| panic!("{id}: {error}"))
            })
            .collect();
        assert!(ids.iter().all(|id| id.len() == 16));
        // Neighbours differ in most of their bytes: whoever has one cannot guess another.
        for pair in ids.windows(2) {
            let alike = pair[0].iter().zip(&pair[1]).filter(|(one, other)| one == other).count();
            assert!(alike <= 8, "{pair:?}");
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 64);
    });
}

#[test]
fn both_are_introduced_on_whatever_shard_they_came_in() {
    every_cell(|cell| {
        let relay = cell.start();
        // With four shards most targets have to move to the session's shard.
        for _ in 0..16 {
            Pair::<Peer>::new(&relay).check();
        }
    });
}

#[test]
fn messages_may_be_binary_and_answers_are_text() {
    every_cell(|cell| {
        let relay = cell.start();
        let (source_device, target_device) = (Device::new("source"), Device::new("target"));
        let mut source = open(&relay);
        source.send_binary(source_device.source().to_string().as_bytes());
        let id = source.expect("session-created")["sessionId"].as_str().expect("a string").to_owned();
        let mut target = open(&relay);
        target.send_binary(target_device.target(&id).to_string().as_bytes());
        assert_eq!(source.expect("peer-connected"), target_device.connected());
        assert_eq!(target.expect("peer-connected"), source_device.connected());
        target.send_binary(relay_message(&id, "gr\u{fc}n").as_bytes());
        assert_eq!(
            source.expect("relay"),
            json!({ "type": "relay", "from": "target", "payload": "gr\u{fc}n" })
        );
        source.send_binary(br#"{"type":"ping"}"#);
        source.expect("pong");
    });
}

#[test]
fn a_ping_is_answered_whatever_the_socket_is() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut fresh = open(&relay);
        check_open(&mut fresh);
        create(&mut fresh, &Device::new("source").source());
        check_open(&mut fresh);
        let mut pair = Pair::<Peer>::new(&relay);
        check_open(&mut pair.source);
        check_open(&mut pair.target);
        pair.check();
    });
}

#[test]
fn what_devices_say_of_themselves_arrives_as_they_said_it() {
    every_cell(|cell| {
        let relay = cell.start();
        let odd = [
            ("", json!({})),
            ("a\"b\\c/\u{8}\u{c}\n\r\t\u{1}\u{7f}\u{2028}", json!({ "": 0 })),
            ("\u{1f600} \u{10ffff} \u{fffd}", json!({ "gr\u{fc}n": -0.5, "type": 1e300, "sessionId": 7 })),
            (&"n".repeat(2_000), json!({ "a": 1, "b": 2.5, "c": 3e-7, "d": 9007199254740991_i64 })),
        ];
        for (name, capability) in odd {
            let (mut source_device, mut target_device) = (Device::new(name), Device::new(name));
            source_device.id = format!("id {name}");
            target_device.key = format!("key {name}");
            (source_device.capability, target_device.capability) = (capability.clone(), capability);
            let (mut source, mut target) = (open(&relay), open(&relay));
            let created = create(&mut source, &source_device.source());
            assert_eq!(created.qr["sourceDeviceName"], source_device.name);
            assert_eq!(created.qr["sourceDeviceId"], source_device.id);
            target.tell(&target_device.target(&created.id));
            assert_eq!(source.expect("peer-connected"), target_device.connected());
            assert_eq!(target.expect("peer-connected"), source_device.connected());
        }
    });
}

#[test]
fn fields_may_come_in_any_order_with_unknown_ones_and_escapes() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut source = open(&relay);
        source.say(
            r#" { "x" : [ { } , null , { "type" : "relay" } ] , "ephemeralPubKey" : "K" , "\u0063apability":{},
                "deviceName":"n\u00e4me","deviceId":"\u0049", "\u0074ype" : "pair\u002dsource" , "y" : -1.5e-3 } "#,
        );
        let created = source.expect("session-created");
        let id = created["sessionId"].as_str().expect("a string");
        let mut target = open(&relay);
        target.tell(&Device::new("target").target(id));
        let told = target.expect("peer-connected");
        let expected = json!({
            "type": "peer-connected",
            "peerEphemeralPubKey": "K",
            "peerDeviceId": "I",
            "peerDeviceName": "n\u{e4}me",
            "peerCapability": {},
        });
        assert_eq!(told, expected);
    });
}

#[test]
fn when_one_end_goes_the_other_is_told_and_stays() {
    every_cell(|cell| {
        let relay = cell.start();
        let ways: [fn(Raw); 3] = [
            |end| {
                let mut end = end;
                end.write(&support::wire::message(
                    support::wire::CLOSE,
                    &support::wire::close_payload(1000, b""),
                ));
            },
            Raw::reset,
            |end| end.finish(),
        ];
        for go in ways {
            let Pair { id, source, mut target, .. } = Pair::<Raw, Peer>::new(&relay);
            go(source);
            left_behind(&mut target, &id);
            let Pair { id, mut source, target, .. } = Pair::<Peer, Raw>::new(&relay);
            go(target);
            left_behind(&mut source, &id);
        }
    });
}

/// The other end went: this one is told, and may not relay for the time being.
fn left_behind(end: &mut Peer, id: &str) {
    expect_disconnected(end);
    end.say(&relay_message(id, "into the void"));
    expect_refusal(end, "peer_not_connected");
    check_open(end);
}

#[test]
fn a_target_takes_its_slot_back() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        for round in 0..3 {
            pair.target.close(1000);
            expect_disconnected(&mut pair.source);
            pair.target = open(&relay);
            pair.target.tell(&pair.target_device.target(&pair.id));
            pair.expect_connected();
            pair.tell_target(&format!("again {round}"));
            pair.check();
        }
    });
}

#[test]
fn a_source_takes_its_slot_back() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        let mut expired_at = 0;
        for round in 0..3 {
            pair.source.close(1000);
            expect_disconnected(&mut pair.target);
            pair.source = open(&relay);
            let asked = unix_ms();
            let created = create(&mut pair.source, &pair.source_device.source_again(&pair.id));
            assert_eq!(created.id, pair.id);
            assert_eq!(created.qr["sessionId"], pair.id.as_str());
            assert_eq!(created.qr["sourceEphemeralPubKey"], pair.source_device.key.as_str());
            assert_within("expiresAt", created.expires_at, asked + 59_000..=unix_ms() + 60_000);
            assert!(created.expires_at >= expired_at, "the new expiry is fresh");
            expired_at = created.expires_at;
            pair.expect_connected();
            pair.tell_target(&format!("again {round}"));
            pair.check();
        }
    });
}

#[test]
fn both_ends_take_their_slots_back_one_after_the_other() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        pair.source.close(1000);
        expect_disconnected(&mut pair.target);
        pair.target.close(1000);
        // The relay may notice the second close only after the first of these.
        let asks = pair.source_device.source_again(&pair.id);
        pair.source = open(&relay);
        assert_eq!(create(&mut pair.source, &asks).id, pair.id);
        let (target, heard) = tell_until(&relay, &pair.target_device.target(&pair.id), "peer-connected");
        assert_eq!(heard, pair.source_device.connected());
        pair.target = target;
        // Had the source been back before the relay noticed, it would have been told of both.
        loop {
            match pair.source.expect_any(&["peer-connected", "peer-disconnected"]) {
                connected if connected == pair.target_device.connected() => break,
                gone => assert_eq!(gone["type"], "peer-disconnected"),
            }
        }
        pair.check();
    });
}

#[test]
fn a_source_that_waits_takes_its_slot_back_and_is_then_joined() {
    every_cell(|cell| {
        let relay = cell.start();
        let device = Device::new("source");
        let mut source = open(&relay);
        let id = create(&mut source, &device.source()).id;
        source.reset();
        let (mut source, again) = tell_until(&relay, &device.source_again(&id), "session-created");
        assert_eq!(again["sessionId"], id.as_str());
        let target_device = Device::new("target");
        let mut target = open(&relay);
        target.tell(&target_device.target(&id));
        assert_eq!(source.expect("peer-connected"), target_device.connected());
        assert_eq!(target.expect("peer-connected"), device.connected());
    });
}

#[test]
fn a_target_may_join_while_the_source_is_away() {
    every_cell(|cell| {
        let relay = cell.start();
        let (device, target_device) = (Device::new("source"), Device::new("target"));
        let mut source = open(&relay);
        let id = create(&mut source, &device.source()).id;
        source.close(1000);
        assert_eq!(source.hear(PATIENCE), Heard::Closed(1000, String::new()));
        let mut target = open(&relay);
        target.tell(&target_device.target(&id));
        // The target is told when it has joined, and again when the source is back.
        let hear_connected = |target: &mut Peer| {
            while target.expect_any(&["peer-connected", "peer-disconnected"]) != device.connected() {}
        };
        hear_connected(&mut target);
        let (mut source, _) = tell_until(&relay, &device.source_again(&id), "session-created");
        assert_eq!(source.expect("peer-connected"), target_device.connected());
        hear_connected(&mut target);
        source.say(&relay_message(&id, "here"));
        assert_eq!(target.expect("relay"), relayed("source", "here"));
    });
}

#[test]
fn only_the_same_device_with_the_same_key_takes_a_slot_back() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        pair.target.close(1000);
        expect_disconnected(&mut pair.source);
        let other_key = Device { key: Device::new("").key, ..pair.target_device.clone() };
        let other_id = Device { id: Device::new("").id, ..pair.target_device.clone() };
        for device in [&other_key, &other_id, &Device::new("third"), &pair.source_device] {
            let mut socket = open(&relay);
            socket.tell(&device.target(&pair.id));
            expect_refused(&mut socket, "session_join_failed", 1008);
        }
        pair.target = open(&relay);
        pair.target.tell(&pair.target_device.target(&pair.id));
        pair.expect_connected();

        pair.source.close(1000);
        expect_disconnected(&mut pair.target);
        let other_key = Device { key: Device::new("").key, ..pair.source_device.clone() };
        let other_id = Device { id: Device::new("").id, ..pair.source_device.clone() };
        for device in [&other_key, &other_id, &Device::new("third"), &pair.target_device] {
            let mut socket = open(&relay);
            socket.tell(&device.source_again(&pair.id));
            expect_refused(&mut socket, "session_join_failed", 1008);
        }
        pair.source = open(&relay);
        assert_eq!(create(&mut pair.source, &pair.source_device.source_again(&pair.id)).id, pair.id);
        pair.expect_connected();
        pair.check();
    });
}

#[test]
fn a_slot_whose_socket_is_open_is_never_taken() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        for message in [pair.target_device.target(&pair.id), pair.source_device.source_again(&pair.id)] {
            let mut socket = open(&relay);
            socket.tell(&message);
            expect_refused(&mut socket, "session_join_failed", 1008);
        }
        pair.check();
    });
}

#[test]
fn silent_sockets_are_pinged() {
    every_cell(|cell| {
        // Each 25 s by default, which is too long for a test; a busy machine needs some time to answer.
        let relay = cell.setup().flag("--pair-ping-interval", "2s").start();
        let mut pair = Pair::<Raw>::new(&relay);
        while pair.source.pings < 2 || pair.target.pings < 2 {
            for end in [&mut pair.source, &mut pair.target] {
                assert_eq!(end.hear(Duration::from_millis(20)), Heard::Nothing);
            }
        }
        // One that does not answer is gone in time.
        pair.target.answers_pings = false;
        let deadline = Instant::now() + PATIENCE;
        let news = loop {
            assert!(Instant::now() < deadline, "the connection lives on");
            pair.target.hear(Duration::from_millis(20));
            // This one goes on answering.
            if let Heard::Text(news) = pair.source.hear(Duration::from_millis(20)) {
                break news;
            }
        };
        assert!(news.contains("peer-disconnected"), "{news}");
        pair.target.expect_lost();
        check_open(&mut pair.source);
    });
}

#[test]
fn a_socket_that_asks_for_nothing_is_closed_in_time() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--role-timeout", "4s").start();
        let mut source = open(&relay);
        create(&mut source, &Device::new("source").source());
        let mut idle = open(&relay);
        check_open(&mut idle);
        assert_eq!(idle.expect_closed(4000), "no role in time");
        // One that waits for its peer has asked, and came first.
        check_open(&mut source);
    });
}

#[test]
fn a_session_that_nobody_joins_expires() {
    every_cell(|cell| {
        let relay = cell.setup().env("SESSION_TTL_SECONDS", 1).start();
        let started = Instant::now();
        let mut source = open(&relay);
        let created = create(&mut source, &Device::new("source").source());
        expect_expired(&mut source);
        assert_within("expired after", started.elapsed(), Duration::from_millis(900)..=PATIENCE);
        assert_within("expired at", unix_ms(), created.expires_at - 100..=created.expires_at + 30_000);
        let mut target = open(&relay);
        target.tell(&Device::new("target").target(&created.id));
        expect_refused(&mut target, "session_join_failed", 1008);
    });
}

#[test]
fn a_paired_session_without_relays_expires_for_both() {
    every_cell(|cell| {
        let relay = cell.setup().env("SESSION_TTL_SECONDS", 5).start();
        let started = Instant::now();
        let mut pair = Pair::<Peer>::new(&relay);
        expect_expired(&mut pair.source);
        expect_expired(&mut pair.target);
        assert_within("expired after", started.elapsed(), Duration::from_millis(4800)..=PATIENCE);
        for message in [pair.target_device.target(&pair.id), pair.source_device.source_again(&pair.id)] {
            let mut socket = open(&relay);
            socket.tell(&message);
            expect_refused(&mut socket, "session_join_failed", 1008);
        }
    });
}

#[test]
fn a_session_whose_ends_are_gone_is_forgotten_at_its_expiry() {
    every_cell(|cell| {
        let relay = cell.setup().env("SESSION_TTL_SECONDS", 5).flag("--dialects", "pair").start();
        drop(Pair::<Peer>::new(&relay));
        drop(create(&mut open(&relay), &Device::new("source").source()));
        support::eventually("no session is left", || relay.get("/health").json()["activeSessions"] == 0);
    });
}

#[test]
fn relays_put_the_expiry_off() {
    every_cell(|cell| {
        let relay = cell.setup().env("SESSION_TTL_SECONDS", 5).start();
        let mut outlived = false;
        // A machine so busy that this thread slept for the whole time proves nothing: then once more.
        for _ in 0..5 {
            let mut pair = Pair::<Peer>::new(&relay);
            let (started, mut last) = (Instant::now(), Instant::now());
            while started.elapsed() < Duration::from_secs(12) && last.elapsed() < Duration::from_secs(2) {
                last = Instant::now();
                pair.check();
                thread::sleep(Duration::from_millis(100));
            }
            if started.elapsed() >= Duration::from_secs(12) {
                // From here on nobody relays.
                expect_expired(&mut pair.source);
                expect_expired(&mut pair.target);
                outlived = true;
                break;
            }
        }
        assert!(outlived, "the machine never kept up");
    });
}

#[test]
fn pings_and_refused_messages_do_not_put_the_expiry_off() {
    every_cell(|cell| {
        let relay = cell.setup().env("SESSION_TTL_SECONDS", 5).start();
        let mut pair = Pair::<Peer>::new(&relay);
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the session lives on");
            pair.source.tell(&json!({ "type": "ping" }));
            pair.target.say(&relay_message("another session", "x"));
            thread::sleep(Duration::from_millis(100));
            let ended = |heard: Heard, answer: &str| match heard {
                Heard::Text(text) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    assert_eq!(message["type"], answer, "{text}");
                    false
                }
                Heard::Closed(1000, reason) => {
                    assert_eq!(reason, "session expired");
                    true
                }
                other => panic!("heard {other:?}"),
            };
            if ended(pair.source.hear(PATIENCE), "pong") || ended(pair.target.hear(PATIENCE), "error") {
                break;
            }
        }
    });
}

#[test]
fn a_target_that_never_was_one_may_still_become_one() {
    every_cell(|cell| {
        let relay = cell.start();
        // A socket that asked for something else before: without a session it has no role yet.
        let mut target = Peer::open_at(&relay, PAIR_PATH);
        check_open(&mut target);
        target.say(&relay_message("no session", "x"));
        expect_refusal(&mut target, "session_mismatch");
        let (source_device, target_device) = (Device::new("source"), Device::new("target"));
        let mut source = open(&relay);
        let id = create(&mut source, &source_device.source()).id;
        target.tell(&target_device.target(&id));
        assert_eq!(source.expect("peer-connected"), target_device.connected());
        assert_eq!(target.expect("peer-connected"), source_device.connected());
    });
}

#[test]
fn a_source_that_asks_again_leaves_its_session_for_a_new_one() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        let device = Device::new("again");
        let second = create(&mut pair.source, &device.source()).id;
        assert_ne!(second, pair.id);
        expect_disconnected(&mut pair.target);
        pair.source.say(&relay_message(&pair.id, "to the first"));
        expect_refusal(&mut pair.source, "session_mismatch");
        let target_device = Device::new("target");
        let mut target = open(&relay);
        target.tell(&target_device.target(&second));
        assert_eq!(pair.source.expect("peer-connected"), target_device.connected());
        assert_eq!(target.expect("peer-connected"), device.connected());
        // A socket that is in a session joins no other.
        let mut elsewhere = open(&relay);
        let id = create(&mut elsewhere, &Device::new("elsewhere").source()).id;
        target.tell(&target_device.target(&id));
        expect_refused(&mut target, "session_join_failed", 1008);
        expect_disconnected(&mut pair.source);
    });
}
