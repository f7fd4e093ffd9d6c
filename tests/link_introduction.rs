//! The link dialect from register to relaying, and every way a link or a registration ends (link.md
//! sections 2 to 5).

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{
    End, Heard, Host, Keys, Link, PATIENCE, Peer, Raw, assert_within, eventually, every_cell,
    keys::unix_ms,
    link::{UNKNOWN_LINK, accept, register, resolve},
    wire,
};

#[test]
fn an_introduction_joins_client_and_host() {
    every_cell(|cell| {
        let relay = cell.start();
        let (_host, mut link) = Link::<Peer>::new(&relay);
        link.check();
        // What looks like control is payload now, and a type is kept.
        link.client.say(r#"{"type":"resolve","address":"x"}"#);
        link.host.expect_text(r#"{"type":"resolve","address":"x"}"#);
        link.host.send_binary(b"\x00\xff{");
        assert_eq!(link.client.hear(PATIENCE), Heard::Binary(b"\x00\xff{".to_vec()));
    });
}

#[test]
fn link_ids_are_uuids_and_never_repeat() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let clients: Vec<(Peer, String)> = (0..50).map(|_| host.introduce(&relay)).collect();
        let mut ids: Vec<_> = clients.iter().map(|(_, id)| id.clone()).collect();
        for id in &ids {
            let groups: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
            assert!(id.bytes().all(|byte| matches!(byte, b'-' | b'0'..=b'9' | b'a'..=b'f')), "{id}");
            assert_eq!(&id[14..15], "4", "the version of {id}");
            assert!("89ab".contains(&id[19..20]), "the variant of {id}");
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 50);
    });
}

#[test]
fn an_unknown_address_is_an_error_and_the_socket_may_try_again() {
    every_cell(|cell| {
        let relay = cell.start();
        let keys = Keys::new();
        let mut client = relay.peer();
        for address in [&keys.address, "x", &Keys::new().address, &Keys::new().address] {
            client.tell(&json!({ "type": "resolve", "address": address }));
            client.expect_error("unknown_address");
        }
        let mut host = Host::register_keys(&relay, keys);
        let id = host.introduce_to(&mut client);
        host.pend_for(&mut client, &id);
    });
}

#[test]
fn an_unknown_link_is_an_error_and_the_socket_may_try_again() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut dial_back = relay.peer();
        let longest = "x".repeat(128);
        // Of the last ones, the numbers of relay and shard are none that exist.
        for id in [UNKNOWN_LINK, "x", &longest, "ffffffff-ffff-4fff-bfff-ffffffffffff", "not-a-uuid-at-all"] {
            dial_back.tell(&json!({ "type": "accept", "linkId": id }));
            dial_back.expect_error("unknown_link");
        }
        // An introduced link is not pending yet.
        let (mut client, id) = host.introduce::<Peer>(&relay);
        dial_back.tell(&json!({ "type": "accept", "linkId": id }));
        dial_back.expect_error("unknown_link");
        host.pend_for(&mut client, &id);
        accept(&mut dial_back, &id);
        client.expect_relaying(&id);
        // A link that is relaying is not pending any more.
        let mut late = relay.peer();
        late.tell(&json!({ "type": "accept", "linkId": id }));
        late.expect_error("unknown_link");
        Link { id, client, host: dial_back }.check();
    });
}

#[test]
fn a_socket_whose_accept_found_nothing_may_become_a_client_or_a_host() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut client = relay.peer();
        client.tell(&json!({ "type": "accept", "linkId": UNKNOWN_LINK }));
        client.expect_error("unknown_link");
        host.introduce_to(&mut client);

        let mut control = relay.peer();
        control.tell(&json!({ "type": "resolve", "address": "nowhere" }));
        control.expect_error("unknown_address");
        register(&mut control, &Keys::new(), &relay.origin(), unix_ms());
    });
}

#[test]
fn usage_lists_the_relaying_links_of_the_control_socket() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        assert_eq!(host.usage(), json!([]));
        let _introduced = host.introduce::<Peer>(&relay);
        let _pending = host.pend::<Peer>(&relay);
        assert_eq!(host.usage(), json!([]), "only relaying links count");
        let first: Link = host.join(&relay);
        let second: Link = host.join(&relay);
        let (_other, _not_ours) = Link::<Peer>::new(&relay);
        assert_eq!(sorted(host.usage()), unlimited(&[&first.id, &second.id]));
        let Link { id, client, host: mut dial_back } = first;
        drop(client);
        dial_back.expect_closed(4003);
        assert_eq!(host.usage(), unlimited(&[&second.id]), "{id} is closed");
    });
}

