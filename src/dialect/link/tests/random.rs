//! Random lives of relays: whatever happens, in whatever order, nothing is left when everyone has gone.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::{super::LinkConfig, net::*, people::*};
use crate::{
    pacing::{Leg, Rates},
    reason::Reason,
};

/// One thing that may happen; numbers pick among what there is.
#[derive(Clone, Debug)]
enum Op {
    Open,
    Register { sock: usize, identity: u64, skew: i64 },
    Resolve { sock: usize, identity: u64 },
    Relay { sock: usize, own: bool },
    Accept { sock: usize, link: usize },
    GetUsage { sock: usize },
    Nonsense { sock: usize },
    Close { sock: usize, reason: usize },
    Bytes { sock: usize, bytes: u64 },
    DeliverOne { pair: usize },
    Settle,
    FinishCloses,
    Advance { ms: u64 },
    Allow { without: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let sock = 0usize..64;
    let identity = 0u64..6;
    prop_oneof![
        8 => Just(Op::Open),
        8 => (sock.clone(), identity.clone(), -3i64..3)
            .prop_map(|(sock, identity, skew)| Op::Register { sock, identity, skew }),
        8 => (sock.clone(), identity.clone()).prop_map(|(sock, identity)| Op::Resolve { sock, identity }),
        8 => (sock.clone(), prop::bool::weighted(0.9)).prop_map(|(sock, own)| Op::Relay { sock, own }),
        8 => (sock.clone(), 0usize..64).prop_map(|(sock, link)| Op::Accept { sock, link }),
        3 => sock.clone().prop_map(|sock| Op::GetUsage { sock }),
        1 => sock.clone().prop_map(|sock| Op::Nonsense { sock }),
        4 => (sock.clone(), 0usize..5).prop_map(|(sock, reason)| Op::Close { sock, reason }),
        4 => (sock, 1u64..30_000).prop_map(|(sock, bytes)| Op::Bytes { sock, bytes }),
        10 => (0usize..16).prop_map(|pair| Op::DeliverOne { pair }),
        2 => Just(Op::Settle),
        2 => Just(Op::FinishCloses),
        3 => prop_oneof![1u64..2000, 1u64..400_000].prop_map(|ms| Op::Advance { ms }),
        1 => identity.prop_map(|without| Op::Allow { without }),
    ]
}

/// What the peers know: their connections, and links by the connection that was told of them.
struct Peers {
    socks: Vec<Sock>,
    links: Vec<(Sock, String)>,
}

impl Peers {
    fn listen(&mut self, net: &mut Net) {
        for sock in self.socks.clone() {
            for message in net.heard(sock) {
                if message["type"] == "found" {
                    self.links.push((sock, message["linkId"].as_str().expect("an id").to_owned()));
                }
            }
        }
    }

    fn pick(&self, number: usize) -> Option<Sock> {
        (!self.socks.is_empty()).then(|| self.socks[number % self.socks.len()])
    }
}

fn apply(net: &mut Net, peers: &mut Peers, op: &Op) {
    let spoken = |net: &mut Net, sock: Option<Sock>, message: serde_json::Value| {
        if let Some(sock) = sock.filter(|sock| net.is_open(*sock)) {
            net.say(sock, &message);
        }
    };
    match *op {
        Op::Open => {
            if peers.socks.len() < 64 {
                peers.socks.push(net.open());
            }
        }
        Op::Register { sock, identity, skew } => {
            let message = Identity::new(identity).register_at(net.now.unix_ms as i64 + skew);
            spoken(net, peers.pick(sock), message);
        }
        Op::Resolve { sock, identity } => spoken(net, peers.pick(sock), Identity::new(identity).resolve()),
        Op::Relay { sock, own } => {
            let sock = peers.pick(sock);
            let link = peers.links.iter().rev().find(|(client, _)| !own || Some(*client) == sock);
            if let Some((_, link)) = link {
                spoken(net, sock, relay(&link.clone()));
            }
        }
        Op::Accept { sock, link } => {
            if !peers.links.is_empty() {
                let (_, link) = &peers.links[link % peers.links.len()];
                spoken(net, peers.pick(sock), accept(&link.clone()));
            }
        }
        Op::GetUsage { sock } => spoken(net, peers.pick(sock), json!({"type": "getUsage"})),
        Op::Nonsense { sock } => spoken(net, peers.pick(sock), json!([])),
        Op::Close { sock, reason } => {
            let reasons = [
                Reason::PeerClosed,
                Reason::PeerReset,
                Reason::SlowPeer,
                Reason::ProtocolError,
                Reason::Draining,
            ];
            if let Some(sock) = peers.pick(sock) {
                net.close(sock, reasons[reason]);
            }
        }
        Op::Bytes { sock, bytes } => {
            if let Some(sock) = peers.pick(sock).filter(|sock| net.is_open(*sock))
                && net.spliced_to(sock).is_some()
            {
                net.relay_bytes(sock, Leg::Client, bytes);
            }
        }
        Op::DeliverOne { pair } => {
            net.deliver_one(pair);
            net.settle();
        }
        Op::Settle => {
            net.letters_wait = false;
            net.settle();
            net.assert_quiet();
            net.letters_wait = true;
        }
        Op::FinishCloses => net.finish_closes(),
        Op::Advance { ms } => net.advance(Duration::from_millis(ms)),
        Op::Allow { without } => {
            let keys: Vec<String> = (0..6)
                .filter(|number| *number != without)
                .map(|number| Identity::new(number).public_key())
                .collect();
            net.allow(&keys.join(","));
        }
    }
    peers.listen(net);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left_when_everyone_has_gone(
        shards in prop_oneof![Just(1u16), Just(4)],
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let rates = Rates { rate_bps: 0, hourly_bytes: 36_000, trickle_bps: 1000 };
        let mut net = Net::new(shards, LinkConfig { rates, ..config() });
        net.letters_wait = true;
        net.closes_wait = true;
        let mut peers = Peers { socks: Vec::new(), links: Vec::new() };
        for op in &ops {
            apply(&mut net, &mut peers, op);
        }
        net.close_all();
        net.assert_nothing_left();
    }
}
