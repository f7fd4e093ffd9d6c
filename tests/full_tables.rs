//! What happens when a shard has no descriptor left: nobody is refused in silence, and nothing spins.

mod support;

use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
};

use serde_json::json;
use support::{Cell, End, Heard, Host, Keys, Link, PATIENCE, Peer, Relay, eventually, every_cell_in_turn};

/// Of each shard's own table; a few are its listener, its driver and its post.
const DESCRIPTORS: u32 = 96;
const SHARDS: u16 = 2;

#[test]
fn a_client_whose_home_has_no_room_is_told_so() {
    each_driver(|relay| {
        // They are there before the tables are full, and have not said yet where they belong: all to one shard,
        // and far more of them than are kept free for those that move.
        let mut clients: Vec<Peer> = (0..60).map(|_| relay.peer()).collect();
        let crowd = fill(relay);
        let address = Keys::new().address;
        let mut refused = 0.0;
        for client in &mut clients {
            client.tell(&json!({ "type": "resolve", "address": address }));
            match client.hear(PATIENCE) {
                Heard::Text(text) => assert!(text.contains("unknown_address"), "{text}"),
                Heard::Closed(1013, _) => refused += 1.0,
                other => panic!("{other:?}"),
            }
        }
        let metrics = relay.metrics();
        let moves = |result| metrics.sum_of("longsplice_handoffs_total", &[("result", result)]);
        assert!(refused >= 1.0 && moves("received") >= 1.0, "{refused} refused, {} moved", moves("received"));
        assert_eq!(moves("failed"), refused);
        drop(clients);
        drop(crowd);
        eventually("the crowd is gone", || relay.connections() == 0);
        let mut host = Host::register(relay);
        let mut links: Vec<Link> = (0..10).map(|_| host.join(relay)).collect();
        links.iter_mut().for_each(Link::check);
    });
}

#[test]
fn a_full_shard_says_so_at_once_and_goes_on() {
    each_driver(|relay| {
        let crowd = fill(relay);
        for _ in 0..40 {
            let Some(mut late) = dial(relay) else { continue };
            late.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
            let mut answer = Vec::new();
            // Told why while there is a descriptor to tell it by, else reset; never left in the queue.
            match late.read_to_end(&mut answer) {
                Ok(_) => {
                    assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&answer))
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        drop(crowd);
        eventually("the crowd is gone", || relay.connections() == 0);
        Host::register(relay).join::<Peer, Peer>(relay).check();
    });
}

fn each_driver(scenario: impl Fn(&Relay) + Sync) {
    every_cell_in_turn(|cell| {
        if cell.shards > 1 {
            let cell = Cell { shards: SHARDS, ..cell };
            let setup = cell.setup().descriptors(DESCRIPTORS).flag("--handshake-timeout", "600s");
            scenario(&setup.flag("--role-timeout", "600s").start());
        }
    });
}

/// A connection; `None` if it was reset before this side had seen it open.
fn dial(relay: &Relay) -> Option<TcpStream> {
    match TcpStream::connect(relay.address) {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

/// Opens connections until every shard has refused one.
fn fill(relay: &Relay) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    eventually("full tables", || {
        crowd.extend((0..40).filter_map(|_| dial(relay)));
        assert!(crowd.len() < 4000, "the tables are small");
        let metrics = relay.metrics();
        (0..SHARDS).all(|shard| {
            let labels = [("shard", shard.to_string()), ("reason", "too_many_connections".to_owned())];
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
            metrics.sum_of("longsplice_refused_total", &labels) > 0.0
        })
    });
    crowd
}
