//! What the pair dialect refuses, with which error, and whether the socket survives it.
//!
//! | pair.md | shown by |
//! |---|---|
//! | 3: not JSON, no string `type`, unknown type | `pair_json.rs` |
//! | 3: `MAX_SESSIONS` | `capacity_is_exact_over_all_shards`, `a_session_that_expires_makes_room` |
//! | 3: join of an unknown session | `a_session_that_never_was_cannot_be_joined` |
//! | 3: join of a session that has a target | `a_third_device_is_refused_and_the_pair_goes_on` |
//! | 3: `relay` from outside the session | `a_relay_for_a_session_that_is_not_ones_own_is_a_mismatch` |
//! | 3: session gone | it closes both sockets (`pair_sessions.rs`); from elsewhere it is unknown |
//! | 3: other peer not there yet | `a_relay_before_the_other_end_is_there_is_refused` |
//! | 3: missing or wrongly typed fields | `what_a_device_says_of_itself_is_checked` |
//! | 2: `payload` is a string | `a_payload_that_is_no_string_is_a_malformed_message` |
//! | 3: per-IP budget | `new_sessions_of_one_ip_have_a_budget` |
//! | 3: message cap | `a_message_has_at_most_the_cap`, `the_cap_can_be_set` |
//! | 1: origins | `origins_that_are_not_listed_are_refused` |
//! | 4: `PAIR_MAX_MESSAGE_BYTES`, `ALLOWED_ORIGINS`, `MAX_SESSIONS` | the same tests |

mod support;

use std::{net::Ipv4Addr, thread};

use serde_json::{Value, json};
use support::{
    End, Peer, Raw, Relay, eventually, every_cell, every_cell_in_turn,
    pair::{
        Device, Pair, UNKNOWN_SESSION, check_open, create, expect_disconnected, expect_refusal,
        expect_refused, open, relay_message, relayed,
    },
    relay::PAIR_PATH,
    wire,
};

const MIB: usize = 1 << 20;

#[test]
fn what_a_device_says_of_itself_is_checked() {
    every_cell(|cell| {
        let relay = cell.start();
        let device = Device::new("device");
        let mut waiting = open(&relay);
        let session = create(&mut waiting, &Device::new("source").source()).id;
        let wrong: &[(&str, &[Value])] = &[
            ("deviceId", &[json!(null), json!(7), json!({}), json!(["x"]), json!(true)]),
            ("deviceName", &[json!(null), json!(7), json!({}), json!(["x"]), json!(true)]),
            ("ephemeralPubKey", &[json!(null), json!(7), json!({}), json!(["x"]), json!(true)]),
            (
                "capability",
                &[
                    json!(null),
                    json!(7),
                    json!("x"),
                    json!([]),
                    json!([1]),
                    json!({ "a": "1" }),
                    json!({ "a": 1, "b": null }),
                    json!({ "a": { "b": 1 } }),
                    json!({ "a": [1] }),
                    json!({ "a": true }),
                ],
            ),
        ];
        for message in [device.source(), device.target(&session)] {
            for (field, values) in wrong {
                let mut without = message.clone();
                without.as_object_mut().expect("an object").remove(*field);
                refused(&relay, &without);
                for value in *values {
                    let mut with = message.clone();
                    with[*field] = value.clone();
                    refused(&relay, &with);
                }
            }
        }
        for value in [json!(null), json!(7), json!({}), json!([session])] {
            let mut message = device.target(&session);
            message["sessionId"] = value;
            refused(&relay, &message);
        }
        // What introduces a device is kept, so it may not be large.
        for field in ["deviceId", "deviceName", "ephemeralPubKey"] {
            let mut large = device.source();
            large[field] = json!("x".repeat(8 * 1024));
            refused(&relay, &large);
        }
        // None of them has taken the slot.
        let mut target = open(&relay);
        target.tell(&device.target(&session));
        target.expect("peer-connected");
        assert_eq!(waiting.expect("peer-connected"), device.connected());
    });
}

fn refused(relay: &Relay, message: &Value) {
    let mut socket = open(relay);
    socket.tell(message);
    println!("{message}");
    expect_refused(&mut socket, "malformed_message", 1008);
}

