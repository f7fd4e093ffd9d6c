//! Upgrades: from the request to the 101 or to a refusal.

use std::time::Duration;

use super::site::*;
use crate::{
    admission::{TrustedProxies, WorkspaceGateSettings},
    dialect::workspace::{Ask, Claims, Denied, Metric, Role, WorkspaceConfig},
    shard::{self, Shard},
    sim::{driver::SimDriver, network::StreamId, workspace::platform::SimPlatform},
};

#[test]
fn an_upgrade_is_put_to_the_platform_by_its_workspaces_shard_and_opened_by_its_answer() {
    let mut site = Site::new(WorkspaceGateSettings::default());
    let mut askers = std::collections::BTreeSet::new();
    for number in 0..12 {
        let workspace = format!("w{number}");
        let protocols = "Sec-WebSocket-Protocol: auth.0123456789, viewport-relay-v1\r\n";
        let query = format!("role=client&workspaceId={workspace}&runtimeTargetId=rt");
        let peer = site.call(&upgrade(&query, protocols));
        assert_eq!(
            site.hear(peer),
            (String::new(), false),
            "nothing is said before the platform has answered"
        );
        let question = site.question();
        let Ask::Admit { token, request } = &question.ask else { panic!("{question:?}") };
        assert_eq!(&**token, "0123456789");
        assert_eq!((request.role, &*request.workspace_id), (Role::Client, &*workspace));
        assert_eq!(request.runtime_target_id.as_deref(), Some("rt"));
        let home = |shard: &Shard<SimDriver>| shard.dialects().workspace.as_ref().unwrap().home(&workspace);
        assert_eq!(question.shard, home(&site.shards[0]));
        askers.insert(question.shard);
        site.answer(&question, Ok(Claims::default()));
        let answer = format!("{SWITCHED}Sec-WebSocket-Protocol: viewport-relay-v1\r\n\r\n");
        let (heard, _) = site.hear(peer);
        assert!(heard.starts_with(&answer), "{heard}");
    }
    assert_eq!(askers.len(), usize::from(SHARDS), "workspaces are spread over the shards");
    assert_eq!(site.counted(Metric::AdmissionOk), 12);
}

#[test]
fn what_the_peer_says_before_the_101_is_kept_and_processed_in_order_after_it() {
    let mut site = Site::new(WorkspaceGateSettings::default());
    // Pings with masks of zeros: one right behind the head, one while the platform thinks.
    let peer = site.call("");
    let mut early = daemon("w").into_bytes();
    early.extend(b"\x89\x81\0\0\0\0a");
    site.say(peer, &early);
    site.say(peer, b"\x89\x81\0\0\0\0b");
    assert_eq!(site.hear(peer), (String::new(), false));
    let question = site.question();
    site.answer(&question, Ok(claims("w")));
    let (heard, _) = site.hear(peer);
    let frames = heard.strip_prefix(&format!("{SWITCHED}\r\n")).expect(&heard).as_bytes();
    // A pong that could not leave yet gives way to a newer one.
    let pongs: Vec<u8> = frames.iter().copied().filter(|byte| [b'a', b'b'].contains(byte)).collect();
    assert!(pongs == b"ab" || pongs == b"b", "{frames:?}");
}

#[test]
fn a_denied_upgrade_is_told_401_and_leaves_nothing() {
    let mut site = Site::new(WorkspaceGateSettings::default());
    let peer = site.call(&daemon("w"));
    assert_eq!(site.taken(), (1, 1), "a place is reserved while the platform thinks");
    let question = site.question();
    site.answer(&question, Err(Denied { status: 403, reason: "VALIDATION_FAILED".into() }));
    assert_eq!(site.hear(peer), ("HTTP/1.1 401 Unauthorized\r\n\r\n".into(), true));
    assert_eq!((site.counted(Metric::AdmissionDenied), site.taken()), (1, (0, 0)));
    site.network.borrow_mut().peer_close(peer, false);
    site.settle();
    assert_eq!(site.connections(), 0);
}

