//! link.md sections 1 and 2: what is a control message, and who may send which.

use serde_json::{Value, json};

use super::{net::*, people::*};
use crate::{
    admission::{AllowList, SharedPolicy},
    reason::Reason,
};

#[test]
fn what_is_no_control_message_is_4000() {
    on_one_and_four_shards(|net| {
        for text in [
            "",
            " ",
            "nonsense",
            "null",
            "1",
            "\"resolve\"",
            "[]",
            "[{\"type\":\"getUsage\"}]",
            "{}",
            "{\"type\":1}",
            "{\"type\":null}",
            "{\"type\":\"unheard of\"}",
            "{\"type\":\"Resolve\"}",
            "{\"type\":\"resolve\"",
            "{\"type\":\"resolve\"}}",
            "{'type':'resolve'}",
            "{\"type\":\"resolve\",}",
            "\u{feff}{\"type\":\"resolve\",\"address\":\"a\"}",
        ] {
            let sock = net.open();
            net.say_text(sock, text);
            assert_eq!(net.closed(sock), Some(Reason::BadRequest), "{text}");
            assert_eq!(net.heard(sock), Vec::<Value>::new());
        }
    });
}

#[test]
fn text_that_is_not_utf_8_is_1007() {
    on_one_and_four_shards(|net| {
        let sock = net.open();
        net.say_bytes_as_text(sock, b"{\"type\":\"\xff\"}");
        assert_eq!(net.closed(sock), Some(Reason::BadUtf8));
    });
}

#[test]
fn binary_before_relaying_is_4000_in_every_role() {
    on_one_and_four_shards(|net| {
        let scene = introduced(net, 1);
        let waiting = pending(net, 2);
        let fresh = net.open();
        for sock in [fresh, scene.client, waiting.client, scene.host] {
            net.say_binary(sock, b"{\"type\":\"getUsage\"}");
            assert_eq!(net.closed(sock), Some(Reason::BadRequest));
        }
        // A fault is its own: the host of the second link is told nothing.
        assert!(net.is_open(waiting.host));
    });
}

#[test]
fn addresses_and_link_ids_have_1_to_128_characters() {
    on_one_and_four_shards(|net| {
        let names = |length: usize| ["x".repeat(length), "\u{e9}".repeat(length)];
        for (length, fits) in [(0, false), (1, true), (128, true), (129, false)] {
            for name in names(length) {
                let resolve = json!({"type": "resolve", "address": name});
                for (message, unknown) in [(resolve, "unknown_address"), (accept(&name), "unknown_link")] {
                    let sock = net.open();
                    net.say(sock, &message);
                    assert_eq!(net.closed(sock), (!fits).then_some(Reason::BadRequest), "{message}");
                    assert_eq!(net.heard(sock), if fits { vec![error(unknown)] } else { vec![] });
                }
            }
        }
        for message in [
            json!({"type": "resolve"}),
            json!({"type": "resolve", "address": 5}),
            json!({"type": "resolve", "address": null}),
            json!({"type": "resolve", "address": ["x"]}),
            json!({"type": "resolve", "linkId": "x"}),
            json!({"type": "accept", "address": "x"}),
            json!({"type": "accept", "linkId": {}}),
            json!({"type": "register", "auth": {}}),
        ] {
            let sock = net.open();
            net.say(sock, &message);
            assert_eq!(net.closed(sock), Some(Reason::BadRequest), "{message}");
        }
    });
}

#[test]
fn unknown_extra_fields_are_ignored() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let mut message = identity.register(net);
        message["auth"]["extra"] = json!({"alg": "none"});
        message["linkId"] = json!(17);
        message["more"] = json!([1, {"type": "accept"}]);
        let host = net.open();
        net.say(host, &message);
        assert_eq!(net.heard(host), [identity.registered()]);
    });
}

/// The messages that a role does not allow, each on a connection of its own.
fn refuses(net: &mut Net, make: impl Fn(&mut Net, u64) -> (Sock, String), allowed: &[&str]) {
    let mut number = 100;
    for kind in ["register", "resolve", "relay", "accept", "getUsage"] {
        if allowed.contains(&kind) {
            continue;
        }
        number += 1;
        let (sock, link) = make(net, number);
        let mut message = json!({"type": kind, "linkId": link, "address": Identity::new(number).address});
        if kind == "register" {
            message["auth"] = Identity::new(number).auth(net.now.unix_ms as i64 + 1, HOST);
        }
        net.say(sock, &message);
        assert_eq!(net.closed(sock), Some(Reason::BadRequest), "{kind}");
    }
}

