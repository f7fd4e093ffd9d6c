//! link.md section 4, and `register`'s rows of section 3.

use std::time::Duration;

use serde_json::{Value, json};

use super::{super::LinkConfig, net::*, people::*};
use crate::{
    admission::{AllowList, PlaceBounds, SharedPolicy},
    limits::ADDRESSES_PER_SOCKET_MAX,
    reason::Reason,
};

/// What becomes of a fresh connection that says `message`.
fn outcome(net: &mut Net, message: &Value) -> (Vec<Value>, Option<Reason>) {
    let sock = net.open();
    net.say(sock, message);
    (net.heard(sock), net.closed(sock))
}

#[test]
fn a_valid_register_is_answered_registered_and_fixes_the_role() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let host = registered(net, &identity);
        assert!(net.is_settled(host));
        assert_eq!(net.gauges().iter().map(|gauges| gauges.addresses).sum::<u64>(), 1);
        assert_eq!(net.is_empty(net.shard_of(host)), [false, false, true, false]);
        net.close_all();
        net.assert_nothing_left();
    });
}

#[test]
fn a_register_that_does_not_verify_is_4007_whatever_is_wrong() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let now = net.now.unix_ms as i64;
        let good = identity.register(net);
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut message = good.clone();
            change(&mut message);
            message
        };
        let auth =
            |name: &'static str, value: Value| changed(&|message| message["auth"][name] = value.clone());
        let without = |name: &'static str| {
            changed(&|message| {
                message["auth"].as_object_mut().unwrap().remove(name);
            })
        };
        let long = "n".repeat(89);
        let signed_otherwise = [
            ("another address", identity.auth_signed_as(&Identity::new(2).address, now, "a nonce", HOST)),
            ("another origin", identity.auth(now, "elsewhere")),
            ("a nonce too long", identity.auth_signed_as(&identity.address, now, &long, HOST)),
            ("an empty nonce", identity.auth_signed_as(&identity.address, now, "", HOST)),
            ("another key", Identity::new(2).auth_signed_as(&identity.address, now, "a nonce", HOST)),
        ];
        let mut wrong = vec![
            ("no auth", json!({"type": "register", "address": identity.address})),
            ("another algorithm", auth("alg", json!("Ed25519"))),
            ("an algorithm that is no string", auth("alg", json!(1))),
            ("no algorithm", without("alg")),
            ("no key", without("pub")),
            ("a padded key", auth("pub", json!(identity.public_key() + "="))),
            ("a short key", auth("pub", json!(identity.public_key()[..42]))),
            ("a key that is no string", auth("pub", json!([1, 2]))),
            ("no time stamp", without("ts")),
            ("a time stamp in a string", auth("ts", json!(now.to_string()))),
            ("a fraction of a millisecond", auth("ts", json!(now as f64 + 0.5))),
            ("another time stamp", auth("ts", json!(now + 1))),
            ("no nonce", without("nonce")),
            ("another nonce", auth("nonce", json!("another"))),
            ("a nonce that is no string", auth("nonce", json!(7))),
            ("no signature", without("sig")),
            ("a short signature", auth("sig", json!("AAAA"))),
            ("a signature of zeros", auth("sig", json!("A".repeat(86)))),
            (
                "an address of another key",
                changed(&|message| message["address"] = json!(Identity::new(2).address)),
            ),
            ("an address that is no commitment", changed(&|message| message["address"] = json!("short"))),
        ];
        for auth in [json!(null), json!([]), json!("x"), json!({})] {
            wrong.push(("auth of another type", changed(&|message| message["auth"] = auth.clone())));
        }
        for (what, auth) in signed_otherwise {
            wrong.push((what, changed(&|message| message["auth"] = auth.clone())));
        }
        for (what, message) in wrong {
            assert_eq!(outcome(net, &message), (vec![], Some(Reason::RegisterAuth)), "{what}");
        }
        assert_eq!(outcome(net, &good), (vec![identity.registered()], None));
    });
}

#[test]
fn a_time_stamp_may_be_five_minutes_off_either_way_and_no_more() {
    on_one_and_four_shards(|net| {
        let now = net.now.unix_ms as i64;
        for (number, offset) in [-300_000, 300_000].into_iter().enumerate() {
            let identity = Identity::new(number as u64);
            let message = identity.register_at(now + offset);
            assert_eq!(outcome(net, &message), (vec![identity.registered()], None), "{offset}");
        }
        for offset in [-300_001, 300_001, i64::MIN / 2, i64::MAX / 2] {
            let message = Identity::new(9).register_at(now.saturating_add(offset));
            assert_eq!(outcome(net, &message), (vec![], Some(Reason::RegisterAuth)), "{offset}");
        }
    });
}

