//! A relay that lies: a proxy in front of an honest one that changes what it relays, once.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

/// What it does to the relayed message whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing: what is found with it is the proxy's fault.
    None,
    FlipStamp,
    FlipMiddle,
    FlipLast,
    /// The message is lost.
    Drop,
    /// It arrives twice.
    Duplicate,
    /// It arrives behind its successor.
    Swap,
    /// Its last byte is lost.
    Cut,
    /// Two of its bytes change places.
    SwapBytes,
    /// It arrives as text.
    Text,
    /// It arrives as binary.
    Binary,
}

/// Starts the proxy; it serves until the test's process ends. The lie meets the relayed message of number `victim`,
/// counted over all connections.
pub fn start(relay: SocketAddr, lie: Lie, victim: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let counter = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(relay).expect("the relay accepts");
            for stream in [&client, &server] {
                stream.set_nodelay(true).expect("a TCP socket");
            }
            let (to_server, to_client) = (server.try_clone(), client.try_clone());
            let (to_server, to_client) = (to_server.expect("a copy"), to_client.expect("a copy"));
            thread::spawn(move || pass(client, to_server));
            let counter = Arc::clone(&counter);
            thread::spawn(move || tell(server, to_client, lie, victim, &counter));
        }
    });
    address
}

/// From the generator to the relay: as it is.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// From the relay to the generator.
fn tell(mut from: TcpStream, mut to: TcpStream, lie: Lie, victim: u32, counter: &AtomicU32) {
    // Ends with the connection, whose end is passed on.
    let _ = relay(&mut from, &mut to, lie, victim, counter);
    let _ = to.shutdown(Shutdown::Write);
}

fn relay(
    from: &mut TcpStream,
    to: &mut TcpStream,
    lie: Lie,
    victim: u32,
    counter: &AtomicU32,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        head.extend(byte);
    }
    to.write_all(&head)?;
    let mut behind: Option<Vec<u8>> = None;
    let mut begun = None;
    loop {
        let (frame, payload_at) = read_frame(from)?;
        let Some((mut frame, payload_at)) = joined(&mut begun, frame, payload_at) else { continue };
        // Of text, what a paired device sent.
        let is_data = match frame[0] & 0x0f {
            2 => true,
            1 => frame.windows(7).any(|part| part == b"\"from\":"),
            _ => false,
        };
        if is_data && let Some(first) = behind.take() {
            to.write_all(&frame)?;
            to.write_all(&first)?;
            continue;
        }
        if !is_data || counter.fetch_add(1, Ordering::Relaxed) != victim {
            to.write_all(&frame)?;
            continue;
        }
        let last = frame.len() - 1;
        match lie {
            Lie::None => {}
            Lie::FlipStamp => frame[payload_at + 1] ^= 0x80,
            Lie::FlipMiddle => frame[payload_at + 60] ^= 0x01,
            Lie::FlipLast => frame[last] ^= 0x10,
            Lie::Drop => continue,
            Lie::Duplicate => to.write_all(&frame.clone())?,
            Lie::Swap => {
                behind = Some(frame);
                continue;
            }
            Lie::Cut => {
                frame.pop();
                match payload_at {
                    2 => frame[1] -= 1,
                    _ => {
                        let length = u16::from_be_bytes([frame[2], frame[3]]) - 1;
                        frame[2..4].copy_from_slice(&length.to_be_bytes());
                    }
                }
            }
            Lie::SwapBytes => {
                // Neighbours that are alike would be no change.
                let place =
                    (payload_at + 20..last).find(|at| frame[*at] != frame[at + 1]).expect("random bytes");
                frame.swap(place, place + 1);
            }
            Lie::Text => frame[0] = frame[0] & 0xf0 | 1,
            Lie::Binary => frame[0] = frame[0] & 0xf0 | 2,
        }
        to.write_all(&frame)?;
    }
}

/// A message in one frame, once its last has come: what is a lie about a message is nonsense about a part of it, and
/// the relay cuts a message where a read of it ends.
fn joined(begun: &mut Option<Vec<u8>>, frame: Vec<u8>, payload_at: usize) -> Option<(Vec<u8>, usize)> {
    let (is_last, opcode) = (frame[0] & 0x80 != 0, frame[0] & 0x0f);
    if opcode >= 8 || begun.is_none() && is_last {
        return Some((frame, payload_at));
    }
    // The first byte of the first, and all payload.
    let message = begun.get_or_insert_with(|| vec![0x80 | opcode]);
    message.extend(&frame[payload_at..]);
    if !is_last {
        return None;
    }
    let message = begun.take()?;
    let length = u16::try_from(message.len() - 1).expect("a message of at most 64 KiB");
    let mut whole = vec![message[0]];
    match u8::try_from(length) {
        Ok(short @ ..126) => whole.push(short),
        _ => whole.extend([&[126][..], &length.to_be_bytes()].concat()),
    }
    let payload_at = whole.len();
    whole.extend(&message[1..]);
    Some((whole, payload_at))
}

/// A whole frame of at most 64 KiB, and where its payload begins.
fn read_frame(from: &mut TcpStream) -> std::io::Result<(Vec<u8>, usize)> {
    let mut frame = vec![0; 2];
    from.read_exact(&mut frame)?;
    let (length, payload_at) = match frame[1] {
        126 => {
            let mut long = [0; 2];
            from.read_exact(&mut long)?;
            frame.extend(long);
            (usize::from(u16::from_be_bytes(long)), 4)
        }
        length => (usize::from(length), 2),
    };
    frame.resize(payload_at + length, 0);
    from.read_exact(&mut frame[payload_at..])?;
    Ok((frame, payload_at))
}
