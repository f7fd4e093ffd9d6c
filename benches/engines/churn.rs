//! Sessions that come and go: the whole introduction and the whole farewell, closed loop.
//!
//! A session is a client that upgrades and resolves the host, the host's dial-back that upgrades and accepts, one
//! message from one to the other, which proves that they are joined, and the client's close, which reaches both.
//! A fixed number of sessions is under way at any time. Everything is checked: an answer that does not fit where
//! its session stands ends the measurement.
//!
//! The server closes its sockets first, as RFC 6455 section 7.1.1 wants it; what is left of a connection is then
//! reset, so that no session leaves a port behind in TIME_WAIT.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    fd::OwnedFd,
    io::retry_on_intr,
    net::sockopt,
};
use serde_json::{Value, json};

use crate::{
    frame::{self, ServerFrame, take_server_frame},
    session::{Host, connect, upgrade_request},
};

/// A goal that is not reached within this time is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const EVENTS_MAX: usize = 1024;
const CONTROL: u64 = u64::MAX;
/// The one message of a session; the session's number is the rest of it.
const PROOF: &[u8] = b"joined ";
const NORMAL_CLOSURE: u16 = 1000;

/// Running sessions.
pub struct Churn {
    address: SocketAddr,
    host: Host,
    control_input: Vec<u8>,
    set: OwnedFd,
    /// A session's client at twice its place, the host's end behind it. A place's number is its token in `set`.
    ends: Vec<Option<End>>,
    /// Clients whose host has still to dial back, by link id.
    waiting: HashMap<String, usize>,
    finished: u64,
}

struct End {
    stream: TcpStream,
    input: Vec<u8>,
    link: String,
    stage: Stage,
}

/// What an end waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Upgrade,
    /// A client's alone.
    Found,
    Relaying,
    /// A host's end alone.
    Proof,
    Close,
    EndOfStream,
}

impl Churn {
    /// Registers the host's control socket with `sessions` sessions, whose first words leave here.
    pub fn start(address: SocketAddr, host: Host, sessions: usize) -> Result<Churn, String> {
        let set = epoll::create(CreateFlags::CLOEXEC).map_err(|error| format!("no epoll set: {error}"))?;
        let watched = host
            .control
            .set_nonblocking(true)
            .and_then(|()| Ok(epoll::add(&set, &host.control, EventData::new_u64(CONTROL), EventFlags::IN)?));
        watched.map_err(|error| format!("watching the control socket: {error}"))?;
        let mut churn = Churn {
            address,
            host,
            control_input: Vec::new(),
            set,
            ends: (0..2 * sessions).map(|_| None).collect(),
            waiting: HashMap::new(),
            finished: 0,
        };
        for session in 0..sessions {
            churn.open(2 * session, String::new())?;
        }
        Ok(churn)
    }

