//! Whether this kernel gives us the io_uring that the driver needs.

use std::io;

use io_uring::{Probe, opcode};

use super::{
    provided::Provided,
    ring::{Queues, Ring},
};
use crate::driver::{ChooseError, PoolOptions, buffers::Pool};

/// Makes a real ring, asks for every operation, has one carried out and registers a buffer ring, then lets all of it
/// go.
pub(in crate::driver) fn probe() -> Result<(), ChooseError> {
    let refused = |call| move |error: io::Error| ChooseError::Refused { call, error };
    let mut ring = Ring::new(Queues::DEFAULT).map_err(refused("io_uring_setup"))?;
    let parameters = ring.parameters();
    let features = [
        (parameters.is_feature_nodrop(), "completions that are never dropped", "5.5"),
        (parameters.is_feature_ext_arg(), "timeouts of io_uring_enter", "5.11"),
        (parameters.is_feature_skip_cqe_on_success(), "silent success", "5.17"),
    ];
    let mut operations = Probe::new();
    ring.submitter().register_probe(&mut operations).map_err(refused("io_uring_register"))?;
    let operations = [
        (opcode::AcceptMulti::CODE, "accept"),
        (opcode::RecvMulti::CODE, "receive"),
        (opcode::Send::CODE, "send"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::AsyncCancel::CODE, "cancel"),
    ]
    .map(|(code, feature)| (operations.is_supported(code), feature, "5.5"));
    if let Some((_, feature, since)) = features.into_iter().chain(operations).find(|(there, ..)| !there) {
        return Err(ChooseError::Missing { feature, since });
    }
    ring.try_out().map_err(refused("io_uring_enter"))?;
    let pool = Pool::new(PoolOptions { buffers: 1, buffer_bytes: 4096 });
    let provided = Provided::register(&ring, &pool).map_err(refused("registering a buffer ring"))?;
    // The ring goes first: nothing may be registered when the memory is freed.
    drop(ring);
    drop(provided);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_kernel_that_runs_these_tests_has_what_the_driver_needs() {
        super::probe().unwrap();
    }
}
