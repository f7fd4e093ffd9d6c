//! What the fuzzers run: one function a target, over any bytes whatsoever. `fuzz/` holds a line for each, and the test
//! `corpora` runs them over the inputs that are kept.
//!
//! A target fails by a panic. Each checks more than that nothing panics: that cutting the same bytes differently
//! changes nothing, that two readers agree, that what a connection left behind is gone.

use tungstenite::protocol::frame::FrameHeader as OtherHeader;

use super::{
    dice::Dice,
    feed::{self, Cut, Seen, WHOLE},
    run::Run,
    talk::Talk,
};
use crate::{
    admission::register::{self, Proof},
    limits::RELAYED_MESSAGE_BYTES_MAX,
    proto::{
        http,
        ws::{Inbound, Step, header},
    },
    reason::Reason,
};

/// A target: it panics when what it is given shows a fault.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const ALL: &[(&str, Target)] = &[
    ("frame_header", frame_header),
    ("translate", translate),
    ("http_head", http_head),
    ("messages", messages),
    ("workspace_messages", workspace_messages),
    ("register_auth", register_auth),
    ("operations", operations),
];

/// A client's frame header: no prefix of one is mistaken for one, and tungstenite reads the same from it.
pub fn frame_header(data: &[u8]) {
    let found = header::decode(data);
    let Ok(Some(header)) = found else { return };
    assert!(header.size <= header::CLIENT_HEADER_BYTES_MAX && header.size <= data.len());
    for end in 0..header.size {
        assert_eq!(header::decode(&data[..end]), Ok(None), "{end} bytes of a header of {}", header.size);
    }
    let other = OtherHeader::parse(&mut std::io::Cursor::new(data));
    let (other, len) = other.expect("it is legal").expect("it is complete");
    assert_eq!((len, other.is_final, other.mask), (header.len, header.fin, Some(header.mask)));
    assert_eq!(u8::from(other.opcode), header.opcode as u8);
    let mut written = [0; header::SERVER_HEADER_BYTES_MAX];
    let size = header::encoded_len(header.len);
    header::encode(&mut written[..size], header.opcode, header.fin, header.len);
    assert_eq!(size + 4, header.size, "lengths are written as short as they can be");
    assert_eq!(written[0], data[0]);
}

/// A client's stream, cut in any way: the same messages, pings and end, and frames for the other end that say the
/// same.
///
/// The first 16 bytes decide the cuts, the rest is the stream.
pub fn translate(data: &[u8]) {
    let (script, stream) = data.split_at(data.len().min(16));
    let mut dice = Dice::scripted(script);
    let cut = Cut {
        receive_max: if dice.chance(200_000) { usize::MAX } else { dice.size(5000) },
        chunk_max: if dice.chance(200_000) { usize::MAX } else { dice.size(2000) },
        paced: dice.chance(300_000),
        splice_min: if dice.chance(500_000) { 0 } else { dice.size(300) },
    };
    let most = RELAYED_MESSAGE_BYTES_MAX as usize;
    let whole = feed::collect(&mut Inbound::new(), stream, WHOLE, most, &mut dice);
    let in_parts = feed::collect(&mut Inbound::new(), stream, cut, most, &mut dice);
    assert_eq!(whole, in_parts, "collected in one chunk and in many");

    let at_once = feed::relay(&mut Inbound::new(), stream, WHOLE, &mut dice);
    let relayed = feed::relay(&mut Inbound::new(), stream, cut, &mut dice);
    assert_eq!((&relayed.end, relayed.pongs), (&at_once.end, at_once.pongs));
    assert_eq!(relayed.pings, at_once.pings);
    let (messages, left) = read_relayed(&relayed);
    assert_eq!((&messages, &left), (&read_relayed(&at_once).0, &read_relayed(&at_once).1));
    // Only what is collected has its text looked at.
    let judged = matches!(whole.end, Some(Step::Fault(Reason::BadUtf8)));
    assert!(judged || whole.messages == messages, "what is relayed is what is collected");
    assert!(messages.starts_with(&whole.messages));
}

/// Whether it is text, and its payload.
type Message = (bool, Vec<u8>);

