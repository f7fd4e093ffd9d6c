//! Which messages are valid, and what routing needs of them (workspace.md sections 7, 8 and 9.1).
//!
//! Reads what an ECMAScript JSON parser reads (see [`crate::dialect::json`]), without building anything: messages are
//! passed on as they came. Where a member stands twice the last one counts; unknown ones are skipped. Judges shape
//! only.

use std::borrow::Cow;

use super::{Method, Profile};
use crate::dialect::{
    json::{self, members, string},
    text,
};

/// A valid message.
#[derive(PartialEq, Debug)]
pub(super) struct Frame<K> {
    pub(super) kind: K,
    /// Its `profile`, where that is one.
    pub(super) profile: Option<Profile>,
}

/// What a client's message is. Texts are untrimmed.
#[derive(PartialEq, Debug)]
pub(super) enum ClientKind<'a> {
    Envelope,
    KeyExchangeInit { request_id: Cow<'a, [u8]> },
    Pairing { request_id: Cow<'a, [u8]> },
    Subscribe { channel: Cow<'a, [u8]>, after_sequence: f64 },
    Unsubscribe { channel: Cow<'a, [u8]> },
    Presence { channel: Cow<'a, [u8]> },
}

/// What a daemon's message is. Texts are untrimmed.
#[derive(PartialEq, Debug)]
pub(super) enum DaemonKind<'a> {
    /// An envelope or a key update notice.
    Session {
        session_id: Cow<'a, [u8]>,
    },
    KeyExchangeResponse {
        request_id: Cow<'a, [u8]>,
        session_id: Cow<'a, [u8]>,
    },
    PairingResponse {
        request_id: Cow<'a, [u8]>,
    },
    /// Only the bus delivers these.
    SessionEvent,
}

/// What a worker asks for. Texts are as they came; `headers` is the raw JSON object.
#[derive(PartialEq, Debug)]
pub(super) struct WorkerRequest<'a> {
    pub(super) request_id: Cow<'a, [u8]>,
    pub(super) method: Method,
    pub(super) path: Cow<'a, [u8]>,
    pub(super) headers: Option<&'a str>,
    pub(super) body: Option<Cow<'a, [u8]>>,
}

/// Reads a client's message; `None` is invalid.
pub(super) fn client(message: &str) -> Option<Frame<ClientKind<'_>>> {
    let fields = ClientFields::read(message)?;
    let kind = match &*string(fields.kind?)? {
        b"e2ee" => {
            let texts = [fields.session_id, fields.iv, fields.tag, fields.ciphertext];
            is_envelope(fields.version, fields.profile, texts, [fields.epoch, fields.seq])
                .then_some(ClientKind::Envelope)
        }
        b"relay_key_exchange_init" => key_exchange_init(&fields),
        b"relay_pairing_offer_request" => {
            let ttl_fits = |raw| json::integer(raw).is_some_and(|ttl| (30.0..=3600.0).contains(&ttl));
            let fits = are_non_blank([fields.request_id, fields.client_channel_public_key])
                && fields.ttl_seconds.is_none_or(ttl_fits);
            fits.then(|| pairing(fields.request_id))?
        }
        b"relay_pairing_redeem_request" => {
            let texts =
                [fields.request_id, fields.offer_id, fields.enc_iv, fields.enc_tag, fields.enc_ciphertext];
            are_non_blank(texts).then(|| pairing(fields.request_id))?
        }
        b"viewport.session_events.subscribe/v1" => {
            let after_sequence = match fields.after_sequence {
                Some(raw) => json::integer(raw).filter(|sequence| *sequence >= 0.0)?,
                None => 0.0,
            };
            Some(ClientKind::Subscribe { channel: channel(fields.channel)?, after_sequence })
        }
        b"viewport.session_events.unsubscribe/v1" => {
            Some(ClientKind::Unsubscribe { channel: channel(fields.channel)? })
        }
        b"viewport.session_viewer_presence/v1" => presence(&fields),
        _ => None,
    };
    Some(Frame { kind: kind?, profile: fields.profile.and_then(profile) })
}

fn key_exchange_init<'a>(fields: &ClientFields<'a>) -> Option<ClientKind<'a>> {
    let profile = profile(fields.profile?)?;
    let texts = if is_number(fields.version, 3.0) {
        [fields.client_ephemeral_public_key, fields.encrypted_client_static, None]
    } else if is_number(fields.version, 2.0) {
        [fields.client_public_key, fields.client_nonce, fields.client_proof]
    } else {
        return None;
    };
    let texts_wanted = if is_number(fields.version, 3.0) { 2 } else { 3 };
    let fits = texts[..texts_wanted].iter().all(|raw| is_string(*raw))
        && (profile == Profile::NoiseIk || are_non_blank([fields.pairing_peer_id]));
    let request_id = string(fields.request_id?)?;
    fits.then_some(ClientKind::KeyExchangeInit { request_id })
}

