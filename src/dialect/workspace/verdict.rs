//! The platform's answer to "may this connection come in?" (workspace.md section 4.2).
//!
//! Pure. What kept an answer from coming is not judged here: only a whole one is.

use serde_json::value::RawValue;

use super::{
    ask::Denied,
    claims::{self, Unknown},
    ticket::Claims,
};
use crate::dialect::json;

/// What the platform's answer means.
pub fn verdict(status: u16, body: &[u8]) -> Result<Box<Claims>, Denied> {
    let denied = |reason: &str| Denied { status, reason: reason.to_owned() };
    let body = String::from_utf8_lossy(body);
    let answer = serde_json::from_str::<&RawValue>(&body).map_err(|_| denied(INVALID_JSON))?.get();
    if is_falsy(answer) {
        return Err(denied(INVALID_JSON));
    }
    // An answer that is JSON but no object has none of the members.
    let [ok, reason, error, claims] =
        json::members(answer, ["ok", "reason", "error", "claims"]).unwrap_or_default();
    if !(200..300).contains(&status) || ok != Some("true") {
        let given = reason.and_then(word).or_else(|| error.and_then(word));
        return Err(denied(given.as_deref().unwrap_or("VALIDATION_FAILED")));
    }
    let claims = claims.and_then(|raw| claims::read(raw, Unknown::Refused));
    claims.map(Box::new).ok_or_else(|| denied("INVALID_CLAIMS"))
}

/// What JavaScript takes for false; `true`, arrays and objects are none of it.
fn is_falsy(raw: &str) -> bool {
    matches!(raw, "null" | "false" | r#""""#) || raw.parse::<f64>().is_ok_and(|number| number == 0.0)
}

/// A reason that the platform gives, cut to what a log line should hold.
fn word(raw: &str) -> Option<String> {
    let bytes = json::string(raw)?;
    let text: String = String::from_utf8_lossy(&bytes).chars().take(REASON_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

const INVALID_JSON: &str = "INVALID_JSON";
/// The platform's own reasons are a few words long.
const REASON_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(status: u16, body: &str) -> String {
        let denied = verdict(status, body.as_bytes()).expect_err("it denies");
        assert_eq!(denied.status, status, "{body}");
        denied.reason
    }

    #[test]
    fn ok_with_claims_that_fit_lets_in() {
        let claims =
            verdict(200, br#" {"ok":true,"claims":{"clientId":"c1"},"more":1} "#).expect("it admits");
        assert_eq!(claims.client_id.as_deref(), Some("c1"));
        assert!(verdict(299, br#"{"ok":false,"ok":true,"claims":{}}"#).is_ok());
    }

    #[test]
    fn what_is_not_json_or_says_nothing_is_invalid_json() {
        for body in
            ["", "<html>", "{", "\u{feff}{}", "null", "false", "0", "-0", "0.0e5", "\"\"", "NaN", "{} {}"]
        {
            for status in [200, 302, 500] {
                assert_eq!(reason(status, body), "INVALID_JSON", "{body:?}");
            }
        }
        assert_eq!(verdict(200, b"\xff").map_err(|denied| denied.reason), Err("INVALID_JSON".to_owned()));
    }

    #[test]
    fn a_refusal_names_reason_or_error_or_neither() {
        for (body, named) in [
            (r#"{"ok":false,"reason":"EXPIRED","error":"x"}"#, "EXPIRED"),
            (r#"{"ok":false,"error":"UNKNOWN_TOKEN"}"#, "UNKNOWN_TOKEN"),
            (r#"{"ok":false,"reason":"","error":"UNKNOWN_TOKEN"}"#, "UNKNOWN_TOKEN"),
            (r#"{"ok":false,"reason":null,"error":["x"]}"#, "VALIDATION_FAILED"),
            (r#"{"ok":"true","claims":{}}"#, "VALIDATION_FAILED"),
            (r#"{"ok":1,"claims":{}}"#, "VALIDATION_FAILED"),
            ("{}", "VALIDATION_FAILED"),
            ("[true]", "VALIDATION_FAILED"),
            ("7", "VALIDATION_FAILED"),
            ("\"ok\"", "VALIDATION_FAILED"),
            ("true", "VALIDATION_FAILED"),
        ] {
            assert_eq!(reason(200, body), named, "{body}");
        }
        assert_eq!(reason(200, &format!(r#"{{"reason":"{}"}}"#, "x".repeat(5000))).len(), 200);
    }

    #[test]
    fn only_a_status_of_success_lets_in() {
        for status in [199, 300, 302, 401, 500] {
            assert_eq!(reason(status, r#"{"ok":true,"claims":{}}"#), "VALIDATION_FAILED");
        }
        assert_eq!(reason(403, r#"{"ok":true,"reason":"NO","claims":{}}"#), "NO");
    }

    #[test]
    fn claims_that_are_missing_or_do_not_fit_are_invalid() {
        for body in [
            r#"{"ok":true}"#,
            r#"{"ok":true,"claims":null}"#,
            r#"{"ok":true,"claims":[]}"#,
            r#"{"ok":true,"claims":{"sub":"x"}}"#,
            r#"{"ok":true,"claims":{"clientId":null}}"#,
        ] {
            assert_eq!(reason(200, body), "INVALID_CLAIMS", "{body}");
        }
    }
}
