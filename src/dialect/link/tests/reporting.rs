//! `usage` (link.md sections 3 and 7) and `/v1/stats` (section 8).

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{LinkConfig, stats_json},
    net::*,
    people::*,
};
use crate::{
    limits::{ANSWER_TIMEOUT, STATS_CLOSED_MAX, STATS_LINKS_MAX},
    pacing::{Leg, Rates},
    reason::Reason,
    time::Time,
};

const SECOND: Duration = Duration::from_secs(1);

/// An allowance of 36,000 bytes an hour, of which ten come back each second.
fn with_quota() -> LinkConfig {
    LinkConfig { rates: Rates { rate_bps: 0, hourly_bytes: 36_000, trickle_bps: 1000 }, ..config() }
}

fn get_usage() -> Value {
    json!({"type": "getUsage"})
}

fn usage(connections: &[Value]) -> Value {
    json!({"type": "usage", "connections": connections})
}

#[test]
fn get_usage_without_a_quota_lists_relaying_links_as_unlimited() {
    on_one_and_four_shards(|net| {
        let (scene, _end) = joined(net, 1);
        let (client, link) = resolved(net, &scene.identity, scene.host);
        net.say(client, &relay(&link));
        net.heard(scene.host);
        net.say(scene.host, &get_usage());
        // The one that is pending is not in it, nor is another host's.
        joined(net, 2);
        assert_eq!(net.heard(scene.host), [usage(&[json!({"linkId": scene.link, "unlimited": true})])]);
    });
}

#[test]
fn get_usage_with_a_quota_tells_the_used_share_and_whether_it_is_throttled() {
    for shards in [1, 4] {
        let mut net = Net::new(shards, with_quota());
        let (scene, end) = joined(&mut net, 1);
        net.relay_bytes(end, Leg::Host, 12_345);
        net.say(scene.host, &get_usage());
        let entry = json!({"linkId": scene.link, "used": 0.3429, "throttled": false});
        assert_eq!(net.heard(scene.host), [usage(&[entry])]);
        // What has come back since is counted.
        net.advance(100 * SECOND);
        net.say(scene.host, &get_usage());
        assert_eq!(net.heard(scene.host)[0]["connections"][0]["used"], 0.3151);
        net.relay_bytes(scene.client, Leg::Client, 25_000);
        net.heard(scene.host);
        net.say(scene.host, &get_usage());
        let entry = json!({"linkId": scene.link, "used": 1, "throttled": true});
        assert_eq!(net.heard(scene.host).len(), 1);
        net.say(scene.host, &get_usage());
        let heard = net.heard(scene.host);
        assert_eq!(heard[0]["connections"][0]["throttled"], entry["throttled"]);
        assert_eq!(heard[0]["connections"][0]["used"].as_f64(), Some(1.0));
    }
}

#[test]
fn a_host_hears_of_its_usage_when_it_crosses_a_step_either_way() {
    for shards in [1, 4] {
        let mut net = Net::new(shards, with_quota());
        let (scene, end) = joined(&mut net, 1);
        for (bytes, told) in [(17_000, false), (1_300, true), (10_800, true), (5_400, true), (1_800, true)] {
            net.relay_bytes(end, Leg::Host, bytes);
            let heard = net.heard(scene.host);
            assert_eq!(heard.len(), usize::from(told), "{bytes}: {heard:?}");
            assert!(heard.iter().all(|message| message["type"] == "usage"));
            net.advance(2 * SECOND);
        }
        // Back under a step, as is found with the next byte.
        net.advance(100 * SECOND);
        net.relay_bytes(scene.client, Leg::Client, 1);
        assert_eq!(net.heard(scene.host).len(), 1);
    }
}