fn pairing(request_id: Option<&str>) -> Option<ClientKind<'_>> {
    Some(ClientKind::Pairing { request_id: string(request_id?)? })
}

fn presence<'a>(fields: &ClientFields<'a>) -> Option<ClientKind<'a>> {
    let action = string(fields.action?)?;
    let user_id = string(fields.user_id?)?;
    let display_name_fits = |raw| string(raw).is_some_and(|name| text::utf16_len(&name) <= 255);
    let fits = matches!(&*action, b"joined" | b"left" | b"heartbeat")
        && !text::trim(&user_id).is_empty()
        && text::utf16_len(&user_id) <= 128
        && fields.display_name.is_none_or(display_name_fits)
        && fields.sent_at.is_none_or(|raw| is_string(Some(raw)));
    let channel = channel(fields.channel)?;
    fits.then_some(ClientKind::Presence { channel })
}

/// Reads a daemon's message; `None` is invalid.
pub(super) fn daemon(message: &str) -> Option<Frame<DaemonKind<'_>>> {
    let fields = DaemonFields::read(message)?;
    let kind = fields.kind.and_then(|kind| daemon_kind(&string(kind)?, &fields));
    let kind = kind.or_else(|| is_session_event(&fields).then_some(DaemonKind::SessionEvent))?;
    Some(Frame { kind, profile: fields.profile.and_then(profile) })
}

fn daemon_kind<'a>(kind: &[u8], fields: &DaemonFields<'a>) -> Option<DaemonKind<'a>> {
    match kind {
        b"e2ee" => {
            let texts = [fields.session_id, fields.iv, fields.tag, fields.ciphertext];
            let fits = is_envelope(fields.version, fields.profile, texts, [fields.epoch, fields.seq]);
            fits.then(|| Some(DaemonKind::Session { session_id: string(fields.session_id?)? }))?
        }
        b"relay_key_update_required" => {
            json::number(fields.next_epoch?)?;
            Some(DaemonKind::Session { session_id: string(fields.session_id?)? })
        }
        b"relay_key_exchange_response" => {
            profile(fields.profile?)?;
            let fits = if is_number(fields.version, 3.0) {
                is_string(fields.daemon_public_key)
                    && is_string(fields.daemon_ephemeral_public_key)
                    && is_string(fields.encrypted_metadata)
                    && is_string(fields.proof)
                    && is_integer_from_one(fields.epoch)
            } else {
                is_number(fields.version, 2.0)
                    && is_string(fields.daemon_nonce)
                    && is_string(fields.proof)
                    && fields.epoch.and_then(json::number).is_some()
            };
            let (request_id, session_id) = (string(fields.request_id?)?, string(fields.session_id?)?);
            fits.then_some(DaemonKind::KeyExchangeResponse { request_id, session_id })
        }
        b"relay_pairing_offer_response" => {
            let texts =
                [fields.daemon_channel_public_key, fields.enc_iv, fields.enc_tag, fields.enc_ciphertext];
            pairing_response(fields, are_non_blank(texts))
        }
        b"relay_pairing_redeem_response" => pairing_response(fields, true),
        _ => None,
    }
}

/// A pairing response; `answers` is whether it has what one that is `ok` needs.
fn pairing_response<'a>(fields: &DaemonFields<'a>, answers: bool) -> Option<DaemonKind<'a>> {
    let fits = match fields.ok? {
        "true" => answers,
        "false" => are_non_blank([fields.error_code]),
        _ => false,
    };
    (fits && are_non_blank([fields.request_id]))
        .then(|| Some(DaemonKind::PairingResponse { request_id: string(fields.request_id?)? }))?
}

fn is_session_event(fields: &DaemonFields<'_>) -> bool {
    is_text(fields.schema, b"viewport.session_event_relay_frame/v1")
        && channel(fields.channel).is_some()
        && fields.event.is_some_and(|raw| raw == "null" || raw.starts_with('{'))
}

/// Reads a worker's message; `None` is invalid.
pub(super) fn worker(message: &str) -> Option<WorkerRequest<'_>> {
    let fields = WorkerFields::read(message)?;
    let method = match &*string(fields.method?)? {
        b"GET" => Method::Get,
        b"POST" => Method::Post,
        b"PATCH" => Method::Patch,
        _ => return None,
    };
    let path = string(fields.path?)?;
    let fits = is_text(fields.kind, b"viewport.worker_transport.request/v1")
        && are_non_blank([fields.request_id])
        && path.starts_with(b"/api/runtime/workspaces/")
        && fields.headers.is_none_or(|raw| raw.starts_with('{'));
    let body = match fields.body {
        Some(raw) => Some(string(raw)?),
        None => None,
    };
    let request_id = string(fields.request_id?)?;
    fits.then_some(WorkerRequest { request_id, method, path, headers: fields.headers, body })
}

