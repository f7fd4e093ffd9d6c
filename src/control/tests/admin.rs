//! Tests of the admin server, with a made-up fleet.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    admin::{About, Fleet, Ready, Snapshot},
    control::{Control, Correspondence, Duties},
    dialect::{kick::Target, workspace::Answer},
    id::ConnId,
    time::Now,
};

/// Two shards; the second answers as long as it is not stalled.
#[derive(Clone, Default)]
struct Fake {
    draining: Arc<AtomicBool>,
    stalled: Arc<AtomicBool>,
}

impl Fleet for Fake {
    async fn snapshots(&self) -> Vec<Option<Snapshot>> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let shard =
            |shard| Some(Snapshot { shard, connections: 40 + u64::from(shard), ..Snapshot::default() });
        vec![shard(0), if self.stalled.load(Ordering::Relaxed) { None } else { shard(1) }]
    }

    fn is_operator(&self, presented: Option<&str>) -> bool {
        presented == Some("operator")
    }

    async fn kick(&self, target: Target) -> usize {
        if target == Target::Link("abc".into()) { 2 } else { 0 }
    }

    fn readiness(&self) -> Ready {
        let stalled = if self.stalled.load(Ordering::Relaxed) { vec![1] } else { vec![] };
        let draining = self.draining.load(Ordering::Relaxed);
        Ready { draining, stalled, ip_windows_evicted: 0, log_lines_lost: 0 }
    }
}

impl Correspondence for Fake {
    fn deliver(&self, _: u16, _: ConnId, _: Answer) {
        unreachable!("nobody asks the platform")
    }

    fn now(&self) -> Now {
        unreachable!("nobody asks the platform")
    }
}

fn start(fleet: &Fake) -> (Control, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let about = About { version: "0.0.0", driver: "epoll" };
    let duties = Duties { admin: Some((listener, about)), platform: None };
    (Control::start(duties, fleet.clone()).expect("a thread"), address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a valid timeout");
    stream
}

/// Sends one request and reads the response to the end of the stream.
fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it answers and closes");
    response
}

#[test]
fn it_serves_metrics_of_all_shards_that_answer() {
    let fleet = Fake::default();
    let (control, address) = start(&fleet);
    let response = ask(address, "GET", "/metrics?name=x");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{response}");
    assert!(response.contains("\nlongsplice_info{version=\"0.0.0\",driver=\"epoll\"} 1\n"), "{response}");
    assert!(response.contains("\nlongsplice_connections{shard=\"1\"} 41\n"), "{response}");
    fleet.stalled.store(true, Ordering::Relaxed);
    let response = ask(address, "GET", "/metrics");
    assert!(response.contains("\nlongsplice_connections{shard=\"0\"} 40\n"), "{response}");
    assert!(!response.contains("\nlongsplice_connections{shard=\"1\"}"), "{response}");
    assert!(response.contains("\nlongsplice_shard_answered{shard=\"1\"} 0\n"), "{response}");
    control.stop();
}

#[test]
fn health_is_always_ok_and_readiness_says_why_not() {
    let fleet = Fake::default();
    let (control, address) = start(&fleet);
    let ready = ask(address, "GET", "/ready");
    assert!(
        ready.starts_with("HTTP/1.1 200 ") && ready.ends_with(r#"{"status":"ready","stalledShards":[]}"#),
        "{ready}"
    );
    fleet.stalled.store(true, Ordering::Relaxed);
    let stalled = ask(address, "GET", "/ready");
    assert!(stalled.starts_with("HTTP/1.1 503 "), "{stalled}");
    assert!(stalled.ends_with(r#"{"status":"stalled","stalledShards":[1]}"#), "{stalled}");
    fleet.draining.store(true, Ordering::Relaxed);
    let draining = ask(address, "GET", "/ready");
    assert!(draining.starts_with("HTTP/1.1 503 ") && draining.contains("draining"), "{draining}");
    let health = ask(address, "GET", "/health");
    assert!(health.starts_with("HTTP/1.1 200 ") && health.ends_with(r#"{"status":"ok"}"#), "{health}");
    control.stop();
}

#[test]
fn other_paths_and_methods_are_refused_in_json() {
    let (control, address) = start(&Fake::default());
    let unknown = ask(address, "GET", "/v1/stats");
    assert!(
        unknown.starts_with("HTTP/1.1 404 ") && unknown.ends_with(r#"{"error":"not_found"}"#),
        "{unknown}"
    );
    let post = ask(address, "POST", "/metrics");
    assert!(post.starts_with("HTTP/1.1 405 ") && post.to_lowercase().contains("allow: get, head"), "{post}");
    let head = ask(address, "HEAD", "/health");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    control.stop();
}

#[test]
fn it_stops_while_a_client_is_connected_and_frees_the_port() {
    let (control, address) = start(&Fake::default());
    let mut idle = connect(address);
    ask(address, "GET", "/health");
    control.stop();
    assert_eq!(idle.read(&mut [0; 8]).expect("an orderly end"), 0);
    TcpListener::bind(address).expect("the port is free again");
}

#[test]
fn a_kick_needs_the_token_and_a_body_that_names_one_thing() {
    let fleet = Fake::default();
    let (control, address) = start(&fleet);
    let kick = |token: &str, body: &str| {
        let mut stream = connect(address);
        let length = body.len();
        write!(
            stream,
            "POST /admin/kick HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("it answers and closes");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        (head.split(' ').nth(1).expect("a status").to_owned(), body.to_owned())
    };
    let (status, body) = kick("operator", r#"{"linkId":"abc"}"#);
    assert_eq!((status.as_str(), body.as_str()), ("200", r#"{"ok":true,"closed":2}"#));
    assert_eq!(kick("operator", r#"{"linkId":"abd"}"#).1, r#"{"ok":true,"closed":0}"#);
    assert_eq!(kick("stranger", r#"{"linkId":"abc"}"#).0, "401");
    assert_eq!(kick("operator", "{}").0, "400");
    assert_eq!(kick("operator", &format!(r#"{{"linkId":"{}"}}"#, "a".repeat(5000))).0, "400");
    assert!(ask(address, "GET", "/admin/kick").starts_with("HTTP/1.1 405 "));
    control.stop();
}
