//! A platform: a real HTTP server, plain or over TLS, that writes whatever bytes a test wants.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which of the connections brought it.
    pub connection: usize,
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the server writes to.
pub trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Answers a request on its connection; whether the connection stays open for another.
pub type Script = dyn Fn(&Heard, &mut dyn Stream) -> io::Result<bool> + Send + Sync;

/// A running platform; it ends with the test.
pub struct Server {
    pub address: SocketAddr,
    pub heard: mpsc::Receiver<Heard>,
    is_tls: bool,
}

impl Server {
    pub fn plain(
        script: impl Fn(&Heard, &mut dyn Stream) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Server {
        Server::start(None, Arc::new(script))
    }

    /// Over TLS; every request is let in.
    pub fn tls(config: ServerConfig) -> Server {
        Server::start(
            Some(Arc::new(config)),
            Arc::new(|_: &Heard, stream: &mut dyn Stream| reply(stream, OK)),
        )
    }

    fn start(tls: Option<Arc<ServerConfig>>, script: Arc<Script>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (tell, heard) = mpsc::channel();
        let is_tls = tls.is_some();
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (tls, script, tell) = (tls.clone(), Arc::clone(&script), tell.clone());
                thread::spawn(move || -> io::Result<()> {
                    let stream = stream?;
                    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                    match tls {
                        None => converse(stream, connection, &*script, &tell),
                        Some(config) => {
                            let session = ServerConnection::new(config).map_err(io::Error::other)?;
                            converse(StreamOwned::new(session, stream), connection, &*script, &tell)
                        }
                    }
                });
            }
        });
        Server { address, heard, is_tls }
    }

    /// The server's URL under a host name that leads to this machine.
    pub fn url(&self, host: &str) -> String {
        format!("{}://{host}:{}/", if self.is_tls { "https" } else { "http" }, self.address.port())
    }

    /// The next request.
    pub fn next(&self) -> Heard {
        self.heard.recv_timeout(Duration::from_secs(30)).expect("a request comes")
    }
}

/// An address at which nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Writes a whole answer with a body of JSON and keeps the connection.
pub fn reply(stream: &mut dyn Stream, body: &str) -> io::Result<bool> {
    respond(stream, "200 OK", "content-type: application/json\r\n", body.as_bytes())
}

/// Writes a whole answer and keeps the connection.
pub fn respond(stream: &mut dyn Stream, status: &str, headers: &str, body: &[u8]) -> io::Result<bool> {
    write!(stream, "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    stream.flush()?;
    Ok(true)
}

pub const OK: &str = r#"{"ok":true,"claims":{"clientId":"c1"}}"#;

fn converse(
    mut stream: impl Stream,
    connection: usize,
    script: &Script,
    tell: &mpsc::Sender<Heard>,
) -> io::Result<()> {
    while let Some(heard) = read_request(&mut stream, connection)? {
        // The test may be over.
        let _ = tell.send(heard.clone());
        if !script(&heard, &mut stream)? {
            break;
        }
    }
    Ok(())
}

fn read_request(stream: &mut impl Read, connection: usize) -> io::Result<Option<Heard>> {
    let mut bytes = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(&bytes) {
            let headers: Vec<_> = request
                .headers
                .iter()
                .map(|header| {
                    let value = header.value.iter().copied().map(char::from).collect();
                    (header.name.to_lowercase(), value)
                })
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.map_or(0, |(_, value): &(_, String)| value.parse().expect("a number"));
            if bytes.len() >= head + length {
                let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                return Ok(Some(Heard {
                    connection,
                    method: text(request.method),
                    path: text(request.path),
                    body: String::from_utf8_lossy(&bytes[head..head + length]).into_owned(),
                    headers,
                }));
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&more[..read]),
        }
    }
}
