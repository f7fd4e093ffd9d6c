//! The contract of `Driver`, held against the real kernel by both drivers.
//!
//! Every test here runs on each driver. Peers are plain blocking sockets on the loopback interface.

mod exchange;
mod hand_over;
mod limits;
mod load;
mod quiet;
pub(super) mod rig;

/// Makes a test for each driver out of a function that is generic over it.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test]
            fn $name() {
                super::$name::<crate::driver::EpollDriver>();
            })*
        }
        mod uring {
            $(#[test]
            fn $name() {
                super::$name::<crate::driver::UringDriver>();
            })*
        }
    };
}
use on_both;
