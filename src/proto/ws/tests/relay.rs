//! Relaying: the bytes on the wire, every truncation, and any traffic in any segmentation against
//! `tungstenite`.

use proptest::prelude::*;
use tungstenite::protocol::Role;

use super::{
    feed::{self, Cut, Seen, WHOLE},
    traffic::{encode, lengths, message, oracle, pings, plain},
};
use crate::{
    driver::HEADROOM,
    proto::ws::{Control, Cursor, Inbound, Opcode, Step, outbound::client_frame},
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Relays chunks that are each a receive of their own, or with `bundled` all of one.
fn relay_chunks(chunks: &[&[u8]], bundled: bool) -> Vec<Vec<u8>> {
    let mut inbound = Inbound::new();
    let mut runs = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        let following = if bundled { chunks[number + 1..].iter().map(|chunk| chunk.len()).sum() } else { 0 };
        let mut buf = [&[0xee; HEADROOM], *chunk].concat();
        let mut cursor = Cursor::at(HEADROOM);
        assert_eq!(inbound.relay(&mut buf, &mut cursor, following, usize::MAX, 0), Step::Empty);
        runs.push(buf[cursor.out].to_vec());
    }
    runs
}

#[test]
fn whole_frames_lose_their_masks_and_close_the_gaps() {
    let wire = [
        // FIN + text, masked, 5: "Hello" (RFC 6455 section 5.7)
        &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58][..],
        // binary, not FIN, zero mask, 2: ca fe
        &[0x02, 0x82, 0, 0, 0, 0, 0xca, 0xfe],
        // FIN + continuation, empty
        &[0x80, 0x80, 1, 2, 3, 4],
    ]
    .concat();
    let out = [
        &b"\x81\x05Hello"[..], // FIN + text, 5
        b"\x02\x02\xca\xfe",   // binary, not FIN, 2
        b"\x80\x00",           // FIN + continuation, empty
    ]
    .concat();
    assert_eq!(relay_chunks(&[&wire], false), [out]);
}

#[test]
fn parts_of_a_frame_are_fragments_of_the_message() {
    // FIN + text, masked, 5: "Hello", cut in the header, after 2 and after 4 bytes of payload
    let wire = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let chunks = [&wire[..3], &wire[3..8], &wire[8..10], &wire[10..]];
    let runs = relay_chunks(&chunks, false);
    // nothing; text, not FIN; continuation, not FIN; FIN + continuation
    assert_eq!(runs, [&b""[..], b"\x01\x02He", b"\x00\x02ll", b"\x80\x01o"]);
}

#[test]
fn chunks_of_one_receive_share_a_frame() {
    let wire = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let runs = relay_chunks(&[&wire[..8], &wire[8..10], &wire[10..]], true);
    assert_eq!(runs, [&b"\x81\x05He"[..], b"ll", b"o"]);
    // The announced part ends with the receive, not with the frame: text, not FIN, 3; then FIN +
    // continuation.
    let mut inbound = Inbound::new();
    let mut seen = Vec::new();
    for (chunk, following) in [(&wire[..7], 2), (&wire[7..9], 0), (&wire[9..], 0)] {
        let mut buf = [&[0xee; HEADROOM], chunk].concat();
        let mut cursor = Cursor::at(HEADROOM);
        assert_eq!(inbound.relay(&mut buf, &mut cursor, following, usize::MAX, 0), Step::Empty);
        assert_eq!(inbound.owed(), following);
        seen.push(buf[cursor.out].to_vec());
    }
    assert_eq!(seen, [&b"\x01\x03H"[..], b"el", b"\x80\x02lo"]);
}

