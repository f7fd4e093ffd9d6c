//! Tokens checked against the platform's keys (workspace.md section 4.6).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use serde_json::{Value, json};

use super::{
    rig::{Rig, config, request},
    server::{OK, Server, reply, respond},
};
use crate::{
    admission::tests::signer::{Signer, claims},
    control::{LocalCheck, PlatformConfig},
    dialect::workspace::{Answer, Ask, Method},
    limits::{JWKS_FRESH, JWKS_PAUSE},
};

/// A platform with the keys of signer 0, later of signer 1, later none: as `stage` says.
struct Platform {
    server: Server,
    stage: Arc<AtomicUsize>,
}

impl Platform {
    fn start() -> Platform {
        let stage = Arc::new(AtomicUsize::new(0));
        let shown = Arc::clone(&stage);
        let server = Server::plain(move |heard, stream| match (&*heard.path, shown.load(Ordering::SeqCst)) {
            ("/keys", 0) => respond(stream, "200 OK", "", &Signer::number(0).jwks("v1")),
            ("/keys", 1) => respond(stream, "200 OK", "", &Signer::number(1).jwks("v2")),
            ("/keys", _) => respond(stream, "503 Away", "", b""),
            _ => reply(stream, OK),
        });
        Platform { server, stage }
    }

    fn rig(&self, local_check: LocalCheck) -> Rig {
        Rig::start(PlatformConfig { local_check, ..config(&self.server.url("127.0.0.1")) })
    }

    fn turn_to(&self, stage: usize) {
        self.stage.store(stage, Ordering::SeqCst);
    }

    /// The paths asked for since the last look.
    fn heard(&self) -> Vec<String> {
        self.server.heard.try_iter().map(|heard| heard.path).collect()
    }
}

fn token(signer: usize, more: &Value) -> String {
    Signer::number(signer).token(["v1", "v2"][signer], &claims(more))
}

fn pass(rig: &Rig, duration: std::time::Duration) {
    rig.clock.fetch_add(u64::try_from(duration.as_micros()).expect("short"), Ordering::SeqCst);
}

const VALIDATE: &str = "/api/runtime/internal/relay/validate";

#[test]
fn without_the_check_the_keys_are_not_even_fetched() {
    let platform = Platform::start();
    platform.rig(LocalCheck::Off).admit_with("an-opaque-token").expect("the platform says yes");
    assert_eq!(platform.heard(), [VALIDATE]);
}

#[test]
fn also_asks_the_platform_only_about_tokens_that_pass() {
    let platform = Platform::start();
    let rig = platform.rig(LocalCheck::Also);
    assert_eq!(rig.admit_with("an-opaque-token").expect_err("no").reason, "LOCAL_CHECK_MALFORMED");
    assert_eq!(platform.heard(), [""; 0]);
    let denied = rig.admit_with(&token(0, &json!({ "aud": "other" }))).expect_err("no");
    assert_eq!((denied.status, &*denied.reason), (401, "LOCAL_CHECK_AUDIENCE"));
    assert_eq!(platform.heard(), ["/keys"]);
    let claims = rig.admit_with(&token(0, &json!({ "clientId": "from-the-token" }))).expect("both say yes");
    assert_eq!(claims.client_id.as_deref(), Some("c1"), "what counts is the platform's word");
    assert_eq!(platform.heard(), [VALIDATE]);
}

#[test]
fn only_takes_the_claims_from_the_token_and_minds_its_role() {
    let platform = Platform::start();
    let rig = platform.rig(LocalCheck::Only);
    let good = json!({ "role": "client", "clientId": "c9", "workspaceId": "w1", "sub": "ignored" });
    let claims = rig.admit_with(&token(0, &good)).expect("it passes");
    assert_eq!((claims.client_id.as_deref(), claims.workspace_id.as_deref()), (Some("c9"), Some("w1")));
    for (more, reason) in [
        (json!({ "role": "workspace-daemon" }), "LOCAL_CHECK_ROLE"),
        (json!({}), "LOCAL_CHECK_ROLE"),
        (json!({ "role": "client", "clientId": "" }), "INVALID_CLAIMS"),
    ] {
        assert_eq!(rig.admit_with(&token(0, &more)).expect_err("no").reason, reason);
    }
    assert_eq!(platform.heard(), ["/keys"]);
}

#[test]
fn keys_that_are_replaced_are_fetched_on_the_first_unknown_one_and_then_not_for_a_while() {
    let platform = Platform::start();
    let rig = platform.rig(LocalCheck::Also);
    rig.admit_with(&token(0, &json!({}))).expect("it passes");
    platform.turn_to(1);
    pass(&rig, JWKS_PAUSE);
    rig.admit_with(&token(1, &json!({}))).expect("its key is new");
    assert_eq!(
        rig.admit_with(&token(0, &json!({}))).expect_err("withdrawn").reason,
        "LOCAL_CHECK_UNKNOWN_KEY"
    );
    assert_eq!(platform.heard(), ["/keys", VALIDATE, "/keys", VALIDATE]);
}

#[test]
fn keys_are_fetched_once_for_all_who_need_them() {
    let (release, held) = mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    let server = Server::plain(move |heard, stream| match &*heard.path {
        "/keys" => {
            let _ = held.lock().recv();
            respond(stream, "200 OK", "", &Signer::number(0).jwks("v1"))
        }
        _ => reply(stream, OK),
    });
    let url = server.url("127.0.0.1");
    let rig = Rig::start(PlatformConfig { local_check: LocalCheck::Also, ..config(&url) });
    let ask = || rig.ask(Ask::Admit { token: token(0, &json!({})).into(), request: request(None) });
    ask();
    assert_eq!(server.next().path, "/keys");
    for _ in 0..20 {
        ask();
    }
    // Answered only after those before it have come to wait.
    rig.forward(Method::Get, "/api/x", &[], None).expect("it is answered");
    release.send(()).expect("it waits");
    for _ in 0..21 {
        assert!(matches!(rig.next(), Answer::Admitted(Ok(_))));
    }
    assert_eq!(server.heard.try_iter().filter(|heard| heard.path == "/keys").count(), 0);
}

#[test]
fn old_keys_stay_good_while_the_platform_shows_none() {
    let platform = Platform::start();
    let rig = platform.rig(LocalCheck::Only);
    let good = token(0, &json!({ "role": "client" }));
    rig.admit_with(&good).expect("it passes");
    platform.turn_to(2);
    for _ in 0..3 {
        pass(&rig, JWKS_FRESH);
        rig.admit_with(&good).expect("the key is old, but there is no other");
    }
    platform.turn_to(1);
    pass(&rig, JWKS_FRESH);
    assert_eq!(rig.admit_with(&good).expect_err("withdrawn").reason, "LOCAL_CHECK_UNKNOWN_KEY");
    assert_eq!(platform.heard(), ["/keys"; 5]);
}
