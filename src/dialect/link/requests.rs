//! What a control message does: roles, budgets and shapes, in the contract's order (link.md section 3).
//!
//! A `new` connection travels to the home of the key that it names before anything else is looked up; a
//! control socket stays, and asks by letter.

use std::net::IpAddr;

use super::{
    Alarm, Letter, Link,
    id::LinkId,
    registry::{Address, Claim, Verdict},
    seats::{Asked, Control, Role},
    wire::{self, ADDRESS_PINNED, Answer, Name, REGISTER_STALE, Request, UNKNOWN_ADDRESS, UNKNOWN_LINK},
};
use crate::{
    admission::register,
    dialect::{Action, Cx, NoPlace},
    id::{ConnId, Remote},
    limits::{ADDRESSES_PER_SOCKET_MAX, ANSWER_TIMEOUT, MOVES_MAX},
    reason::Reason,
};

/// Either the value that a check let through, or why the connection is closed.
type Checked<T> = Result<T, Reason>;

impl Link {
    /// Takes a message of a connection that is not spliced.
    pub(super) fn on_message(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        text: bool,
        bytes: &[u8],
        moved: bool,
    ) {
        // A message of a connection that is being closed has come too late to matter.
        let Some(Role::New(_) | Role::Control(_) | Role::Client(_) | Role::Relay(_)) = self.seats.get(conn)
        else {
            return;
        };
        let done = if text { self.on_text(cx, conn, bytes, moved) } else { Err(Reason::BadRequest) };
        if let Err(reason) = done {
            self.dismiss(cx, conn, reason);
        }
    }

    fn on_text(&mut self, cx: &mut Cx<'_>, conn: ConnId, bytes: &[u8], moved: bool) -> Checked<()> {
        let text = std::str::from_utf8(bytes).map_err(|_| Reason::BadUtf8)?;
        let request = wire::parse(text).ok_or(Reason::BadRequest)?;
        let role = self.seats.get(conn).expect("the caller has looked it up");
        match (request, role) {
            (Request::Register { address, auth }, Role::New(_) | Role::Control(_)) => {
                self.on_register(cx, conn, address, auth, moved)
            }
            (Request::Resolve { address }, Role::New(_)) => self.on_resolve(cx, conn, address, moved),
            (Request::Accept { link }, Role::New(_)) => self.on_accept(cx, conn, link),
            (Request::Relay { link }, Role::Client(key)) => {
                let key = *key;
                self.on_relay(cx, key, &link.ok_or(Reason::BadRequest)?)
            }
            (Request::GetUsage, Role::Control(_)) => {
                self.on_get_usage(cx, conn);
                Ok(())
            }
            (
                Request::Register { .. }
                | Request::Resolve { .. }
                | Request::Accept { .. }
                | Request::Relay { .. }
                | Request::GetUsage,
                Role::New(_) | Role::Control(_) | Role::Client(_) | Role::Relay(_) | Role::Closing,
            ) => Err(Reason::BadRequest),
        }
    }

    /// `register`: budget, shape, (the journey home,) proof, allow-list, registry.
    fn on_register(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        address: Option<Name<'_>>,
        auth: Option<&str>,
        moved: bool,
    ) -> Checked<()> {
        let address = self.charge(cx, conn, address, moved)?;
        // A name that is no commitment cannot be the commitment to any key.
        let address = register::decode(&address).ok_or(Reason::RegisterAuth)?;
        let home = self.place.home_of(&address);
        let is_new = matches!(self.seats.get(conn), Some(Role::New(_)));
        if is_new && home != self.place.shard {
            return self.travel(cx, conn, home);
        }
        let claim = self.verify(cx, conn, address, auth)?;
        if is_new {
            self.register_first(cx, conn, claim)
        } else {
            self.register_further(cx, conn, claim, home)
        }
    }

