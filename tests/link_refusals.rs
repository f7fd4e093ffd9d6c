//! What the link dialect refuses: messages that are none, that the role does not allow, that are too long
//! or too many (link.md sections 1 to 3, 5 and 9).

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    End, Heard, Host, Keys, Link, PATIENCE, Peer, Raw, Relay, assert_within, eventually, every_cell,
    keys::unix_ms,
    link::{UNKNOWN_LINK, accept, register, resolve},
    wire,
};

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
fn a_socket_that_would_move_again_and_again_is_refused() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut socket = relay.peer();
        let mut answered = 0;
        let moved_too_often = (0..60).any(|_| {
            socket.tell(&json!({ "type": "resolve", "address": Keys::new().address }));
            match socket.hear(PATIENCE) {
                Heard::Closed(4002, _) => true,
                Heard::Text(_) => {
                    answered += 1;
                    false
                }
                other => panic!("heard {other:?}"),
            }
        });
        if cell.shards == 1 {
            assert!(!moved_too_often, "there is nowhere to move");
        } else {
            assert!(moved_too_often, "sixty addresses, and no end of moves");
            // A few in vain are everybody's right.
            assert_within("answered before", answered, 5..=40);
        }
    });
}

#[test]
fn requests_over_the_per_ip_budget_are_refused() {
    every_cell(|cell| {
        let relay = cell.setup().env("LINK_IP_RATE_PER_MIN", 12).start();
        // Failed or not, register and resolve count; sockets do not. A minute that ends within the loop
        // grants the budget once more.
        let mut granted = 0;
        let stopped = (0..40).any(|n| {
            let mut socket = relay.peer();
            match n % 3 {
                0 => socket.tell(&Keys::new().register(&relay.origin(), unix_ms())),
                1 => socket.tell(&json!({ "type": "resolve", "address": Keys::new().address })),
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
        assert!(stopped, "{granted} requests were granted");
        assert_within("granted", granted, 12..=24);
        // The budget comes before the address's shape, and the role before the budget.
        refused(relay.peer(), &json!({ "type": "resolve", "address": "" }), 4002);
        refused(relay.peer(), &json!({ "type": "relay", "linkId": "x" }), 4000);
        assert!(relay.metrics().sum_of("longsplice_closed_total", &[("reason", "rate_limited")]) >= 1.0);
    });
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