#[test]
fn a_link_causes_at_most_one_push_a_second_and_the_last_news_come_through() {
    for shards in [1, 4] {
        let mut net = Net::new(shards, with_quota());
        let (scene, end) = joined(&mut net, 1);
        let idle_timers = net.timers_armed();
        net.relay_bytes(end, Leg::Host, 18_000);
        assert_eq!(net.heard(scene.host).len(), 1);
        assert_eq!(net.timers_armed(), idle_timers, "nothing is armed without news that wait");
        net.advance(SECOND / 4);
        net.relay_bytes(end, Leg::Host, 11_000);
        net.advance(SECOND / 4);
        net.relay_bytes(end, Leg::Host, 7_000);
        assert_eq!(net.heard(scene.host), Vec::<Value>::new());
        net.advance(SECOND / 2 - Duration::from_millis(2));
        assert_eq!(net.heard(scene.host), Vec::<Value>::new());
        net.advance(Duration::from_millis(3));
        let heard = net.heard(scene.host);
        assert_eq!(heard.len(), 1);
        assert!(heard[0]["connections"][0]["used"].as_f64() > Some(0.99), "{heard:?}");
        net.advance(5 * SECOND);
        assert_eq!(net.heard(scene.host), Vec::<Value>::new());
        assert_eq!(net.timers_armed(), idle_timers);
    }
}

#[test]
fn news_that_wait_go_with_their_link() {
    for shards in [1, 4] {
        let mut net = Net::new(shards, with_quota());
        let (scene, end) = joined(&mut net, 1);
        net.relay_bytes(end, Leg::Host, 18_000);
        net.heard(scene.host);
        net.relay_bytes(end, Leg::Host, 11_000);
        net.close(end, Reason::PeerClosed);
        net.advance(2 * SECOND);
        assert_eq!(net.heard(scene.host), Vec::<Value>::new());
        net.close_all();
        net.assert_nothing_left();
    }
}

#[test]
fn a_host_that_is_gone_hears_no_news() {
    for shards in [1, 4] {
        let mut net = Net::new(shards, with_quota());
        let (scene, end) = joined(&mut net, 1);
        net.relay_bytes(end, Leg::Host, 18_000);
        net.relay_bytes(end, Leg::Host, 11_000);
        net.close(scene.host, Reason::PeerReset);
        net.advance(2 * SECOND);
        net.relay_bytes(end, Leg::Host, 6_000);
        assert!(net.is_open(end));
        net.close_all();
        net.assert_nothing_left();
    }
}

/// A control socket on shard 0 with a relaying link on each of the shards 0 to 2, and the host's ends of
/// them.
fn with_links_on_three_shards(net: &mut Net) -> (Sock, Vec<(String, Sock)>) {
    let identities: Vec<Identity> = (0..3).map(|shard| Identity::at_home_on(net, shard, 0)).collect();
    let host = registered(net, &identities[0]);
    let mut links = Vec::new();
    for identity in &identities {
        if !links.is_empty() {
            net.say(host, &identity.register(net));
        }
        let (client, link) = resolved(net, identity, host);
        net.say(client, &relay(&link));
        let end = net.open();
        net.say(end, &accept(&link));
        links.push((link, end));
    }
    net.heard(host);
    (host, links)
}

fn links_in(usage: &Value) -> Vec<&str> {
    let connections = usage["connections"].as_array().expect("a usage message").iter();
    connections.map(|entry| entry["linkId"].as_str().expect("an id")).collect()
}

#[test]
fn get_usage_gathers_over_shards_while_its_host_is_held() {
    let mut net = Net::new(4, config());
    let (host, links) = with_links_on_three_shards(&mut net);
    net.letters_wait = true;
    net.say(host, &get_usage());
    assert!(net.is_held(host));
    assert_eq!(net.heard(host), Vec::<Value>::new());
    net.letters_wait = false;
    net.settle();
    let heard = net.heard(host);
    assert_eq!(heard.len(), 1);
    let mut told = links_in(&heard[0]);
    told.sort_unstable();
    let mut expected: Vec<&str> = links.iter().map(|(link, _)| &**link).collect();
    expected.sort_unstable();
    assert_eq!(told, expected);
    net.assert_quiet();
}

