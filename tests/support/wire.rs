//! RFC 6455 frames, as the tests' own codec: what a client sends (also wrongly) and what a server may send.
//!
//! Written from the RFC and not from the product, so that it can contradict it.

/// Opcodes (RFC 6455 section 5.2).
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The bit of a frame that ends its message.
pub const FIN: u8 = 0x80;
/// A masking key.
pub const MASK: [u8; 4] = [0xA5, 0x01, 0xFE, 0x42];

/// A frame from the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// A masked client frame, correct unless the caller asks for nonsense in `first` (FIN, RSV and opcode).
pub fn client_frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = client_header(first, mask, payload.len() as u64);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The header of a masked client frame that announces `len` bytes.
pub fn client_header(first: u8, mask: [u8; 4], len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(0x80 | len as u8),
        126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&len.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&mask);
    bytes
}

/// A whole message in one frame, masked.
pub fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    client_frame(0x80 | opcode, [0x37, 0xFA, 0x21, 0x3D], payload)
}

/// A close frame's payload.
pub fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// Takes the length of header and payload from the start of a server's frame; `None` needs more bytes.
/// Fails on anything a server must not send.
pub fn server_frame_len(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "the relay set a reserved bit");
    assert!(matches!(first & 0x0F, 0..=2 | 8..=10), "the relay sent opcode {:#x}", first & 0x0F);
    assert_eq!(second & 0x80, 0, "the relay masked a frame");
    let (header, payload) = match second {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().expect("two bytes")))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("eight bytes"))),
        short => (2, u64::from(short)),
    };
    let minimal = match header {
        2 => true,
        4 => payload > 125,
        _ => payload > 65535,
    };
    assert!(minimal, "the relay sent a length of {payload} in a header of {header} bytes");
    if first & 0x08 != 0 {
        assert!(first & 0x80 != 0 && payload <= 125, "the relay sent a fragmented or long control frame");
    }
    Some((header, usize::try_from(payload).expect("a frame that fits the memory")))
}