    /// Proof and allow-list.
    fn verify(&mut self, cx: &Cx<'_>, conn: ConnId, address: Address, auth: Option<&str>) -> Checked<Claim> {
        let proof = auth.and_then(wire::parse_auth).ok_or(Reason::RegisterAuth)?;
        register::precheck(&proof, &address, cx.now.unix_ms).map_err(|_| Reason::RegisterAuth)?;
        if !self.verifications.take(cx.now.at) {
            return Err(Reason::VerificationsRateLimited);
        }
        let sent_to = match self.seats.get(conn) {
            Some(Role::New(opening)) => &*opening.host,
            Some(Role::Control(control)) => &*control.origin,
            _ => "",
        };
        let origin = self.config.origin.as_deref().unwrap_or(sent_to);
        register::verify_signature(&proof, &address, origin).map_err(|_| Reason::RegisterAuth)?;
        if !cx.policy.may_register(&register::encode(&proof.public_key)) {
            return Err(Reason::RegisterUnauthorized);
        }
        Ok(Claim { address, public_key: proof.public_key, timestamp: proof.timestamp })
    }

    /// The first address of a connection, which has travelled to the address's home: this is it.
    fn register_first(&mut self, cx: &mut Cx<'_>, conn: ConnId, claim: Claim) -> Checked<()> {
        let host = Remote { shard: self.place.shard, conn };
        let ip = self.ip_of(conn);
        let verdict = self.judge(cx, host, ip, claim);
        if verdict == Verdict::Granted {
            let Some(Role::New(opening)) = self.seats.change(conn, Role::Closing) else {
                unreachable!("only a new connection registers first")
            };
            let origin = if self.config.origin.is_some() { Box::default() } else { opening.host };
            let mut control = Control::new(opening.ip, origin);
            control.add_home(host.shard);
            self.seats.change(conn, Role::Control(Box::new(control)));
            cx.actions.push(Action::Settle { conn });
        }
        self.answer_claim(cx, conn, claim, verdict)
    }

    /// Another address of a control socket, or a newer claim of one that it has: its home says.
    fn register_further(&mut self, cx: &mut Cx<'_>, conn: ConnId, claim: Claim, home: u16) -> Checked<()> {
        let host = Remote { shard: self.place.shard, conn };
        let control = self.seats.control(conn).expect("the caller knows its role");
        let is_held = control.held.iter().any(|held| held.address == claim.address);
        if !is_held && control.held.len() >= ADDRESSES_PER_SOCKET_MAX {
            return Err(Reason::Overloaded);
        }
        control.add_home(home);
        let ip = control.ip;
        if home == host.shard {
            let verdict = self.judge(cx, host, ip, claim);
            return self.answer_claim(cx, conn, claim, verdict);
        }
        let timer = self.arm(cx, cx.now.at + ANSWER_TIMEOUT, Alarm::Unjudged(conn));
        let control = self.seats.control(conn).expect("it was just there");
        debug_assert!(control.asked.is_none(), "a held connection has sent a message");
        control.asked = Some(Asked { claim, timer });
        cx.actions.push(Action::Hold { conn });
        self.post(cx, home, Letter::Claim { host, ip, claim });
        Ok(())
    }

    /// The home's answer to a claim. One for a control socket that has closed needs nothing: the home has
    /// heard, or will hear, that it is gone.
    pub(super) fn on_judged(&mut self, cx: &mut Cx<'_>, conn: ConnId, address: Address, verdict: Verdict) {
        let Some(control) = self.seats.control(conn) else { return };
        let Some(asked) = control.asked.take_if(|asked| asked.claim.address == address) else { return };
        cx.timers.cancel(asked.timer);
        match self.answer_claim(cx, conn, asked.claim, verdict) {
            Ok(()) => cx.actions.push(Action::Resume { conn }),
            Err(reason) => self.dismiss(cx, conn, reason),
        }
    }

    fn answer_claim(&mut self, cx: &mut Cx<'_>, conn: ConnId, claim: Claim, verdict: Verdict) -> Checked<()> {
        match verdict {
            Verdict::Granted => {
                self.seats.control(conn).expect("who is granted an address is a control socket").hold(claim);
                self.send(cx, conn, Answer::Registered { address: &register::encode(&claim.address) });
            }
            Verdict::Pinned => self.send(cx, conn, ADDRESS_PINNED),
            Verdict::Stale => self.send(cx, conn, REGISTER_STALE),
            Verdict::Full(NoPlace::InAll) => return Err(Reason::TooManyAddresses),
            Verdict::Full(NoPlace::OfIp) => return Err(Reason::TooManyAddressesPerIp),
        }
        Ok(())
    }

