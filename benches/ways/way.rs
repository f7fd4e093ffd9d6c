//! What is compared: each experiment has the ways to do one thing, the relay's own first.

use std::time::Duration;

use longsplice::driver::PoolOptions;

use crate::load::{Pattern, Shape};

/// Ways to do one thing, each under each of the workloads. Ratios are to the first, which is what the relay does.
pub struct Experiment {
    /// As the options name it.
    pub name: &'static str,
    /// The question.
    pub title: &'static str,
    /// What is done with each.
    pub workloads: &'static [Workload],
    /// The ways.
    pub ways: &'static [Way],
}

/// One way.
pub struct Way {
    /// As the tables show it.
    pub title: &'static str,
    /// Who serves.
    pub how: How,
}

/// Who serves.
pub enum How {
    /// The relay's own driver with this pool.
    Driver(PoolOptions),
    /// The pump that can do everything differently.
    Pump(Pump),
    /// No pump: sends from one place in memory, zero-copy if so.
    Sender {
        /// `IORING_OP_SEND_ZC`.
        zero_copy: bool,
    },
}

/// How the pump receives, sends and waits.
#[derive(Clone, Copy)]
pub struct Pump {
    /// How bytes come into which buffers.
    pub receive: Receive,
    /// Receive buffers, a power of two.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: u32,
    /// How they leave.
    pub send: Send,
    /// When they leave by themselves, before anything is received.
    pub ahead: Ahead,
    /// What a turn waits for.
    pub batch: Batch,
    /// The ring.
    pub ring: Ring,
    /// `TCP_NODELAY`: what is sent leaves at once, also while something before it is not acknowledged.
    pub no_delay: bool,
}

/// Multishot receives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// One buffer a completion.
    Plain,
    /// As many buffers a completion as there are bytes.
    Bundle,
    /// Buffers that are filled piece by piece (`IOU_PBUF_RING_INC`).
    Incremental,
}

/// Sends of what is queued on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// One in flight, of everything, which never waits; what is left is copied and waits from there.
    Attempt,
    /// One in flight, of everything, which waits (`MSG_WAITALL`) and keeps its receive buffers.
    Wait,
    /// One a piece, each linked to the next, each with `MSG_WAITALL`.
    Linked,
    /// As `Wait`, zero-copy from so many bytes on.
    ZeroCopy(u32),
}

/// When a turn's sends are submitted by themselves, so that their buffers are back before more is received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// When more than half of the buffers are queued.
    WhenShort,
    /// In every turn.
    Always,
    /// In none.
    Never,
}

/// What a turn waits for.
#[derive(Clone, Copy)]
pub enum Batch {
    /// One completion; a send's own will do.
    One,
    /// So many for so long, and then one (`min_wait`, Linux 6.12).
    Several(u32, Duration),
    /// One more than the sends of the turn, whose completions come at once, for so long, and then none: one of them
    /// may have to be seen to.
    BesidesSends(Duration),
}

/// What is waited for in one call.
pub struct Wait {
    /// How many completions, those that are there included.
    pub completions: u32,
    /// How long for more than one.
    pub patience: Duration,
    /// When that is over: for no further one, instead of for one.
    pub gives_up: bool,
}

impl Wait {
    /// Nothing.
    pub const NO: Wait = Wait { completions: 0, patience: Duration::ZERO, gives_up: true };
}

impl Batch {
    /// What is waited for after so many sends that are over at once.
    pub fn wait(self, sends: u32) -> Wait {
        match self {
            Batch::One => Wait { completions: 1, patience: Duration::ZERO, gives_up: false },
            Batch::Several(completions, patience) => Wait { completions, patience, gives_up: false },
            Batch::BesidesSends(patience) => Wait { completions: sends + 1, patience, gives_up: true },
        }
    }
}

/// A ring's set-up.
#[derive(Clone, Copy)]
pub struct Ring {
    /// Who runs what the kernel has to do for the ring.
    pub task_run: TaskRun,
    /// `NO_SQARRAY`.
    pub no_sqarray: bool,
    /// The ring's own descriptor is registered.
    pub is_registered: bool,
    /// So are the sockets' (direct descriptors).
    pub fixed_files: bool,
}

/// When the kernel finishes operations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TaskRun {
    /// When completions are waited for: `SINGLE_ISSUER` and `DEFER_TASKRUN`.
    Deferred,
    /// At the next system call: `SINGLE_ISSUER` and `COOP_TASKRUN`.
    Cooperative,
    /// At once, by an interrupt: no flags.
    AtOnce,
}