#[test]
fn a_time_stamp_may_be_spelled_as_any_integer_of_javascript() {
    on_one_and_four_shards(|net| {
        for (number, spelling) in ["1700000000000.0", "1.7e12", "17e11", "1700000000000"].iter().enumerate() {
            let identity = Identity::new(number as u64);
            let text = identity.register_at(1_700_000_000_000).to_string();
            let sock = net.open();
            net.say_text(sock, &text.replace("\"ts\":1700000000000", &format!("\"ts\":{spelling}")));
            assert_eq!(net.heard(sock), [identity.registered()], "{spelling}");
        }
    });
}

#[test]
fn the_origin_is_the_configured_one_or_else_the_host_of_the_upgrade() {
    let identity = Identity::new(1);
    for (configured, signed, upgraded, verifies) in [
        (None, "a.example", "a.example", true),
        (None, "a.example", "b.example", false),
        (Some("c.example"), "c.example", "b.example", true),
        (Some("c.example"), "b.example", "b.example", false),
    ] {
        let origin = configured.map(str::to_owned);
        let mut net = Net::new(4, crate::dialect::link::LinkConfig { origin, ..config() });
        let ts = net.now.unix_ms as i64;
        for number in 0..2 {
            // The second time as a control socket: it remembers what it was upgraded under.
            let sock = net.open_as(number, "192.0.2.1", upgraded);
            for ts in [ts + 2 * i64::from(number), ts + 2 * i64::from(number) + 1] {
                let auth = identity.auth(ts, signed);
                net.say(sock, &json!({"type": "register", "address": identity.address, "auth": auth}));
            }
            assert_eq!(net.heard(sock).len(), if verifies { 2 } else { 0 });
            assert_eq!(net.closed(sock), (!verifies).then_some(Reason::RegisterAuth));
        }
    }
}

#[test]
fn in_closed_mode_a_verified_key_that_is_not_listed_is_4010() {
    for shards in [1, 4] {
        let (listed, other) = (Identity::new(1), Identity::new(2));
        let policy = SharedPolicy::new(0, AllowList::parse([&*listed.public_key()]));
        let mut net = Net::with_policy(shards, config(), policy);
        let message = listed.register(&net);
        assert_eq!(outcome(&mut net, &message), (vec![listed.registered()], None));
        let message = other.register(&net);
        assert_eq!(outcome(&mut net, &message), (vec![], Some(Reason::RegisterUnauthorized)));
        // What does not verify is 4007, listed or not.
        let message = other.register_at(0);
        assert_eq!(outcome(&mut net, &message), (vec![], Some(Reason::RegisterAuth)));
    }
}

#[test]
fn a_key_taken_off_the_list_closes_its_holders_4010_and_nobody_else() {
    on_one_and_four_shards(|net| {
        let identities: Vec<Identity> = (0..8).map(Identity::new).collect();
        let hosts: Vec<Sock> = identities.iter().map(|identity| registered(net, identity)).collect();
        let (client, _) = resolved(net, &identities[0], hosts[0]);
        let keys: Vec<String> = identities[1..].iter().map(Identity::public_key).collect();
        net.allow(&keys.join("\n"));
        assert_eq!(net.closed(hosts[0]), Some(Reason::RegisterUnauthorized));
        assert_eq!(net.closed(client), Some(Reason::PeerGone));
        assert!(hosts[1..].iter().all(|host| net.is_open(*host)));
        // An empty list is open mode.
        net.allow("");
        assert!(hosts[1..].iter().all(|host| net.is_open(*host)));
    });
}

#[test]
fn a_time_stamp_that_is_not_newer_is_register_stale_and_leaves_the_holder_alone() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let now = net.now.unix_ms as i64;
        let host = registered(net, &identity);
        for (ts, own) in [(now, true), (now, false), (now - 1, true), (now - 1, false)] {
            let sock = if own { host } else { net.open() };
            net.say(sock, &identity.register_at(ts));
            assert_eq!(net.heard(sock), [error("register_stale")], "{ts} {own}");
            assert!(net.is_open(sock) && net.is_open(host));
        }
        resolved(net, &identity, host);
    });
}

