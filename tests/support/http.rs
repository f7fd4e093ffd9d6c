//! A minimal HTTP/1.1 client over a plain stream, which sees every byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::PATIENCE;

/// A parsed response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status line, without its end.
    pub status_line: String,
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body, as long as `Content-Length` says.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {:?}", String::from_utf8_lossy(&self.body)))
    }
}

/// A connection that speaks HTTP.
pub struct Http {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Http {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Http {
        Http::over(TcpStream::connect(address).expect("the relay accepts"))
    }

    /// Speaks over a connected stream.
    pub fn over(stream: TcpStream) -> Http {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        stream.set_nodelay(true).expect("a TCP stream");
        Http { stream, unread: Vec::new() }
    }

    /// Writes bytes as they are. A relay that has closed already is not the writer's concern.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next response; `None` when the stream ends, or breaks, before it.
    pub fn response(&mut self) -> Option<Response> {
        self.response_to("GET")
    }

    /// The next response, to a request of this method: one to `HEAD` has no body.
    pub fn response_to(&mut self, method: &str) -> Option<Response> {
        let head_len = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.unread.drain(..head_len).collect()).expect("a head is ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("split gives a first piece").to_owned();
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Response { status_line, status, headers, body: Vec::new() };
        let len: usize = match response.header("content-length") {
            Some(len) if method != "HEAD" && status != 101 => len.parse().expect("a length"),
            _ => 0,
        };
        while self.unread.len() < len {
            self.fill()?;
        }
        response.body = self.unread.drain(..len).collect();
        Some(response)
    }

    /// Whether the stream ends here: nothing unread, and nothing comes but its end.
    pub fn is_over(&mut self) -> bool {
        self.unread.is_empty() && self.fill().is_none()
    }

    /// The stream and what was read from it beyond the last response.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.unread)
    }

    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => None,
            Ok(n) => {
                self.unread.extend_from_slice(&chunk[..n]);
                Some(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came in {PATIENCE:?}; unread: {:?}", String::from_utf8_lossy(&self.unread))
            }
            Err(_) => None,
        }
    }
}

/// One `GET` on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> Response {
    let mut http = Http::connect(address);
    http.write(format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes());
    http.response().unwrap_or_else(|| panic!("no response to GET {target}"))
}
