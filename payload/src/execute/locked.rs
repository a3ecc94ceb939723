//! Encrypted images. The server that keeps track of the job finds the key of the one file that is meant; the machine learns no
//! other, and keeps none.

use super::Work;
use anyhow::{Context, bail};
use pitstop_age::{Decrypted, FileKey, head, is_encrypted};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_protocol::unlock::{Locked, UnlockAt, VERSION};
use pitstop_transport::fetch::{Listener, Settings};
use pitstop_transport::share::unlock::unlock;

/// The image at `path` on the share. Where its name says that it is encrypted, what is in it.
///
/// # Errors
/// The share does not give it; nobody gives its key; it was changed, or is not what its name says.
pub(super) fn image(work: &Work<'_>, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
    opened(work, work.share.image(path)?, path)
}

/// The same of an image that the job calls `named`: a path on the share, or a URL.
///
/// # Errors
/// As of [`image`].
pub(super) fn opened(
    work: &Work<'_>,
    image: Box<dyn ImageSource>,
    named: &str,
) -> anyhow::Result<Box<dyn ImageSource>> {
    // One that is encrypted under another name is refused by who opens it.
    if !is_named_encrypted(named) {
        return Ok(image);
    }
    let encrypted = is_encrypted(&*image)
        .with_context(|| format!("reading the beginning of {}", image.name()))?;
    if !encrypted {
        bail!(
            "{} is not encrypted by age, whatever its name says",
            image.name()
        );
    }
    let key =
        key(work, &*image, named).with_context(|| format!("{} is encrypted", image.name()))?;
    Ok(Box::new(Decrypted::with_key(image, &key)?))
}

fn key(work: &Work<'_>, image: &dyn ImageSource, named: &str) -> anyhow::Result<FileKey> {
    let head = head(image)?;
    let at = UnlockAt::of_job(&work.job.transfer)?;
    let settings = Settings::of_job(&work.job.transfer, Listener::default());
    let locked = Locked {
        version: VERSION,
        job: at.job.clone(),
        address: work.lease.address,
        image: named.into(),
        head: std::str::from_utf8(&head)
            .context("age's headers are ASCII")?
            .into(),
    };
    let key = unlock(&settings, &at, &locked)?;
    // Not as the job names it: a URL may have a password in it.
    work.log.info(format!(
        "{} is encrypted: {at} has given its key",
        image.name()
    ));
    Ok(key)
}
