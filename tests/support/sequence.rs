//! Generated traffic of one client: messages in any fragmentation, control frames between them, any masks, and one of
//! three endings, in any segmentation. A seed makes the same sequence again.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    ops::Range,
    thread,
    time::Duration,
};

use rand::{Rng, RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    PATIENCE, Raw, bulk,
    violations::Violation,
    wire::{self, BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, client_frame, message},
};

/// What a client sends, and how.
#[derive(Debug, Clone)]
pub struct Sequence {
    pub seed: u64,
    pub bytes: Vec<u8>,
    pub ending: Ending,
    /// The pieces in which the bytes are written, and whether the client waits a moment behind each.
    segments: Vec<(Range<usize>, bool)>,
}

/// How a sequence ends.
#[derive(Debug, Clone)]
pub enum Ending {
    /// A ping whose payload is [`LAST`]; all that came before has been read when it is answered.
    Ping,
    /// The client is gone, perhaps in the middle of a frame.
    Gone,
    /// A close frame, perhaps with more behind it.
    Close,
    /// A violation, perhaps with more behind it.
    Violation(Violation),
}

/// The payload of the ping that ends a sequence.
pub const LAST: &[u8] = b"the last of them";

/// What a sequence may be made of.
pub struct Traffic<'a> {
    /// Makes a message: opcode and payload.
    pub message: &'a (dyn Fn(&mut ChaCha8Rng) -> (u8, Vec<u8>) + Sync),
    /// What may end it.
    pub violations: &'a [Violation],
    /// Whether the client may be gone without a word.
    pub may_be_gone: bool,
}

impl Sequence {
    /// The sequence of a seed.
    pub fn of(seed: u64, traffic: &Traffic<'_>) -> Sequence {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = Vec::new();
        for _ in 0..random.random_range(0..8) {
            let (opcode, payload) = (traffic.message)(random);
            put_message(random, opcode, &payload, &mut bytes);
        }
        let ending = match random.random_range(0..10) {
            0..4 => Ending::Violation(traffic.violations.choose(random).expect("there are some").clone()),
            4..7 => Ending::Close,
            7 if traffic.may_be_gone => Ending::Gone,
            _ => Ending::Ping,
        };
        put_ending(random, &ending, &mut bytes);
        let segments = cut(random, bytes.len());
        Sequence { seed, bytes, ending, segments }
    }

    /// One message and the last ping.
    pub fn of_message(seed: u64, opcode: u8, payload: &[u8]) -> Sequence {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = Vec::new();
        put_message(random, opcode, payload, &mut bytes);
        put_ending(random, &Ending::Ping, &mut bytes);
        let segments = cut(random, bytes.len());
        Sequence { seed, bytes, ending: Ending::Ping, segments }
    }

    /// Writes it; the relay may have closed meanwhile.
    pub fn write(&self, stream: &mut TcpStream) {
        for (segment, waits) in &self.segments {
            if stream.write_all(&self.bytes[segment.clone()]).is_err() {
                return;
            }
            if *waits {
                thread::sleep(Duration::from_micros(500));
            }
        }
    }
}

/// Sends a sequence; gives what the relay wrote to its sender until it hung up.
pub fn converse(sender: &mut Raw, sequence: &Sequence) -> Vec<u8> {
    let (reader, mut writer) = (sender.writer(), sender.writer());
    thread::scope(|scope| {
        let back = scope.spawn(move || {
            listen(reader, |frame| match &sequence.ending {
                // The relay is the first to hang up then (section 7.1.1).
                Ending::Close => false,
                Ending::Violation(_) => frame.opcode == CLOSE,
                Ending::Ping | Ending::Gone => frame.opcode == PONG && frame.payload == LAST,
            })
        });
        sequence.write(&mut writer);
        if matches!(sequence.ending, Ending::Gone) {
            let _ = writer.shutdown(Shutdown::Write);
        }
        back.join().expect("it listens to the end")
    })
}

/// Reads to the end of the stream. Answers a close frame, unless the stream is hung up: at the first close frame or
/// pong at which it is to be.
pub fn listen(mut stream: TcpStream, hangs_up: impl Fn(&wire::Frame) -> bool) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
    let (mut bytes, mut at, mut chunk) = (Vec::new(), 0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the relay does not hang up; it wrote {} bytes", bytes.len())
            }
            Err(_) => return bytes,
        }
        while let Some((header, payload)) = wire::server_frame_len(&bytes[at..])
            && bytes.len() >= at + header + payload
        {
            let opcode = bytes[at] & 0x0F;
            let frame = wire::Frame {
                fin: bytes[at] & FIN != 0,
                opcode,
                payload: if opcode >= CLOSE {
                    bytes[at + header..at + header + payload].to_vec()
                } else {
                    vec![]
                },
            };
            at += header + payload;
            if opcode >= CLOSE && hangs_up(&frame) {
                if opcode == CLOSE {
                    let _ = stream.write_all(&wire::message(CLOSE, &frame.payload));
                }
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
    }
}