fn is_envelope(
    version: Option<&str>,
    raw_profile: Option<&str>,
    texts: [Option<&str>; 4],
    counts: [Option<&str>; 2],
) -> bool {
    is_number(version, 2.0)
        && raw_profile.and_then(profile).is_some()
        && are_non_blank(texts)
        && counts.into_iter().all(is_integer_from_one)
}

fn profile(raw: &str) -> Option<Profile> {
    match &*string(raw)? {
        b"noise-ik" => Some(Profile::NoiseIk),
        b"noise-ikpsk2" => Some(Profile::NoiseIkPsk2),
        _ => None,
    }
}

/// A session event channel.
fn channel(raw: Option<&str>) -> Option<Cow<'_, [u8]>> {
    string(raw?).filter(|channel| channel.starts_with(CHANNEL_PREFIX))
}

fn is_string(raw: Option<&str>) -> bool {
    raw.is_some_and(|raw| raw.starts_with('"'))
}

fn is_text(raw: Option<&str>, text: &[u8]) -> bool {
    raw.and_then(string).is_some_and(|string| *string == *text)
}

fn is_number(raw: Option<&str>, number: f64) -> bool {
    raw.and_then(json::number) == Some(number)
}

fn is_integer_from_one(raw: Option<&str>) -> bool {
    raw.and_then(json::integer).is_some_and(|integer| integer >= 1.0)
}

/// Whether each is a string in which something is left after trimming.
fn are_non_blank<const N: usize>(raws: [Option<&str>; N]) -> bool {
    raws.into_iter().all(|raw| raw.is_some_and(is_non_blank))
}

fn is_non_blank(raw: &str) -> bool {
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    // Nearly always the first character decides. An escape may stand for white space.
    match text::trim_start(inner.as_bytes()).first() {
        None => false,
        Some(b'\\') => string(raw).is_some_and(|string| !text::trim(&string).is_empty()),
        Some(_) => true,
    }
}

/// What the channels of session events begin with.
pub(super) const CHANNEL_PREFIX: &[u8] = b"agent-session:";

/// The members that a check looks at, as raw text.
macro_rules! fields {
    ($name:ident { $($field:ident = $member:literal,)+ }) => {
        struct $name<'a> { $($field: Option<&'a str>,)+ }

        impl<'a> $name<'a> {
            fn read(message: &'a str) -> Option<$name<'a>> {
                let [$($field,)+] = members(message, [$($member,)+])?;
                Some($name { $($field,)+ })
            }
        }
    };
}

fields!(ClientFields {
    kind = "type",
    version = "version",
    profile = "profile",
    session_id = "sessionId",
    epoch = "epoch",
    seq = "seq",
    iv = "iv",
    tag = "tag",
    ciphertext = "ciphertext",
    request_id = "requestId",
    client_ephemeral_public_key = "clientEphemeralPublicKey",
    encrypted_client_static = "encryptedClientStatic",
    pairing_peer_id = "pairingPeerId",
    client_public_key = "clientPublicKey",
    client_nonce = "clientNonce",
    client_proof = "clientProof",
    client_channel_public_key = "clientChannelPublicKey",
    ttl_seconds = "ttlSeconds",
    offer_id = "offerId",
    enc_iv = "encIv",
    enc_tag = "encTag",
    enc_ciphertext = "encCiphertext",
    channel = "channel",
    after_sequence = "afterSequence",
    action = "action",
    user_id = "userId",
    display_name = "displayName",
    sent_at = "sentAt",
});

fields!(DaemonFields {
    kind = "type",
    version = "version",
    profile = "profile",
    session_id = "sessionId",
    epoch = "epoch",
    seq = "seq",
    iv = "iv",
    tag = "tag",
    ciphertext = "ciphertext",
    request_id = "requestId",
    daemon_public_key = "daemonPublicKey",
    daemon_ephemeral_public_key = "daemonEphemeralPublicKey",
    encrypted_metadata = "encryptedMetadata",
    proof = "proof",
    daemon_nonce = "daemonNonce",
    next_epoch = "nextEpoch",
    ok = "ok",
    error_code = "errorCode",
    daemon_channel_public_key = "daemonChannelPublicKey",
    enc_iv = "encIv",
    enc_tag = "encTag",
    enc_ciphertext = "encCiphertext",
    schema = "schema",
    channel = "channel",
    event = "event",
});

fields!(WorkerFields {
    kind = "type",
    request_id = "requestId",
    method = "method",
    path = "path",
    headers = "headers",
    body = "body",
});
