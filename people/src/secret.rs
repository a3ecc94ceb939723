//! Secrets that programs carry: tokens and sessions. 256 random bits each, so that a plain hash is enough to keep them by.

use std::fmt::{self, Write as _};

const BYTES: usize = 32;
/// Of a token's name, which is no secret.
const NAME_BYTES: usize = 4;
/// What a token begins with: who finds one in a file or a log sees what it is.
const PREFIX: &str = "pitstop_";
/// What a CSRF token is derived for.
const CSRF: &str = "pitstop 2026 CSRF token of a session";

/// There is no randomness to be had.
#[derive(Debug, thiserror::Error)]
#[error("asking the kernel for random bytes: {0}")]
pub struct NoRandomness(String);

fn random<const N: usize>() -> Result<String, NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| NoRandomness(error.to_string()))?;
    let mut text = String::with_capacity(2 * N);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

fn is_hex(text: &str, digits: usize) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == digits && text.bytes().all(hex)
}

/// A secret. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// No randomness.
    pub fn new() -> Result<Self, NoRandomness> {
        random::<BYTES>().map(Self)
    }

    /// Reads what a client sent; `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        is_hex(text, 2 * BYTES).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is kept by.
    pub fn hash(&self) -> String {
        blake3::hash(self.0.as_bytes()).to_hex().to_string()
    }

    /// Whether it is the secret of this hash. Hashes are compared in constant time.
    pub fn is_of(&self, hash: &str) -> bool {
        blake3::Hash::from_hex(hash).is_ok_and(|hash| hash == blake3::hash(self.0.as_bytes()))
    }

    /// What requests of this session that change something have to show.
    pub fn csrf(&self) -> Csrf {
        Csrf(blake3::Hash::from_bytes(blake3::derive_key(
            CSRF,
            self.0.as_bytes(),
        )))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Shows that a request was made by a page of this server: another site cannot read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Csrf(blake3::Hash);

impl Csrf {
    /// Whether `text` is it, in constant time.
    pub fn is(&self, text: &str) -> bool {
        blake3::Hash::from_hex(text).is_ok_and(|shown| shown == self.0)
    }
}

impl fmt::Display for Csrf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for Csrf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Csrf")
    }
}

/// A token as it is shown, once: `pitstop_NAME_SECRET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What it is listed and revoked by.
    pub name: String,
    pub secret: Secret,
}

impl NewToken {
    /// A new one.
    ///
    /// # Errors
    /// No randomness.
    pub fn new() -> Result<Self, NoRandomness> {
        Ok(Self {
            name: random::<NAME_BYTES>()?,
            secret: Secret::new()?,
        })
    }

    /// Reads what a client sent; `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        Some(Self {
            name: is_hex(name, 2 * NAME_BYTES).then(|| name.to_owned())?,
            secret: Secret::parse(secret)?,
        })
    }

    /// As its owner keeps it.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}_{}", self.name, self.secret.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_read_back_and_show_nothing() {
        let token = NewToken::new().unwrap();
        let text = token.text();
        assert_eq!(NewToken::parse(&text), Some(token.clone()));
        assert!(token.secret.is_of(&token.secret.hash()));
        assert!(!Secret::new().unwrap().is_of(&token.secret.hash()));
        assert!(!token.secret.is_of("nonsense"));
        let shown = format!("{token:?} {:?}", token.secret.csrf());
        assert!(!shown.contains(token.secret.as_str()), "{shown}");
        for wrong in [
            text.to_uppercase(),
            text.replace("pitstop", "other"),
            format!("{text}0"),
            text[..text.len() - 1].to_owned(),
            String::new(),
        ] {
            assert_eq!(NewToken::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_csrf_token_is_of_one_session() {
        let (one, two) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert!(one.csrf().is(&one.csrf().to_string()));
        assert!(!one.csrf().is(&two.csrf().to_string()));
        assert!(!one.csrf().is(one.as_str()) && !one.csrf().is(""));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,120}", near in "pitstop_[0-9a-f]{7,9}_[0-9a-f]{62,66}") {
            for text in [&text, &near] {
                if let Some(token) = NewToken::parse(text) {
                    prop_assert_eq!(&token.text(), text);
                }
                if let Some(secret) = Secret::parse(text) {
                    prop_assert_eq!(secret.as_str(), text);
                }
            }
        }
    }
}
