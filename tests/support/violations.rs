//! Byte sequences that break RFC 6455, what the relay closes their sender with, and where other implementations see
//! them differently.

use super::{
    verdict::{self, End},
    wire::{self, BINARY, CLOSE, CONTINUATION, FIN, MASK, PING, TEXT, client_frame, client_header, message},
};

/// Bytes that break the protocol.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What is wrong with them.
    pub what: &'static str,
    /// The code that tells their sender.
    pub code: u16,
    pub bytes: Vec<u8>,
    /// Whether they are as wrong behind the first fragment of a message.
    pub also_within: bool,
    /// What `tungstenite` and what `ws` conclude from them.
    pub tungstenite: End,
    pub ws: End,
}

impl Violation {
    /// One that all agree on.
    pub fn new(what: &'static str, code: u16, bytes: Vec<u8>) -> Violation {
        let fault = End::Fault(code);
        Violation { what, code, bytes, also_within: true, tungstenite: fault.clone(), ws: fault }
    }

    /// One that needs to stand between messages.
    fn between(mut self) -> Violation {
        self.also_within = false;
        self
    }

    /// One that others judge in another way, between messages.
    fn but(mut self, tungstenite: End, ws: End) -> Violation {
        (self.tungstenite, self.ws) = (tungstenite, ws);
        self.between()
    }

    /// Whether all agree on it.
    pub fn is_common(&self) -> bool {
        let fault = End::Fault(self.code);
        self.tungstenite == fault && self.ws == fault
    }
}

/// What breaks the protocol on every socket.
pub fn violations() -> Vec<Violation> {
    let new = Violation::new;
    let close = |payload: &[u8]| message(CLOSE, payload);
    let lying = |second: u8, length: &[u8]| [&[FIN | TEXT, second][..], length, &MASK].concat();
    let first = || client_frame(TEXT, MASK, b"x");
    let mut all = vec![
        new("not masked", 1002, vec![FIN | TEXT, 5, b'h', b'e', b'l', b'l', b'o']).between(),
        new("empty and not masked", 1002, vec![FIN | TEXT, 0]).between(),
        new("a ping not masked", 1002, vec![FIN | PING, 0]),
        new("a close not masked", 1002, vec![FIN | CLOSE, 2, 3, 232]),
        new("RSV1", 1002, client_frame(FIN | 0x40 | TEXT, MASK, b"x")),
        new("RSV2", 1002, client_frame(FIN | 0x20 | TEXT, MASK, b"x")),
        new("RSV3", 1002, client_frame(FIN | 0x10 | BINARY, MASK, b"x")),
        new("RSV1 on a ping", 1002, client_frame(FIN | 0x40 | PING, MASK, b"x")),
        new(
            "RSV1 on a continuation",
            1002,
            [first(), client_frame(FIN | 0x40 | CONTINUATION, MASK, b"x")].concat(),
        )
        .between(),
        new("a ping of 126 bytes", 1002, client_frame(FIN | PING, MASK, &[0; 126])),
        new("a ping of 65536 bytes", 1002, client_frame(FIN | PING, MASK, &[0; 65_536])),
        new("a close of 126 bytes", 1002, client_frame(FIN | CLOSE, MASK, &[3; 126])),
        new("a fragmented ping", 1002, client_frame(PING, MASK, b"x")),
        new("a fragmented close", 1002, client_frame(CLOSE, MASK, &wire::close_payload(1000, b""))),
        new("a continuation of nothing", 1002, client_frame(FIN | CONTINUATION, MASK, b"x")).between(),
        new("a first fragment that continues", 1002, client_frame(CONTINUATION, MASK, b"x")).between(),
        new("text within a text", 1002, [first(), client_frame(FIN | TEXT, MASK, b"x")].concat()).between(),
        new("binary within a text", 1002, [first(), client_frame(BINARY, MASK, b"x")].concat()).between(),
        new("a close of one byte", 1002, close(&[3])),
        new("a close reason that is not UTF-8", 1007, close(&wire::close_payload(1000, b"\xC3\x28"))),
        new("a close reason cut in a character", 1007, close(&wire::close_payload(1000, b"\xE2\x82"))),
        // Section 5.2 has the sender use the shortest form. Others take any, and wait for the payload.
        new("125 in two bytes", 1002, lying(0x80 | 126, &125_u16.to_be_bytes())).but(End::Open, End::Open),
        new("1 in eight bytes", 1002, lying(0x80 | 127, &1_u64.to_be_bytes())).but(End::Open, End::Open),
        new("0 in two bytes", 1002, lying(0x80 | 126, &0_u16.to_be_bytes())).but(End::Open, End::Open),
        new("65535 in eight bytes", 1002, lying(0x80 | 127, &65_535_u64.to_be_bytes()))
            .but(End::Open, End::Open),
        // And has the highest bit clear. Others see a message that is too long.
        new("the highest bit of a length", 1002, lying(0x80 | 127, &(1_u64 << 63 | 70_000).to_be_bytes()))
            .but(End::Fault(1009), End::Fault(1009)),
    ];
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        all.push(new("a reserved opcode", 1002, client_frame(FIN | opcode, MASK, b"x")));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535] {
        let bytes = close(&wire::close_payload(code, b""));
        all.push(new("a close code that is not for the wire", 1002, bytes));
    }
    all
}

/// What is too much for every relayed message, shown by a header alone.
pub fn too_long() -> Violation {
    let header = client_header(FIN | BINARY, MASK, verdict::MESSAGE_MAX as u64 + 1);
    Violation::new("16 MiB and a byte", 1009, header).between()
}

/// What breaks the protocol where text is read: a relayed one is the two peers' own affair.
pub fn text_violations() -> Vec<Violation> {
    let bad = [&b"\xFF"[..], b"\xC0\x80", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xE2\x82"];
    let whole = bad.map(|text| ("text that is not UTF-8", message(TEXT, text)));
    let cut = bad.map(|text| {
        let (one, other) = text.split_at(text.len() / 2);
        let frames = [client_frame(TEXT, MASK, one), client_frame(FIN | CONTINUATION, MASK, other)];
        ("fragments that are not UTF-8 together", frames.concat())
    });
    let all = whole.into_iter().chain(cut);
    all.map(|(what, bytes)| Violation::new(what, 1007, bytes).between()).collect()
}
