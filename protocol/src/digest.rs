//! BLAKE3 of something, as people write it: `blake3:` and 64 hex digits.

use std::fmt::{self, Write as _};
use std::str::FromStr;

/// What stands before the digits.
const PREFIX: &str = "blake3:";

/// BLAKE3 of the index of an image (its footer tells it), or of the bytes of any other file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of the bytes of a small file.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

/// Below this, a server has images by their digests: `images/blake3/HEX/NAME`.
pub const BY_DIGEST: &str = "images/blake3";

/// Where a server has the image with this digest; its `name` is for people, and for programs that go by endings.
pub fn image_path(digest: Digest, name: &str) -> String {
    let digits = digest.to_string();
    let digits = digits.strip_prefix(PREFIX).unwrap_or(&digits);
    format!("{BY_DIGEST}/{digits}/{name}")
}

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a digest: write \"blake3:\" and 64 hex digits, as pitstop inspect shows them")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let digits = text.strip_prefix(PREFIX).ok_or(NotADigest)?;
        // The parser itself takes 64 bytes of anything for text.
        let is_hex = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex {
            return Err(NotADigest);
        }
        let hash = blake3::Hash::from_hex(digits).map_err(|_| NotADigest)?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = PREFIX.to_owned();
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_and_nothing_else_is_one() {
        let digest = Digest::of(b"x");
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.len(), PREFIX.len() + 64);
        for other in [
            text.trim_start_matches(PREFIX),
            &text[..70],
            &format!("{text}0"),
            &text.replace("blake3", "sha256"),
            &format!("{PREFIX}{}", "g".repeat(64)),
            &format!("{PREFIX}{}", "é".repeat(32)),
            "",
        ] {
            assert_eq!(other.parse::<Digest>(), Err(NotADigest), "{other}");
        }
    }
}
