//! What callers tell apart when an act on an image fails.

/// Why an act on an image failed. It reads as its cause does, with the whole chain in `{:#}`.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The image: it could not be read, is damaged or cut short, or is none that Pitstop reads.
    #[error(transparent)]
    Unusable(Cause),
    /// The target or an option: refused, and nothing was written.
    #[error(transparent)]
    Refused(Cause),
    /// It broke off under way. A target that was to boot does not: its beginning is zeros, or all of the image is on it
    /// and what comes after failed.
    #[error(transparent)]
    Failed(Cause),
}

/// What went wrong, with what that came of in `source()`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Cause(anyhow::Error);

impl ImageError {
    pub(super) fn unusable(cause: anyhow::Error) -> Self {
        Self::Unusable(Cause(cause))
    }

    pub(super) fn refused(cause: anyhow::Error) -> Self {
        Self::Refused(Cause(cause))
    }

    pub(super) fn failed(cause: anyhow::Error) -> Self {
        Self::Failed(Cause(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::image::{FileSource, RestoreOptions, restore};
    use anyhow::Context;
    use std::io;

    #[test]
    fn the_chain_reads_as_without_it() {
        let cause = || -> anyhow::Error {
            let lost = io::Error::from(io::ErrorKind::UnexpectedEof);
            Err::<(), _>(lost).context("reading it").unwrap_err()
        };
        let error = ImageError::unusable(cause());
        assert_eq!(format!("{error:#}"), format!("{:#}", cause()));
        let wrapped = anyhow::Error::new(error).context("restoring it");
        let wanted = cause().context("restoring it");
        assert_eq!(format!("{wrapped:#}"), format!("{wanted:#}"));
    }

    #[test]
    fn image_and_target_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("empty"), b"").unwrap();
        std::fs::write(at("image"), vec![7; 8192]).unwrap();
        std::fs::write(at("small"), vec![0; 4096]).unwrap();
        let run = |image: &str, target: &str| {
            let image = FileSource::open(&at(image)).unwrap();
            restore(&image, &at(target), &RestoreOptions::default(), &Silent).unwrap_err()
        };
        assert!(matches!(run("empty", "small"), ImageError::Unusable(_)));
        assert!(matches!(run("image", "small"), ImageError::Refused(_)));
        assert_eq!(std::fs::read(at("small")).unwrap(), [0; 4096]);
    }
}