#[test]
fn a_shard_that_does_not_answer_is_left_out_of_usage() {
    let mut net = Net::new(4, config());
    let (host, links) = with_links_on_three_shards(&mut net);
    net.letters_wait = true;
    net.say(host, &get_usage());
    net.advance(ANSWER_TIMEOUT + Duration::from_millis(1));
    let heard = net.heard(host);
    assert_eq!(links_in(&heard[0]), [&*links[0].0]);
    assert!(net.is_open(host) && !net.is_held(host));
    // Its answer, when it comes at last, is not taken for that to the next question.
    net.say(host, &get_usage());
    net.letters_wait = false;
    net.settle();
    let heard = net.heard(host);
    let told: std::collections::BTreeSet<&str> = links_in(&heard[0]).into_iter().collect();
    assert_eq!((heard.len(), told.len()), (1, 3), "each of the three links once");
}

#[test]
fn news_from_another_shard_push_a_full_usage_message() {
    let mut net = Net::new(4, with_quota());
    let (host, links) = with_links_on_three_shards(&mut net);
    net.relay_bytes(links[2].1, Leg::Host, 20_000);
    let heard = net.heard(host);
    assert_eq!((heard.len(), links_in(&heard[0]).len()), (1, 3));
    let entry = heard[0]["connections"].as_array().expect("a list").iter();
    let used: Vec<f64> =
        entry.filter_map(|entry| entry["used"].as_f64()).filter(|used| *used > 0.0).collect();
    assert_eq!(used, [0.5556]);
}

#[test]
fn news_of_a_host_that_is_gone_write_no_letters() {
    let mut net = Net::new(4, with_quota());
    let (host, links) = with_links_on_three_shards(&mut net);
    net.close(host, Reason::PeerReset);
    let letters = net.letters;
    net.relay_bytes(links[2].1, Leg::Host, 20_000);
    net.close(links[1].1, Reason::PeerClosed);
    assert_eq!(net.letters, letters);
    net.close_all();
    net.assert_nothing_left();
}

#[test]
fn news_that_come_while_a_usage_message_is_made_make_another() {
    let mut net = Net::new(4, with_quota());
    let (host, links) = with_links_on_three_shards(&mut net);
    net.letters_wait = true;
    net.relay_bytes(links[0].1, Leg::Host, 20_000);
    net.relay_bytes(links[0].1, Leg::Host, 1);
    net.say(host, &get_usage());
    assert!(net.is_held(host));
    net.relay_bytes(links[1].1, Leg::Host, 20_000);
    net.letters_wait = false;
    net.settle();
    // One for the news and the question, one for the later news.
    assert_eq!(net.heard(host).len(), 2);
    net.assert_quiet();
    net.close_all();
    net.assert_nothing_left();
}