    /// The home has not answered in time. Whether it granted is unknown, so the socket cannot stay.
    pub(super) fn on_unjudged(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if self.seats.control(conn).is_some_and(|control| control.asked.is_some()) {
            self.dismiss(cx, conn, Reason::Overloaded);
        }
    }

    /// `resolve`: budget, shape, (the journey home,) lookup.
    fn on_resolve(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        address: Option<Name<'_>>,
        moved: bool,
    ) -> Checked<()> {
        let address = self.charge(cx, conn, address, moved)?;
        // What cannot be registered is unknown on every shard.
        let Some(address) = register::decode(&address) else {
            self.send(cx, conn, UNKNOWN_ADDRESS);
            return Ok(());
        };
        let home = self.place.home_of(&address);
        if home != self.place.shard {
            return self.travel(cx, conn, home);
        }
        match self.registry.holder(&address) {
            Some(host) => self.introduce(cx, conn, host, address),
            None => self.send(cx, conn, UNKNOWN_ADDRESS),
        }
        Ok(())
    }

    /// `accept`: shape, (the journey to the shard that the id names,) lookup.
    fn on_accept(&mut self, cx: &mut Cx<'_>, conn: ConnId, link: Option<Name<'_>>) -> Checked<()> {
        let link = link.ok_or(Reason::BadRequest)?;
        // Numbers in an id are claims: one that is not ours to serve makes the id unknown.
        let is_ours = |id: &LinkId| id.relay() == self.place.relay && id.shard() < self.place.shards;
        if let Some(id) = LinkId::parse(&link).filter(is_ours) {
            if id.shard() != self.place.shard {
                return self.travel(cx, conn, id.shard());
            }
            if let Some(key) = self.links.find(id).filter(|key| self.is_pending(*key)) {
                self.join(cx, conn, key);
                return Ok(());
            }
        }
        let Some(Role::New(opening)) = self.seats.get(conn) else { unreachable!("only a new one accepts") };
        if !cx.policy.charge_unknown_accept(opening.ip, cx.now) {
            return Err(Reason::RateLimited);
        }
        self.send(cx, conn, UNKNOWN_LINK);
        Ok(())
    }

    /// Closes control sockets that registered with a key which may not register any more.
    pub(super) fn on_policy_changed(&mut self, cx: &mut Cx<'_>) {
        let policy = cx.policy;
        let refused = |claim: &Claim| !policy.may_register(&register::encode(&claim.public_key));
        let refused: Vec<ConnId> = self
            .seats
            .controls()
            .filter(|(_, control)| control.claims().any(refused))
            .map(|(conn, _)| conn)
            .collect();
        for conn in refused {
            self.dismiss(cx, conn, Reason::RegisterUnauthorized);
        }
    }

    /// The per-IP budget, then the address's shape. What brought a connection here was charged where it came
    /// from.
    fn charge<'a>(
        &self,
        cx: &Cx<'_>,
        conn: ConnId,
        address: Option<Name<'a>>,
        moved: bool,
    ) -> Checked<Name<'a>> {
        if !moved && !cx.policy.charge_request(self.ip_of(conn), cx.now) {
            return Err(Reason::RateLimited);
        }
        address.ok_or(Reason::BadRequest)
    }

    /// The address of a new or a control socket.
    fn ip_of(&self, conn: ConnId) -> IpAddr {
        match self.seats.get(conn) {
            Some(Role::New(opening)) => opening.ip,
            Some(Role::Control(control)) => control.ip,
            _ => unreachable!("only new and control sockets are asked"),
        }
    }

    /// Sends a new connection to another shard with the message that it just sent.
    fn travel(&mut self, cx: &mut Cx<'_>, conn: ConnId, shard: u16) -> Checked<()> {
        match self.seats.get(conn) {
            Some(Role::New(opening)) if opening.moves < MOVES_MAX => {}
            _ => return Err(Reason::MovedTooOften),
        }
        self.seats.take(conn);
        cx.actions.push(Action::Move { conn, shard });
        Ok(())
    }
}
