//! Sections 7, 8 and 9.1: which messages are valid.

use super::super::{
    Method, Profile,
    frames::{ClientKind, DaemonKind, client, daemon, worker},
};

/// What a member must be.
enum Rule {
    NonBlank,
    Text,
    /// An integer of at least this.
    Integer(u32),
    Number,
    Profile,
    Channel,
    /// Absent, or what the rule says.
    Optional(&'static Rule),
    /// One of these raw values and nothing else.
    OneOf(&'static [&'static str]),
    /// Valid and invalid raw values of its own.
    Own(&'static [&'static str], &'static [&'static str]),
}

impl Rule {
    /// Raw values that fit, and that do not.
    fn samples(&self) -> (Vec<String>, Vec<String>) {
        let own = |raws: &[&str]| raws.iter().map(|raw| (*raw).to_owned()).collect::<Vec<_>>();
        let other = ["null", "true", "[]", "{}", "[\"x\"]"];
        let (fit, mut unfit) = match self {
            Rule::NonBlank => (
                own(&[r#"" x ""#, r#""\u0085""#, r#""\ud800""#, r#"" \u0020x""#, r#""\"""#]),
                own(&[r#""""#, r#"" \t""#, r#""\u0020\ufeff""#, "\"\u{a0}\u{2003}\"", "5"]),
            ),
            Rule::Text => (own(&[r#""""#, r#"" ""#, r#""x""#, r#""\udfff""#]), own(&["5"])),
            Rule::Integer(min) => {
                let fit = [min.to_string(), format!("{min}.0"), format!("{min}e0"), "1e20".to_owned()];
                let below = (i64::from(*min) - 1).to_string();
                let unfit = [below, format!("{min}.5"), "1e400".to_owned(), format!("\"{min}\"")];
                (fit.to_vec(), unfit.to_vec())
            }
            Rule::Number => (own(&["0", "-2.5", "1e400"]), own(&[r#""1""#])),
            Rule::Profile => (
                own(&[r#""noise-ik""#, r#""noise-\u0069k""#]),
                own(&[r#""""#, r#""noise-ik ""#, r#""Noise-ik""#, "2"]),
            ),
            Rule::Channel => (
                own(&[r#""agent-session:""#, r#""agent-session:x ""#, r#""\u0061gent-session:x""#]),
                own(&[r#"" agent-session:x""#, r#""agent-session""#, r#""Agent-session:x""#, r#""""#, "5"]),
            ),
            Rule::Optional(rule) => return rule.samples(),
            Rule::OneOf(raws) => (own(raws), own(&[r#""""#, r#""x""#, "0"])),
            Rule::Own(fit, unfit) => return (own(fit), own(unfit)),
        };
        let others = other.into_iter().map(str::to_owned).filter(|raw| !fit.contains(raw));
        unfit.extend(others);
        (fit, unfit)
    }
}

/// A kind of message: members with a raw value each that is valid, and what else they may be.
type Sample = &'static [(&'static str, &'static str, Rule)];

fn write(members: &[(&str, &str)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, raw)| format!("\"{name}\": {raw}")).collect();
    format!("{{{}}}", members.join(" , "))
}

/// Tries every member of every sample with all its values, and without it.
fn check(is_valid: impl Fn(&str) -> bool, samples: &[Sample]) {
    let mut tried = 0;
    for sample in samples {
        let plain: Vec<_> = sample.iter().map(|(name, raw, _)| (*name, *raw)).collect();
        assert!(is_valid(&write(&plain)), "{plain:?}");
        for (at, (name, _, rule)) in sample.iter().enumerate() {
            let (fit, unfit) = rule.samples();
            for (raw, want) in fit.iter().map(|raw| (raw, true)).chain(unfit.iter().map(|raw| (raw, false))) {
                let mut members = plain.clone();
                members[at].1 = raw;
                assert_eq!(is_valid(&write(&members)), want, "{}", write(&members));
                // Wherever it stands, the last one counts.
                members.insert(0, (name, if want { "[]" } else { plain[at].1 }));
                assert_eq!(is_valid(&write(&members)), want, "{}", write(&members));
                tried += 1;
            }
            let mut members = plain.clone();
            members.remove(at);
            let is_optional = matches!(rule, Rule::Optional(_));
            assert_eq!(is_valid(&write(&members)), is_optional, "{}", write(&members));
        }
        let mut more = plain.clone();
        more.extend([("extra", "1e400"), ("Type", "null")]);
        assert!(is_valid(&write(&more)));
    }
    assert!(tried > 20);
}

const TYPE: Rule = Rule::OneOf(&[]);
const V2: Rule = Rule::Own(&["2.0", "2e0", "0.2e1"], &["1", "4", "\"2\"", "2.5", "null"]);
const V3: Rule = Rule::Own(&["3.0", "30e-1"], &["1", "4", "\"3\"", "null"]);

const ENVELOPE: Sample = &[
    ("type", r#""e2ee""#, TYPE),
    ("version", "2", V2),
    ("profile", r#""noise-ik""#, Rule::Profile),
    ("sessionId", r#""s""#, Rule::NonBlank),
    ("iv", r#""i""#, Rule::NonBlank),
    ("tag", r#""t""#, Rule::NonBlank),
    ("ciphertext", r#""c""#, Rule::NonBlank),
    ("epoch", "1", Rule::Integer(1)),
    ("seq", "7", Rule::Integer(1)),
];

const CLIENT: &[Sample] = &[
    ENVELOPE,
    &[
        ("type", r#""relay_key_exchange_init""#, TYPE),
        ("version", "3", V3),
        ("profile", r#""noise-ik""#, Rule::Profile),
        ("requestId", r#""r""#, Rule::Text),
        ("clientEphemeralPublicKey", r#""k""#, Rule::Text),
        ("encryptedClientStatic", r#""s""#, Rule::Text),
    ],
    &[
        ("type", r#""relay_key_exchange_init""#, TYPE),
        ("version", "3", V3),
        ("profile", r#""noise-ikpsk2""#, Rule::Profile),
        ("requestId", r#""r""#, Rule::Text),
        ("clientEphemeralPublicKey", r#""k""#, Rule::Text),
        ("encryptedClientStatic", r#""s""#, Rule::Text),
        ("pairingPeerId", r#""p""#, Rule::NonBlank),
        ("previousSessionId", "5", Rule::Optional(&Rule::Own(&["null", "5"], &[]))),
    ],
    &[
        ("type", r#""relay_key_exchange_init""#, TYPE),
        ("version", "2", V2),
        ("profile", r#""noise-ik""#, Rule::Profile),
        ("requestId", r#""r""#, Rule::Text),
        ("clientPublicKey", r#""k""#, Rule::Text),
        ("clientNonce", r#""n""#, Rule::Text),
        ("clientProof", r#""p""#, Rule::Text),
    ],
    &[
        ("type", r#""relay_pairing_offer_request""#, TYPE),
        ("requestId", r#""r""#, Rule::NonBlank),
        ("clientChannelPublicKey", r#""k""#, Rule::NonBlank),
        (
            "ttlSeconds",
            "60",
            Rule::Optional(&Rule::Own(
                &["30", "3600", "3600.0", "3e1"],
                &["29", "29.999", "30.5", "3601", "null", "\"60\"", "1e400"],
            )),
        ),
    ],
    &[
        ("type", r#""relay_pairing_redeem_request""#, TYPE),
        ("requestId", r#""r""#, Rule::NonBlank),
        ("offerId", r#""o""#, Rule::NonBlank),
        ("encIv", r#""i""#, Rule::NonBlank),
        ("encTag", r#""t""#, Rule::NonBlank),
        ("encCiphertext", r#""c""#, Rule::NonBlank),
    ],
    &[
        ("type", r#""viewport.session_events.subscribe/v1""#, TYPE),
        ("channel", r#""agent-session:1""#, Rule::Channel),
        (
            "afterSequence",
            "0",
            Rule::Optional(&Rule::Own(&["-0", "5.0", "1e20"], &["-1", "0.5", "null", "\"5\"", "1e400"])),
        ),
    ],
    &[
        ("type", r#""viewport.session_events.unsubscribe/v1""#, TYPE),
        ("channel", r#""agent-session:1""#, Rule::Channel),
    ],
    &[
        ("type", r#""viewport.session_viewer_presence/v1""#, TYPE),
        ("channel", r#""agent-session:1""#, Rule::Channel),
        ("action", r#""left""#, Rule::OneOf(&[r#""joined""#, r#""left""#, r#""heartbeat""#])),
        ("userId", r#""u""#, Rule::NonBlank),
        ("displayName", r#""d""#, Rule::Optional(&Rule::Text)),
        ("sentAt", r#""now""#, Rule::Optional(&Rule::Text)),
    ],
];

const DAEMON: &[Sample] = &[
    ENVELOPE,
    &[
        ("type", r#""relay_key_exchange_response""#, TYPE),
        ("version", "3", V3),
        ("profile", r#""noise-ik""#, Rule::Profile),
        ("requestId", r#""r""#, Rule::Text),
        ("daemonPublicKey", r#""k""#, Rule::Text),
        ("daemonEphemeralPublicKey", r#""k""#, Rule::Text),
        ("encryptedMetadata", r#""m""#, Rule::Text),
        ("sessionId", r#""s""#, Rule::Text),
        ("proof", r#""p""#, Rule::Text),
        ("epoch", "1", Rule::Integer(1)),
    ],
    &[
        ("type", r#""relay_key_exchange_response""#, TYPE),
        ("version", "2", V2),
        ("profile", r#""noise-ikpsk2""#, Rule::Profile),
        ("requestId", r#""r""#, Rule::Text),
        ("daemonNonce", r#""n""#, Rule::Text),
        ("sessionId", r#""s""#, Rule::Text),
        ("proof", r#""p""#, Rule::Text),
        ("epoch", "0.5", Rule::Number),
    ],
    &[
        ("type", r#""relay_key_update_required""#, TYPE),
        ("sessionId", r#""s""#, Rule::Text),
        ("nextEpoch", "2", Rule::Number),
    ],
    &[
        ("type", r#""relay_pairing_offer_response""#, TYPE),
        ("requestId", r#""r""#, Rule::NonBlank),
        ("ok", "true", Rule::OneOf(&["true"])),
        ("daemonChannelPublicKey", r#""k""#, Rule::NonBlank),
        ("encIv", r#""i""#, Rule::NonBlank),
        ("encTag", r#""t""#, Rule::NonBlank),
        ("encCiphertext", r#""c""#, Rule::NonBlank),
    ],
    &[
        ("type", r#""relay_pairing_offer_response""#, TYPE),
        ("requestId", r#""r""#, Rule::NonBlank),
        ("ok", "false", Rule::OneOf(&["false"])),
        ("errorCode", r#""e""#, Rule::NonBlank),
    ],
    &[
        ("type", r#""relay_pairing_redeem_response""#, TYPE),
        ("requestId", r#""r""#, Rule::NonBlank),
        ("ok", "true", Rule::Own(&["true"], &["false", "1", "\"true\"", "null"])),
    ],
    &[
        ("type", r#""relay_pairing_redeem_response""#, TYPE),
        ("requestId", r#""r""#, Rule::NonBlank),
        ("ok", "false", Rule::Own(&["true", "false"], &["0", "\"false\"", "null"])),
        ("errorCode", r#""e""#, Rule::Own(&[r#""e""#], &[r#"" ""#, "5", "null"])),
    ],
    &[
        ("schema", r#""viewport.session_event_relay_frame/v1""#, TYPE),
        ("channel", r#""agent-session:1""#, Rule::Channel),
        ("event", "{}", Rule::Own(&["null", r#"{"a":[]}"#], &["[]", "\"x\"", "5", "true"])),
    ],
];

const WORKER: &[Sample] = &[&[
    ("type", r#""viewport.worker_transport.request/v1""#, TYPE),
    ("requestId", r#""r""#, Rule::NonBlank),
    ("method", r#""GET""#, Rule::OneOf(&[r#""GET""#, r#""POST""#, r#""PATCH""#])),
    (
        "path",
        r#""/api/runtime/workspaces/""#,
        Rule::Own(
            &[r#""/api/runtime/workspaces/x/../y""#, r#""\/api/runtime/workspaces/\ud800""#],
            &[r#""""#, r#"" /api/runtime/workspaces/""#, r#""/api/runtime/workspaces""#, "5", "null"],
        ),
    ),
    ("headers", "{}", Rule::Optional(&Rule::Own(&[r#"{"a":5}"#], &["null", "[]", "\"\"", "5"]))),
    ("body", r#""""#, Rule::Optional(&Rule::Own(&[r#""b\ud800""#], &["null", "{}", "5"]))),
]];

#[test]
fn clients_messages_are_judged_member_by_member() {
    check(|message| client(message).is_some(), CLIENT);
}

#[test]
fn daemons_messages_are_judged_member_by_member() {
    check(|message| daemon(message).is_some(), DAEMON);
}

#[test]
fn workers_messages_are_judged_member_by_member() {
    check(|message| worker(message).is_some(), WORKER);
}

#[test]
fn what_one_may_say_the_other_may_not() {
    let plain = |sample: &Sample| {
        let members: Vec<_> = sample.iter().map(|(name, raw, _)| (*name, *raw)).collect();
        write(&members)
    };
    for sample in &CLIENT[1..] {
        assert_eq!(daemon(&plain(sample)), None);
    }
    for sample in &DAEMON[1..] {
        assert_eq!(client(&plain(sample)), None);
    }
    assert_eq!(client(&plain(&WORKER[0])), None);
    assert_eq!(daemon(&plain(&WORKER[0])), None);
    assert_eq!(client(r#"{"type":"session_command","command":"ls"}"#), None);
}

#[test]
fn lengths_of_presence_count_utf16_units() {
    let said = |user: &str, display: &str| {
        let head = r#"{"type":"viewport.session_viewer_presence/v1","channel":"agent-session:1","#;
        let message = format!(r#"{head}"action":"left","userId":"{user}","displayName":"{display}"}}"#);
        client(&message).is_some()
    };
    assert!(said(&"é".repeat(128), &"€".repeat(255)));
    assert!(!said(&"é".repeat(129), ""));
    assert!(!said("u", &"€".repeat(256)));
    assert!(said(&"😀".repeat(64), ""), "two units each");
    assert!(!said(&("😀".repeat(64) + "x"), ""));
    assert!(said(&r"\ud800".repeat(128), "") && !said(&r"\ud800".repeat(129), ""));
    assert!(!said(&(" ".repeat(127) + "xy"), ""), "untrimmed");
}

#[test]
fn what_routing_needs_is_read_as_it_is() {
    let said = r#"{"type":"relay_key_exchange_init","version":3,"profile":"noise-ik","requestId":" a\u0062 ",
        "clientEphemeralPublicKey":"","encryptedClientStatic":""}"#;
    let frame = client(said).expect("it is valid");
    assert_eq!(frame.kind, ClientKind::KeyExchangeInit { request_id: b" ab ".into() });
    assert_eq!(frame.profile, Some(Profile::NoiseIk));
    let said =
        r#"{"type":"viewport.session_events.subscribe/v1","channel":"agent-session:1 ","profile":"x"}"#;
    let frame = client(said).expect("it is valid");
    assert_eq!(
        frame.kind,
        ClientKind::Subscribe { channel: b"agent-session:1 ".into(), after_sequence: 0.0 }
    );
    assert_eq!(frame.profile, None);
    let both = r#"{"type":"relay_key_update_required","nextEpoch":1,"sessionId":"s",
        "schema":"viewport.session_event_relay_frame/v1","channel":"agent-session:1","event":null}"#;
    let kind = |said| daemon(said).expect("it is valid").kind;
    assert_eq!(kind(both), DaemonKind::Session { session_id: b"s".into() });
    assert_eq!(kind(&both.replace("nextEpoch", "nextepoch")), DaemonKind::SessionEvent);
    let said = r#"{"type":"viewport.worker_transport.request/v1","requestId":"r","method":"PATCH",
        "path":"/api/runtime/workspaces/\u00e9","headers": { "a" : 1 } }"#;
    let request = worker(said).expect("it is valid");
    assert_eq!((request.method, &*request.path), (Method::Patch, "/api/runtime/workspaces/é".as_bytes()));
    assert_eq!((request.headers, request.body), (Some(r#"{ "a" : 1 }"#), None));
}

#[test]
fn json_is_what_ecmascript_takes() {
    let valid = r#"{"type":"relay_key_update_required","nextEpoch":1,"sessionId":"s"}"#;
    let with = |extra: &str| valid.replace('}', &format!(",\"extra\":{extra}}}"));
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let deeper = "{\"a\":".repeat(200_000) + "1" + &"}".repeat(200_000);
    for extra in ["1e400", "-0.0e-999", r#""\ud800\udc00\udfff""#, "\"\u{7f}\u{2028}\"", &deep, &deeper] {
        let message = &valid[..valid.len() - 1].to_owned();
        assert!(daemon(&format!("{message},\"extra\":{extra}}}")).is_some());
    }
    assert!(daemon(&format!(" \t\r\n{valid}\n ")).is_some());
    for broken in [
        format!("\u{feff}{valid}"),
        format!("{valid}x"),
        format!("{valid}{valid}"),
        format!("\u{a0}{valid}"),
        format!("[{valid}]"),
        valid.replace('"', "'"),
        valid.replace('}', ",}"),
        with("01"),
        with("1."),
        with(".5"),
        with("+1"),
        with("NaN"),
        with("\"\t\""),
        with(r#""\x41""#),
        with(r#""\u12""#),
        with("[1,]"),
        with("undefined"),
        String::new(),
        "null".into(),
        "\"x\"".into(),
        "5".into(),
    ] {
        assert_eq!(daemon(&broken), None, "{broken}");
    }
}