/// What is done with a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// 128 B back and forth on a thousand links: more are ready than there are buffers.
    Many,
    /// The same on a few, so that a turn finds one or two.
    Few,
    /// The same on a few, each message in two writes.
    Halves,
    /// Writes of 64 KiB one way.
    Stream,
    /// The server sends so many bytes at a time.
    Drain(u32),
}

/// How much of everything.
pub struct Sizes {
    many_links: usize,
    few_links: usize,
    stream_links: usize,
    /// Loaded before the measured span.
    pub warm_up: Duration,
    /// The measured span.
    pub span: Duration,
    /// Messages that each link moves at least.
    messages: u64,
}

impl Sizes {
    /// To measure.
    pub const FULL: Sizes = Sizes {
        many_links: 1000,
        few_links: 8,
        stream_links: 16,
        warm_up: Duration::from_millis(100),
        span: Duration::from_millis(400),
        messages: 1,
    };
    /// Judged by what arrives, not by how fast.
    pub const SMOKE: Sizes = Sizes {
        many_links: 100,
        few_links: 2,
        stream_links: 2,
        warm_up: Duration::ZERO,
        span: Duration::ZERO,
        messages: 8,
    };

    /// What each link is to move in a run at least, whichever way is moved less.
    pub fn bytes_at_least(&self, shape: Shape) -> u64 {
        self.messages * shape.bytes as u64
    }
}

impl Workload {
    /// Links.
    pub fn links(self, sizes: &Sizes) -> usize {
        match self {
            Workload::Many => sizes.many_links,
            Workload::Few | Workload::Halves => sizes.few_links,
            Workload::Stream | Workload::Drain(_) => sizes.stream_links,
        }
    }

    /// What they carry.
    pub fn shape(self) -> Shape {
        match self {
            Workload::Many | Workload::Few => Shape { pattern: Pattern::PingPong, bytes: 128, writes: 1 },
            Workload::Halves => Shape { pattern: Pattern::PingPong, bytes: 128, writes: 2 },
            Workload::Stream => Shape { pattern: Pattern::Stream, bytes: 64 * 1024, writes: 1 },
            Workload::Drain(bytes) => Shape { pattern: Pattern::Drain, bytes: bytes as usize, writes: 1 },
        }
    }

    /// Whether messages count, and not bytes.
    pub fn is_ping_pong(self) -> bool {
        self.shape().pattern == Pattern::PingPong
    }

    /// As the tables show it.
    pub fn title(self, sizes: &Sizes) -> String {
        let links = self.links(sizes);
        match self {
            Workload::Many | Workload::Few => format!("us of CPU per 128 B message, {links} links ping-pong"),
            Workload::Halves => {
                format!("us of CPU per 128 B message in two writes, {links} links ping-pong")
            }
            Workload::Stream => format!("ns of CPU per byte, {links} links stream 64 KiB"),
            Workload::Drain(bytes) => {
                format!(
                    "ns of CPU per byte, {} connections are sent {} KiB at a time",
                    2 * links,
                    bytes / 1024
                )
            }
        }
    }
}

