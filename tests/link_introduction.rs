//! The link dialect from register to relaying: every message, every role, every way a link ends (link.md sections 1 to 6).

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    End, Heard, Host, Keys, Link, PATIENCE, Peer, Raw, Relay, assert_within, eventually, every_cell,
    keys::unix_ms,
    link::{accept, register, resolve},
    wire,
};

/// A link id of the right shape that no relay gave out.
const UNKNOWN_LINK: &str = "00000000-0000-4000-8000-000000000000";

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
        for address in [keys.address.as_str(), "x", "elsewhere", "another"] {
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
fn keys_on_the_wire_have_1_to_128_characters() {
    every_cell(|cell| {
        let relay = cell.start();
        for length in [1, 127, 128] {
            let mut socket = relay.peer();
            socket.tell(&json!({ "type": "resolve", "address": "a".repeat(length) }));
            socket.expect_error("unknown_address");
            socket.tell(&json!({ "type": "accept", "linkId": "a".repeat(length) }));
            socket.expect_error("unknown_link");
        }
        let wrong =
            [json!(""), json!("a".repeat(129)), json!(7), json!(null), json!(["a"]), json!({}), json!(true)];
        for value in &wrong {
            for message in [
                json!({ "type": "resolve", "address": value }),
                json!({ "type": "register", "address": value }),
                json!({ "type": "accept", "linkId": value }),
            ] {
                refused(relay.peer(), &message, 4000);
            }
        }
        for kind in ["resolve", "register", "accept"] {
            refused(relay.peer(), &json!({ "type": kind }), 4000);
        }
    });
}

#[test]
fn what_is_not_a_control_message_closes_the_socket() {
    every_cell(|cell| {
        let relay = cell.start();
        let deep = "[".repeat(4096);
        let deep_object = r#"{"a":"#.repeat(800);
        let texts = [
            "",
            "nonsense",
            "{",
            "{}",
            "[]",
            "null",
            "true",
            "7",
            "\"resolve\"",
            "{} {}",
            "{\"type\":7}",
            "{\"type\":null}",
            "{\"type\":\"\"}",
            "{\"type\":\"nonsense\"}",
            "{\"type\":\"RESOLVE\"}",
            "[{\"type\":\"resolve\",\"address\":\"x\"}]",
            "{\"Type\":\"resolve\",\"address\":\"x\"}",
            "{'type':'resolve','address':'x'}",
            "{\"type\":\"resolve\",\"address\":\"x\",}",
            &deep,
            &deep_object,
            // What only the relay says.
            "{\"type\":\"found\",\"linkId\":\"x\"}",
            "{\"type\":\"registered\",\"address\":\"x\"}",
            "{\"type\":\"arrived\",\"linkId\":\"x\",\"address\":\"x\"}",
            "{\"type\":\"relaying\",\"linkId\":\"x\"}",
            "{\"type\":\"usage\",\"connections\":[]}",
            "{\"type\":\"error\",\"error\":\"x\"}",
        ];
        for text in texts {
            let mut socket = relay.peer();
            socket.say(text);
            match socket.hear(PATIENCE) {
                Heard::Closed(4000, _) => {}
                other => panic!("{text:?} was answered {other:?}"),
            }
        }
    });
}

#[test]
fn unknown_fields_are_ignored() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut socket = relay.peer();
        for extra in
            ["7", "null", "[1,{\"b\":[]}]", "{\"type\":\"relay\"}", "\"\\u0000\\ud83d\\ude00\"", "1e300"]
        {
            socket
                .say(&format!(r#" {{"extra":{extra},"type" : "resolve","address":"x","linkId":{extra}}} "#));
            socket.expect_error("unknown_address");
        }
        let keys = Keys::new();
        let mut message = keys.register(&relay.origin(), unix_ms());
        message["extra"] = json!({ "deep": [1, 2, 3] });
        message["auth"]["extra"] = json!("too");
        let mut control = relay.peer();
        control.tell(&message);
        control.expect("registered");
    });
}

