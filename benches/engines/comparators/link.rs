//! The relay that the comparators on other runtimes are: the link dialect without a check, a limit or a timer.
//!
//! Written once, over the little that a completion-based runtime has to offer ([`Runtime`]), as one writes for such a
//! runtime: a task for each connection, which owns the read half and a buffer that it reuses, and the write half of
//! the other end. Frames are translated in place by the relay's own `proto::ws`, so that what is compared is how
//! bytes get in and out. Not one allocation per message.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    ops::Range,
    rc::Rc,
};

use longsplice::{
    driver::HEADROOM,
    proto::{
        http::{self, Upgrade},
        ws::{
            Bounds, Cursor, Inbound, Payload, Step,
            outbound::{close_frame, text_frame_header},
        },
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// What is asked of a runtime. All of it happens on one thread.
pub trait Runtime: 'static {
    /// A connection.
    type Stream;
    /// Its incoming half.
    type Read: Read;
    /// Its outgoing half. The connection closes with both.
    type Write: Write;

    /// Both halves.
    fn split(stream: Self::Stream) -> (Self::Read, Self::Write);
}

/// The incoming half of a connection.
pub trait Read {
    /// Reads behind the first `HEADROOM` bytes of `buffer`, up to its capacity. How many bytes, and the buffer.
    async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>);
}

/// The outgoing half of a connection.
pub trait Write {
    /// Writes all of `range`. The buffer comes back.
    async fn write(&mut self, buffer: Vec<u8>, range: Range<usize>) -> (io::Result<()>, Vec<u8>);
    /// Ends the stream after what was written.
    async fn shutdown(&mut self);
}

/// Entries of the submission queue: one submission takes what a thousand ready connections ask for.
pub const RING_ENTRIES: u32 = 4096;
/// A connection's receive buffer: 16 KiB, as both runtimes' examples have it. One of 64 KiB costs each idle connection
/// that much.
const BUFFER_BYTES: usize = 16 * 1024;

/// Who is registered, and which clients wait.
pub struct Hub<R: Runtime> {
    /// By address: where a host's control socket is told something.
    hosts: RefCell<HashMap<String, mpsc::UnboundedSender<Tell>>>,
    waiting: RefCell<HashMap<String, Waiting<R>>>,
    /// How many there have been.
    links: Cell<u64>,
}

