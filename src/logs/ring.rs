//! The entries that an operator finds under `/logs`, and as lines on standard output (workspace.md sections 2.3, 21).
//!
//! An entry is an event of the target [`TARGET`] with a field `event`; its other fields are the details. The ring keeps
//! the newest, whatever `--log-level` says. Promises that no value of a detail whose name speaks of a secret or of a
//! payload is kept or written.

use std::{
    collections::VecDeque,
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::write_line;
use crate::time::Iso;

/// The target of the entries.
pub const TARGET: &str = "longsplice::relay";

/// The newest entries, the oldest first.
#[derive(Debug)]
pub struct Ring {
    entries: Mutex<VecDeque<Entry>>,
    most: usize,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    unix_ms: u64,
    level: &'static str,
    event: String,
    details: Vec<(&'static str, Value)>,
}

impl Ring {
    /// A ring of at most `most` entries.
    pub fn new(most: usize) -> Ring {
        Ring { entries: Mutex::default(), most }
    }

    /// Adds an entry; above the bound the oldest goes.
    pub fn push(&self, entry: Entry) {
        let mut entries = self.entries.lock();
        while entries.len() >= self.most.max(1) {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// The body of `/logs`, with the details where it is `verbose`.
    pub fn json(&self, verbose: bool) -> String {
        let entries = self.entries.lock();
        let texts: Vec<String> = entries.iter().map(|entry| entry.json(verbose)).collect();
        drop(entries);
        format!(r#"{{"ok":true,"logs":[{}]}}"#, texts.join(","))
    }
}

impl Entry {
    /// The entry of an event at this time; `None` where it has no field `event`.
    fn of(event: &Event<'_>, unix_ms: u64) -> Option<Entry> {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        };
        Some(Entry { unix_ms, level, event: fields.event?, details: fields.details })
    }

    fn json(&self, verbose: bool) -> String {
        let (ts, level, event) = (Iso(self.unix_ms), self.level, Value::from(self.event.as_str()));
        let mut json = format!(r#"{{"ts":"{ts}","level":"{level}","event":{event}"#);
        if verbose {
            let details: Vec<String> =
                self.details.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
            json += &format!(r#","details":{{{}}}"#, details.join(","));
        }
        json + "}"
    }
}

#[derive(Default)]
struct Fields {
    event: Option<String>,
    details: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match value {
            Value::String(event) if name == "event" => self.event = Some(event),
            _ if is_private(name) => self.details.push((name, REDACTED.into())),
            value => self.details.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Fields have no null; `Null` is one that says so.
        let text = format!("{value:?}");
        self.add(field, if text == "null" { Value::Null } else { text.into() });
    }
}

/// A detail that is there and has no value.
pub struct Null;

impl fmt::Debug for Null {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null")
    }
}

/// Whether a detail's name speaks of something that is not for logs.
fn is_private(name: &str) -> bool {
    let name = name.to_lowercase();
    PRIVATE.iter().any(|word| name.contains(word))
}

/// Puts entries into a ring, and writes them as lines where `writes` says so.
pub(super) struct Collector<F> {
    pub(super) ring: std::sync::Arc<Ring>,
    pub(super) writes: F,
}

impl<S: Subscriber, F: Fn(Level) -> bool + 'static> Layer<S> for Collector<F> {
    #[allow(clippy::disallowed_methods)] // A log line's time is its own, as it is the other layers'.
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let Some(entry) = Entry::of(event, unix_ms) else { return };
        if (self.writes)(*event.metadata().level()) {
            write_line(&entry.json(true));
        }
        self.ring.push(entry);
    }
}

const REDACTED: &str = "[redacted]";
/// In lower case (workspace.md section 21).
const PRIVATE: [&str; 17] = [
    "authorization",
    "credential",
    "token",
    "secret",
    "password",
    "api_key",
    "api-key",
    "apikey",
    "private_key",
    "private-key",
    "privatekey",
    "signature",
    "payload",
    "body",
    "content",
    "frame",
    "message",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::prelude::*;

    use super::*;

    /// What the ring holds after `log` has logged.
    fn logged(most: usize, log: impl Fn()) -> Arc<Ring> {
        let ring = Arc::new(Ring::new(most));
        let collector = Collector { ring: Arc::clone(&ring), writes: |_| false };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(collector), log);
        for entry in ring.entries.lock().iter_mut() {
            entry.unix_ms = 1_700_000_000_123;
        }
        ring
    }

    #[test]
    fn an_entry_has_its_details_in_order_under_their_own_names() {
        let ring = logged(5, || {
            tracing::warn!(
                target: TARGET,
                event = "admission_denied",
                role = "client",
                workspaceId = "w\"1",
                machineId = None::<&str>,
                status = 504_u64,
                offset = -1_i64,
                open = true,
                tlsCertPath = ?Null,
            );
        });
        assert_eq!(
            ring.json(true),
            r#"{"ok":true,"logs":[{"ts":"2023-11-14T22:13:20.123Z","level":"warn","#.to_owned()
                + r#""event":"admission_denied","details":"#
                + r#"{"role":"client","workspaceId":"w\"1","status":504,"offset":-1,"open":true,"tlsCertPath":null}}]}"#
        );
        assert_eq!(
            ring.json(false),
            r#"{"ok":true,"logs":[{"ts":"2023-11-14T22:13:20.123Z","level":"warn","event":"admission_denied"}]}"#
        );
    }

    #[test]
    fn what_is_private_is_redacted_whatever_its_value() {
        let ring = logged(5, || {
            tracing::info!(
                target: TARGET,
                event = "relay_started",
                maxFrameBytes = 5_u64,
                relayToken = "a",
                Authorization = "b",
                clientSecretHash = "c",
                apiKey = "d",
                privateKeyPath = "e",
                contentType = "f",
                somebody = true,
                scope = "shown",
                "g"
            );
        });
        let json = ring.json(true);
        assert_eq!(json.matches(r#":"[redacted]""#).count(), 9, "{json}");
        assert!(json.contains(r#""scope":"shown""#), "{json}");
    }

    #[test]
    fn the_oldest_goes_first_and_what_has_no_event_is_no_entry() {
        let ring = logged(2, || {
            tracing::info!(target: TARGET, event = "one");
            tracing::info!("a line for people");
            tracing::error!(target: TARGET, event = "two");
            tracing::info!(target: TARGET, event = "three");
        });
        let events: Vec<_> =
            ring.entries.lock().iter().map(|entry| (entry.level, entry.event.clone())).collect();
        assert_eq!(events, [("error", "two".to_owned()), ("info", "three".to_owned())]);
        assert_eq!(Ring::new(5).json(true), r#"{"ok":true,"logs":[]}"#);
    }
}
