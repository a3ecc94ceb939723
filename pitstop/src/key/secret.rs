//! A secret key that is open.

use anyhow::{Context, anyhow, bail};
use ct_codecs::{Base64, Decoder as _};
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

/// Bytes of a secret key, and what says in them that no password is before it.
const LENGTH: usize = 158;
const NO_PASSWORD: &[u8] = &[0, 0];

/// A key that nobody has put behind a password; `None` for any other file. `minisign -G -W` leaves the checksum out of such a
/// key, which the library would take for damage.
fn without_password(text: &str) -> Option<SecretKey> {
    let encoded = text.lines().nth(1)?.trim();
    let bytes = Base64::decode_to_vec(encoded, None).ok()?;
    let is_open = bytes.len() == LENGTH && bytes.get(2..4) == Some(NO_PASSWORD);
    is_open
        .then(|| SecretKey::from_bytes(&bytes).ok())
        .flatten()
}

impl Secret {
    /// Opens the file of a secret key. Its password is asked for where it has one.
    ///
    /// # Errors
    /// It cannot be read, is no secret key, or has another password.
    pub fn open(path: &Path, password: &Password) -> anyhow::Result<Self> {
        let doing = || format!("opening the secret key {}", path.display());
        let text = std::fs::read_to_string(path).with_context(doing)?;
        if let Some(key) = without_password(&text) {
            return Ok(Self(key));
        }
        let key = SecretKeyBox::from_string(&text).and_then(|key| {
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
        // With its public half, a key that was damaged is found out here.
        let public = self.public()?;
        let signature = minisign::sign(Some(&public), &self.0, bytes, Some(comment), None);
        Ok(signature.context("signing")?.into_string())
    }
}
