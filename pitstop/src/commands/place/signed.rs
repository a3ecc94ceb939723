//! `--signed-by`: an image counts only with the right signature beside its `.toml`.

use super::{Local, in_store, local, split, url};
use anyhow::{Context, anyhow, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{ImageMeta, OpenedImage};
use pitstop_protocol::job::{JobKey, JobKeys};
use pitstop_transport::share::{HttpShare, Share, signed};
use std::fs;
use std::path::PathBuf;

/// Whose signature is wanted.
#[derive(clap::Args)]
pub struct SignedBy {
    /// Take the image only if this key has signed its .toml: the .pub file of minisign -G or pitstop key new; may be repeated
    #[arg(long, value_name = "KEY.pub")]
    signed_by: Vec<PathBuf>,
}

impl SignedBy {
    /// `None` where no signature is wanted.
    pub fn keys(&self) -> anyhow::Result<Option<JobKeys>> {
        let key = |file: &PathBuf| {
            let doing = || format!("--signed-by {}", file.display());
            let bytes = fs::read(file).with_context(doing)?;
            JobKey::parse(&bytes).with_context(doing)
        };
        let keys: anyhow::Result<Vec<JobKey>> = self.signed_by.iter().map(key).collect();
        Ok(JobKeys::new(keys?))
    }

    /// Whether what is signed is what `image`, opened from the path or URL `at`, holds.
    ///
    /// # Errors
    /// It is another's, or nobody's.
    pub fn check_disk(
        &self,
        at: &str,
        image: &OpenedImage<'_>,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let Some(keys) = self.keys()? else {
            return Ok(());
        };
        let (share, about) = beside(at)?;
        let text = signed::text(&*share, &about, &keys, reporter)?;
        let meta = ImageMeta::from_toml(&text).with_context(|| about.clone())?;
        image.check_is_of(&meta).with_context(|| about)
    }
}

/// Where the `.toml` beside an image is.
pub fn beside(image: &str) -> anyhow::Result<(Box<dyn Share>, String)> {
    let about = |name: &str| format!("{name}.toml");
    if let Some((share, name)) = in_store(image)? {
        return Ok((Box::new(share), about(&name)));
    }
    let Some(url) = url(image)? else {
        return match local(image)? {
            Local::File(share, name) => Ok((Box::new(share), about(&name))),
            Local::Stream(_) => Err(anyhow!(
                "{image} has nothing beside it that could be signed"
            )),
        };
    };
    if url.query().is_some() {
        bail!(
            "{} has a ? part: what lies beside it has a URL of its own, which nobody has given",
            pitstop_protocol::redacted(&url)
        );
    }
    let (base, name) = split(&url)?;
    Ok((
        Box::new(HttpShare::new(&base, &super::client()?)),
        about(&name),
    ))
}
