//! What is going on, told while it goes on: one line that is rewritten on a terminal, a line every few seconds
//! elsewhere.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::{
    report::{model::Tick, units},
    run::Phase,
};

/// Tells of one run on `out`, which is standard error in the program: standard output is for the report.
#[derive(Debug)]
pub struct Progress<W: Write> {
    out: W,
    how: How,
    title: String,
    /// Length of the measured part.
    seconds: f64,
    phase: Phase,
    last: Option<Tick>,
    last_line: Option<Instant>,
    errors: u64,
}

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Not at all.
    Quiet,
    /// A line now and then.
    Lines,
    /// One line, rewritten.
    Rewritten,
}

impl How {
    /// What suits standard error.
    pub fn for_stderr(is_quiet: bool) -> How {
        match (is_quiet, std::io::stderr().is_terminal()) {
            (true, _) => How::Quiet,
            (false, true) => How::Rewritten,
            (false, false) => How::Lines,
        }
    }
}

impl<W: Write> Progress<W> {
    /// Of a run that is told as `title` and measures for `seconds`.
    pub fn new(out: W, how: How, title: &str, seconds: f64) -> Progress<W> {
        let title = title.to_owned();
        let phase = Phase::LinksComingUp;
        Progress { out, how, title, seconds, phase, last: None, last_line: None, errors: 0 }
    }

    /// A phase begins. The end takes the rewritten line away.
    pub fn phase(&mut self, phase: Phase) {
        self.phase = phase;
        if phase == Phase::Over && self.how == How::Rewritten {
            self.write("\r\x1b[2K");
        }
    }

    /// An interval has ended.
    pub fn tick(&mut self, tick: &Tick) {
        let seconds = tick.traffic_seconds(self.last.as_ref());
        self.last = Some(tick.clone());
        self.errors += tick.errors;
        match self.how {
            How::Quiet => {}
            How::Rewritten => {
                let line = self.line(tick, seconds);
                let shown: String = line.chars().take(columns()).collect();
                self.write(&format!("\r\x1b[2K{shown}"));
            }
            How::Lines => {
                if self.last_line.is_none_or(|then| then.elapsed() >= LINE_EVERY) {
                    self.last_line = Some(Instant::now());
                    let line = self.line(tick, seconds);
                    self.write(&format!("{line}\n"));
                }
            }
        }
    }

    fn line(&self, tick: &Tick, seconds: f64) -> String {
        let mut parts = vec![self.title.clone()];
        parts.push(match self.phase {
            Phase::LinksComingUp => "links coming up".to_owned(),
            Phase::Measuring => {
                let passed = tick.at_seconds.max(0.0);
                match self.seconds < LONG_SECONDS {
                    true => format!("{passed:.0} of {}", units::seconds(self.seconds)),
                    false => format!("{} of {}", units::seconds(passed), units::seconds(self.seconds)),
                }
            }
            Phase::Ending => "ending".to_owned(),
            Phase::Over => "over".to_owned(),
        });
        parts.push(format!("{} links", units::count(tick.links_up)));
        if tick.messages > 0 {
            parts.push(format!("{} msg/s", units::count((tick.messages as f64 / seconds) as u64)));
            parts.push(units::byte_rate(tick.payload_bytes as f64 / seconds));
        }
        if let (Some(p50), Some(p99)) = (tick.p50_us, tick.p99_us) {
            parts.push(format!("p50 {}  p99 {}", units::micros(p50 as f64), units::micros(p99 as f64)));
        }
        if self.errors > 0 {
            parts.push(format!("{} errors", units::count(self.errors)));
        }
        if let Some(cores) = tick.relay_cores {
            parts.push(format!("relay CPU {:.0} %", cores * 100.0));
        }
        if let Some(rss) = tick.relay_rss_bytes {
            parts.push(format!("RSS {}", units::memory(rss as f64)));
        }
        parts.join(" | ")
    }

    fn write(&mut self, text: &str) {
        // Progress that nobody reads any more is no reason to end the run.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// Width of the terminal: a line that wraps could not be rewritten.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// From here on, time is told in units of its own.
const LONG_SECONDS: f64 = 120.0;
const LINE_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn told(how: How, ticks: &[Tick]) -> String {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, how, "pingpong", 10.0);
        progress.phase(Phase::Measuring);
        ticks.iter().for_each(|tick| progress.tick(tick));
        progress.phase(Phase::Over);
        String::from_utf8(out).expect("text")
    }

    fn tick() -> Tick {
        Tick {
            at_seconds: 3.0,
            links_up: 1000,
            messages: 81_234,
            payload_bytes: 10_397_952,
            errors: 2,
            p50_us: Some(1200),
            p99_us: Some(3400),
            relay_cores: Some(0.98),
            relay_rss_bytes: Some(42 << 20),
            ..Tick::default()
        }
    }

    #[test]
    fn a_line_has_everything_that_is_known() {
        let line = "pingpong | 3 of 10 s | 1,000 links | 27,078 msg/s | 3.47 MB/s | p50 1.2 ms  p99 3.4 ms | \
                    2 errors | relay CPU 98 % | RSS 42 MiB\n";
        assert_eq!(told(How::Lines, &[tick()]), line);
        let bare = Tick { at_seconds: 1.0, links_up: 5, ..Tick::default() };
        assert_eq!(told(How::Lines, &[bare]), "pingpong | 1 of 10 s | 5 links\n");
    }

    #[test]
    fn a_long_run_is_told_in_minutes() {
        let mut progress = Progress::new(Vec::new(), How::Lines, "soak", 1800.0);
        progress.phase(Phase::Measuring);
        progress.tick(&Tick { at_seconds: 372.0, ..tick() });
        let text = String::from_utf8(progress.out).expect("text");
        assert!(text.starts_with("soak | 6 min 12 s of 30 min | "), "{text}");
    }

    #[test]
    fn rates_are_over_the_interval() {
        let second = Tick { at_seconds: 5.0, ..tick() };
        let text = told(How::Rewritten, &[tick(), second]);
        assert!(text.contains("27,078 msg/s") && text.contains("40,617 msg/s"), "{text}");
    }

    #[test]
    fn a_terminal_has_one_line_and_is_left_clean() {
        let text = told(How::Rewritten, &[tick(), tick()]);
        assert!(!text.contains('\n') && text.ends_with("\r\x1b[2K"), "{text:?}");
        assert_eq!(told(How::Quiet, &[tick()]), "");
    }

    #[test]
    fn elsewhere_lines_are_few() {
        assert_eq!(told(How::Lines, &[tick(), tick(), tick()]).lines().count(), 1);
    }
}
