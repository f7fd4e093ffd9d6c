//! Section 9: workers' requests to the platform.

use serde_json::{Value, json};

use super::{
    super::{Answer, Ask, Method, Metric, Response},
    net::{Net, Who},
};
use crate::id::ConnId;

const BELOW: &str = "/api/runtime/workspaces/w1/managed-executors/e1";

fn request(request_id: &str, method: &str, path: &str) -> Value {
    json!({
        "type": "viewport.worker_transport.request/v1", "requestId": request_id, "method": method, "path": path,
    })
}

fn answered(request_id: &str, status: u16, reason: &str) -> String {
    let head = r#"{"type":"viewport.worker_transport.response/v1","#;
    let tail = format!(r#""body":"{{\"ok\":false,\"reason\":\"{reason}\"}}"}}"#);
    let headers = r#""headers":{"content-type":"application/json"}"#;
    format!(r#"{head}"requestId":"{request_id}","status":{status},{headers},{tail}"#)
}

/// The one question that was asked.
fn asked(net: &mut Net) -> (ConnId, Ask) {
    let mut asked = std::mem::take(&mut net.asked);
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

fn respond(net: &mut Net, conn: ConnId, request_id: &str, status: u16) {
    let response = Response { status, headers: Vec::new(), body: String::new() };
    let answer = Answer::Forwarded { request_id: format!("\"{request_id}\""), outcome: Ok(response) };
    net.answer(conn, answer);
}

#[test]
fn a_request_goes_to_the_platform_and_its_answer_back() {
    let mut net = Net::new();
    let worker = net.join(Who::worker(" e1"));
    let said = json!({
        "type": "viewport.worker_transport.request/v1", "requestId": " \"r1\" ", "method": "POST",
        "path": format!("{BELOW}/runs?x=/../y#z"), "body": "b\u{feff}\n",
        "headers": {
            "Authorization": "Bearer t", "X-VIEWPORT-WORKER-SIGNATURE": "sig", "cookie": "c", "Accept": "a",
            "x-viewport-server-id": 5, "x-relay-internal-key": "stolen", "host": "elsewhere",
            "accept": "b", "content-type": "application/json",
        },
    });
    net.say(worker, &said);
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let want = Ask::Forward {
        request_id: r#"" \"r1\" ""#.to_owned(),
        method: Method::Post,
        path: format!("{BELOW}/runs?x=/../y"),
        headers: vec![
            header("authorization", "Bearer t"),
            header("accept", "b"),
            header("content-type", "application/json"),
            header("x-viewport-worker-signature", "sig"),
        ],
        body: Some("b\u{feff}\n".to_owned()),
    };
    assert_eq!(asked(&mut net), (worker, want));
    net.assert_silence();
    let response = Response {
        status: 200,
        headers: vec![header("a", "1"), header("b\"", "2")],
        body: "{\"x\":\"é\u{1}\"}".to_owned(),
    };
    net.answer(worker, Answer::Forwarded { request_id: r#"" \"r1\" ""#.to_owned(), outcome: Ok(response) });
    let want = concat!(
        r#"{"type":"viewport.worker_transport.response/v1","requestId":" \"r1\" ","status":200"#,
        r#","headers":{"a":"1","b\"":"2"},"body":"{\"x\":\"é\u0001\"}"}"#,
    );
    assert_eq!(net.heard(worker), [want]);
    assert_eq!(net.count(Metric::WorkerTransportForwarded), 1);
    net.assert_nothing_left();
}

#[test]
fn bodies_are_for_what_has_one() {
    let mut net = Net::new();
    let worker = net.join(Who::worker("e1"));
    for (method, said, body) in [
        ("GET", Some(""), None),
        ("GET", Some("ignored"), None),
        ("GET", None, None),
        ("POST", None, Some("")),
        ("PATCH", Some(""), Some("")),
        ("PATCH", Some("\u{0}b"), Some("\u{0}b")),
    ] {
        let mut said_ = request("r", method, BELOW);
        if let Some(said) = said {
            said_["body"] = said.into();
        }
        net.say(worker, &said_);
        let (_, Ask::Forward { body: asked, .. }) = asked(&mut net) else { panic!("a worker forwards") };
        assert_eq!(asked.as_deref(), body, "{method} {said:?}");
    }
    // What ECMAScript's UTF-8 encoder makes of a surrogate that stands alone.
    let said = request("r", "POST", BELOW).to_string().replace('}', r#","body":"a\ud800b"}"#);
    net.say_bytes(worker, said.as_bytes());
    let (_, Ask::Forward { body, .. }) = asked(&mut net) else { panic!("a worker forwards") };
    assert_eq!(body.as_deref(), Some("a\u{fffd}b"));
    net.assert_nothing_left();
}

#[test]
fn only_paths_of_the_executor_are_allowed() {
    let mut net = Net::new();
    let worker = net.join(Who::worker("e1"));
    let strange = net.join(Who::worker("é /('e1')").workspace("w:1"));
    let nobody = net.join(Who::worker(" "));
    let strange_below = "/api/runtime/workspaces/w%3A1/managed-executors/%C3%A9%20%2F('e1')";
    let mut allowed = 0;
    for (conn, path, is_allowed) in [
        (worker, BELOW.to_owned(), true),
        (worker, format!("{BELOW}/"), true),
        (worker, format!("{BELOW}/x?y=1"), true),
        (worker, format!("{BELOW}/x?y=/../%2e%2e\\"), true),
        (worker, format!("{BELOW}/x#/../"), true),
        (worker, format!("{BELOW}/a..b/...//.x/%2e%2ex/%2520"), true),
        (worker, format!("{BELOW}/a%2Fb"), true),
        (worker, format!("{BELOW}?x=1"), false),
        (worker, format!("{BELOW}2/x"), false),
        (worker, BELOW.replace("e1", "e2"), false),
        (worker, BELOW.replace("w1", "w2"), false),
        (worker, BELOW.to_uppercase().replace("/API/RUNTIME/WORKSPACES", "/api/runtime/workspaces"), false),
        (worker, format!("{BELOW}/.."), false),
        (worker, format!("{BELOW}/../../x"), false),
        (worker, format!("{BELOW}/./x"), false),
        (worker, format!("{BELOW}/%2e%2E/x"), false),
        (worker, format!("{BELOW}/.%2e"), false),
        (worker, format!("{BELOW}/%2e/x"), false),
        (worker, format!("{BELOW}/x%2f..%2Fy"), false),
        (worker, format!("{BELOW}/x%5c..%5Cy"), false),
        (worker, format!("{BELOW}/x\\y"), false),
        (worker, format!("{BELOW}/.\t./x"), false),
        (worker, format!("{BELOW}/.\n.\r/x"), false),
        (strange, strange_below.to_owned(), true),
        (strange, format!("{strange_below}/x"), true),
        (strange, "/api/runtime/workspaces/w:1/managed-executors/%C3%A9%20%2F('e1')".to_owned(), false),
        (nobody, "/api/runtime/workspaces/w1/managed-executors/".to_owned(), false),
        (nobody, BELOW.to_owned(), false),
    ] {
        net.say(conn, &request("r", "GET", &path));
        if is_allowed {
            asked(&mut net);
            allowed += 1;
        } else {
            assert_eq!(net.heard(conn), [answered("r", 403, "WORKER_TRANSPORT_PATH_DENIED")], "{path}");
        }
        net.assert_silence();
        assert!(net.asked.is_empty());
    }
    assert_eq!(allowed, 9);
    assert_eq!(net.count(Metric::WorkerTransportRejected), 19);
    assert!(net.logged().is_empty());
    net.assert_nothing_left();
}

#[test]
fn an_invalid_message_of_a_worker_gets_no_answer() {
    let mut net = Net::new();
    let worker = net.join(Who::worker("e1"));
    net.say(worker, &request("r", "DELETE", BELOW));
    net.assert_silence();
    assert_eq!(net.logged(), [("worker_frame_rejected", Some("invalid_worker_transport_frame"))]);
    assert_eq!(net.count(Metric::FramesDaemonRejected), 1);
    assert!(net.asked.is_empty());
    assert_eq!(net.closed(worker), None);
    net.assert_nothing_left();
}

#[test]
fn answers_come_in_the_order_of_completion_and_failures_are_told() {
    let mut net = Net::new();
    let (one, two) = (net.join(Who::worker("e1")), net.join(Who::worker("e1")));
    for (conn, request_id) in [(one, "a"), (one, "b"), (two, "a"), (one, "c")] {
        net.say(conn, &request(request_id, "GET", &format!("{BELOW}/{request_id}")));
    }
    assert_eq!(net.asked.len(), 4);
    respond(&mut net, one, "b", 204);
    assert!(net.heard(one)[0].contains(r#""requestId":"b","status":204,"headers":{},"body":"""#));
    let failed = |request_id: &str| Answer::Forwarded {
        request_id: format!("\"{request_id}\""),
        outcome: Err("connection refused".to_owned()),
    };
    net.answer(one, failed("a"));
    assert_eq!(net.heard(one), [answered("a", 502, "WORKER_TRANSPORT_FORWARD_FAILED")]);
    assert_eq!(net.count(Metric::WorkerTransportForwardFailed), 1);
    let note = net.notes.pop().expect("it is logged");
    assert_eq!(note.event, "worker_transport_forward_failed");
    assert_eq!(note.details.managed_executor_id.as_deref(), Some("e1"));
    assert_eq!(note.details.method, Some("GET"));
    assert_eq!(note.details.path.as_deref(), Some(&*format!("{BELOW}/a")));
    assert_eq!(note.details.error.as_deref(), Some("connection refused"));
    // What nobody waits for any more changes nothing.
    net.answer(one, failed("a"));
    net.close(one);
    respond(&mut net, one, "c", 200);
    net.assert_silence();
    respond(&mut net, two, "a", 200);
    assert_eq!(net.heard(two).len(), 1);
    net.assert_nothing_left();
}

#[test]
fn a_worker_has_so_many_requests_open_and_a_shard_too() {
    let mut net = Net::new();
    let workers: Vec<_> = (0..17).map(|_| net.join(Who::worker("e1"))).collect();
    let ask = |net: &mut Net, conn| {
        let before = net.asked.len();
        net.say(conn, &request("r", "GET", BELOW));
        let heard = net.heard(conn);
        let went = net.asked.len() > before;
        assert_eq!(heard.is_empty(), went);
        if !went {
            assert_eq!(heard, [answered("r", 502, "WORKER_TRANSPORT_FORWARD_FAILED")]);
        }
        went
    };
    for _ in 0..64 {
        assert!(ask(&mut net, workers[0]));
    }
    assert!(!ask(&mut net, workers[0]));
    assert_eq!(net.logged(), [("worker_transport_forward_failed", None)]);
    assert!(ask(&mut net, workers[1]));
    respond(&mut net, workers[0], "r", 200);
    net.heard(workers[0]);
    assert!(ask(&mut net, workers[0]));
    for worker in &workers[1..16] {
        while ask(&mut net, *worker) {}
    }
    assert_eq!(net.asked.len(), 1025, "1024 that are open and one that was answered");
    assert!(!ask(&mut net, workers[16]), "the shard's bound");
    net.close(workers[3]);
    assert!(ask(&mut net, workers[16]), "who leaves makes room");
    net.assert_nothing_left();
}
