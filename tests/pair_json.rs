//! What the pair dialect takes for JSON, and for a message: everything that `JSON.parse` takes, and nothing else.
//!
//! | pair.md | shown by |
//! |---|---|
//! | 3: not JSON | `what_is_not_json_is_malformed_json`, `invalid_utf8_is_refused_in_text_and_in_binary` |
//! | 3: no string `type` | `json_without_a_string_type_is_a_malformed_message` |
//! | 3: unknown type | `an_unknown_type_is_refused` |
//! | 2: JSON, as JavaScript reads it | `of_duplicate_keys_the_last_one_counts` |
//! | 2: whatever it is | `hostile_json_is_answered_and_harms_nobody` |

mod support;

use serde_json::json;
use support::{
    End, Peer, Raw, every_cell,
    pair::{Device, Pair, expect_disconnected, expect_refused, open, relayed},
    relay::PAIR_PATH,
    wire,
};

const MIB: usize = 1 << 20;

#[test]
fn what_is_not_json_is_malformed_json() {
    every_cell(|cell| {
        let relay = cell.start();
        let deep = "[".repeat(200_000);
        let deep_objects = r#"{"a":"#.repeat(100_000);
        let unclosed = format!("{{\"type\":\"ping\",\"x\":\"{}", "x".repeat(500_000));
        let texts = [
            "",
            " ",
            "nonsense",
            "{",
            "{\"type\":\"ping\"",
            "{\"type\":\"ping\"}}",
            "{\"type\":\"ping\"} {}",
            "{\"type\":\"ping\",}",
            "{'type':'ping'}",
            "{type:\"ping\"}",
            "{\"type\":\"ping\",\"x\":01}",
            "{\"type\":\"ping\",\"x\":.5}",
            "{\"type\":\"ping\",\"x\":+1}",
            "{\"type\":\"ping\",\"x\":1.}",
            "{\"type\":\"ping\",\"x\":NaN}",
            "{\"type\":\"ping\",\"x\":nul}",
            "{\"type\":\"ping\",\"x\":\"\\x41\"}",
            "{\"type\":\"ping\",\"x\":\"\\u12g4\"}",
            "{\"type\":\"ping\",\"x\":\"a\nb\"}",
            "{\"type\":\"ping\",\"x\":\"a\u{0}b\"}",
            "\u{feff}{\"type\":\"ping\"}",
            "{\"type\":\"ping\",\u{a0}\"x\":1}",
            &deep,
            &deep_objects,
            &unclosed,
        ];
        for text in texts {
            let mut socket = open(&relay);
            socket.say(text);
            let shown: String = text.chars().take(60).collect();
            println!("{shown:?}");
            expect_refused(&mut socket, "malformed_json", 1008);
        }
    });
}

#[test]
fn json_without_a_string_type_is_a_malformed_message() {
    every_cell(|cell| {
        let relay = cell.start();
        let texts = [
            "{}",
            "[]",
            "[{\"type\":\"ping\"}]",
            "null",
            "true",
            "7",
            "\"ping\"",
            "{\"type\":7}",
            "{\"type\":null}",
            "{\"type\":{\"type\":\"ping\"}}",
            "{\"type\":[\"ping\"]}",
            "{\"Type\":\"ping\"}",
            "{\"x\":{\"type\":\"ping\"}}",
            // The last of two counts, as JSON.parse has it.
            "{\"type\":\"ping\",\"type\":7}",
        ];
        for text in texts {
            let mut socket = open(&relay);
            socket.say(text);
            println!("{text}");
            expect_refused(&mut socket, "malformed_message", 1008);
        }
    });
}

#[test]
fn an_unknown_type_is_refused() {
    every_cell(|cell| {
        let relay = cell.start();
        let long = "x".repeat(500_000);
        let types = [
            "",
            "nonsense",
            "PING",
            "ping ",
            "pair-source\\u0000",
            "\\ud800",
            "__proto__",
            &long,
            // What only the relay says.
            "session-created",
            "peer-connected",
            "peer-disconnected",
            "error",
            "pong",
        ];
        for kind in types {
            let mut socket = open(&relay);
            socket.say(&format!("{{\"type\":\"{kind}\"}}"));
            println!("{:.40}", kind);
            expect_refused(&mut socket, "unknown_message_type", 1008);
        }
    });
}

