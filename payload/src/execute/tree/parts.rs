//! What is laid over a tree and run in it, from the share.

use super::{Work, locked};
use anyhow::{Context, bail, ensure};
use pitstop_deploy::hooks::{self, Hook};
use pitstop_deploy::overrides::{From, Overlay, Owners};
use pitstop_deploy::passphrase::Passphrase;
use pitstop_imaging::image::{FileSource, ImageSource};
use pitstop_protocol::digest::Digest;
use pitstop_protocol::tree::LAYER;
use std::io::{self, Read, Seek, Write};

/// Far more than a script has.
const MOST_BYTES: u64 = 4 << 20;
/// Of a passphrase that is encrypted: age's header has no more than half of it.
const MOST_ENCRYPTED: u64 = 128 << 10;

/// Whether the layers are there, before anything is written.
///
/// # Errors
/// Names the one that is not.
pub(super) fn check_layers(work: &Work<'_>, folders: &[String]) -> anyhow::Result<()> {
    for folder in folders {
        let packed = format!("{folder}{LAYER}");
        if work.share.folder(folder)?.is_none() && work.share.stat(&packed)?.is_none() {
            bail!(
                "there is no folder {folder} on {}, nor a file {packed}",
                work.share.name()
            );
        }
    }
    Ok(())
}

/// The layers, in their order. Those of a server are here whole before anything of them is laid over a tree.
///
/// # Errors
/// One is not there, or does not come whole.
pub(super) fn layers(work: &Work<'_>, folders: &[String]) -> anyhow::Result<Vec<Overlay>> {
    folders.iter().map(|folder| layer(work, folder)).collect()
}

fn layer(work: &Work<'_>, folder: &str) -> anyhow::Result<Overlay> {
    let from = match work.share.folder(folder)? {
        Some(path) => From::Folder(path),
        None => From::Tar(Box::new(fetched(work, &format!("{folder}{LAYER}"))?)),
    };
    Ok(Overlay {
        name: folder.to_owned(),
        from,
        owners: Owners::Root,
    })
}

fn fetched(work: &Work<'_>, path: &str) -> anyhow::Result<std::fs::File> {
    let fetching = || format!("fetching {path} from {}", work.share.name());
    let mut tar = work.share.open(path).with_context(fetching)?;
    let mut file = tempfile::tempfile().with_context(fetching)?;
    io::copy(&mut tar, &mut file).with_context(fetching)?;
    file.rewind().with_context(fetching)?;
    Ok(file)
}

/// The scripts, each of them what the job was made for.
///
/// # Errors
/// One is not there, is another, or could not be run.
pub(super) fn scripts(work: &Work<'_>, files: &[String]) -> anyhow::Result<Vec<Hook>> {
    files.iter().map(|file| script(work, file)).collect()
}

/// What the hooks are to know, and nobody else. The server of the job gives the key; nothing of it is told or written anywhere.
///
/// # Errors
/// The file is not there, is another, or its key is not given.
pub(super) fn secrets(work: &Work<'_>, file: Option<&str>) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(file) = file else {
        return Ok(None);
    };
    let reading = || format!("reading the secrets {file} on {}", work.share.name());
    let bytes = whole(work, file).with_context(reading)?;
    let stored = kept(work, file, &bytes).with_context(reading)?;
    let opened = locked::opened(work, stored, file).with_context(reading)?;
    let size = usize::try_from(opened.size()).with_context(reading)?;
    let mut bytes = vec![0; size];
    opened.read_exact_at(&mut bytes, 0).with_context(reading)?;
    Ok(Some(bytes))
}

/// All of a small file, which is the one that the job was made for.
fn whole(work: &Work<'_>, file: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = work
        .share
        .open(file)?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)?;
    if length as u64 == MOST_BYTES {
        bail!("it has {MOST_BYTES} bytes or more");
    }
    let checked = work.job.terms.check_digest(file, Some(Digest::of(&bytes)));
    checked.map_err(anyhow::Error::msg)?;
    Ok(bytes)
}

