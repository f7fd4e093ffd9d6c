//! link.md sections 5 and 6: how links end, and what each end is told.

use std::time::Duration;

use super::{net::*, people::*};
use crate::{pacing::Leg, reason::Reason};

/// Reasons that are one end's own, of which the other hears only that its peer is gone.
const OWN: [Reason; 7] = [
    Reason::PeerClosed,
    Reason::PeerEnded,
    Reason::PeerReset,
    Reason::ProtocolError,
    Reason::MessageTooBig,
    Reason::PingTimeout,
    Reason::BadRequest,
];

#[test]
fn when_the_client_of_a_relaying_link_closes_its_host_end_is_4003() {
    on_one_and_four_shards(|net| {
        for (number, reason) in OWN.into_iter().enumerate() {
            let (scene, end) = joined(net, number as u64);
            net.close(scene.client, reason);
            assert_eq!(net.closed(end), Some(Reason::PeerGone), "{reason:?}");
            assert!(net.is_open(scene.host));
        }
    });
}

#[test]
fn when_the_host_end_closes_the_client_is_4003() {
    on_one_and_four_shards(|net| {
        for (number, reason) in OWN.into_iter().enumerate() {
            let (scene, end) = joined(net, number as u64);
            net.close(end, reason);
            assert_eq!(net.closed(scene.client), Some(Reason::PeerGone), "{reason:?}");
            assert!(net.is_open(scene.host));
        }
    });
}

#[test]
fn a_slow_peer_an_idle_link_and_a_shutdown_are_told_to_both_ends() {
    on_one_and_four_shards(|net| {
        for (number, reason) in [Reason::SlowPeer, Reason::LinkIdle, Reason::Draining].into_iter().enumerate()
        {
            let (scene, end) = joined(net, 2 * number as u64);
            net.close(end, reason);
            assert_eq!(net.closed(scene.client), Some(reason));
            let (scene, end) = joined(net, 2 * number as u64 + 1);
            net.close(scene.client, reason);
            assert_eq!(net.closed(end), Some(reason));
        }
    });
}

#[test]
fn when_a_client_closes_before_it_relays_its_link_dies() {
    on_one_and_four_shards(|net| {
        let (early, late) = (introduced(net, 1), pending(net, 2));
        for scene in [early, late] {
            net.close(scene.client, Reason::PeerClosed);
            assert!(net.is_open(scene.host));
            let end = net.open();
            net.say(end, &accept(&scene.link));
            assert_eq!(net.heard(end), [error("unknown_link")]);
        }
        net.assert_quiet();
    });
}

#[test]
fn when_a_control_socket_closes_its_links_die_unless_they_relay() {
    on_one_and_four_shards(|net| {
        let (scene, end) = joined(net, 1);
        let (early, _) = resolved(net, &scene.identity, scene.host);
        let (late, link) = resolved(net, &scene.identity, scene.host);
        net.say(late, &relay(&link));
        net.close(scene.host, Reason::PeerClosed);
        assert_eq!(net.closed(early), Some(Reason::PeerGone));
        assert_eq!(net.closed(late), Some(Reason::PeerGone));
        assert!(net.is_open(scene.client) && net.is_open(end));
        // They end as any other does.
        net.close(end, Reason::PeerClosed);
        assert_eq!(net.closed(scene.client), Some(Reason::PeerGone));
    });
}

#[test]
fn a_relay_whose_host_has_gone_is_4003() {
    // The word that the host has gone and the wish for its dial-back cross on their way.
    let mut net = Net::new(4, config());
    let (first, second) = (Identity::at_home_on(&net, 0, 0), Identity::at_home_on(&net, 1, 0));
    let host = registered(&mut net, &first);
    net.say(host, &second.register(&net));
    net.heard(host);
    let (client, link) = resolved(&mut net, &second, host);
    net.letters_wait = true;
    net.close(host, Reason::PeerReset);
    net.say(client, &relay(&link));
    assert!(net.is_open(client));
    net.letters_wait = false;
    net.settle();
    assert_eq!(net.closed(client), Some(Reason::PeerGone));
    net.close_all();
    net.assert_nothing_left();
}

#[test]
fn a_link_without_traffic_is_4004_at_both_ends_in_every_state() {
    on_one_and_four_shards(|net| {
        let start = net.now.at;
        let (early, late) = (introduced(net, 1), pending(net, 2));
        let (scene, end) = joined(net, 3);
        net.advance(Duration::from_millis(299_999));
        assert!([early.client, late.client, scene.client, end].iter().all(|sock| net.is_open(*sock)));
        net.advance(Duration::from_millis(2));
        for sock in [early.client, late.client, scene.client, end] {
            assert_eq!(net.closed(sock), Some(Reason::LinkIdle));
        }
        assert_eq!(net.now.at.since(start), Duration::from_millis(300_001));
        assert!([early.host, late.host, scene.host].iter().all(|sock| net.is_open(*sock)));
        net.assert_quiet();
    });
}

