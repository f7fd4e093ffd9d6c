//! Real clients: a host and a client by npm `ws` do the whole introduction and move 100 MB each way
//! (`tests/node`).

mod support;

use support::{every_cell_in_turn, node};

#[test]
fn npm_ws_peers_introduce_move_100_mb_each_way_and_reconnect() {
    every_cell_in_turn(|cell| {
        let relay = cell.start();
        node::run("link.mjs", &[&format!("ws://{}", relay.address)]);
        let metrics = relay.metrics();
        for from in ["client", "host"] {
            let bytes = metrics.sum_of("longsplice_relayed_bytes_total", &[("from", from)]);
            assert!(bytes >= 100e6, "the relay counted {bytes} bytes from the {from}");
        }
        relay.until_empty();
    });
}
