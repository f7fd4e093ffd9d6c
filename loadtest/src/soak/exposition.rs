//! A relay's metrics: where they are, and what they say.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{dialect::Dialect, target::Target};

/// Where metrics are served in Prometheus' text form.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: SocketAddr,
    host: String,
    path: String,
}

impl Endpoint {
    /// Takes an `http://` URL apart. Errors: what is wrong with it.
    pub fn new(url: &str) -> Result<Endpoint, String> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(format!("--metrics {url}: it has to begin with http://"));
        };
        let rest = if rest.contains('/') { rest.to_owned() } else { format!("{rest}/metrics") };
        let target = Target::new(&format!("ws://{rest}"), None, Dialect::Link)
            .map_err(|error| error.replace("--url ws://", "--metrics http://"))?;
        Ok(Endpoint { address: target.address, host: target.host, path: target.path })
    }

    /// Every metric by its name, the sum over its labels. Errors: what went wrong.
    pub fn read(&self) -> Result<BTreeMap<String, f64>, String> {
        let complain = |error: std::io::Error| format!("http://{}{}: {error}", self.host, self.path);
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE).map_err(complain)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(complain)?;
        let request =
            format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.host);
        stream.write_all(request.as_bytes()).map_err(complain)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(complain)?;
        let answer = String::from_utf8_lossy(&answer);
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.get(9..12) == Some("200") => Ok(parse(body)),
            _ => {
                let status = answer.lines().next().unwrap_or("nothing");
                Err(format!("http://{}{} answers {status}", self.host, self.path))
            }
        }
    }
}

/// The sums over all labels. Lines that are no samples are passed over.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        if let Ok(value) = value.parse::<f64>() {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

const PATIENCE: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_their_labels() {
        let text =
            "# HELP a b\n# TYPE a gauge\na{shard=\"0\"} 3\na{shard=\"1\",x=\"y z\"} 4.5\nb 7\n\nnonsense\n";
        let sums = parse(text);
        assert_eq!((sums["a"], sums["b"], sums.len()), (7.5, 7.0, 2));
    }

    #[test]
    fn a_url_without_a_path_means_metrics() {
        let endpoint = Endpoint::new("http://127.0.0.1:9").expect("a good URL");
        assert_eq!((endpoint.path.as_str(), endpoint.address.port()), ("/metrics", 9));
        for url in ["127.0.0.1:9", "http://"] {
            assert!(Endpoint::new(url).expect_err(url).contains("--metrics"), "{url}");
        }
    }
}
