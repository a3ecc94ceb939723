//! Passwords: argon2id with its own salt each, as RFC 9106 and its successors have it.

use anyhow::{anyhow, bail};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use std::sync::OnceLock;

/// Bytes, at most: nobody types more, and hashing it costs time.
const LONGEST: usize = 1024;
const SALT: usize = 16;

/// Hashes a password. The text has the parameters and the salt in it.
///
/// # Errors
/// An empty password, one that is too long, no randomness.
pub fn hash(password: &str) -> anyhow::Result<String> {
    if password.is_empty() {
        bail!("the password is empty");
    }
    if password.len() > LONGEST {
        bail!("the password has more than {LONGEST} bytes");
    }
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|error| anyhow!("making a salt: {error}"))?;
    let failed = |error| anyhow!("hashing the password: {error}");
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(failed)?.to_string())
}

/// Whether `password` is the one of `hash`. Without a hash it takes as long, and the answer is no.
pub fn verify(hash: Option<&str>, password: &str) -> bool {
    let known = hash.is_some();
    let text = match hash {
        Some(hash) => hash,
        None => nobodys(),
    };
    let long = password.len() > LONGEST;
    let password = if long { "" } else { password };
    let right = PasswordHash::new(text).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    });
    right && known && !long
}

/// The hash of a password that nobody knows: who guesses names learns nothing from the time that an answer takes.
fn nobodys() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let made = crate::secret::Secret::new()
            .map_err(anyhow::Error::from)
            .and_then(|secret| hash(secret.as_str()));
        // Without randomness nobody can log in anyway: the time of this answer tells nothing that matters.
        made.unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_its_own_and_salted() {
        let (one, two) = (hash("pw").unwrap(), hash("pw").unwrap());
        assert!(one.starts_with("$argon2id$v=19$m="), "{one}");
        assert_ne!(one, two);
        assert!(verify(Some(&one), "pw") && verify(Some(&two), "pw"));
        for wrong in ["", "pW", "pw ", &"p".repeat(5000)] {
            assert!(!verify(Some(&one), wrong), "{wrong}");
        }
        assert!(!verify(Some("no hash"), "pw"));
        assert!(!verify(None, "pw"));
        assert!(hash("").is_err() && hash(&"p".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn a_name_that_is_not_there_costs_the_same_work() {
        let work = |text: &str| {
            let hash = PasswordHash::new(text).unwrap();
            let output = hash.hash.map(|output| output.len());
            (hash.algorithm.to_string(), hash.params.to_string(), output)
        };
        let known = hash("pw").unwrap();
        assert_eq!(work(&known), work(nobodys()));
    }
}