    /// Lets sessions come and go until `span` has passed and `sessions` have ended. How many ended, and in what
    /// time.
    pub fn run(&mut self, span: Duration, sessions: u64) -> Result<(u64, Duration), String> {
        let (finished, began) = (self.finished, Instant::now());
        let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            let elapsed = began.elapsed();
            if elapsed >= span && self.finished - finished >= sessions {
                return Ok((self.finished - finished, elapsed));
            }
            if elapsed > span + PATIENCE {
                let stages: Vec<_> = self.ends.iter().flatten().map(|end| end.stage).collect();
                return Err(format!("too few sessions ended; the ends wait for {stages:?}"));
            }
            events.clear();
            retry_on_intr(|| epoll::wait(&self.set, spare_capacity(&mut events), Some(&tenth)))
                .map_err(|error| error.to_string())?;
            for event in &events {
                match event.data.u64() {
                    CONTROL => self.hear_control()?,
                    place => self.hear(place as usize)?,
                }
            }
        }
    }

    /// Connects an end and asks for its upgrade.
    fn open(&mut self, place: usize, link: String) -> Result<(), String> {
        let stream = connect(self.address)?;
        let watch = || {
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
            stream.set_nonblocking(true)?;
            epoll::add(&self.set, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
            (&stream).write_all(upgrade_request(self.address).as_bytes())
        };
        watch().map_err(|error: std::io::Error| format!("opening a session: {error}"))?;
        self.ends[place] = Some(End { stream, input: Vec::new(), link, stage: Stage::Upgrade });
        Ok(())
    }

    /// The control socket hears of every client, and dials back for it.
    fn hear_control(&mut self) -> Result<(), String> {
        read_some(&self.host.control, &mut self.control_input)?;
        while let Some(frame) = take_server_frame(&mut self.control_input)? {
            let ServerFrame::Text(text) = frame else { return Err(format!("{frame:?} to the host")) };
            let message = parse(&text)?;
            match message["type"].as_str() {
                Some("arrived") => {}
                Some("relay") => {
                    let link = text_of(&message["linkId"])?;
                    let client = self.waiting.remove(&link).ok_or("a relay for a link that nobody has")?;
                    self.open(client + 1, link)?;
                }
                _ => return Err(format!("{message} to the host")),
            }
        }
        Ok(())
    }

    fn hear(&mut self, place: usize) -> Result<(), String> {
        // Its session may have ended in this very turn.
        let Some(end) = &mut self.ends[place] else { return Ok(()) };
        let is_open = read_some(&end.stream, &mut end.input)?;
        loop {
            let Some(end) = &mut self.ends[place] else { return Ok(()) };
            if end.stage == Stage::Upgrade {
                let Some(rest) = head_end(&end.input) else { break };
                if !end.input.starts_with(b"HTTP/1.1 101 ") {
                    return Err(format!("no upgrade: {:?}", String::from_utf8_lossy(&end.input)));
                }
                end.input.drain(..rest);
                self.upgraded(place)?;
                continue;
            }
            let Some(frame) = take_server_frame(&mut end.input)? else { break };
            let stage = end.stage;
            self.take(place, frame).map_err(|error| format!("an end that waits for {stage:?}: {error}"))?;
        }
        match &self.ends[place] {
            Some(end) if !is_open && end.stage != Stage::EndOfStream => {
                Err(format!("the stream of an end that waits for {:?} ended", end.stage))
            }
            Some(_) if !is_open => self.ended(place),
            _ => Ok(()),
        }
    }

    fn upgraded(&mut self, place: usize) -> Result<(), String> {
        let address = self.host.name.clone();
        let Some(end) = &mut self.ends[place] else { return Ok(()) };
        if is_client(place) {
            end.stage = Stage::Found;
            end.say(json!({ "type": "resolve", "address": address }))
        } else {
            end.stage = Stage::Relaying;
            let link = end.link.clone();
            end.say(json!({ "type": "accept", "linkId": link }))
        }
    }

    fn take(&mut self, place: usize, frame: ServerFrame) -> Result<(), String> {
        let Some(end) = &mut self.ends[place] else { return Ok(()) };
        match (end.stage, frame) {
            (Stage::Found, ServerFrame::Text(text)) => {
                let found = expect(&text, "found")?;
                end.link = text_of(&found["linkId"])?;
                end.stage = Stage::Relaying;
                self.waiting.insert(end.link.clone(), place);
                let link = end.link.clone();
                end.say(json!({ "type": "relay", "linkId": link }))
            }
            (Stage::Relaying, ServerFrame::Text(text)) => {
                let relaying = expect(&text, "relaying")?;
                if text_of(&relaying["linkId"])? != end.link {
                    return Err("it is about another link".to_owned());
                }
                if !is_client(place) {
                    end.stage = Stage::Proof;
                    return Ok(());
                }
                end.stage = Stage::Close;
                end.send(&frame::binary(&proof(place)))
            }
            (Stage::Proof, ServerFrame::Binary(payload)) => {
                if payload != proof(place) {
                    return Err(format!("{:?} is not its proof", String::from_utf8_lossy(&payload)));
                }
                end.stage = Stage::Close;
                match &mut self.ends[place - 1] {
                    Some(client) => client.send(&frame::close(NORMAL_CLOSURE)),
                    None => Err("its client is gone".to_owned()),
                }
            }
            (Stage::Close, ServerFrame::Close) => {
                end.stage = Stage::EndOfStream;
                // The client began it.
                if is_client(place) { Ok(()) } else { end.send(&frame::close(NORMAL_CLOSURE)) }
            }
            (_, frame) => Err(format!("{frame:?}")),
        }
    }

    /// The next session takes the place of one both of whose ends are through.
    fn ended(&mut self, place: usize) -> Result<(), String> {
        self.ends[place] = None;
        if self.ends[place ^ 1].is_some() {
            return Ok(());
        }
        self.finished += 1;
        self.open(place & !1, String::new())
    }
}

impl End {
    fn say(&mut self, message: Value) -> Result<(), String> {
        self.send(&frame::text(&message.to_string()))
    }

    /// To a socket that has room: next to nothing is ever under way on it.
    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| format!("sending: {error}"))
    }
}

fn proof(place: usize) -> Vec<u8> {
    [PROOF, &(place as u32 / 2).to_be_bytes()].concat()
}

fn is_client(place: usize) -> bool {
    place.is_multiple_of(2)
}

/// Appends what there is. `false` at the end of the stream.
fn read_some(mut stream: &TcpStream, input: &mut Vec<u8>) -> Result<bool, String> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) => Ok(false),
        Ok(count) => {
            input.extend_from_slice(&piece[..count]);
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(format!("reading: {error}")),
    }
}

/// Where an HTTP head ends, if it does.
fn head_end(input: &[u8]) -> Option<usize> {
    input.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{text:?} is no JSON: {error}"))
}

fn expect(text: &str, kind: &str) -> Result<Value, String> {
    let message = parse(text)?;
    if message["type"] == kind { Ok(message) } else { Err(format!("{message} instead of {kind}")) }
}

fn text_of(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} instead of a text"))
}
