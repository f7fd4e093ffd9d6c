//! A connection that speaks the control protocol: a host's for as long as it lives, a link's two until they carry
//! payload. Bytes in, what they mean out; it knows no socket.

use super::{
    device::{Card, Said},
    wire::{self, Frame, Host, Notice, Refusal, Upgrade},
};

/// What a connection is to become.
#[derive(Debug)]
pub enum Part {
    /// A host's control connection.
    Control,
    /// A client's end of a link to the host of this name.
    Client { address: Box<str> },
    /// A host's end of the link of this id.
    DialBack { link_id: Box<str> },
    /// The device that opens the session of the link of this number.
    Source { link: u32 },
    /// The device that joins it.
    Target { link: u32, session_id: Box<str> },
}

/// What came of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// The host is registered.
    Registered,
    /// The relay asks the host to dial back for this link.
    DialBack(Box<str>),
    /// The relay introduced this client; the id of its link.
    Found(Box<str>),
    /// The relay opened a session for this source; the session's id.
    Created(Box<str>),
    /// Payload flows from now on.
    Relaying,
}

/// The state of such a connection.
#[derive(Debug)]
pub struct Talk {
    part: Part,
    is_open: bool,
    input: Vec<u8>,
    /// What is to be sent and was not yet.
    pub output: Vec<u8>,
    /// Pings that were answered.
    pub pings: u64,
}

impl Talk {
    /// Begins with the upgrade.
    pub fn new(part: Part, upgrade: &Upgrade) -> Talk {
        Talk { part, is_open: false, input: Vec::new(), output: upgrade.request().to_vec(), pings: 0 }
    }

    /// Takes bytes that arrived. Followed by calls of [`step`](Talk::step) until it says `Wait`.
    pub fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next thing that the bytes so far mean. Answers are added to `output`. `host` is
    /// whose control connection it is, if it is one.
    pub fn step(&mut self, upgrade: &Upgrade, host: Option<&Host>, origin: &str) -> Result<Step, Refusal> {
        if !self.is_open {
            let Some(size) = upgrade.answer(&self.input)? else { return Ok(Step::Wait) };
            self.input.drain(..size);
            self.is_open = true;
            match &self.part {
                Part::Control => {
                    let host = host.expect("a control connection is a host's");
                    self.output.extend(host.register(origin));
                }
                Part::Client { address } => self.output.extend(wire::resolve(address)),
                Part::DialBack { link_id } => self.output.extend(wire::accept(link_id)),
                Part::Source { link } => self.output.extend(Card::new(*link, false).pair_source()),
                Part::Target { link, session_id } => {
                    self.output.extend(Card::new(*link, true).pair_target(session_id));
                }
            }
        }
        loop {
            let Some((frame, size)) = wire::next_frame(&self.input)? else {
                if self.input.is_empty() {
                    self.input = Vec::new();
                }
                return Ok(Step::Wait);
            };
            let step = match frame {
                Frame::Text(text) => match &self.part {
                    Part::Source { link } => step_of_device(*link, false, text)?,
                    Part::Target { link, .. } => step_of_device(*link, true, text)?,
                    part => step_of(part, &Notice::parse(text)?, &mut self.output)?,
                },
                Frame::Ping(_) if self.output.len() > OUTPUT_BYTES_MAX => None,
                Frame::Ping(payload) => {
                    self.output.extend(wire::pong(payload));
                    self.pings += 1;
                    None
                }
                Frame::Close(code, text) => return Err(Refusal::Closed(code, text)),
                Frame::Other => None,
            };
            self.input.drain(..size);
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// What had arrived behind the last step: payload, where that was `Relaying`.
    pub fn into_rest(self) -> Vec<u8> {
        self.input
    }
}

/// Pongs behind so many bytes that were not sent are left out.
const OUTPUT_BYTES_MAX: usize = 8192;

/// What a control message means to a connection of this part; `None` if it is only for information.
fn step_of(part: &Part, notice: &Notice<'_>, output: &mut Vec<u8>) -> Result<Option<Step>, Refusal> {
    let id = || notice.link_id.map(Box::from).ok_or(Refusal::Protocol("a control message lacks its linkId"));
    match (part, notice.kind) {
        (_, "error") => Err(Refusal::Error(notice.error.unwrap_or("without a name").to_owned())),
        (Part::Control, "registered") => Ok(Some(Step::Registered)),
        (Part::Control, "relay") => Ok(Some(Step::DialBack(id()?))),
        (Part::Control, "arrived" | "usage") => Ok(None),
        (Part::Client { .. }, "found") => {
            let link_id: Box<str> = id()?;
            output.extend(wire::relay(&link_id));
            Ok(Some(Step::Found(link_id)))
        }
        (Part::Client { .. } | Part::DialBack { .. }, "relaying") => Ok(Some(Step::Relaying)),
        _ => Err(Refusal::Protocol("a control message that has no place here")),
    }
}

/// What a message means to a device that pairs.
fn step_of_device(link: u32, is_target: bool, text: &[u8]) -> Result<Option<Step>, Refusal> {
    let Some(said) = Said::parse(text) else {
        return Err(Refusal::Protocol("a pairing message is no JSON object with a type"));
    };
    match &*said.kind {
        "error" => Err(said.error()),
        "session-created" if !is_target => match said.session_id {
            Some(id) => Ok(Some(Step::Created(id.into()))),
            None => Err(Refusal::Protocol("session-created lacks its sessionId")),
        },
        "peer-connected" if Card::new(link, !is_target).is_introduced_by(&said) => Ok(Some(Step::Relaying)),
        "peer-connected" => Err(Refusal::Protocol("peer-connected introduces another device")),
        "peer-disconnected" => Err(Refusal::PeerGone),
        "pong" => Ok(None),
        _ => Err(Refusal::Protocol("a pairing message that has no place here")),
    }
}
