//! `longsplice health`: whether the relay on this machine answers, for health checks where there is no other client.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::config::Config;

/// Asks the relay that runs with these options. Errors: why it is not well, or not reached.
pub fn ask(config: &Config, path: &str) -> Result<String, String> {
    let address = config.listen_addresses().first().copied().ok_or("there is no address to ask")?;
    if address.port() == 0 {
        return Err(
            "port 0 is not where the relay listens; give --port or --listen as its log names it".to_owned()
        );
    }
    let address = SocketAddr::new(here(address.ip()), address.port());
    match get(address, path) {
        Ok((200, _)) => Ok(format!("http://{address}{path} answers")),
        Ok((status, body)) => Err(format!("http://{address}{path} answers {status}: {body}")),
        Err(error) => Err(format!("http://{address}{path}: {error}")),
    }
}

/// Where to reach what listens on `ip`.
fn here(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP response");
    let Ok(httparse::Status::Complete(head)) = response.parse(&answer) else { return Err(broken()) };
    let body = String::from_utf8_lossy(&answer[head..]).trim().to_owned();
    Ok((response.code.ok_or_else(broken)?, body))
}

/// How long to wait for each step; less than any orchestrator's own limit.
const PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
