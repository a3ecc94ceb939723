//! Images that age encrypts: for whom a new one is, and with which key one is read.

use super::is_local;
use anyhow::{Context, bail};
use pitstop_age::{Decrypted, Identities, Recipients, is_encrypted};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::encrypted::{SUFFIX, is_named_encrypted};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Who can read a new image.
#[derive(clap::Args)]
pub struct EncryptFor {
    /// Encrypt the image for this key, age1…; may be repeated
    #[arg(long = "recipient", value_name = "KEY")]
    recipients: Vec<String>,
    /// The same, for each key in FILE, one a line; may be repeated
    #[arg(long = "recipients-file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl EncryptFor {
    /// Whether anybody is named.
    pub fn is_asked(&self) -> bool {
        !self.recipients.is_empty() || !self.files.is_empty()
    }

    /// `None` for everybody. `image` is what the new image is called.
    ///
    /// # Errors
    /// A key is none, or the name says something else.
    pub fn recipients(&self, image: &str) -> anyhow::Result<Option<Recipients>> {
        // Each by itself: one that is empty is a variable of a script that nobody has set, and somebody who could not read it.
        for key in &self.recipients {
            Recipients::parse(key).context("--recipient")?;
        }
        let mut text = self.recipients.join("\n");
        for file in &self.files {
            let doing = || format!("--recipients-file {}", file.display());
            let lines = keys_in(file).with_context(doing)?;
            Recipients::parse(&lines).with_context(doing)?;
            text = format!("{text}\n{lines}");
        }
        let is_stream = is_local(image) && Path::new(image).starts_with("/dev");
        match (self.is_asked(), is_named_encrypted(image)) {
            (true, false) if !is_stream => bail!(
                "{image} is to be encrypted: its name has to end in {SUFFIX}, so that nobody takes it for a plain image"
            ),
            (false, true) => bail!(
                "{image} ends in {SUFFIX}, and nobody is named who can read it: --recipient age1…, the public key that \
                 age-keygen tells"
            ),
            (true, _) => Ok(Some(Recipients::parse(&text)?)),
            (false, false) => Ok(None),
        }
    }
}

/// No file of keys is larger.
const MOST_OF_KEYS: u64 = 1 << 20;

/// The lines of a file of keys. A disk that was named in its place is not read to its end.
fn keys_in(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut file = File::open(file)?.take(MOST_OF_KEYS + 1);
    if file.read_to_string(&mut text)? as u64 > MOST_OF_KEYS {
        bail!("it has more than {MOST_OF_KEYS} bytes: that is no file of keys");
    }
    Ok(text)
}

/// With which key an image is read.
#[derive(clap::Args)]
pub struct ReadWith {
    /// Read an image that is encrypted by age with this key: a file of age-keygen's; may be repeated
    #[arg(long = "identity", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl ReadWith {
    /// What is in `source`: itself, unless it is encrypted.
    ///
    /// # Errors
    /// It is encrypted, and not for a key that was given; or only its name says that it is.
    pub fn open(&self, source: Box<dyn ImageSource>) -> anyhow::Result<Box<dyn ImageSource>> {
        unlocked(source, &self.files, "--identity")
    }
}

pub fn is_locked(source: &dyn ImageSource) -> anyhow::Result<bool> {
    is_encrypted(source).with_context(|| format!("reading the beginning of {}", source.name()))
}

/// What is in `source`, read with the keys in `files`, which the option `named` has.
///
/// # Errors
/// It is encrypted, and not for one of them; or only its name says that it is.
pub fn unlocked(
    source: Box<dyn ImageSource>,
    files: &[PathBuf],
    named: &str,
) -> anyhow::Result<Box<dyn ImageSource>> {
    if !is_locked(&*source)? {
        if is_named_encrypted(source.name()) {
            bail!(
                "{} is not encrypted by age, whatever its name says",
                source.name()
            );
        }
        return Ok(source);
    }
    let mut text = String::new();
    for file in files {
        let doing = || format!("{named} {}", file.display());
        let lines = keys_in(file).with_context(doing)?;
        Identities::parse(&lines).with_context(doing)?;
        text = format!("{text}\n{lines}");
    }
    let Ok(identities) = Identities::parse(&text) else {
        bail!(
            "{} is encrypted by age: say {named} FILE, the file of age-keygen's that has the secret key",
            source.name()
        );
    };
    Ok(Box::new(Decrypted::open(source, &identities)?))
}
