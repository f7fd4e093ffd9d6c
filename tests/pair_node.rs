//! Real pair clients: npm `ws` against the relay, one scenario of `tests/node/pair.mjs` a test, and two
//! browser tabs with `docs/pair-example.html`.
//!
//! | pair.md | scenario |
//! |---|---|
//! | 2, 3: pairing, relaying, the third device, resume | `life` |
//! | 2: binary in, the dvai-bridge client's way to listen | `events` |
//! | 3: expiry | `expiry` |
//! | 1: origins | `origins` |
//! | 3: capacity | `capacity` |
//! | 3: sessions apart from each other, over all shards | `many` |
//! | back-pressure | `slow` |
//! | 3: errors | `hostile` |
//!
//! The browser test prints a note and passes where there is no Chromium.

mod support;

use support::{Cell, Setup, every_cell, every_cell_in_turn, node};

/// Runs one scenario of the script against a relay of this set-up.
fn scenario(setup: Setup, name: &str) {
    let relay = setup.start();
    node::run("pair.mjs", &[&format!("ws://{}", relay.address), name]);
    relay.until_empty();
}

#[test]
fn npm_ws_clients_pair_move_10_mb_each_way_and_come_back() {
    every_cell_in_turn(|cell| scenario(cell.setup(), "life"));
}

#[test]
fn clients_that_listen_as_dvai_bridge_does_pair() {
    every_cell(|cell| scenario(cell.setup(), "events"));
}

#[test]
fn npm_ws_clients_are_told_when_their_session_expires() {
    every_cell(|cell| scenario(cell.setup().env("SESSION_TTL_SECONDS", 5), "expiry"));
}

#[test]
fn npm_ws_clients_of_other_origins_are_refused() {
    every_cell(|cell| scenario(cell.setup().env("ALLOWED_ORIGINS", "https://app.example"), "origins"));
}

#[test]
fn npm_ws_clients_over_the_capacity_are_refused() {
    every_cell(|cell| scenario(cell.setup().env("MAX_SESSIONS", 20), "capacity"));
}

#[test]
fn npm_ws_clients_in_500_sessions_at_once_all_get_their_own_payloads() {
    every_cell_in_turn(|cell| scenario(cell.setup(), "many"));
}

#[test]
fn an_npm_ws_client_that_stops_reading_stops_its_peer_alone() {
    every_cell_in_turn(|cell| scenario(cell.setup(), "slow"));
}

#[test]
fn npm_ws_clients_are_refused_nonsense() {
    every_cell(|cell| scenario(cell.setup(), "hostile"));
}

#[test]
fn two_browser_tabs_pair_by_the_example_page() {
    let Some(chromium) = node::chromium() else {
        println!("skipped: no Chromium is in PATH");
        return;
    };
    // The second tab finds the relay by the URL in the QR code.
    let relay = Cell { driver: "epoll", shards: 4 }.setup().start_by_host_and_port();
    node::run("pair_page.mjs", &[&format!("ws://{}", relay.address), &chromium]);
    relay.until_empty();
}
