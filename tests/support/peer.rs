//! A correct peer: `tungstenite` over a plain stream.

use std::{
    io::ErrorKind,
    net::TcpStream,
    time::{Duration, Instant},
};

use tungstenite::{
    Error, Message, WebSocket,
    client::IntoClientRequest,
    http::{HeaderName, HeaderValue},
    protocol::{CloseFrame, WebSocketConfig},
};

use super::{
    PATIENCE,
    end::{End, Heard},
    relay::{LINK_PATH, Relay},
};

/// A WebSocket by `tungstenite`, which answers pings and close frames by itself and checks what it
/// receives.
pub struct Peer {
    socket: WebSocket<TcpStream>,
    /// Pings heard so far.
    pub pings: usize,
    /// Payloads of the pongs heard so far.
    pub pongs: Vec<Vec<u8>>,
}

impl End for Peer {
    fn open_at(relay: &Relay, path: &str) -> Peer {
        Peer::at(relay.dial(), relay, path, &[])
    }

    fn say(&mut self, text: &str) {
        self.send(Message::text(text));
    }

    fn hear(&mut self, within: Duration) -> Heard {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.get_ref().set_read_timeout(Some(left)).expect("a timeout that is not zero");
            match self.socket.read() {
                Ok(Message::Text(text)) => return Heard::Text(text.as_str().to_owned()),
                Ok(Message::Binary(bytes)) => return Heard::Binary(bytes.into()),
                Ok(Message::Ping(_)) => self.pings += 1,
                Ok(Message::Pong(payload)) => self.pongs.push(payload.into()),
                Ok(Message::Close(frame)) => {
                    let frame = frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                    let (code, reason) = frame.unwrap_or((1005, String::new()));
                    return Heard::Closed(code, reason);
                }
                Ok(Message::Frame(_)) => unreachable!("tungstenite reads no raw frames"),
                Err(Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= deadline {
                        return Heard::Nothing;
                    }
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_)) => return Heard::Dropped,
                Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Heard::Dropped;
                }
                Err(error) => panic!("the relay broke the protocol: {error}"),
            }
        }
    }
}

impl Peer {
    /// Upgrades a stream to speak link, with further request headers or others in place of the usual ones.
    pub fn over(stream: TcpStream, relay: &Relay, headers: &[(&str, &str)]) -> Peer {
        Peer::at(stream, relay, LINK_PATH, headers)
    }

    /// Upgrades a stream on a path, with further request headers or others in place of the usual ones.
    pub fn at(stream: TcpStream, relay: &Relay, path: &str, headers: &[(&str, &str)]) -> Peer {
        stream.set_nodelay(true).expect("a TCP stream");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        let mut request =
            format!("ws://{}{path}", relay.address).into_client_request().expect("an address makes a URL");
        for &(name, value) in headers {
            let name: HeaderName = name.parse().expect("a header name");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header value"));
        }
        // 16 MiB messages arrive in one frame or in many; a small read buffer keeps hundreds of peers
        // small.
        let config = WebSocketConfig::default().read_buffer_size(16 * 1024).max_frame_size(None);
        let (socket, _) = tungstenite::client::client_with_config(request, stream, Some(config))
            .expect("the relay upgrades");
        Peer { socket, pings: 0, pongs: Vec::new() }
    }

    /// A peer whose socket buffers are small.
    pub fn narrow(relay: &Relay) -> Peer {
        Peer::over(relay.dial_narrow(), relay, &[])
    }

    /// Sends a binary message.
    pub fn send_binary(&mut self, payload: &[u8]) {
        self.send(Message::binary(payload.to_vec()));
    }

    /// Sends a message; that the relay has closed meanwhile is for the reader to find out.
    pub fn send(&mut self, message: Message) {
        match self.socket.send(message) {
            Ok(()) | Err(Error::AlreadyClosed | Error::ConnectionClosed) => {}
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the relay took nothing for {PATIENCE:?}")
            }
            Err(Error::Io(_)) => {}
            Err(error) => panic!("cannot send: {error}"),
        }
    }

    /// Sends a close frame with this code.
    pub fn close(&mut self, code: u16) {
        let _ = self.socket.close(Some(CloseFrame { code: code.into(), reason: "".into() }));
        let _ = self.socket.flush();
    }

    /// The stream below, for its socket options.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Breaks the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(self.stream()).set_linger(Some(Duration::ZERO)).expect("a TCP stream");
    }
}
