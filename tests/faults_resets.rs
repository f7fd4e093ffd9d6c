//! Resets in every state, of one end and of both at once.

mod support;

use std::{io::Write, net::TcpStream, sync::Barrier, thread, time::Duration};

use serde_json::json;
use socket2::SockRef;
use support::{
    Before, End, Heard, Host, Link, PATIENCE, Peer, Raw, Relay, Witness, every_cell, faults::scaled,
    raw::upgrade_head_at, relay::PAIR_PATH, wire,
};

/// Breaks a connection with a reset, whatever lies unread.
fn reset(stream: TcpStream) {
    // The peer may have been quicker.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

#[test]
fn resets_before_and_within_the_head_and_right_after_it() {
    every_cell(|cell| {
        let relay = cell.start();
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        for path in ["/v1/link", PAIR_PATH] {
            let head = upgrade_head_at(&relay, path).into_bytes();
            for n in 0..scaled(150, 3000) {
                let mut stream = relay.dial();
                // Nothing, a part, all of it, and all with frames behind.
                let _ = stream.write_all(&head[..n * 7 % (head.len() + 1)]);
                if n % 5 == 0 {
                    let _ = stream.write_all(&wire::message(wire::TEXT, b"{\"type\":"));
                }
                reset(stream);
            }
            for _ in 0..scaled(50, 1000) {
                let mut stream = relay.dial();
                let _ = stream.write_all(&head);
                reset(stream);
            }
        }
        drop(witness.end());
        before.is_back(&relay);
    });
}

#[test]
fn resets_in_every_role_before_anything_is_relayed() {
    every_cell(|cell| {
        let relay = cell.start();
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        for _ in 0..scaled(15, 200) {
            // One without a role, one whose question is on its way.
            Raw::open(&relay).reset();
            let mut asking = Raw::open(&relay);
            asking.tell(&json!({ "type": "resolve", "address": "nowhere" }));
            asking.reset();
            let mut host = Host::register(&relay);
            // A client that was introduced, and one that waits for the dial-back.
            host.introduce::<Raw>(&relay).0.reset();
            let (waiting, id) = host.pend::<Raw>(&relay);
            waiting.reset();
            // The dial-back to a client that is gone, reset at once.
            let mut late = Raw::open(&relay);
            late.tell(&json!({ "type": "accept", "linkId": id }));
            late.reset();
            // A host that takes its clients with it.
            let (mut introduced, _) = host.introduce::<Raw>(&relay);
            let (mut pending, _) = host.pend::<Raw>(&relay);
            host.control.reset();
            introduced.expect_closed(4003);
            pending.expect_closed(4003);
        }
        drop(witness.end());
        before.is_back(&relay);
    });
}

#[test]
fn resets_in_the_middle_of_a_relayed_stream() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--splice-min", "64KiB").start();
        let before = Before::of(&relay);
        let witness = Witness::start(&relay);
        let mut host = Host::register(&relay);
        for n in 0..scaled(24, 300) {
            let mut link: Link<Raw> = host.join(&relay);
            // Masked, and unmasked as what goes through pipes; never whole.
            let mask = if n % 2 == 0 { [1, 2, 3, 4] } else { [0; 4] };
            let mut frame = wire::client_header(0x82, mask, 4 << 20);
            frame.resize(300_000 + 50_000 * (n % 4), 9);
            link.client.write(&frame);
            if n % 3 == 0 {
                link.host.write(&frame);
            }
            match n % 4 {
                // The sender goes: what came before may be lost with it, and the other end is told.
                0 => {
                    link.client.reset();
                    link.host.expect_closed_somehow(4003);
                }
                // The receiver goes.
                1 => {
                    link.host.reset();
                    link.client.expect_closed_somehow(4003);
                }
                // Both at once.
                2 => {
                    let together = Barrier::new(2);
                    thread::scope(|scope| {
                        for end in [link.client, link.host] {
                            let together = &together;
                            scope.spawn(move || {
                                together.wait();
                                end.reset();
                            });
                        }
                    });
                }
                // Half-closed, then reset.
                _ => {
                    link.client.finish();
                    link.host.reset();
                    link.client.expect_lost();
                }
            }
        }
        witness.goes_on();
        host.join::<Peer, Peer>(&relay).check();
        drop(host);
        drop(witness.end());
        before.is_back(&relay);
    });
}

#[test]
fn what_came_before_a_close_arrives_though_the_other_link_is_reset() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut host = Host::register(&relay);
        let mut kept: Link<Raw> = host.join(&relay);
        let others: Vec<Link<Raw>> = (0..10).map(|_| host.join(&relay)).collect();
        let content = vec![5; 200_000];
        kept.client.write(&wire::message(wire::BINARY, &content));
        kept.client.write(&wire::message(wire::CLOSE, &wire::close_payload(1000, b"")));
        for link in others {
            link.client.reset();
            link.host.reset();
        }
        assert!(kept.host.hear(PATIENCE) == Heard::Binary(content), "another message");
        kept.host.expect_closed(4003);
    });
}

#[test]
fn a_head_is_still_answered_while_others_are_reset() {
    every_cell(|cell| {
        let relay = cell.start();
        let storm = |relay: &Relay| {
            for _ in 0..scaled(200, 3000) {
                reset(relay.dial());
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| storm(&relay));
            for _ in 0..20 {
                let mut peer = relay.peer();
                peer.tell(&json!({ "type": "resolve", "address": "nowhere" }));
                peer.expect_error("unknown_address");
            }
        });
        relay.until_empty();
    });
}
