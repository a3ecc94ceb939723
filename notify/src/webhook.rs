//! A webhook: the notice as JSON, or as a template makes it, by POST.

use crate::notice::Notice;
use crate::receiver::Undelivered;
use crate::roots;
use crate::template::Template;
use anyhow::Context;
use reqwest::blocking::Client;
use reqwest::{StatusCode, Url};
use ring::hmac;
use rustls::{ClientConfig, RootCertStore};
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a receiver may take in all: nobody waits for it but its own queue.
const PATIENCE: Duration = Duration::from_secs(20);
/// Headers of our own.
pub const ID: &str = "x-pitstop-id";
pub const EVENT: &str = "x-pitstop-event";
/// `sha256=` and the HMAC-SHA256 of the body in hexadecimal, as GitHub's webhooks have it.
pub const SIGNATURE: &str = "x-pitstop-signature";

pub struct Webhook {
    url: Url,
    client: Client,
    /// Read anew each time: secrets are changed while a server runs.
    secret_file: Option<PathBuf>,
    body: Option<Template>,
    content_type: String,
}

impl fmt::Debug for Webhook {
    /// The URL may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

impl Webhook {
    pub fn new(
        url: Url,
        secret_file: Option<PathBuf>,
        body: Option<Template>,
        content_type: Option<String>,
        ca_file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots::load(ca_file)?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("setting up TLS")?
            .with_root_certificates(store)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("pitstop/", env!("CARGO_PKG_VERSION")))
            .timeout(PATIENCE)
            // A notice is for whom the admin named.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("setting up HTTP")?;
        let webhook = Self {
            url,
            client,
            secret_file,
            body,
            content_type: content_type.unwrap_or_else(|| "application/json".into()),
        };
        reqwest::header::HeaderValue::from_str(&webhook.content_type)
            .with_context(|| format!("content-type: {:?}", webhook.content_type))?;
        webhook.secret()?;
        Ok(webhook)
    }

    fn secret(&self) -> anyhow::Result<Option<hmac::Key>> {
        let Some(path) = &self.secret_file else {
            return Ok(None);
        };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let secret = text.trim_end_matches(['\r', '\n']);
        anyhow::ensure!(!secret.is_empty(), "{} is empty", path.display());
        Ok(Some(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
    }

    pub fn deliver(&self, notice: &Notice) -> Result<(), Undelivered> {
        let body = match &self.body {
            Some(template) => template.render(notice).map_err(Undelivered::Lasting)?,
            None => serde_json::to_string(notice)
                .map_err(|error| Undelivered::Lasting(error.to_string()))?,
        };
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", &self.content_type)
            .header(ID, notice.id.as_str())
            .header(EVENT, notice.event.to_string());
        let secret = self.secret();
        // The file may come back.
        let secret = secret.map_err(|error| Undelivered::Passing(format!("{error:#}")))?;
        if let Some(key) = secret {
            request = request.header(SIGNATURE, signature(&key, body.as_bytes()));
        }
        let answer = request.body(body).send();
        let status = match answer {
            Ok(answer) => answer.status(),
            Err(error) => return Err(Undelivered::Passing(chain(&error.without_url()))),
        };
        if status.is_success() {
            return Ok(());
        }
        let told = format!("it answered {status}");
        let again = status.is_server_error()
            || matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            );
        Err(if again {
            Undelivered::Passing(told)
        } else {
            Undelivered::Lasting(told)
        })
    }
}

fn signature(key: &hmac::Key, body: &[u8]) -> String {
    let mut text = String::from("sha256=");
    for byte in hmac::sign(key, body).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An error with its causes, which say more than it does.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_others_make() {
        // RFC 4231 4.3.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        assert_eq!(
            signature(&key, b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