#[test]
fn a_session_that_never_was_cannot_be_joined() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut source = open(&relay);
        let id = create(&mut source, &Device::new("source").source()).id;
        let long = "A".repeat(100_000);
        let close_by = format!("{id}A");
        let flipped = {
            let last = if id.ends_with('A') { "Q" } else { "A" };
            format!("{}{last}", &id[..id.len() - 1])
        };
        let shouted = id.to_uppercase() + "=";
        for session in [
            UNKNOWN_SESSION,
            "",
            "x",
            "nonsense",
            "../../etc",
            &long,
            &close_by,
            &flipped,
            &shouted,
            &id[1..],
        ] {
            let device = Device::new("target");
            for message in [device.target(session), device.source_again(session)] {
                let mut socket = open(&relay);
                socket.tell(&message);
                println!("{} {:.40}", message["type"], session);
                expect_refused(&mut socket, "session_join_failed", 1008);
            }
        }
        check_open(&mut source);
    });
}

#[test]
fn a_third_device_is_refused_and_the_pair_goes_on() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        for _ in 0..5 {
            let mut third = open(&relay);
            third.tell(&Device::new("third").target(&pair.id));
            expect_refused(&mut third, "session_join_failed", 1008);
            pair.check();
        }
    });
}

#[test]
fn of_many_that_join_at_once_one_gets_in() {
    every_cell(|cell| {
        let relay = cell.start();
        for _ in 0..5 {
            let mut source = open(&relay);
            let id = create(&mut source, &Device::new("source").source()).id;
            let mut sockets: Vec<Peer> = (0..12).map(|_| open(&relay)).collect();
            for socket in &mut sockets {
                socket.tell(&Device::new("target").target(&id));
            }
            let joined = sockets
                .iter_mut()
                .filter_map(|socket| match socket.expect_any(&["peer-connected", "error"]) {
                    told if told["type"] == "peer-connected" => Some(()),
                    error => {
                        assert_eq!(error["code"], "session_join_failed");
                        None
                    }
                })
                .count();
            assert_eq!(joined, 1);
            source.expect("peer-connected");
            check_open(&mut source);
        }
    });
}

#[test]
fn a_relay_for_a_session_that_is_not_ones_own_is_a_mismatch() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut pair = Pair::<Peer>::new(&relay);
        let mut other = Pair::<Peer>::new(&relay);
        let mut outsider = open(&relay);
        let mut waiting = open(&relay);
        create(&mut waiting, &Device::new("source").source());
        let ids = [pair.id.clone(), UNKNOWN_SESSION.to_owned(), String::new(), "x".repeat(100_000)];
        for id in &ids {
            let message = relay_message(id, "for somebody else");
            for socket in [&mut outsider, &mut waiting, &mut other.source, &mut other.target] {
                socket.say(&message);
                expect_refusal(socket, "session_mismatch");
                check_open(socket);
            }
        }
        for message in [
            json!({ "type": "relay", "payload": "x" }),
            json!({ "type": "relay", "payload": "x", "sessionId": null }),
            json!({ "type": "relay", "payload": "x", "sessionId": [pair.id] }),
        ] {
            outsider.tell(&message);
            expect_refusal(&mut outsider, "session_mismatch");
        }
        pair.check();
        other.check();
    });
}

#[test]
fn a_payload_that_is_no_string_is_a_malformed_message() {
    every_cell(|cell| {
        let relay = cell.start();
        for payload in [json!(null), json!(7), json!({ "a": "b" }), json!(["x"]), json!(true)] {
            let mut pair = Pair::<Peer>::new(&relay);
            pair.source.tell(&json!({ "type": "relay", "sessionId": pair.id, "payload": payload }));
            expect_refused(&mut pair.source, "malformed_message", 1008);
            expect_disconnected(&mut pair.target);
        }
        let mut pair = Pair::<Peer>::new(&relay);
        pair.source.tell(&json!({ "type": "relay", "sessionId": pair.id }));
        expect_refused(&mut pair.source, "malformed_message", 1008);
    });
}