#[test]
fn a_new_socket_may_register_resolve_and_accept_only() {
    on_one_and_four_shards(|net| {
        refuses(net, |net, _| (net.open(), "x".into()), &["register", "resolve", "accept"]);
    });
}

#[test]
fn a_control_socket_may_register_and_get_usage_only() {
    on_one_and_four_shards(|net| {
        let control = |net: &mut Net, number| {
            let scene = pending(net, number);
            (scene.host, scene.link)
        };
        refuses(net, control, &["register", "getUsage"]);
    });
}

#[test]
fn a_client_may_relay_only() {
    on_one_and_four_shards(|net| {
        let client = |net: &mut Net, number| {
            let scene = introduced(net, number);
            (scene.client, scene.link)
        };
        refuses(net, client, &["relay"]);
        // The second relay of a link comes when it is not introduced any more.
        let scene = pending(net, 1);
        net.say(scene.client, &relay(&scene.link));
        assert_eq!(net.closed(scene.client), Some(Reason::BadRequest));
    });
}

#[test]
fn the_client_of_a_link_cannot_accept_it() {
    on_one_and_four_shards(|net| {
        let scene = pending(net, 1);
        net.say(scene.client, &accept(&scene.link));
        assert_eq!(net.closed(scene.client), Some(Reason::BadRequest));
        assert!(net.is_open(scene.host));
    });
}

#[test]
fn a_socket_that_found_nothing_stays_new_and_may_try_again() {
    on_one_and_four_shards(|net| {
        let scene = pending(net, 1);
        let other = Identity::new(2);
        let sock = net.open();
        for _ in 0..2 {
            net.say(sock, &json!({"type": "resolve", "address": "nobody"}));
            net.say(sock, &accept("11111111-1111-4111-8111-111111111111"));
        }
        assert_eq!(
            net.heard(sock),
            [
                error("unknown_address"),
                error("unknown_link"),
                error("unknown_address"),
                error("unknown_link")
            ]
        );
        net.say(sock, &other.resolve());
        assert_eq!(net.heard(sock), [error("unknown_address")]);
        assert!(!net.is_settled(sock));
        net.say(sock, &accept(&scene.link));
        assert_eq!(net.heard(sock), [relaying(&scene.link)]);
    });
}

#[test]
fn requests_of_one_ip_over_its_budget_are_4002_on_whatever_shard() {
    for shards in [1, 4] {
        let mut net = Net::with_policy(shards, config(), SharedPolicy::new(3, AllowList::default()));
        let identity = Identity::new(1);
        let host = registered(&mut net, &identity);
        net.say(host, &identity.register_at(net.now.unix_ms as i64 + 1));
        let client = net.open();
        net.say(client, &identity.resolve());
        assert_eq!(net.heard(client)[0]["type"], "found");
        // Accept, relay and getUsage are not charged, and another IP has its own budget.
        net.say(host, &json!({"type": "getUsage"}));
        net.say(client, &json!({"type": "relay", "linkId": "not it"}));
        assert_eq!(net.closed(client), Some(Reason::BadRequest));
        let elsewhere = net.open_as(0, "192.0.2.2", HOST);
        net.say(elsewhere, &identity.resolve());
        assert_eq!(net.heard(elsewhere)[0]["type"], "found");
        let fourth = net.open();
        net.say(fourth, &identity.resolve());
        assert_eq!(net.closed(fourth), Some(Reason::RateLimited));
        net.say(host, &identity.register_at(net.now.unix_ms as i64 + 2));
        assert_eq!(net.closed(host), Some(Reason::RateLimited));
        net.advance(std::time::Duration::from_secs(60));
        let later = net.open();
        net.say(later, &identity.resolve());
        assert_eq!(net.heard(later), [error("unknown_address")]);
    }
}

#[test]
fn accepts_of_unknown_links_have_a_budget_of_their_own() {
    for shards in [1, 4] {
        let mut net = Net::with_policy(shards, config(), SharedPolicy::new(5, AllowList::default()));
        let scene = pending(&mut net, 1);
        let sock = net.open();
        for _ in 0..5 {
            net.say(sock, &accept("11111111-1111-4111-8111-111111111111"));
        }
        assert_eq!(net.heard(sock), vec![error("unknown_link"); 5]);
        // One that is known is not charged.
        let end = net.open();
        net.say(end, &accept(&scene.link));
        assert_eq!(net.heard(end), [relaying(&scene.link)]);
        net.say(sock, &accept("anything"));
        assert_eq!(net.closed(sock), Some(Reason::RateLimited));
    }
}
