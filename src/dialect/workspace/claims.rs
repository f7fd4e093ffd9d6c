//! The claims of a connection, read strictly (workspace.md section 4.3).
//!
//! Pure. Promises that what it lets through fits the schema in every member, also in those that the relay does not
//! use, and that it reads JSON as `JSON.parse` does: the last of several members of one name counts, `3.0` is an
//! integer, lengths are UTF-16 units. Never judges what a claim means: that is section 5.

use std::fmt;

use serde::{
    Deserializer as _,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::ticket::{Claims, Profile, Scope};
use crate::dialect::json;

/// What becomes of a member that the schema does not name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// The claims are refused: the contract's rule for what the platform says.
    Refused,
    /// It is passed over: a token may carry more than the platform would claim.
    Ignored,
}

/// Reads claims from the text of a JSON object; `None` where they do not fit the schema.
pub fn read(json: &str, unknown: Unknown) -> Option<Claims> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let members = reader.deserialize_map(Members { unknown }).ok()?;
    reader.end().ok()?;
    let fits = |((_, shape), raw): (&(&str, Shape), &Option<&str>)| raw.is_none_or(|raw| shape.fits(raw));
    if !SCHEMA.iter().zip(&members).all(fits) {
        return None;
    }
    let raw = |name: &str| SCHEMA.iter().position(|(known, _)| *known == name).and_then(|at| members[at]);
    let text = |name: &str| raw(name).and_then(text).map(String::into_boxed_str);
    let channels = raw("sessionChannels").and_then(elements).unwrap_or_default();
    Some(Claims {
        workspace_id: text("workspaceId"),
        runtime_target_id: text("runtimeTargetId"),
        machine_id: text("machineId"),
        scope: raw("scope").and_then(|raw| SCOPES.iter().find(|(word, _)| is_word(raw, word))).map(|it| it.1),
        client_id: text("clientId"),
        managed_executor_id: text("managedExecutorId"),
        e2ee_profile: raw("e2eeProfile")
            .and_then(|raw| PROFILES.iter().find(|(word, _)| is_word(raw, word)))
            .map(|it| it.1),
        daemon_issue_generation: raw("daemonIssueGeneration").and_then(integer).map(i64::unsigned_abs),
        session_channels: channels.into_iter().filter_map(self::text).map(String::into_boxed_str).collect(),
        exp: raw("exp").and_then(integer),
    })
}

/// What the value of one member has to be.
enum Shape {
    /// A text of 1 to so many UTF-16 units.
    Text(usize),
    /// The same, or null.
    TextOrNull(usize),
    /// One text of 1 to so many units, or an array of them.
    Texts(usize),
    /// At most [`LIST_MAX`] texts of 1 to so many units.
    List(usize),
    /// At most [`LIST_MAX`] names of session channels.
    Channels,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An integer of JavaScript's safe ones, not below this.
    Integer(i64),
}

impl Shape {
    fn fits(&self, raw: &str) -> bool {
        match *self {
            Shape::Text(max) => is_text(raw, max),
            Shape::TextOrNull(max) => raw == "null" || is_text(raw, max),
            Shape::Texts(max) => {
                is_text(raw, max) || elements(raw).is_some_and(|all| all.iter().all(|raw| is_text(raw, max)))
            }
            Shape::List(max) => is_list(raw, |raw| is_text(raw, max)),
            Shape::Channels => is_list(raw, is_channel),
            Shape::Word(words) => words.iter().any(|word| is_word(raw, word)),
            Shape::Integer(min) => integer(raw).is_some_and(|number| number >= min),
        }
    }
}

fn is_text(raw: &str, max: usize) -> bool {
    text(raw).is_some_and(|text| (1..=max).contains(&text.encode_utf16().count()))
}

fn is_word(raw: &str, word: &str) -> bool {
    json::string(raw).as_deref() == Some(word.as_bytes())
}

fn is_list(raw: &str, is_fine: impl Fn(&str) -> bool) -> bool {
    elements(raw).is_some_and(|all| all.len() <= LIST_MAX && all.into_iter().all(is_fine))
}

