//! Named bounds, why each has its value, and how they relate.
//!
//! What an operator may change is an option (`crate::config`); what is here is fixed by a contract or by
//! arithmetic.

use std::time::Duration;

/// Largest request head (request line and headers).
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers in a request head.
pub const HEAD_HEADERS_MAX: usize = 100;
/// Largest control message of the link dialect, payload bytes (link.md section 1).
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 4096;
/// Largest relayed message, payload bytes summed over its fragments (link.md section 1).
pub const RELAYED_MESSAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Largest payload of a WebSocket control frame (RFC 6455 section 5.5).
pub const CONTROL_FRAME_BYTES_MAX: usize = 125;
/// How often every WebSocket is pinged (link.md section 6).
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a close handshake may take, and how long a lingering HTTP connection is read after its last
/// response.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a close handshake that the relay began may take in the workspace dialect (workspace.md section 16).
pub const WORKSPACE_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Above what may wait for a connection whose senders are not held up: what may wait besides while the kernel has
/// refused nothing of it, because a turn can bring more than it has been offered.
pub const UNOFFERED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long an upgraded socket may go without taking a role.
pub const ROLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pending links (dial-backs) of one control socket (link.md section 5).
pub const DIAL_BACKS_MAX: u32 = 64;
/// Addresses that one control socket may hold. The reference has no bound; a host has one address per key.
pub const ADDRESSES_PER_SOCKET_MAX: usize = 256;
/// Times one socket may move between shards: one for its role and a few for unknown addresses and links
/// before it.
pub const MOVES_MAX: u8 = 8;
/// How long a register's time stamp may be off, in milliseconds (link.md section 4).
pub const REGISTER_SKEW_MS_MAX: u64 = 300_000;
/// Links in one `/v1/stats` answer (link.md section 8).
pub const STATS_LINKS_MAX: usize = 1000;
/// Closed links remembered for `/v1/stats` (link.md section 8).
pub const STATS_CLOSED_MAX: usize = 32;
/// How long `/v1/stats` and the metrics wait for a shard.
pub const GATHER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a control socket waits for another shard's answer before it is closed as overloaded.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A direction's bytes taken from its source and not yet accepted by its destination, above which the source
/// is not read.
pub const DIRECTION_BYTES_HIGH: usize = 256 * 1024;
/// Paced bytes leave in slices of at most this much of the rate (DESIGN, "Rules that keep it true").
pub const PACING_SLICE: Duration = Duration::from_millis(100);
/// Entries of a shared per-IP table before the oldest window is dropped.
pub const IP_TABLE_ENTRIES_MAX: usize = 1 << 18;
/// Mails waiting for one shard before droppable ones are refused.
pub const MAIL_WAITING_MAX: usize = 1 << 16;
/// Completions and mails handled in one turn before the driver submits again, so that sends leave and timers
/// fire. A relayed message costs 5 to 8 us with its share of the TCP stack (docs/BENCHMARKS.md), so that a full turn is
/// some 5 to 8 ms; what is left comes first in the next.
pub const TURN_BUDGET: usize = 1024;
/// Upgrades of the relay that wait for the platform; one more is not admitted. A question is a few KiB, so that this is
/// some 16 MiB, and at the pace below it is more than a platform answers within any deadline.
pub const ADMISSIONS_OPEN_MAX: usize = 4096;
/// Admissions asked at once; the others wait their turn, within their own deadline. Bounds the connections to the
/// platform, and with `RELAY_ADMISSION_MAX_RESPONSE_BYTES` the memory for its answers.
pub const ADMISSIONS_AT_ONCE: usize = 256;
/// Workers' requests that are on their way to the platform, each with a body of up to a frame and an answer of as much;
/// one more fails.
pub const FORWARDS_OPEN_MAX: usize = 1024;
/// How long a worker's request may take; workers give up then (workspace.md section 26, O30).
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(60);
/// Keys in the platform's list; a longer one is not taken (workspace.md section 4.6).
pub const JWKS_KEYS_MAX: usize = 64;
/// How long the platform's keys are used before they are asked for again (workspace.md section 4.6).
pub const JWKS_FRESH: Duration = Duration::from_secs(300);
/// The platform is not asked for its keys more often than this, so that tokens of unknown keys, which anyone can make,
/// cannot hammer it.
pub const JWKS_PAUSE: Duration = Duration::from_secs(10);
/// Beyond the time that the platform has for its answer: how long an upgrade waits until the relay gives up by itself.
/// Time for the move to its workspace's shard, and for the control thread's own deadline to be the one that counts.
pub const ADMISSION_GRACE: Duration = Duration::from_secs(5);
/// Shards of one relay: ids carry 10 bits (DESIGN).
pub const SHARDS_MAX: usize = 1024;

const _: () = assert!(ADMISSIONS_AT_ONCE <= ADMISSIONS_OPEN_MAX);
// A control message must fit the smallest receive buffer several times over, or assembling would be the rule.
const _: () = assert!(CONTROL_MESSAGE_BYTES_MAX * 4 <= HEAD_BYTES_MAX);
// A head of the largest size fits the back-pressure cap, so that keep-alive never needs a queue of its own.
const _: () = assert!(HEAD_BYTES_MAX < DIRECTION_BYTES_HIGH);
