//! Hosts that lose their control connections, by mishaps of their own, and come back.

use std::time::Duration;

use rustix::{event::epoll::EventFlags, net::sockopt};

use super::{
    super::{
        mishap::between,
        talk::{Part, Talk},
        wire::{self, Refusal},
        worker::Worker,
    },
    BETWEEN_SESSIONS,
    agenda::{Event, HostCourse},
};

impl Worker {
    /// A host lost its control connection; whether that was to be.
    pub(in super::super) fn host_was_struck(&mut self, number: usize, refusal: &Refusal) -> bool {
        let Some(course) = self.trouble.as_mut().map(|trouble| &mut trouble.hosts[number]) else {
            return false;
        };
        if !course.is_down {
            return false;
        }
        let is_asked_for = course.is_refused && matches!(refusal, Refusal::Closed(Some(BAD_REQUEST), _));
        if !is_asked_for {
            self.count_errors(&format!("host: {} after a mishap", refusal.kind()), 1);
        }
        self.drop_host(number, false);
        true
    }

    /// A host is registered; perhaps again.
    pub(in super::super) fn host_is_registered(&mut self, number: usize) {
        let Some(trouble) = &mut self.trouble else { return };
        let course = &mut trouble.hosts[number];
        if course.is_down {
            *course = HostCourse {
                session: course.session.wrapping_add(1),
                down_at: self.now,
                ..HostCourse::default()
            };
            if self.is_flowing {
                self.plan_mishap_of_host(number as u32);
            }
        }
    }

    pub(super) fn plan_mishap_of_host(&mut self, host: u32) {
        let Some(trouble) = &mut self.trouble else { return };
        if trouble.hardship.troubles(self.first_host + host) {
            trouble.plan_within(self.now, BETWEEN_HOST_MISHAPS, Event::StrikeHost(host));
        }
    }

    pub(super) fn strike_host(&mut self, host: u32) {
        let number = host as usize;
        if !self.hosts[number].is_registered {
            return self.plan_mishap_of_host(host);
        }
        let Some(trouble) = &mut self.trouble else { return };
        let kind = between(&mut trouble.random, (0, 3));
        let course = &mut trouble.hosts[number];
        (course.is_down, course.down_at) = (true, self.now);
        match kind {
            0 => {
                course.is_refused = true;
                self.made_happen("bad JSON of a host");
                let due = self.now + Worker::span(self.scenario.patience);
                self.trouble.as_mut().expect("as above").plan(due, Event::GiveUpHost(host));
                if let Some(talk) = &mut self.hosts[number].talk {
                    talk.output.extend(wire::bad_json());
                }
                let token = self.ends.len() as u32 + host;
                self.talk_ready(token, EventFlags::OUT);
            }
            1 => {
                self.made_happen("control connection reset");
                self.drop_host(number, true);
            }
            _ => {
                self.made_happen("control connection ended without a close");
                self.drop_host(number, false);
            }
        }
    }

    /// Closes a host's control connection; it registers again after a while.
    fn drop_host(&mut self, number: usize, is_reset: bool) {
        let host = &mut self.hosts[number];
        if let Some(socket) = host.socket.take().filter(|_| is_reset) {
            // As above.
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        }
        host.talk = None;
        self.hosts_registered -= u32::from(std::mem::take(&mut host.is_registered));
        let Some(trouble) = &mut self.trouble else { return };
        trouble.hosts[number].is_refused = false;
        trouble.hosts[number].session = trouble.hosts[number].session.wrapping_add(1);
        if self.is_flowing {
            trouble.plan_within(self.now, BETWEEN_SESSIONS, Event::Register(number as u32));
        }
    }

    pub(super) fn register_again(&mut self, host: u32) {
        let token = self.ends.len() as u32 + host;
        match self.dial(token) {
            Ok(socket) => {
                self.hosts[host as usize].socket = Some(socket);
                self.hosts[host as usize].talk = Some(Box::new(Talk::new(Part::Control, &self.upgrade)));
                let due = self.now + Worker::span(self.scenario.patience);
                self.trouble.as_mut().expect("only soaks have mishaps").plan(due, Event::GiveUpHost(host));
            }
            Err(refusal) => self.lose_host(host as usize, &refusal),
        }
    }
}

/// In nanoseconds.
const BETWEEN_HOST_MISHAPS: (u64, u64) = (1_000_000_000, 40_000_000_000);
const BAD_REQUEST: u16 = 4000;
