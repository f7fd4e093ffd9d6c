//! Strangers: connections of a soak that misbehave from their first byte on, each by a script. Where the script says
//! what the relay has to answer, anything else is an error; where it says nothing, the stranger goes away without a
//! look.

use std::{
    io::ErrorKind,
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use longsplice::driver::dial::{self, DialOptions};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, sockopt},
};

use super::{
    mishap::between,
    payload::{self, BINARY, PING, TEXT},
    tally::{Lead, Stage, Tally},
    wire::{Frame, Host, Upgrade, accept, close, next_frame, resolve},
};
use crate::{scenario::Scenario, target::Target};

/// Lets strangers come, so many a second, from the traffic's begin to its end.
pub fn wander(scenario: &Scenario, target: &Target, lead: &Arc<Lead>, secret: [u8; 32]) -> Tally {
    let mut crowd = Crowd {
        target,
        upgrade: Upgrade::new(target),
        secret,
        random: ChaCha8Rng::seed_from_u64(scenario.seed ^ 0x5712),
        strangers: Vec::new(),
        tally: Tally::new(scenario),
    };
    let every = match scenario.hardship.as_ref().map_or(0.0, |hardship| hardship.strangers) {
        per_second if per_second > 0.0 => Duration::from_secs_f64(1.0 / per_second),
        _ => return crowd.tally,
    };
    while lead.stage() < Stage::Flow {
        thread::sleep(PACE);
    }
    let mut next = Instant::now();
    loop {
        let is_over =
            lead.stage() > Stage::Flow || lead.times().is_some_and(|times| Instant::now() >= times.end);
        while !is_over && Instant::now() >= next {
            next += every;
            crowd.come();
        }
        crowd.go_on(is_over);
        if is_over && crowd.strangers.is_empty() {
            return crowd.tally;
        }
        thread::sleep(PACE);
    }
}

struct Crowd<'a> {
    target: &'a Target,
    upgrade: Upgrade,
    secret: [u8; 32],
    random: ChaCha8Rng,
    strangers: Vec<Stranger>,
    tally: Tally,
}

/// What a stranger does.
struct Script {
    /// What it is counted as.
    name: &'static str,
    bytes: Vec<u8>,
    /// So many of them at once, one after another piece; `None` is all.
    piece: Option<usize>,
    /// What the relay answers before it closes the connection.
    answer: Answer,
}

