//! A peer made of bytes: it sends anything, also what no library would, and sees every frame it gets.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};

use super::{
    PATIENCE,
    end::{End, Heard},
    http::Http,
    relay::{LINK_PATH, Relay},
    wire::{self, Frame},
};

/// The key of RFC 6455's own example.
pub const EXAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What the RFC says to answer to it.
pub const EXAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A WebSocket whose frames are written and read one by one.
pub struct Raw {
    stream: TcpStream,
    unread: BytesMut,
    ended: bool,
    partial: Option<(u8, Vec<u8>)>,
    pongs: VecDeque<Vec<u8>>,
    /// Whether pings are answered. A peer that does not is dropped in time.
    pub answers_pings: bool,
    /// Pings heard so far.
    pub pings: usize,
    /// Data frames heard so far.
    pub data_frames: usize,
}

/// The request head of a correct upgrade to link.
pub fn upgrade_head(relay: &Relay) -> String {
    upgrade_head_at(relay, LINK_PATH)
}

/// The request head of a correct upgrade on a path.
pub fn upgrade_head_at(relay: &Relay, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {EXAMPLE_KEY}\r\n\r\n",
        relay.address
    )
}

impl End for Raw {
    fn open_at(relay: &Relay, path: &str) -> Raw {
        Raw::at(relay.dial(), relay, path)
    }

    fn say(&mut self, text: &str) {
        self.write(&wire::message(wire::TEXT, text.as_bytes()));
    }

    fn hear(&mut self, within: Duration) -> Heard {
        let deadline = Instant::now() + within;
        loop {
            let frame = match self.frame_by(deadline) {
                Next::Frame(frame) => frame,
                Next::End => return Heard::Dropped,
                Next::Nothing => return Heard::Nothing,
            };
            let (opcode, message) = match (frame.opcode, self.partial.take()) {
                (wire::CLOSE, _) => {
                    let code = frame.payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                    self.write(&wire::message(wire::CLOSE, &frame.payload));
                    let reason = frame.payload.get(2..).unwrap_or_default();
                    let reason = String::from_utf8(reason.to_vec()).expect("a close reason is UTF-8");
                    return Heard::Closed(code.unwrap_or(1005), reason);
                }
                (wire::CONTINUATION, Some((opcode, mut message))) => {
                    message.extend_from_slice(&frame.payload);
                    (opcode, message)
                }
                (wire::TEXT | wire::BINARY, None) => (frame.opcode, frame.payload),
                (opcode, partial) => panic!(
                    "the relay sent opcode {opcode} {} a message",
                    if partial.is_some() { "within" } else { "outside" }
                ),
            };
            if !frame.fin {
                self.partial = Some((opcode, message));
            } else if opcode == wire::TEXT {
                return Heard::Text(String::from_utf8(message).expect("the test sends text that is UTF-8"));
            } else {
                return Heard::Binary(message);
            }
        }
    }
}

enum Next {
    Frame(Frame),
    End,
    Nothing,
}

impl Raw {
    /// Upgrades a stream to speak link.
    pub fn over(stream: TcpStream, relay: &Relay) -> Raw {
        Raw::at(stream, relay, LINK_PATH)
    }

    /// Upgrades a stream on a path.
    pub fn at(stream: TcpStream, relay: &Relay, path: &str) -> Raw {
        let mut http = Http::over(stream);
        http.write(upgrade_head_at(relay, path).as_bytes());
        Raw::upgraded(http)
    }

    /// Takes over a connection on which an upgrade was asked for, but not yet answered.
    pub fn upgraded(mut http: Http) -> Raw {
        let response = http.response().expect("the relay answers the upgrade");
        assert_eq!(response.status, 101, "{}", response.status_line);
        Raw::behind(http)
    }

    /// Takes over a connection whose upgrade was answered.
    pub fn behind(http: Http) -> Raw {
        let (stream, unread) = http.into_parts();
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        Raw {
            stream,
            unread: BytesMut::from(&unread[..]),
            ended: false,
            partial: None,
            pongs: VecDeque::new(),
            answers_pings: true,
            pings: 0,
            data_frames: 0,
        }
    }

    /// A peer whose socket buffers are small.
    pub fn narrow(relay: &Relay) -> Raw {
        Raw::over(relay.dial_narrow(), relay)
    }

