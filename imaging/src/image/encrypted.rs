//! Files that are encrypted by age, told by how they begin. What is in them is not known here: who has the key hands it over
//! as an image source of its own.

/// How a file of any version begins.
pub const INTRO: &[u8] = b"age-encryption.org/";
/// How one begins that is armored, for mail.
pub const ARMOR: &[u8] = b"-----BEGIN AGE ENCRY";
/// As many bytes tell.
pub const LENGTH: usize = ARMOR.len();

/// How names of encrypted files end.
pub const SUFFIX: &str = ".age";

/// What of a name is a path: of a URL what stands before its `?`. A path may have that sign as any other.
pub(super) fn path_of(name: &str) -> &str {
    if name.contains("://") {
        name.split('?').next().unwrap_or(name)
    } else {
        name
    }
}

/// Whether a path or a URL says that the file is encrypted.
pub fn is_named_encrypted(name: &str) -> bool {
    path_of(name).ends_with(SUFFIX)
}

/// Whether a file that begins like this is age's.
pub fn is_encrypted(start: &[u8]) -> bool {
    start.starts_with(INTRO) || start.starts_with(ARMOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_that_a_file_is_encrypted_by_its_end() {
        for name in [
            "sda.raw.gz.age",
            "/a?b/sda.gz.age",
            "http://server/sda.raw.gz.age?X-Amz-Signature=1",
            "s3://bucket/sda.raw.gz.age?endpoint=http://127.0.0.1:9000",
        ] {
            assert!(is_named_encrypted(name), "{name}");
        }
        for name in [
            "sda.raw.gz",
            "sda.age.gz",
            "/a/sda.gz.age?x",
            "http://server/sda.raw.gz?a=b.age",
        ] {
            assert!(!is_named_encrypted(name), "{name}");
        }
    }
}