/// A length from around everything that changes a header, and at most this.
pub fn length(random: &mut impl Rng, most: usize) -> usize {
    let small = [0, 1, 2, 5, 124, 125, 126, 127, 128, 300, 1000, 4000];
    let large = [16_383, 16_384, 65_534, 65_535, 65_536, 65_537, 70_000, 200_000];
    let lengths: &[usize] = if random.random_bool(0.15) { &large } else { &small };
    (*lengths.choose(random).expect("there are some")).min(most)
}

/// Text of this many bytes, of characters of one to four bytes each.
pub fn text(random: &mut impl Rng, len: usize) -> String {
    let mut text = String::with_capacity(len);
    while text.len() < len {
        let character =
            *['a', '\0', '\u{e9}', '\u{20ac}', '\u{1f980}'].choose(random).expect("there are some");
        text.push(if text.len() + character.len_utf8() <= len { character } else { 'z' });
    }
    text
}

/// Writes a message as one frame or several, with control frames between them.
fn put_message(random: &mut ChaCha8Rng, opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    let count = if random.random_bool(0.6) { random.random_range(2..6) } else { 1 };
    let mut cuts: Vec<usize> = (1..count).map(|_| random.random_range(0..=payload.len())).collect();
    cuts.extend([0, payload.len()]);
    cuts.sort_unstable();
    for (n, ends) in cuts.windows(2).enumerate() {
        if random.random_bool(0.3) {
            let control = if random.random_bool(0.7) { PING } else { PONG };
            let len = *[0, 1, 4, 124, 125].choose(random).expect("there are some");
            let payload = bulk::content(random, len);
            out.extend(client_frame(FIN | control, mask(random), &payload));
        }
        let first = if n == 0 { opcode } else { CONTINUATION } | if n + 1 == count { FIN } else { 0 };
        out.extend(client_frame(first, mask(random), &payload[ends[0]..ends[1]]));
    }
}

fn put_ending(random: &mut ChaCha8Rng, ending: &Ending, out: &mut Vec<u8>) {
    let opcode = *[TEXT, BINARY].choose(random).expect("there are some");
    let within = random.random_bool(0.3);
    match ending {
        Ending::Ping => out.extend(client_frame(FIN | PING, mask(random), LAST)),
        Ending::Gone => out.truncate(random.random_range(0..=out.len())),
        Ending::Close => {
            if within {
                out.extend(client_frame(opcode, mask(random), b"begun"));
            }
            let codes =
                [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999];
            let len = length(random, 123);
            let reason = text(random, len);
            let payload = match codes.choose(random) {
                Some(code) if random.random_bool(0.8) => wire::close_payload(*code, reason.as_bytes()),
                _ => Vec::new(),
            };
            out.extend(client_frame(FIN | CLOSE, mask(random), &payload));
        }
        Ending::Violation(violation) => {
            if within && violation.also_within {
                out.extend(client_frame(opcode, mask(random), b"begun"));
            }
            out.extend(&violation.bytes);
            if !violation.is_common() {
                // Others would read on.
                return;
            }
        }
    }
    if matches!(ending, Ending::Close | Ending::Violation(_)) && random.random_bool(0.5) {
        out.extend([message(TEXT, b"late"), message(PING, b"late"), message(CLOSE, b"")].concat());
    }
}

fn mask(random: &mut impl Rng) -> [u8; 4] {
    if random.random_bool(0.3) { [0; 4] } else { random.random() }
}

/// Cuts this many bytes: not at all, in two, behind every byte, or anywhere; some cuts come with a pause.
fn cut(random: &mut impl Rng, len: usize) -> Vec<(Range<usize>, bool)> {
    let way = random.random_range(0..4);
    let mut segments = Vec::new();
    let mut at = 0;
    while at < len {
        let size = match way {
            0 => len,
            1 if at == 0 => random.random_range(1..=len),
            1 => len,
            2 if len <= 1000 => 1,
            _ => {
                let most = *[1, 2, 7, 13, 500, 10_000, 1_000_000].choose(random).expect("there are some");
                random.random_range(1..=most)
            }
        };
        let end = at.saturating_add(size).min(len);
        let waits = way == 1 || segments.len() < 200 && random.random_bool(0.1);
        segments.push((at..end, waits));
        at = end;
    }
    segments
}