/// What has to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Whatever it is; the stranger has gone by a reset, or without a word.
    Unseen { is_reset: bool },
    /// An HTTP status, one of these.
    Status(&'static [u16]),
    /// The end of the connection, whatever comes before.
    End,
    /// A WebSocket, and then a close with this code.
    Close(u16),
    /// A WebSocket, and then an `error` of this name; the stranger has gone then.
    Error(&'static str),
}

struct Stranger {
    name: &'static str,
    answer: Answer,
    socket: OwnedFd,
    output: Vec<u8>,
    piece: Option<usize>,
    input: Vec<u8>,
    /// When it goes away, or when the relay has had its time.
    until: Instant,
}

impl Crowd<'_> {
    fn come(&mut self) {
        if self.strangers.len() >= STRANGERS_MAX {
            return;
        }
        let Script { name, bytes, piece, answer } = self.script();
        let stay = match answer {
            Answer::Unseen { .. } => Duration::from_nanos(between(&mut self.random, STAY)),
            _ => PATIENCE,
        };
        match dial::begin(self.target.address, &DialOptions::default()) {
            Ok(socket) => {
                *self.tally.mishaps.entry(format!("stranger: {name}")).or_default() += 1;
                let until = Instant::now() + stay;
                let input = Vec::new();
                self.strangers.push(Stranger { name, answer, socket, output: bytes, piece, input, until });
            }
            Err(error) => self.complain(name, &format!("connecting: {error}")),
        }
    }

    /// One look at everyone. In the end, who only waits to go away goes.
    fn go_on(&mut self, is_over: bool) {
        let mut strangers = std::mem::take(&mut self.strangers);
        strangers.retain_mut(|stranger| match stranger.go_on(&self.upgrade, is_over) {
            None => true,
            Some(Ok(())) => false,
            Some(Err(what)) => {
                self.complain(stranger.name, &what);
                false
            }
        });
        self.strangers = strangers;
    }

    fn complain(&mut self, name: &str, what: &str) {
        *self.tally.errors.entry(format!("stranger ({name}): {what}")).or_default() += 1;
    }

    /// Draws what the next one does.
    fn script(&mut self) -> Script {
        let draw = self.random.next_u32();
        let is_reset = draw & 0x100 == 0;
        let head = self.upgrade.request().to_vec();
        let cut = draw as usize % head.len();
        let upgraded = |frames: &[u8]| [self.upgrade.request(), frames].concat();
        let text = |text: &str| upgraded(&payload::client_frame(TEXT, text.as_bytes(), MASK));
        let whole = |name, bytes, answer| Script { name, bytes, piece: None, answer };
        match draw % 20 {
            0 => whole("says nothing", Vec::new(), Answer::Unseen { is_reset }),
            1 => whole("says nothing until it is closed", Vec::new(), Answer::End),
            2 => whole("half a head", head[..cut].to_vec(), Answer::Unseen { is_reset }),
            3 => whole("half a head until it is closed", head[..cut].to_vec(), Answer::End),
            4 => Script {
                name: "slow head",
                bytes: upgraded(&close()),
                piece: Some(1 + cut % 9),
                answer: Answer::Close(NORMAL),
            },
            5 => whole("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00 nonsense\r\n\r\n".to_vec(), Answer::End),
            6 => whole(
                "unknown path",
                b"GET /no/such HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
                Answer::Status(&[404]),
            ),
            7 => whole("upgrade and a reset", head, Answer::Unseen { is_reset: true }),
            8 => whole("bad JSON", text("{\"type\":"), Answer::Close(BAD_REQUEST)),
            9 => whole("unknown type", text("{\"type\":\"no-such\"}"), Answer::Close(BAD_REQUEST)),
            10 => whole(
                "long control message",
                text(&format!("{{\"type\":\"{}\"}}", "x".repeat(5000))),
                Answer::Close(BAD_REQUEST),
            ),
            11 => whole(
                "bad UTF-8",
                upgraded(&payload::client_frame(TEXT, b"{\"\xff\"}", MASK)),
                Answer::Close(BAD_UTF8),
            ),
            12 => whole(
                "binary before any link",
                upgraded(&payload::client_frame(BINARY, &[7; 300], MASK)),
                Answer::Close(BAD_REQUEST),
            ),
            13 => {
                whole("frame without a mask", upgraded(&[0x81, 2, b'{', b'}']), Answer::Close(PROTOCOL_ERROR))
            }
            14 => whole("reserved bit", upgraded(&[0xc1, 0x80, 1, 2, 3, 4]), Answer::Close(PROTOCOL_ERROR)),
            15 => whole(
                "long ping",
                upgraded(&payload::client_frame(PING, &[0; 126], MASK)),
                Answer::Close(PROTOCOL_ERROR),
            ),
            16 => whole("unknown address", upgraded(&resolve(NOWHERE)), Answer::Error("unknown_address")),
            17 => whole("unknown link", upgraded(&accept(NO_LINK)), Answer::Error("unknown_link")),
            18 => {
                let host = Host::new(&self.secret, u64::MAX - u64::from(draw));
                whole(
                    "signed for another relay",
                    upgraded(&host.register("another.example")),
                    Answer::Close(REGISTER_AUTH),
                )
            }
            _ => {
                let pings = payload::client_frame(PING, &[1; 100], MASK).repeat(200);
                whole("many pings, no reading", upgraded(&pings), Answer::Unseen { is_reset })
            }
        }
    }
}

impl Stranger {
    /// Sends and reads what it can; its end, once it has come.
    fn go_on(&mut self, upgrade: &Upgrade, is_over: bool) -> Option<Result<(), String>> {
        self.send();
        if let Answer::Unseen { is_reset } = self.answer {
            let is_time = is_over || Instant::now() >= self.until;
            return is_time.then(|| {
                self.go_away(is_reset);
                Ok(())
            });
        }
        let has_ended = self.receive();
        match self.judge(upgrade, has_ended) {
            None if Instant::now() >= self.until => Some(Err("the relay did not answer in time".to_owned())),
            verdict => verdict,
        }
    }