#[test]
fn a_control_frame_leaves_the_run_without_a_gap() {
    let mut wire = Vec::new();
    client_frame(&mut wire, false, Opcode::Binary, KEY, b"ab");
    client_frame(&mut wire, true, Opcode::Ping, KEY, b"are you there");
    client_frame(&mut wire, true, Opcode::Continuation, KEY, b"c");
    client_frame(&mut wire, true, Opcode::Pong, KEY, b"");
    client_frame(&mut wire, true, Opcode::Close, KEY, b"\x03\xe8bye");
    let mut buf = [&[0xee; HEADROOM], &wire[..]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    let mut inbound = Inbound::new();
    let mut relay = || {
        let step = inbound.relay(&mut buf, &mut cursor, 0, usize::MAX, 0);
        (step, buf[cursor.out.clone()].to_vec())
    };
    assert_eq!(relay(), (Step::Ping(Control::new(b"are you there")), b"\x02\x02ab".to_vec()));
    assert_eq!(relay(), (Step::Pong, b"\x02\x02ab\x80\x01c".to_vec()));
    assert_eq!(relay(), (Step::Close(Some(1000)), b"\x02\x02ab\x80\x01c".to_vec()));
    assert_eq!((cursor.payload, cursor.messages), (3, 1));
}

#[test]
fn a_budget_cuts_a_frame_and_leaves_the_rest_alone() {
    let mut wire = Vec::new();
    client_frame(&mut wire, true, Opcode::Text, KEY, b"Hello");
    let mut buf = [&[0xee; HEADROOM], &wire[..]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    let mut inbound = Inbound::new();
    // A budget that does not cover what follows announces no byte of it.
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 10, 3, 0), Step::Budget);
    assert_eq!(buf[cursor.out.clone()], *b"\x01\x03Hel");
    assert_eq!(buf[cursor.read..], wire[wire.len() - 2..]);
    cursor = Cursor::at(cursor.read);
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 0, 0, 0), Step::Budget);
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 0, 2, 0), Step::Empty);
    assert_eq!(buf[cursor.out.clone()], *b"\x80\x02lo");
    // An empty frame and a ping are free.
    let mut wire = Vec::new();
    client_frame(&mut wire, true, Opcode::Text, KEY, b"");
    client_frame(&mut wire, true, Opcode::Ping, KEY, b"?");
    let mut buf = [&[0xee; HEADROOM], &wire[..]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 0, 0, 0), Step::Ping(Control::new(b"?")));
    assert_eq!(buf[cursor.out.clone()], *b"\x81\x00");
}

#[test]
fn a_large_zero_mask_frame_is_offered_once_and_skipped_in_pieces() {
    let mut wire = Vec::new();
    client_frame(&mut wire, true, Opcode::Binary, [0; 4], &vec![7; 100_000]);
    let mut inbound = Inbound::new();
    let mut buf = [&[0xee; HEADROOM], &wire[..14 + 1000]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    // More of the same receive comes first.
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 1, usize::MAX, 4096), Step::Empty);
    let mut buf = [&[0xee; HEADROOM], &wire[14 + 1000..14 + 1001]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 0, usize::MAX, 4096), Step::Spliceable);
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 0, usize::MAX, 4096), Step::Empty);
    assert!(inbound.is_spliceable(98_999) && !inbound.is_spliceable(99_000) && !inbound.is_spliceable(0));
    assert_eq!(inbound.frame_left(), 98_999);
    assert_eq!(*inbound.skip(65_536), *b"\x00\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
    assert_eq!(*inbound.skip(33_462), *b"\x00\x7e\x82\xb6");
    assert!(!inbound.is_between_messages());
    assert_eq!(*inbound.skip(1), *b"\x80\x01");
    assert!(inbound.is_between_messages() && inbound.frame_left() == 0);
    // The next frame is offered anew.
    let mut buf = [&[0xee; HEADROOM], &wire[..14 + 1000]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 0, usize::MAX, 4096), Step::Spliceable);
    // A masked frame, or one below the minimum, is never offered; one known by its header alone is.
    for (mask, len, min, step) in [
        (KEY, 100_000, 1, Step::Empty),
        ([0; 4], 4095, 4096, Step::Empty),
        ([0; 4], 4096, 0, Step::Empty),
        ([0; 4], 4096, 4096, Step::Spliceable),
    ] {
        let mut wire = Vec::new();
        client_frame(&mut wire, true, Opcode::Binary, mask, &vec![7; len]);
        let header = wire.len() - len;
        let mut buf = [&[0xee; HEADROOM], &wire[..header]].concat();
        let mut cursor = Cursor::at(HEADROOM);
        assert_eq!(Inbound::new().relay(&mut buf, &mut cursor, 0, usize::MAX, min), step);
        assert!(cursor.out.is_empty());
    }
}

