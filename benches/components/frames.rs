//! Frames: unmasking, headers, translating a receive buffer in place.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use longsplice::{
    driver::HEADROOM,
    proto::ws::{
        Cursor, Inbound, Opcode, Step,
        header::decode,
        outbound::{FrameHeader, client_frame},
        unmask,
    },
};
use tungstenite::protocol::frame::{Frame as TheirFrame, FrameHeader as TheirHeader};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Against the loop of RFC 6455 section 5.3, which a compiler may vectorise too, and tungstenite's, which is to be had
/// only with a frame around it: one that is written to nowhere.
pub fn masking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for len in [128, 16_384] {
        let mut bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut naive = bytes.clone();
        unmask(&mut bytes, KEY);
        let frame = || {
            let header = TheirHeader { mask: Some(KEY), ..TheirHeader::default() };
            let payload = Bytes::from((0..len).map(|i| i as u8).collect::<Vec<u8>>());
            TheirFrame::from_payload(header, payload)
        };
        let mut written = Vec::new();
        frame().format(&mut written).expect("a vector takes it");
        unmask_naive(&mut naive, KEY);
        assert_eq!(bytes, naive);
        assert!(written.ends_with(&naive));
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} B"), |bencher| {
            bencher.iter(|| unmask(black_box(&mut bytes), KEY));
        });
        group.bench_function(format!("{len} B, naive"), |bencher| {
            bencher.iter(|| unmask_naive(black_box(&mut naive), KEY));
        });
        group.bench_function(format!("{len} B, tungstenite"), |bencher| {
            let write = |frame: TheirFrame| frame.format(&mut std::io::sink());
            bencher.iter_batched(frame, write, BatchSize::SmallInput);
        });
    }
}

fn unmask_naive(bytes: &mut [u8], mask: [u8; 4]) {
    bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i % 4]);
}

/// Reading a client's header and writing ours, beside tungstenite's.
pub fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    for len in [100, 1_000, 100_000] {
        let mut wire = Vec::new();
        client_frame(&mut wire, true, Opcode::Binary, KEY, &vec![0; len]);
        let header = decode(&wire).expect("it is valid").expect("it is whole");
        assert_eq!((header.len, header.mask, header.fin), (len as u64, KEY, true));
        let (theirs, their_len) = parse_theirs(&wire);
        assert_eq!((their_len, theirs.mask), (header.len, Some(KEY)));
        group.bench_function(format!("read, {len} B frame"), |bencher| {
            bencher.iter(|| decode(black_box(&wire)))
        });
        group.bench_function(format!("read, {len} B frame, tungstenite"), |bencher| {
            bencher.iter(|| parse_theirs(black_box(&wire)));
        });

        let ours = TheirHeader { mask: None, ..theirs };
        let mut written = Vec::with_capacity(16);
        ours.format(len as u64, &mut written).expect("a vector takes it");
        assert_eq!(&*FrameHeader::new(Opcode::Binary, true, len as u64), &written[..]);
        group.bench_function(format!("write, {len} B frame"), |bencher| {
            bencher.iter(|| FrameHeader::new(Opcode::Binary, true, black_box(len as u64)));
        });
        group.bench_function(format!("write, {len} B frame, tungstenite"), |bencher| {
            bencher.iter(|| {
                written.clear();
                ours.format(black_box(len as u64), &mut written)
            });
        });
    }
}

fn parse_theirs(wire: &[u8]) -> (TheirHeader, u64) {
    let parsed = TheirHeader::parse(&mut std::io::Cursor::new(wire));
    parsed.expect("it is valid").expect("it is whole")
}

/// A receive buffer is refilled with the client's bytes before each round; `copy` is what that costs.
pub fn translating(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay");
    for (name, count, len, mask) in [
        ("64 x 128 B", 64, 128, KEY),
        ("1 x 64 KiB", 1, 65_536, KEY),
        ("1 x 64 KiB, zero mask", 1, 65_536, [0; 4]),
    ] {
        let mut wire = vec![0; HEADROOM];
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        (0..count).for_each(|_| client_frame(&mut wire, true, Opcode::Binary, mask, &payload));
        let mut buf = wire.clone();
        let run = relay(&mut buf);
        assert_eq!((run.payload, run.messages), (count * len, count));
        assert!(buf[run.out].ends_with(&payload));
        group.throughput(Throughput::Bytes((count * len) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                buf.copy_from_slice(&wire);
                relay(black_box(&mut buf))
            });
        });
        group.bench_function(format!("{name}, copy"), |bencher| {
            bencher.iter(|| black_box(&mut buf).copy_from_slice(&wire));
        });
    }
}

fn relay(buf: &mut [u8]) -> Cursor {
    let mut inbound = Inbound::new();
    let mut cursor = Cursor::at(HEADROOM);
    assert_eq!(inbound.relay(buf, &mut cursor, 0, usize::MAX, 0), Step::Empty);
    cursor
}
