//! TLS towards the platform (workspace.md section 4.5): whom to trust and who to be.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, SecretDocument};
use reqwest::{Certificate, ClientBuilder, Identity, Url};

use super::outbound::reasons;
use crate::secret::Secret;

/// What the operator chose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// `RELAY_SERVER_TLS_VERIFY`.
    pub verify: Verify,
    /// `RELAY_SERVER_CA_CERT_PATH`: replaces the machine's own trust store.
    pub ca: Option<PathBuf>,
    /// Who the relay is, where the platform asks for a certificate.
    pub identity: Option<IdentityFiles>,
}

/// Whether the platform has to prove who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Unless it is a name for development: `localhost`, or one that ends in `.test`.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// A client certificate, as files of PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityFiles {
    /// The certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// What the key is encrypted with.
    pub passphrase: Option<Secret>,
}

impl Verify {
    /// Whether a host has to prove who it is.
    pub fn holds_for(self, host: &str) -> bool {
        match self {
            Verify::Auto => host != "localhost" && !host.ends_with(".test"),
            Verify::On => true,
            Verify::Off => false,
        }
    }
}

impl TlsConfig {
    /// The files to be watched.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|files| [&files.cert, &files.key]);
        self.ca.iter().chain(identity).cloned().collect()
    }

    /// What a failure has to do with, and what may help.
    pub(super) fn explain(&self, error: &str) -> String {
        match self.files().as_slice() {
            [] => format!(
                "{error} (certificates that this machine trusts: install them, or name the platform's authority by \
                 RELAY_SERVER_CA_CERT_PATH)"
            ),
            files => {
                let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                format!("{}: {error}", files.join(", "))
            }
        }
    }

    /// Sets a client for `url` up. Errors name the file and what is wrong with it.
    pub(super) fn apply(&self, url: &Url, builder: ClientBuilder) -> Result<ClientBuilder, String> {
        // Every client needs it, whether or not it will speak TLS. Whoever was first, it is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if url.scheme() != "https" {
            // Nothing is asked of a trust store that may not be there.
            return Ok(builder.tls_certs_only([]));
        }
        let mut builder = match &self.ca {
            Some(path) => builder.tls_certs_only(authorities(path)?),
            None => builder,
        };
        if !self.verify.holds_for(url.host_str().unwrap_or_default()) {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        Ok(match &self.identity {
            Some(files) => builder.identity(files.read()?),
            None => builder,
        })
    }
}

impl IdentityFiles {
    fn read(&self) -> Result<Identity, String> {
        let mut pem = read(&self.cert)?;
        pem.push(b'\n');
        pem.extend(self.key()?);
        Identity::from_pem(&pem).map_err(|error| {
            let (cert, key) = (self.cert.display(), self.key.display());
            format!("certificate {cert} with key {key}: {}", reasons(&error))
        })
    }

    /// The key's file as PEM that is not encrypted.
    fn key(&self) -> Result<Vec<u8>, String> {
        let wrong = |why: &str| format!("key {}: {why}", self.key.display());
        let pem = read(&self.key)?;
        let text = String::from_utf8_lossy(&pem);
        if text.contains(OLD_ENCRYPTION) {
            return Err(wrong("its encryption is not supported; `openssl pkcs8 -topk8` writes one that is"));
        }
        let block = text.split_once(ENCRYPTED_BEGIN).and_then(|(_, rest)| rest.split_once(ENCRYPTED_END));
        let Some((inner, _)) = block else { return Ok(pem) };
        let passphrase =
            self.passphrase.as_ref().ok_or_else(|| wrong("it is encrypted; set its passphrase"))?;
        decrypt(&format!("{ENCRYPTED_BEGIN}{inner}{ENCRYPTED_END}\n"), passphrase)
            .ok_or_else(|| wrong("it cannot be decrypted with the passphrase that is set"))
    }
}

fn decrypt(pem: &str, passphrase: &Secret) -> Option<Vec<u8>> {
    let (_, document) = SecretDocument::from_pem(pem).ok()?;
    let encrypted = EncryptedPrivateKeyInfo::try_from(document.as_bytes()).ok()?;
    let key = encrypted.decrypt(passphrase.reveal()).ok()?;
    Some(key.to_pem("PRIVATE KEY", LineEnding::LF).ok()?.as_bytes().to_vec())
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let wrong = |why: &str| format!("certificates of authorities {}: {why}", path.display());
    let found = Certificate::from_pem_bundle(&read(path)?).map_err(|error| wrong(&reasons(&error)))?;
    if found.is_empty() { Err(wrong("there is none in it")) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("file {}: {error}", path.display()))
}

const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// What stands inside a key that is encrypted as OpenSSL did it before PKCS #8.
const OLD_ENCRYPTION: &str = "Proc-Type: 4,ENCRYPTED";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_development_need_not_prove_themselves_unless_told_to() {
        for (host, proven) in [
            ("localhost", false),
            ("api.viewport.test", false),
            ("test", true),
            ("api.test.example", true),
            ("localhost.example", true),
            ("127.0.0.1", true),
        ] {
            assert_eq!(Verify::Auto.holds_for(host), proven, "{host}");
            assert!(Verify::On.holds_for(host) && !Verify::Off.holds_for(host));
        }
    }
}
