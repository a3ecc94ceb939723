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
    /// Names the tries from the first to the end: the same job, set again later, has other ones. Older versions wrote
    /// none.
    #[serde(default)]
    series: String,
}

/// How often the job with this digest was begun and did not succeed, and what names these tries; 0 and nothing for any
/// other job.
///
/// # Errors
/// When the share cannot be read. A file that is no count (cut off, edited) counts as none: it must
/// not keep a machine from its work.
pub fn begun(share: &dyn Share, folder: &str, digest: &str) -> anyhow::Result<(u32, String)> {
    let path = path(folder);
    if share.stat(&path)?.is_none() {
        return Ok((0, String::new()));
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
            .map(|count| (count.begun, count.series))
            .unwrap_or_default()),
    }
}

fn parse(text: &str) -> Option<Count> {
    toml::from_str(text).ok()
}

/// Writes that the job is begun for the `attempt`th time of a `series`.
pub fn begin(
    share: &dyn Share,
    folder: &str,
    digest: &str,
    attempt: u32,
    series: &str,
) -> anyhow::Result<()> {
    if attempt == 0 {
        bail!("attempts are counted from 1");
    }
    let text = toml::to_string(&Count {
        digest: digest.to_owned(),
        begun: attempt,
        series: series.to_owned(),
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

    fn none() -> (u32, String) {
        (0, String::new())
    }

    #[test]
    fn the_count_belongs_to_one_job_and_goes_when_cleared() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        assert_eq!(begun(&share, "m", "job-a").unwrap(), none());
        begin(&share, "m", "job-a", 2, "monday").unwrap();
        assert_eq!(begun(&share, "m", "job-a").unwrap(), (2, "monday".into()));
        assert_eq!(begun(&share, "m", "job-b").unwrap(), none());
        clear(&share, "m").unwrap();
        clear(&share, "m").unwrap();
        assert_eq!(begun(&share, "m", "job-a").unwrap(), none());
    }

    #[test]
    fn a_count_of_an_older_version_counts() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        put(&share, "m/attempts.toml", b"digest = 'job-a'\nbegun = 2\n").unwrap();
        assert_eq!(begun(&share, "m", "job-a").unwrap(), (2, String::new()));
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
            assert_eq!(begun(&share, "m", "job-a").unwrap(), none());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
