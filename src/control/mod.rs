//! The control thread: everything that is allowed to wait, on a runtime of its own.
//!
//! Holds a thread with a single-threaded tokio runtime. Its tasks are the admin server ([`crate::admin`]) and the desk
//! that answers the shards' questions to the platform ([`Desk`]), which come over a [`Line`]. Promises that it stops
//! when told and that what it does never delays a shard. It never sees a relayed byte.
//!
//! Reading order: `line` (how questions come), `desk` (who answers them), `validate` and `forward` (the two kinds),
//! `keys` (tokens checked here), `outbound` and `tls` (how the platform is spoken to).

mod desk;
mod forward;
mod keys;
mod line;
mod outbound;
mod tls;
mod validate;

use std::{future, io, net::TcpListener, thread::JoinHandle};

use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::LocalSet,
};

pub use self::{
    desk::{Correspondence, Desk, PlatformConfig},
    keys::LocalCheck,
    line::Line,
    tls::{IdentityFiles, TlsConfig, Verify},
};
use crate::admin::{self, About, Fleet};

/// What the thread is to do.
#[derive(Default)]
pub struct Duties {
    /// Serve `--admin-listen` on this listener.
    pub admin: Option<(TcpListener, About)>,
    /// Answer the questions of this line at this desk.
    pub platform: Option<(Line, Desk)>,
}

/// The running control thread.
#[derive(Debug)]
pub struct Control {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    courier: Option<Courier>,
}

impl Control {
    /// Starts the thread. Fails where the kernel gives no thread or no descriptors.
    pub fn start(duties: Duties, relay: impl Fleet + Correspondence + Clone + Send) -> io::Result<Control> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let admin = match duties.admin {
            Some((listener, about)) => {
                listener.set_nonblocking(true)?;
                let _inside = runtime.enter();
                Some((tokio::net::TcpListener::from_std(listener)?, about))
            }
            None => None,
        };
        let (platform, courier) = match duties.platform {
            Some((line, desk)) => {
                let (to, questions) = mpsc::unbounded_channel();
                (Some((desk, questions)), Some(Courier::start(line, to)?))
            }
            None => (None, None),
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            let fleet = relay.clone();
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = async { match admin {
                        Some((listener, about)) => admin::serve(listener, about, fleet).await,
                        None => future::pending().await,
                    } } => {}
                    () = async { match platform {
                        Some((desk, questions)) => desk::serve(desk, questions, relay).await,
                        None => future::pending().await,
                    } } => {}
                    // Told to stop, or its owner is gone: the same.
                    _ = stopped => {}
                }
            });
            // A name that is still being resolved is nobody's business any more.
            runtime.shutdown_background();
        })?;
        Ok(Control { stop, thread, courier })
    }

    /// Stops the thread and waits for its end, which is at once: what it was doing is abandoned.
    pub fn stop(self) {
        if let Some(courier) = self.courier {
            courier.stop();
        }
        // A thread that is gone already needs no telling.
        let _ = self.stop.send(());
        join(self.thread);
    }
}

/// The thread that takes questions from the line to the runtime.
#[derive(Debug)]
struct Courier {
    line: Line,
    thread: JoinHandle<()>,
}

impl Courier {
    fn start(line: Line, to: mpsc::UnboundedSender<line::Question>) -> io::Result<Courier> {
        let work = {
            let line = line.clone();
            move || line.carry(&to)
        };
        let thread = std::thread::Builder::new().name("courier".into()).spawn(work)?;
        Ok(Courier { line, thread })
    }

    fn stop(self) {
        self.line.shut();
        join(self.thread);
    }
}

fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests;
