//! Connections that are open: heartbeats, backlogs, closes.

use std::time::Duration;

use super::site::*;
use crate::{
    admission::WorkspaceGateSettings,
    dialect::workspace::{Claims, Metric, Scope, WorkspaceConfig},
    shard::mail::Mail,
    sim::{network::StreamId, settings::Plan, workspace::platform::SimPlatform},
};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const PONG: u8 = 10;

fn client(workspace: &str) -> String {
    upgrade(&format!("role=client&workspaceId={workspace}"), "Authorization: Bearer 0123456789\r\n")
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A client's envelope with so much in it.
fn envelope(seq: usize, filler: usize) -> Vec<u8> {
    let text = "x".repeat(filler);
    format!(
        r#"{{"type":"e2ee","version":2,"profile":"noise-ik","sessionId":"s","epoch":1,"seq":{seq},"iv":"i","#
    )
    .into_bytes()
    .into_iter()
    .chain(format!(r#""tag":"t","ciphertext":"{text}"}}"#).into_bytes())
    .collect()
}

impl Site {
    /// Lets time pass second by second; the peer answers pings if it is to. Returns after how many seconds the relay
    /// had ended its side, and the opcodes of what it sent.
    fn live(&mut self, peer: StreamId, most: u64, answers: bool) -> (Option<u64>, Vec<u8>) {
        let mut heard = Vec::new();
        for second in 1..=most {
            self.wait(seconds(1));
            let (frames, ended) = self.hear_frames(peer);
            heard.extend(frames.iter().map(|(opcode, _)| *opcode));
            if ended {
                return (Some(second), heard);
            }
            if answers && frames.iter().any(|(opcode, _)| *opcode == PING) {
                self.say(peer, &frame(PONG, b""));
            }
        }
        (None, heard)
    }
}

#[test]
fn a_mute_peer_is_cut_at_the_second_ping_time_without_a_close_frame() {
    let mut site = Site::with_config(WorkspaceConfig::default());
    let peer = site.open(&daemon("w"), claims("w"));
    let (ended, heard) = site.live(peer, 100, false);
    let ended = ended.expect("it is cut");
    assert!((30..=61).contains(&ended), "after {ended} s");
    assert_eq!(heard, [PING]);
    assert_eq!(site.counted(Metric::WsStaleTerminated), 1);
    assert_eq!((site.taken(), site.connections()), ((0, 0), 0));
}

#[test]
fn a_peer_that_answers_pings_lives_past_the_idle_timeout() {
    let mut site = Site::with_config(WorkspaceConfig::default());
    let peer = site.open(&daemon("w"), claims("w"));
    let (ended, heard) = site.live(peer, 700, true);
    assert_eq!(ended, None);
    assert!((22..=24).contains(&heard.len()) && heard.iter().all(|opcode| *opcode == PING), "{heard:?}");
}

#[test]
fn a_pong_timeout_above_the_interval_still_cuts() {
    let config = WorkspaceConfig { pong_timeout: seconds(45), ..WorkspaceConfig::default() };
    let mut site = Site::with_config(config);
    let peer = site.open(&daemon("w"), claims("w"));
    let (ended, heard) = site.live(peer, 200, false);
    assert!((60..=91).contains(&ended.expect("it is cut")), "{ended:?}");
    assert_eq!(heard, [PING, PING], "the first ping's time stands");
}

#[test]
fn without_message_or_pong_for_too_long_a_connection_is_cut_as_idle() {
    let config = WorkspaceConfig {
        pong_timeout: seconds(1000),
        idle_timeout: seconds(100),
        ..WorkspaceConfig::default()
    };
    let mut site = Site::with_config(config);
    let peer = site.open(&daemon("w"), claims("w"));
    site.wait(seconds(20));
    // Its own pings are answered, and are no activity.
    site.say(peer, &frame(PING, b"x"));
    let (ended, _) = site.live(peer, 300, false);
    assert!((80..=111).contains(&ended.expect("it is cut")), "{ended:?}");
    assert_eq!((site.counted(Metric::WsIdleTerminated), site.counted(Metric::WsStaleTerminated)), (1, 0));
}

/// A daemon that reads nothing, and what a client's messages make of it.
fn overflow(mut site: Site) -> (usize, u64) {
    let slow = site.open(&daemon("w"), claims("w"));
    let peer = site.open(&client("w"), claims("w"));
    let mut sent = 0;
    while site.counted(Metric::WsSlowClientTerminated) == 0 {
        sent += 1;
        assert!(sent < 200, "nothing comes of it");
        site.say(peer, &frame(TEXT, &envelope(sent, 4000)));
        let answered = site.hear_frames(peer);
        let is_last = site.counted(Metric::WsSlowClientTerminated) == 1;
        assert!(
            is_last || answered == (vec![], false),
            "the sender is not stopped, and told nothing: {answered:?}"
        );
    }
    // What was sent to it before is delivered, then the close.
    let (frames, _) = site.hear_frames(slow);
    let (last, before) = frames.split_last().expect("something was sent to it");
    assert_eq!(*last, close(4008, "buffer overflow"));
    assert_eq!(before.len(), sent - 1, "the message that was too much is dropped");
    for (index, got) in before.iter().enumerate() {
        assert_eq!(*got, (TEXT, envelope(index + 1, 4000)));
    }
    site.say(peer, &frame(TEXT, &envelope(999, 10)));
    let (answers, ended) = site.hear_frames(peer);
    let text = String::from_utf8_lossy(&answers.last().expect("an answer").1).into_owned();
    assert!(text.contains("DAEMON_UNAVAILABLE") && !ended, "{text}");
    let waits = site.shards.iter().map(|shard| shard.snapshot().outbox_budget_waits).sum();
    (sent, waits)
}

#[test]
fn a_receiver_that_is_too_far_behind_is_closed_and_its_senders_go_on() {
    let config = WorkspaceConfig { pending_bytes_max: 40_000, ..WorkspaceConfig::default() };
    let (sent, waits) = overflow(Site::with_config(config));
    assert!(sent > 10, "{sent}");
    assert_eq!(waits, 0);
}

#[test]
fn while_the_shard_is_over_its_budget_whoever_takes_nothing_is_closed() {
    let plan = Plan::of_workspaces(1, WorkspaceGateSettings::default(), WorkspaceConfig::default());
    let (_, waits) = overflow(Site::of(plan.with_outbox_budget(20_000), SimPlatform::new(100)));
    assert_eq!(waits, 1);
}

#[test]
fn a_fan_out_reaches_every_subscriber_but_the_sender() {
    let mut site = Site::with_config(WorkspaceConfig::default());
    let of_events = || Claims {
        scope: Some(Scope::SessionEvents),
        session_channels: vec!["agent-session:1".into()],
        ..claims("w")
    };
    let subscribers: Vec<StreamId> = (0..3).map(|_| site.open(&client("w"), of_events())).collect();
    for peer in &subscribers {
        let subscribe = br#"{"type":"viewport.session_events.subscribe/v1","channel":"agent-session:1"}"#;
        site.say(*peer, &frame(TEXT, subscribe));
        assert_eq!(site.hear_frames(*peer).0.len(), 1, "it is acknowledged");
    }
    let presence = br#"{ "type":"viewport.session_viewer_presence/v1","channel":"agent-session:1","action":"joined","userId":"u"}"#;
    site.say(subscribers[0], &frame(TEXT, presence));
    assert_eq!(site.hear_frames(subscribers[0]), (vec![], false));
    for peer in &subscribers[1..] {
        assert_eq!(site.hear_frames(*peer), (vec![(TEXT, presence.to_vec())], false));
    }
}

#[test]
fn faults_of_a_peer_are_closed_with_empty_texts() {
    let config = || WorkspaceConfig { frame_bytes_max: 1000, ..WorkspaceConfig::default() };
    for (bytes, code, text) in [
        (b"\x81\x01a".to_vec(), 1002, ""),
        (frame(TEXT, b"\xff"), 1007, ""),
        (frame(TEXT, &[b'a'; 1001]), 1009, ""),
        (frame(BINARY, &[0xff; 500]), 1009, "frame too large"),
    ] {
        let mut site = Site::with_config(config());
        let peer = site.open(&daemon("w"), claims("w"));
        site.say(peer, &bytes);
        assert_eq!(site.hear_frames(peer).0, [close(code, text)]);
        assert_eq!(site.counted(Metric::WsFrameTooLarge), u64::from(!text.is_empty()));
    }
}

#[test]
fn a_binary_message_is_text_with_what_is_not_replaced() {
    let mut site = Site::with_config(WorkspaceConfig::default());
    let receiver = site.open(&daemon("w"), claims("w"));
    let peer = site.open(&client("w"), claims("w"));
    let mut message = envelope(1, 10);
    site.say(peer, &frame(BINARY, &message));
    assert_eq!(site.hear_frames(receiver).0, [(TEXT, message.clone())]);
    let end = message.len() - 3;
    message[end] = 0xff;
    site.say(peer, &frame(BINARY, &message));
    let replaced = String::from_utf8_lossy(&message).into_owned().into_bytes();
    assert_eq!(site.hear_frames(receiver).0, [(TEXT, replaced)]);
}

#[test]
fn who_does_not_answer_a_close_is_cut_after_thirty_seconds() {
    let mut site = Site::with_config(WorkspaceConfig::default());
    let peer = site.call(&daemon("w"));
    let question = site.question();
    site.answer(&question, Ok(claims("another workspace")));
    let (heard, ended) = site.hear_bytes(peer);
    assert!(heard.ends_with(b"workspace claim mismatch") && !ended, "{heard:?}");
    assert_eq!(site.taken(), (0, 0), "who is refused has no place");
    // What it still says is not processed.
    site.say(peer, &frame(TEXT, b"{}"));
    let (ended, heard) = site.live(peer, 60, false);
    assert!((29..=31).contains(&ended.expect("it is cut")), "{ended:?}");
    assert!(heard.is_empty(), "{heard:?}");
}

#[test]
fn a_relay_that_stops_says_so_and_waits_for_nobody() {
    let mut site = Site::with_config(WorkspaceConfig::default());
    let peer = site.open(&daemon("w"), claims("w"));
    let refused = site.call(&daemon("w"));
    let question = site.question();
    site.answer(&question, Ok(claims("w")));
    let _ = site.hear(refused);
    site.relay.mailboxes.put(0, Mail::Stop);
    site.settle();
    assert_eq!(site.hear_frames(peer).0, [close(1001, "relay shutting down")]);
    site.wait(seconds(3));
    assert!(site.hear(peer).1 && site.hear(refused).1, "both are cut");
    assert_eq!((site.connections(), site.taken()), (0, (0, 0)));
}