    fn send(&mut self) {
        let piece = self.piece.unwrap_or(self.output.len()).min(self.output.len());
        if piece == 0 {
            return;
        }
        match rustix::net::send(
            &self.socket,
            &self.output[..piece],
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Ok(count) => drop(self.output.drain(..count)),
            Err(Errno::AGAIN | Errno::NOTCONN | Errno::INTR) => {}
            // The relay has closed already; what it said before can still be read.
            Err(_) => self.output.clear(),
        }
    }

    /// Whether the connection is over.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 4096];
        while self.input.len() < INPUT_BYTES_MAX {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return true,
                Ok((count, _)) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    let kind = std::io::Error::from(error).kind();
                    return !matches!(
                        kind,
                        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
                    );
                }
            }
        }
        true
    }

    fn go_away(&self, is_reset: bool) {
        let _ = match is_reset {
            true => sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO)),
            false => rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both),
        };
    }

    /// Whether what has come is what has to; `None` while that cannot be told.
    fn judge(&self, upgrade: &Upgrade, has_ended: bool) -> Option<Result<(), String>> {
        let found = match &self.answer {
            Answer::Unseen { .. } => return None,
            Answer::End => return has_ended.then_some(Ok(())),
            Answer::Status(wanted) => {
                let status = || std::str::from_utf8(self.input.get(9..12)?).ok()?.parse().ok();
                match status() {
                    Some(status) if wanted.contains(&status) => Some(Ok(())),
                    Some(status) => Some(Err(format!("answered {status}"))),
                    None => None,
                }
            }
            Answer::Close(wanted) => self.first_frame(upgrade, |frame| match frame {
                Frame::Close(Some(code), _) if code == *wanted => Some(Ok(())),
                Frame::Close(code, text) => Some(Err(format!("closed {code:?} {text}"))),
                Frame::Text(text) => Some(Err(format!("told {}", String::from_utf8_lossy(text)))),
                Frame::Ping(_) | Frame::Other => None,
            }),
            Answer::Error(wanted) => self.first_frame(upgrade, |frame| match frame {
                Frame::Text(text) if String::from_utf8_lossy(text).contains(wanted) => Some(Ok(())),
                Frame::Text(text) => Some(Err(format!("told {}", String::from_utf8_lossy(text)))),
                Frame::Close(code, text) => Some(Err(format!("closed {code:?} {text}"))),
                Frame::Ping(_) | Frame::Other => None,
            }),
        };
        found.or_else(|| has_ended.then(|| Err("the connection ended without an answer".to_owned())))
    }

    /// The first frame behind the upgrade's answer of which something is said.
    fn first_frame(
        &self,
        upgrade: &Upgrade,
        says: impl Fn(Frame<'_>) -> Option<Result<(), String>>,
    ) -> Option<Result<(), String>> {
        let mut at = match upgrade.answer(&self.input) {
            Ok(size) => size?,
            Err(refusal) => return Some(Err(refusal.kind())),
        };
        loop {
            match next_frame(&self.input[at..]) {
                Ok(None) => return None,
                Ok(Some((frame, size))) => {
                    if let Some(verdict) = says(frame) {
                        return Some(verdict);
                    }
                    at += size;
                }
                Err(refusal) => return Some(Err(refusal.kind())),
            }
        }
    }
}

const PACE: Duration = Duration::from_millis(20);
/// Longer than a relay waits for a head, twice.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long one stays that goes away by itself, in nanoseconds.
const STAY: (u64, u64) = (1_000_000, 8_000_000_000);
const STRANGERS_MAX: usize = 1000;
const INPUT_BYTES_MAX: usize = 64 << 10;
const MASK: [u8; 4] = [0x21, 0x43, 0x65, 0x87];
/// The shape of an address, and nobody's.
const NOWHERE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const NO_LINK: &str = "00000000-0000-4000-8000-000000000000";
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const BAD_UTF8: u16 = 1007;
const BAD_REQUEST: u16 = 4000;
const REGISTER_AUTH: u16 = 4007;
