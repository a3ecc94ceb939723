use super::{CaptureOptions, ImageMeta};
use crate::event::Reporter;
use crate::inventory::DiskIdentity;
use std::io::Write;
use std::path::Path;

/// Reads `disk` once and writes its image to `out`.
pub fn capture(
    _disk: &Path,
    _identity: &DiskIdentity,
    _options: &CaptureOptions,
    _out: &mut (dyn Write + Send),
    _reporter: &dyn Reporter,
) -> anyhow::Result<ImageMeta> {
    anyhow::bail!("this build cannot capture")
}