#[test]
fn a_newer_registration_replaces_the_holder() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut old = Host::register(&relay);
        let (mut waiting, _) = old.introduce::<Peer>(&relay);
        let mut link: Link = old.join(&relay);
        let mut new = Host { control: relay.peer(), keys: old.keys.clone(), stamp: old.stamp };
        new.register_again(&relay.origin());
        old.control.expect_closed(4005);
        // The old control socket is closed, with all that follows.
        waiting.expect_closed(4003);
        link.check();
        new.join::<Peer, Peer>(&relay).check();
    });
}

#[test]
fn a_registration_that_is_not_newer_is_stale_and_leaves_the_holder_alone() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut holder = Host::register(&relay);
        for stamp in [holder.stamp, holder.stamp - 1, holder.stamp - 60_000] {
            let mut late = relay.peer();
            late.tell(&holder.keys.register(&relay.origin(), stamp));
            late.expect_error("register_stale");
            holder.control.tell(&holder.keys.register(&relay.origin(), stamp));
            holder.control.expect_error("register_stale");
            // A socket whose register was stale has no role yet.
            late.tell(&json!({ "type": "resolve", "address": "nowhere" }));
            late.expect_error("unknown_address");
        }
        holder.join::<Peer, Peer>(&relay).check();
    });
}

#[test]
fn a_control_socket_may_register_again() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let (mut waiting, id) = host.introduce::<Peer>(&relay);
        for _ in 0..3 {
            host.register_again(&relay.origin());
        }
        host.pend_for(&mut waiting, &id);
        host.join::<Peer, Peer>(&relay).check();
        assert_eq!(relay.stats()["addressRegistrations"], 1, "it is one registration");
    });
}

#[test]
fn a_closed_control_socket_is_forgotten_and_only_relaying_links_live_on() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let (mut introduced, introduced_id) = host.introduce::<Peer>(&relay);
        let (mut pending, pending_id) = host.pend::<Peer>(&relay);
        let mut link: Link = host.join(&relay);
        let Host { control, keys, stamp } = host;
        drop(control);
        introduced.expect_closed(4003);
        pending.expect_closed(4003);
        for id in [introduced_id, pending_id] {
            let mut dial_back = relay.peer();
            dial_back.tell(&json!({ "type": "accept", "linkId": id }));
            dial_back.expect_error("unknown_link");
        }
        let mut client = relay.peer();
        client.tell(&json!({ "type": "resolve", "address": keys.address }));
        client.expect_error("unknown_address");
        link.check();
        // The pin and the time stamp are forgotten with it.
        let mut again = relay.peer();
        register(&mut again, &keys, &relay.origin(), stamp - 1000);
        resolve(&mut client, &keys.address);
        link.check();
    });
}

#[test]
fn a_host_that_reconnects_is_found_again() {
    every_cell(|cell| {
        let relay = cell.start();
        let keys = Keys::new();
        let mut old_links = Vec::new();
        for round in 0..5 {
            let mut host = Host::register_keys(&relay, keys.clone());
            let mut link: Link = host.join(&relay);
            link.check();
            old_links.push(link);
            if round % 2 == 0 {
                host.control.close(1000);
                host.control.expect_closed(1000);
            } else {
                host.control.reset();
            }
            let mut client = relay.peer();
            eventually("the address is forgotten", || {
                client.tell(&json!({ "type": "resolve", "address": keys.address }));
                match client.expect_any(&["error", "found"])["type"].as_str() {
                    Some("error") => true,
                    _ => {
                        client = relay.peer();
                        false
                    }
                }
            });
        }
        for link in &mut old_links {
            link.check();
        }
    });
}

#[test]
fn when_one_end_goes_the_other_is_closed_as_peer_gone() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);

        let mut link: Link = host.join(&relay);
        link.client.close(1000);
        link.client.expect_closed(1000);
        link.host.expect_closed(4003);

        let mut link: Link = host.join(&relay);
        link.host.close(4321);
        link.host.expect_closed(4321);
        link.client.expect_closed(4003);

        let Link { client, host: mut dial_back, .. } = host.join::<Peer, Peer>(&relay);
        drop(client);
        dial_back.expect_closed(4003);

        let Link { mut client, host: dial_back, .. } = host.join::<Peer, Peer>(&relay);
        dial_back.reset();
        client.expect_closed(4003);
    });
}

#[test]
fn a_client_that_goes_before_the_dial_back_takes_its_link_with_it() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let (mut client, id) = host.pend::<Peer>(&relay);
        client.close(1000);
        client.expect_closed(1000);
        let mut dial_back = relay.peer();
        dial_back.tell(&json!({ "type": "accept", "linkId": id }));
        dial_back.expect_error("unknown_link");
        host.join::<Peer, Peer>(&relay).check();
    });
}