#[test]
fn each_step_of_a_link_and_each_byte_starts_its_idle_time_anew() {
    on_one_and_four_shards(|net| {
        let nearly = Duration::from_secs(299);
        let scene = introduced(net, 1);
        net.advance(nearly);
        net.say(scene.client, &relay(&scene.link));
        net.advance(nearly);
        let end = net.open();
        net.say(end, &accept(&scene.link));
        net.advance(nearly);
        net.relay_bytes(end, Leg::Host, 1);
        net.advance(nearly);
        net.relay_bytes(scene.client, Leg::Client, 1);
        net.advance(nearly);
        assert!(net.is_open(scene.client) && net.is_open(end));
        net.advance(Duration::from_secs(2));
        assert_eq!(
            (net.closed(scene.client), net.closed(end)),
            (Some(Reason::LinkIdle), Some(Reason::LinkIdle))
        );
    });
}

#[test]
fn bytes_held_by_pacing_are_traffic_until_they_are_due() {
    on_one_and_four_shards(|net| {
        let (scene, end) = joined(net, 1);
        let due = net.now.at + Duration::from_secs(1000);
        net.ledger(end).expect("the link relays").active_at = due;
        net.advance(Duration::from_secs(1299));
        assert!(net.is_open(scene.client) && net.is_open(end));
        net.advance(Duration::from_secs(2));
        assert_eq!(net.closed(end), Some(Reason::LinkIdle));
    });
}

#[test]
fn the_account_of_a_closed_link_stays_until_its_last_end_is_gone() {
    on_one_and_four_shards(|net| {
        let (scene, end) = joined(net, 1);
        net.closes_wait = true;
        net.close(end, Reason::PeerClosed);
        assert_eq!(net.closed(scene.client), Some(Reason::PeerGone));
        net.relay_bytes(scene.client, Leg::Host, 5);
        assert_eq!(
            net.gauges().iter().map(|gauges| gauges.relaying).sum::<u64>(),
            0,
            "closed for the operator"
        );
        // What is closed is not accepted, not idle yet, and goes with its last end.
        let again = net.open();
        net.say(again, &accept(&scene.link));
        assert_eq!(net.heard(again), [error("unknown_link")]);
        net.closes_wait = false;
        net.finish_closes();
        assert!(net.ledger(scene.client).is_none());
        let stats = net.stats();
        assert_eq!(stats["bytesRelayed"]["fromHost"], 5);
        assert_eq!(stats["recentlyClosed"][0]["bytesFromHost"], 5, "the account is final");
    });
}

#[test]
fn a_closed_link_whose_last_end_takes_nothing_is_cut_when_it_is_idle() {
    on_one_and_four_shards(|net| {
        let (scene, end) = joined(net, 1);
        net.closes_wait = true;
        net.close(end, Reason::PeerClosed);
        assert_eq!(net.closed(scene.client), Some(Reason::PeerGone));
        net.advance(Duration::from_secs(299));
        assert_eq!(net.closed(scene.client), Some(Reason::PeerGone));
        net.advance(Duration::from_secs(2));
        assert_eq!(net.closed(scene.client), Some(Reason::LinkIdle));
    });
}

#[test]
fn a_link_that_was_cut_is_not_cut_again() {
    on_one_and_four_shards(|net| {
        let (scene, end) = joined(net, 1);
        net.closes_wait = true;
        net.close(end, Reason::SlowPeer);
        assert_eq!(net.timers_armed(), 0);
        net.advance(Duration::from_secs(301));
        assert_eq!(net.closed(scene.client), Some(Reason::SlowPeer));
    });
}

#[test]
fn a_role_cannot_be_used_after_its_close() {
    on_one_and_four_shards(|net| {
        let scene = introduced(net, 1);
        net.closes_wait = true;
        net.say_binary(scene.host, b"x");
        assert_eq!(net.closed(scene.host), Some(Reason::BadRequest));
        // Its address is free at once, its clients are told at once.
        assert_eq!(net.closed(scene.client), Some(Reason::PeerGone));
        let client = net.open();
        net.say(client, &scene.identity.resolve());
        assert_eq!(net.heard(client), [error("unknown_address")]);
    });
}
