//! The SSH host key of this boot. It is made before the run begins, so that the run can tell its public half to the server:
//! whoever logs in later knows whom he talks to.

use anyhow::{Context, anyhow};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Where dropbear gets it.
pub const FILE: &str = "/etc/dropbear/dropbear_ed25519_host_key";

const KIND: &str = "ssh-ed25519";

/// Makes a key, and returns its public half as `known_hosts` has it: `ssh-ed25519 AAAA…`.
///
/// # Errors
/// The kernel gives no random numbers; the file cannot be written.
pub fn make() -> anyhow::Result<String> {
    make_at(Path::new(FILE))
}

fn make_at(path: &Path) -> anyhow::Result<String> {
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| anyhow!("the kernel gives no random numbers for an SSH host key"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|error| anyhow!("making an SSH host key: {error}"))?;
    let public = pair.public_key().as_ref();
    let doing = || format!("writing the SSH host key {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).with_context(doing)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(&private(&seed, public)))
        .with_context(doing)?;
    Ok(format!("{KIND} {}", base64(&blob(public))))
}

/// dropbear's own form: the kind, then both halves in one string (RFC 4251 5).
fn private(seed: &[u8], public: &[u8]) -> Vec<u8> {
    let mut bytes = string(KIND.as_bytes());
    bytes.extend(string(&[seed, public].concat()));
    bytes
}

/// RFC 8709 4.
fn blob(public: &[u8]) -> Vec<u8> {
    let mut bytes = string(KIND.as_bytes());
    bytes.extend(string(public));
    bytes
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

/// RFC 4648 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three
            .iter()
            .chain(&[0; 3])
            .take(3)
            .fold(0, |word, byte| (word << 8) | usize::from(*byte));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) & 63];
            text.push(if at <= three.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn texts_of_every_length_are_as_rfc_4648_has_them() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xfb\xff\xff", "+///"),
        ] {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn dropbear_reads_the_key_and_tells_the_same_public_half() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/key");
        let told = make_at(&path).unwrap();
        let mut dropbearkey = Command::new("dropbearkey");
        let output = dropbearkey.arg("-y").arg("-f").arg(&path).output();
        let output = output.expect("the package dropbear-bin is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        let line = text.lines().find(|line| line.starts_with(KIND)).unwrap();
        let words: Vec<&str> = line.split(' ').take(2).collect();
        assert_eq!(words.join(" "), told);
        assert_ne!(make_at(&path).unwrap(), told, "each boot has its own");
    }
}
