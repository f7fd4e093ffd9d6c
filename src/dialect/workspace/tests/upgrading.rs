//! What an upgrade's head says, row by row (workspace.md sections 3.2 to 3.5).

use crate::dialect::workspace::{Asked, Flaw, Knock, Refusal, Role};

const BEARER: &str = "Authorization: Bearer 0123456789\r\n";
const QUERY: &str = "role=client&workspaceId=w";

fn head(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: relay.test:80\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

fn read(head: &str) -> Result<Knock, Refusal> {
    Asked::read(head.as_bytes(), false).knock
}

fn queried(query: &str) -> Result<Knock, Refusal> {
    read(&head(&format!("/ws?{query}"), BEARER))
}

#[test]
fn a_query_names_role_workspace_and_perhaps_a_target() {
    for (name, role) in
        [("workspace-daemon", Role::Daemon), ("client", Role::Client), ("worker", Role::Worker)]
    {
        let query =
            format!("x=%ff&role={name}&role=other&workspaceId=a.Z_0%3a-&runtimeTargetId=t&workspaceId=");
        let request = queried(&query).expect(name).request;
        assert_eq!((request.role, &*request.workspace_id), (role, "a.Z_0:-"));
        assert_eq!(request.runtime_target_id.as_deref(), Some("t"));
    }
    assert!(queried(&format!("role=client&workspaceId={}", "w".repeat(128))).is_ok());
}

#[test]
fn what_is_wrong_with_a_query_is_a_400() {
    let long = format!("role=client&workspaceId={}", "w".repeat(129));
    for query in [
        "",
        "workspaceId=w",
        "role=client",
        "role=Client&workspaceId=w",
        "role=client%20&workspaceId=w",
        "role=client&workspaceId=",
        "role=client&workspaceId=a/b",
        "role=client&workspaceId=a+b",
        "role=client&workspaceId=%c3%a9",
        "role=client&workspaceId=w&runtimeTargetId=",
        "role=client&workspaceId=w&runtimeTargetId=a%20b",
        &long,
    ] {
        assert_eq!(queried(query), Err(Refusal::BadQuery), "{query}");
    }
    assert_eq!(Refusal::BadQuery.response(), "HTTP/1.1 400 Bad Request\r\n\r\n");
}

#[test]
fn the_path_is_the_one_of_a_url_parser() {
    for path in ["/ws", "/x/../ws", "/./ws", "/x/%2e%2E/ws", "\\ws", "http://elsewhere.test/ws", "/ws#x"] {
        assert!(read(&head(&format!("{path}?{QUERY}").replace("#x?", "?"), BEARER)).is_ok(), "{path}");
    }
    for path in ["/ws/", "/wS", "/%77s", "/", "//ws", "/ws;a"] {
        assert_eq!(read(&head(&format!("{path}?{QUERY}"), BEARER)), Err(Refusal::NoSuchPath), "{path}");
    }
    for (from, to) in
        [("/ws", "//"), ("relay.test:80", "a b"), ("relay.test:80", "a:99999"), ("relay.test:80", "")]
    {
        let head = head(&format!("/ws?{QUERY}"), BEARER).replacen(from, to, 1);
        let head = if to == "//" { head.replace(&format!("?{QUERY}"), "") } else { head };
        assert_eq!(read(&head), Err(Refusal::NoUrl), "{to:?}");
    }
    assert_eq!((Refusal::NoSuchPath.response(), Refusal::NoUrl.response()), ("", ""));
}

#[test]
fn the_first_usable_token_wins() {
    let nine = "Authorization: Bearer 012345678\r\n";
    let offers = "Sec-WebSocket-Protocol: viewport-relay-v1, auth.short, auth.offered-token\r\n";
    let in_query = format!("/ws?{QUERY}&token=%20queried-token%20");
    let token = |more: &str, query_tokens| {
        let knock = Asked::read(head(&in_query, more).as_bytes(), query_tokens).knock;
        knock.map(|knock| knock.token.into_string())
    };
    let ok = |token: &str| Ok(token.to_owned());
    assert_eq!(token(&format!("{BEARER}{offers}"), true), ok("0123456789"));
    assert_eq!(token("Authorization: bEARER \t padded-token \r\n", true), ok("padded-token"));
    assert_eq!(token(&format!("{nine}{offers}"), true), ok("offered-token"));
    assert_eq!(token("Authorization: Basic 0123456789\r\n", true), ok("queried-token"));
    assert_eq!(token("Authorization: Bearer0123456789\r\n", true), ok("queried-token"));
    assert_eq!(token("", true), ok("queried-token"));
    assert_eq!(token("", false), Err(Refusal::NoToken), "a token in the query is for dev mode");
    assert_eq!(token(nine, false), Err(Refusal::NoToken));
    let longest = "t".repeat(4096);
    assert_eq!(token(&format!("Authorization: Bearer {longest}\r\n"), false), Ok(longest.clone()));
    assert_eq!(token(&format!("Authorization: Bearer {longest}t\r\n"), false), Err(Refusal::NoToken));
}

#[test]
fn the_answered_subprotocol_is_the_first_that_is_no_token() {
    let protocol = |offers: &str| {
        let more = format!("{BEARER}Sec-WebSocket-Protocol: {offers}\r\n");
        read(&head(&format!("/ws?{QUERY}"), &more)).map(|knock| knock.protocol.map(String::from))
    };
    for (offers, answer) in [
        ("viewport-relay-v1, auth.0123456789", "viewport-relay-v1"),
        ("auth.0123456789,viewport-relay-v1", "viewport-relay-v1"),
        ("auth.0123456789", "auth.0123456789"),
        ("auth.1, auth.2", "auth.1"),
        ("a\r\nSec-WebSocket-Protocol: b", "a"),
    ] {
        assert_eq!(protocol(offers), Ok(Some(answer.to_owned())), "{offers}");
    }
    for offers in ["a, a", "a,,b", "a b", "a;b", "", ","] {
        assert_eq!(protocol(offers), Err(Refusal::Handshake(Flaw::Protocols)), "{offers}");
    }
    assert_eq!(queried(QUERY).map(|knock| knock.protocol), Ok(None));
}

#[test]
fn a_flawed_handshake_is_told_what_is_wrong() {
    for (from, to, flaw) in [
        ("GET", "POST", Flaw::Method),
        ("Upgrade: websocket", "Upgrade: h2c", Flaw::Upgrade),
        ("Upgrade: websocket", "Upgrade: websocket, h2c", Flaw::Upgrade),
        ("ZQ==", "ZQ=", Flaw::Key),
        ("ZQ==", "Z-==", Flaw::Key),
        ("ZQ==", "Z*==", Flaw::Key),
        ("ZQ==", "ZQQ==", Flaw::Key),
        ("Sec-WebSocket-Key", "X", Flaw::Key),
        ("Version: 13", "Version: 12", Flaw::Version),
        ("Sec-WebSocket-Version", "X", Flaw::Version),
    ] {
        let head = head(&format!("/ws?{QUERY}"), BEARER).replacen(from, to, 1);
        assert_eq!(read(&head), Err(Refusal::Handshake(flaw)), "{to}");
    }
    let usual = head(&format!("/ws?{QUERY}"), BEARER);
    assert!(read(&usual.replace("ub25jZQ==", "+/5jZQ==")).is_err());
    assert!(read(&usual.replace("ub25jZQ==", "ub+/jZQ==")).is_ok());
    assert!(read(&usual.replace("websocket", "WebSocket").replace("Version: 13", "Version: 8")).is_ok());
    assert_eq!(
        Refusal::Handshake(Flaw::Version).response(),
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: 47\r\n\
         Sec-WebSocket-Version: 13, 8\r\n\r\nMissing or invalid Sec-WebSocket-Version header"
    );
    assert!(Refusal::Handshake(Flaw::Method).response().starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
}
