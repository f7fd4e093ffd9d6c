//! Sections 2.2 and 20: what the dialect tells of itself.

use std::time::Duration;

use super::{
    super::{Gauges, Scope, ScopeState},
    net::{Net, T, W, Who, init},
};
use crate::reason::Reason;

#[test]
fn records_are_listed_in_the_order_in_which_they_were_made() {
    let mut net = Net::with(|config| config.state_names_clients = true);
    let made_at = net.now.at;
    let first = net.join(Who::daemon().workspace("w9"));
    assert!(!net.workspace.seats.is_empty());
    net.join(Who::worker("e1").workspace("w5"));
    net.advance(Duration::from_secs(2));
    let later = net.now;
    let who = Who::client(Scope::Runtime, "c1").workspace("w1");
    let (one, _two) = (net.join(who.clone()), net.join(who.clone()));
    net.join(who.clone().claims(|claims| claims.client_id = Some("c2".into())));
    let state =
        |made_at, workspace_id: &str, target: Option<&str>, daemon, clients: &[&str], unix_ms| ScopeState {
            made_at,
            workspace_id: workspace_id.into(),
            runtime_target_id: target.map(Box::from),
            daemon_connected: daemon,
            clients: clients.len(),
            client_ids: Some(clients.iter().map(|id| Box::from(*id)).collect()),
            active_at_unix_ms: unix_ms,
        };
    let early = later.unix_ms - 2000;
    let want = [
        state(made_at, "w9", Some("rt1"), true, &[], early),
        state(made_at, "w5", None, false, &[], early),
        state(later.at, "w1", Some("rt1"), false, &["c1", "c1", "c2"], later.unix_ms),
    ];
    assert_eq!(net.workspace.state(), want);
    // The oldest ends and is made again: it is the youngest then.
    net.close(first);
    net.close(one);
    net.advance(Duration::from_secs(160));
    let again = net.join(Who::daemon().workspace("w9"));
    let names: Vec<_> = net.workspace.state().into_iter().map(|scope| scope.workspace_id).collect();
    assert_eq!(names, ["w1".into(), "w9".into()] as [Box<str>; 2]);
    assert_eq!(net.workspace.state()[0].client_ids, Some(vec!["c1".into(), "c2".into()]));
    net.close(again);
    net.close_all();
    assert!(!net.workspace.is_empty(), "records outlive their connections");
    net.assert_nothing_left();
}

#[test]
fn what_breaks_the_protocol_is_told_of_daemons_and_clients() {
    let mut net = Net::new();
    for (reason, error) in [
        (Reason::ProtocolError, Some("invalid WebSocket frame")),
        (Reason::BadUtf8, Some("invalid UTF-8 in a text message")),
        (Reason::MessageTooBig, Some("message over the limit")),
        (Reason::PeerClosed, None),
    ] {
        for (who, event, is_told) in [
            (Who::daemon(), "daemon_ws_error", true),
            (Who::client(Scope::Runtime, "c1"), "client_ws_error", true),
            (Who::worker("e1"), "", false),
        ] {
            let conn = net.join(who);
            net.notes.clear();
            net.close_for(conn, reason);
            let told = net.notes.drain(..).find(|note| note.details.error.is_some());
            let told = told.map(|note| (note.event, note.details.error.expect("it has one")));
            assert_eq!(told, error.filter(|_| is_told).map(|error| (event, error.into())));
        }
    }
    net.assert_nothing_left();
}

#[test]
fn what_is_over_is_forgotten_also_while_its_record_lives_on() {
    let mut net = Net::new();
    let (daemon, client) = (net.join(Who::daemon()), net.join(Who::client(Scope::Runtime, "c1")));
    net.pass(client, &init("r1"), daemon);
    let waiting =
        |net: &Net| net.workspace.scopes.find(W, Some(T)).expect("it has members").key_exchanges.len();
    assert_eq!(waiting(&net), 1);
    net.advance(Duration::from_secs(300));
    assert_eq!(waiting(&net), 0);
    assert_eq!((net.closed(daemon), net.closed(client)), (None, None));
    net.assert_nothing_left();
}

#[test]
fn clients_are_named_only_where_that_is_wanted() {
    let mut net = Net::new();
    net.join(Who::client(Scope::Runtime, "c1"));
    let state = net.workspace.state();
    assert_eq!((state[0].clients, &state[0].client_ids), (1, &None));
    net.assert_nothing_left();
}

#[test]
fn gauges_are_absent_until_there_was_something_or_a_cleanup() {
    let mut net = Net::new();
    assert_eq!(net.workspace.gauges(net.now.at), None);
    net.open(Who::daemon().no_target());
    assert_eq!(net.workspace.gauges(net.now.at), None, "a refusal is nothing");
    let daemon = net.join(Who::daemon());
    net.join(Who::worker("e1"));
    net.join(Who::client(Scope::Pairing, "c1"));
    let gauges = |connections, workspaces| Some(Gauges { connections, workspaces });
    assert_eq!(net.workspace.gauges(net.now.at), gauges(2, 2), "workers are not counted");
    net.close(daemon);
    assert_eq!(net.workspace.gauges(net.now.at), gauges(1, 2));
    net.assert_nothing_left();
    let mut idle = Net::new();
    idle.advance(Duration::from_secs(30));
    assert_eq!(idle.workspace.gauges(idle.now.at), gauges(0, 0));
}

#[test]
fn a_kick_names_all_connections_of_a_workspace() {
    let mut net = Net::new();
    let mut of_it = vec![
        net.join(Who::daemon()),
        net.join(Who::daemon().target("rt2")),
        net.join(Who::client(Scope::Pairing, "c1").no_target()),
        net.join(Who::worker("e1")),
    ];
    of_it.push(net.open(Who::daemon()));
    net.join(Who::daemon().workspace("w2"));
    assert_eq!(net.workspace.kick("w1"), of_it);
    assert_eq!(net.workspace.kick("w"), []);
    net.assert_nothing_left();
}
