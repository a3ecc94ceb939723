//! Whose jobs this machine does and whose images it writes, as `mkimage --job-key` and `--image-key` have put it into the
//! initramfs.

use anyhow::{Context, bail};
use pitstop_protocol::job::{JobKey, JobKeys};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Where the keys are, a file each.
const JOBS: &str = "/etc/pitstop/job-keys";
const IMAGES: &str = "/etc/pitstop/image-keys";

/// The keys of jobs; `None` where there is no folder of them, and everybody's jobs are done.
///
/// # Errors
/// When the folder is there and a key in it cannot be read, or none is in it: that must not be taken for no folder.
pub fn of_jobs() -> anyhow::Result<Option<JobKeys>> {
    read_from(Path::new(JOBS))
}

/// The keys of images; `None` where a job says whether an image has to be signed.
///
/// # Errors
/// As of those of jobs.
pub fn of_images() -> anyhow::Result<Option<JobKeys>> {
    read_from(Path::new(IMAGES))
}

fn read_from(folder: &Path) -> anyhow::Result<Option<JobKeys>> {
    let doing = || format!("reading the keys in {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(doing)?,
    };
    let mut keys = Vec::new();
    for entry in entries {
        let path = entry.with_context(doing)?.path();
        let act = || format!("reading the key {}", path.display());
        let bytes = fs::read(&path).with_context(act)?;
        keys.push(JobKey::parse(&bytes).with_context(act)?);
    }
    match JobKeys::new(keys) {
        Some(keys) => Ok(Some(keys)),
        None => bail!("{} holds no key: nothing could be signed", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "untrusted comment: minisign public key D7D4FAB66E066184\n\
                       RWSEYQZutvrU15bPSrtMxJnrDl1KXMIyf5qfYw6t4aemtl9vxlPMcVp6\n";

    #[test]
    fn keys_that_cannot_be_read_are_not_taken_for_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("job-keys");
        assert_eq!(read_from(&folder).unwrap(), None);
        fs::create_dir(&folder).unwrap();
        assert!(
            read_from(&folder)
                .unwrap_err()
                .to_string()
                .contains("holds no key")
        );
        fs::write(folder.join("00.pub"), KEY).unwrap();
        assert!(read_from(&folder).unwrap().is_some());
        fs::write(folder.join("01.pub"), "x").unwrap();
        assert!(format!("{:#}", read_from(&folder).unwrap_err()).contains("01.pub"));
    }
}
