//! What really happened on every link: the measure of what the relay did.
//!
//! Holds, per link and direction, what its sender wrote and what its receiver got. Content is a function of
//! link, direction and offset, so a byte that is lost, doubled, moved or changed is found where it arrives.
//! Never knows what the relay thinks.

use std::collections::HashMap;

/// Why a link may end without the relay being at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excuse {
    /// An end closed with a close frame, or by the end of its stream: what it wrote before is delivered.
    Closed,
    /// An end broke off, broke the rules, or did not keep up.
    Broken,
}

/// One direction of a link.
#[derive(Debug, Default)]
pub struct Direction {
    /// Messages begun: whether text, and at which offset they end.
    messages: Vec<(bool, u64)>,
    /// Payload bytes framed by the sender.
    pub written: u64,
    /// Payload bytes that arrived, all of them right.
    pub arrived: u64,
    /// Messages that arrived whole.
    pub whole: usize,
    /// The sender has ended its side in order: nothing more will be written.
    pub sealed: bool,
    /// What the content is a function of, beside the offset.
    key: u64,
}

/// One link.
#[derive(Debug)]
pub struct LinkTruth {
    /// Client to host, host to client.
    pub directions: [Direction; 2],
    /// Set once something happened that ends the link.
    pub excuse: Option<Excuse>,
    /// Ends that still take part.
    pub open_ends: u32,
}

/// All links of a run.
#[derive(Debug, Default)]
pub struct Truth {
    links: HashMap<String, LinkTruth>,
}

impl Truth {
    /// A link, made when the first of its ends hears of it.
    pub fn link(&mut self, id: &str) -> &mut LinkTruth {
        if !self.links.contains_key(id) {
            self.links.insert(id.to_owned(), LinkTruth::new(id));
        }
        self.links.get_mut(id).expect("inserted above")
    }

    /// Whether both ends of a link take part and have everything that was written.
    pub fn is_even(&self, id: &str) -> bool {
        let even = |link: &LinkTruth| link.open_ends == 2 && link.directions.iter().all(Direction::is_even);
        self.links.get(id).is_some_and(even)
    }

    /// Bytes written and arrived in one direction, over all links.
    pub fn totals(&self, side: usize) -> (u64, u64) {
        let sum =
            |of: fn(&Direction) -> u64| self.links.values().map(|link| of(&link.directions[side])).sum();
        (sum(|way| way.written), sum(|way| way.arrived))
    }

    /// Messages that arrived whole, over all links.
    pub fn messages(&self) -> u64 {
        self.links.values().flat_map(|link| &link.directions).map(|way| way.whole as u64).sum()
    }
}

impl LinkTruth {
    fn new(id: &str) -> LinkTruth {
        let key = id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let direction = |number: u64| Direction { key: mix(key ^ number), ..Direction::default() };
        LinkTruth { directions: [direction(1), direction(2)], excuse: None, open_ends: 0 }
    }

    /// Notes why the link may end. What breaks off is worse than what closes.
    pub fn excuse(&mut self, excuse: Excuse) {
        if self.excuse != Some(Excuse::Broken) {
            self.excuse = Some(excuse);
        }
    }
}

impl Direction {
    /// The sender begins a message of `len` bytes.
    pub fn begin(&mut self, text: bool, len: u64) {
        self.messages.push((text, self.written + len));
    }

    /// The next `count` bytes that the sender writes.
    pub fn write(&mut self, count: usize) -> Vec<u8> {
        let start = self.written;
        self.written += count as u64;
        (start..self.written).map(|offset| content(self.key, offset)).collect()
    }

    /// A part of a message arrived.
    pub fn arrive(&mut self, text: bool, payload: &[u8], last: bool) {
        let end = self.arrived + payload.len() as u64;
        assert!(end <= self.written, "more arrived than was written: {end} of {}", self.written);
        for (offset, byte) in (self.arrived..).zip(payload) {
            assert_eq!(*byte, content(self.key, offset), "wrong byte at offset {offset}");
        }
        self.arrived = end;
        let (as_text, ends_at) = self.messages.get(self.whole).copied().expect("a message that no one began");
        assert_eq!(text, as_text, "message {} changed its type", self.whole);
        assert!(end <= ends_at, "message {} runs into the next", self.whole);
        if last {
            assert_eq!(end, ends_at, "message {} ends early", self.whole);
            self.whole += 1;
        }
    }

    /// Whether everything that was written arrived.
    pub fn is_even(&self) -> bool {
        self.arrived == self.written
    }
}

/// The byte of a stream at an offset.
fn content(key: u64, offset: u64) -> u8 {
    (mix(key ^ (offset >> 3)) >> ((offset & 7) * 8)) as u8
}

/// Scatters a number's bits (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_with(bytes: usize) -> (LinkTruth, Vec<u8>) {
        let mut link = LinkTruth::new("a");
        link.directions[0].begin(true, bytes as u64);
        let written = link.directions[0].write(bytes);
        (link, written)
    }

    #[test]
    fn what_was_written_arrives_in_any_parts() {
        let (mut link, bytes) = link_with(20);
        link.directions[0].arrive(true, &bytes[..7], false);
        assert!(!link.directions[0].is_even());
        link.directions[0].arrive(true, &bytes[7..], true);
        assert!(link.directions[0].is_even());
    }

    #[test]
    #[should_panic(expected = "wrong byte at offset 7")]
    fn a_lost_byte_is_found() {
        let (mut link, mut bytes) = link_with(20);
        bytes.remove(7);
        link.directions[0].arrive(true, &bytes, false);
    }

    #[test]
    #[should_panic(expected = "wrong byte at offset 0")]
    fn the_other_direction_s_bytes_are_found() {
        let (mut link, bytes) = link_with(20);
        link.directions[1].begin(true, 20);
        link.directions[1].write(20);
        link.directions[1].arrive(true, &bytes, true);
    }

    #[test]
    #[should_panic(expected = "ends early")]
    fn a_message_cut_in_two_is_found() {
        let (mut link, bytes) = link_with(20);
        link.directions[0].arrive(true, &bytes[..5], true);
    }
}
