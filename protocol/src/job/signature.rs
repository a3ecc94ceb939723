//! Signatures of host files and of what lies beside images: minisign's, made and checked by that program as well.

use minisign_verify::{Error, PublicKey, Signature};

/// A key whose jobs are done, or whose images are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobKey(PublicKey);

/// The keys that are trusted with that; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobKeys(Vec<JobKey>);

/// Why a signature proves nothing. Each is a part of a sentence about the file that should be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("what lies beside it is no minisign signature: make one with minisign -S")]
    NotASignature,
    #[error(
        "it is signed with another key than those that are trusted here (mkimage --job-key, --image-key; --signed-by)"
    )]
    OtherKey,
    #[error("its signature does not fit: the file or the signature was changed after signing")]
    Altered,
}

/// A text that is no public key of minisign's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no public key of minisign's: give the .pub file of minisign -G or pitstop key new")]
pub struct NotAKey;

impl JobKey {
    /// Reads the `.pub` file that `minisign -G` and `pitstop key new` write, or its second line alone.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAKey> {
        let text = std::str::from_utf8(bytes).map_err(|_| NotAKey)?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let encoded = match lines.as_slice() {
            [key] => key,
            [comment, key] if comment.starts_with("untrusted comment:") => key,
            _ => return Err(NotAKey),
        };
        PublicKey::from_base64(encoded)
            .map(Self)
            .map_err(|_| NotAKey)
    }
}

impl JobKeys {
    /// `None` for no key at all: that would mean no job, or any.
    pub fn new(keys: Vec<JobKey>) -> Option<Self> {
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Whether one of the keys has signed exactly these bytes. Returns the trusted comment, which is signed too.
    ///
    /// # Errors
    /// Why it is not so.
    pub fn verify(&self, file: &[u8], signature: &[u8]) -> Result<String, BadSignature> {
        let text = std::str::from_utf8(signature).map_err(|_| BadSignature::NotASignature)?;
        let signature = Signature::decode(text).map_err(|_| BadSignature::NotASignature)?;
        let mut wrong = BadSignature::OtherKey;
        for JobKey(key) in &self.0 {
            // Of minisign's two forms the older, `minisign -S -l`, signs the bytes themselves: as good for a small file.
            match key.verify(file, &signature, true) {
                Ok(()) => return Ok(plain(signature.trusted_comment())),
                Err(Error::UnexpectedKeyId) => {}
                Err(_) => wrong = BadSignature::Altered,
            }
        }
        Err(wrong)
    }
}

/// For consoles and logs.
fn plain(comment: &str) -> String {
    let space = |c: char| if c.is_control() { ' ' } else { c };
    comment.chars().map(space).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Made by minisign 0.11 on the text FILE:
    //   minisign -G -W -p k.pub -s k.sec; minisign -S -W -s k.sec -m f.toml -t "lab7, restore"; the same with -l
    const KEY: &str = include_str!("signature/key.pub");
    const OTHER: &str = include_str!("signature/other.pub");
    const FILE: &[u8] = include_bytes!("signature/f.toml");
    const SIGNATURE: &str = include_str!("signature/f.toml.minisig");
    const LEGACY: &str = include_str!("signature/f.toml.legacy.minisig");

    fn keys(of: &[&str]) -> JobKeys {
        let keys = of.iter().map(|key| JobKey::parse(key.as_bytes()).unwrap());
        JobKeys::new(keys.collect()).unwrap()
    }

    #[test]
    fn what_minisign_signed_is_signed_in_both_its_forms() {
        for signature in [SIGNATURE, LEGACY] {
            for trusted in [keys(&[KEY]), keys(&[OTHER, KEY])] {
                let comment = trusted.verify(FILE, signature.as_bytes());
                assert_eq!(comment.as_deref(), Ok("lab7, restore"));
            }
            let windows = signature.replace('\n', "\r\n");
            assert!(keys(&[KEY]).verify(FILE, windows.as_bytes()).is_ok());
        }
    }

    #[test]
    fn whatever_was_changed_or_is_anothers_is_not_signed() {
        let trusted = keys(&[KEY]);
        let altered = [FILE, b"\n"].concat();
        let comment = SIGNATURE.replace("lab7, restore", "lab8, restore");
        let bad = |file: &[u8], signature: &[u8]| trusted.verify(file, signature).unwrap_err();
        assert_eq!(bad(&altered, SIGNATURE.as_bytes()), BadSignature::Altered);
        assert_eq!(bad(&altered, LEGACY.as_bytes()), BadSignature::Altered);
        assert_eq!(bad(FILE, comment.as_bytes()), BadSignature::Altered);
        for other in [&b""[..], b"\xff", b"<html>", KEY.as_bytes()] {
            assert_eq!(bad(FILE, other), BadSignature::NotASignature);
        }
        let other = keys(&[OTHER]).verify(FILE, SIGNATURE.as_bytes());
        assert_eq!(other, Err(BadSignature::OtherKey));
    }

    #[test]
    fn a_key_is_a_pub_file_or_its_second_line() {
        let key = JobKey::parse(KEY.as_bytes()).unwrap();
        let bare = KEY.lines().nth(1).unwrap();
        assert_eq!(JobKey::parse(bare.as_bytes()), Ok(key));
        for wrong in ["", "untrusted comment: x\n", SIGNATURE, "ssh-ed25519 AAAA"] {
            assert_eq!(JobKey::parse(wrong.as_bytes()), Err(NotAKey), "{wrong}");
        }
        assert_eq!(JobKeys::new(Vec::new()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(noise in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = JobKey::parse(&noise);
            prop_assert!(keys(&[KEY]).verify(FILE, &noise).is_err());
        }

        #[test]
        fn no_changed_byte_passes(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut file = FILE.to_vec();
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
            prop_assert!(keys(&[KEY]).verify(&file, SIGNATURE.as_bytes()).is_err());
        }

        #[test]
        fn no_changed_signature_passes_for_another_comment(at in any::<prop::sample::Index>(), byte in 32u8..127) {
            let mut signature = SIGNATURE.as_bytes().to_vec();
            let at = at.index(signature.len());
            signature[at] = byte;
            // The untrusted comment is anybody's; all else is signed.
            if let Ok(comment) = keys(&[KEY]).verify(FILE, &signature) {
                prop_assert_eq!(comment, "lab7, restore");
            }
        }
    }
}
