//! The link relay on tokio-uring.

use std::{convert::Infallible, io, net::Shutdown, ops::Range, rc::Rc};

use longsplice::driver::HEADROOM;
use tokio_uring::{
    buf::BoundedBuf,
    net::{TcpListener, TcpStream},
};

use super::{
    announce,
    link::{Hub, RING_ENTRIES, Read, Runtime, Write},
    listen,
};

struct TokioUring;

struct Half(Rc<TcpStream>);

/// Relays until it is killed.
pub fn run() -> io::Result<Infallible> {
    let listener = listen()?;
    announce(&listener)?;
    let mut ring = tokio_uring::uring_builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    tokio_uring::builder().entries(RING_ENTRIES).uring_builder(&ring).start(async {
        let listener = TcpListener::from_std(listener);
        let hub = Hub::<TokioUring>::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio_uring::spawn(hub.clone().serve(stream));
        }
    })
}

impl Runtime for TokioUring {
    type Stream = TcpStream;
    type Read = Half;
    type Write = Half;

    fn split(stream: TcpStream) -> (Half, Half) {
        let stream = Rc::new(stream);
        (Half(stream.clone()), Half(stream))
    }
}

impl Read for Half {
    async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (count, slice) = self.0.read(buffer.slice(HEADROOM..)).await;
        (count, slice.into_inner())
    }
}

impl Write for Half {
    async fn write(&mut self, buffer: Vec<u8>, range: Range<usize>) -> (io::Result<()>, Vec<u8>) {
        let (written, slice) = self.0.write_all(buffer.slice(range)).await;
        (written, slice.into_inner())
    }

    async fn shutdown(&mut self) {
        // Fails only where the peer is gone already.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}