#[test]
fn a_relay_before_the_other_end_is_there_is_refused() {
    every_cell(|cell| {
        let relay = cell.start();
        let device = Device::new("source");
        let mut source = open(&relay);
        let id = create(&mut source, &device.source()).id;
        for _ in 0..3 {
            source.say(&relay_message(&id, "too early"));
            expect_refusal(&mut source, "peer_not_connected");
        }
        let target_device = Device::new("target");
        let mut target = open(&relay);
        target.tell(&target_device.target(&id));
        assert_eq!(source.expect("peer-connected"), target_device.connected());
        // What was refused is not delivered later.
        assert_eq!(target.expect("peer-connected"), device.connected());
        source.say(&relay_message(&id, "now"));
        assert_eq!(target.expect("relay"), relayed("source", "now"));
    });
}

#[test]
fn capacity_is_exact_over_all_shards() {
    every_cell_in_turn(|cell| {
        let relay = cell.setup().env("MAX_SESSIONS", 50).flag("--dialects", "pair").start();
        // All at once from several threads, so that shards race for the last places.
        let outcomes: Vec<(Peer, bool)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut sockets: Vec<Peer> = (0..10).map(|_| open(&relay)).collect();
                        for socket in &mut sockets {
                            socket.tell(&Device::new("source").source());
                        }
                        let outcome = |mut socket: Peer| {
                            let answer = socket.expect_any(&["session-created", "error"]);
                            let in_ = answer["type"] == "session-created";
                            if !in_ {
                                assert_eq!(answer["code"], "server_at_capacity", "{answer}");
                                assert_eq!(socket.expect_closed(1011), "server_at_capacity");
                            }
                            (socket, in_)
                        };
                        sockets.into_iter().map(outcome).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(outcomes.iter().filter(|(_, in_)| *in_).count(), 50);
        assert_eq!(relay.get("/health").json()["activeSessions"], 50);
        // What is in stays, and can still be joined; a session whose ends are gone keeps its place.
        drop(outcomes);
        let mut socket = open(&relay);
        socket.tell(&Device::new("source").source());
        expect_refused(&mut socket, "server_at_capacity", 1011);
    });
}

#[test]
fn a_session_that_expires_makes_room() {
    every_cell(|cell| {
        let relay = cell.setup().env("MAX_SESSIONS", 4).env("SESSION_TTL_SECONDS", 1).start();
        for _ in 0..2 {
            let mut sources = Vec::new();
            eventually("there is room for four", || {
                let mut socket = open(&relay);
                socket.tell(&Device::new("source").source());
                let answer = socket.expect_any(&["session-created", "error"]);
                if answer["type"] == "session-created" {
                    sources.push(socket);
                } else {
                    assert_eq!(answer["code"], "server_at_capacity");
                }
                sources.len() >= 4
            });
            for mut source in sources {
                support::pair::expect_expired(&mut source);
            }
        }
    });
}

#[test]
fn new_sessions_of_one_ip_have_a_budget() {
    every_cell(|cell| {
        let relay = cell.setup().env("PAIR_IP_RATE_PER_MIN", 5).start();
        let from = |last: u8| {
            let stream = relay.dial_from(Ipv4Addr::new(127, 0, 0, last));
            Peer::at(stream, &relay, PAIR_PATH, &[])
        };
        let mut held = Vec::new();
        for _ in 0..5 {
            let mut source = from(2);
            let id = create(&mut source, &Device::new("source").source()).id;
            held.push((source, id));
        }
        for _ in 0..3 {
            let mut source = from(2);
            source.tell(&Device::new("source").source());
            expect_refused(&mut source, "rate_limited", 1008);
        }
        // Another address has its own budget, and joining costs nothing.
        create(&mut from(3), &Device::new("source").source());
        for (source, id) in &mut held {
            let mut target = from(2);
            target.tell(&Device::new("target").target(id));
            target.expect("peer-connected");
            source.expect("peer-connected");
        }
    });
}

#[test]
fn the_budget_is_60_by_default_and_0_is_none() {
    every_cell(|cell| {
        let create_one = |relay: &Relay| {
            let mut source = open(relay);
            source.tell(&Device::new("source").source());
            source.expect_any(&["session-created", "error"])["type"] == "session-created"
        };
        let relay = cell.setup().without_env("PAIR_IP_RATE_PER_MIN").start();
        assert!((0..60).all(|_| create_one(&relay)));
        assert!(!create_one(&relay));
        let relay = cell.setup().env("PAIR_IP_RATE_PER_MIN", 0).start();
        assert!((0..80).all(|_| create_one(&relay)));
    });
}

