//! What refuses to start where the workspace dialect is served (workspace.md section 22.2), in the contract's order.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    AuthMode, Backplane, Config, ConfigError, RelayMode, TlsChoice, TlsTermination, settings::Settings,
    workspace::is_local_url,
};
use crate::{control::Verify, dialect::Kind};

/// What a refusal is made of.
struct Refusals<'a> {
    config: &'a Config,
    settings: &'a Settings,
    home: Option<&'a String>,
    read_file: &'a dyn Fn(&Path) -> io::Result<String>,
}

type Judged = Result<(), ConfigError>;

impl Config {
    /// Refuses what must not be served so.
    pub(super) fn check_workspace(
        &self,
        settings: &Settings,
        home: Option<&String>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Judged {
        if !self.serves(Kind::Workspace) {
            return Ok(());
        }
        let refusals = Refusals { config: self, settings, home, read_file: &read_file };
        refusals.tls()?;
        refusals.mtls()?;
        refusals.backplane()?;
        refusals.local_urls()?;
        if self.relay_mode() == RelayMode::Prod {
            refusals.prod()?;
        }
        refusals.budget()
    }
}

impl Refusals<'_> {
    fn tls(&self) -> Judged {
        let option = "workspace-tls";
        if self.config.workspace_tls == TlsChoice::On {
            return self.refuse(option, "this relay does not end TLS; end it in front and set RELAY_TLS=0");
        }
        let files = self.tls_files();
        if self.config.workspace_tls == TlsChoice::Auto && files.iter().all(|path| self.is_there(path)) {
            let why = format!(
                "the certificate {} and its key are there, so TLS is expected, which this relay does not end; end it \
                 in front and set RELAY_TLS=0",
                files[0].display()
            );
            return self.refuse(option, &why);
        }
        Ok(())
    }

    fn mtls(&self) -> Judged {
        if !self.config.platform_wants_mtls() {
            return Ok(());
        }
        let config = &self.config;
        for (option, variable, path) in [
            ("platform-client-cert-path", "RELAY_SERVER_CLIENT_CERT_PATH", &config.platform_client_cert_path),
            ("platform-client-key-path", "RELAY_SERVER_CLIENT_KEY_PATH", &config.platform_client_key_path),
        ] {
            let Some(path) = path else {
                let why = format!("--platform-mtls needs it: name the file by {variable}, or turn that off");
                return self.refuse(option, &why);
            };
            if !self.is_there(path) {
                let source = self.settings.source(option).clone();
                let why = io::Error::from(io::ErrorKind::NotFound).to_string();
                return Err(ConfigError::Unreadable { option, source, path: path.clone(), why });
            }
        }
        Ok(())
    }

    fn backplane(&self) -> Judged {
        if matches!(self.config.workspace_backplane, Some(Backplane::Server | Backplane::Redis)) {
            return self.refuse(
                "workspace-backplane",
                "this version serves only single, each relay by itself; set RELAY_BACKPLANE_MODE=single",
            );
        }
        Ok(())
    }

    /// A platform or a relay on this machine is not one for other machines.
    fn local_urls(&self) -> Judged {
        if self.config.listens_on_loopback_only() {
            return Ok(());
        }
        let platform = self.config.platform_url.as_ref().map(|url| url.as_str());
        for (option, url) in [
            ("platform-url", platform),
            ("workspace-public-url", self.config.workspace_public_url.as_deref()),
        ] {
            if url.is_some_and(is_local_url) {
                let why = "it is on this machine, but other machines can connect; set HOST=127.0.0.1, or a public URL";
                return self.refuse(option, why);
            }
        }
        Ok(())
    }

    fn prod(&self) -> Judged {
        let config = self.config;
        if config.workspace_tls_termination != TlsTermination::Platform {
            return self.refuse(
                "workspace-tls-termination",
                "in prod mode peers must come by TLS: end it in front and set RELAY_TLS_TERMINATION=platform, or set \
                 HOST=127.0.0.1 where only this machine is to connect",
            );
        }
        let key = config.platform_internal_key.as_ref().map_or("", |key| key.reveal().trim());
        let lower = key.to_lowercase();
        if key.encode_utf16().count() < KEY_LENGTH_MIN || WEAK.iter().any(|word| lower.contains(word)) {
            return self.refuse(
                "platform-internal-key",
                "prod mode needs RELAY_INTERNAL_KEY: 24 characters or more, and none of the examples of a manual",
            );
        }
        match config.platform_auth_mode {
            AuthMode::Mtls if !config.platform_wants_mtls() => self.refuse(
                "platform-auth-mode",
                "in prod mode it needs a client certificate: set RELAY_SERVER_CLIENT_CERT_PATH and \
                 RELAY_SERVER_CLIENT_KEY_PATH, or RELAY_SERVER_AUTH_MODE=private_network_shared_secret",
            ),
            AuthMode::Mtls if config.platform_tls_verify != Verify::On => self.refuse(
                "platform-tls-verify",
                "in prod mode the platform has to prove who it is; set RELAY_SERVER_TLS_VERIFY=1",
            ),
            AuthMode::SharedSecret
                if config.platform_url.as_ref().is_some_and(|url| is_local_url(url.as_str())) =>
            {
                self.refuse(
                    "platform-url",
                    "in prod mode the platform is not on this machine; set SERVER_URL to it",
                )
            }
            AuthMode::Mtls | AuthMode::SharedSecret => Ok(()),
        }
    }

    fn budget(&self) -> Judged {
        if self.config.workspace_max_frame_bytes > self.config.message_budget {
            return self.refuse(
                "workspace-max-frame-bytes",
                "one such message would not fit into --message-budget; raise that",
            );
        }
        Ok(())
    }

    fn refuse(&self, option: &'static str, why: &str) -> Judged {
        let (source, value) = (self.settings.source(option).clone(), self.settings.shown(option));
        Err(ConfigError::Conflict { option, source, value, why: why.to_owned() })
    }

    fn is_there(&self, path: &Path) -> bool {
        !matches!((self.read_file)(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// The certificate and the key that the reference would serve with.
    fn tls_files(&self) -> [PathBuf; 2] {
        let config = self.config;
        let own = || Path::new(self.home.map_or("", String::as_str)).join(".viewport/relay-certs");
        let directory = config.workspace_tls_cert_dir.clone().unwrap_or_else(own);
        let file = |given: &Option<PathBuf>, ending: &str| {
            given.clone().unwrap_or_else(|| directory.join(format!("{}.{ending}", config.workspace_tls_host)))
        };
        [file(&config.workspace_tls_cert_path, "crt"), file(&config.workspace_tls_key_path, "key")]
    }
}

/// In UTF-16 units, as the reference counts.
const KEY_LENGTH_MIN: usize = 24;
/// In lower case.
const WEAK: [&str; 3] = ["change-me", "placeholder", "example"];