#[test]
fn every_truncation_and_every_cut_in_two_of_a_conversation() {
    let mut wire = Vec::new();
    client_frame(&mut wire, false, Opcode::Text, KEY, "caf\u{e9}".as_bytes());
    client_frame(&mut wire, true, Opcode::Ping, KEY, b"ping");
    client_frame(&mut wire, true, Opcode::Continuation, KEY, &[b'x'; 126]);
    client_frame(&mut wire, true, Opcode::Close, KEY, b"\x03\xe8");
    let whole = feed::relay(&mut Inbound::new(), &wire, WHOLE, 0);
    assert_eq!(whole.end, Some(Step::Close(Some(1000))));
    for cut in 0..wire.len() {
        let mut inbound = Inbound::new();
        let first = feed::relay(&mut inbound, &wire[..cut], WHOLE, 0);
        assert_eq!(first.end, None, "cut at {cut}");
        let second = feed::relay(&mut inbound, &wire[cut..], WHOLE, 0);
        assert_eq!(second.end, whole.end);
        let out = [first.out, second.out].concat();
        let (want, got) = (oracle(&whole.out, Role::Client), oracle(&out, Role::Client));
        assert_eq!(want, got, "cut at {cut}");
        assert_eq!([first.pings, second.pings].concat(), [b"ping"]);
        assert_eq!(first.counted.0 + second.counted.0, whole.counted.0);
        assert_eq!(first.counted.1 + second.counted.1, 1);
    }
}

/// The places between our frames in `out`.
fn frame_ends(out: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (vec![0], 0);
    while at < out.len() {
        let (header, len) = match out[at + 1] {
            126 => (4, usize::from(u16::from_be_bytes([out[at + 2], out[at + 3]]))),
            127 => (10, u64::from_be_bytes(out[at + 2..at + 10].try_into().unwrap()) as usize),
            len => (2, usize::from(len)),
        };
        at += header + len;
        ends.push(at);
    }
    ends
}

fn cuts() -> impl Strategy<Value = Cut> {
    let most = || prop_oneof![1usize..20, 20usize..2_000, Just(16_384), Just(usize::MAX)];
    let splice_min = prop_oneof![Just(0), 1usize..3_000];
    (most(), most(), any::<bool>(), splice_min).prop_map(|(receive_max, chunk_max, paced, splice_min)| Cut {
        receive_max,
        chunk_max,
        paced,
        splice_min,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_traffic_in_any_segmentation_arrives_identical(
        messages in proptest::collection::vec(message(lengths()), 1..8),
        cut in cuts(),
        seed: u64,
    ) {
        let wire = encode(&messages);
        let mut inbound = Inbound::new();
        let seen = feed::relay(&mut inbound, &wire, cut, seed);
        prop_assert_eq!(&seen.end, &None);
        let received: Vec<_> = oracle(&seen.out, Role::Client).into_iter().map(plain).collect();
        let sent: Vec<_> = messages.iter().map(|sent| (sent.text, sent.payload.clone())).collect();
        prop_assert!(received == sent, "{} messages sent, {} received or others", sent.len(), received.len());
        prop_assert_eq!(&seen.pings, &pings(&messages));
        let controls: usize = messages.iter().map(|sent| sent.controls.len()).sum();
        prop_assert_eq!(seen.pings.len() + seen.pongs, controls);
        let payload: usize = sent.iter().map(|(_, payload)| payload.len()).sum();
        prop_assert_eq!(seen.counted, (payload, sent.len()));
        let ends = frame_ends(&seen.out);
        prop_assert!(seen.boundaries.iter().all(|boundary| ends.binary_search(boundary).is_ok()));
        prop_assert!(inbound.is_between_messages());
    }

    #[test]
    fn frames_that_are_whole_in_the_buffer_stay_whole(
        messages in proptest::collection::vec(message(0usize..300), 1..8),
    ) {
        let wire = encode(&messages);
        let Seen { out, .. } = feed::relay(&mut Inbound::new(), &wire, WHOLE, 0);
        let frames: usize = messages.iter().map(|sent| sent.cuts.len() + 1).sum();
        prop_assert_eq!(frame_ends(&out).len(), frames + 1);
    }
}
