//! The driver on io_uring.
use super::ChooseError;

/// One shard's sockets on io_uring.
#[derive(Debug)]
pub struct UringDriver;

pub(super) fn probe() -> Result<(), ChooseError> {
    Err(ChooseError::Missing { feature: "its driver", since: "6.1" })
}
