//! What an operation is called in the kernel.
//!
//! A token names a slot and its generation, never an address, so that a completion can be checked instead of
//! trusted.

use crate::{driver::slots::SLOTS_MAX, id::ConnId};

/// What an operation is for. A connection has at most one of each of the first three in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Op {
    /// Receive, or wait until that can succeed.
    Receive = 0,
    /// Send, or wait until that can succeed.
    Send = 1,
    /// Wait for the connection to break while it is not read.
    Watch = 2,
    /// Accept; the index is the listener's.
    Accept = 3,
    /// Wait for letters.
    Post = 4,
    /// Cancel one of the others.
    Cancel = 5,
    /// Wait for something to read on a parked connection.
    Park = 6,
}

/// 24 bits of index, 32 of generation, 8 of operation, from the top.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token(u64);

const _: () = assert!(SLOTS_MAX <= 1 << 24);

impl Token {
    pub(super) fn new(op: Op, conn: ConnId) -> Token {
        Token(u64::from(conn.index) << 40 | u64::from(conn.generation) << 8 | op as u64)
    }

    /// An operation of the driver's own, by number.
    pub(super) fn driver(op: Op, number: u32) -> Token {
        Token::new(op, ConnId { index: number, generation: 0 })
    }

    pub(super) fn conn(self) -> ConnId {
        let index = u32::try_from(self.0 >> 40).expect("24 bits");
        let generation = u32::try_from(self.0 >> 8 & u64::from(u32::MAX)).expect("masked");
        ConnId { index, generation }
    }

    pub(super) fn op(self) -> Op {
        match self.0 & 0xff {
            0 => Op::Receive,
            1 => Op::Send,
            2 => Op::Watch,
            3 => Op::Accept,
            4 => Op::Post,
            5 => Op::Cancel,
            6 => Op::Park,
            other => unreachable!("only our own operations complete, not {other}"),
        }
    }
}

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        token.0
    }
}

impl From<u64> for Token {
    fn from(user_data: u64) -> Token {
        Token(user_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_the_extremes() {
        for op in [Op::Receive, Op::Send, Op::Watch, Op::Accept, Op::Post, Op::Cancel, Op::Park] {
            for index in [0, 1, (1 << 24) - 1] {
                for generation in [0, 1, u32::MAX] {
                    let conn = ConnId { index, generation };
                    let token = Token::from(u64::from(Token::new(op, conn)));
                    assert_eq!((token.op(), token.conn()), (op, conn));
                }
            }
        }
    }
}
