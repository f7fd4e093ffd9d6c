//! What other implementations conclude from bytes: `tungstenite`, and npm `ws` by `tests/node/judge.mjs`.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout},
};

use parking_lot::Mutex;
use serde::Deserialize;
use tungstenite::{
    Error, WebSocket,
    protocol::{Role, WebSocketConfig, frame::coding::CloseCode},
};

use super::{bulk, node};

/// How a stream ends for who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// More might come.
    Open,
    /// By a close frame with this code, or without one.
    Closed(Option<u16>),
    /// It breaks the protocol, which this code tells the sender.
    Fault(u16),
}

/// A message, comparable whatever its length.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Message {
    pub text: bool,
    pub len: usize,
    /// SHA-256, in hexadecimal digits.
    pub hash: String,
}

impl Message {
    /// The message with this payload.
    pub fn new(text: bool, payload: &[u8]) -> Message {
        Message { text, len: payload.len(), hash: hex(&bulk::hash(payload)) }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.text { "text" } else { "binary" };
        write!(f, "{kind} of {} ({})", self.len, &self.hash[..8])
    }
}

/// What is concluded from a stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// The whole messages.
    pub messages: Vec<Message>,
    /// The payloads of pings and pongs, in hexadecimal digits.
    pub pings: Vec<String>,
    pub pongs: Vec<String>,
    pub end: End,
}

/// The longest message that a judge takes.
pub const MESSAGE_MAX: usize = 16 << 20;

/// What `tungstenite` concludes: as a server it reads what a client sent, as a client what a server sent.
pub fn tungstenite(bytes: &[u8], reader: Role) -> Verdict {
    let most = Some(MESSAGE_MAX);
    let config = WebSocketConfig::default().max_message_size(most).max_frame_size(most);
    let mut socket = WebSocket::from_raw_socket(Wire(bytes), reader, Some(config));
    let mut verdict = Verdict { messages: Vec::new(), pings: Vec::new(), pongs: Vec::new(), end: End::Open };
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Ping(payload)) => verdict.pings.push(hex(&payload)),
            Ok(tungstenite::Message::Pong(payload)) => verdict.pongs.push(hex(&payload)),
            Ok(tungstenite::Message::Close(frame)) => {
                // What it says of a code that is not for the wire.
                let is_fault = frame.as_ref().is_some_and(|frame| {
                    frame.code == CloseCode::Protocol && frame.reason.as_str() == "Protocol violation"
                });
                let code = frame.map(|frame| frame.code.into());
                verdict.end = if is_fault { End::Fault(1002) } else { End::Closed(code) };
                return verdict;
            }
            Ok(message) => {
                let text = message.is_text();
                verdict.messages.push(Message::new(text, &message.into_data()));
            }
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                return verdict;
            }
            Err(error) => {
                verdict.end = End::Fault(match error {
                    Error::Protocol(_) => 1002,
                    Error::Utf8(_) => 1007,
                    Error::Capacity(_) => 1009,
                    other => panic!("tungstenite: {other}"),
                });
                return verdict;
            }
        }
    }
}

/// Bytes to read; what is written is dropped.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// npm `ws`, in a process of its own.
pub struct Ws(Mutex<Judge>);

struct Judge {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Whether text has to be UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    Checked,
    Opaque,
}

impl Ws {
    /// Starts it.
    pub fn start() -> Ws {
        let mut process = node::spawn("judge.mjs");
        let questions = process.stdin.take().expect("it is piped");
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        Ws(Mutex::new(Judge { process, questions, answers }))
    }

    /// What it concludes, as [`tungstenite`].
    pub fn judge(&self, bytes: &[u8], reader: Role, text: Text) -> Verdict {
        let mut judge = self.0.lock();
        let flags = u8::from(reader == Role::Server) | u8::from(text == Text::Opaque) << 1;
        let head = [&(bytes.len() as u32).to_be_bytes()[..], &[flags]].concat();
        let asked = judge.questions.write_all(&head).and_then(|()| judge.questions.write_all(bytes));
        asked.and_then(|()| judge.questions.flush()).expect("the judge runs");
        let mut line = String::new();
        judge.answers.read_line(&mut line).expect("the judge answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the judge said {line:?}: {error}"))
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