#[test]
fn a_connection_whose_register_was_stale_has_no_role_yet() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let host = registered(net, &identity);
        let second = net.open();
        net.say(second, &identity.register(net));
        assert_eq!(net.heard(second), [error("register_stale")]);
        assert!(!net.is_settled(second));
        net.say(second, &identity.resolve());
        assert_eq!(net.heard(second)[0]["type"], "found");
        assert!(net.is_open(host));
    });
}

#[test]
fn a_newer_register_on_another_socket_replaces_the_holder_with_4005() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let now = net.now.unix_ms as i64;
        let first = registered(net, &identity);
        let second = net.open();
        net.say(second, &identity.register_at(now + 1));
        assert_eq!(net.heard(second), [identity.registered()]);
        assert_eq!(net.closed(first), Some(Reason::Replaced));
        assert!(net.is_open(second));
        // The first one's going does not take the address from the second.
        resolved(net, &identity, second);
    });
}

#[test]
fn the_links_of_a_replaced_host_that_do_not_relay_yet_die() {
    on_one_and_four_shards(|net| {
        let scene = introduced(net, 1);
        let waiting = pending(net, 2);
        let message = scene.identity.register_at(net.now.unix_ms as i64 + 1);
        let second = net.open();
        net.say(second, &message);
        assert_eq!(net.closed(scene.client), Some(Reason::PeerGone));
        assert!(net.is_open(waiting.client) && net.is_open(second));
    });
}

#[test]
fn a_newer_register_on_the_same_socket_refreshes_it() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let now = net.now.unix_ms as i64;
        let host = registered(net, &identity);
        net.say(host, &identity.register_at(now + 5));
        assert_eq!(net.heard(host), [identity.registered()]);
        assert!(net.is_open(host));
        // It is the newer time stamp that counts now.
        let other = net.open();
        net.say(other, &identity.register_at(now + 5));
        assert_eq!(net.heard(other), [error("register_stale")]);
    });
}

#[test]
fn an_address_is_forgotten_with_its_socket_and_its_time_stamp_too() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let host = registered(net, &identity);
        net.close(host, Reason::PeerReset);
        let client = net.open();
        net.say(client, &identity.resolve());
        assert_eq!(net.heard(client), [error("unknown_address")]);
        let again = net.open();
        net.say(again, &identity.register_at(net.now.unix_ms as i64 - 1000));
        assert_eq!(net.heard(again), [identity.registered()]);
    });
}

#[test]
fn a_socket_may_hold_several_addresses_and_loses_them_all_at_its_end() {
    on_one_and_four_shards(|net| {
        let identities: Vec<Identity> = (0..12).map(Identity::new).collect();
        let host = registered(net, &identities[0]);
        for identity in &identities[1..] {
            net.say(host, &identity.register(net));
            assert_eq!(net.heard(host), [identity.registered()]);
        }
        for identity in &identities {
            let client = net.open();
            net.say(client, &identity.resolve());
            assert_eq!(net.heard(client)[0]["type"], "found");
            let arrived = net.heard(host);
            assert_eq!(arrived[0]["address"], json!(identity.address));
        }
        net.close(host, Reason::PeerEnded);
        assert_eq!(net.gauges().iter().map(|gauges| gauges.addresses).sum::<u64>(), 0);
    });
}

#[test]
fn a_socket_that_would_hold_too_many_addresses_is_closed() {
    on_one_and_four_shards(|net| {
        let host = registered(net, &Identity::new(0));
        for number in 1..ADDRESSES_PER_SOCKET_MAX {
            net.say(host, &Identity::new(number as u64).register(net));
        }
        assert_eq!(net.heard(host).len(), ADDRESSES_PER_SOCKET_MAX - 1);
        // One that it has may still be refreshed.
        net.advance(Duration::from_millis(5));
        net.say(host, &Identity::new(3).register(net));
        assert_eq!(net.heard(host), [Identity::new(3).registered()]);
        net.say(host, &Identity::new(ADDRESSES_PER_SOCKET_MAX as u64).register(net));
        assert_eq!(net.closed(host), Some(Reason::Overloaded));
    });
}

