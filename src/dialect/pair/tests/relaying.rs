//! `relay` messages.

use std::time::Duration;

use serde_json::json;

use super::net::{config, on_one_and_four_shards, relay};
use crate::{dialect::pair::PairConfig, limits::DIRECTION_BYTES_HIGH};

#[test]
fn a_queue_has_room_for_both_sorts_of_messages_and_the_one_that_goes_over() {
    let high = DIRECTION_BYTES_HIGH;
    for longest in [1, high, 1 << 20] {
        let config = PairConfig { message_bytes_max: longest, ..config() };
        let manners = config.manners(Duration::from_secs(30), Duration::from_secs(30));
        assert_eq!(manners.queue_bytes_max, high + high + longest);
    }
}

#[test]
fn payloads_go_to_the_other_end_unchanged() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        net.say(source, &relay(&session, "aGVsbG8="));
        net.say(target, &relay(&session, ""));
        assert_eq!(net.heard(target), [json!({ "type": "relay", "from": "source", "payload": "aGVsbG8=" })]);
        assert_eq!(net.heard(source), [json!({ "type": "relay", "from": "target", "payload": "" })]);
        assert_eq!(net.sum(|counters| counters.relayed_messages), 2);
        assert_eq!(net.sum(|counters| counters.relayed_bytes), 12);
    });
}

#[test]
fn a_payload_is_found_wherever_it_stands_and_keeps_its_escapes() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        for (said, payload) in [
            (r#"{"payload":"x","sessionId":"SESSION","type":"relay"}"#, r#""x""#),
            (
                "\n{ \"type\" : \"relay\" ,\t\"payload\" : \"a b\" , \"sessionId\" : \"SESSION\" }\r\n",
                r#""a b""#,
            ),
            (
                r#"{"type":"relay","sessionId":"SESSION","payload":"\ud800\u0000\/\\"}"#,
                r#""\ud800\u0000\/\\""#,
            ),
            // The last of several members of one name counts.
            (
                r#"{"payload":1,"type":"ping","sessionId":"","payload":"y","type":"relay","sessionId":"SESSION"}"#,
                r#""y""#,
            ),
            (r#"{"\u0074ype":"re\u006cay","session\u0049d":"SESSION","p\u0061yload":"z"}"#, r#""z""#),
        ] {
            net.say_bytes(source, said.replace("SESSION", &session).as_bytes());
            let want = format!(r#"{{"type":"relay","from":"source","payload":{payload}}}"#);
            assert_eq!(net.heard_bytes(target), [want.as_bytes()], "{said}");
        }
        // The id may be spelled with escapes too.
        let spelled: String = session.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        net.say_bytes(source, relay("SESSION", "p").to_string().replace("SESSION", &spelled).as_bytes());
        assert_eq!(net.heard(target).len(), 1);
    });
}

#[test]
fn what_surrounds_a_payload_may_be_deep_and_is_not_passed_on() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        let said = format!(r#"{{"type":"relay","extra":{deep},"sessionId":"{session}","payload":"p"}}"#);
        net.say_bytes(source, said.as_bytes());
        assert_eq!(net.heard(target), [json!({ "type": "relay", "from": "source", "payload": "p" })]);
    });
}

#[test]
fn only_the_ends_of_a_session_relay_in_it() {
    on_one_and_four_shards(|net| {
        let (source, target, session) = net.pair();
        let stranger = net.open();
        let (other, _) = net.source("c");
        for sock in [stranger, other] {
            for id in [&*session, "no id", "", &session.to_uppercase()] {
                net.say(sock, &relay(id, "p"));
                assert_eq!(net.error(sock), ("session_mismatch".into(), None));
            }
            net.say(sock, &json!({ "type": "relay", "sessionId": 5, "payload": "p" }));
            assert_eq!(net.error(sock), ("session_mismatch".into(), None));
            net.say(sock, &json!({ "type": "relay", "payload": "p" }));
            assert_eq!(net.error(sock), ("session_mismatch".into(), None));
        }
        assert!(net.heard(source).is_empty() && net.heard(target).is_empty());
    });
}

#[test]
fn nobody_to_relay_to_is_told_before_the_join_and_after_the_other_end_has_left() {
    on_one_and_four_shards(|net| {
        let (source, session) = net.source("a");
        net.say(source, &relay(&session, "p"));
        assert_eq!(net.error(source), ("peer_not_connected".into(), None));
        let target = net.join("b", &session);
        net.heard(source);
        net.close(target);
        let gone = json!({ "type": "peer-disconnected", "reason": "peer closed connection" });
        assert_eq!(net.heard(source), [gone]);
        net.say(source, &relay(&session, "p"));
        assert_eq!(net.error(source), ("peer_not_connected".into(), None));
    });
}
