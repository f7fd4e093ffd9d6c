//! The control thread: everything that is allowed to wait, on a runtime of its own.
//!
//! Holds a thread with a single-threaded tokio runtime, and today one task on it, the admin server. Promises
//! that it stops when told and that what it does never delays a shard. It never sees a relayed byte.

use std::{io, net::TcpListener, thread::JoinHandle};

use tokio::{runtime, sync::oneshot, task::LocalSet};

use crate::admin::{self, About, Fleet};

/// The running control thread.
#[derive(Debug)]
pub struct Control {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts the thread, which serves `--admin-listen` on `listener`. Fails where the kernel gives no thread
    /// or no descriptors.
    pub fn start(listener: TcpListener, about: About, fleet: impl Fleet + Send) -> io::Result<Control> {
        listener.set_nonblocking(true)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = admin::serve(listener, about, fleet) => {}
                    // Told to stop, or its owner is gone: the same.
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Control { stop, thread })
    }

    /// Stops the thread and waits for its end, which is at once: what it was doing is abandoned.
    pub fn stop(self) {
        // A thread that is gone already needs no telling.
        let _ = self.stop.send(());
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests;
