//! The line: its bounds, and its end.

use std::{sync::mpsc, thread};

use tokio::sync::mpsc::unbounded_channel;

use super::rig::{CONN, Rig, config, forward, request};
use super::server::Server;
use crate::{
    control::Line,
    dialect::workspace::{Ask, Method},
    limits::{ADMISSIONS_OPEN_MAX, FORWARDS_OPEN_MAX},
    shard::Platform,
};

fn admission() -> Ask {
    Ask::Admit { token: "a-token-of-mine".into(), request: request(None) }
}

fn forwarding() -> Ask {
    forward("r1", Method::Get, "/api/x", &[], None)
}

#[test]
fn each_kind_of_question_has_its_own_number_of_places() {
    let line = Line::default();
    for _ in 0..ADMISSIONS_OPEN_MAX {
        line.ask(0, CONN, admission()).expect("there is room");
    }
    assert_eq!(line.ask(0, CONN, admission()), Err(admission()));
    for _ in 0..FORWARDS_OPEN_MAX {
        line.ask(0, CONN, forwarding()).expect("admissions take no place of a worker's");
    }
    assert_eq!(line.ask(0, CONN, forwarding()), Err(forwarding()));
}

#[test]
fn a_place_is_free_again_once_its_question_is_done_with() {
    let line = Line::default();
    for _ in 0..FORWARDS_OPEN_MAX {
        line.ask(0, CONN, forwarding()).expect("there is room");
    }
    let (to, mut questions) = unbounded_channel();
    let courier = thread::spawn({
        let line = line.clone();
        move || line.carry(&to)
    });
    let question = questions.blocking_recv().expect("it is carried");
    assert!(line.ask(0, CONN, forwarding()).is_err(), "a question under way keeps its place");
    drop(question);
    assert!(line.ask(0, CONN, forwarding()).is_ok());
    line.shut();
    courier.join().expect("the courier goes");
    drop(questions);
    assert!(line.ask(0, CONN, admission()).is_err(), "a line that is shut takes no question");
}

#[test]
fn it_stops_while_questions_are_open() {
    // Until the test is over: the platform answers nobody.
    let (hold, held) = mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    let platform = Server::plain(move |_, _| {
        let _ = held.lock().recv();
        Ok(false)
    });
    let rig = Rig::start(config(&platform.url("127.0.0.1")));
    for _ in 0..3 {
        rig.ask(admission());
    }
    platform.next();
    let line = rig.line.clone();
    rig.stop();
    assert!(line.ask(0, CONN, admission()).is_err());
    drop(hold);
}
