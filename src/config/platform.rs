//! The options about the platform: their kinds, and what they come to.

use url::Url;

use super::{
    Config, ConfigError,
    kinds::{Kind, Words},
    settings::Settings,
};
use crate::{
    control::{IdentityFiles, LocalCheck, PlatformConfig, TlsConfig, Verify},
    dialect::Kind as Dialect,
    limits::FORWARD_TIMEOUT,
    secret::Secret,
};

/// How the platform knows that it is this relay that asks. Matters to what prod mode refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// By a client certificate.
    Mtls,
    /// By the internal key, over a network of their own.
    SharedSecret,
}

impl Words for AuthMode {
    const WORDS: &'static [(&'static str, AuthMode)] =
        &[("mtls", AuthMode::Mtls), ("private_network_shared_secret", AuthMode::SharedSecret)];
}

impl Words for Verify {
    const WORDS: &'static [(&'static str, Verify)] =
        &[("auto", Verify::Auto), ("0", Verify::Off), ("1", Verify::On)];
}

impl Words for LocalCheck {
    const WORDS: &'static [(&'static str, LocalCheck)] =
        &[("off", LocalCheck::Off), ("also", LocalCheck::Also), ("only", LocalCheck::Only)];
}

/// The URL of an HTTP server; empty is none.
pub(super) struct HttpUrl;

impl Kind for HttpUrl {
    type Value = Option<Url>;
    fn hint(&self) -> &'static str {
        "URL"
    }
    fn takes(&self) -> String {
        "a URL such as https://api.example: http or https, and a host".into()
    }
    fn read(&self, text: &str) -> Option<Option<Url>> {
        if text.is_empty() {
            return Some(None);
        }
        let url = Url::parse(text).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(Some(url))
    }
    fn show(&self, value: &Option<Url>) -> toml::Value {
        value.as_ref().map(Url::to_string).unwrap_or_default().into()
    }
}

impl Config {
    /// The platform's origin: `platform-url`, else that of the URL to validate at, else the public platform.
    pub fn platform_origin(&self) -> Url {
        let given = self.platform_url.as_ref().or(self.platform_validate_url.as_ref());
        let mut origin = given.cloned().unwrap_or_else(|| fixed(PUBLIC_PLATFORM));
        origin.set_path("/");
        origin.set_query(None);
        origin.set_fragment(None);
        origin
    }

    /// Whether the relay shows the platform a certificate.
    pub fn platform_wants_mtls(&self) -> bool {
        let files = [&self.platform_client_cert_path, &self.platform_client_key_path];
        self.platform_mtls || files.iter().all(|path| path.is_some())
    }

    /// What the desk for the platform is told. Workers' answers must fit a frame of `frame_bytes_max`.
    pub fn platform(&self, frame_bytes_max: usize) -> PlatformConfig {
        let origin = self.platform_origin();
        let at = |path: &str| origin.join(path).expect("an absolute path can be joined to any origin");
        let files = || {
            Some(IdentityFiles {
                cert: self.platform_client_cert_path.clone()?,
                key: self.platform_client_key_path.clone()?,
                passphrase: self.platform_client_key_passphrase.clone(),
            })
        };
        PlatformConfig {
            validate_url: self.platform_validate_url.clone().unwrap_or_else(|| at(VALIDATE_PATH)),
            jwks_url: self.platform_jwks_url.clone().unwrap_or_else(|| at(JWKS_PATH)),
            local_check: self.workspace_local_check,
            internal_key: self.platform_internal_key.clone(),
            admission_timeout: self.platform_admission_timeout,
            admission_bytes_max: self.platform_admission_max_response_bytes,
            forward_bytes_max: frame_bytes_max.saturating_sub(FRAME_SPARE),
            forward_timeout: FORWARD_TIMEOUT,
            tls: TlsConfig {
                verify: self.platform_tls_verify,
                ca: self.platform_ca_cert_path.clone(),
                identity: if self.platform_wants_mtls() { files() } else { None },
            },
            origin,
        }
    }

    /// What no option of the platform can check alone.
    pub(super) fn check_platform(&self, settings: &Settings) -> Result<(), ConfigError> {
        if !self.serves(Dialect::Workspace) {
            return Ok(());
        }
        let conflict = |option: &'static str, value: String, why: &str| {
            Err(ConfigError::Conflict {
                option,
                source: settings.source(option).clone(),
                value,
                why: why.into(),
            })
        };
        let key = self.platform_internal_key.as_ref().map_or("", |key| key.reveal());
        if !key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            let why = "it is sent as an HTTP header and may hold printable ASCII only; choose another key";
            return conflict("platform-internal-key", Secret::HIDDEN.into(), why);
        }
        Ok(())
    }
}

fn fixed(url: &str) -> Url {
    Url::parse(url).expect("a constant that the tests read")
}

const PUBLIC_PLATFORM: &str = "https://api.getviewport.com";
const VALIDATE_PATH: &str = "/api/runtime/internal/relay/validate";
const JWKS_PATH: &str = "/api/.well-known/jwks.json";
/// What of a frame is around a worker's answer: the message's own members.
const FRAME_SPARE: usize = 4096;
