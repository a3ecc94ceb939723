//! How often the present job has been begun without success. Kept on the share, because nothing on the
//! machine may outlive a wiped disk.
//!
//! The count goes up before the work begins, so that a machine that crashes or loses power counts too.

use anyhow::{Context, bail};
use pitstop_transport::share::Share;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// In the machine's folder on the share.
pub const FILE: &str = "attempts.toml";

/// Far more than the file ever holds.
const MOST_BYTES: u64 = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    /// Of the job as it was written: another job begins anew.
    digest: String,
    begun: u32,
}

/// How often the job with this digest was begun and did not succeed; 0 for any other job.
///
/// # Errors
/// When the share cannot be read. A file that is no count (cut off, edited) counts as none: it must
/// not keep a machine from its work.
pub fn begun(share: &dyn Share, folder: &str, digest: &str) -> anyhow::Result<u32> {
    let path = path(folder);
    if share.stat(&path)?.is_none() {
        return Ok(0);
    }
    let mut text = String::new();
    let readable = share
        .open(&path)?
        .take(MOST_BYTES)
        .read_to_string(&mut text);
    match readable {
        Err(error) if error.kind() != std::io::ErrorKind::InvalidData => {
            Err(error).with_context(|| format!("reading {path} on {}", share.name()))
        }
        _ => Ok(parse(&text)
            .filter(|count| count.digest == digest)
            .map_or(0, |count| count.begun)),
    }
}

fn parse(text: &str) -> Option<Count> {
    toml::from_str(text).ok()
}

/// Writes that the job is begun for the `attempt`th time.
pub fn begin(share: &dyn Share, folder: &str, digest: &str, attempt: u32) -> anyhow::Result<()> {
    if attempt == 0 {
        bail!("attempts are counted from 1");
    }
    let text = toml::to_string(&Count {
        digest: digest.to_owned(),
        begun: attempt,
    })
    .context("putting the attempts into TOML")?;
    let path = path(folder);
    put(share, &path, text.as_bytes())
}

/// Forgets the count: the job is done, or the machine holds and a person decides.
pub fn clear(share: &dyn Share, folder: &str) -> anyhow::Result<()> {
    let path = path(folder);
    share
        .remove(&path)
        .with_context(|| format!("removing {path} on {}", share.name()))
}

/// Writes a small file in one go.
pub(crate) fn put(share: &dyn Share, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let doing = || format!("writing {path} on {}", share.name());
    let mut file = share.create(path).with_context(doing)?;
    file.write_all(bytes).with_context(doing)?;
    file.finish().with_context(doing)
}

fn path(folder: &str) -> String {
    format!("{folder}/{FILE}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_transport::share::DirectoryShare;

    #[test]
    fn the_count_belongs_to_one_job_and_goes_when_cleared() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        assert_eq!(begun(&share, "m", "job-a").unwrap(), 0);
        begin(&share, "m", "job-a", 2).unwrap();
        assert_eq!(begun(&share, "m", "job-a").unwrap(), 2);
        assert_eq!(begun(&share, "m", "job-b").unwrap(), 0);
        clear(&share, "m").unwrap();
        clear(&share, "m").unwrap();
        assert_eq!(begun(&share, "m", "job-a").unwrap(), 0);
    }

    #[test]
    fn a_spoilt_count_is_no_count() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        for spoilt in [
            &b"begun = "[..],
            b"\xff\xfe",
            b"digest = 'job-a'\nbegun = -1\n",
        ] {
            put(&share, "m/attempts.toml", spoilt).unwrap();
            assert_eq!(begun(&share, "m", "job-a").unwrap(), 0);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
