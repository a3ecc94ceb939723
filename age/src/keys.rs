//! Keys as age writes them: `age1…` is public, `AGE-SECRET-KEY-1…` is secret.

use crate::bech32::decode;
use crate::crypto::{KEY, Secret, public};
use std::fmt;
use zeroize::Zeroizing;

const RECIPIENT: &str = "age";
const IDENTITY: &str = "age-secret-key-";

/// Whom a file is for; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipients(pub(crate) Vec<[u8; KEY]>);

/// Who can read a file; at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Identities(pub(crate) Vec<Identity>);

/// A secret key, and its public half.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) secret: Secret,
    pub(crate) public: [u8; KEY],
}

/// A line that is no key. A secret one is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    #[error(
        "line {0} is no public key of age's: it begins with age1 (age-keygen -y KEY.txt shows it)"
    )]
    Recipient(usize),
    #[error(
        "line {0} is no secret key of age's: it begins with AGE-SECRET-KEY-1 (age-keygen makes one)"
    )]
    Identity(usize),
    #[error("there is no key in it")]
    None,
}

/// The lines that are meant, each with its number.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(text.lines().map(str::trim));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn key(line: &str, prefix: &str) -> Option<Secret> {
    let bytes = decode(line, prefix)?;
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

impl Recipients {
    /// Reads `age1…` keys, one a line; `#` begins a line that is passed over.
    ///
    /// # Errors
    /// Names the line that is none.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let keys: Result<Vec<_>, _> = lines(text)
            .map(|(number, line)| {
                let key = key(line, RECIPIENT).ok_or(NotAKey::Recipient(number))?;
                Ok(*key)
            })
            .collect();
        let keys = keys?;
        if keys.is_empty() {
            return Err(NotAKey::None);
        }
        Ok(Self(keys))
    }
}

impl Identities {
    /// Reads what `age-keygen` writes.
    ///
    /// # Errors
    /// Names the line that is no key.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let keys: Result<Vec<_>, _> = lines(text)
            .map(|(number, line)| {
                let secret = key(line, IDENTITY).ok_or(NotAKey::Identity(number))?;
                let public = public(&secret);
                Ok(Identity { secret, public })
            })
            .collect();
        let keys = keys?;
        if keys.is_empty() {
            return Err(NotAKey::None);
        }
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_keys_are_read_and_what_is_none_is_named_by_its_line() {
        let one = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        let two = Recipients::parse(&format!("# lab\n{one}\r\n\n {one} \n")).unwrap();
        assert_eq!(two.0.len(), 2);
        let wrong = format!("{one}\nssh-ed25519 AAAA");
        assert_eq!(Recipients::parse(&wrong), Err(NotAKey::Recipient(2)));
        assert_eq!(Recipients::parse("# none\n"), Err(NotAKey::None));
        assert_eq!(Identities::parse(one), Err(NotAKey::Identity(1)));
        assert_eq!(Identities::parse(""), Err(NotAKey::None));
    }
}
