//! A relay that changes, loses, repeats or reorders what it relays is caught.

mod support;

use support::{
    Relay,
    liar::{self, Lie},
    load,
};

/// Short messages without a pause: each is one frame, and one follows the other.
const STREAM: &str = "stream --links 2 --size 200 --seconds 3 --patience 10 --verify";
const VICTIM: u32 = 200;

/// Runs a stream through a relay that lies in this way.
fn stream(lie: Lie, verify: &str) -> support::Outcome {
    let relay = Relay::start();
    load(liar::start(relay.address, lie, VICTIM), &format!("{STREAM} {verify}"))
}

#[test]
fn an_honest_proxy_passes() {
    let outcome = stream(Lie::None, "all");
    let run = outcome.assert_passed();
    assert!(
        run["verification"]["messages"].as_u64() > Some(u64::from(VICTIM)),
        "the lie would not have been told"
    );
}

#[test]
fn a_flipped_bit_is_caught_wherever_it_is() {
    stream(Lie::FlipMiddle, "all").assert_caught(&["byte 60 of message"]);
    stream(Lie::FlipLast, "all").assert_caught(&["byte 199 of message"]);
    for verify in ["all", "sampled", "off"] {
        stream(Lie::FlipStamp, verify).assert_caught(&["wrong stamp"]);
    }
    // The borders of every message are looked at where only samples are compared.
    stream(Lie::FlipLast, "sampled").assert_caught(&["byte 199 of message"]);
}

#[test]
fn two_bytes_that_change_places_are_caught() {
    stream(Lie::SwapBytes, "all").assert_caught(&["byte 2", "byte 3"]);
}

#[test]
fn a_lost_a_repeated_and_a_reordered_message_are_caught_without_comparing_bytes() {
    stream(Lie::Drop, "off").assert_caught(&["lost or reordered"]);
    stream(Lie::Duplicate, "off").assert_caught(&["duplicated or reordered"]);
    stream(Lie::Swap, "off").assert_caught(&["lost or reordered"]);
}

#[test]
fn a_lost_byte_and_a_changed_type_are_caught() {
    stream(Lie::Cut, "off").assert_caught(&["199 bytes"]);
    stream(Lie::Text, "off").assert_caught(&["text"]);
}

#[test]
fn a_message_that_never_arrives_is_missed_at_the_end() {
    let relay = Relay::start();
    let address = liar::start(relay.address, Lie::Drop, 20);
    let outcome = load(address, "pingpong --links 3 --seconds 3 --patience 5");
    assert_eq!(outcome.run()["totals"]["errors"]["not arrived"], 1, "{}", outcome.stdout);
    assert_eq!(outcome.code, 1);
}
