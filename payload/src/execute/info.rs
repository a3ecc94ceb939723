//! Writes `testbox-info.txt` and `testbox-info.zip` into the machine's folder.

use super::Work;
use super::attempts::put;
use crate::event::Reporter;
use crate::{info, inventory};

/// Collects and writes both files. What a machine does not tell is a warning; what the share does not
/// take is an error.
pub fn write(work: &Work<'_>) -> anyhow::Result<()> {
    let inventory = inventory::read(work.machine)?;
    let folder = work.lease.folder();
    let text = info::text(work.machine, work.lease, &inventory);
    let (zip, unread) = info::zip(&work.machine.sysfs)?;
    for problem in text.problems.iter().chain(&unread) {
        work.log.warn(format!("testbox-info: {problem}"));
    }
    put(
        work.share,
        &format!("{folder}/testbox-info.txt"),
        text.text.as_bytes(),
    )?;
    put(work.share, &format!("{folder}/testbox-info.zip"), &zip)?;
    work.log
        .info("testbox-info.txt and testbox-info.zip are written".into());
    Ok(())
}
