//! Where things happen on a relay of several shards (DESIGN, "Homing" and its rules).

use std::time::Duration;

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use serde_json::json;

use super::{
    super::{Letter, LinkId},
    net::*,
    people::*,
};
use crate::{
    admission::{AllowList, SharedPolicy},
    dialect::{self, Action},
    limits::{ANSWER_TIMEOUT, MOVES_MAX},
    reason::Reason,
};

#[test]
fn register_resolve_and_accept_go_to_the_home_of_their_key() {
    let mut net = Net::new(4, config());
    let identity = Identity::at_home_on(&net, 2, 0);
    let host = net.open_on(0);
    net.say(host, &identity.register(&net));
    let client = net.open_on(1);
    net.say(client, &identity.resolve());
    let link = net.heard(client)[0]["linkId"].as_str().expect("a link id").to_owned();
    net.say(client, &relay(&link));
    let end = net.open_on(3);
    net.say(end, &accept(&link));
    assert_eq!(net.heard(end), [relaying(&link)]);
    assert_eq!([host, client, end].map(|sock| net.shard_of(sock)), [2, 2, 2]);
    assert_eq!((net.moves, net.letters), (3, 0));
    assert_eq!(LinkId::parse(link.as_bytes()).map(|id| (id.relay(), id.shard())), Some((RELAY, 2)));
}

#[test]
fn what_is_at_home_already_does_not_move() {
    let mut net = Net::new(4, config());
    let identity = Identity::at_home_on(&net, 3, 0);
    let host = net.open_on(3);
    net.say(host, &identity.register(&net));
    let client = net.open_on(3);
    net.say(client, &identity.resolve());
    assert_eq!(net.heard(client)[0]["type"], "found");
    assert_eq!(net.moves, 0);
}

#[test]
fn a_message_that_moves_its_connection_is_charged_once() {
    let mut net = Net::with_policy(4, config(), SharedPolicy::new(1, AllowList::default()));
    let away = Identity::at_home_on(&net, 1, 0);
    let sock = net.open_on(0);
    net.say(sock, &away.resolve());
    assert_eq!((net.heard(sock), net.moves), (vec![error("unknown_address")], 1));
    // Over the budget it does not move.
    let second = net.open_on(0);
    net.say(second, &away.resolve());
    assert_eq!((net.closed(second), net.moves), (Some(Reason::RateLimited), 1));
}

#[test]
fn what_no_shard_can_hold_moves_nobody() {
    let mut net = Net::new(4, config());
    let mut random = ChaCha12Rng::seed_from_u64(5);
    let sock = net.open_on(0);
    net.say(sock, &json!({"type": "resolve", "address": "nobody"}));
    for id in [LinkId::make(&mut random, RELAY + 1, 1), LinkId::make(&mut random, RELAY, 4)] {
        net.say(sock, &accept(&id.to_string()));
    }
    let unknown = [error("unknown_address"), error("unknown_link"), error("unknown_link")];
    assert_eq!(net.heard(sock), unknown);
    let invalid = net.open_on(0);
    net.say(invalid, &json!({"type": "register", "address": "nobody", "auth": {}}));
    assert_eq!(net.closed(invalid), Some(Reason::RegisterAuth));
    assert_eq!(net.moves, 0);
}

#[test]
fn a_new_socket_may_move_again_but_not_for_ever() {
    let mut net = Net::new(4, config());
    let identities = [Identity::at_home_on(&net, 1, 0), Identity::at_home_on(&net, 2, 0)];
    let sock = net.open_on(0);
    for number in 0..usize::from(MOVES_MAX) {
        net.say(sock, &identities[number % 2].resolve());
        assert_eq!(net.heard(sock), [error("unknown_address")]);
    }
    assert_eq!(net.moves, usize::from(MOVES_MAX));
    // It may stay where it is.
    net.say(sock, &identities[1].resolve());
    assert_eq!(net.heard(sock), [error("unknown_address")]);
    net.say(sock, &identities[0].resolve());
    assert_eq!((net.closed(sock), net.moves), (Some(Reason::MovedTooOften), usize::from(MOVES_MAX)));
}

