//! Section 14: session events and viewer presence.

use serde_json::json;

use super::{
    super::Metric,
    net::{Net, Who, presence, subscribe, unsubscribe},
};
use crate::{id::ConnId, reason::Reason};

const ONE: &str = "agent-session:1";
const TWO: &str = "agent-session:2";

fn subscribed(channel: &str, after_sequence: &str) -> String {
    let head = format!(r#"{{"type":"viewport.session_events.subscribed/v1","channel":"{channel}","#);
    let tail = r#""authoritativeSource":"session_events","websocketRequiredForBackfill":false}"#;
    format!(r#"{head}"afterSequence":{after_sequence},{tail}"#)
}

/// A viewer who has subscribed to these channels, and may.
fn viewer(net: &mut Net, client_id: &str, channels: &[&str]) -> ConnId {
    let conn = net.join(Who::viewer(client_id, channels));
    for channel in channels {
        net.say(conn, &subscribe(channel));
        assert_eq!(net.heard(conn), [subscribed(channel, "0")]);
    }
    conn
}

#[test]
fn subscribing_is_acknowledged_or_denied() {
    let mut net = Net::new();
    let conn = net.join(Who::viewer("c1", &[" agent-session:1\u{feff}", TWO, "other:3"]));
    for (said, heard) in
        [("0", "0"), ("3.0", "3"), ("3e0", "3"), ("1e20", "100000000000000000000"), ("-0", "0")]
    {
        let said = subscribe(ONE).to_string().replace('}', &format!(r#","afterSequence":{said}}}"#));
        net.say_bytes(conn, said.as_bytes());
        assert_eq!(net.heard(conn), [subscribed(ONE, heard)]);
    }
    net.say(conn, &subscribe("agent-session:2 \t"));
    assert_eq!(net.heard(conn), [subscribed(TWO, "0")]);
    net.say(conn, &unsubscribe("agent-session:1 "));
    let left = r#"{"type":"viewport.session_events.unsubscribed/v1","channel":"agent-session:1"}"#;
    assert_eq!(net.heard(conn), [left]);
    net.say(conn, &unsubscribe(ONE));
    assert_eq!(net.heard(conn), [left], "also without being in it");
    assert_eq!(net.count(Metric::SessionEventSubscribed), 6);
    assert_eq!(net.count(Metric::SessionEventUnsubscribed), 2);
    let denied = concat!(
        r#"{"type":"viewport.session_events.subscribe_denied/v1""#,
        r#","channel":"agent-session:\"3\ud800","reason":"CHANNEL_NOT_AUTHORIZED""#,
        r#","workspaceId":"w1"}"#,
    );
    for said in [subscribe("agent-session:3 "), unsubscribe("agent-session:3")] {
        net.say_bytes(conn, said.to_string().replace('3', r#"\"3\uD800"#).as_bytes());
        assert_eq!(net.heard(conn), [denied]);
    }
    assert_eq!(net.count(Metric::SessionEventSubscribeRejected), 2);
    assert_eq!(net.closed(conn), None);
    assert!(net.logged().is_empty());
    net.assert_nothing_left();
}

#[test]
fn presence_goes_to_the_others_in_the_channel() {
    let mut net = Net::new();
    let (a, b) = (viewer(&mut net, "a", &[ONE, TWO]), viewer(&mut net, "b", &[ONE]));
    let elsewhere = viewer(&mut net, "c", &[TWO]);
    let apart = net.join(Who::viewer("d", &[ONE]).target("rt2"));
    net.say(apart, &subscribe(ONE));
    net.heard(apart);
    // The sender need not be in it.
    let outside = net.join(Who::viewer("e", &[ONE]));
    let said = presence("agent-session:1  ");
    net.say(outside, &said);
    assert_eq!(net.heard(a), [said.to_string()]);
    assert_eq!(net.heard(b), [said.to_string()]);
    net.assert_silence();
    assert_eq!(net.count(Metric::SessionViewerPresenceFanned), 2);
    net.pass(b, &said, a);
    net.pass(
        elsewhere,
        &json!({
            "type": "viewport.session_viewer_presence/v1", "channel": TWO, "action": "heartbeat",
            "userId": "u".repeat(128), "displayName": "", "sentAt": "",
        }),
        a,
    );
    assert_eq!(net.count(Metric::SessionViewerPresenceFanned), 4);
    // Twice in a channel is once, and who has left hears nothing.
    net.say(b, &subscribe(ONE));
    net.heard(b);
    net.say(a, &unsubscribe(ONE));
    net.heard(a);
    net.pass(outside, &said, b);
    net.close(b);
    net.lose(outside, &said);
    net.lose(apart, &said);
    assert_eq!(net.count(Metric::SessionViewerPresenceNoPeers), 2);
    net.assert_nothing_left();
}

#[test]
fn presence_in_a_foreign_channel_is_denied() {
    let mut net = Net::new();
    let conn = viewer(&mut net, "a", &[ONE]);
    net.say(conn, &presence(" agent-session:1"));
    let invalid = net.heard(conn);
    assert!(invalid[0].contains("INVALID_FRAME"), "{invalid:?}: a channel is compared as it begins");
    net.say(conn, &presence("agent-session:2 "));
    let denied = concat!(
        r#"{"type":"viewport.session_viewer_presence_denied/v1","channel":"agent-session:2""#,
        r#","reason":"CHANNEL_NOT_AUTHORIZED","workspaceId":"w1"}"#,
    );
    assert_eq!(net.heard(conn), [denied]);
    assert_eq!(net.count(Metric::SessionViewerPresenceRejected), 1);
    assert_eq!(net.closed(conn), None);
    net.assert_nothing_left();
}

#[test]
fn presence_spends_what_envelopes_spend() {
    let mut net = Net::with(|config| {
        config.runtime_per_client.per_minute = 2;
        config.runtime_per_workspace.per_minute = 3;
    });
    let said = presence(ONE);
    let conn = viewer(&mut net, "a", &[ONE]);
    net.lose(conn, &said);
    net.lose(conn, &said);
    net.say(conn, &said);
    assert_eq!(net.closed(conn), Some(Reason::PresenceRateLimited));
    let other = viewer(&mut net, "b", &[ONE]);
    net.lose(other, &said);
    net.say(other, &said);
    assert_eq!(net.closed(other), Some(Reason::PresenceRateLimited), "the workspace's");
    assert_eq!(net.count(Metric::SessionViewerPresenceRateLimited), 2);
    let denied = viewer(&mut net, "c", &[TWO]);
    net.say(denied, &said);
    assert_eq!(net.closed(denied), None, "a channel is judged before the limit");
    net.heard(denied);
    net.assert_nothing_left();
}
