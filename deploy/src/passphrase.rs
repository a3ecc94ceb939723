//! The passphrase that opens what a layout encrypts. It is shown nowhere: programs get it on their standard input.

use anyhow::{Context, bail, ensure};
use pitstop_imaging::image::ImageSource;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// What cryptsetup reads from a keyboard at the most, bytes (`MAX_TTY_PASSWORD_LEN`).
const MOST: usize = 512;
/// With the end of its line.
const MOST_OF_FILE: usize = MOST + 2;

/// One line, as somebody types it.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// The one in a file that nobody else may read.
    ///
    /// # Errors
    /// When others may read it, or there is no passphrase in it. Nothing of it is in the error.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let reading = || format!("reading {shown}");
        let file = File::open(path).with_context(reading)?;
        let mode = file.metadata().with_context(reading)?.mode();
        if mode & 0o077 != 0 {
            bail!(
                "{shown} has a passphrase, and others than its owner may read it (mode {:o}): chmod 600 {shown}",
                mode & 0o777
            );
        }
        // With its room from the beginning: what is moved leaves a copy.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MOST_OF_FILE));
        file.take(MOST_OF_FILE as u64 + 1)
            .read_to_end(&mut bytes)
            .with_context(reading)?;
        Self::parse(&bytes).with_context(|| shown.to_string())
    }

    /// The one in a file on a share.
    ///
    /// # Errors
    /// When it cannot be read, or there is no passphrase in it. Nothing of it is in the error.
    pub fn of_image(image: &dyn ImageSource) -> anyhow::Result<Self> {
        let size = image.size().min(MOST_OF_FILE as u64 + 1);
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(size)?]);
        image.read_exact_at(&mut bytes, 0)?;
        Self::parse(&bytes)
    }

    /// The end of its line is no part of it.
    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        ensure!(!line.is_empty(), "there is no passphrase in it");
        if line.contains(&b'\n') {
            bail!("it has several lines, and a passphrase is one");
        }
        ensure!(
            line.len() <= MOST,
            "its line is longer than the {MOST} bytes that can be typed when the system starts"
        );
        ensure!(
            !line.iter().any(u8::is_ascii_control),
            "it has characters that cannot be typed when the system starts: it is no passphrase"
        );
        Ok(Self(Zeroizing::new(line.to_vec())))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::image::FileSource;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_passphrase_is_one_line_and_shown_nowhere() {
        let read = |bytes: &[u8]| Passphrase::parse(bytes);
        for text in [&b"two words"[..], b"two words\n", b"two words\r\n"] {
            assert_eq!(read(text).unwrap().bytes(), b"two words");
        }
        assert_eq!(read(" \u{e4} \n".as_bytes()).unwrap().bytes().len(), 4);
        assert_eq!(format!("{:?}", read(b"secret").unwrap()), "Passphrase");
        read(&[b'x'; MOST]).unwrap();
        for (bytes, why) in [
            (&b""[..], "no passphrase in it"),
            (b"\n", "no passphrase in it"),
            (b"secret\n\n", "several lines"),
            (b"secret\nmore\n", "several lines"),
            (b"secret\0", "cannot be typed"),
            (&[b'x'; MOST + 1], "longer than the 512 bytes"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(
                error.contains(why) && !error.contains("secret"),
                "{bytes:?}: {error}"
            );
        }
    }

    #[test]
    fn a_file_that_others_may_read_has_no_passphrase() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "two words\n").unwrap();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), mode).unwrap();
        };
        mode(0o640);
        let error = Passphrase::open(file.path()).unwrap_err().to_string();
        assert!(error.contains("(mode 640): chmod 600 "), "{error}");
        mode(0o600);
        assert_eq!(Passphrase::open(file.path()).unwrap().bytes(), b"two words");
        let source = FileSource::open(file.path()).unwrap();
        assert_eq!(Passphrase::of_image(&source).unwrap().bytes(), b"two words");
        std::fs::write(file.path(), [b'x'; 9000]).unwrap();
        let error = Passphrase::open(file.path()).unwrap_err();
        assert!(format!("{error:#}").contains("longer than the 512 bytes"));
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_read(bytes in proptest::collection::vec(0u8.., 0..600)) {
            if let Ok(read) = Passphrase::parse(&bytes) {
                proptest::prop_assert!(bytes.starts_with(read.bytes()));
            }
        }
    }
}