#[test]
fn a_register_that_moved_is_signed_for_the_host_it_was_upgraded_under() {
    let mut net = Net::new(4, config());
    let identity = Identity::at_home_on(&net, 1, 0);
    let auth = identity.auth(net.now.unix_ms as i64, "other.example");
    let sock = net.open_as(0, "192.0.2.1", "other.example");
    net.say(sock, &json!({"type": "register", "address": identity.address, "auth": auth}));
    assert_eq!(net.heard(sock), [identity.registered()]);
}

/// A control socket on shard 0 whose second address is at home on shard 1.
fn with_an_address_elsewhere(net: &mut Net) -> (Sock, Identity) {
    let (first, second) = (Identity::at_home_on(net, 0, 0), Identity::at_home_on(net, 1, 0));
    let host = registered(net, &first);
    net.say(host, &second.register(net));
    assert_eq!(net.heard(host), [second.registered()]);
    (host, second)
}

#[test]
fn a_control_socket_stays_and_works_with_an_address_elsewhere() {
    let mut net = Net::new(4, config());
    let (host, second) = with_an_address_elsewhere(&mut net);
    assert_eq!(net.shard_of(host), 0);
    let client = net.open_on(2);
    net.say(client, &second.resolve());
    let link = net.heard(client)[0]["linkId"].as_str().expect("a link id").to_owned();
    assert_eq!(net.heard(host), [json!({"type": "arrived", "linkId": link, "address": second.address})]);
    net.say(client, &relay(&link));
    assert_eq!(net.heard(host), [relay(&link)]);
    net.assert_quiet();
    let end = net.open_on(3);
    net.say(end, &accept(&link));
    assert_eq!(net.heard(client), [relaying(&link)]);
    assert_eq!([client, end].map(|sock| net.shard_of(sock)), [1, 1]);
    net.assert_quiet();
    net.close_all();
    net.assert_nothing_left();
}

#[test]
fn a_control_socket_is_held_until_the_home_has_answered() {
    let mut net = Net::new(4, config());
    let (first, second) = (Identity::at_home_on(&net, 0, 0), Identity::at_home_on(&net, 1, 0));
    let host = registered(&mut net, &first);
    net.letters_wait = true;
    net.say(host, &second.register(&net));
    net.say(host, &json!({"type": "getUsage"}));
    assert!(net.is_held(host));
    assert_eq!(net.heard(host), Vec::<serde_json::Value>::new());
    net.letters_wait = false;
    net.settle();
    // The answers come in the order of the questions.
    assert_eq!(net.heard(host), [second.registered(), json!({"type": "usage", "connections": []})]);
    assert!(!net.is_held(host));
    assert_eq!(net.timers_armed(), 0);
}

#[test]
fn a_control_socket_whose_home_does_not_answer_is_closed_and_its_grant_is_taken_back() {
    let mut net = Net::new(4, config());
    let (first, second) = (Identity::at_home_on(&net, 0, 0), Identity::at_home_on(&net, 1, 0));
    let host = registered(&mut net, &first);
    net.letters_wait = true;
    net.say(host, &second.register(&net));
    net.advance(ANSWER_TIMEOUT - Duration::from_millis(1));
    assert!(net.is_open(host));
    net.advance(Duration::from_millis(2));
    assert_eq!(net.closed(host), Some(Reason::Overloaded));
    net.letters_wait = false;
    net.settle();
    net.close_all();
    net.assert_nothing_left();
}

#[test]
fn a_registration_granted_after_its_socket_closed_is_withdrawn() {
    let mut net = Net::new(4, config());
    let (first, second) = (Identity::at_home_on(&net, 0, 0), Identity::at_home_on(&net, 1, 0));
    let host = registered(&mut net, &first);
    net.letters_wait = true;
    net.say(host, &second.register(&net));
    net.close(host, Reason::PeerReset);
    // Granted here:
    net.deliver_one(0);
    assert_eq!(net.gauges()[1].addresses, 1);
    net.letters_wait = false;
    net.settle();
    assert_eq!(net.gauges()[1].addresses, 0);
    net.assert_nothing_left();
}

