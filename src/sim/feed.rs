//! Feeds a client's bytes to an [`Inbound`] as a shard would, cut in random ways, and checks what must hold
//! at every step.

use super::dice::Dice;
use crate::{
    driver::HEADROOM,
    proto::ws::{Bounds, Cursor, Inbound, Payload, Step},
};

/// What the other end and the shard saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The bytes sent to the other end (`relay`).
    pub out: Vec<u8>,
    /// Messages (`collect`).
    pub messages: Vec<(bool, Vec<u8>)>,
    /// Payloads of pings, in order.
    pub pings: Vec<Vec<u8>>,
    /// How many pongs came.
    pub pongs: usize,
    /// `Close`, `Fault` or `TooLong`, if one ended it.
    pub end: Option<Step>,
    /// Payload bytes and messages as the cursors counted them.
    pub counted: (usize, usize),
    /// Lengths of `out` at the ends of receives: frame boundaries.
    pub boundaries: Vec<usize>,
}

/// How bytes are cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The longest receive; `usize::MAX` takes everything at once.
    pub receive_max: usize,
    /// The longest chunk of one; likewise.
    pub chunk_max: usize,
    /// Whether some receives get small budgets.
    pub paced: bool,
    /// `splice_min`; offers are taken or declined at random.
    pub splice_min: usize,
}

/// Everything in one chunk, unlimited.
pub const WHOLE: Cut = Cut { receive_max: usize::MAX, chunk_max: usize::MAX, paced: false, splice_min: 0 };

/// A random length up to `most`, of the `left` bytes that there are.
fn length(dice: &mut Dice, most: usize, left: usize) -> usize {
    if most == usize::MAX { left } else { dice.between(1, most.min(left)) }
}

/// Relays `input` in random receives.
pub fn relay(inbound: &mut Inbound, input: &[u8], cut: Cut, dice: &mut Dice) -> Seen {
    let mut seen = Seen::default();
    let mut at = 0;
    while at < input.len() && seen.end.is_none() {
        let end = at + length(dice, cut.receive_max, input.len() - at);
        let paced = cut.paced && dice.chance(500_000);
        let mut splice = false;
        while at < end && seen.end.is_none() {
            let chunk = length(dice, cut.chunk_max, end - at);
            let input = &input[at..at + chunk];
            at += chunk;
            let following = if paced { 0 } else { end - at };
            splice = relay_chunk(inbound, input, following, paced, cut.splice_min, dice, &mut seen);
        }
        assert!(seen.end.is_some() || inbound.owed() == 0, "a receive ends at a frame boundary");
        seen.boundaries.push(seen.out.len());
        while splice && at < input.len() && inbound.frame_left() > 0 {
            let most = (input.len() - at).min(inbound.frame_left() as usize);
            let bytes = dice.between(1, most);
            seen.out.extend_from_slice(&inbound.skip(bytes));
            seen.out.extend_from_slice(&input[at..at + bytes]);
            seen.boundaries.push(seen.out.len());
            seen.counted.0 += bytes;
            seen.counted.1 += usize::from(inbound.is_between_messages());
            at += bytes;
        }
    }
    seen
}

/// Relays one chunk; returns whether the rest of the frame shall be spliced.
fn relay_chunk(
    inbound: &mut Inbound,
    input: &[u8],
    following: usize,
    paced: bool,
    splice_min: usize,
    dice: &mut Dice,
    seen: &mut Seen,
) -> bool {
    let mut buf = vec![0xee; HEADROOM];
    buf.extend_from_slice(input);
    let mut cursor = Cursor::at(HEADROOM);
    let mut splice = false;
    loop {
        let budget = if paced { dice.below(200) } else { usize::MAX };
        let taken_before = cursor.payload;
        let step = inbound.relay(&mut buf, &mut cursor, following, budget, splice_min);
        assert!(cursor.payload - taken_before <= budget);
        assert!(cursor.out.start <= cursor.out.end && cursor.out.end <= cursor.read);
        assert_eq!(buf[cursor.read..], input[cursor.read - HEADROOM..], "the input ahead is untouched");
        match step {
            Step::Empty => {
                assert_eq!(cursor.read, buf.len());
                break;
            }
            Step::Budget => {
                assert!(paced && cursor.read < buf.len());
                take_run(&buf, &mut cursor, seen);
            }
            Step::Ping(control) => seen.pings.push(control.payload().to_vec()),
            Step::Pong => seen.pongs += 1,
            Step::Spliceable => {
                assert!(inbound.is_spliceable(splice_min) && cursor.read == buf.len() && following == 0);
                splice = dice.chance(500_000);
            }
            end => {
                seen.end = Some(end);
                break;
            }
        }
    }
    take_run(&buf, &mut cursor, seen);
    splice
}

fn take_run(buf: &[u8], cursor: &mut Cursor, seen: &mut Seen) {
    seen.out.extend_from_slice(&buf[cursor.out.clone()]);
    seen.counted.0 += cursor.payload;
    seen.counted.1 += cursor.messages;
    *cursor = Cursor::at(cursor.read);
}

/// Collects `input` in random chunks.
pub fn collect(inbound: &mut Inbound, input: &[u8], cut: Cut, message_max: usize, dice: &mut Dice) -> Seen {
    let mut seen = Seen::default();
    let mut gathered = None;
    let mut at = 0;
    while at < input.len() && seen.end.is_none() {
        let chunk = length(dice, cut.chunk_max, input.len() - at);
        let mut buf = vec![0xee; HEADROOM];
        buf.extend_from_slice(&input[at..at + chunk]);
        let mut cursor = Cursor::at(HEADROOM);
        at += chunk;
        loop {
            let step = inbound.collect(&mut buf, &mut cursor, Bounds::of_message(message_max), &mut gathered);
            assert!(gathered.as_ref().is_none_or(|bytes| bytes.reserved() <= message_max));
            match step {
                Step::Empty => {
                    assert_eq!(cursor.read, buf.len());
                    break;
                }
                Step::Ping(control) => seen.pings.push(control.payload().to_vec()),
                Step::Pong => seen.pongs += 1,
                Step::Message { text, payload } => {
                    assert!(gathered.is_none() && inbound.is_between_messages());
                    let bytes = match payload {
                        Payload::Here(range) => buf[range].to_vec(),
                        Payload::Gathered(bytes) => bytes,
                    };
                    seen.messages.push((text, bytes));
                }
                end => {
                    seen.end = Some(end);
                    break;
                }
            }
        }
    }
    seen
}