#[test]
fn of_duplicate_keys_the_last_one_counts() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut socket = open(&relay);
        socket.say(r#"{"type":7,"type":"nonsense","t\u0079pe":"ping"}"#);
        socket.expect("pong");
        let mut pair = Pair::<Peer>::new(&relay);
        let id = pair.id.clone();
        pair.source.say(&format!(
            r#"{{"payload":"first","sessionId":"x","type":"ping","payload":"last","sessionId":"{id}","type":"relay"}}"#
        ));
        assert_eq!(pair.target.expect("relay"), relayed("source", "last"));
        let mut source = open(&relay);
        source.say(
            r#"{"type":"pair-source","deviceId":7,"deviceId":"d","deviceName":"n","capability":[],
               "capability":{"a":1},"ephemeralPubKey":"k","ephemeralPubKey":"l"}"#,
        );
        let created = source.expect("session-created");
        let mut target = open(&relay);
        target.tell(&Device::new("target").target(created["sessionId"].as_str().expect("a string")));
        let told = target.expect("peer-connected");
        assert_eq!((&told["peerDeviceId"], &told["peerEphemeralPubKey"]), (&json!("d"), &json!("l")));
        assert_eq!(told["peerCapability"], json!({ "a": 1 }));
    });
}

#[test]
fn hostile_json_is_answered_and_harms_nobody() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut bystander = Pair::<Peer>::new(&relay);
        // Each is a correct `ping` with something odd beside it.
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep_object = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
        let escapes = format!("\"{}\"", "\\u0041".repeat(100_000));
        let many_keys: String = (0..20_000).map(|n| format!("\"k{n}\":{n},")).collect();
        let same_key = "\"k\":1,".repeat(80_000);
        let number = "9".repeat(500_000);
        for odd in [
            format!("\"x\":{deep}"),
            format!("\"x\":{deep_object}"),
            format!("\"x\":{escapes}"),
            format!("{many_keys}\"x\":1"),
            format!("{same_key}\"x\":1"),
            format!("\"x\":{number}"),
            format!("\"x\":-{number}e{}", &number[..1000]),
            format!("\"x\":\"{}\"", "y".repeat(MIB - 100)),
            format!("\"{}\":1", "k".repeat(MIB - 100)),
            format!("\"x\":[{}1]", "1,".repeat(400_000)),
            format!("\"x\":1{}", " ".repeat(MIB - 100)),
            "\"x\":\"\\ud800\",\"\\udfff\":\"\\udc00\\ud800\"".to_owned(),
            "\"x\":\"\u{0}\"".replace('\u{0}', "\\u0000"),
        ] {
            for text in [format!("{{\"type\":\"ping\",{odd}}}"), format!("{{{odd},\"type\":\"ping\"}}")] {
                let mut socket = open(&relay);
                socket.say(&text);
                let answer = socket.expect_any(&["pong", "error"]);
                assert!(answer["type"] == "pong", "{answer} to {odd:.60}");
            }
        }
        bystander.check();
    });
}

#[test]
fn invalid_utf8_is_refused_in_text_and_in_binary() {
    every_cell(|cell| {
        let relay = cell.start();
        let mut bystander = Pair::<Peer>::new(&relay);
        for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"] {
            let text = [b"{\"type\":\"ping\",\"x\":\"", bad, b"\"}"].concat();
            let mut socket = Raw::open_at(&relay, PAIR_PATH);
            socket.write(&wire::message(wire::TEXT, &text));
            socket.expect_closed(1007);
            let mut socket = open(&relay);
            socket.send_binary(&text);
            expect_refused(&mut socket, "malformed_json", 1008);
        }
        // Also where the bytes would only have been passed on.
        for opcode in [wire::TEXT, wire::BINARY] {
            let mut pair = Pair::<Raw, Peer>::new(&relay);
            let head = format!("{{\"type\":\"relay\",\"sessionId\":\"{}\",\"payload\":\"", pair.id);
            pair.source.write(&wire::message(opcode, &[head.as_bytes(), b"\xff\"}"].concat()));
            if opcode == wire::TEXT {
                pair.source.expect_closed(1007);
            } else {
                expect_refused(&mut pair.source, "malformed_json", 1008);
            }
            expect_disconnected(&mut pair.target);
        }
        bystander.check();
    });
}