/// The contract's pattern: the prefix, then at least one character, none of which ends a line.
fn is_channel(raw: &str) -> bool {
    let Some(text) = text(raw) else { return false };
    let rest = text.strip_prefix(CHANNEL_PREFIX).unwrap_or_default();
    !rest.is_empty()
        && !rest.contains(['\n', '\r', '\u{2028}', '\u{2029}'])
        && text.encode_utf16().count() <= CHANNEL_UNITS_MAX
}

fn elements(raw: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

/// A JSON string as text. A lone surrogate becomes U+FFFD, which is what a peer would be sent of it, and is as long.
fn text(raw: &str) -> Option<String> {
    let mut bytes = json::string(raw)?.into_owned();
    for at in 0..bytes.len().saturating_sub(2) {
        // How a surrogate looks in the generalised UTF-8 that escapes are read into; no UTF-8 looks like it.
        if bytes[at] == 0xed && bytes[at + 1] >= 0xa0 {
            bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
    }
    String::from_utf8(bytes).ok()
}

/// A JSON number without a fraction, among those that a double holds exactly. Numbers are doubles here as they are
/// for the platform: what is rounded to an integer is one.
fn integer(raw: &str) -> Option<i64> {
    let is_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number: f64 = if is_number { raw.parse().ok()? } else { return None };
    (number.fract() == 0.0 && number.abs() <= SAFE_INTEGER_MAX as f64).then_some(number as i64)
}

/// The raw values of the schema's members, in its order.
struct Members {
    unknown: Unknown,
}

impl<'de> Visitor<'de> for Members {
    type Value = [Option<&'de str>; SCHEMA.len()];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; SCHEMA.len()];
        while let Some(name) = map.next_key::<&RawValue>()? {
            let value = map.next_value::<&RawValue>()?.get();
            match SCHEMA.iter().position(|(known, _)| is_word(name.get(), known)) {
                Some(at) => found[at] = Some(value),
                None if self.unknown == Unknown::Ignored => {}
                None => return Err(A::Error::custom("a member that the schema does not name")),
            }
        }
        Ok(found)
    }
}

/// Section 4.3. All members are optional.
const SCHEMA: &[(&str, Shape)] = &[
    ("clientId", Shape::Text(128)),
    ("userId", Shape::Text(128)),
    ("installId", Shape::Text(128)),
    ("runtimeTargetId", Shape::Text(128)),
    ("workspaceId", Shape::Text(128)),
    ("managedExecutorId", Shape::Text(128)),
    ("machineId", Shape::Text(255)),
    ("role", Shape::Word(&["workspace-daemon", "client", "worker"])),
    ("scope", Shape::Word(&[SCOPES[0].0, SCOPES[1].0, SCOPES[2].0])),
    ("sessionIds", Shape::List(128)),
    ("sessionChannels", Shape::Channels),
    ("e2eeProfile", Shape::Word(&[PROFILES[0].0, PROFILES[1].0])),
    ("daemonPublicKey", Shape::TextOrNull(512)),
    ("pairingSecret", Shape::TextOrNull(1024)),
    ("relayWsBaseUrl", Shape::TextOrNull(512)),
    ("iss", Shape::Text(255)),
    ("jti", Shape::Text(255)),
    ("aud", Shape::Texts(255)),
    ("iat", Shape::Integer(-SAFE_INTEGER_MAX)),
    ("exp", Shape::Integer(-SAFE_INTEGER_MAX)),
    ("nbf", Shape::Integer(-SAFE_INTEGER_MAX)),
    ("ver", Shape::Integer(-SAFE_INTEGER_MAX)),
    ("daemonIssueGeneration", Shape::Integer(0)),
    ("policyMode", Shape::Text(128)),
];

const SCOPES: [(&str, Scope); 3] =
    [("runtime", Scope::Runtime), ("pairing", Scope::Pairing), ("session-events", Scope::SessionEvents)];
const PROFILES: [(&str, Profile); 2] =
    [("noise-ik", Profile::NoiseIk), ("noise-ikpsk2", Profile::NoiseIkPsk2)];
const CHANNEL_PREFIX: &str = "agent-session:";
const CHANNEL_UNITS_MAX: usize = 255;
const LIST_MAX: usize = 64;
/// The largest integer below which a double holds every one.
const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fits(claims: &serde_json::Value) -> bool {
        read(&claims.to_string(), Unknown::Refused).is_some()
    }

    /// Whether the schema takes `value` for the member `name`.
    fn takes(name: &str, value: impl Into<serde_json::Value>) -> bool {
        fits(&json!({ name: value.into() }))
    }

    #[test]
    fn every_text_has_its_length_and_only_some_may_be_null() {
        for (names, max, nullable) in [
            (
                &["clientId", "userId", "installId", "runtimeTargetId", "workspaceId", "managedExecutorId"][..],
                128,
                false,
            ),
            (&["policyMode"], 128, false),
            (&["machineId", "iss", "jti"], 255, false),
            (&["daemonPublicKey", "relayWsBaseUrl"], 512, true),
            (&["pairingSecret"], 1024, true),
        ] {
            for name in names {
                assert!(takes(name, "x") && takes(name, "x".repeat(max)), "{name}");
                assert!(!takes(name, "") && !takes(name, "x".repeat(max + 1)), "{name}");
                assert_eq!(takes(name, serde_json::Value::Null), nullable, "{name}");
                assert!(!takes(name, 7) && !takes(name, true) && !takes(name, vec!["x"]), "{name}");
            }
        }
    }

    #[test]
    fn lengths_are_utf_16_units() {
        // One character outside the basic plane is two units.
        assert!(takes("clientId", "\u{1f600}".repeat(64)));
        assert!(!takes("clientId", "\u{1f600}".repeat(64) + "x"));
        assert!(takes("clientId", "\u{e9}".repeat(128)));
        assert!(!takes("clientId", "\u{e9}".repeat(129)));
        // A lone surrogate is one, and is what a peer would be sent of it.
        let lone = |count| format!(r#"{{"clientId":"{}"}}"#, r"\ud83d".repeat(count));
        assert_eq!(read(&lone(129), Unknown::Refused), None);
        let claims = read(&lone(128), Unknown::Refused).expect("as long as it may be");
        assert_eq!(claims.client_id.as_deref(), Some("\u{fffd}".repeat(128).as_str()));
        // The last characters before the surrogates begin with the same byte.
        let hangul = "\u{d55c}\u{d7ff}";
        let claims = read(&format!(r#"{{"clientId":"{hangul}\udfff{hangul}"}}"#), Unknown::Refused);
        let client_id = claims.expect("letters").client_id;
        assert_eq!(client_id.as_deref(), Some(format!("{hangul}\u{fffd}{hangul}").as_str()));
    }

    #[test]
    fn roles_scopes_and_profiles_are_words() {
        for (name, words) in [
            ("role", &["workspace-daemon", "client", "worker"][..]),
            ("scope", &["runtime", "pairing", "session-events"]),
            ("e2eeProfile", &["noise-ik", "noise-ikpsk2"]),
        ] {
            for word in words {
                assert!(takes(name, *word), "{name} {word}");
                assert!(
                    !takes(name, word.to_uppercase()) && !takes(name, format!("{word} ")),
                    "{name} {word}"
                );
            }
            assert!(!takes(name, "") && !takes(name, serde_json::Value::Null) && !takes(name, 1), "{name}");
        }
    }

    #[test]
    fn integers_are_what_a_double_holds_without_a_fraction() {
        for name in ["iat", "exp", "nbf", "ver", "daemonIssueGeneration"] {
            let takes = |text: &str| read(&format!(r#"{{"{name}":{text}}}"#), Unknown::Refused).is_some();
            for text in ["0", "3", "3.0", "3e0", "30e-1", "-0", "9007199254740991"] {
                assert!(takes(text), "{name} {text}");
            }
            for text in ["3.5", "1e-1", "9007199254740992", "1e20", "1e400", "null", "true", r#""3""#, "[3]"]
            {
                assert!(!takes(text), "{name} {text}");
            }
            assert_eq!(takes("-1"), name != "daemonIssueGeneration", "{name}");
            assert_eq!(takes("-9007199254740991"), name != "daemonIssueGeneration", "{name}");
            assert!(!takes("-9007199254740992"), "{name}");
        }
    }

    #[test]
    fn audiences_are_a_text_or_any_number_of_them() {
        for fine in [json!("x"), json!([]), json!(["x", "y"]), json!(vec!["x"; 65]), json!("x".repeat(255))] {
            assert!(takes("aud", fine.clone()), "{fine}");
        }
        for bad in [json!(""), json!([""]), json!(["x", 1]), json!(null), json!({}), json!("x".repeat(256))] {
            assert!(!takes("aud", bad.clone()), "{bad}");
        }
    }

    #[test]
    fn lists_hold_at_most_64_texts() {
        assert!(takes("sessionIds", vec!["x".repeat(128); 64]) && takes("sessionIds", Vec::<String>::new()));
        assert!(!takes("sessionIds", vec!["x"; 65]) && !takes("sessionIds", vec!["x".repeat(129)]));
        assert!(!takes("sessionIds", vec![""]) && !takes("sessionIds", "x"));
        let channel = |length: usize| format!("agent-session:{}", "x".repeat(length - 14));
        assert!(takes("sessionChannels", vec![channel(255); 64]));
        assert!(
            !takes("sessionChannels", vec![channel(15); 65]) && !takes("sessionChannels", vec![channel(256)])
        );
    }

    #[test]
    fn a_channel_has_its_prefix_and_a_name_on_one_line() {
        for fine in
            ["agent-session:1", "agent-session: ", "agent-session:\u{85}", "agent-session:agent-session:"]
        {
            assert!(takes("sessionChannels", vec![fine]), "{fine:?}");
        }
        for bad in [
            "",
            "agent-session:",
            " agent-session:1",
            "Agent-session:1",
            "agent-session:1\n",
            "agent-session:1\r2",
            "agent-session:\u{2028}",
            "agent-session:\u{2029}",
        ] {
            assert!(!takes("sessionChannels", vec![bad]), "{bad:?}");
        }
        assert!(!takes("sessionChannels", vec![1]));
    }

    #[test]
    fn a_member_that_is_not_in_the_schema_is_refused_where_the_platform_speaks() {
        assert!(fits(&json!({})));
        for name in ["sub", "", "ClientId", "__proto__", "clientId "] {
            assert!(!takes(name, "x"), "{name:?}");
            let text = json!({ name: "x", "clientId": "c1" }).to_string();
            let claims = read(&text, Unknown::Ignored).expect("a token may say more");
            assert_eq!(claims.client_id.as_deref(), Some("c1"));
        }
        // What the schema names has to fit in both.
        assert_eq!(read(r#"{"sub":1,"clientId":""}"#, Unknown::Ignored), None);
    }

    #[test]
    fn names_and_values_are_read_as_javascript_reads_them() {
        let read = |text: &str| read(text, Unknown::Refused);
        let last = read(r#"{"clientId":7,"clientId":"c\u0031"}"#).expect("the last one counts");
        assert_eq!(last.client_id.as_deref(), Some("c1"));
        assert_eq!(read(r#"{"clientId":"c1","clientId":7}"#), None);
        assert!(read(r#"{"client\u0049d":"c1"}"#).is_some_and(|claims| claims.client_id.is_some()));
        for text in ["[]", "null", "1", "\"x\"", "", "{", "{}}", "{\"a\"}"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_the_relay_uses_comes_through_untouched() {
        let claims = json!({
            "workspaceId": " w1 ", "runtimeTargetId": "rt1", "machineId": "m1", "scope": "session-events",
            "clientId": "c1", "managedExecutorId": "e1", "e2eeProfile": "noise-ikpsk2", "exp": 1_800_000_000,
            "daemonIssueGeneration": 7.0, "sessionChannels": ["agent-session:1", "agent-session:2 "],
            "role": "worker", "aud": ["viewport-relay"],
        });
        let text = |text: &str| Some(text.into());
        assert_eq!(
            read(&claims.to_string(), Unknown::Refused),
            Some(Claims {
                workspace_id: text(" w1 "),
                runtime_target_id: text("rt1"),
                machine_id: text("m1"),
                scope: Some(Scope::SessionEvents),
                client_id: text("c1"),
                managed_executor_id: text("e1"),
                e2ee_profile: Some(Profile::NoiseIkPsk2),
                daemon_issue_generation: Some(7),
                session_channels: vec!["agent-session:1".into(), "agent-session:2 ".into()],
                exp: Some(1_800_000_000),
            })
        );
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = format!(r#"{{"clientId":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&deep, Unknown::Refused), None);
    }
}