#[test]
fn a_peer_that_resets_while_the_platform_thinks_frees_everything_and_the_answer_finds_nobody() {
    let mut site = Site::new(WorkspaceGateSettings::default());
    let peer = site.call(&daemon("w"));
    let question = site.question();
    site.network.borrow_mut().peer_close(peer, true);
    site.settle();
    assert_eq!((site.connections(), site.taken()), (0, (0, 0)));
    site.answer(&question, Ok(Claims::default()));
    assert_eq!(site.connections(), 0);
}

#[test]
fn an_answer_for_a_peer_that_is_gone_admits_nobody_in_its_place() {
    let mut site = Site::with_config(WorkspaceConfig::default());
    let gone = site.call(&daemon("w"));
    let stale = site.question();
    site.network.borrow_mut().peer_close(gone, true);
    site.settle();
    let peer = site.call(&daemon("w"));
    let question = site.question();
    assert_eq!(question.conn.index, stale.conn.index, "it took the slot of the one that is gone");
    site.answer(&stale, Ok(claims("w")));
    assert_eq!(site.hear(peer), (String::new(), false), "that answer was not for it");
    site.answer(&question, Ok(claims("w")));
    assert!(site.hear(peer).0.starts_with(SWITCHED));
}

#[test]
fn an_answer_that_never_comes_is_a_401() {
    let mut site = Site::new(WorkspaceGateSettings::default());
    let peer = site.call(&daemon("w"));
    let question = site.question();
    site.wait(Duration::from_secs(8));
    assert_eq!(site.hear(peer), ("HTTP/1.1 401 Unauthorized\r\n\r\n".into(), true));
    assert_eq!((site.counted(Metric::AdmissionDenied), site.taken()), (1, (0, 0)));
    site.answer(&question, Ok(Claims::default()));
    assert_eq!(site.hear(peer), (String::new(), true), "a late answer is no answer");
}

#[test]
fn refusals_come_in_the_contracts_order_and_with_its_bytes() {
    const NOT_FOUND: &str = "";
    let mut site = Site::new(WorkspaceGateSettings {
        connections_max: 2,
        connections_per_ip_max: 1,
        upgrades_per_minute: 3,
        ..WorkspaceGateSettings::default()
    });
    let too_many = "HTTP/1.1 429 Too Many Requests\r\n\r\n";
    let full = "HTTP/1.1 503 Service Unavailable\r\n\r\n";
    let bad_query = "HTTP/1.1 400 Bad Request\r\n\r\n";
    let bad_path = "GET /nope HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let no_query = upgrade("", "");
    let ask = |site: &mut Site, ip, bytes: &str| {
        let peer = site.call_from(ip, bytes);
        site.hear(peer)
    };
    let [a, b, c, d] = [1, 2, 3, 4].map(|number| [10, 9, 0, number]);
    assert_eq!(ask(&mut site, a, bad_path), (NOT_FOUND.into(), true));
    assert_eq!(ask(&mut site, a, &no_query), (bad_query.into(), true));
    assert_eq!(ask(&mut site, a, &daemon("w")), (String::new(), false));
    assert_eq!(ask(&mut site, a, &daemon("w")), (too_many.into(), true), "the rate, with bad paths counted");
    assert_eq!(site.counted(Metric::UpgradeRateLimited), 1);
    assert_eq!(ask(&mut site, b, &daemon("w")), (String::new(), false));
    assert_eq!(ask(&mut site, b, bad_path), (full.into(), true), "the total before the address and the path");
    assert_eq!(site.counted(Metric::UpgradeRejectedTotalConnections), 1);
    let question = site.platform.take(0).unwrap();
    site.answer(&question, Err(Denied { status: 401, reason: String::new() }));
    assert_eq!(ask(&mut site, b, bad_path), (too_many.into(), true), "the address before the path");
    assert_eq!(site.counted(Metric::UpgradeRejectedIpConnections), 1);
    let no_url = "GET // HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(ask(&mut site, c, no_url), (String::new(), true));
    assert_eq!(site.counted(Metric::UpgradeErrors), 1);
    let no_token = upgrade("role=client&workspaceId=w", "");
    assert_eq!(ask(&mut site, c, &no_token), ("HTTP/1.1 401 Unauthorized\r\n\r\n".into(), true));
    assert_eq!(site.counted(Metric::UpgradeMissingAuth), 1);
    let queried = upgrade("role=client&workspaceId=w&token=0123456789", "");
    assert_eq!(ask(&mut site, d, &queried), ("HTTP/1.1 401 Unauthorized\r\n\r\n".into(), true));
}

