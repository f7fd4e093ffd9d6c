//! Asking the platform whether a connection may come in (workspace.md section 4.1).

use reqwest::header::CONTENT_TYPE;
use serde::Serialize;

use super::{
    desk::Desk,
    outbound::{Failure, read},
};
use crate::dialect::workspace::{Claims, Denied, Request, verdict};

/// Asks once; what the platform says, or what kept it from saying it (section 4.2).
pub(super) async fn validate(desk: &Desk, token: &str, request: &Request) -> Result<Box<Claims>, Denied> {
    let question = Question {
        relay_token: token,
        role: request.role.name(),
        workspace_id: &request.workspace_id,
        runtime_target_id: request.runtime_target_id.as_deref(),
    };
    let body = serde_json::to_vec(&question).expect("texts have a JSON form");
    let mut post = desk.questions.client().post(desk.config.validate_url.clone());
    post = post.header(CONTENT_TYPE, "application/json").body(body);
    if let Some(key) = &desk.config.internal_key {
        post = post.header("x-relay-internal-key", key.reveal());
    }
    let unreached = |failure| match failure {
        Failure::TooLong => Denied { status: 502, reason: "ADMISSION_RESPONSE_TOO_LARGE".to_owned() },
        Failure::Broken(why) => Denied { status: 504, reason: why },
    };
    let response = post.send().await.map_err(|error| unreached(error.into()))?;
    let status = response.status().as_u16();
    let body = read(response, desk.config.admission_bytes_max).await.map_err(unreached)?;
    verdict(status, &body)
}

/// The body, its members in the contract's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    relay_token: &'a str,
    role: &'a str,
    workspace_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_target_id: Option<&'a str>,
}
