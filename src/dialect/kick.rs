//! What an operator may end: a workspace, a link, a pairing session.

use serde::Deserialize;

use super::{Action, Cx, Dialects};
use crate::reason::Reason;

/// What is to be ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The connections of a workspace.
    Workspace(Box<str>),
    /// A link, both its ends. Also by what `/v1/stats` shows of one that is not joined yet.
    Link(Box<str>),
    /// A pairing session, both its ends.
    Session(Box<str>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    workspace_id: Option<Box<str>>,
    link_id: Option<Box<str>>,
    session_id: Option<Box<str>>,
}

impl Target {
    /// Reads a request's body: a JSON object with exactly one of `workspaceId`, `linkId` and `sessionId`, a string that
    /// is not empty.
    pub fn read(body: &[u8]) -> Option<Target> {
        let Body { workspace_id, link_id, session_id } = serde_json::from_slice(body).ok()?;
        let target = match (workspace_id, link_id, session_id) {
            (Some(id), None, None) => Target::Workspace(id),
            (None, Some(id), None) => Target::Link(id),
            (None, None, Some(id)) => Target::Session(id),
            _ => return None,
        };
        (!target.id().is_empty()).then_some(target)
    }

    /// What kind of thing it is.
    pub fn word(&self) -> &'static str {
        match self {
            Target::Workspace(_) => "workspace",
            Target::Link(_) => "link",
            Target::Session(_) => "session",
        }
    }

    fn id(&self) -> &str {
        let (Target::Workspace(id) | Target::Link(id) | Target::Session(id)) = self;
        id
    }
}

impl Dialects {
    /// Ends what of it lives on this shard; returns how many connections are closed. They see 1001 and may come back.
    pub fn kick(&mut self, cx: &mut Cx<'_>, target: &Target) -> usize {
        match target {
            Target::Workspace(id) => {
                let conns = self.workspace.as_ref().map(|workspace| workspace.kick(id)).unwrap_or_default();
                let reason = Reason::Kicked;
                cx.actions.extend(conns.iter().map(|conn| Action::Close { conn: *conn, reason }));
                conns.len()
            }
            Target::Link(id) => self.link.as_mut().map_or(0, |link| link.kick(cx, id)),
            Target::Session(id) => self.pair.as_mut().map_or(0, |pair| pair.kick(cx, id)),
        }
    }
}

/// The answer to a kick that closed so many connections.
pub fn answer(closed: usize) -> String {
    format!(r#"{{"ok":true,"closed":{closed}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_exactly_one_thing() {
        let read = |body: &str| Target::read(body.as_bytes());
        assert_eq!(read(r#"{"workspaceId":"w1"}"#), Some(Target::Workspace("w1".into())));
        assert_eq!(read(r#" {"linkId":"l1"} "#), Some(Target::Link("l1".into())));
        assert_eq!(read(r#"{"sessionId":"s1","linkId":null}"#), Some(Target::Session("s1".into())));
        for body in [
            "",
            "{}",
            "null",
            "[]",
            r#"{"linkId":""}"#,
            r#"{"linkId":1}"#,
            r#"{"linkId":"a","sessionId":"b"}"#,
            r#"{"linkId":"a","all":true}"#,
            r#"{"linkId":"a"}x"#,
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }
}