#[test]
fn stale_and_replaced_work_across_shards() {
    let mut net = Net::new(4, config());
    let (host, second) = with_an_address_elsewhere(&mut net);
    net.say(host, &second.register(&net));
    assert_eq!(net.heard(host), [error("register_stale")]);
    let thief = net.open_on(3);
    net.say(thief, &second.register_at(net.now.unix_ms as i64 + 1));
    assert_eq!(net.heard(thief), [second.registered()]);
    assert_eq!(net.closed(host), Some(Reason::Replaced));
    resolved(&mut net, &second, thief);
    net.close_all();
    net.assert_nothing_left();
}

#[test]
fn a_control_socket_takes_every_address_with_it_wherever_it_is_at_home() {
    let mut net = Net::new(4, config());
    let (host, second) = with_an_address_elsewhere(&mut net);
    let (client, link) = resolved(&mut net, &second, host);
    net.say(client, &relay(&link));
    net.close(host, Reason::PeerReset);
    assert_eq!(net.closed(client), Some(Reason::PeerGone));
    assert_eq!(net.gauges().iter().map(|gauges| gauges.addresses).sum::<u64>(), 0);
}

#[test]
fn a_client_that_leaves_before_its_dial_back_is_asked_for_leaves_no_debt() {
    let mut net = Net::new(4, config());
    let (host, second) = with_an_address_elsewhere(&mut net);
    let (client, link) = resolved(&mut net, &second, host);
    net.letters_wait = true;
    net.say(client, &relay(&link));
    net.close(client, Reason::PeerReset);
    net.letters_wait = false;
    net.settle();
    net.assert_quiet();
}

#[test]
fn a_key_taken_off_the_list_while_its_claim_is_under_way_closes_its_socket() {
    let mut net = Net::new(4, config());
    let (first, second) = (Identity::at_home_on(&net, 0, 0), Identity::at_home_on(&net, 1, 0));
    let host = registered(&mut net, &first);
    net.letters_wait = true;
    net.say(host, &second.register(&net));
    net.allow(&first.public_key());
    assert_eq!(net.closed(host), Some(Reason::RegisterUnauthorized));
    net.letters_wait = false;
    net.settle();
    net.close_all();
    net.assert_nothing_left();
}

#[test]
fn one_shard_writes_no_letters() {
    let mut net = Net::new(1, config());
    let (scene, end) = joined(&mut net, 1);
    net.say(scene.host, &Identity::new(2).register(&net));
    let actions = net.actions_of(scene.host, &json!({"type": "getUsage"}));
    assert!(!actions.iter().any(|action| matches!(action, Action::Post { .. } | Action::Hold { .. })));
    net.close(end, Reason::PeerClosed);
    assert_eq!((net.letters, net.moves), (0, 0));
}

#[test]
fn a_letter_about_a_connection_that_is_gone_does_nothing() {
    let mut net = Net::new(4, config());
    let (host, _) = with_an_address_elsewhere(&mut net);
    let conn = net.conn(host);
    net.close(host, Reason::PeerReset);
    // Its slot has another connection now.
    let other = Identity::at_home_on(&net, 0, 3);
    let next = registered(&mut net, &other);
    assert_eq!(net.conn(next).index, conn.index);
    let link = LinkId::make(&mut ChaCha12Rng::seed_from_u64(6), RELAY, 1);
    for letter in [
        Letter::Replaced { host: conn },
        Letter::Arrived { host: conn, link, address: [0; 32] },
        Letter::DialBackOver { host: conn, link },
        Letter::DialBackRefused { link, reason: Reason::PeerGone },
        Letter::UsageNews { host: conn },
        Letter::UsageTold { host: conn, round: 1, entries: Vec::new() },
    ] {
        net.deliver(1, 0, dialect::Letter::Link(letter));
    }
    assert!(net.is_open(next));
    assert_eq!(net.heard(next), Vec::<serde_json::Value>::new());
}
