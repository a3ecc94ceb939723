//! The keys of a store: from the environment or a file, in no log.

use anyhow::{Context as _, bail};
use pitstop_protocol::share_url::S3Url;
use rusty_s3::Credentials;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

/// What requests are signed for where nobody says.
const REGION: &str = "us-east-1";

/// The profile of a file where nobody names another.
const PROFILE: &str = "default";

/// Keys of one user of a store.
#[derive(Clone)]
pub struct Keys {
    pub(super) credentials: Credentials,
    region: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    pub fn new(key: &str, secret: &str) -> Self {
        Self {
            credentials: Credentials::new(key, secret),
            region: None,
        }
    }

    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or a profile (`AWS_PROFILE`) of the credentials file
    /// (`AWS_SHARED_CREDENTIALS_FILE`, `~/.aws/credentials`). `None` where there is neither.
    ///
    /// # Errors
    /// The file cannot be read, or has no such profile.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        let credentials = match Credentials::from_env() {
            Some(keys) => Some(keys),
            None => match file_of_environment() {
                Some(file) => from_file_if_there(&file)?,
                None => None,
            },
        };
        Ok(credentials.map(|credentials| Self {
            credentials,
            region: region_of_environment(),
        }))
    }

    /// Those of a file that nobody but its owner reads, in the form of `~/.aws/credentials`; `AWS_PROFILE` names the profile.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or it has no such profile.
    pub fn from_private_file(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let mode = fs::metadata(file)
            .with_context(|| format!("reading the keys in {shown}"))?
            .mode();
        if mode & 0o077 != 0 {
            bail!(
                "{shown} has the keys of a store, and others than its owner may read it (mode {:o}): chmod 600 {shown}",
                mode & 0o777
            );
        }
        let Some(credentials) = from_file_if_there(file)? else {
            bail!("{shown}: there is no such file");
        };
        Ok(Self {
            credentials,
            region: region_of_environment(),
        })
    }

    /// The region of a store that does not tell its own.
    pub(super) fn region<'a>(&'a self, url: &'a S3Url) -> &'a str {
        let told = url.region.as_deref().or(self.region.as_deref());
        told.unwrap_or(REGION)
    }
}

fn region_of_environment() -> Option<String> {
    let told = |name| env::var(name).ok().filter(|region| !region.is_empty());
    told("AWS_REGION").or_else(|| told("AWS_DEFAULT_REGION"))
}

fn file_of_environment() -> Option<PathBuf> {
    env::var_os("AWS_SHARED_CREDENTIALS_FILE").map_or_else(
        || env::home_dir().map(|home| home.join(".aws/credentials")),
        |file| Some(PathBuf::from(file)),
    )
}

fn from_file_if_there(file: &Path) -> anyhow::Result<Option<Credentials>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("reading {}", file.display()))?,
    };
    let profile = env::var("AWS_PROFILE").unwrap_or_else(|_| PROFILE.into());
    keys_of(&text, &profile, file).map(Some)
}

/// The keys of `profile` in the text of a credentials file: `[profile]`, then `name = value` a line.
fn keys_of(text: &str, profile: &str, file: &Path) -> anyhow::Result<Credentials> {
    let mut is_in = false;
    let (mut key, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            is_in = name.trim_end_matches(']').trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_in) {
            let value = Some(value.trim().to_owned());
            match name.trim() {
                "aws_access_key_id" => key = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    match (key, secret, token) {
        (Some(key), Some(secret), Some(token)) => {
            Ok(Credentials::new_with_token(key, secret, token))
        }
        (Some(key), Some(secret), None) => Ok(Credentials::new(key, secret)),
        _ => bail!(
            "{}: the profile {profile:?} has no aws_access_key_id and aws_secret_access_key",
            file.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_those_of_the_profile() {
        let text = "[other]\naws_access_key_id = X\n# mine\n[lab]\naws_access_key_id=A\naws_secret_access_key = b=c\n";
        let file = Path::new("credentials");
        let keys = keys_of(text, "lab", file).unwrap();
        assert_eq!((keys.key(), keys.secret()), ("A", "b=c"));
        let error = keys_of(text, "other", file).unwrap_err().to_string();
        assert!(
            error.contains("credentials: the profile \"other\" has no"),
            "{error}"
        );
    }

    #[test]
    fn keys_that_others_may_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key = s3cret\n";
        fs::write(&file, text).unwrap();
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        let error = Keys::from_private_file(&file).unwrap_err().to_string();
        assert!(error.contains("(mode 640): chmod 600"), "{error}");
        mode(0o600);
        let keys = Keys::from_private_file(&file).unwrap();
        assert_eq!(keys.credentials.key(), "A");
        assert!(!format!("{keys:?}").contains("s3cret"));
        fs::write(&file, "[other]\n").unwrap();
        let error = Keys::from_private_file(&file).unwrap_err().to_string();
        assert!(error.contains("the profile \"default\" has no"), "{error}");
    }
}
