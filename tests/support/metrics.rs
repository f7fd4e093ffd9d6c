//! The Prometheus text of `/metrics`, read back.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Parses the exposition format; fails on a line that is none, or on a sample whose name was not
    /// announced by a `# TYPE` line.
    pub fn parse(text: &str) -> Metrics {
        let mut announced = Vec::new();
        let mut samples = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                if let Some(name) = comment.strip_prefix("TYPE ").and_then(|rest| rest.split(' ').next()) {
                    announced.push(name.to_owned());
                }
                continue;
            }
            let sample = Sample::parse(line).unwrap_or_else(|| panic!("not a sample: {line:?}"));
            let family = announced.iter().any(|name| sample.name.starts_with(name.as_str()));
            assert!(family, "no TYPE line before {line:?}");
            samples.push(sample);
        }
        Metrics { samples }
    }

    /// The sum of all samples of a name, over shards and other labels; fails if there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.sum_of(name, &[])
    }

    /// The sum of the samples of a name that carry all these labels; zero if the name exists without them.
    pub fn sum_of(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let named: Vec<_> = self.samples.iter().filter(|sample| sample.name == name).collect();
        assert!(!named.is_empty(), "no metric {name} among {:?}", self.names());
        named
            .into_iter()
            .filter(|sample| {
                labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
            })
            .map(|sample| sample.value)
            .sum()
    }

    /// Like [`Metrics::sum`]; zero if there is none.
    pub fn sum_if_any(&self, name: &str) -> f64 {
        self.samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
    }

    /// Every metric's name, once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.samples.iter().map(|sample| sample.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Sample> {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let Some((name, labels)) = series.split_once('{') else {
            return Some(Sample { name: series.to_owned(), labels: BTreeMap::new(), value });
        };
        let mut parsed = BTreeMap::new();
        for pair in labels.strip_suffix('}')?.split("\",").filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once("=\"")?;
            parsed.insert(key.to_owned(), value.trim_end_matches('"').to_owned());
        }
        Some(Sample { name: name.to_owned(), labels: parsed, value })
    }
}
