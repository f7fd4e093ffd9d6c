//! The worker's part in what paired devices do differently: they meet without a host, and their messages are text.

use rustix::{io::Errno, net::SendFlags};

use super::{
    device::{self, Said},
    link::State,
    payload::{Stamp, following},
    reader::Fault,
    talk::Part,
    wire::Refusal,
    worker::Worker,
};

impl Worker {
    /// The source has its session: the target joins it.
    pub(super) fn session_created(&mut self, link: u32, session_id: Box<str>) {
        self.sessions[link as usize] = session_id.clone();
        self.begin_end(2 * link + 1, Part::Target { link: self.first_link + link, session_id });
    }

    /// Sends a message; whether the kernel took it all. What it did not take waits in the backlog.
    pub(super) fn send_payload(&mut self, token: u32) -> Result<bool, Errno> {
        let (link, end) = (token / 2, &mut self.ends[token as usize]);
        let Some(socket) = &end.socket else { return Ok(false) };
        let stamp = Stamp { link: self.first_link + link, from_host: token & 1 == 1, sequence: end.sent };
        self.out.clear();
        device::relay(&mut self.out, &self.sessions[link as usize], stamp, &self.payload);
        let count = rustix::net::send(socket, &self.out, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        end.sent = following(end.sent);
        end.backlog.extend_from_slice(&self.out[count..]);
        Ok(count == self.out.len())
    }

    /// A text message arrived at an end; `expected` is the payload whose turn it is.
    pub(super) fn text_arrived(&mut self, token: u32, expected: Stamp, text: &[u8]) {
        let Some(said) = Said::parse(text) else {
            return self.fail_verification(token, &Fault::Text("it is no JSON object with a type"));
        };
        let state = self.links[token as usize / 2].state;
        match &*said.kind {
            "relay" => match device::check(&said, expected, &self.payload) {
                Ok((bytes, compared)) => self.message_arrived(token, bytes, compared),
                Err(fault) => self.fail_verification(token, &fault),
            },
            // The source has closed; the target follows.
            "peer-disconnected" if state == State::Closing => self.answer_close(token),
            "peer-disconnected" if state == State::Struck => self.struck_told(token, Refusal::PeerGone),
            // What it had sent to the other end when that was struck.
            "error" if state == State::Struck => {}
            "peer-disconnected" => self.fail_link(token / 2, &Refusal::PeerGone),
            "error" => self.fail_link(token / 2, &said.error()),
            "pong" => {}
            _ => self.fail_link(token / 2, &Refusal::Protocol("a message that has no place in a session")),
        }
    }
}