#[test]
fn workers_take_a_place_of_their_address_only() {
    let mut site =
        Site::new(WorkspaceGateSettings { connections_max: 1, ..WorkspaceGateSettings::default() });
    let worker = upgrade("role=worker&workspaceId=w", "Authorization: Bearer 0123456789\r\n");
    let _ = site.call(&worker);
    assert_eq!(site.taken(), (0, 1));
}

#[test]
fn a_full_line_to_the_platform_is_a_401_at_once() {
    let mut site = Site::with_platform(WorkspaceGateSettings::default(), SimPlatform::new(1));
    let first = site.call(&daemon("w"));
    assert_eq!(site.hear(first), (String::new(), false));
    let second = site.call(&daemon("w2"));
    assert_eq!(site.hear(second), ("HTTP/1.1 401 Unauthorized\r\n\r\n".into(), true));
    assert_eq!(site.taken(), (1, 1));
}

#[test]
fn a_trusted_proxy_says_whose_address_counts() {
    let mut site = Site::new(WorkspaceGateSettings {
        connections_per_ip_max: 1,
        trusted_proxies: TrustedProxies::parse("10.0.0.0/8"),
        ..WorkspaceGateSettings::default()
    });
    let from = |client: &str| {
        let more = format!("Authorization: Bearer 0123456789\r\nX-Forwarded-For: {client}\r\n");
        upgrade("role=client&workspaceId=w", &more)
    };
    let first = site.call(&from("203.0.113.1"));
    assert_eq!(site.hear(first), (String::new(), false));
    let second = site.call(&from("203.0.113.1, 10.0.0.1"));
    assert_eq!(site.hear(second), ("HTTP/1.1 429 Too Many Requests\r\n\r\n".into(), true));
    let third = site.call(&from("203.0.113.2"));
    assert_eq!(site.hear(third), (String::new(), false));
}

#[test]
fn a_relay_that_stops_refuses_whoever_waits() {
    let mut site = Site::new(WorkspaceGateSettings::default());
    let peers: Vec<StreamId> = (0..6).map(|number| site.call(&daemon(&format!("w{number}")))).collect();
    for number in 0..SHARDS {
        site.relay.mailboxes.put(number, shard::mail::Mail::Stop);
    }
    site.settle();
    for peer in peers {
        assert_eq!(site.hear(peer), ("HTTP/1.1 503 Service Unavailable\r\n\r\n".into(), true));
    }
    assert_eq!(site.taken(), (0, 0));
}

#[test]
fn an_upgrade_to_something_else_is_a_plain_request_but_at_the_dialects_path() {
    let mut site = Site::new(WorkspaceGateSettings::default());
    let h2c = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
        )
    };
    let peer = site.call(&h2c("/health"));
    assert!(site.hear(peer).0.starts_with("HTTP/1.1 200 OK"));
    let path = "/x/../ws?role=client&workspaceId=w&runtimeTargetId=t";
    let request = h2c(path).replace("Host: a", "Host: a\r\nAuthorization: bearer 0123456789");
    let peer = site.call(&request);
    let (heard, ended) = site.hear(peer);
    assert!(heard.starts_with("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n") && ended, "{heard}");
    assert!(heard.ends_with("\r\n\r\nInvalid Upgrade header"), "{heard}");
}
