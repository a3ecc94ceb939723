//! What an image is made of: read whole, and checked as the machine will.

use anyhow::{Context, Result, anyhow, ensure};
use pitstop_protocol::job::beside::SIGNATURE;
use pitstop_protocol::job::{CommandLine, JobKey, JobKeys, check_host_file, check_parameters};
use pitstop_transport::fetch::check_certificates;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The largest file that an initramfs can hold: newc has 32 bits for its size.
const LARGEST: u64 = u32::MAX as u64;

/// Reads a file or a pipe. A device has no end.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let act = || format!("reading {}", path.display());
    // Before it is opened: that alone rewinds a tape, or waits for a modem.
    let kind = std::fs::metadata(path).with_context(act)?;
    ensure!(
        kind.is_file() || kind.file_type().is_fifo(),
        "{} is no file",
        path.display()
    );
    ensure!(kind.len() <= LARGEST, too_large(path));
    let mut data = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut data))
        .with_context(act)?;
    ensure!(data.len() as u64 <= LARGEST, too_large(path));
    Ok(data)
}

fn too_large(path: &Path) -> String {
    format!(
        "{} is larger than 4 GiB: an initramfs cannot hold it",
        path.display()
    )
}

/// Reads a text.
pub fn text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| anyhow!("{} is no UTF-8 text", path.display()))
}

/// Checks kernel parameters that `option` gives: a machine refuses unknown ones and wrong values of `pitstop.`.
pub fn parameters(option: &str, text: &str) -> Result<CommandLine> {
    check_parameters(text).map_err(|why| anyhow!("{option}: {why}"))
}

/// Reads a host file and checks it, beside the parameters that go with it.
pub fn host_file(path: &Path, line: &CommandLine) -> Result<Vec<u8>> {
    let data = read(path)?;
    check_host_file(&data, &path.display().to_string(), line)
        .map_err(|why| anyhow!("--host-file {}: {why}", path.display()))?;
    Ok(data)
}

/// Reads the public keys that `option` names, each as it goes into the image.
pub fn keys(option: &str, files: &[PathBuf]) -> Result<Vec<(Vec<u8>, JobKey)>> {
    let key = |file: &PathBuf| {
        let data = read(file)?;
        let key = JobKey::parse(&data).with_context(|| format!("{option} {}", file.display()))?;
        Ok((data, key))
    };
    files.iter().map(key).collect()
}

/// Refuses parameters that a machine which does signed jobs alone would refuse at every boot.
pub fn no_job(line: &CommandLine) -> Result<()> {
    ensure!(
        line.action.is_none() && line.share.is_none() && line.delete.is_empty(),
        "--param: with --job-key no parameter says what is done (pitstop.action, pitstop.share, pitstop.delete): that is \
         the signed host file's"
    );
    Ok(())
}

/// Reads the signature beside a host file, and checks it as the machine will.
pub fn signature(file: &Path, data: &[u8], keys: &JobKeys) -> Result<Vec<u8>> {
    let signature = read(&beside(file)).context("--host-file with --job-key has to be signed")?;
    keys.verify(data, &signature)
        .map_err(|why| anyhow!("--host-file {}: {why}", file.display()))?;
    Ok(signature)
}

/// The signature beside a host file, where there is one.
pub fn signature_if_there(file: &Path) -> Result<Option<Vec<u8>>> {
    let beside = beside(file);
    beside.exists().then(|| read(&beside)).transpose()
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SIGNATURE);
    name.into()
}

/// Reads certificate authorities. A machine with one that cannot be read has no network at all.
pub fn certificates(path: &Path) -> Result<Vec<u8>> {
    let data = read(path)?;
    check_certificates(&data).with_context(|| format!("--ca {}", path.display()))?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_what_is_too_large_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let sparse = folder.path().join("sparse");
        File::create(&sparse).unwrap().set_len(LARGEST + 1).unwrap();
        for (path, why) in [
            ("/dev/zero", "/dev/zero is no file"),
            ("/proc", "/proc is no file"),
            ("/none", "reading /none"),
            (sparse.to_str().unwrap(), "is larger than 4 GiB"),
        ] {
            let error = format!("{:#}", read(Path::new(path)).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
        let small = folder.path().join("small");
        std::fs::write(&small, b"\xff").unwrap();
        assert_eq!(read(&small).unwrap(), b"\xff");
        assert!(text(&small).unwrap_err().to_string().contains("no UTF-8"));
    }
}