#[test]
fn payload_may_follow_the_accept_at_once_and_the_client_hears_relaying_first() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        for _ in 0..10 {
            let (mut client, id) = host.pend::<Raw>(&relay);
            let mut dial_back = Raw::open(&relay);
            let accept = json!({ "type": "accept", "linkId": id }).to_string();
            let bytes = [
                wire::message(wire::TEXT, accept.as_bytes()),
                wire::message(wire::BINARY, b"first"),
                wire::message(wire::TEXT, b"second"),
            ];
            dial_back.write(&bytes.concat());
            client.expect_relaying(&id);
            assert_eq!(client.hear(PATIENCE), Heard::Binary(b"first".to_vec()));
            client.expect_text("second");
            dial_back.expect_relaying(&id);
            client.say("back");
            dial_back.expect_text("back");
        }
    });
}

#[test]
fn one_control_socket_holds_several_addresses() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        // With four shards, eight random addresses lie on one shard once in 16,000 runs.
        let keys: Vec<Keys> = (0..8).map(|_| Keys::new()).collect();
        for keys in &keys {
            register(&mut host.control, keys, &relay.origin(), unix_ms());
        }
        assert_eq!(relay.stats()["addressRegistrations"], 9);
        let mut links = Vec::new();
        for keys in &keys {
            let mut client = relay.peer();
            let id = resolve(&mut client, &keys.address);
            let arrived = host.control.expect("arrived");
            assert_eq!(arrived, json!({ "type": "arrived", "linkId": id, "address": keys.address }));
            host.pend_for(&mut client, &id);
            let mut dial_back = relay.peer();
            accept(&mut dial_back, &id);
            client.expect_relaying(&id);
            links.push(Link { id, client, host: dial_back });
        }
        for link in &mut links {
            link.check();
        }
        let ids: Vec<&str> = links.iter().map(|link| link.id.as_str()).collect();
        assert_eq!(sorted(host.usage()), unlimited(&ids));
        // Stale is judged where the address lives.
        host.control.tell(&keys[3].register(&relay.origin(), unix_ms() - 10_000));
        host.control.expect_error("register_stale");

        // When one of its addresses is taken over, the socket is closed and the others are forgotten.
        let mut introduced = relay.peer();
        resolve(&mut introduced, &keys[1].address);
        host.control.expect("arrived");
        let mut taker = relay.peer();
        register(&mut taker, &keys[5], &relay.origin(), unix_ms() + 1);
        host.control.expect_closed(4005);
        introduced.expect_closed(4003);
        eventually("only the taken address is left", || relay.stats()["addressRegistrations"] == 1);
        let mut client = relay.peer();
        for (n, keys) in keys.iter().enumerate() {
            if n != 5 {
                client.tell(&json!({ "type": "resolve", "address": keys.address }));
                client.expect_error("unknown_address");
            }
        }
        resolve(&mut client, &keys[5].address);
        taker.expect("arrived");
        for link in &mut links {
            link.check();
        }
    });
}

#[test]
fn sockets_move_to_the_shard_that_is_home_to_what_they_name() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut links: Vec<_> = (0..24).map(|_| Link::<Peer>::new(&relay)).collect();
        for (_, link) in &mut links {
            link.check();
        }
        let moved = relay.metrics().sum_of("longsplice_handoffs_total", &[("result", "received")]);
        if cell.shards == 1 {
            assert_eq!(moved, 0.0);
        } else {
            // 72 sockets, three quarters of which the kernel gave to another shard than the one they belong
            // to: at least one in eight of them has moved even if it spread them badly.
            assert_within("moves", moved, 9.0..=2.0 * 72.0);
        }
        // Both ends of a link live on one shard: the one that says so when they close.
        drop(links);
        eventually("both ends of 24 links have closed", || {
            let closes = shards_of_closes(&relay.log());
            closes.len() == 24 && closes.values().all(|shards| shards.len() == 2)
        });
        let closes = shards_of_closes(&relay.log());
        assert!(closes.values().all(|shards| shards[0] == shards[1]), "{closes:?}");
    });
}

/// For each link that closed, by the first characters of its id: the shards on which its ends did.
fn shards_of_closes(log: &[String]) -> BTreeMap<String, Vec<String>> {
    let field = |line: &str, name: &str| {
        let rest = line.split_once(&format!("{name}="))?.1;
        Some(rest.split(' ').next()?.trim_matches('"').to_owned())
    };
    let mut closes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in log.iter().filter(|line| line.contains("relayed link closes")) {
        let (link, shard) = (field(line, " link"), field(line, " shard"));
        closes.entry(link.expect("a link")).or_default().push(shard.expect("a shard"));
    }
    closes
}

/// The usage entries of links without a quota, by id.
fn unlimited(ids: &[&str]) -> Value {
    sorted(ids.iter().map(|id| json!({ "linkId": id, "unlimited": true })).collect())
}

fn sorted(connections: Value) -> Value {
    let mut entries = connections.as_array().expect("connections are a list").clone();
    entries.sort_by_key(|entry| entry["linkId"].as_str().expect("each has an id").to_owned());
    entries.into()
}
