//! Sets of cores, written as `taskset -c` does: `0`, `0-3`, `0,2-3`.

use std::{fmt, io, str::FromStr};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A set of cores, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(Vec<usize>);

impl Cores {
    /// Those that the calling thread may run on.
    pub fn allowed() -> io::Result<Cores> {
        let set = sched_getaffinity(None)?;
        Ok(Cores((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()))
    }

    /// Binds the calling thread, and what it starts from now on, to these cores.
    pub fn bind(&self) -> io::Result<()> {
        let mut set = CpuSet::new();
        for core in &self.0 {
            set.set(*core);
        }
        Ok(sched_setaffinity(None, &set)?)
    }

    /// Their numbers, ascending.
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }

    /// Whether every one of these is among `others`.
    pub fn are_among(&self, others: &Cores) -> bool {
        self.0.iter().all(|core| others.0.contains(core))
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Cores, String> {
        let mut cores = Vec::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse().ok().filter(|core: &usize| *core < CpuSet::MAX_CPU);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => cores.extend(first..=last),
                _ => return Err(format!("{part:?} is no core; cores are written as in 0, 0-3 or 0,2-3")),
            }
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(Cores(cores))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, run) in self.0.chunk_by(|core, next| core + 1 == *next).enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(out, "{comma}{first}-{last}")?,
                _ => write!(out, "{comma}{}", run[0])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_read_and_written_as_taskset_does() {
        for (text, canonical) in [("0", "0"), ("0-3", "0-3"), ("2,0,1,7", "0-2,7"), ("0,2-3", "0,2-3")] {
            assert_eq!(text.parse::<Cores>().expect("well formed").to_string(), canonical);
        }
        for text in ["", "a", "3-1", "1,,2", "-1", "99999"] {
            assert!(text.parse::<Cores>().is_err(), "{text:?} is refused");
        }
    }

    #[test]
    fn a_thread_is_bound_to_those_it_names() {
        let allowed = Cores::allowed().expect("a thread may ask for its cores");
        let first = Cores(vec![allowed.numbers()[0]]);
        let bound = std::thread::spawn(move || {
            first.bind().expect("one of its own");
            (Cores::allowed().expect("as above"), first)
        });
        let (held, first) = bound.join().expect("no panic");
        assert_eq!(held, first);
        assert!(held.are_among(&allowed));
        assert_eq!(Cores::allowed().expect("as above"), allowed, "another thread's binding is its own");
    }
}