fn script(work: &Work<'_>, file: &str) -> anyhow::Result<Hook> {
    let reading = || format!("reading the hook {file} on {}", work.share.name());
    let bytes = whole(work, file).with_context(reading)?;
    let name = file.rsplit('/').next().unwrap_or(file).to_owned();
    let hook = Hook {
        name,
        script: bytes,
    };
    hooks::check(&hook)?;
    Ok(hook)
}

/// The passphrase that `file` in the image folder has. The server of the job finds the key of that file.
///
/// # Errors
/// It is not there, is not what the job was made for, nobody gives its key, or there is no passphrase in it.
pub(super) fn passphrase(work: &Work<'_>, file: &str) -> anyhow::Result<Passphrase> {
    let path = work.image_path(file);
    let doing = || {
        format!(
            "reading the passphrase for LUKS, {path} on {}",
            work.share.name()
        )
    };
    let encrypted = work.share.image(&path).with_context(doing)?;
    ensure!(
        encrypted.size() <= MOST_ENCRYPTED,
        "{}: it is no passphrase, it has {} bytes",
        doing(),
        encrypted.size()
    );
    let mut bytes = vec![0; usize::try_from(encrypted.size())?];
    encrypted.read_exact_at(&mut bytes, 0).with_context(doing)?;
    let checked = work.job.terms.check_digest(file, Some(Digest::of(&bytes)));
    checked.map_err(anyhow::Error::msg).with_context(doing)?;
    let kept = kept(work, &path, &bytes).with_context(doing)?;
    let plain = locked::opened(work, kept, &path).with_context(doing)?;
    Passphrase::of_image(&*plain).with_context(doing)
}

/// A file of the share as it was when its digest was looked at.
fn kept(work: &Work<'_>, path: &str, bytes: &[u8]) -> anyhow::Result<Box<dyn ImageSource>> {
    let mut stored = tempfile::tempfile()?;
    stored.write_all(bytes)?;
    let name = format!("{path} on {}", work.share.name());
    Ok(Box::new(FileSource::of(name, stored)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::broken;
    use crate::execute::tree::tests::Bench;
    use pitstop_protocol::job::{Action, Job};
    use std::fs;
    use std::process::Command;

    const FILE: &str = "luks.key.age";

    fn told(bench: &Bench, job: &Job) -> String {
        let found = bench.with(job, |work| passphrase(work, FILE));
        format!("{:#}", found.unwrap_err())
    }

    #[test]
    fn the_passphrase_for_luks_comes_encrypted_and_is_what_the_job_means() {
        let bench = Bench::new();
        let mut job = broken::job(Action::RefreshInfo, "m");
        let path = bench.root.path().join("m").join(FILE);
        fs::create_dir_all(bench.root.path().join("m")).unwrap();
        let error = told(&bench, &job);
        assert!(
            error.starts_with("reading the passphrase for LUKS, m/luks.key.age on "),
            "{error}"
        );
        fs::write(&path, "secret words\n").unwrap();
        let error = told(&bench, &job);
        assert!(error.contains("is not encrypted by age"), "{error}");
        assert!(!error.contains("secret words"), "{error}");
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        let error = told(&bench, &job);
        assert!(error.contains("it is no passphrase"), "{error}");
        // Made by age-keygen.
        let public = "age128886l35gund023wy4keuzws9ckzy9jccm3st4a2vwwp3vfqf33s2m45wg";
        let plain = bench.root.path().join("plain");
        fs::write(&plain, "secret words\n").unwrap();
        let status = Command::new("age")
            .args(["-r", public, "-o"])
            .arg(&path)
            .arg(&plain)
            .status()
            .expect("the package age is installed");
        assert!(status.success());
        // Nobody has the key here: a machine asks the server of its job.
        let error = told(&bench, &job);
        assert!(
            error.contains("no server is known that could have its key"),
            "{error}"
        );
        // One that is signed says which file it is.
        let other = Digest::of(b"another");
        job.terms.digests.insert(FILE.into(), other);
        let error = told(&bench, &job);
        assert!(
            error.contains("is not what the job was made for"),
            "{error}"
        );
        let right = Digest::of(&fs::read(&path).unwrap());
        job.terms.digests.insert(FILE.into(), right);
        let error = told(&bench, &job);
        assert!(error.contains("no server is known"), "{error}");
    }
}
