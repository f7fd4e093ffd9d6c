//! link.md sections 3 and 5: from `resolve` to `relaying`.

use serde_json::json;

use super::{net::*, people::*};
use crate::{dialect::Action, limits::DIAL_BACKS_MAX, reason::Reason};

#[test]
fn a_resolve_of_an_unknown_address_is_an_error() {
    on_one_and_four_shards(|net| {
        for address in [Identity::new(1).address, "nobody".into(), "\u{1f600}".repeat(64)] {
            let client = net.open();
            net.say(client, &json!({"type": "resolve", "address": address}));
            assert_eq!(net.heard(client), [error("unknown_address")]);
            assert!(net.is_open(client) && !net.is_settled(client));
        }
    });
}

#[test]
fn a_resolve_that_finds_tells_the_client_a_link_and_the_host_that_it_arrived() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let host = registered(net, &identity);
        let client = net.open();
        net.say(client, &identity.resolve());
        let found = net.heard(client);
        let link = found[0]["linkId"].clone();
        assert_eq!(found, [json!({"type": "found", "linkId": link})]);
        assert_eq!(
            net.heard(host),
            [json!({"type": "arrived", "linkId": link, "address": identity.address})]
        );
        assert!(net.is_settled(client));
        assert!(!net.is_empty(net.shard_of(client))[2]);
        assert_eq!(link.as_str().map(str::len), Some(36));
    });
}

#[test]
fn each_resolve_makes_a_link_of_its_own() {
    on_one_and_four_shards(|net| {
        let first = introduced(net, 1);
        let (_, second) = resolved(net, &first.identity, first.host);
        assert_ne!(first.link, second);
    });
}

#[test]
fn a_relay_asks_the_host_for_the_dial_back() {
    on_one_and_four_shards(|net| {
        let scene = introduced(net, 1);
        net.say(scene.client, &relay(&scene.link));
        assert_eq!(net.heard(scene.host), [relay(&scene.link)]);
        assert_eq!(net.heard(scene.client), Vec::<serde_json::Value>::new());
        assert!(net.is_open(scene.client));
    });
}

#[test]
fn a_relay_of_anothers_link_is_4000() {
    on_one_and_four_shards(|net| {
        let scene = introduced(net, 1);
        let (other, _) = resolved(net, &scene.identity, scene.host);
        net.say(other, &relay(&scene.link));
        assert_eq!(net.closed(other), Some(Reason::BadRequest));
        let (third, link) = resolved(net, &scene.identity, scene.host);
        net.say(third, &relay(&link.to_uppercase()));
        assert_eq!(net.closed(third), Some(Reason::BadRequest));
        // The link that was named is none the worse.
        net.say(scene.client, &relay(&scene.link));
        assert_eq!(net.heard(scene.host), [relay(&scene.link)]);
    });
}

#[test]
fn an_accept_joins_both_ends_and_tells_both() {
    on_one_and_four_shards(|net| {
        let scene = pending(net, 1);
        let end = net.open();
        net.say(end, &accept(&scene.link));
        assert_eq!(net.heard(scene.client), [relaying(&scene.link)]);
        assert_eq!(net.heard(end), [relaying(&scene.link)]);
        assert!(net.is_settled(end));
        assert_eq!(net.spliced_to(scene.client), Some(end));
        assert_eq!(net.spliced_to(end), Some(scene.client));
        assert_eq!(net.shard_of(end), net.shard_of(scene.client), "both ends on one shard");
        assert!(net.ledger(end).is_some());
    });
}

#[test]
fn the_client_hears_relaying_before_the_host_does() {
    let mut net = Net::new(1, config());
    let scene = pending(&mut net, 1);
    let end = net.open();
    let actions = net.actions_of(end, &accept(&scene.link));
    let sends: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Send { conn, .. } => Some(*conn),
            _ => None,
        })
        .collect();
    assert_eq!(sends, [net.conn(scene.client), net.conn(end)]);
    let splice = actions.iter().position(|action| matches!(action, Action::Splice { .. }));
    let last_send = actions.iter().rposition(|action| matches!(action, Action::Send { .. }));
    assert!(splice > last_send, "joined before both were told");
}

#[test]
fn an_accept_of_a_link_that_is_not_pending_is_an_error() {
    on_one_and_four_shards(|net| {
        let scene = introduced(net, 1);
        let (relaying, _end) = joined(net, 2);
        let (over, over_end) = joined(net, 3);
        net.close(over_end, Reason::PeerClosed);
        for link in [&scene.link, &relaying.link, &over.link, "x", "11111111-1111-4111-8111-111111111111"] {
            let sock = net.open();
            net.say(sock, &accept(link));
            assert_eq!(net.heard(sock), [error("unknown_link")], "{link}");
            assert!(net.is_open(sock) && !net.is_settled(sock));
        }
        let upper = pending(net, 4).link.to_uppercase();
        let sock = net.open();
        net.say(sock, &accept(&upper));
        assert_eq!(net.heard(sock), [error("unknown_link")]);
    });
}

#[test]
fn a_host_may_have_64_dial_backs_to_make_and_no_more() {
    on_one_and_four_shards(|net| {
        let identities: Vec<Identity> = (0..4).map(Identity::new).collect();
        let host = registered(net, &identities[0]);
        for identity in &identities[1..] {
            net.say(host, &identity.register(net));
        }
        net.heard(host);
        let mut waiting = Vec::new();
        for number in 0..DIAL_BACKS_MAX as usize {
            // Counted over all addresses, on whatever shard they are at home.
            let (client, link) = resolved(net, &identities[number % identities.len()], host);
            net.say(client, &relay(&link));
            assert_eq!(net.heard(host), [relay(&link)]);
            waiting.push((client, link));
        }
        let refused = |net: &mut Net| {
            let (client, link) = resolved(net, &identities[1], host);
            net.say(client, &relay(&link));
            assert_eq!(net.heard(host), Vec::<serde_json::Value>::new());
            assert_eq!(net.closed(client), Some(Reason::TooManyDialBacks));
        };
        refused(net);
        assert!(net.is_open(host) && waiting.iter().all(|(client, _)| net.is_open(*client)));
        // A dial-back that is made makes room, and so does a client that gives up; each for one.
        let end = net.open();
        net.say(end, &accept(&waiting[0].1));
        net.close(waiting[1].0, Reason::PeerReset);
        for _ in 0..2 {
            let (client, link) = resolved(net, &identities[2], host);
            net.say(client, &relay(&link));
            assert_eq!(net.heard(host), [relay(&link)]);
        }
        refused(net);
        net.assert_quiet();
    });
}
