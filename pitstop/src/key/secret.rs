//! A secret key that is open.

use anyhow::{Context, anyhow, bail};
use minisign::{PublicKey, SecretKey, SecretKeyBox};
use std::io::BufRead as _;
use std::path::Path;

/// Where the password of a secret key comes from.
#[derive(clap::Args, Default)]
pub struct Password {
    /// Read the key's password from standard input, its first line; else it is asked for at the terminal
    #[arg(long)]
    pub password_stdin: bool,
}

impl Password {
    /// `None` where it is asked for.
    pub(super) fn read(&self) -> anyhow::Result<Option<String>> {
        if !self.password_stdin {
            return Ok(None);
        }
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .context("reading the key's password from standard input")?;
        let password = line.trim_end_matches(['\n', '\r']);
        if password.is_empty() {
            bail!("standard input has no password in its first line");
        }
        Ok(Some(password.to_owned()))
    }
}

pub struct Secret(SecretKey);

impl Secret {
    /// Opens the file of a secret key. Its password is asked for where it has one.
    ///
    /// # Errors
    /// It cannot be read, is no secret key, or has another password.
    pub fn open(path: &Path, password: &Password) -> anyhow::Result<Self> {
        let doing = || format!("opening the secret key {}", path.display());
        let text = std::fs::read_to_string(path).with_context(doing)?;
        let parse = || SecretKeyBox::from_string(&text);
        let plain = parse().and_then(SecretKeyBox::into_unencrypted_secret_key);
        if let Ok(key) = plain {
            return Ok(Self(key));
        }
        let key = parse().and_then(|key| {
            let password = password.read().map_err(|error| {
                minisign::PError::new(minisign::ErrorKind::Io, format!("{error:#}"))
            })?;
            key.into_secret_key(password)
        });
        // minisign's own words: that the password is wrong, that it is no key.
        key.map(Self)
            .map_err(|error| anyhow!("{error}"))
            .with_context(doing)
    }

    pub fn public(&self) -> anyhow::Result<PublicKey> {
        PublicKey::from_secret_key(&self.0).context("making the public key of a secret one")
    }

    /// minisign's signature of `bytes`, as its file has it. `comment`, one line, is signed too.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> anyhow::Result<String> {
        let signature = minisign::sign(None, &self.0, bytes, Some(comment), None);
        Ok(signature.context("signing")?.into_string())
    }
}
