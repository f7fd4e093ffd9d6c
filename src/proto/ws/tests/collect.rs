//! Collecting: whole messages in any segmentation, against `tungstenite` as the server.

use proptest::prelude::*;
use tungstenite::{Message, protocol::Role};

use super::{
    feed::{self, Cut, WHOLE},
    traffic::{encode, message, oracle, plain},
};
use crate::{
    driver::HEADROOM,
    limits::CONTROL_MESSAGE_BYTES_MAX,
    proto::ws::{Bounds, Cursor, Inbound, Opcode, Payload, Step, outbound::client_frame},
    reason::Reason,
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[test]
fn a_whole_message_stays_in_the_buffer_and_a_split_one_is_gathered() {
    let mut wire = Vec::new();
    client_frame(&mut wire, true, Opcode::Text, KEY, b"{}");
    let mut buf = [&[0; HEADROOM], &wire[..], &wire[..7]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    let mut inbound = Inbound::new();
    let mut gathered = None;
    let step = inbound.collect(&mut buf, &mut cursor, Bounds::of_message(2), &mut gathered);
    let at = HEADROOM + 6;
    assert_eq!(step, Step::Message { text: true, payload: Payload::Here(at..at + 2) });
    assert_eq!(buf[at..at + 2], *b"{}");
    assert_eq!(inbound.collect(&mut buf, &mut cursor, Bounds::of_message(2), &mut gathered), Step::Empty);
    let mut buf = [&[0; HEADROOM], &wire[7..]].concat();
    let step = inbound.collect(&mut buf, &mut Cursor::at(HEADROOM), Bounds::of_message(2), &mut gathered);
    assert_eq!(step, Step::Message { text: true, payload: Payload::Gathered(b"{}".to_vec()) });
    assert_eq!(gathered, None);
}

#[test]
fn a_message_that_is_to_be_gathered_waits_for_room_and_never_again_once_it_has_begun() {
    let mut wire = Vec::new();
    client_frame(&mut wire, true, Opcode::Binary, KEY, &[7; 1000]);
    let mut inbound = Inbound::new();
    let mut gathered = None;
    let bounds = |room| Bounds { message_max: 4096, room };
    let mut buf = [&[0; HEADROOM], &wire[..500]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    assert_eq!(inbound.collect(&mut buf, &mut cursor, bounds(999), &mut gathered), Step::NoRoom(1000));
    assert_eq!((cursor.read, &gathered), (HEADROOM + 8, &None), "only its header is taken");
    assert_eq!(inbound.collect(&mut buf, &mut cursor, bounds(1000), &mut gathered), Step::Empty);
    assert_eq!(gathered.as_ref().map(|gathered| gathered.reserved()), Some(1000));
    let mut buf = [&[0; HEADROOM], &wire[500..]].concat();
    let step = inbound.collect(&mut buf, &mut Cursor::at(HEADROOM), bounds(0), &mut gathered);
    assert_eq!(step, Step::Message { text: false, payload: Payload::Gathered(vec![7; 1000]) });
    assert_eq!(gathered, None);

    // Of a fragmented message more is to come: it needs room for the longest that there may be.
    wire.clear();
    client_frame(&mut wire, false, Opcode::Binary, KEY, &[7; 10]);
    let mut buf = [&[0; HEADROOM], &wire[..]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    assert_eq!(inbound.collect(&mut buf, &mut cursor, bounds(4095), &mut gathered), Step::NoRoom(4096));
    assert_eq!(inbound.collect(&mut buf, &mut cursor, bounds(4096), &mut gathered), Step::Empty);

    // One that lies whole in the buffer needs none.
    wire.clear();
    client_frame(&mut wire, true, Opcode::Binary, KEY, &[7; 10]);
    let mut buf = [&[0; HEADROOM], &wire[..]].concat();
    let step = Inbound::new().collect(&mut buf, &mut Cursor::at(HEADROOM), bounds(0), &mut None);
    assert!(matches!(step, Step::Message { payload: Payload::Here(_), .. }));
}

#[test]
fn a_message_above_the_maximum_is_said_at_its_header() {
    for (fragments, step) in [
        (&[4096][..], None),
        (&[4097], Some(Step::TooLong)),
        (&[1 << 40], Some(Step::TooLong)),
        (&[2000, 2096], None),
        (&[2000, 0, 2097], Some(Step::TooLong)),
    ] {
        let mut wire = Vec::new();
        for (number, len) in fragments.iter().enumerate() {
            let opcode = if number == 0 { Opcode::Binary } else { Opcode::Continuation };
            let sent = (*len).min(5000);
            let frame_at = wire.len();
            client_frame(&mut wire, number + 1 == fragments.len(), opcode, KEY, &vec![0; sent as usize]);
            if sent < *len {
                let first = wire[frame_at];
                wire.truncate(frame_at);
                wire.extend_from_slice(&[first, 0xff]);
                wire.extend_from_slice(&u64::to_be_bytes(*len));
                wire.extend_from_slice(&KEY);
            } else if step.is_some() && number + 1 == fragments.len() {
                wire.truncate(wire.len() - sent as usize);
            }
        }
        let seen = feed::collect(&mut Inbound::new(), &wire, WHOLE, CONTROL_MESSAGE_BYTES_MAX, 0);
        assert_eq!(seen.end, step, "{fragments:?}");
        assert_eq!(seen.messages.len(), usize::from(step.is_none()));
    }
}

#[test]
fn text_is_utf8_as_a_whole() {
    // A character over two fragments is one.
    let mut wire = Vec::new();
    client_frame(&mut wire, false, Opcode::Text, KEY, b"\xe2\x82");
    client_frame(&mut wire, true, Opcode::Continuation, KEY, b"\xac");
    let seen = feed::collect(&mut Inbound::new(), &wire, WHOLE, 16, 0);
    assert_eq!(seen.messages, [(true, "\u{20ac}".as_bytes().to_vec())]);
    for bad in [&b"\xe2\x82"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xff"] {
        for cut in [false, true] {
            let mut wire = Vec::new();
            if cut {
                client_frame(&mut wire, false, Opcode::Text, KEY, b"ok ");
            }
            let opcode = if cut { Opcode::Continuation } else { Opcode::Text };
            client_frame(&mut wire, true, opcode, KEY, bad);
            let seen = feed::collect(&mut Inbound::new(), &wire, WHOLE, 16, 0);
            assert_eq!(seen.end, Some(Step::Fault(Reason::BadUtf8)));
        }
    }
    let mut wire = Vec::new();
    client_frame(&mut wire, true, Opcode::Binary, KEY, b"\xff");
    assert_eq!(feed::collect(&mut Inbound::new(), &wire, WHOLE, 16, 0).messages.len(), 1);
}

#[test]
fn the_way_of_reading_may_change_within_a_chunk() {
    let mut wire = Vec::new();
    client_frame(&mut wire, true, Opcode::Text, KEY, b"accept");
    client_frame(&mut wire, true, Opcode::Binary, KEY, b"first");
    client_frame(&mut wire, true, Opcode::Binary, KEY, b"second");
    let mut buf = [&[0; HEADROOM], &wire[..]].concat();
    let mut cursor = Cursor::at(HEADROOM);
    let mut inbound = Inbound::new();
    let step = inbound.collect(&mut buf, &mut cursor, Bounds::of_message(16), &mut None);
    assert!(matches!(step, Step::Message { text: true, payload: Payload::Here(_) }));
    assert_eq!(inbound.relay(&mut buf, &mut cursor, 0, usize::MAX, 0), Step::Empty);
    assert_eq!(buf[cursor.out.clone()], *b"\x82\x05first\x82\x06second");
}

#[test]
fn the_way_of_reading_may_change_within_a_message() {
    let mut wire = Vec::new();
    client_frame(&mut wire, false, Opcode::Text, KEY, b"one ");
    client_frame(&mut wire, true, Opcode::Ping, KEY, b"between");
    client_frame(&mut wire, false, Opcode::Continuation, KEY, b"two ");
    client_frame(&mut wire, true, Opcode::Continuation, KEY, b"three");
    for cut in 0..wire.len() {
        let (mut inbound, mut gathered, mut out) = (Inbound::new(), None, Vec::new());
        let mut buf = [&[0; HEADROOM], &wire[..cut]].concat();
        let mut cursor = Cursor::at(HEADROOM);
        while inbound.collect(&mut buf, &mut cursor, Bounds::of_message(100), &mut gathered) != Step::Empty {}
        if let Some(gathered) = gathered
            && let Some(header) = inbound.relay_gathered(&gathered)
        {
            out.extend_from_slice(&header);
            out.extend_from_slice(gathered.bytes());
        }
        let mut buf = [&[0; HEADROOM], &wire[cut..]].concat();
        let mut cursor = Cursor::at(HEADROOM);
        while inbound.relay(&mut buf, &mut cursor, 0, usize::MAX, 0) != Step::Empty {}
        out.extend_from_slice(&buf[cursor.out]);
        let read = oracle(&out, Role::Client);
        assert_eq!(read, [Message::text("one two three")], "the reading changed behind {cut} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_traffic_in_any_segmentation_is_what_tungstenite_reads(
        messages in proptest::collection::vec(message(0usize..2_000), 1..10),
        chunk_max in prop_oneof![1usize..20, 20usize..4_000],
        seed: u64,
    ) {
        let wire = encode(&messages);
        let cut = Cut { chunk_max, ..WHOLE };
        let seen = feed::collect(&mut Inbound::new(), &wire, cut, CONTROL_MESSAGE_BYTES_MAX, seed);
        prop_assert_eq!(&seen.end, &None);
        let (data, control): (Vec<_>, Vec<_>) =
            oracle(&wire, Role::Server).into_iter().partition(|read| read.is_text() || read.is_binary());
        prop_assert_eq!(seen.messages, data.into_iter().map(plain).collect::<Vec<_>>());
        let (pings, pongs): (Vec<_>, Vec<_>) = control.into_iter().partition(Message::is_ping);
        prop_assert_eq!(seen.pings, pings.into_iter().map(|ping| plain(ping).1).collect::<Vec<_>>());
        prop_assert_eq!(seen.pongs, pongs.len());
    }
}
