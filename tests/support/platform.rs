//! The platform of the workspace dialect as a relay sees it: a small HTTP server that says who may connect and answers
//! what workers ask.
//!
//! A token carries its own claims (`tok_` and base64url JSON), so that the peer which connects decides what it is
//! admitted as. A token, or the target of a worker's request, may be *rigged* to be answered otherwise. Every request
//! is kept.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use super::{PATIENCE, eventually};

/// Where a relay asks who may connect.
pub const VALIDATE: &str = "/api/runtime/internal/relay/validate";
/// Below this is what workers may reach.
pub const WORKSPACES: &str = "/api/runtime/workspaces/";

/// A token that carries these claims.
pub fn token_of(claims: &Value) -> String {
    format!("tok_{}", BASE64URL.encode(claims.to_string()))
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query, as written in the request line.
    pub target: String,
    /// Header names and values, as written.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What an answer is rigged by: the token that is asked about, or the target.
    fn key(&self) -> String {
        let token = self.json()["relayToken"].as_str().map(str::to_owned);
        token.unwrap_or_else(|| self.target.clone())
    }
}

/// How a rigged request is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// With this status and body, as JSON.
    Reply(u16, String),
    /// With these bytes, head and all, and then the end of the connection.
    Bytes(Vec<u8>),
    /// As it would have been, but only once it is released.
    Held,
    /// Not at all; the connection stays open.
    Never,
    /// By the end of the connection.
    Cut,
    /// By a head that promises more than comes before the connection ends.
    CutInBody,
    /// Byte by byte, for ever.
    Drip,
}

/// A running platform. Ends when dropped.
pub struct Platform {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    rigged: HashMap<String, Answer>,
    open: Vec<TcpStream>,
    ended: bool,
}

impl Platform {
    /// Starts one on a free port.
    pub fn start() -> Platform {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let inner = Arc::new(Inner::default());
        let served = Arc::clone(&inner);
        let listening = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut state = served.state.lock();
                if state.ended {
                    return;
                }
                state.open.push(stream.try_clone().expect("a descriptor"));
                drop(state);
                let served = Arc::clone(&served);
                thread::spawn(move || served.serve(stream));
            }
        });
        Platform { address, inner, listening: Mutex::new(Some(listening)) }
    }

    /// Its address as the relay is told it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers what is asked about a token, or asked of a target, in this way from now on.
    pub fn rig(&self, key: &str, answer: Answer) {
        self.inner.state.lock().rigged.insert(key.to_owned(), answer);
    }

    /// Lets held requests go, and later ones pass.
    pub fn release(&self, key: &str) {
        self.inner.state.lock().rigged.remove(key);
        self.inner.changed.notify_all();
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.inner.state.lock().requests.clone()
    }

    /// Every request so far that asked who may connect.
    pub fn validations(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.target == VALIDATE).collect()
    }

    /// The latest request of a worker.
    pub fn last_forwarded(&self) -> Request {
        let mut forwarded =
            self.requests().into_iter().filter(|request| request.target.starts_with(WORKSPACES));
        forwarded.next_back().expect("a worker's request arrived")
    }

    /// Waits until this was asked about, or asked for.
    pub fn until_asked(&self, key: &str) {
        eventually(&format!("a request to the platform about {key}"), || {
            self.inner.state.lock().requests.iter().any(|request| request.key() == key)
        });
    }

    /// Stops listening and cuts every connection: it is down.
    pub fn stop(&self) {
        let Some(listening) = self.listening.lock().take() else { return };
        let mut state = self.inner.state.lock();
        state.ended = true;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.inner.changed.notify_all();
        // Wakes the thread that accepts, which drops the listener.
        let _ = TcpStream::connect(self.address);
        listening.join().expect("the thread that accepts does not panic");
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.stop();
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) {
        let mut writer = stream.try_clone().expect("a descriptor");
        let mut reader = BufReader::new(stream);
        while let Ok(request) = read_request(&mut reader) {
            if self.answer(&request, &mut writer).is_err() {
                break;
            }
        }
        let _ = writer.shutdown(Shutdown::Both);
    }

    fn answer(&self, request: &Request, writer: &mut TcpStream) -> io::Result<()> {
        let key = request.key();
        let mut state = self.state.lock();
        state.requests.push(request.clone());
        let rigged = state.rigged.get(&key).cloned();
        let cut = Err(io::ErrorKind::ConnectionAborted.into());
        match rigged {
            None => {}
            Some(Answer::Held) => {
                while matches!(state.rigged.get(&key), Some(Answer::Held)) && !state.ended {
                    let late = self.changed.wait_for(&mut state, PATIENCE).timed_out();
                    assert!(!late, "{key} was never released");
                }
            }
            Some(Answer::Never) => {
                while !state.ended {
                    self.changed.wait(&mut state);
                }
                return cut;
            }
            Some(Answer::Reply(status, body)) => {
                drop(state);
                return write_reply(writer, status, "content-type: application/json\r\n", body.as_bytes());
            }
            Some(Answer::Bytes(bytes)) => {
                drop(state);
                writer.write_all(&bytes)?;
                return cut;
            }
            Some(Answer::Cut) => return cut,
            Some(Answer::CutInBody) => {
                writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"ok\":true,")?;
                return cut;
            }
            Some(Answer::Drip) => {
                drop(state);
                writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")?;
                loop {
                    writer.write_all(b" ")?;
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        if state.ended {
            return cut;
        }
        drop(state);
        usual(request, writer)
    }
}

/// The answer to a request that is not rigged.
fn usual(request: &Request, writer: &mut TcpStream) -> io::Result<()> {
    if (request.method.as_str(), request.target.as_str()) == ("POST", VALIDATE) {
        let (status, answer) = match claims_of(&request.json()) {
            Some(claims) => (200, json!({ "ok": true, "claims": claims })),
            None => (403, json!({ "ok": false, "reason": "UNKNOWN_TOKEN" })),
        };
        return write_reply(
            writer,
            status,
            "content-type: application/json\r\n",
            answer.to_string().as_bytes(),
        );
    }
    if request.target.starts_with(WORKSPACES) {
        let echo = json!({
            "method": request.method,
            "target": request.target,
            "headers": request.headers,
            "body": String::from_utf8_lossy(&request.body),
        });
        let headers = "Content-Type: application/json\r\nX-Echo: Yes\r\nSet-Cookie: session=1\r\n\
                       Authorization: Bearer hidden\r\nCookie: a=b\r\n";
        return write_reply(writer, 200, headers, echo.to_string().as_bytes());
    }
    write_reply(writer, 404, "content-type: application/json\r\n", br#"{"ok":false}"#)
}

fn claims_of(validation: &Value) -> Option<Value> {
    let claims = validation["relayToken"].as_str()?.strip_prefix("tok_")?;
    serde_json::from_slice(&BASE64URL.decode(claims).ok()?).ok()
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Request> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(broken)
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(broken()) };
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(broken)?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request =
        Request { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() };
    let length =
        request.header("content-length").map_or(Ok(0), |length| length.parse().map_err(|_| broken()))?;
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    Ok(request)
}

fn write_reply(writer: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n", body.len());
    writer.write_all(&[head.as_bytes(), body].concat())
}