#[test]
fn a_message_has_at_most_the_cap() {
    every_cell(|cell| {
        let relay = cell.start();
        let ping = |len: usize| {
            let head = "{\"type\":\"ping\",\"x\":\"";
            format!("{head}{}\"}}", "x".repeat(len - head.len() - 2))
        };
        for text in [true, false] {
            let mut socket = open(&relay);
            for len in [MIB - 1, MIB] {
                match text {
                    true => socket.say(&ping(len)),
                    false => socket.send_binary(ping(len).as_bytes()),
                }
                socket.expect("pong");
            }
            match text {
                true => socket.say(&ping(MIB + 1)),
                false => socket.send_binary(ping(MIB + 1).as_bytes()),
            }
            socket.expect_closed(1009);
        }
        // The sum over the fragments counts, and a header alone is enough to tell.
        let mut socket = Raw::open_at(&relay, PAIR_PATH);
        let half = ping(MIB).into_bytes();
        socket.write(&wire::client_frame(wire::TEXT, [1, 2, 3, 4], &half[..MIB / 2]));
        socket.write(&wire::client_frame(0x80 | wire::CONTINUATION, [1, 2, 3, 4], &half[MIB / 2..]));
        socket.expect("pong");
        socket.write(&wire::client_frame(wire::TEXT, [1, 2, 3, 4], &half[..MIB / 2]));
        socket.write(&wire::client_header(wire::CONTINUATION, [1, 2, 3, 4], (MIB / 2 + 1) as u64));
        socket.expect_closed_somehow(1009);
        let mut socket = Raw::open_at(&relay, PAIR_PATH);
        socket.write(&wire::client_header(0x80 | wire::TEXT, [1, 2, 3, 4], u64::MAX >> 1));
        socket.expect_closed_somehow(1009);
    });
}

#[test]
fn the_cap_can_be_set() {
    every_cell(|cell| {
        let relay = cell.setup().env("PAIR_MAX_MESSAGE_BYTES", 4096).start();
        let mut pair = Pair::<Peer>::new(&relay);
        let empty = relay_message(&pair.id, "").len();
        pair.tell_target(&"x".repeat(4096 - empty));
        pair.source.say(&relay_message(&pair.id, &"x".repeat(4097 - empty)));
        pair.source.expect_closed(1009);
        expect_disconnected(&mut pair.target);
    });
}

#[test]
fn origins_that_are_not_listed_are_refused() {
    every_cell(|cell| {
        let listed = "https://app.example,http://localhost:3000";
        let relay = cell.setup().env("ALLOWED_ORIGINS", listed).start();
        let with = |origin: &str| Peer::at(relay.dial(), &relay, PAIR_PATH, &[("origin", origin)]);
        for origin in ["https://app.example", "http://localhost:3000"] {
            check_open(&mut with(origin));
        }
        for origin in [
            "https://evil.example",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://app.exampl",
            "null",
            "*",
        ] {
            // The refusal comes before any message, and without an `error`.
            assert_eq!(with(origin).expect_closed(1008), "origin_not_allowed", "{origin}");
        }
        // Not a browser: no origin.
        check_open(&mut open(&relay));

        let relay = cell.start();
        let mut anyone = Peer::at(relay.dial(), &relay, PAIR_PATH, &[("origin", "https://evil.example")]);
        check_open(&mut anyone);
        let relay = cell.setup().env("ALLOWED_ORIGINS", "*").start();
        let mut anyone = Peer::at(relay.dial(), &relay, PAIR_PATH, &[("origin", "https://evil.example")]);
        check_open(&mut anyone);
    });
}

#[test]
fn refusals_are_told_in_order_behind_what_came_before() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut socket = Raw::open_at(&relay, PAIR_PATH);
        // In one packet: what is behind the refused message is not looked at.
        let ping = wire::message(wire::TEXT, b"{\"type\":\"ping\"}");
        let nonsense = wire::message(wire::TEXT, b"nonsense");
        socket.write(&[&ping[..], &ping, &nonsense, &ping].concat());
        socket.expect("pong");
        socket.expect("pong");
        expect_refused(&mut socket, "malformed_json", 1008);
    });
}