#[test]
fn stats_are_those_of_the_contract() {
    for shards in [1, 4] {
        let mut net = Net::new(shards, with_quota());
        let waiting = pending(&mut net, 1);
        let (scene, end) = joined(&mut net, 2);
        let (over, over_end) = joined(&mut net, 3);
        net.relay_bytes(end, Leg::Host, 18_000);
        net.relay_bytes(scene.client, Leg::Client, 7);
        net.relay_bytes(over_end, Leg::Host, 11);
        net.advance(Duration::from_millis(1234));
        net.close(over.client, Reason::PeerClosed);
        let stats = net.stats();
        let (bytes_seen, closed_at) =
            (json!({"fromHost": 18_011, "fromClient": 7}), "2023-11-14T22:13:21.234Z");
        assert_eq!(stats["uptimeSec"], 6);
        assert_eq!(stats["addressRegistrations"], 3);
        assert_eq!(stats["links"], json!({"live": 2, "relaying": 1, "total": 3, "totalRelayed": 2}));
        assert_eq!(stats["bytesRelayed"], bytes_seen);
        let started = "2023-11-14T22:13:20.000Z";
        let mut live = stats["liveLinks"].as_array().expect("a list").clone();
        live.sort_by_key(|link| link["state"].to_string());
        assert_eq!(
            live[0].clone().normal(),
            json!({
                "linkId": waiting.link[..8], "state": "pending", "startedAt": started,
                "bytesFromHost": 0, "bytesFromClient": 0, "usedFraction": 0, "throttled": false,
            })
            .normal()
        );
        assert_eq!(
            live[1].clone().normal(),
            json!({
                "linkId": scene.link, "state": "relaying", "startedAt": started, "relayStartedAt": started,
                "bytesFromHost": 18_000, "bytesFromClient": 7, "usedFraction": 0.4999, "throttled": false,
            })
            .normal()
        );
        assert_eq!(
            stats["recentlyClosed"],
            json!([{
                "linkId": over.link, "relayStartedAt": started, "closedAt": closed_at, "reason": "peer_gone",
                "bytesFromHost": 11, "bytesFromClient": 0,
            }])
        );
        assert_eq!(stats["liveLinksTruncated"], Value::Null);
        assert_eq!(stats["shardsMissing"], Value::Null);
        // Never an address or a key.
        let text = stats.to_string();
        assert!(!text.contains(&scene.identity.address) && !text.contains(&scene.identity.public_key()));
    }
}

trait Normal {
    fn normal(self) -> Self;
}

impl Normal for Value {
    /// With whole numbers written alike.
    fn normal(self) -> Value {
        match self {
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (name, value.normal())).collect()
            }
            Value::Number(number) => json!(number.as_f64()),
            other => other,
        }
    }
}

#[test]
fn recently_closed_links_are_the_newest_32_that_relayed_with_their_reasons() {
    on_one_and_four_shards(|net| {
        let scene = introduced(net, 999);
        net.close(scene.client, Reason::PeerClosed);
        assert_eq!(net.stats()["recentlyClosed"], json!([]));
        let mut links = Vec::new();
        for number in 0..STATS_CLOSED_MAX as u64 + 4 {
            let (scene, end) = joined(net, number);
            net.advance(Duration::from_millis(10));
            let reason = [Reason::PeerReset, Reason::SlowPeer, Reason::LinkIdle, Reason::ProtocolError]
                [number as usize % 4];
            net.close(end, reason);
            links.push(scene.link);
        }
        assert!(net.stats_parts().iter().all(|part| part.closed.len() <= STATS_CLOSED_MAX));
        let stats = net.stats();
        let closed = stats["recentlyClosed"].as_array().expect("a list");
        assert_eq!(closed.len(), STATS_CLOSED_MAX);
        for (entry, (number, link)) in closed.iter().zip(links.iter().enumerate().rev()) {
            assert_eq!(entry["linkId"], json!(link));
            assert_eq!(entry["reason"], ["peer_gone", "slow_peer", "idle", "peer_gone"][number % 4]);
        }
    });
}

#[test]
fn live_links_are_capped_and_shards_that_are_missing_are_named() {
    on_one_and_four_shards(|net| {
        let identity = Identity::new(1);
        let host = registered(net, &identity);
        for _ in 0..STATS_LINKS_MAX {
            resolved(net, &identity, host);
        }
        assert_eq!(net.stats()["liveLinksTruncated"], Value::Null);
        resolved(net, &identity, host);
        let stats = net.stats();
        assert_eq!(stats["liveLinksTruncated"], true);
        assert_eq!(stats["liveLinks"].as_array().map(Vec::len), Some(STATS_LINKS_MAX));
        assert_eq!(stats["links"]["live"], STATS_LINKS_MAX + 1);
        let parts = net.stats_parts();
        let stats: Value = serde_json::from_str(&stats_json(parts, &[2, 5], net.now, Time(0))).expect("JSON");
        assert_eq!(stats["shardsMissing"], json!([2, 5]));
    });
}