/// All that is compared.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "receive",
        title: "Receives and their buffers",
        workloads: &[Workload::Many, Workload::Few, Workload::Stream],
        ways: &[
            pump("bundles, 64 x 16 KiB", RELAY),
            Way { title: "the driver itself", how: How::Driver(pool(64, 16)) },
            pump("plain, 64 x 16 KiB", Pump { receive: Receive::Plain, ..RELAY }),
            pump(
                "plain, 16 x 64 KiB",
                Pump { receive: Receive::Plain, buffers: 16, buffer_bytes: 64 * 1024, ..RELAY },
            ),
            pump("incremental, 64 x 16 KiB", Pump { receive: Receive::Incremental, ..RELAY }),
            pump("incremental, 8 x 128 KiB", INCREMENTAL),
            pump("incremental, 2 x 512 KiB", Pump { buffers: 2, buffer_bytes: 512 * 1024, ..INCREMENTAL }),
        ],
    },
    Experiment {
        name: "pool",
        title: "The driver's receive pool",
        workloads: &[Workload::Many, Workload::Few, Workload::Stream],
        ways: &[
            Way { title: "64 x 16 KiB, 1 MiB", how: How::Driver(pool(64, 16)) },
            Way { title: "256 x 4 KiB, 1 MiB", how: How::Driver(pool(256, 4)) },
            Way { title: "16 x 64 KiB, 1 MiB", how: How::Driver(pool(16, 64)) },
            Way { title: "32 x 16 KiB, 512 KiB", how: How::Driver(pool(32, 16)) },
            Way { title: "256 x 16 KiB, 4 MiB", how: How::Driver(pool(256, 16)) },
            Way { title: "1024 x 16 KiB, 16 MiB", how: How::Driver(pool(1024, 16)) },
        ],
    },
    Experiment {
        name: "send",
        title: "Sends",
        workloads: &[Workload::Many, Workload::Stream],
        ways: &[
            pump("one that never waits", RELAY),
            pump("one that waits", Pump { send: Send::Wait, ..RELAY }),
            pump("one a piece, linked", Pump { send: Send::Linked, ..RELAY }),
            pump("zero-copy from 16 KiB on", Pump { send: Send::ZeroCopy(16 * 1024), ..RELAY }),
            pump("ahead of receives, always", Pump { ahead: Ahead::Always, ..RELAY }),
            pump("ahead of receives, never", Pump { ahead: Ahead::Never, ..RELAY }),
        ],
    },
    Experiment {
        name: "zero-copy",
        title: "Zero-copy sends",
        workloads: &[
            Workload::Drain(4 << 10),
            Workload::Drain(16 << 10),
            Workload::Drain(64 << 10),
            Workload::Drain(256 << 10),
            Workload::Drain(1 << 20),
        ],
        ways: &[
            Way { title: "send", how: How::Sender { zero_copy: false } },
            Way { title: "zero-copy send", how: How::Sender { zero_copy: true } },
        ],
    },
    Experiment {
        name: "batch",
        title: "Completions that a turn waits for",
        workloads: &[Workload::Many, Workload::Few],
        ways: &[
            pump("1", RELAY),
            pump("8, for 50 us", with_batch(Batch::Several(8, Duration::from_micros(50)))),
            pump("32, for 50 us", with_batch(Batch::Several(32, Duration::from_micros(50)))),
            pump("32, for 500 us", with_batch(Batch::Several(32, Duration::from_micros(500)))),
            pump("1 besides its sends", with_batch(Batch::BesidesSends(Duration::from_micros(500)))),
        ],
    },
    Experiment {
        name: "ring",
        title: "The ring",
        workloads: &[Workload::Many, Workload::Few],
        ways: &[
            pump("deferred, no array", RELAY),
            pump("its descriptor registered", with_ring(Ring { is_registered: true, ..RELAY.ring })),
            pump("the sockets registered", with_ring(Ring { fixed_files: true, ..RELAY.ring })),
            pump("with the array", with_ring(Ring { no_sqarray: false, ..RELAY.ring })),
            pump("cooperative", with_ring(Ring { task_run: TaskRun::Cooperative, ..RELAY.ring })),
            pump("no flags", with_ring(Ring { task_run: TaskRun::AtOnce, ..RELAY.ring })),
        ],
    },
    Experiment {
        name: "delay",
        title: "TCP_NODELAY",
        workloads: &[Workload::Few, Workload::Halves],
        ways: &[pump("set", RELAY), pump("not set", Pump { no_delay: false, ..RELAY })],
    },
];

/// What the relay's driver does.
const RELAY: Pump = Pump {
    receive: Receive::Bundle,
    buffers: 64,
    buffer_bytes: 16 * 1024,
    send: Send::Attempt,
    ahead: Ahead::WhenShort,
    batch: Batch::One,
    ring: Ring { task_run: TaskRun::Deferred, no_sqarray: true, is_registered: false, fixed_files: false },
    no_delay: true,
};

const INCREMENTAL: Pump =
    Pump { receive: Receive::Incremental, buffers: 8, buffer_bytes: 128 * 1024, ..RELAY };

const fn pump(title: &'static str, pump: Pump) -> Way {
    Way { title, how: How::Pump(pump) }
}

const fn with_ring(ring: Ring) -> Pump {
    Pump { ring, ..RELAY }
}

const fn with_batch(batch: Batch) -> Pump {
    Pump { batch, ..RELAY }
}

const fn pool(buffers: u32, kibibytes: u32) -> PoolOptions {
    PoolOptions { buffers, buffer_bytes: kibibytes * 1024 }
}