/// What the other end reads: its whole messages, and what has come of one more. Frames have to end at every boundary.
fn read_relayed(seen: &Seen) -> (Vec<Message>, Option<Message>) {
    let mut messages = Vec::new();
    let mut current: Option<Message> = None;
    let (mut at, mut boundaries) = (0, seen.boundaries.iter().peekable());
    while at < seen.out.len() {
        while boundaries.next_if(|boundary| **boundary <= at).is_some_and(|boundary| {
            assert_eq!(*boundary, at, "a receive ends inside a frame");
            true
        }) {}
        let first = seen.out[at];
        let (len, payload) = match seen.out[at + 1] {
            126 => (u16::from_be_bytes(array(&seen.out[at + 2..])).into(), at + 4),
            127 => (u64::from_be_bytes(array(&seen.out[at + 2..])), at + 10),
            short => (u64::from(short), at + 2),
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let text = match (opcode, &current) {
            (0, Some((text, _))) => *text,
            (1 | 2, None) => opcode == 1,
            _ => panic!("opcode {opcode:x} may not come here"),
        };
        at = (payload + len as usize).min(seen.out.len());
        let message = &mut current.get_or_insert_with(|| (text, Vec::new())).1;
        message.extend_from_slice(&seen.out[payload.min(at)..at]);
        if fin {
            messages.extend(current.take());
        }
    }
    // What came of a message that did not end may lie in frames of different lengths: only its bytes count.
    (messages, current)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a header is never cut")
}

/// A request head: complete or not, never both.
pub fn http_head(data: &[u8]) {
    let Ok(Some(head)) = http::parse(data) else { return };
    assert!(head.len <= data.len());
    for end in [0, head.len / 3, head.len / 2, head.len - 1] {
        assert_eq!(http::parse(&data[..end]), Ok(None), "{end} bytes of a head of {}", head.len);
    }
    assert_eq!(http::parse(&data[..head.len]), Ok(Some(head)), "what follows does not matter");
}

/// Messages for links and devices, one a line: the line's first byte says from which of four connections, and
/// whether as text.
pub fn messages(data: &[u8]) {
    let mut talk = Talk::of_links_and_devices();
    for line in data.split(|byte| *byte == b'\n') {
        if let Some((first, message)) = line.split_first() {
            talk.say(usize::from(first % 4), first & 4 == 0, message);
        }
    }
    talk.end();
}

/// Messages within a workspace, one a line: the line's first byte says from which of six connections, how many seconds
/// before it pass, and whether as text.
pub fn workspace_messages(data: &[u8]) {
    let mut talk = Talk::of_a_workspace();
    for line in data.split(|byte| *byte == b'\n') {
        if let Some((first, message)) = line.split_first() {
            talk.wait(u64::from(first >> 6) ^ 1);
            talk.say(usize::from(first & 7) % talk.len(), first & 8 == 0, message);
        }
    }
    talk.end();
}

/// A registration's proof: nothing passes that its key did not sign.
///
/// 32 bytes of key, 8 of time, 64 of signature, the rest nonce.
pub fn register_auth(data: &[u8]) {
    let Some((key, rest)) = data.split_first_chunk::<32>() else { return };
    let Some((timestamp, rest)) = rest.split_first_chunk::<8>() else { return };
    let Some((signature, nonce)) = rest.split_first_chunk::<64>() else { return };
    let Ok(nonce) = std::str::from_utf8(nonce) else { return };
    let timestamp = i64::from_le_bytes(*timestamp);
    let signing = ed25519_dalek::SigningKey::from_bytes(key);
    let now = timestamp.unsigned_abs();
    for (public_key, signature, is_signed) in [
        (*key, *signature, false),
        (signing.verifying_key().to_bytes(), *signature, false),
        (signing.verifying_key().to_bytes(), sign(&signing, timestamp, nonce), true),
    ] {
        let proof = Proof { public_key, timestamp, nonce: nonce.to_owned(), signature };
        let address = register::commitment(&public_key);
        let verdict = register::verify(&proof, &address, ORIGIN, now);
        if is_signed && timestamp >= 0 {
            assert_eq!(verdict, Ok(()), "what a key signed is its own");
            let elsewhere = register::verify(&proof, &address, "elsewhere.test", now);
            assert!(elsewhere.is_err(), "a proof for one relay does for another");
        }
    }
}

fn sign(key: &ed25519_dalek::SigningKey, timestamp: i64, nonce: &str) -> [u8; 64] {
    use ed25519_dalek::Signer as _;

    let address = register::encode(&register::commitment(&key.verifying_key().to_bytes()));
    key.sign(&register::signed_message(&address, timestamp, nonce, ORIGIN)).to_bytes()
}

const ORIGIN: &str = "relay.test";

/// A whole relay with its peers, whose every decision the bytes make for as long as they last: see [`Run`] for what has
/// to hold after each step.
pub fn operations(data: &[u8]) {
    Run::scripted(data).run_script();
}