#[test]
fn a_control_message_has_at_most_4096_bytes() {
    every_cell(|cell| {
        let relay = cell.start();
        let resolve = |len: usize| {
            let head = r#"{"type":"resolve","address":"x","padding":""#;
            format!("{head}{}\"}}", "p".repeat(len - head.len() - 2))
        };
        let mut socket = relay.peer();
        assert_eq!(resolve(4096).len(), 4096);
        socket.say(&resolve(4096));
        socket.expect_error("unknown_address");
        socket.say(&resolve(4097));
        socket.expect_closed(4000);
        // The sum over the fragments counts.
        for (len, allowed) in [(4096, true), (4097, false)] {
            let mut socket = Raw::open(&relay);
            let text = resolve(len).into_bytes();
            socket.write(&wire::client_frame(wire::TEXT, [1, 2, 3, 4], &text[..2000]));
            socket.write(&wire::client_frame(wire::CONTINUATION, [5, 6, 7, 8], &text[2000..4000]));
            socket.write(&wire::client_frame(0x80 | wire::CONTINUATION, [9, 10, 11, 12], &text[4000..]));
            if allowed {
                socket.expect_error("unknown_address");
            } else {
                socket.expect_closed(4000);
            }
        }
        // A host's control socket is held to it as well.
        let mut host = Host::register(&relay);
        host.control.say(&resolve(100_000));
        host.control.expect_closed(4000);
    });
}

#[test]
fn binary_before_relaying_closes_the_socket() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut fresh = relay.peer();
        fresh.send_binary(br#"{"type":"resolve","address":"x"}"#);
        fresh.expect_closed(4000);

        let mut host = Host::register(&relay);
        let (mut introduced, _) = host.introduce::<Peer>(&relay);
        introduced.send_binary(b"x");
        introduced.expect_closed(4000);

        let (mut pending, _) = host.pend::<Peer>(&relay);
        pending.send_binary(b"");
        pending.expect_closed(4000);

        host.control.send_binary(b"x");
        host.control.expect_closed(4000);
    });
}

#[test]
fn a_message_that_the_role_does_not_allow_closes_the_socket() {
    every_cell(|cell| {
        let relay = cell.start();
        let origin = relay.origin();
        let mut host = Host::register(&relay);
        let address = host.address().to_owned();
        let register = || Keys::new().register(&origin, unix_ms());
        let resolve = json!({ "type": "resolve", "address": address });
        let accept = json!({ "type": "accept", "linkId": UNKNOWN_LINK });
        let relay_message = json!({ "type": "relay", "linkId": UNKNOWN_LINK });
        let usage = json!({ "type": "getUsage" });

        for message in [&relay_message, &usage] {
            refused(relay.peer(), message, 4000);
        }
        for message in [&resolve, &accept, &relay_message] {
            refused(Host::register(&relay).control, message, 4000);
        }
        for message in [&register(), &resolve, &accept, &usage, &relay_message] {
            let (introduced, _) = host.introduce::<Peer>(&relay);
            refused(introduced, message, 4000);
            let (pending, _) = host.pend::<Peer>(&relay);
            refused(pending, message, 4000);
        }
    });
}

#[test]
fn only_the_links_own_client_may_ask_for_the_relay_and_only_once() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let (mut own, own_id) = host.introduce::<Peer>(&relay);
        let (mut other, other_id) = host.introduce::<Peer>(&relay);
        other.tell(&json!({ "type": "relay", "linkId": own_id }));
        other.expect_closed(4000);
        host.pend_for(&mut own, &own_id);
        own.tell(&json!({ "type": "relay", "linkId": own_id }));
        own.expect_closed(4000);
        for id in [own_id, other_id] {
            let mut dial_back = relay.peer();
            dial_back.tell(&json!({ "type": "accept", "linkId": id }));
            dial_back.expect_error("unknown_link");
        }
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
            // 72 sockets, three quarters of which the kernel gave to another shard than the one they belong to: at least
            // one in eight of them has moved even if it spread them badly.
            assert_within("moves", moved, 9.0..=2.0 * 72.0);
        }
    });
}

#[test]
fn a_control_socket_has_at_most_64_pending_dial_backs() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        // The cap counts over the addresses of a socket, wherever they live.
        let second = Keys::new();
        register(&mut host.control, &second, &relay.origin(), unix_ms());
        let mut pending = Vec::new();
        for n in 0..64 {
            let keys = if n % 2 == 0 { &host.keys } else { &second };
            let mut client = relay.peer();
            let id = resolve(&mut client, &keys.address);
            host.control.expect("arrived");
            host.pend_for(&mut client, &id);
            pending.push((client, id));
        }
        refuse_one_more(&relay, &mut host);
        // One that is accepted makes room, and so does one that goes.
        let (mut client, id) = pending.pop().expect("64 are pending");
        let mut dial_back = relay.peer();
        accept(&mut dial_back, &id);
        client.expect_relaying(&id);
        let (mut gone, _) = pending.pop().expect("63 are pending");
        gone.close(1000);
        gone.expect_closed(1000);
        let mut added = Vec::new();
        eventually("two more dial-backs are taken", || {
            let (mut client, id) = host.introduce::<Peer>(&relay);
            client.tell(&json!({ "type": "relay", "linkId": id }));
            // The news that there is room may still be on its way between two shards.
            match client.hear(Duration::from_millis(500)) {
                Heard::Nothing => {
                    assert_eq!(host.control.expect("relay")["linkId"], id);
                    added.push(client);
                }
                Heard::Closed(4000, _) => {}
                other => panic!("the client heard {other:?}"),
            }
            added.len() == 2
        });
        refuse_one_more(&relay, &mut host);
        Link { id, client, host: dial_back }.check();
    });
}

