//! The same pump on the relay's own driver.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use longsplice::{
    driver::{
        Clock, Completion, Driver, HEADROOM, PoolOptions, Read, Setup, UringDriver,
        listen::{self, ListenOptions},
        post::Offices,
    },
    id::ConnId,
};

use super::DIRECTION_BYTES_HIGH;

/// Pumps until a connection ends.
pub fn run(pool: PoolOptions, connections: usize) -> io::Result<Infallible> {
    let (_, post) = Offices::new(1)?.ends_for(0).enter(&[])?;
    let listener = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &ListenOptions::default())?;
    let address = listener.address();
    let driver = UringDriver::new(Setup {
        clock: Clock::start(),
        listeners: vec![listener],
        post,
        pool,
        pipes_max: 0,
        connections_max: connections as u32,
        park_after: Duration::ZERO,
    })?;
    eprintln!("listen={address}");
    let mut pump = Pump { driver, legs: Vec::new(), numbers: Vec::new() };
    pump.driver.resume_accept();
    loop {
        pump.driver.wait(None)?;
        while let Some(completion) = pump.driver.next() {
            pump.complete(completion)?;
        }
    }
}

struct Pump {
    driver: UringDriver,
    /// The other leg of a link has the same number but for its last bit.
    legs: Vec<Leg>,
    /// The number of the connection in each of the driver's slots.
    numbers: Vec<usize>,
}

struct Leg {
    conn: ConnId,
    /// It did not take what it was offered.
    is_blocked: bool,
    /// Its peer does not take what comes: it is not read.
    is_paused: bool,
}

impl Pump {
    fn complete(&mut self, completion: Completion) -> io::Result<()> {
        match completion {
            Completion::Accepted { conn, .. } => self.accept(conn),
            Completion::Received { conn, chunk, .. } => {
                let number = self.numbers[conn.index as usize];
                let Some(target) = self.legs.get(number ^ 1) else {
                    self.driver.release(chunk);
                    return Err(io::Error::other("a connection spoke before its peer was there"));
                };
                let (conn, is_blocked) = (target.conn, target.is_blocked);
                let range = HEADROOM..HEADROOM + chunk.len();
                self.driver.send_chunk(conn, chunk, range);
                if is_blocked && self.driver.queued(conn) > DIRECTION_BYTES_HIGH {
                    self.pause(number);
                }
            }
            Completion::Sent { conn, .. } => {
                let number = self.numbers[conn.index as usize];
                let left = self.driver.queued(conn);
                self.legs[number].is_blocked = left > 0;
                if left > DIRECTION_BYTES_HIGH {
                    self.pause(number ^ 1);
                } else if left <= DIRECTION_BYTES_HIGH / 2
                    && std::mem::take(&mut self.legs[number ^ 1].is_paused)
                {
                    self.driver.read(self.legs[number ^ 1].conn, Read::Stream);
                }
            }
            Completion::Stopped { .. } | Completion::Woken => {}
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
        Ok(())
    }

    fn accept(&mut self, conn: ConnId) {
        let (number, index) = (self.legs.len(), conn.index as usize);
        self.legs.push(Leg { conn, is_blocked: false, is_paused: false });
        self.numbers.resize(self.numbers.len().max(index + 1), 0);
        self.numbers[index] = number;
        if number % 2 == 1 {
            for leg in &self.legs[number - 1..] {
                self.driver.read(leg.conn, Read::Stream);
            }
        }
    }

    fn pause(&mut self, number: usize) {
        if !std::mem::replace(&mut self.legs[number].is_paused, true) {
            self.driver.read(self.legs[number].conn, Read::Off);
        }
    }
}
