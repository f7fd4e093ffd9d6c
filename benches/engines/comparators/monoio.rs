//! The link relay on monoio, on its own io_uring driver.

use std::{convert::Infallible, io, ops::Range};

use longsplice::driver::HEADROOM;
use monoio::{
    IoUringDriver, RuntimeBuilder,
    buf::{IoBuf, IoBufMut},
    io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf, Splitable},
    net::{TcpListener, TcpStream},
};

use super::{
    announce,
    link::{Hub, RING_ENTRIES, Read, Runtime, Write},
    listen,
};

struct Monoio;

/// Relays until it is killed.
pub fn run() -> io::Result<Infallible> {
    let listener = listen()?;
    announce(&listener)?;
    // The type is that of the `io-uring` both runtimes build on.
    let mut ring = tokio_uring::uring_builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    let runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES).uring_builder(ring);
    let mut runtime = runtime.build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let hub = Hub::<Monoio>::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(hub.clone().serve(stream));
        }
    })
}

impl Runtime for Monoio {
    type Stream = TcpStream;
    type Read = OwnedReadHalf<TcpStream>;
    type Write = OwnedWriteHalf<TcpStream>;

    fn split(stream: TcpStream) -> (Self::Read, Self::Write) {
        stream.into_split()
    }
}

impl Read for OwnedReadHalf<TcpStream> {
    async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (count, slice) = AsyncReadRent::read(self, buffer.slice_mut(HEADROOM..)).await;
        (count, slice.into_inner())
    }
}

impl Write for OwnedWriteHalf<TcpStream> {
    async fn write(&mut self, buffer: Vec<u8>, range: Range<usize>) -> (io::Result<()>, Vec<u8>) {
        let (written, slice) = self.write_all(buffer.slice(range)).await;
        (written.map(|_| ()), slice.into_inner())
    }

    async fn shutdown(&mut self) {
        // Fails only where the peer is gone already.
        let _ = AsyncWriteRent::shutdown(self).await;
    }
}