#[test]
fn checks_of_register_run_in_the_contracts_order() {
    for shards in [1, 4] {
        let identity = Identity::new(1);
        let policy = SharedPolicy::new(1, AllowList::parse(["someone-elses-key"]));
        let mut net = Net::with_policy(shards, config(), policy);
        let now = net.now.unix_ms as i64;
        let mut from = |ip: &str, message: &Value| {
            let sock = net.open_as(0, ip, HOST);
            net.say(sock, message);
            net.closed(sock)
        };
        let unlisted = identity.register_at(now);
        let unsigned = json!({"type": "register", "address": identity.address});
        let shapeless = json!({"type": "register", "address": ""});
        assert_eq!(from("192.0.2.1", &shapeless), Some(Reason::BadRequest), "shape before auth");
        assert_eq!(from("192.0.2.1", &shapeless), Some(Reason::RateLimited), "budget before shape");
        assert_eq!(from("192.0.2.2", &unsigned), Some(Reason::RegisterAuth), "auth before allow-list");
        assert_eq!(from("192.0.2.3", &unlisted), Some(Reason::RegisterUnauthorized));
        assert_eq!(from("192.0.2.3", &unlisted), Some(Reason::RateLimited));
    }
}

#[test]
fn addresses_over_the_bound_close_who_registers_them_and_come_back_with_their_hosts() {
    for shards in [1, 4] {
        let bounds = PlaceBounds { all: Some(4), per_ip: Some(3) };
        let policy = SharedPolicy::new(0, AllowList::default()).with_addresses(bounds);
        let mut net = Net::with_policy(shards, config(), policy);
        let host = registered(&mut net, &Identity::new(0));
        for number in 1..3 {
            net.say(host, &Identity::new(number).register(&net));
            assert_eq!(net.heard(host), [Identity::new(number).registered()]);
        }
        let ninth = Identity::new(9).register(&net);
        // Three of this IP: a control socket and a new one are closed, others are none the worse.
        assert_eq!(outcome(&mut net, &ninth).1, Some(Reason::TooManyAddressesPerIp));
        let elsewhere = net.open_as(0, "192.0.2.2", HOST);
        net.say(elsewhere, &Identity::new(3).register(&net));
        assert_eq!(net.heard(elsewhere), [Identity::new(3).registered()]);
        let fifth = net.open_as(0, "192.0.2.3", HOST);
        net.say(fifth, &Identity::new(4).register(&net));
        assert_eq!(net.closed(fifth), Some(Reason::TooManyAddresses));
        // Four are four: who comes back for its own takes no other place.
        net.advance(Duration::from_millis(5));
        let back = net.open_as(0, "192.0.2.3", HOST);
        net.say(back, &Identity::new(3).register(&net));
        assert_eq!(net.heard(back), [Identity::new(3).registered()]);
        assert_eq!(net.closed(elsewhere), Some(Reason::Replaced));
        // A control socket that asks for one too many takes all of its own with it.
        net.say(host, &Identity::new(5).register(&net));
        assert_eq!(net.closed(host), Some(Reason::TooManyAddresses));
        assert_eq!(net.policy.addresses(), 1);
        registered(&mut net, &Identity::new(5));
        net.close_all();
        net.assert_nothing_left();
    }
}

#[test]
fn a_shard_verifies_no_more_signatures_than_it_may() {
    let mut net = Net::new(1, LinkConfig { verifications_per_sec: 3, ..config() });
    let identity = Identity::new(1);
    let now = net.now.unix_ms as i64;
    let forged = |number: i64| {
        let mut message = identity.register_at(now);
        message["auth"]["ts"] = json!(now + number);
        message
    };
    let closed = |net: &mut Net, message: &Value| outcome(net, message).1;
    // What is refused for less costs nothing.
    let mut stale = forged(-1_000_000);
    for _ in 0..5 {
        assert_eq!(closed(&mut net, &stale), Some(Reason::RegisterAuth));
    }
    stale["address"] = json!(Identity::new(2).address);
    assert_eq!(closed(&mut net, &stale), Some(Reason::RegisterAuth));
    for number in 1..=3 {
        assert_eq!(closed(&mut net, &forged(number)), Some(Reason::RegisterAuth));
    }
    let good = identity.register_at(now + 5);
    assert_eq!(closed(&mut net, &good), Some(Reason::VerificationsRateLimited));
    // Nobody is kept out for longer than it takes.
    net.advance(Duration::from_millis(334));
    assert_eq!(outcome(&mut net, &good), (vec![identity.registered()], None));
    assert_eq!(closed(&mut net, &good), Some(Reason::VerificationsRateLimited));
    net.close_all();
    net.assert_nothing_left();
}