/// A client whose host has still to dial back.
struct Waiting<R: Runtime> {
    client: R::Write,
    join: oneshot::Sender<R::Write>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Ask {
    Register { address: String },
    Resolve { address: String },
    Relay { link_id: String },
    Accept { link_id: String },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Tell {
    Registered { address: String },
    Found { link_id: String },
    Arrived { link_id: String, address: String },
    Relay { link_id: String },
    Relaying { link_id: String },
    Error { error: &'static str },
}

impl<R: Runtime> Hub<R> {
    /// Without anyone.
    pub fn new() -> Rc<Hub<R>> {
        let (hosts, waiting, links) = Default::default();
        Rc::new(Hub { hosts, waiting, links })
    }

    /// Serves one connection from its first byte to its last. Errors: the peer's, of which nobody hears.
    pub async fn serve(self: Rc<Self>, stream: R::Stream) -> io::Result<()> {
        let (read, mut write) = R::split(stream);
        let mut incoming = Incoming::<R>::new(read);
        let accept = incoming.upgrade().await?;
        let mut response = Vec::with_capacity(256);
        http::switch_protocols(&mut response, &accept, None);
        send(&mut write, response).await?;
        let mut host = None;
        loop {
            match incoming.ask().await? {
                Ask::Register { address } => {
                    let (told, hears) = mpsc::unbounded_channel();
                    self.hosts.borrow_mut().insert(address.clone(), told);
                    tell(&mut write, &Tell::Registered { address }).await?;
                    return speak(hears, write).await;
                }
                Ask::Resolve { address } => {
                    host = self.hosts.borrow().get(&address).cloned();
                    let Some(host) = &host else {
                        tell(&mut write, &Tell::Error { error: "unknown_address" }).await?;
                        continue;
                    };
                    let link_id = self.new_link();
                    tell(&mut write, &Tell::Found { link_id: link_id.clone() }).await?;
                    host.send(Tell::Arrived { link_id, address }).map_err(gone)?;
                }
                Ask::Relay { link_id } => {
                    let host = host.ok_or(io::ErrorKind::InvalidData)?;
                    let (join, joined) = oneshot::channel();
                    let waiting = Waiting { client: write, join };
                    self.waiting.borrow_mut().insert(link_id.clone(), waiting);
                    host.send(Tell::Relay { link_id }).map_err(gone)?;
                    return incoming.forward(joined.await.map_err(gone)?).await;
                }
                Ask::Accept { link_id } => {
                    let waiting = self.waiting.borrow_mut().remove(&link_id);
                    let Some(Waiting { mut client, join }) = waiting else {
                        tell(&mut write, &Tell::Error { error: "unknown_link" }).await?;
                        continue;
                    };
                    let relaying = Tell::Relaying { link_id };
                    tell(&mut client, &relaying).await?;
                    tell(&mut write, &relaying).await?;
                    join.send(write).map_err(|_| gone(()))?;
                    return incoming.forward(client).await;
                }
            }
        }
    }

    fn new_link(&self) -> String {
        self.links.update(|links| links + 1);
        format!("{:032x}", self.links.get())
    }
}

/// A control socket says what it is told to until its peer is gone.
async fn speak<W: Write>(mut hears: mpsc::UnboundedReceiver<Tell>, mut write: W) -> io::Result<()> {
    while let Some(message) = hears.recv().await {
        tell(&mut write, &message).await?;
    }
    Ok(())
}

async fn tell<W: Write>(write: &mut W, message: &Tell) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    send(write, [&text_frame_header(text.len()), &text[..]].concat()).await
}

async fn send<W: Write>(write: &mut W, bytes: Vec<u8>) -> io::Result<()> {
    let range = 0..bytes.len();
    write.write(bytes, range).await.0
}

fn gone<E>(_: E) -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// The incoming half of a connection, with what it has read.
struct Incoming<R: Runtime> {
    read: R::Read,
    buffer: Vec<u8>,
    /// What has been read and not been looked at.
    unread: Range<usize>,
    inbound: Inbound,
}

impl<R: Runtime> Incoming<R> {
    fn new(read: R::Read) -> Self {
        let mut buffer = Vec::with_capacity(HEADROOM + BUFFER_BYTES);
        buffer.resize(HEADROOM, 0);
        Incoming { read, buffer, unread: HEADROOM..HEADROOM, inbound: Inbound::new() }
    }

    /// Reads more where nothing is unread. `false` at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        let (count, buffer) = self.read.read(std::mem::take(&mut self.buffer)).await;
        self.buffer = buffer;
        self.unread = HEADROOM..HEADROOM + count?;
        Ok(!self.unread.is_empty())
    }

    /// What to answer the request with that everything begins with. A head that comes in pieces is none of the
    /// generator's.
    async fn upgrade(&mut self) -> io::Result<String> {
        self.fill().await?;
        match http::parse(&self.buffer[self.unread.clone()]) {
            Ok(Some(http::Head { len, upgrade: Upgrade::WebSocket { accept }, .. })) => {
                self.unread.start += len;
                Ok(accept)
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    async fn ask(&mut self) -> io::Result<Ask> {
        let mut gathered = None;
        loop {
            let mut cursor = Cursor::at(self.unread.start);
            let buffer = &mut self.buffer[..self.unread.end];
            let step = self.inbound.collect(
                buffer,
                &mut cursor,
                Bounds::of_message(CONTROL_BYTES_MAX),
                &mut gathered,
            );
            self.unread.start = cursor.read;
            match step {
                Step::Message { payload: Payload::Here(range), .. } => {
                    return Ok(serde_json::from_slice(&self.buffer[range])?);
                }
                Step::Message { payload: Payload::Gathered(text), .. } => {
                    return Ok(serde_json::from_slice(&text)?);
                }
                Step::Empty if self.fill().await? => {}
                Step::Ping(_) | Step::Pong => {}
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Relays what comes to `target`, up to and with a close, which ends both directions when the other end answers it.
    async fn forward(mut self, mut target: R::Write) -> io::Result<()> {
        loop {
            let mut cursor = Cursor::at(self.unread.start);
            let buffer = &mut self.buffer[..self.unread.end];
            let close = loop {
                match self.inbound.relay(buffer, &mut cursor, 0, usize::MAX, 0) {
                    Step::Empty => break None,
                    Step::Ping(_) | Step::Pong => {}
                    Step::Close(code) => break Some(code),
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            };
            if !cursor.out.is_empty() {
                let (written, buffer) = target.write(std::mem::take(&mut self.buffer), cursor.out).await;
                self.buffer = buffer;
                written?;
            }
            if let Some(code) = close {
                send(&mut target, close_frame(code, "").to_vec()).await?;
                target.shutdown().await;
                return Ok(());
            }
            if !self.fill().await? {
                target.shutdown().await;
                return Ok(());
            }
        }
    }
}

const CONTROL_BYTES_MAX: usize = 4096;
