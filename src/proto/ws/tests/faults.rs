//! What RFC 6455 forbids, in the order of its sections, and what comes of it. Header rules by themselves
//! are in `header`.

use super::feed::{self, Cut, WHOLE};
use crate::{
    driver::HEADROOM,
    limits::RELAYED_MESSAGE_BYTES_MAX,
    proto::ws::{Cursor, Inbound, Opcode, Step, outbound::client_frame},
    reason::Reason::{self, BadUtf8, MessageTooBig, ProtocolError},
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as opcode, FIN and payload.
type Frame<'a> = (Opcode, bool, &'a [u8]);

#[test]
fn each_forbidden_sequence_ends_both_ways_of_reading_with_its_reason() {
    use Opcode::{Binary, Close, Continuation, Ping, Text};
    let table: &[(&str, &[Frame], Reason)] = &[
        ("5.4 a continuation of nothing", &[(Continuation, true, b"a")], ProtocolError),
        ("5.4 a continuation of nothing, not FIN", &[(Continuation, false, b"a")], ProtocolError),
        (
            "5.4 a continuation of a message that has ended",
            &[(Text, true, b"a"), (Continuation, true, b"b")],
            ProtocolError,
        ),
        ("5.4 a message within a message", &[(Text, false, b"a"), (Text, true, b"b")], ProtocolError),
        (
            "5.4 a message within a message, also after a control frame",
            &[(Binary, false, b"a"), (Ping, true, b""), (Binary, false, b"b")],
            ProtocolError,
        ),
        ("5.4 an empty fragment opens a message", &[(Binary, false, b""), (Text, true, b"b")], ProtocolError),
        ("5.5.1 a close payload of one byte", &[(Close, true, b"\x03")], ProtocolError),
        ("7.4.1 close code 1005 is not sent", &[(Close, true, b"\x03\xed")], ProtocolError),
        ("7.4.1 close code 1006 is not sent", &[(Close, true, b"\x03\xee")], ProtocolError),
        ("7.4.1 close code 1015 is not sent", &[(Close, true, b"\x03\xf7")], ProtocolError),
        ("7.4.2 close code 999 is not used", &[(Close, true, b"\x03\xe7")], ProtocolError),
        ("7.4.2 close code 2999 is reserved", &[(Close, true, b"\x0b\xb7")], ProtocolError),
        ("7.4.2 close code 5000 is not defined", &[(Close, true, b"\x13\x88")], ProtocolError),
        ("5.5.1 a close text is UTF-8", &[(Close, true, b"\x03\xe8\xff")], BadUtf8),
    ];
    for (rule, frames, reason) in table {
        let mut wire = Vec::new();
        for (opcode, fin, payload) in *frames {
            client_frame(&mut wire, *fin, *opcode, KEY, payload);
        }
        for cut in [WHOLE, Cut { receive_max: 1, ..WHOLE }, Cut { chunk_max: 1, ..WHOLE }] {
            let relayed = feed::relay(&mut Inbound::new(), &wire, cut, 1);
            assert_eq!(relayed.end, Some(Step::Fault(*reason)), "{rule}, relayed");
            let collected = feed::collect(&mut Inbound::new(), &wire, cut, 100, 1);
            assert_eq!(collected.end, Some(Step::Fault(*reason)), "{rule}, collected");
        }
    }
}

#[test]
fn a_broken_header_ends_both_ways_of_reading() {
    for wire in [&[0x81, 0x01, b'a'][..], &[0xc1, 0x80], &[0x83], &[0x82, 0xfe, 0, 1, 0, 0, 0, 0]] {
        for cut in [WHOLE, Cut { receive_max: 1, chunk_max: 1, ..WHOLE }] {
            let relayed = feed::relay(&mut Inbound::new(), wire, cut, 1);
            assert_eq!(relayed.end, Some(Step::Fault(ProtocolError)));
            assert!(relayed.out.is_empty());
            let collected = feed::collect(&mut Inbound::new(), wire, cut, 100, 1);
            assert_eq!(collected.end, Some(Step::Fault(ProtocolError)));
        }
    }
}

#[test]
fn a_relayed_message_is_capped_over_its_fragments_before_the_frame_that_exceeds_it() {
    let header = |first: u8, len: u64| [&[first, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
    let max = RELAYED_MESSAGE_BYTES_MAX;
    for (first_fragment, second, step) in [
        (0, max, Step::Empty),
        (0, max + 1, Step::Fault(MessageTooBig)),
        (0, i64::MAX as u64, Step::Fault(MessageTooBig)),
        (10, max - 10, Step::Empty),
        (10, max - 9, Step::Fault(MessageTooBig)),
        (10, i64::MAX as u64, Step::Fault(MessageTooBig)),
    ] {
        let mut wire = Vec::new();
        // A message before it does not count.
        client_frame(&mut wire, true, Opcode::Binary, [0; 4], &[0; 100]);
        if first_fragment > 0 {
            client_frame(&mut wire, false, Opcode::Binary, [0; 4], &vec![0; first_fragment]);
        }
        let mut want = vec![0x82, 100];
        want.extend_from_slice(&[0; 100]);
        if first_fragment > 0 {
            want.extend_from_slice(&[0x02, first_fragment as u8]);
            want.extend_from_slice(&vec![0; first_fragment]);
        }
        wire.extend_from_slice(&header(if first_fragment > 0 { 0x80 } else { 0x82 }, second));
        let mut inbound = Inbound::new();
        let mut buf = [&[0xee; HEADROOM], &wire[..]].concat();
        let mut cursor = Cursor::at(HEADROOM);
        assert_eq!(inbound.relay(&mut buf, &mut cursor, 0, usize::MAX, 0), step, "{first_fragment}+{second}");
        assert_eq!(buf[cursor.out], want);
    }
}
