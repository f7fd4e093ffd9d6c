//! Links for the generator: two sockets each, joined by the server under measurement.
//!
//! For the relay that is the whole introduction of the link dialect: one host registers one address, and for
//! each link a client resolves it and the host dials back. For the pass-through it is two connections, the
//! client's first. Blocking and one at a time: it is not what is measured.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{frame, subject::Subject};

/// A wait that is longer than this is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// The two ends of a link, both ours.
pub struct Link {
    /// The end that resolved the host.
    pub client: TcpStream,
    /// The end that the host dialled back.
    pub host: TcpStream,
}

/// Where links come from. Keeps the host's control socket open.
pub struct Introducer {
    address: SocketAddr,
    host: Option<Host>,
}

/// A registered host.
pub struct Host {
    /// Its address, as clients resolve it.
    pub name: String,
    /// Where it hears of clients.
    pub control: TcpStream,
}

impl Introducer {
    /// Registers the host, where the subject knows hosts.
    pub fn new(subject: Subject, address: SocketAddr) -> Result<Introducer, String> {
        let host = if subject.is_pass_through() { None } else { Some(register(address)?) };
        Ok(Introducer { address, host })
    }

    /// One more link, ready for payload.
    pub fn link(&mut self) -> Result<Link, String> {
        let Some(host) = &mut self.host else {
            let client = connect(self.address)?;
            return Ok(Link { client, host: connect(self.address)? });
        };
        let mut client = upgrade(self.address)?;
        send(&mut client, &json!({ "type": "resolve", "address": host.name }))?;
        let found = expect(&mut client, "found")?;
        let link = &found["linkId"];
        send(&mut client, &json!({ "type": "relay", "linkId": link }))?;
        expect(&mut host.control, "arrived")?;
        expect(&mut host.control, "relay")?;
        let mut dialled_back = upgrade(self.address)?;
        send(&mut dialled_back, &json!({ "type": "accept", "linkId": link }))?;
        expect(&mut client, "relaying")?;
        expect(&mut dialled_back, "relaying")?;
        Ok(Link { client, host: dialled_back })
    }
}

/// Registers a host.
pub fn register(address: SocketAddr) -> Result<Host, String> {
    // Any key will do: whoever holds it is the host of its address.
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key().to_bytes();
    let name = URL_SAFE_NO_PAD.encode(Sha256::digest(public));
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let (now_ms, nonce) = (since_epoch.as_millis() as u64, "engines");
    let mut signed = b"frontier-link-register-v1".to_vec();
    for field in [&name, &now_ms.to_string(), nonce, &address.to_string()] {
        signed.extend((field.len() as u32).to_be_bytes());
        signed.extend(field.as_bytes());
    }
    let signature = URL_SAFE_NO_PAD.encode(key.sign(&signed).to_bytes());
    let mut control = upgrade(address)?;
    let public = URL_SAFE_NO_PAD.encode(public);
    let auth = json!({ "alg": "ed25519", "pub": public, "ts": now_ms, "nonce": nonce, "sig": signature });
    send(&mut control, &json!({ "type": "register", "address": name, "auth": auth }))?;
    expect(&mut control, "registered")?;
    Ok(Host { name, control })
}

/// A socket of the generator's.
pub fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let open = || {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    open().map_err(|error: std::io::Error| format!("connecting to {address}: {error}"))
}

/// What asks for a WebSocket of the link dialect.
pub fn upgrade_request(address: SocketAddr) -> String {
    format!(
        "GET /v1/link HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bG9uZ3NwbGljZSBmbG9vcg==\r\n\r\n"
    )
}

/// A WebSocket of the link dialect.
fn upgrade(address: SocketAddr) -> Result<TcpStream, String> {
    let mut stream = connect(address)?;
    let request = upgrade_request(address);
    let mut response = Vec::with_capacity(512);
    let mut exchange = || {
        stream.write_all(request.as_bytes())?;
        // The server speaks again only when spoken to, so nothing after the head can be read here by
        // accident.
        while !response.ends_with(b"\r\n\r\n") {
            let mut piece = [0; 512];
            match stream.read(&mut piece)? {
                0 => break,
                count => response.extend_from_slice(&piece[..count]),
            }
        }
        Ok(())
    };
    exchange().map_err(|error: std::io::Error| format!("upgrading: {error}"))?;
    match response.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(stream),
        false => Err(format!("no upgrade: {:?}", String::from_utf8_lossy(&response))),
    }
}

fn send(stream: &mut TcpStream, message: &Value) -> Result<(), String> {
    stream
        .write_all(&frame::text(&message.to_string()))
        .map_err(|error| format!("sending {message}: {error}"))
}

/// The next message, which must be of this type.
fn expect(stream: &mut TcpStream, kind: &str) -> Result<Value, String> {
    let text = read_text(stream).map_err(|error| format!("waiting for {kind}: {error}"))?;
    let message: Value =
        serde_json::from_str(&text).map_err(|error| format!("{text:?} is no JSON: {error}"))?;
    match message["type"] == kind {
        true => Ok(message),
        false => Err(format!("{message} instead of {kind}")),
    }
}

/// Reads exactly one short text frame, and no byte after it: the next ones may be payload. Answers pings
/// before it.
fn read_text(stream: &mut TcpStream) -> Result<String, String> {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).map_err(|error| error.to_string())?;
        let length = match head[1] {
            short @ 0..=125 => usize::from(short),
            126 => {
                let mut extended = [0; 2];
                stream.read_exact(&mut extended).map_err(|error| error.to_string())?;
                usize::from(u16::from_be_bytes(extended))
            }
            other => return Err(format!("a control message with a length byte of {other}")),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).map_err(|error| error.to_string())?;
        match head[0] {
            0x81 => return String::from_utf8(payload).map_err(|error| error.to_string()),
            0x89 => stream.write_all(&frame::pong(&payload)).map_err(|error| error.to_string())?,
            other => {
                return Err(format!(
                    "a frame that begins {other:#04x}: {:?}",
                    String::from_utf8_lossy(&payload)
                ));
            }
        }
    }
}
