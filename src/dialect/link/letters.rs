//! What the shards of this dialect tell each other, and what each does about it.
//!
//! A host's control socket stays on one shard; its addresses and links may be at home on others. Letters
//! carry what has to pass between the two. They arrive in order and are not lost, so a claim posted before
//! the word that its host has gone is also judged before it, and no grant outlives its host. A letter to
//! one's own shard is read at once.

use std::net::IpAddr;

use super::{
    Link,
    id::LinkId,
    registry::{Claim, Verdict},
    seats::Control,
    wire::{Answer, UsageEntry},
};
use crate::{
    admission::register,
    dialect::{self, Action, Cx},
    id::{ConnId, Remote},
    limits::DIAL_BACKS_MAX,
    reason::Reason,
};

/// A message between this dialect's shards.
#[derive(Clone, PartialEq, Debug)]
pub enum Letter {
    /// To an address's home: `host` claims it; everything but pin and staleness is checked.
    Claim {
        /// The control socket.
        host: Remote,
        /// Its IP.
        ip: IpAddr,
        /// What it claims.
        claim: Claim,
    },
    /// Back: what the registry says.
    Judged {
        /// The control socket.
        host: ConnId,
        /// The address that was claimed.
        address: [u8; 32],
        /// The answer.
        verdict: Verdict,
    },
    /// To a control socket's shard: somebody else holds one of its addresses now.
    Replaced {
        /// The control socket.
        host: ConnId,
    },
    /// To every home that knows of a control socket: it has closed.
    HostGone {
        /// The control socket.
        host: Remote,
        /// What its clients are to be told.
        reason: Reason,
    },
    /// To a control socket's shard: a client resolved `address`.
    Arrived {
        /// The control socket.
        host: ConnId,
        /// The link that the client got.
        link: LinkId,
        /// The address that it asked for.
        address: [u8; 32],
    },
    /// To a control socket's shard: the client of `link` wants a dial-back.
    DialBack {
        /// The control socket.
        host: ConnId,
        /// The link.
        link: LinkId,
    },
    /// Back: the host will not be asked.
    DialBackRefused {
        /// The link.
        link: LinkId,
        /// What its client is to be told.
        reason: Reason,
    },
    /// To a control socket's shard: the dial-back was made, or nobody waits for it any more.
    DialBackOver {
        /// The control socket.
        host: ConnId,
        /// The link.
        link: LinkId,
    },
    /// To a control socket's shard: it should hear of its usage.
    UsageNews {
        /// The control socket.
        host: ConnId,
    },
    /// To every home that knows of a control socket: what do its links use?
    UsageAsked {
        /// The control socket.
        host: Remote,
        /// The asker's number of the question.
        round: u32,
    },
    /// Back: this.
    UsageTold {
        /// The control socket.
        host: ConnId,
        /// The number of the question.
        round: u32,
        /// One entry for each relaying link.
        entries: Vec<UsageEntry>,
    },
}

impl Link {
    /// Sends a letter; one to this shard is read at once.
    pub(super) fn post(&mut self, cx: &mut Cx<'_>, shard: u16, letter: Letter) {
        if shard == self.place.shard {
            self.read(cx, shard, letter);
        } else {
            cx.actions.push(Action::Post { shard, letter: dialect::Letter::Link(letter) });
        }
    }

    /// Does what a letter asks for.
    pub(super) fn read(&mut self, cx: &mut Cx<'_>, from: u16, letter: Letter) {
        match letter {
            Letter::Claim { host, ip, claim } => {
                let verdict = self.judge(cx, host, ip, claim);
                self.post(cx, from, Letter::Judged { host: host.conn, address: claim.address, verdict });
            }
            Letter::Judged { host, address, verdict } => self.on_judged(cx, host, address, verdict),
            Letter::Replaced { host } => {
                if self.seats.control(host).is_some() {
                    self.dismiss(cx, host, Reason::Replaced);
                }
            }
            Letter::HostGone { host, reason } => self.on_host_gone(cx, host, reason),
            Letter::Arrived { host, link, address } => {
                if self.seats.control(host).is_some() {
                    let address = register::encode(&address);
                    self.send(cx, host, Answer::Arrived { link, address: &address });
                }
            }
            Letter::DialBack { host, link } => self.on_dial_back(cx, from, host, link),
            Letter::DialBackRefused { link, reason } => {
                if let Some(key) = self.links.find(link) {
                    self.end_link(cx, key, reason);
                }
            }
            Letter::DialBackOver { host, link } => {
                if let Some(control) = self.seats.control(host) {
                    control.dial_backs.retain(|waiting| *waiting != link);
                }
            }
            Letter::UsageNews { host } => self.on_usage_news(cx, host),
            Letter::UsageAsked { host, round } => {
                let entries = self.usage_of(cx, host);
                self.post(cx, from, Letter::UsageTold { host: host.conn, round, entries });
            }
            Letter::UsageTold { host, round, entries } => self.on_usage_told(cx, host, round, entries),
        }
    }

    /// Judges a claim at its home; whoever it replaces is dismissed.
    pub(super) fn judge(&mut self, cx: &mut Cx<'_>, host: Remote, ip: IpAddr, claim: Claim) -> Verdict {
        let (verdict, replaced) = self.registry.register(cx.policy, host, ip, claim);
        if let Some(replaced) = replaced {
            self.post(cx, replaced.shard, Letter::Replaced { host: replaced.conn });
        }
        verdict
    }

    /// Asks a host to dial back, if it is there and has not too many dial-backs to make.
    fn on_dial_back(&mut self, cx: &mut Cx<'_>, from: u16, host: ConnId, link: LinkId) {
        let refused = match self.seats.control(host) {
            None => Some(Reason::PeerGone),
            Some(control) if control.dial_backs.len() >= DIAL_BACKS_MAX as usize => {
                Some(Reason::TooManyDialBacks)
            }
            Some(control) => {
                control.dial_backs.push(link);
                None
            }
        };
        match refused {
            Some(reason) => self.post(cx, from, Letter::DialBackRefused { link, reason }),
            None => self.send(cx, host, Answer::Relay { link }),
        }
    }

    /// Forgets a host: its addresses, and with them its links that are not relaying yet.
    fn on_host_gone(&mut self, cx: &mut Cx<'_>, host: Remote, reason: Reason) {
        for index in self.registry.forget(cx.policy, host) {
            let key = self.links.key(index);
            let record = self.links.get_mut(key).expect("the registry lists open links");
            record.host = None;
            if !record.is_relaying() {
                self.end_link(cx, key, reason);
            }
        }
    }

    /// Tells the homes of a control socket that it is gone, and stops what waits for it.
    pub(super) fn leave_homes(&mut self, cx: &mut Cx<'_>, conn: ConnId, control: Control, reason: Reason) {
        let timers = [control.asked.map(|asked| asked.timer), control.gather.map(|gather| gather.timer)];
        for timer in timers.into_iter().flatten() {
            cx.timers.cancel(timer);
        }
        let host = Remote { shard: self.place.shard, conn };
        for home in control.homes {
            self.post(cx, home, Letter::HostGone { host, reason });
        }
    }
}