fn refuse_one_more(relay: &Relay, host: &mut Host) {
    let (mut client, id) = host.introduce::<Peer>(relay);
    client.tell(&json!({ "type": "relay", "linkId": id }));
    assert_eq!(client.expect_closed(4000), "too many pending dial-backs");
}

#[test]
fn requests_over_the_per_ip_budget_are_refused() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_IP_RATE_PER_MIN", 12).start();
        // Failed or not, register and resolve count; sockets do not. A minute that ends within the loop grants the
        // budget once more.
        let mut granted = 0;
        let refused = (0..40).any(|n| {
            let mut socket = relay.peer();
            match n % 3 {
                0 => socket.tell(&Keys::new().register(&relay.origin(), unix_ms())),
                1 => socket.tell(&json!({ "type": "resolve", "address": format!("address {n}") })),
                _ => socket.tell(&json!({ "type": "register", "address": "x" })),
            }
            match socket.hear(PATIENCE) {
                Heard::Closed(4002, _) => true,
                Heard::Text(_) | Heard::Closed(4007, _) => {
                    granted += 1;
                    false
                }
                other => panic!("heard {other:?}"),
            }
        });
        assert!(refused, "{granted} requests were granted");
        assert_within("granted", granted, 12..=24);
        // The budget comes before the address's shape, and the role before the budget.
        refused_now(&relay, &json!({ "type": "resolve", "address": "" }), 4002);
        refused_now(&relay, &json!({ "type": "relay", "linkId": "x" }), 4000);
        assert!(relay.metrics().sum_of("longsplice_closed_total", &[("reason", "rate_limited")]) >= 1.0);
    });
}

fn refused_now(relay: &Relay, message: &Value, code: u16) {
    refused(relay.peer(), message, code);
}

#[test]
fn accepts_of_unknown_links_spend_a_budget() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_IP_RATE_PER_MIN", 10).start();
        let mut granted = 0;
        let refused = (0..40).any(|_| {
            let mut socket = relay.peer();
            socket.tell(&json!({ "type": "accept", "linkId": UNKNOWN_LINK }));
            match socket.hear(PATIENCE) {
                Heard::Closed(4002, _) => true,
                Heard::Text(_) => {
                    granted += 1;
                    false
                }
                other => panic!("heard {other:?}"),
            }
        });
        assert!(refused, "{granted} guesses were answered");
        assert_within("granted", granted, 5..=30);
        // It is a budget of its own: a registration still passes.
        let host = Host::register(&relay);
        drop(host);
    });
}

#[test]
fn the_forwarded_address_counts_only_when_the_proxy_is_trusted() {
    every_cell(|cell| {
        for trusted in [true, false] {
            let relay = cell
                .setup()
                .env("LINK_IP_RATE_PER_MIN", 5)
                .env("LINK_TRUST_PROXY", if trusted { "1" } else { "0" })
                .start();
            let resolve_as = |ip: &str| {
                let mut socket = Peer::over(relay.dial(), &relay, &[("X-Forwarded-For", ip)]);
                socket.tell(&json!({ "type": "resolve", "address": "nowhere" }));
                match socket.hear(PATIENCE) {
                    Heard::Closed(4002, _) => false,
                    Heard::Text(_) => true,
                    other => panic!("heard {other:?}"),
                }
            };
            let granted = (0..30).filter(|n| resolve_as(&format!("198.51.100.{n}, 203.0.113.1"))).count();
            if trusted {
                assert_eq!(granted, 30, "each client has a budget of its own");
                let granted = (0..30).filter(|_| resolve_as("198.51.100.200")).count();
                assert_within("granted to one client behind the proxy", granted, 5..=10);
            } else {
                assert_within("granted to one that forges the header", granted, 5..=10);
            }
        }
    });
}

/// Sends a message that must get this socket closed with `code`.
fn refused(mut socket: impl End, message: &Value, code: u16) {
    socket.tell(message);
    match socket.hear(PATIENCE) {
        Heard::Closed(closed, _) if closed == code => {}
        other => panic!("{message} was answered {other:?}, not {code}"),
    }
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
