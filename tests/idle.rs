//! Connections that say nothing for long: parked, pinged, and served whenever they speak again.

mod support;

use support::{Cell, End, Host, Link, PATIENCE, Peer, Raw, Relay, eventually, every_cell};

#[test]
fn quiet_sockets_are_parked_and_served_whenever_they_speak() {
    every_cell(|cell| {
        let relay = cell.setup().flag("--park-after", "100ms").flag("--ping-interval", "600s").start();
        let mut host = Host::register(&relay);
        let mut link: Link<Raw> = host.join(&relay);
        for round in 0..3 {
            until_parked(&relay, cell, 3.0);
            // Control frames are answered, and leave them parked or bring them back for a moment only.
            link.client.ping(b"are you there?", PATIENCE);
            link.host.ping(b"are you there?", PATIENCE);
            until_parked(&relay, cell, 3.0);
            link.check();
            let long = "long ".repeat(100_000 * round);
            link.client.say(&long);
            link.host.expect_text(&long);
            let mut another: Link<Peer> = host.join(&relay);
            another.check();
            until_parked(&relay, cell, 5.0);
            another.host.close(1000);
            another.client.expect_closed(4003);
        }
        until_parked(&relay, cell, 3.0);
        drop(link.client);
        link.host.expect_closed(4003);
        if parks(cell) {
            let metrics = relay.metrics();
            assert!(metrics.sum("longsplice_parked_total") >= 11.0);
            assert!(metrics.sum("longsplice_parked_woken_total") >= 6.0);
        }
    });
}

fn parks(cell: Cell) -> bool {
    cell.driver == "io-uring"
}

fn until_parked(relay: &Relay, cell: Cell, count: f64) {
    if parks(cell) {
        eventually("parking", || relay.metrics().sum("longsplice_parked") == count);
    }
}
