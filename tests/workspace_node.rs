//! Real workspace clients: npm `ws` against the relay, one scenario of `tests/node/workspace.mjs` a test, and a
//! browser's page.
//!
//! | workspace.md | scenario |
//! |---|---|
//! | 27.3: the minimal dialogue | `dialogue` |
//! | 3.3, 3.4: tokens as browsers send them | `browser`, and the page |
//! | 9: a worker's requests | `worker` |
//! | 14: presence | `viewers` |
//! | 12: isolation | `many` |
//!
//! The browser test prints a note and passes where there is no Chromium.

mod support;

use support::{Cell, every_cell, every_cell_in_turn, node, platform::Platform, workspace::setup};

/// Runs one scenario of the script against a relay.
fn scenario(cell: Cell, name: &str) {
    let platform = Platform::start();
    let relay = setup(cell, &platform).start();
    node::run("workspace.mjs", &[&format!("ws://{}", relay.address), name]);
    relay.until_empty();
}

#[test]
fn an_npm_ws_daemon_and_client_hold_the_minimal_dialogue() {
    every_cell(|cell| scenario(cell, "dialogue"));
}

#[test]
fn npm_ws_clients_with_tokens_in_the_subprotocols_connect() {
    every_cell(|cell| scenario(cell, "browser"));
}

#[test]
fn an_npm_ws_worker_reaches_the_platform() {
    every_cell(|cell| scenario(cell, "worker"));
}

#[test]
fn npm_ws_viewers_see_each_other() {
    every_cell(|cell| scenario(cell, "viewers"));
}

#[test]
fn npm_ws_clients_of_many_workspaces_hear_their_own_alone() {
    every_cell_in_turn(|cell| scenario(cell, "many"));
}

#[test]
fn a_page_in_a_browser_talks_to_its_daemon() {
    let Some(chromium) = node::chromium() else {
        println!("skipped: no Chromium is in PATH");
        return;
    };
    let platform = Platform::start();
    let relay = setup(Cell { driver: "epoll", shards: 4 }, &platform).start();
    node::run("workspace_page.mjs", &[&format!("ws://{}", relay.address), &chromium]);
    relay.until_empty();
}
