//! Session events and viewer presence.
//!
//! | workspace.md | shown by |
//! |---|---|
//! | 10, 14: subscribe and unsubscribe | the `subscri` tests |
//! | 14: presence | the `presence` tests |

mod support;

use serde_json::{Value, json};
use support::{
    Peer, Relay,
    end::End,
    every_cell,
    platform::Platform,
    workspace::{
        Caller, TARGET, expect_policy, passes, say, setup, start, status, until_clients, until_counted,
    },
};

const ONE: &str = "agent-session:1";
const TWO: &str = "agent-session:2";

fn viewer(relay: &Relay, id: &str) -> Peer {
    Caller::viewer("w1", TARGET, id, &[ONE, TWO]).call(relay)
}

fn subscribed(viewer: &mut Peer, channel: &str) {
    viewer.tell(&say::subscribe(channel));
    viewer.expect("viewport.session_events.subscribed/v1");
}

#[test]
fn subscribing_is_acknowledged_and_echoes_where_to_go_on() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let caller = Caller::viewer("w1", TARGET, "c1", &[ONE])
            .claim("sessionChannels", json!([format!("{TWO} "), ONE]));
        let mut viewer = caller.call(&relay);
        viewer.tell(&say::subscribe(ONE));
        viewer.expect_text(&status::subscribed(ONE, 0));
        let mut after = say::subscribe("agent-session:2 \u{feff}");
        after["afterSequence"] = json!(41);
        viewer.tell(&after);
        viewer.expect_text(&status::subscribed(TWO, 41));
        viewer.tell(&say::unsubscribe("agent-session:2  "));
        viewer
            .expect_text(r#"{"type":"viewport.session_events.unsubscribed/v1","channel":"agent-session:2"}"#);
        // Nobody has to be subscribed for that.
        viewer.tell(&say::unsubscribe(TWO));
        viewer.expect("viewport.session_events.unsubscribed/v1");
        until_counted(&relay, "relay_session_event_subscribed_total", 2);
        until_counted(&relay, "relay_session_event_unsubscribed_total", 2);
    });
}

#[test]
fn subscribing_to_what_is_not_claimed_is_denied() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut some = Caller::viewer("w1", TARGET, "c1", &[ONE]).call(&relay);
        let mut none = Caller::viewer("w1", TARGET, "c2", &[]).without_claim("sessionChannels").call(&relay);
        let denied = |peer: &mut Peer, message: &Value| {
            peer.tell(message);
            let channel = message["channel"].as_str().expect("a string");
            peer.expect_text(&status::subscribe_denied(channel, "w1"));
        };
        for message in
            [say::subscribe(TWO), say::unsubscribe("agent-session:11"), say::subscribe("agent-session:")]
        {
            denied(&mut some, &message);
        }
        denied(&mut none, &say::subscribe(ONE));
        until_counted(&relay, "relay_session_event_subscribe_rejected_total", 4);
        subscribed(&mut some, ONE);
    });
}

#[test]
fn presence_goes_to_the_other_subscribers_of_its_channel_as_it_is() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut sender = viewer(&relay, "c1");
        let mut first = viewer(&relay, "c2");
        let mut second = viewer(&relay, "c3");
        let mut elsewhere = Caller::viewer("w1", "rt2", "c4", &[ONE]).call(&relay);
        subscribed(&mut elsewhere, ONE);
        for peer in [&mut first, &mut second] {
            subscribed(peer, ONE);
            subscribed(peer, ONE);
        }
        // The sender need not be subscribed.
        let text = r#" { "userId":"u\u00e4","action":"joined", "channel":"agent-session:1 ","x":1,
            "type":"viewport.session_viewer_presence/v1","displayName":"","sentAt":"now" }"#;
        sender.say(text);
        first.expect_text(text);
        second.expect_text(text);
        until_counted(&relay, "relay_session_viewer_presence_fanned_total", 2);
        // And when it is, its own presence does not come back to it.
        subscribed(&mut sender, ONE);
        let message = say::presence(ONE, "u1");
        passes(&mut sender, &message, &mut first);
        second.expect_text(&message.to_string());
        passes(&mut first, &say::presence(ONE, "u2"), &mut sender);
        second.expect_text(&say::presence(ONE, "u2").to_string());
        // Another channel, another target: nobody.
        sender.tell(&say::presence(TWO, "u1"));
        elsewhere.tell(&say::presence(ONE, "u4"));
        until_counted(&relay, "relay_session_viewer_presence_no_peers_total", 2);
        // One that unsubscribed or left gets none any more.
        first.tell(&say::unsubscribe(ONE));
        first.expect("viewport.session_events.unsubscribed/v1");
        passes(&mut sender, &say::presence(ONE, "u3"), &mut second);
        drop(second);
        until_clients(&relay, "w1", 3);
        sender.tell(&say::presence(ONE, "u3"));
        until_counted(&relay, "relay_session_viewer_presence_no_peers_total", 3);
        for peer in [&mut first, &mut sender, &mut elsewhere] {
            peer.tell(&say::unsubscribe(ONE));
            peer.expect("viewport.session_events.unsubscribed/v1");
        }
        until_counted(&relay, "relay_session_viewer_presence_fanned_total", 7);
    });
}

#[test]
fn presence_on_a_channel_that_is_not_claimed_is_denied() {
    every_cell(|cell| {
        let (_platform, relay) = start(cell);
        let mut sender = Caller::viewer("w1", TARGET, "c1", &[ONE]).call(&relay);
        let mut listener = viewer(&relay, "c2");
        subscribed(&mut listener, TWO);
        sender.tell(&say::presence(TWO, "u1"));
        sender.expect_text(&status::presence_denied(TWO, "w1"));
        until_counted(&relay, "relay_session_viewer_presence_rejected_total", 1);
        listener.tell(&say::unsubscribe(TWO));
        listener.expect_text(&status::unsubscribed(TWO));
    });
}

#[test]
fn presence_over_the_rate_closes_the_viewer() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_RUNTIME_RATE_PER_MINUTE", "2").start();
        let mut sender = viewer(&relay, "c1");
        let mut listener = viewer(&relay, "c2");
        subscribed(&mut listener, ONE);
        for n in 0..2 {
            passes(&mut sender, &say::presence(ONE, &format!("u{n}")), &mut listener);
        }
        // Subscribing is not limited.
        for _ in 0..10 {
            subscribed(&mut sender, ONE);
        }
        sender.tell(&say::presence(ONE, "u3"));
        expect_policy(&mut sender, "presence rate limit exceeded");
        until_counted(&relay, "relay_session_viewer_presence_rate_limited_total", 1);
    });
}

#[test]
fn a_presence_reaches_hundreds() {
    every_cell(|cell| {
        let platform = Platform::start();
        let relay = setup(cell, &platform).env("RELAY_MAX_CLIENTS_PER_WORKSPACE", "200").start();
        let mut viewers: Vec<Peer> = (0..150).map(|n| viewer(&relay, &format!("c{n}"))).collect();
        for viewer in &mut viewers {
            subscribed(viewer, ONE);
        }
        let mut presence = say::presence(ONE, "u1");
        presence["padding"] = "x".repeat(3000).into();
        let text = presence.to_string();
        for sender in [0, 75, 149] {
            viewers[sender].say(&text);
            for (at, viewer) in viewers.iter_mut().enumerate() {
                if at != sender {
                    viewer.expect_text(&text);
                }
            }
        }
        until_counted(&relay, "relay_session_viewer_presence_fanned_total", 3 * 149);
    });
}
