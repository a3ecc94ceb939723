//! Whose signature an image has to have before a machine writes it.
//!
//! What is signed is the small `.toml` beside the image: it tells what is in the image by hashes, and of a tree the name and
//! the version.

use crate::job::JobKeys;

/// What is asked of an image beside its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImageProof {
    /// Nothing.
    #[default]
    None,
    /// A signature; with which key is not said in a job.
    Signed,
    /// One of these keys has signed it.
    By(JobKeys),
}

/// A job asks for a signature that nobody could check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job asks for a signed image, and there is no key here to check a signature with: mkimage --image-key FILE.pub puts \
     one into an initramfs, pitstop plan --signed-by FILE.pub takes one"
)]
pub struct NoKey;

impl ImageProof {
    /// As a job says it: `signed = true`.
    pub(super) fn of_job(signed: Option<bool>) -> Self {
        match signed {
            Some(true) => Self::Signed,
            Some(false) | None => Self::None,
        }
    }

    /// What holds on a machine that trusts `images` with images and `jobs` with jobs. With a key of images every image has to
    /// be signed, whatever a job says: else who writes jobs could leave the wish out.
    ///
    /// # Errors
    /// A signature is asked for, and there is no key.
    pub fn on_machine(
        self,
        images: Option<&JobKeys>,
        jobs: Option<&JobKeys>,
    ) -> Result<Self, NoKey> {
        match (self, images, jobs) {
            (Self::By(keys), _, _) => Ok(Self::By(keys)),
            (_, Some(keys), _) | (Self::Signed, None, Some(keys)) => Ok(Self::By(keys.clone())),
            (Self::Signed, None, None) => Err(NoKey),
            (Self::None, None, _) => Ok(Self::None),
        }
    }

    /// The keys that count; `None` where nothing is asked.
    ///
    /// # Errors
    /// A signature is asked for, and nobody has said whose.
    pub fn keys(&self) -> Result<Option<&JobKeys>, NoKey> {
        match self {
            Self::None => Ok(None),
            Self::Signed => Err(NoKey),
            Self::By(keys) => Ok(Some(keys)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobKey;

    fn keys(text: &str) -> JobKeys {
        JobKeys::new(vec![JobKey::parse(text.as_bytes()).unwrap()]).unwrap()
    }

    #[test]
    fn a_key_of_images_asks_for_signatures_always_and_a_key_of_jobs_where_the_job_does() {
        let (images, jobs) = (
            keys(include_str!("signature/key.pub")),
            keys(include_str!("signature/other.pub")),
        );
        let (images, jobs) = (Some(&images), Some(&jobs));
        let by = |keys: Option<&JobKeys>| Ok(ImageProof::By(keys.unwrap().clone()));
        let none = || ImageProof::of_job(None);
        let signed = || ImageProof::of_job(Some(true));
        assert_eq!(ImageProof::of_job(Some(false)), none());
        for asked in [none(), signed()] {
            assert_eq!(asked.clone().on_machine(images, None), by(images));
            assert_eq!(asked.on_machine(images, jobs), by(images));
        }
        assert_eq!(signed().on_machine(None, jobs), by(jobs));
        assert_eq!(none().on_machine(None, jobs), Ok(ImageProof::None));
        assert_eq!(none().on_machine(None, None), Ok(ImageProof::None));
        assert_eq!(signed().on_machine(None, None), Err(NoKey));
        assert_eq!(signed().keys(), Err(NoKey));
        assert_eq!(none().keys(), Ok(None));
    }
}
