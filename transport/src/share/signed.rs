//! Files on a share that somebody has signed: the `.toml` beside an image, and its signature beside that.

use super::Share;
use anyhow::{Context as _, bail};
use pitstop_imaging::event::Reporter;
use pitstop_protocol::job::JobKeys;
use pitstop_protocol::job::beside::SIGNATURE;
use std::io::Read as _;

/// Far more than a description ever holds, a list of read errors included.
const MOST_BYTES: u64 = 16 << 20;
/// No signature is larger: it is four lines.
const MOST_OF_A_SIGNATURE: u64 = 4096;

/// The text of `path`, which one of `keys` has signed.
///
/// # Errors
/// It is not there, nobody has signed it, or somebody else.
pub fn text(
    share: &dyn Share,
    path: &str,
    keys: &JobKeys,
    reporter: &dyn Reporter,
) -> anyhow::Result<String> {
    let beside = format!("{path}{SIGNATURE}");
    let Some(signature) = bytes(share, &beside, MOST_OF_A_SIGNATURE)? else {
        bail!(
            "{path} is not signed: there is no {beside} on {}, and a signed image is wanted; sign it with minisign -S -s \
             KEY.sec -m {path}",
            share.name()
        );
    };
    let Some(signed) = bytes(share, path, MOST_BYTES)? else {
        bail!(
            "there is no {path} on {}, which is what would be signed",
            share.name()
        );
    };
    let comment = keys
        .verify(&signed, &signature)
        .with_context(|| path.to_owned())?;
    reporter.info(format!("{path} is signed: {comment}"));
    String::from_utf8(signed).with_context(|| format!("reading {path}"))
}

fn bytes(share: &dyn Share, path: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let doing = || format!("reading {path} on {}", share.name());
    if share.stat(path).with_context(doing)?.is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let length = share
        .open(path)
        .with_context(doing)?
        .take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(doing)?;
    if length as u64 > most {
        bail!("{}: it is larger than {most} bytes", doing());
    }
    Ok(Some(bytes))
}