    /// Writes bytes as they are. That the relay has closed meanwhile is for the reader to find out.
    pub fn write(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the relay took nothing for {PATIENCE:?}")
            }
            _ => {}
        }
    }

    /// Writes bytes until the relay has taken nothing for `patience`; returns how many it took. Pings are not
    /// answered any more then: the pong would stand in the middle of a frame.
    pub fn write_until_blocked(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("a timeout that is not zero");
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        self.answers_pings &= written == bytes.len();
        written
    }

    /// The next frame that is not a ping or a pong; fails when the stream ends first.
    pub fn frame(&mut self) -> Frame {
        match self.frame_by(Instant::now() + PATIENCE) {
            Next::Frame(frame) => frame,
            Next::End => panic!("the stream ended before a frame"),
            Next::Nothing => panic!("no frame in {PATIENCE:?}"),
        }
    }

    /// Sends a ping and waits for its pong; fails unless it is the next pong. Data that comes first is
    /// dropped, and its length returned.
    pub fn ping(&mut self, payload: &[u8], within: Duration) -> usize {
        self.write(&wire::message(wire::PING, payload));
        let deadline = Instant::now() + within;
        let mut data = 0;
        loop {
            if let Some(pong) = self.pongs.pop_front() {
                assert_eq!(pong, payload, "the pong answers another ping");
                return data;
            }
            match self.frame_or_pong_by(deadline) {
                Next::Frame(frame) => {
                    assert_ne!(frame.opcode, wire::CLOSE, "closed instead of a pong: {:?}", frame.payload);
                    data += frame.payload.len();
                }
                Next::End => panic!("the stream ended before a pong"),
                Next::Nothing if self.pongs.is_empty() => panic!("no pong in {within:?}"),
                Next::Nothing => {}
            }
        }
    }

    /// The payload of the next pong; fails when data comes first.
    pub fn pong(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.pongs.is_empty() {
            match self.frame_or_pong_by(deadline) {
                Next::Frame(frame) => panic!("{frame:?} instead of a pong"),
                Next::End => panic!("the stream ended before a pong"),
                Next::Nothing => assert!(Instant::now() < deadline, "no pong in {PATIENCE:?}"),
            }
        }
        self.pongs.pop_front().expect("the loop ends with one")
    }

    /// Hears this close code, whatever comes first and however the stream ends behind it; a thread may be
    /// sending.
    pub fn expect_closed_somehow(&mut self, code: u16) {
        loop {
            let frame = self.frame();
            if frame.opcode == wire::CLOSE {
                return assert_eq!(
                    frame.payload.get(..2),
                    Some(&code.to_be_bytes()[..]),
                    "another close code"
                );
            }
        }
    }

    /// Reads what is left until the stream ends, or breaks; fails if it does not.
    pub fn expect_lost(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.ended {
            assert!(Instant::now() < deadline, "the connection lives on");
            self.read_some(Duration::from_millis(100));
        }
    }

    /// A second handle to the stream, to write from another thread. Pings are not answered any more: the pong would
    /// stand in the middle of what that thread writes.
    pub fn writer(&mut self) -> TcpStream {
        self.answers_pings = false;
        self.stream.try_clone().expect("a descriptor")
    }

    /// Ends our direction of the stream, without a close frame.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Breaks the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP stream");
    }

    fn frame_by(&mut self, deadline: Instant) -> Next {
        loop {
            match self.frame_or_pong_by(deadline) {
                Next::Nothing if Instant::now() < deadline => {}
                next => return next,
            }
        }
    }

    /// The next frame; control frames below a message's level are dealt with, and a pong is noted and ends
    /// the call with `Nothing`.
    fn frame_or_pong_by(&mut self, deadline: Instant) -> Next {
        loop {
            if let Some((header, payload)) = wire::server_frame_len(&self.unread)
                && self.unread.len() >= header + payload
            {
                let first = self.unread[0];
                self.unread.advance(header);
                let payload = self.unread.split_to(payload).to_vec();
                let frame = Frame { fin: first & 0x80 != 0, opcode: first & 0x0F, payload };
                match frame.opcode {
                    wire::PING => {
                        self.pings += 1;
                        if self.answers_pings {
                            self.write(&wire::message(wire::PONG, &frame.payload));
                        }
                        continue;
                    }
                    wire::PONG => {
                        self.pongs.push_back(frame.payload);
                        return Next::Nothing;
                    }
                    wire::CLOSE => {}
                    _ => self.data_frames += 1,
                }
                return Next::Frame(frame);
            }
            if self.ended {
                return Next::End;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            self.read_some(left);
        }
    }

    /// Reads what is there into `unread`.
    pub fn read_some(&mut self, within: Duration) -> usize {
        self.stream.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("not zero");
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(n) => {
                self.unread.extend_from_slice(&chunk[..n]);
                return n;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => self.ended = true,
        }
        0
    }
}
